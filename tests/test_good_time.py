"""Good time: what is not brain is in no statistics of a recording."""

import warnings

import mne
import numpy as np
import pytest

from mne_neuroflow import (
    make_contacts,
    observability,
    predict_ieeg,
    sample_ieeg,
    score_ieeg,
)
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.good_time import (
    Gaps,
    annotated_spans,
    joined,
    outside,
    still_spans,
    stuck_spans,
)
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.spatial import AdaptedStage


def annotate(raw, *spans, text="BAD_x", names=None):
    """Annotate seconds from first to last."""
    onsets = [first for first, _ in spans]
    durations = [last - first for first, last in spans]
    ch_names = None if names is None else [names] * len(spans)
    raw.set_annotations(mne.Annotations(onsets, durations, text, ch_names=ch_names))
    return raw


@pytest.fixture
def long_raw(make_raw):
    return make_raw(40.0, sfreq=128.0)


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf, 5e-3])
def test_bad_time_is_in_no_statistics(long_raw, garbage):
    """Whatever a pause holds over 60 % of the time: the rest as if it were alone.

    Seen to fail with `median(self.rms)` over all seconds, and without the lines in
    the place of the gaps.
    """
    alone = check_scalp(long_raw.copy().crop(0, 16, include_tmax=False))
    raw = long_raw
    raw._data[:, 16 * 128 :] = garbage * np.sign(raw._data[:, 16 * 128 :])
    if garbage == 0:
        raw._data[:, 16 * 128 :] = 0
    scalp = check_scalp(annotate(raw, (16, 40)))
    assert scalp.good[0].sum() == 16
    np.testing.assert_allclose(scalp.robust_rms(), alone.robust_rms(), rtol=0.06)
    contact = np.array([[-0.025, -0.02, -0.018]])
    found = [AdaptedStage(each, contact).posterior for each in (scalp, alone)]
    powers = [np.log(each.sources.power) for each in found]
    np.testing.assert_allclose(*powers, atol=0.3)
    np.testing.assert_allclose(found[0].gain, found[1].gain, rtol=0.03)


def test_pauses_without_annotation(long_raw):
    """A constant of each channel is no signal either, electrode offsets included."""
    long_raw._data += 20e-3 * np.arange(32)[:, np.newaxis] / 32
    calm = check_scalp(long_raw).robust_rms()
    raw = long_raw.copy()
    raw._data[:, 1280:3840] = 0
    scalp = check_scalp(raw)
    assert np.flatnonzero(~scalp.good[0]).tolist() == list(range(10, 30))
    np.testing.assert_allclose(scalp.robust_rms(), calm, rtol=0.2)
    # Nor does the step of 20 mV ring into the seconds beside it.
    assert scalp.rms[:, [8, 9, 30, 31]].max() < 2 * calm.max()
    held = long_raw.copy()
    held._data[:, 1280:3840] = held._data[:, [1280]]
    np.testing.assert_array_equal(check_scalp(held).good, scalp.good)


def filtered(raw):
    return raw.filter(None, 40.0, method="iir", verbose=False)


def resampled(raw):
    return raw.resample(160, verbose=False)


def switched_off(raw):
    """The amplifier's own noise."""
    rng = np.random.default_rng(0)
    raw._data[:, 1280:3840] = rng.normal(0, 1e-7, (32, 2560))
    return raw


@pytest.mark.parametrize("change", [filtered, resampled, switched_off])
@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_pauses_that_are_not_still(long_raw, change, scale):
    """Seen to be taken for EEG, with a fifth of the amplitude of the rest."""
    long_raw._data *= scale
    calm = check_scalp(long_raw).robust_rms()
    long_raw._data[:, 1280:3840] = 0
    with pytest.warns(RuntimeWarning, match="too quiet for a signal of the brain"):
        scalp = check_scalp(change(long_raw))
    bad = set(np.flatnonzero(~scalp.good[0]))
    assert set(range(12, 28)) <= bad <= set(range(10, 30))
    np.testing.assert_allclose(scalp.robust_rms(), calm, rtol=0.25)
    epochs = mne.make_fixed_length_epochs(long_raw, 4.0, preload=True, verbose=False)
    with pytest.warns(RuntimeWarning, match="too quiet"):
        assert check_scalp(epochs).good.sum() < 26


