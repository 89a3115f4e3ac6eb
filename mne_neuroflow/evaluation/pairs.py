"""Pairs of scalp and intracranial recordings, in the form that methods receive.

A method is any object with two methods::

    fit(pairs)
    sample(scalp, contacts, n_draws, random_state)

``pairs`` is a list of triples ``(scalp, contacts, ieeg)`` as
:attr:`PairedRecording.pair` gives them, ``scalp`` a :class:`ScalpData`, ``contacts`` an
array of positions and ``ieeg`` an array of volts. ``sample`` returns an array of shape
``(n_draws, n_contacts, n_times)`` in volts. A method with a density can also have::

    log_density(scalp, contacts, ieeg)

It returns one number: the natural logarithm of the density of all samples of all
contacts together, in volts, divided by their number. All of these are arrays and not
MNE objects, so that any kind of method can be added.

Examples
--------
>>> scalp, contacts, ieeg = toy_pair(seconds=2)
>>> scalp.data.shape, contacts.shape, ieeg.shape
((20, 256), (2, 3), (2, 256))
"""

from dataclasses import dataclass, field, replace

import numpy as np

from ..contract import SFREQ
from ..head.geometry import load_head


@dataclass(frozen=True)
class ScalpData:
    """A scalp recording.

    Attributes
    ----------
    data : array of shape (n_electrodes, n_times)
        Average-referenced potentials in volts, between 0.5 and 50 Hz.
    electrodes : array of shape (n_electrodes, 3)
        Positions in metres, fsaverage surface RAS.
    ch_names : tuple of str
        Names of the electrodes.
    sfreq : float
        The sampling rate in hertz, 128.

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
    """Scalp and intracranial EEG of the same time.

    Attributes
    ----------
    patient, session : str
        The patient and the session.
    scalp : ScalpData
        The scalp EEG.
    contacts : array of shape (n_contacts, 3)
        Positions in metres, fsaverage surface RAS.
    ch_names, structures : tuple of str
        The names of the contacts and their structures.
    ieeg : array of shape (n_contacts, n_times)
        The potentials of the contacts in volts, at the samples of the scalp EEG.
    spikes : array of shape (n_spikes,) | None
        The times of the peaks of spikes, in seconds from the first sample. None if they
        are unknown.
    seizures : array of shape (n_seizures, 2) | None
        The start and end of seizures, in seconds from the first sample. None if they
        are unknown.
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
        """The training data of methods: scalp EEG, contacts and iEEG."""
        return self.scalp, self.contacts, self.ieeg

    @property
    def seconds(self):
        """The duration in seconds."""
        return self.ieeg.shape[1] / self.scalp.sfreq

    def crop(self, start, stop):
        """Return a part of the recording.

        Parameters
        ----------
        start, stop : float
            Start and end in seconds from the first sample.

        Returns
        -------
        recording : PairedRecording
            The part, whose samples are not copied.
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


def toy_pair(seconds=2):
    """Make a pair of white noise, for examples and first tries of a method.

    Parameters
    ----------
    seconds : int
        The duration.

    Returns
    -------
    scalp : ScalpData
        Noise at 20 electrodes all over the template's scalp.
    contacts : array of shape (2, 3)
        A contact in each hippocampus, metres, fsaverage surface RAS.
    ieeg : array of shape (2, n_times)
        Noise at the contacts in volts, which does not depend on the scalp EEG.

    Examples
    --------
    >>> scalp, contacts, ieeg = toy_pair(seconds=2)
    >>> ieeg.shape
    (2, 256)
    """
    rng = np.random.default_rng(0)
    data = 1e-5 * rng.standard_normal((20, seconds * SFREQ))
    scalp = ScalpData(data - data.mean(axis=0), load_head().scalp.rr[::33])
    contacts = np.array([[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]])
    return scalp, contacts, 5e-5 * rng.standard_normal((2, seconds * SFREQ))
