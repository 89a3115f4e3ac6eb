"""Resampling between a recording's rate and the model's, independent of chunks."""

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft, rfft
from scipy.signal import firwin, kaiserord

from ._threads import one_blas_thread
from .contract import BAND, BLOCK, SFREQ

# Anti-alias filter: flat to the upper edge of the model's band, and 80 dB down at the
# Nyquist frequency of the model's rate, so that there is no aliasing. 80 dB leaves less
# than 0.1 uV of a millivolt artifact.
_STOP = SFREQ / 2
_ATTENUATION = 80.0
#: Model samples that the high-pass reaches to either side. With a Kaiser window of
#: 60 dB these 2 s put -6 dB at 0.5 Hz and leave frequencies above 1 Hz within 0.2 %.
HIGHPASS_HALF = 2 * BLOCK
_HIGHPASS_ATTENUATION = 60.0
# Input samples and blocks that are processed at once, a few tens of megabytes.
_PIECE = 2**16
_BLOCKS = 32
# Outputs of one matrix, and the approximate number of samples in a group of frames.
# These products are fast, and compute few samples that are not needed.
_FRAME, _GROUP = 64, 2048


class Resampler:
    """Exact conversion between a recording's rate and the model's.

    Model sample ``k`` is at ``k * down / (up * sfreq)`` seconds after the first sample
    of the recording. All filters have linear phase and zero delay. Each output sample
    is the same sum in the same order for any chunks, so that the result does not depend
    on them.

    Parameters
    ----------
    sfreq : float
        Sampling rate of the recording in hertz.

    Attributes
    ----------
    up, down : int
        ``model_sfreq = sfreq * up / down``.
    model_sfreq : float
        Exactly 128 Hz for integer ``sfreq``. For others it is the nearest ratio with
        ``up <= 128``, or with ``up <= 2048`` if the error would exceed 0.05 %.
    halo_model : int
        Model samples that :meth:`from_model` needs on each side.

    Notes
    -----
    The anti-alias filter passes 50 Hz (45 Hz at a rate of 100 Hz) and stops 64 Hz
    by 80 dB: a Kaiser-windowed FIR (:func:`scipy.signal.kaiserord`) at the rate
    ``up * sfreq``, whose outputs are products with matrices. Each of its phases is
    scaled to a gain of one for a constant, otherwise the images of an electrode
    offset (tens of millivolts on direct-coupled amplifiers) would not vanish.
    The 0.5 Hz high-pass is a unit impulse minus a low-pass of unit sum, so it
    removes a constant exactly.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.resampling import Resampler
    >>> resampler = Resampler(512.0)
    >>> resampler.up, resampler.down, resampler.n_blocks(n_times=5120)
    (1, 4, 10)
    """

    def __init__(self, sfreq):
        self.sfreq = float(sfreq)
        self.up, self.down = _rational(self.sfreq)
        self.model_sfreq = self.sfreq * self.up / self.down
        taps = _antialias(self.sfreq, self.up)
        self._centre = (len(taps) - 1) // 2
        rates = self.up, self.down
        phases = _unit_phases(taps, self.up), _unit_phases(taps, self.down)
        self._to_model = _Polyphase(phases[0], *rates, self._centre)
        self._from_model = _Polyphase(phases[1], *rates[::-1], self._centre)
        kernel = _highpass_kernel()
        self._window = BLOCK + len(kernel) - 1
        self._highpass = rfft(kernel, self._window)
        self.halo_model = -(-self._centre // self.down) + 1

    def n_model(self, n_times):
        """Return the number of model samples within a recording.

        Parameters
        ----------
        n_times : int
            Length of the recording in samples.

        Returns
        -------
        n_model : int
            Number of model samples.
        """
        return -(-n_times * self.up // self.down)

    def n_blocks(self, n_times):
        """Return the number of one-second model blocks that cover a recording.

        Parameters
        ----------
        n_times : int
            Length of the recording in samples.

        Returns
        -------
        n_blocks : int
            Number of blocks. The last one may extend beyond the end.
        """
        return -(-self.n_model(n_times) // BLOCK)

    def model_range(self, start, stop):
        """Return the model samples that :meth:`from_model` needs.

        Parameters
        ----------
        start, stop : int
            Samples of the recording, half open.

        Returns
        -------
        first, last : int
            Half-open range of model samples. It begins before zero at the start
            of a recording and ends after its last sample.
        """
        first = -((self._centre - start * self.up) // self.down)
        last = ((stop - 1) * self.up + self._centre) // self.down + 1
        return first, last

    def to_model(self, read, start_block, n_blocks):
        """Convert a stretch of a recording to the model's rate and band.

        Parameters
        ----------
        read : callable
            ``read(start, stop)`` returns an array of shape
            ``(n_channels, stop - start)``. It must also return samples before the first
            and after the last one (:meth:`Scalp.read` reflects).
        start_block : int
            First block. Block ``b`` has model samples ``[128 b, 128 (b + 1))``.
        n_blocks : int
            Number of blocks.

        Returns
        -------
        data : ndarray, shape (n_channels, 128 * n_blocks)
            The signal at the model's rate, 0.5-50 Hz, in the same unit.
        """
        first = BLOCK * start_block - HIGHPASS_HALF
        last = BLOCK * (start_block + n_blocks) + HIGHPASS_HALF
        # A few megabytes of input at a time, whatever the input's rate.
        piece = max(BLOCK, _PIECE * self.up // self.down)
        wide = np.concatenate(
            [
                self.decimate(read, k, min(k + piece, last))
                for k in range(first, last, piece)
            ],
            axis=-1,
        )
        return self.highpass(wide)

    def highpass(self, wide):
        """Apply the high-pass filter of the model's band.

        Parameters
        ----------
        wide : ndarray, shape (n_channels, 128 * n_blocks + 2 * HIGHPASS_HALF)
            Whole blocks at the model's rate, with samples on either side.

        Returns
        -------
        data : ndarray, shape (n_channels, 128 * n_blocks)
            The blocks, same unit.
        """
        n_blocks = (wide.shape[-1] - 2 * HIGHPASS_HALF) // BLOCK
        # The window of a block does not depend on where the chunk begins.
        windows = sliding_window_view(wide, self._window, axis=-1)[:, ::BLOCK]
        out = [
            irfft(rfft(windows[:, b : b + _BLOCKS]) * self._highpass, self._window)
            for b in range(0, n_blocks, _BLOCKS)
        ]
        # The invalid samples of each circular convolution come first.
        out = np.concatenate(out, axis=1)[..., -BLOCK:]
        return out.reshape(len(wide), n_blocks * BLOCK)

    def from_model(self, x, first_model_sample, start, stop):
        """Interpolate model samples at the samples of the recording.

        Parameters
        ----------
        x : ndarray, shape (..., n_model)
            Model samples, float32 or float64.
        first_model_sample : int
            Index of ``x[..., 0]`` on the model's grid.
        start, stop : int
            Samples of the recording wanted, half open.

        Returns
        -------
        data : ndarray, shape (..., stop - start)
            Band-limited interpolation, same unit and dtype as ``x``.
        """
        first, last = self.model_range(start, stop)
        if first < first_model_sample or last > first_model_sample + x.shape[-1]:
            raise ValueError(
                f"Samples {start} to {stop} need model samples {first} to {last}, "
                f"but got {first_model_sample} to {first_model_sample + x.shape[-1]}."
            )
        x = x[..., first - first_model_sample : last - first_model_sample]
        return self._from_model(x, first, start, stop)

    def input_range(self, first, last):
        """Return the samples of the recording that :meth:`decimate` needs.

        Parameters
        ----------
        first, last : int
            Model samples, half open.

        Returns
        -------
        start, stop : int
            Half-open range of samples of the recording.
        """
        start = -((self._centre - first * self.down) // self.up)
        return start, ((last - 1) * self.down + self._centre) // self.up + 1

    def decimate(self, read, first, last):
        """Low-pass and resample, without the high-pass.

        Parameters
        ----------
        read : callable
            As for :meth:`to_model`.
        first, last : int
            Model samples wanted, half open.

        Returns
        -------
        data : ndarray, shape (n_channels, last - first)
            Below 50 Hz, same unit.
        """
        start, stop = self.input_range(first, last)
        x = np.asarray(read(start, stop), dtype=float)
        return self._to_model(x, start, first, last)


class _Polyphase:
    """The sum ``y[n] = sum_i taps[n * down + centre - i * up] x[i]``, by matrices.

    Outputs are divided into frames, in which the taps have the same order. A frame is a
    product of its inputs with a few matrices, and a group of frames is computed at
    once. The grid of frames and groups does not depend on the chunk. A sample is
    therefore always the same row of a product of the same shape, and identical to the
    last bit.

    Parameters
    ----------
    taps : ndarray of shape (n_taps,)
        A filter at the rate ``up`` times that of the inputs.
    up, down : int
        Integers without a common factor.
    centre : int
        The tap with zero delay.
    """

    def __init__(self, taps, up, down, centre):
        repeats = -(-_FRAME // up)
        self._n_out, self._n_in = repeats * up, repeats * down
        # The longer side of a group has about this number of samples.
        self._group = max(1, _GROUP // max(self._n_out, self._n_in))
        self._parts = []
        for low in range(0, self._n_out, _FRAME):
            n = np.arange(low, min(low + _FRAME, self._n_out))
            place = n * down + centre
            first = -(-(place[0] - len(taps) + 1) // up)
            inputs = np.arange(first, place[-1] // up + 1)
            index = place - up * inputs[:, np.newaxis]
            inside = (index >= 0) & (index < len(taps))
            matrix = np.where(inside, taps[np.where(inside, index, 0)], 0)
            self._parts.append((slice(low, low + len(n)), first, matrix))

    @one_blas_thread
    def __call__(self, x, first, start, stop):
        """Compute outputs [start, stop) from inputs of which the first is ``first``."""
        length = self._group * self._n_out
        groups = range(start // length, -(-stop // length))
        rows = x.reshape(-1, x.shape[-1])
        out = np.empty((len(rows), len(groups), self._group, self._n_out), x.dtype)
        for where, offset, matrix in self._parts:
            matrix = matrix.astype(x.dtype, copy=False)
            begin = groups[0] * self._group * self._n_in + offset - first
            n_wide = (self._group - 1) * self._n_in + len(matrix)
            for number in range(len(groups)):
                low = begin + number * self._group * self._n_in
                wide = _cut(rows, low, low + n_wide)
                frames = sliding_window_view(wide, len(matrix), axis=-1)
                frames = frames[:, :: self._n_in].reshape(-1, len(matrix))
                out[:, number, :, where] = (frames @ matrix).reshape(
                    len(rows), self._group, -1
                )
        out = out.reshape(*x.shape[:-1], -1)
        begin = groups[0] * length
        return out[..., start - begin : stop - begin]


def _cut(x, start, stop):
    """Return samples of an array, with zeros beyond its ends."""
    inside = x[:, max(start, 0) : max(stop, 0)]
    before = min(max(-start, 0), stop - start)
    after = stop - start - before - inside.shape[1]
    return np.pad(inside, ((0, 0), (before, after))) if before or after else inside


def _rational(sfreq):
    """Return (up, down) with sfreq * up / down at, or within 0.05 % of, 128 Hz."""
    ratio = sfreq / SFREQ
    for largest in (128, 2048):
        fraction = Fraction(ratio).limit_denominator(largest)
        if abs(float(fraction) / ratio - 1) <= 5e-4:
            break
    return fraction.denominator, fraction.numerator


def _antialias(sfreq, up):
    """Design the low-pass at the rate ``up * sfreq``, with an odd length."""
    rate = up * sfreq
    # At rates below 114 Hz, images of the passband would overlap with it.
    f_pass = min(BAND[1], 0.45 * sfreq)
    f_stop = min(_STOP, sfreq - f_pass)
    n_taps, beta = kaiserord(_ATTENUATION, (f_stop - f_pass) / (rate / 2))
    return firwin(n_taps | 1, (f_pass + f_stop) / 2, window=("kaiser", beta), fs=rate)


def _unit_phases(taps, up):
    """Scale every phase of an interpolator by ``up`` to a sum of one."""
    taps = taps.copy()
    for phase in range(up):
        taps[phase::up] /= taps[phase::up].sum()
    return taps


@lru_cache(maxsize=1)
def _highpass_kernel():
    """Design the high-pass at the model's rate."""
    _, beta = kaiserord(_HIGHPASS_ATTENUATION, 1.0)
    n_taps = 2 * HIGHPASS_HALF + 1
    low = firwin(n_taps, BAND[0], window=("kaiser", beta), fs=SFREQ)
    kernel = -low  # firwin scales its sum to one
    kernel[HIGHPASS_HALF] += 1
    return kernel
