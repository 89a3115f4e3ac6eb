"""The shipped weights give what they gave when they were embedded."""

import numpy as np
import pytest
from frozen import FNAME, stages


@pytest.fixture(scope="module")
def now():
    return stages()


@pytest.mark.parametrize(
    "stage", ["powers", "static", "mean", "context", "sample", "log_prob"]
)
def test_shipped_weights_give_what_they_gave(now, stage):
    """Float32 on another processor may differ in its last digits, not by 1e-3.

    Seen to fail, from the stage on that it touches, with MAX_TAIL = 0.71 in
    flow/coupling.py, with one wavelet moment less, and with electrode distances
    in centimetres.
    """
    with np.load(FNAME) as frozen:
        expected = frozen[stage]
    scale = expected.std()
    assert now[stage].shape == expected.shape
    assert np.abs(now[stage] - expected).max() < 1e-3 * scale
