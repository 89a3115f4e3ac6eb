"""Orthonormal wavelet levels, one-second blocks and their cosine transform.

At 128 Hz three octaves give the levels 0-8, 8-16, 16-32 and 32-64 Hz. Each
level is cut into blocks of one second and rotated by an orthonormal cosine
transform, so that a coefficient is a frequency of its level in its second.
Everything is one orthonormal map: its log-determinant is zero.
"""

from functools import lru_cache
from math import comb, sqrt

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor
from torch.nn import functional

#: Frequency band of each level in hertz, coarse to fine: octaves, and what is below.
LEVEL_BANDS = ((0, 8), (8, 16), (16, 32), (32, 64))
#: Coefficients of each level in a block of one second.
LEVEL_SIZES = tuple(2 * (high - low) for low, high in LEVEL_BANDS)


@lru_cache
def daubechies(n_moments: int) -> np.ndarray:
    """Compute the orthonormal Daubechies low-pass filter.

    Spectral factorization of the half-band polynomial (Daubechies 1992, *Ten
    Lectures on Wavelets*, section 6.1), keeping the roots inside the circle.

    Parameters
    ----------
    n_moments : int
        Number of vanishing moments; the filter has twice as many taps.

    Returns
    -------
    taps : array of shape (2 * n_moments,)
        The filter, with unit norm.

    Examples
    --------
    >>> from mne_neuroflow.flow.wavelet import daubechies
    >>> [round(float(tap), 4) for tap in daubechies(2)]
    [0.483, 0.8365, 0.2241, -0.1294]
    """
    half_band = [comb(n_moments - 1 + k, k) for k in range(n_moments)][::-1]
    zeros = []
    for y in np.roots(half_band):
        # y = (2 - z - 1/z) / 4 has one root inside the unit circle.
        pair = np.roots([1, 4 * y - 2, 1])
        zeros.append(pair[np.argmin(np.abs(pair))])
    taps = np.real(np.poly(np.concatenate([-np.ones(n_moments), zeros])))
    taps *= sqrt(2) / taps.sum()
    return taps


@lru_cache
def cosine_matrix(size: int) -> np.ndarray:
    """Build the orthonormal DCT-II matrix.

    Parameters
    ----------
    size : int
        Length of a block.

    Returns
    -------
    matrix : array of shape (size, size)
        Row k is the cosine of frequency k.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.flow.wavelet import cosine_matrix
    >>> matrix = cosine_matrix(8)
    >>> bool(np.allclose(matrix @ matrix.T, np.eye(8)))
    True
    """
    return dct(np.eye(size), norm="ortho", axis=0)


class WaveletTransform(torch.nn.Module):
    """Signals to coefficients per level, contact and second, and back.

    The transform is periodic in the window it is given, which keeps it exactly
    orthonormal; :attr:`reach` seconds at each end feel the other end.

    Parameters
    ----------
    n_moments : int
        Vanishing moments of the Daubechies wavelet.
    """

    #: Seconds at a window's ends that the periodic border touches.
    reach = 1

    def __init__(self, n_moments: int = 8):
        super().__init__()
        low = torch.as_tensor(daubechies(n_moments))
        sign = torch.tensor([1.0, -1.0], dtype=low.dtype).repeat(n_moments)
        bank = torch.stack([low, low.flip(0) * sign])[:, None]
        self.register_buffer("bank", bank, persistent=False)
        for size in set(LEVEL_SIZES):
            matrix = torch.as_tensor(cosine_matrix(size))
            self.register_buffer(f"cosine_{size}", matrix, persistent=False)
        self.shift = n_moments - 1

    def _split(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """One octave: low and high half bands at half the rate."""
        bank = self.bank.to(signal.dtype)
        wrap = bank.shape[-1] - 2
        flat = signal.reshape(-1, 1, signal.shape[-1])
        flat = torch.cat([flat, flat[..., :wrap]], dim=-1)
        halves = functional.conv1d(flat, bank, stride=2)
        # The filters are not centred: undo most of their delay.
        halves = halves.roll(self.shift // 2, dims=-1)
        halves = halves.reshape(*signal.shape[:-1], 2, -1)
        return halves[..., 0, :], halves[..., 1, :]

    def _merge(self, low: Tensor, high: Tensor) -> Tensor:
        """Undo :meth:`_split`."""
        bank = self.bank.to(low.dtype)
        wrap = bank.shape[-1] - 2
        n_times = 2 * low.shape[-1]
        halves = torch.stack([low, high], dim=-2).reshape(-1, 2, low.shape[-1])
        halves = halves.roll(-(self.shift // 2), dims=-1)
        full = functional.conv_transpose1d(halves, bank, stride=2)[:, 0]
        signal = full[:, :n_times].clone()
        signal[:, :wrap] += full[:, n_times:]
        return signal.reshape(*low.shape[:-1], n_times)

    def forward(self, signal: Tensor) -> list[Tensor]:
        """Decompose (..., n_blocks * 128) into levels (..., n_blocks, size)."""
        details = []
        for _ in LEVEL_BANDS[1:]:
            signal, detail = self._split(signal)
            details.append(detail)
        levels = []
        for level, size in zip([signal, *details[::-1]], LEVEL_SIZES, strict=True):
            blocks = level.reshape(*level.shape[:-1], -1, size)
            cosine = getattr(self, f"cosine_{size}").to(level.dtype)
            levels.append(blocks @ cosine.T)
        return levels

    def inverse(self, levels: list[Tensor]) -> Tensor:
        """Undo :meth:`forward`."""
        series = []
        for level, size in zip(levels, LEVEL_SIZES, strict=True):
            cosine = getattr(self, f"cosine_{size}").to(level.dtype)
            series.append((level @ cosine).flatten(-2))
        signal = series[0]
        for detail in series[1:]:
            signal = self._merge(signal, detail)
        return signal
