"""Between a recording's sampling rate and the model's, exactly and in chunks."""

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft, rfft
from scipy.signal import firwin, kaiserord, upfirdn

from .contract import BAND, BLOCK, SFREQ

# Anti-alias filter: flat to the upper edge of the model's band, and 80 dB down
# where frequencies would fold back (Nyquist of the model rate), so that nothing
# folds at all. 80 dB leaves less than 0.1 uV of a millivolt artifact.
_STOP = SFREQ / 2
_ATTENUATION = 80.0
# The high-pass is 2 s long on each side, which with a Kaiser window of 60 dB
# puts -6 dB at 0.5 Hz and leaves frequencies above 1 Hz within 0.2 %.
_HIGHPASS_HALF = 2 * BLOCK
_HIGHPASS_ATTENUATION = 60.0
# Input samples and blocks worked on at a time, a few tens of megabytes.
_PIECE = 2**16
_BLOCKS = 32


class Resampler:
    """Exact, chunk-invariant passage between a recording's rate and the model's.

    Model sample ``k`` lies at ``k * down / (up * sfreq)`` seconds after the first
    sample of the recording. All filters have linear phase and zero delay, and
    every output sample is the same sum in the same order wherever the chunk
    that holds it begins, so that any chunking gives the same samples.

    Parameters
    ----------
    sfreq : float
        Sampling rate of the recording in hertz.

    Attributes
    ----------
    up, down : int
        ``model_sfreq = sfreq * up / down``.
    model_sfreq : float
        128 Hz exactly for every whole-numbered ``sfreq``; for others the nearest
        ratio with ``up <= 128``, or with ``up <= 2048`` where that would be more
        than 0.05 % off.
    halo_model : int
        Model samples that :meth:`from_model` needs on each side.

    Notes
    -----
    The anti-alias filter passes 50 Hz (45 Hz at a rate of 100 Hz) and stops 64 Hz
    by 80 dB: a Kaiser-windowed FIR (:func:`scipy.signal.kaiserord`) at the rate
    ``up * sfreq``, run by :func:`scipy.signal.upfirdn`. Each of its phases is
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
        self._to_taps = _unit_phases(taps, self.up)
        self._from_taps = _unit_phases(taps, self.down)
        kernel = _highpass_kernel()
        self._window = BLOCK + len(kernel) - 1
        self._highpass = rfft(kernel, self._window)
        self.halo_model = -(-self._centre // self.down) + 1

    def n_model(self, n_times):
        """Return the number of model samples that lie within a recording.

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
            Number of blocks; the last one may run past the end.
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
        """Bring a stretch of a recording to the model's rate and band.

        Parameters
        ----------
        read : callable
            ``read(start, stop)`` returns an array of shape
            ``(n_channels, stop - start)`` and must also serve samples before the
            first and after the last (:meth:`Scalp.read` reflects).
        start_block : int
            First block; block ``b`` holds model samples ``[128 b, 128 (b + 1))``.
        n_blocks : int
            Number of blocks.

        Returns
        -------
        data : ndarray, shape (n_channels, 128 * n_blocks)
            What ``read`` returned, at the model's rate, 0.5-50 Hz, same unit.
        """
        first = BLOCK * start_block - _HIGHPASS_HALF
        last = BLOCK * (start_block + n_blocks) + _HIGHPASS_HALF
        # A few megabytes of input at a time, whatever the input's rate.
        piece = max(BLOCK, _PIECE * self.up // self.down)
        wide = np.concatenate(
            [
                self._decimate(read, k, min(k + piece, last))
                for k in range(first, last, piece)
            ],
            axis=-1,
        )
        # Every block sees the same window wherever the chunk begins.
        windows = sliding_window_view(wide, self._window, axis=-1)[:, ::BLOCK]
        out = [
            irfft(rfft(windows[:, b : b + _BLOCKS]) * self._highpass, self._window)
            for b in range(0, n_blocks, _BLOCKS)
        ]
        # What is not valid of each circular convolution comes first.
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
        return _polyphase(
            self._from_taps.astype(x.dtype, copy=False),
            x,
            up=self.down,
            down=self.up,
            offset=self._centre - first * self.down,
            start=start,
            stop=stop,
        )

    def _decimate(self, read, first, last):
        """Low-pass and resample to model samples [first, last)."""
        start = -((self._centre - first * self.down) // self.up)
        stop = ((last - 1) * self.down + self._centre) // self.up + 1
        return _polyphase(
            self._to_taps,
            np.asarray(read(start, stop), dtype=float),
            up=self.up,
            down=self.down,
            offset=self._centre - start * self.up,
            start=first,
            stop=last,
        )


def _polyphase(taps, x, up, down, offset, start, stop):
    """Return ``sum_i taps[n * down + offset - i * up] x[i]`` for start <= n < stop.

    :func:`scipy.signal.upfirdn` counts its outputs from the first tap, so the taps
    are led by as many zeros as bring the wanted outputs onto its grid.
    """
    lead = -(start * down + offset) % down
    skip = (start * down + offset + lead) // down
    taps = np.concatenate([np.zeros(lead, taps.dtype), taps])
    out = upfirdn(taps, x, up=up, down=down, axis=-1)
    return out[..., skip : skip + stop - start]


def _rational(sfreq):
    """Return (up, down) with sfreq * up / down at, or within 0.05 % of, 128 Hz."""
    ratio = sfreq / SFREQ
    for largest in (128, 2048):
        fraction = Fraction(ratio).limit_denominator(largest)
        if abs(float(fraction) / ratio - 1) <= 5e-4:
            break
    return fraction.denominator, fraction.numerator


def _antialias(sfreq, up):
    """Design the low-pass at the rate ``up * sfreq``; its length is odd."""
    rate = up * sfreq
    # Below 114 Hz the images of the passband would reach into it.
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
    n_taps = 2 * _HIGHPASS_HALF + 1
    low = firwin(n_taps, BAND[0], window=("kaiser", beta), fs=SFREQ)
    kernel = -low  # whose sum firwin has made one
    kernel[_HIGHPASS_HALF] += 1
    return kernel