def test_suppressed_seconds_are_brain(long_raw):
    """Bursts of 50 uV beside seconds of 1 uV."""
    calm = long_raw._data.std()
    long_raw._data *= np.where(np.arange(5120) // 128 % 3, 1e-6, 50e-6) / calm
    assert check_scalp(long_raw).good.all()


@pytest.mark.parametrize("at", ["start", "middle", "end"])
def test_a_pause_touches_no_channel(long_raw, at):
    """Seen to warn of channels that are 0 beside the pause, and of clipping in it."""
    first, last = dict(start=(0, 2560), middle=(1280, 3840), end=(2560, 5120))[at]
    long_raw._data[:, first:last] = 0
    long_raw._data[3, max(first - 1, 0) : last + 1] = 0
    for k, beside in enumerate((first - 1, last)):
        if 0 < beside < 5120:
            long_raw._data[5 + k, beside] = long_raw._data[5 + k].max() + 1e-6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_scalp(long_raw).good.sum() == 20


@pytest.mark.parametrize("value", [0.0, 3e-3])
@pytest.mark.parametrize(
    ("n", "first", "last", "kept", "bad"),
    [
        (16, 10, 20, 32, range(10, 20)),  # half of the channels, a quarter of the time
        (3, 10, 35, 29, ()),  # three channels, most of the time
        (29, 10, 35, 32, range(10, 35)),  # without these only three would be left
        (1, 10, 11, 32, [10]),
        (1, 10, 10.9, 32, ()),  # too short
    ],
)
def test_some_channels_are_not_connected(long_raw, value, n, first, last, kept, bad):
    """A headbox that is off, or an amplifier at its limit, in part of the time.

    Seen to fail (the samples were used) without the check of single channels, and with
    all of these channels left out.
    """
    raw = long_raw
    raw._data[2 : 2 + n, first * 128 : round(last * 128)] = value
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        scalp = check_scalp(raw)
    assert len(scalp.ch_names) == kept
    assert np.flatnonzero(~scalp.good[0]).tolist() == list(bad)
    warned = [str(each.message) for each in caught if "hold one value" in str(each)]
    assert len(warned) == (kept < 32 or len(bad) > 0)
    assert all(f"{n} EEG channels" in text and "F7" in text for text in warned)
    assert np.isfinite(scalp.to_model(0, 40)).all()
    # Nothing of it is in the others: as if it had been annotated, or been marked.
    raw.info["bads"] = [] if kept == 32 else raw.ch_names[2 : 2 + n]
    if len(bad):
        annotate(raw, (first, last))
    np.testing.assert_array_equal(
        check_scalp(raw).to_model(0, 40), scalp.to_model(0, 40)
    )


def test_channels_not_connected_where_it_is_known(make_raw):
    """In bad time, and in epochs that hold it."""
    raw = make_raw(40.0, sfreq=128.0)
    raw._data[:16, 1280:2560] = 0
    epochs = mne.make_fixed_length_epochs(raw, 4.0, preload=True, verbose=False)
    with pytest.warns(RuntimeWarning, match="16 EEG channels hold one value"):
        scalp = check_scalp(epochs)
    assert np.flatnonzero(~scalp.good.ravel()).tolist() == list(range(10, 20))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert check_scalp(annotate(raw, (10, 20))).good.sum() == 30


def test_gaps_are_the_same_in_any_chunk(long_raw):
    """Seen to fail with a line that starts where the chunk does."""
    annotate(long_raw, (3.3, 3.9), (20, 27))
    scalp = check_scalp(long_raw)
    scalp._kept = None
    whole = scalp.to_model(0, 40)
    parts = np.concatenate([scalp.to_model(k, 1) for k in range(40)], axis=1)
    np.testing.assert_array_equal(parts, whole)


def test_stretches(long_raw):
    whole = check_scalp(long_raw)
    assert whole.good_stretches(10, 18) == [(0, k, 10) for k in (0, 10, 20, 30)]
    assert whole.good_stretches(10, 2) == [(0, 0, 10), (0, 30, 10)]
    scalp = check_scalp(annotate(long_raw, (12.5, 13), (20, 36)))
    found = [(0, 0, 10), (0, 13, 7), (0, 36, 4)]
    assert scalp.good_stretches(10, 18) == found


def test_which_annotations(long_raw, epochs):
    names = long_raw.ch_names[:4]
    for text, ch_names, n_bad in [
        ("bad blink", None, 2),
        ("BAD_ACQ_SKIP", names[:1], 2),
        ("BAD_x", ["other"], 0),
        ("blink", None, 0),
    ]:
        long_raw.set_channel_types({"Oz": "eog"}, on_unit_change="ignore")
        if ch_names == ["other"]:
            ch_names = ["Oz"]
        annotate(long_raw, (5.5, 6.5), text=text, names=ch_names)
        scalp = check_scalp(long_raw)
        assert (~scalp.good).sum() == n_bad, text
    found = annotated_spans(epochs, epochs.ch_names)
    assert [len(spans) for spans in found] == [0] * len(epochs)


def test_epochs_with_bad_time(make_raw):
    raw = annotate(make_raw(40.0), (4.2, 9.5))
    epochs = mne.make_fixed_length_epochs(
        raw, 4.0, preload=True, reject_by_annotation=False, verbose=False
    )
    scalp = check_scalp(epochs)
    bad = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)]
    assert list(zip(*np.nonzero(~scalp.good), strict=True)) == bad
    assert all(e not in (1,) for e, *_ in scalp.good_stretches(10, 99))
    assert (2, 2, 2) in scalp.good_stretches(10, 99)


