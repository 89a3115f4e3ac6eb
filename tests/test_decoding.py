"""Decoding held against a control that needs no brain."""

import numpy as np
import pytest

from mne_neuroflow.scores.decoding import decoding_auc

rng = np.random.default_rng(0)
LABELS = rng.random(2000) < 0.4


def test_the_area_of_two_normals():
    """Means one standard deviation apart: Phi(1 / sqrt(2)) = 0.760.

    Seen to fail with the sign of the discriminant turned.
    """
    feature = LABELS + rng.standard_normal(2000)
    assert abs(decoding_auc(feature, LABELS) - 0.760) < 0.03
    assert abs(decoding_auc(-1e-6 * feature, LABELS) - 0.760) < 0.03


def test_correlated_features_are_weighed():
    """Two noisy features whose difference says all: far better than either.

    Seen to fail without the covariance.
    """
    common = 5 * rng.standard_normal(2000)
    features = np.c_[common + LABELS, common] + 0.3 * rng.standard_normal((2000, 2))
    assert decoding_auc(features[:, 0], LABELS) < 0.65
    assert decoding_auc(features, LABELS) > 0.7


def test_nothing_is_found_in_noise():
    """Held-out trials alone count: forty features of noise decode nothing.

    Seen to fail with training and test on the same trials.
    """
    noise = rng.standard_normal((200, 40))
    assert abs(decoding_auc(noise, LABELS[:200]) - 0.5) < 0.12


def test_bad_input():
    with pytest.raises(ValueError, match="leave out trials with nan"):
        decoding_auc([np.nan, 1, 2], [True, False, True])
    with pytest.raises(ValueError, match="all alike"):
        decoding_auc(np.arange(6.0), [True] * 6)
    with pytest.raises(ValueError, match="No fold has trials of both"):
        decoding_auc(np.arange(4.0), [True, False, True, False], n_folds=4)
