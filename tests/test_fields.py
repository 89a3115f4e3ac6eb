"""Potentials on a head are smooth, instantaneous, of one sign and of one scale."""

import re
import warnings

import mne
import numpy as np
import pytest
from mne.utils import check_version

from mne_neuroflow import predict_ieeg
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.scalp.fields import check_fields
from mne_neuroflow.spatial import compare_with_head

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
WORDS = ("in common", "spatial filter", "opposite sign", "apart in time", "Amplitudes")
WORDS += ("where their names", "when they are exchanged")
TEN_TWENTY = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()


@pytest.fixture(scope="module")
def _demo():
    return load_demo(verbose=False).crop(0, 12).load_data(verbose=False)


@pytest.fixture
def demo(_demo):
    """Twelve seconds of a real recording with 64 channels."""
    return _demo.copy()


def warnings_of(raw):
    """Return what is said of a recording, in full."""
    scalp = check_scalp(raw, on_mismatch="ignore", verbose="error")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_fields(compare_with_head(scalp), scalp.ch_names, "warn")
    return [str(each.message) for each in caught]


def as_it_is(raw):
    pass


def as_the_first(raw):
    raw.set_eeg_reference(["Fp1"], verbose=False)


def few(raw):
    raw.pick("Fp1 Fp2 C3 C4 O1 O2 T7 T8".split())


def four(raw):
    """Which have 24 orders; seen to be told that they fit no better than others."""
    raw.pick("Cz C3 C4 Pz".split())


def five(raw):
    raw.pick("Fp1 F8 T7 Pz O2".split())


def narrow(raw):
    raw.filter(8, 13, verbose=False)


def spatially_filtered(raw):
    csd = mne.preprocessing.compute_current_source_density(raw, sphere=(0, 0, 0, 0.1))
    raw._data[:] = 1e-3 * csd.get_data()


def noise(raw):
    raw._data[:] = 1e-5 * np.random.default_rng(0).standard_normal(raw._data.shape)


def few_of_noise(raw):
    few(raw)
    noise(raw)


def turned(raw):
    raw._data[[raw.ch_names.index("Cz"), raw.ch_names.index("P8")]] *= -1


def many_turned(raw):
    which = np.random.default_rng(1).choice(64, 16, replace=False)
    raw._data[which] *= -1


def late(raw):
    raw._data[::2] = np.roll(raw._data[::2], 3, axis=1)  # 19 ms


def late_before_a_filter(raw):
    late(raw)
    raw.filter(None, 15, verbose=False)


def larger(raw):
    raw._data[1::2] *= 3


def shifted(raw):
    """Labels one place too early, as where the first line of a list was skipped."""
    raw._data[:] = np.roll(raw._data, 1, axis=0)


def few_shifted(raw):
    raw.pick(TEN_TWENTY)
    raw._data[:] = np.roll(raw._data, -1, axis=0)


def eight_shifted(raw):
    few(raw)
    shifted(raw)


def back_to_front(raw):
    raw._data[:] = raw._data[::-1].copy()


def boxes_exchanged(raw):
    raw._data[:] = np.roll(raw._data, 32, axis=0)


def shuffled(raw):
    raw._data[:] = raw._data[np.random.default_rng(0).permutation(64)]


def exchanged(raw):
    pair = [raw.ch_names.index(name) for name in ("Fp1", "O2")]
    raw._data[pair] = raw._data[pair[::-1]]


CASES = {
    as_it_is: None,
    as_the_first: None,
    few: None,
    four: None,
    five: None,
    narrow: None,
    spatially_filtered: "spatial filter.*before this step",
    noise: "in common.*noise",
    few_of_noise: "in common.*noise",
    turned: "opposite sign.*: Cz, P8. Were",
    many_turned: "opposite sign.* and [0-9]+ more. Were",
    late: "1[89] ms apart in time.*group is: ",
    late_before_a_filter: "1[89] ms apart in time",
    shifted: "say: .* shifted or reversed, as if FC3 held what was recorded at FC5",
    # With the template of MNE-Python 1.12, the order with exchanged sides is named.
    few_shifted: "say: .* as if Fp1 held what was recorded at Fp2"
    if check_version("mne", "1.13")
    else "say: .* as if Cz held what was recorded at C3",
    eight_shifted: "say: .* as if Fp2 held what was recorded at Fp1",
    back_to_front: "say: .* shifted or reversed",
    boxes_exchanged: "say: .* shifted or reversed",
    shuffled: "say: .* do not fit .* better than in a random order",
    exchanged: "when they are exchanged: Fp1 and O2. Were",
    larger: "Amplitudes of neighbouring.*Larger than their neighbours: FC3, ",
}


@pytest.mark.parametrize("change", CASES)
def test_what_is_warned_of(demo, change):
    """Seen to fail with the limit of smoothness halved, with those of reversed channels
    and of delays doubled, without the comparison of orders, with the limit of
    unevenness five times as large, without that of agreement, with the average
    reference, which hides the sign of a channel, and where many reversed channels count
    as a spatial filter or as exchanged.
    """
    change(demo)
    found = warnings_of(demo)
    if CASES[change] is None:
        assert found == []
    else:
        assert len(found) == 1 and re.search(CASES[change], found[0]), found
        assert sum(word in found[0] for word in WORDS) == 1


def test_short_recordings_are_not_compared(demo):
    assert compare_with_head(check_scalp(demo.crop(0, 8))) is None


@pytest.mark.usefixtures("small_model")
def test_epochs_and_bad_time(demo):
    """Only good time is compared; seen to fail with all of it."""
    demo._data[:, 320:960] = np.random.default_rng(0).standard_normal((64, 640)) * 1e-4
    demo.set_annotations(mne.Annotations([1.5, 2.5], [1.0, 4.0], ["x", "BAD_noise"]))
    scalp = check_scalp(demo, on_mismatch="ignore")
    assert compare_with_head(scalp) is None  # seven seconds are good
    whole = load_demo(verbose=False).crop(0, 24).load_data(verbose=False)
    whole._data[::2] = np.roll(whole._data[::2], 3, axis=1)
    epochs = mne.make_fixed_length_epochs(whole, 1.5, preload=True, verbose=False)
    with pytest.warns(RuntimeWarning, match="1[89] ms apart in time"):
        predict_ieeg(epochs, contacts=POINTS, random_state=0)
    with pytest.raises(ValueError, match="1[89] ms apart in time"):
        predict_ieeg(whole, contacts=POINTS, random_state=0, on_mismatch="raise")
