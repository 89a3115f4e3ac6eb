"""Orthonormal wavelet levels, one-second blocks and their cosine transform.

At 128 Hz three octaves give the levels 0-8, 8-16, 16-32 and 32-64 Hz. Each level is cut
into blocks of one second. An orthonormal cosine transform of each block gives
coefficients that belong to one frequency of the level in one second. The whole map is
orthonormal, so its log-determinant is zero.
"""

from functools import lru_cache
from math import comb, sqrt

import numpy as np
import torch
from scipy.fft import dct
from torch import Tensor

from ..contract import BLOCK

#: Frequency band of each level in hertz, coarse to fine: the rest, and three octaves.
LEVEL_BANDS = ((0, 8), (8, 16), (16, 32), (32, 64))
#: Coefficients of each level in a block of one second.
LEVEL_SIZES = tuple(2 * (high - low) for low, high in LEVEL_BANDS)


@lru_cache
def daubechies(n_moments: int) -> np.ndarray:
    """Compute the orthonormal Daubechies low-pass filter.

    The filter is a spectral factorization of the half-band polynomial that keeps the
    roots inside the unit circle (Daubechies 1992, *Ten Lectures on Wavelets*, section
    6.1).

    Parameters
    ----------
    n_moments : int
        Number of vanishing moments. The filter has twice as many taps.

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


@lru_cache(maxsize=4)
def block_matrices(n_moments: int) -> np.ndarray:
    """Compute the matrices from three neighbouring seconds to a second's coefficients.

    Parameters
    ----------
    n_moments : int
        Vanishing moments of the Daubechies wavelet.

    Returns
    -------
    matrices : array of shape (3, 128, 128)
        Matrices for the samples of the second before, the second itself and the second
        after. Columns are the coefficients of all levels, coarse to fine.
    """
    low = daubechies(n_moments)
    high = low[::-1] * np.tile([1.0, -1.0], n_moments)
    # Filter three seconds octave by octave, because no filter reaches further.
    n_blocks, details = 3, []
    series = np.eye(n_blocks * BLOCK)
    for _ in LEVEL_BANDS[1:]:
        n_times = series.shape[1]
        # The filters are not centred: undo most of their delay.
        first = 2 * np.arange(n_times // 2) - 2 * ((n_moments - 1) // 2)
        taps = (first + np.arange(2 * n_moments)[:, np.newaxis]) % n_times
        pieces = series[:, taps]
        details.append(high @ pieces)
        series = low @ pieces
    levels = []
    for level, size in zip([series, *details[::-1]], LEVEL_SIZES, strict=True):
        blocks = level.reshape(len(level), n_blocks, size)
        levels.append(blocks[:, 1] @ cosine_matrix(size).T)
    matrices = np.concatenate(levels, axis=1).reshape(n_blocks, BLOCK, BLOCK)
    return matrices


class WaveletTransform(torch.nn.Module):
    """Transform signals to coefficients per level, contact and second, and back.

    The transform is periodic in its window, which keeps it exactly orthonormal.
    Therefore, the first and last :attr:`reach` seconds depend on the other end.

    Parameters
    ----------
    n_moments : int
        Vanishing moments of the Daubechies wavelet.
    """

    #: Seconds at either end of a window that depend on the other end.
    reach = 1

    def __init__(self, n_moments: int = 8):
        super().__init__()
        matrices = torch.as_tensor(block_matrices(n_moments))
        self.register_buffer("matrices", matrices, persistent=False)

    def _of(self, series: Tensor) -> tuple[Tensor, ...]:
        """Return the matrices by which a series is multiplied.

        They are float64 on a GPU. There, float32 products may be rounded (TF32), and
        slow levels would leak into fast ones.
        """
        dtype = torch.float64 if series.is_cuda else series.dtype
        return self.matrices.to(dtype).unbind()

    def forward(self, signal: Tensor) -> list[Tensor]:
        """Decompose (..., n_blocks * 128) into levels (..., n_blocks, size)."""
        blocks = signal.unflatten(-1, (-1, BLOCK))
        before, own, after = self._of(blocks)
        wide = blocks.to(own.dtype)
        levels = (
            wide @ own + wide.roll(1, dims=-2) @ before + wide.roll(-1, dims=-2) @ after
        )
        return list(levels.to(signal.dtype).split(LEVEL_SIZES, dim=-1))

    def inverse(self, levels: list[Tensor]) -> Tensor:
        """Undo :meth:`forward`."""
        blocks = torch.cat(levels, dim=-1)
        before, own, after = self._of(blocks)
        wide = blocks.to(own.dtype)
        signal = (
            wide @ own.T
            + wide.roll(-1, dims=-2) @ before.T
            + wide.roll(1, dims=-2) @ after.T
        )
        return signal.to(blocks.dtype).flatten(-2)