def test_little_good_time_warns(long_raw):
    with pytest.warns(RuntimeWarning, match="Only 6 s of the EEG are good"):
        check_scalp(annotate(long_raw, (6, 40)))
    with pytest.raises(ValueError, match="Only 6 s"):
        check_scalp(long_raw, on_mismatch="raise")
    with pytest.raises(ValueError, match="No second of the EEG is good"):
        check_scalp(annotate(long_raw, (0, 40)))


def test_the_end_alone_is_too_little(make_raw):
    """Half a second after a bad time; seen to fail without a stretch to measure."""
    raw = annotate(make_raw(3.5, sfreq=128.0), (0, 3))
    with pytest.raises(ValueError, match="No second of the EEG is good"):
        check_scalp(raw)


def test_nan_outside_of_bad_time_is_refused(long_raw):
    long_raw._data[2, 1300] = np.nan
    annotate(long_raw, (11, 12))
    with pytest.raises(ValueError, match=r"sample 1300.*annotations.append\(\)"):
        check_scalp(long_raw)


def test_remedies_for_epochs_can_be_followed(epochs):
    """Epochs may have no annotations; seen to be told to append to them."""
    epochs = mne.EpochsArray(epochs.get_data(copy=True), epochs.info, verbose=False)
    epochs._data[1, 2, 7] = np.nan
    with pytest.raises(ValueError, match=r"epoch 1, .*drop its epochs with inst.drop"):
        check_scalp(epochs)
    check_scalp(epochs.drop([1], verbose=False))
    epochs._data[0] *= 500
    with pytest.warns(RuntimeWarning, match=r"artifacts.*drop its epochs with inst.dr"):
        check_scalp(epochs)


@pytest.mark.parametrize("first, last", [(10.01, 19.99), (9.99, 20), (10, 20.01)])
def test_ends_of_missing_time_are_rounded(long_raw, first, last):
    """Seen to fail with the annotation's own samples."""
    long_raw._data[:, 1280:2560] = np.nan
    annotate(long_raw, (first, last))
    scalp = check_scalp(long_raw)
    assert np.flatnonzero(~scalp.good[0])[[0, -1]].tolist() in ([10, 19], [9, 19],
        [10, 20])  # fmt: skip
    assert np.isfinite(scalp.to_model(0, 40)).all()


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize("where", ["scalp", "ieeg", "both"])
def test_scores_of_good_time_alone(make_raw, where):
    """Seen to fail with scores of the lines in the place of bad time."""
    scalp, ieeg = make_raw(12.0), make_raw(12.0, names=["A1", "A2"], montage=False)
    ieeg.set_channel_types({"A1": "seeg", "A2": "seeg"}, on_unit_change="ignore")
    rr = {"A1": [-0.05, -0.02, -0.018], "A2": [0.025, -0.02, -0.018]}
    montage = mne.channels.make_dig_montage(rr, coord_frame="mni_tal")
    ieeg.set_montage(montage.add_mni_fiducials())
    whole = score_ieeg(scalp, ieeg, on_mismatch="ignore").values
    for name, raw in (("scalp", scalp), ("ieeg", ieeg)):
        if where in (name, "both"):
            annotate(raw, (5, 7.5))
            raw._data[:, 5 * 256 : 7 * 256 + 128] = np.nan
    score = score_ieeg(scalp, ieeg, on_mismatch="ignore").values
    assert np.isnan(score[:, 5:8]).all() and np.isnan(score).sum() == 6
    np.testing.assert_allclose(np.delete(score, [5, 6, 7], 1),
        np.delete(whole, [5, 6, 7], 1), atol=0.5)  # fmt: skip


