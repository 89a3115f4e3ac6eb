"""Simultaneous scalp and intracranial recordings, as benchmarked methods see them.

A method is any object with two functions::

    fit(pairs)
    sample(scalp, contacts, n_draws, random_state)

``pairs`` is a list of triples ``(scalp, contacts, ieeg)`` as
:attr:`PairedRecording.pair` gives them, ``scalp`` a :class:`ScalpData`, ``contacts`` an
array of positions and ``ieeg`` an array of volts. ``sample`` returns an array of shape
``(n_draws, n_contacts, n_times)`` in volts. A method that has a density may have a
third function::

    log_density(scalp, contacts, ieeg)

which returns one number: the natural logarithm of the density of all samples of all
contacts together, as volts, divided by their number. Arrays and no MNE objects, so that
a method of any making fits in.

Examples
--------
>>> scalp = ScalpData(np.zeros((8, 256)), electrodes=np.zeros((8, 3)))  # volts, metres
>>> contacts, ieeg = np.zeros((2, 3)), np.zeros((2, 256))
>>> pairs = [(scalp, contacts, ieeg)]
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ..contract import SFREQ


@dataclass(frozen=True)
class ScalpData:
    """A scalp recording.

    Attributes
    ----------
    data : array of shape (n_electrodes, n_times)
        Average-referenced volts between 0.5 and 50 Hz, 128 samples a second.
    electrodes : array of shape (n_electrodes, 3)
        Positions in metres, fsaverage surface RAS.
    ch_names : tuple of str
        Names of the electrodes.
    sfreq : float
        Samples a second.

    Examples
    --------
    >>> scalp = ScalpData(np.full((8, 256), 1e-5), np.zeros((8, 3)))
    >>> scalp.robust_rms().shape
    (8,)
    """

    data: np.ndarray
    electrodes: np.ndarray
    ch_names: tuple = ()
    sfreq: float = SFREQ

    def robust_rms(self):
        """Return the median over seconds of each electrode's r.m.s., volts."""
        size = int(self.sfreq)
        n_seconds = max(1, self.data.shape[1] // size)
        seconds = np.array_split(self.data[:, : n_seconds * size], n_seconds, axis=1)
        return np.median([np.sqrt((s**2).mean(1)) for s in seconds], axis=0)


@dataclass(frozen=True)
class PairedRecording:
    """A stretch of time in which scalp and contacts were recorded together.

    Attributes
    ----------
    patient, session : str
        Whose it is.
    scalp : ScalpData
        The scalp.
    contacts : array of shape (n_contacts, 3)
        Positions in metres, fsaverage surface RAS.
    ch_names, structures : tuple of str
        Names of the contacts and where they lie.
    ieeg : array of shape (n_contacts, n_times)
        Volts, same samples as the scalp.
    spikes : array of shape (n_spikes,) | None
        Seconds from the first sample at which known spikes peak; None where nobody
        knows.
    seizures : array of shape (n_seizures, 2) | None
        Seconds from the first sample at which known seizures begin and end; None where
        nobody knows.
    start : float
        Seconds from the start of the session, or the number of the trial.

    Examples
    --------
    >>> scalp = ScalpData(np.zeros((8, 256)), np.zeros((8, 3)))
    >>> names, structures = ("HL1",), ("hippocampus",)
    >>> recording = PairedRecording(
    ...     "1", "2", scalp, np.zeros((1, 3)), names, structures, np.zeros((1, 256))
    ... )
    >>> recording.crop(0.5, 1.5).seconds
    1.0
    """

    patient: str
    session: str
    scalp: ScalpData
    contacts: np.ndarray
    ch_names: tuple
    structures: tuple
    ieeg: np.ndarray
    spikes: np.ndarray | None = None
    seizures: np.ndarray | None = None
    start: float = field(default=0.0)

    @property
    def pair(self):
        """What methods learn from: scalp, contacts and iEEG."""
        return self.scalp, self.contacts, self.ieeg

    @property
    def seconds(self):
        """Length."""
        return self.ieeg.shape[1] / self.scalp.sfreq

    def crop(self, start, stop):
        """Cut out a stretch.

        Parameters
        ----------
        start, stop : float
            Seconds from the first sample.

        Returns
        -------
        recording : PairedRecording
            The stretch, without copying samples.
        """
        span = slice(*(round(t * self.scalp.sfreq) for t in (start, stop)))
        spikes = self.spikes
        if spikes is not None:
            spikes = spikes[(spikes >= start) & (spikes < stop)] - start
        seizures = self.seizures
        if seizures is not None:
            seizures = np.clip(seizures, start, stop) - start
            seizures = seizures[seizures[:, 1] > seizures[:, 0]]
        return replace(
            self,
            scalp=replace(self.scalp, data=self.scalp.data[:, span]),
            ieeg=self.ieeg[:, span],
            spikes=spikes,
            seizures=seizures,
            start=self.start + start,
        )
