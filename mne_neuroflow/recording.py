"""An MNE recording as the model reads it: by samples, or by one-second blocks."""

import mne
import numpy as np

from .resampling import Resampler


class Recording:
    """Channels of a Raw or Epochs, readable anywhere and at the model's rate.

    Reading takes memory in proportion to what is read, not to the length of the
    recording.

    Parameters
    ----------
    inst : Raw | Epochs
        What is read.
    picks : ndarray of int, shape (n_channels,)
        Which of its channels.

    Attributes
    ----------
    inst : Raw | Epochs
        What is read.
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
        The passage to the model's rate and back.
    """

    def __init__(self, inst, picks):
        self.inst = inst
        self.kind = "raw" if isinstance(inst, mne.io.BaseRaw) else "epochs"
        self.sfreq = float(inst.info["sfreq"])
        self.n_times = len(inst.times)
        self.n_epochs = 1 if self.kind == "raw" else len(inst)
        self.resampler = Resampler(self.sfreq)
        self._picks = np.asarray(picks)
        self.ch_names = [inst.ch_names[pick] for pick in self._picks]

    def fetch(self, start, stop, epoch=None):
        """Return samples as the recording holds them.

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
        if self.kind == "raw":
            return self.inst.get_data(self._picks, start, stop, verbose=False)
        data = self.inst.get_data(
            self._picks, item=slice(epoch, epoch + 1), copy=False, verbose=False
        )
        return data[0, :, start:stop]

    def read(self, start, stop, epoch=None):
        """Read samples, past either end as well.

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
            As for :meth:`Resampler.to_model`; may run past either end.
        epoch : int | None
            Which epoch; ``None`` for a ``'raw'`` recording.

        Returns
        -------
        data : ndarray, shape (n_channels, 128 * n_blocks)
            What :meth:`read` returns, at 128 Hz between 0.5 and 50 Hz.
        """

        def read(start, stop):
            return self.read(start, stop, epoch)

        return self.resampler.to_model(read, start_block, n_blocks)

    def _reflect(self, fetch, start, stop, epoch):
        index = reflected(np.arange(start, stop), self.n_times)
        first, last = int(index.min()), int(index.max()) + 1
        data = fetch(first, last, epoch)
        inside = start >= 0 and stop <= self.n_times
        return data if inside else data[:, index - first]


def reflected(index, n):
    """Map samples outside a recording inside, by reflection about its end samples.

    Parameters
    ----------
    index : ndarray of int
        Any samples.
    n : int
        Length of the recording.

    Returns
    -------
    index : ndarray of int
        Samples in ``[0, n)``.
    """
    if n == 1:
        return np.zeros_like(index)
    index = np.abs(index) % (2 * n - 2)
    return np.minimum(index, 2 * n - 2 - index)