def test_spans():
    assert joined([(5, 9), (-3, 2), (8, 12), (12, 14), (90, 99)], 20).tolist() == [
        [0, 2],
        [5, 14],
    ]
    data = np.arange(300.0).reshape(3, 100) % 7
    assert not len(still_spans(data, 100.0))
    data[:, 40:60] = data[:, [40]]
    data[1, 80:] = 0  # one channel alone
    data[:, 90:95] = data[:, [90]]  # shorter than a tenth of a second
    assert still_spans(data, 100.0).tolist() == [[40, 60]]
    assert {c: s.tolist() for c, s in stuck_spans(data, 15.0).items()} == {
        0: [[40, 60]],
        1: [[40, 60], [80, 100]],
        2: [[40, 60]],
    }
    assert outside([(0, 9), (20, 30)], [(3, 5), (8, 22), (40, 50)]) == [
        (0, 3),
        (5, 8),
        (22, 30),
    ]


def test_line_between_good_samples():
    data = np.array([[0.0, 1, 9, 9, 9, 5, 9]])
    gaps = Gaps(
        [np.array([[2, 5], [6, 7]])], 7, lambda start, stop, _: data[:, start:stop]
    )
    assert gaps.fill(data, 0).tolist() == [[0, 1, 2, 3, 4, 5, 5]]
    assert gaps.fill(data[:, 3:], 3).tolist() == [[3, 4, 5, 5]]
    assert gaps.good_blocks(2, 4).tolist() == [[True, False, False, False]]


# What is predicted there --------------------------------------------------------------


def _predict(raw, **options):
    return predict_ieeg(
        raw,
        contacts=[[-0.05, -0.02, -0.018], [0.025, -0.02, -0.018]],
        random_state=0,
        on_mismatch="ignore",
        **options,
    ).get_data()


@pytest.mark.usefixtures("small_model")
def test_prediction_of_bad_time(long_raw):
    """Whatever a bad time holds, and of good time not a bit more than its edge."""
    quiet, strong = (annotate(long_raw.copy(), (16, 28)) for _ in range(2))
    quiet._data[:, 16 * 128 : 28 * 128] = 0
    strong._data[:, 16 * 128 : 28 * 128] *= 300
    virtual = _predict(quiet)
    np.testing.assert_array_equal(virtual, _predict(strong))
    assert np.isfinite(virtual).all()
    missing = _predict(strong, bad_time="nan")
    bad = np.isnan(missing)
    assert bad[:, 16 * 128 : 28 * 128].all() and bad.sum() == 2 * 12 * 128
    np.testing.assert_array_equal(missing[~bad], virtual[~bad])
    with pytest.raises(ValueError, match="'bad_time' parameter"):
        _predict(strong, bad_time="zero")


@pytest.mark.slow
def test_bad_time_is_the_prior():
    """Draws spread as if nothing was explained.

    Seen to fail with a silent scalp, whose draws are those of a quiet moment: their
    spread was a tenth too small.
    """
    raw = annotate(load_demo(verbose=False).crop(0, 40, include_tmax=False), (10, 30))
    contacts = make_contacts("mtl-core").get_positions()["ch_pos"]
    contacts = np.array(list(contacts.values()))[::4]
    draws = sample_ieeg(raw, 20, contacts=contacts, random_state=0)
    table = observability(raw, contacts=contacts)
    spread = {
        name: np.sqrt(draws.sel(time=slice(first, last)).var("draw").mean("time"))
        / table[std]
        for name, first, last, std in [
            ("bad", 12, 28, "prior_std"),
            ("before", 0, 10, "posterior_std"),
            ("after", 30, 40, "posterior_std"),
        ]
    }
    good = (spread["before"] + spread["after"]) / 2
    assert abs(np.mean(spread["bad"] / good) - 1) < 0.05


@pytest.mark.usefixtures("small_model")
def test_bad_time_in_any_chunk(long_raw, monkeypatch):
    annotate(long_raw, (3.3, 3.9), (20, 27))
    whole = _predict(long_raw)
    monkeypatch.setattr("mne_neuroflow.virtual._CHUNK_SECONDS", 5.0)
    np.testing.assert_allclose(_predict(long_raw), whole, atol=1e-9)
