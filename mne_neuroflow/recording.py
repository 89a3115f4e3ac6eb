"""Reading MNE recordings by samples, or by blocks of one second."""

import os

import mne
import numpy as np

from ._compat import files_of
from ._text import listed
from .contract import BLOCK
from .good_time import Gaps, annotated_spans, with_missing
from .resampling import Resampler


class Recording:
    """Channels of a Raw or Epochs, which can be read in parts and at the model's rate.

    Memory depends on the number of samples that are read, not on the length of the
    recording.

    Parameters
    ----------
    inst : Raw | Epochs
        The recording.
    picks : ndarray of int, shape (n_channels,)
        The indices of the channels.

    Attributes
    ----------
    inst : Raw | Epochs
        The recording.
    kind : str
        ``'raw'`` or ``'epochs'``.
    ch_names : list of str
        The channels, in the order of ``picks``.
    sfreq : float
        Sampling rate in hertz.
    n_times : int
        Samples in the recording, or in one epoch.
    n_epochs : int
        Number of epochs, 1 for ``'raw'``.
    resampler : Resampler
        The conversion to the model's rate and back.
    good : ndarray of bool, shape (n_epochs, n_seconds)
        Which seconds have no bad sample, see :mod:`~mne_neuroflow.good_time`.
    """

    def __init__(self, inst, picks):
        self.inst = inst
        self.kind = "raw" if isinstance(inst, mne.io.BaseRaw) else "epochs"
        self._stamps = _stamps(files_of(inst))
        self.sfreq = float(inst.info["sfreq"])
        self.n_times = len(inst.times)
        self.n_epochs = 1 if self.kind == "raw" else len(inst)
        self.resampler = Resampler(self.sfreq)
        self._picks = np.asarray(picks)
        self.ch_names = [inst.ch_names[pick] for pick in self._picks]
        spans = annotated_spans(inst, self.ch_names)
        self._find_gaps(with_missing(spans, self._as_recorded, self.n_times))

    def fetch(self, start, stop, epoch=None):
        """Return samples of the recording, with straight lines in bad time.

        Parameters
        ----------
        start, stop : int
            Half-open range of samples inside the recording or epoch.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        data : ndarray, shape (n_channels, stop - start)
            Potentials in volts.
        """
        data = self._as_recorded(start, stop, epoch)
        return self._gaps.fill(data, start, epoch) if self._gaps else data

    def _as_recorded(self, start, stop, epoch=None):
        self._check_unchanged()
        try:
            if self.kind == "raw":
                data = self.inst.get_data(self._picks, start, stop, verbose=False)
            else:
                data = self.inst.get_data(
                    self._picks,
                    item=slice(epoch, epoch + 1),
                    copy=False,
                    verbose=False,
                )[0, :, start:stop]
        except (MemoryError, OSError, RuntimeError, TypeError, ValueError):
            raise
        except Exception as err:  # of readers, where samples are not what they expect
            raise ValueError(
                f"{listed(files_of(self.inst)) or 'The recording'} cannot be read, "
                f"and seems to be damaged: {type(err).__name__}: {err}."
            ) from err
        if data.dtype.kind not in "fiu":
            raise TypeError(
                f"The samples must be real numbers, got {data.dtype}. Give the "
                "recording before inst.apply_hilbert(), or convert it with "
                "inst.apply_function(lambda x: x.astype(float))."
            )
        return data

    def _check_unchanged(self):
        """Refuse to go on with other samples than those that were begun with."""
        found = _stamps(files_of(self.inst))
        if found != self._stamps:
            changed = [name for name, at in self._stamps.items() if found[name] != at]
            raise RuntimeError(
                f"{listed(changed)} was replaced or changed while it was read. Read "
                "the recording again, and predict anew."
            )

    def read(self, start, stop, epoch=None):
        """Read samples, including samples beyond the ends of the recording.

        Parameters
        ----------
        start, stop : int
            Half-open range of samples counted from the first of the recording or
            epoch. Beyond either end the signal is reflected about its first or last
            sample.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        data : ndarray, shape (n_channels, stop - start)
            Potentials in volts.
        """
        return self._reflect(self.fetch, start, stop, epoch)

    def to_model(self, start_block, n_blocks, epoch=None):
        """Read one-second blocks at the model's rate and band.

        Parameters
        ----------
        start_block, n_blocks : int
            As for :meth:`Resampler.to_model`. They may extend beyond either end.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        data : ndarray, shape (n_channels, 128 * n_blocks)
            The samples of :meth:`read` at 128 Hz, between 0.5 and 50 Hz.
        """

        def read(start, stop):
            return self.read(start, stop, epoch)

        return self.resampler.to_model(read, start_block, n_blocks)

    def _find_gaps(self, spans):
        """Store bad time, and compute which seconds are good."""
        self._gaps = Gaps(spans, self.n_times, self._as_recorded)
        length = BLOCK * self.resampler.down / self.resampler.up
        n_blocks = self.resampler.n_blocks(self.n_times)
        self.good = self._gaps.good_blocks(length, n_blocks)

    def _reflect(self, fetch, start, stop, epoch):
        index = reflected(np.arange(start, stop), self.n_times)
        first, last = int(index.min()), int(index.max()) + 1
        data = fetch(first, last, epoch)
        inside = start >= 0 and stop <= self.n_times
        return data if inside else data[:, index - first]


def _stamps(files):
    """Return what distinguishes a file from one in its place; None if it is gone."""
    stamps = {}
    for fname in files:
        try:
            stat = os.stat(fname)
            stamps[fname] = stat.st_mtime_ns, stat.st_size, stat.st_ino
        except FileNotFoundError:
            stamps[fname] = None
    return stamps


def reflected(index, n):
    """Map indices outside a recording to samples inside, by reflection at its ends.

    Parameters
    ----------
    index : ndarray of int
        Indices of samples.
    n : int
        The number of samples.

    Returns
    -------
    index : ndarray of int
        Indices in ``[0, n)``.
    """
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.minimum(index, 2 * n - 2 - index)
