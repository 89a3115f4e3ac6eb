"""Recordings as they come: units, kinds of data, epochs of all kinds, lasting signs."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import mne
import numpy as np
import pytest

import mne_neuroflow
from mne_neuroflow import predict_ieeg
from mne_neuroflow.cli import main
from mne_neuroflow.contract import TRAINED
from mne_neuroflow.export import export_edf
from mne_neuroflow.ieeg import check_ieeg
from mne_neuroflow.predictor import Predictor
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.virtual import SAYS_SO, EpochsVirtual, provenance

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]


def predict(inst, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The recording has|The scalp's amplitude")
        return predict_ieeg(inst, contacts=POINTS, random_state=0, **options)


def warnings_for(inst, contacts=POINTS):
    """Texts of all warnings while it is predicted from."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predict_ieeg(inst, contacts=contacts, random_state=0)
    return [str(each.message) for each in caught]


def check_silently(inst):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_scalp(inst)


# Units of single channels -------------------------------------------------------------


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(1e3, "millivolts"), (1e6, "microvolts"), (1e9, "nanovolts"), (3e4, "broken")],
)
@pytest.mark.parametrize("n", [1, 2, 10, 20])
def test_single_channels_in_another_unit(raw, factor, unit, n):
    """Seen to fail when amplitudes are compared after the average reference."""
    raw._data[3 : 3 + n] *= factor
    with pytest.raises(ValueError, match=f"F3.*{unit}") as error:
        check_scalp(raw)
    text = str(error.value)
    assert f"{n} of 32 EEG channels" in text
    assert ("apply_function" in text) == (unit != "broken")
    assert "Fp1" not in text and "O2" not in text


@pytest.mark.parametrize("factor", [1e-3, 1e-6])
@pytest.mark.parametrize("n", [1, 5, 20])
def test_single_channels_that_are_too_small(raw, factor, n):
    """Seen to call some of them dead, use the others, and name the right ones."""
    raw._data[3 : 3 + n] *= factor
    with pytest.raises(ValueError, match=f"{n} of 32 EEG.*as small.*F3") as error:
        check_scalp(raw)
    message = str(error.value)
    assert f"x * {1 / factor:.0e}" in message and "O2" not in message


def test_dead_channels_are_no_unit(raw):
    """Rounding is no signal: neither noise nor rare steps of the last bit."""
    rng = np.random.default_rng(0)
    raw._data[3] = 1e-9 * rng.integers(0, 2, raw.n_times)
    raw._data[4] = 1e-9 * (np.arange(raw.n_times) // 50 % 2)
    raw._data[5] = 0.3
    with pytest.warns(RuntimeWarning, match="zero or constant: F3, Fz, F4"):
        check_scalp(raw)


def test_what_is_no_unit_of_all(make_raw):
    """Artifacts and other quantities are reported, not scaled."""
    raw = make_raw(20.0)
    raw._data[:, 1024:4600] *= 200
    with pytest.raises(ValueError, match="% of the seconds .*artifacts.*as BAD"):
        check_scalp(raw)
    csd = make_raw(4.0)
    csd._data *= 1e3
    with pytest.raises(ValueError, match="millivolts.*current source density"):
        check_scalp(csd)


def test_loose_electrodes_are_no_unit(raw):
    raw._data[3] *= 30
    with pytest.warns(RuntimeWarning, match="times as large as the others: F3"):
        check_scalp(raw)


def test_offsets_and_drifts_are_no_unit(raw):
    """Hundreds of millivolts on some channels of a direct-coupled amplifier."""
    raw._data[:5] += 0.2 + np.linspace(0, 0.01, raw.n_times)
    assert len(check_scalp(raw).ch_names) == 32


@pytest.mark.parametrize("dtype", [complex, object])
def test_samples_that_are_no_real_numbers(raw, dtype):
    """Seen to fail with an error of NumPy's casting rules."""
    raw._data = raw._data.astype(dtype)
    with pytest.raises(TypeError, match="real numbers, got .*apply_hilbert.*astype"):
        check_scalp(raw)


@pytest.mark.parametrize("dtype", [np.float32, int])
def test_samples_of_other_types(raw, dtype):
    """Integers of 0.1 uV as they come from a file are no volts."""
    whole = check_scalp(raw).read(0, 100)
    raw._data = (raw._data * (1e7 if dtype is int else 1)).astype(dtype)
    if dtype is int:
        with pytest.raises(ValueError, match="seems to be in microvolts"):
            check_scalp(raw)
        return
    raw._data.flags.writeable = False
    np.testing.assert_allclose(check_scalp(raw).read(0, 100), whole, atol=1e-10)


@pytest.mark.parametrize("lazy", [False, True])
def test_standardized_channels(raw, lazy, monkeypatch):
    """Each was divided by its own amplitude; seen to be advised to scale.

    Seen to fail as well with samples counted twice, where chunks overlap.
    """
    if lazy:
        monkeypatch.setattr("mne_neuroflow.scalp.check._CHUNK", 3)
    raw._data -= raw._data.mean(axis=1, keepdims=True)
    raw._data /= raw._data.std(axis=1, keepdims=True)
    with pytest.raises(ValueError, match="divided by its standard.*no scaling"):
        check_scalp(raw, on_mismatch="ignore")
    raw._data *= 1e-5
    with pytest.warns(RuntimeWarning, match="divided by its standard.*give the record"):
        check_scalp(raw)
    with pytest.raises(ValueError, match="divided by its standard deviation"):
        check_scalp(raw, on_mismatch="raise")
    raw._data *= np.linspace(0.99, 1.01, 32)[:, np.newaxis]
    check_silently(raw)


@pytest.mark.parametrize("low", [0, -1])
def test_channels_divided_by_their_range(raw, low):
    """Seen to be called millivolts, and predicted from without a word as such."""
    data = raw._data - raw._data.min(axis=1, keepdims=True)
    raw._data[:] = low + (1 - low) * data / data.max(axis=1, keepdims=True)
    with pytest.raises(ValueError, match="divided by its range.*no scaling restores"):
        check_scalp(raw, on_mismatch="ignore")
    raw._data *= 1e-4
    with pytest.warns(RuntimeWarning, match="divided by its range.*no scaling"):
        check_scalp(raw)


def test_one_range_of_an_amplifier(raw):
    """Which its channels reach together, and more than once."""
    raw._data[:, 700:705], raw._data[:, 710:715] = -1e-3, 1e-3
    check_silently(raw)


def test_channels_of_equal_samples(raw):
    """Seen to be predicted from, as if two electrodes had recorded them."""
    raw._data[[4, 9]] = raw._data[[20]]
    with pytest.warns(RuntimeWarning, match="same samples as another one: Fz, Cz, FC1"):
        check_scalp(raw)


def test_artifacts_in_some_seconds(raw):
    """Seen to be predicted from without a word."""
    raw._data[:, :192] *= 1e3  # what the filter spreads stays within
    with pytest.warns(RuntimeWarning, match="1 of 12 good seconds.* above 1 mV"):
        check_scalp(raw)


def test_extremes_of_short_recordings_are_not_clipped(make_raw):
    """Seen to warn of one second in which two samples in 160 are the largest."""
    raw = make_raw(1.0, sfreq=160.0)
    raw._data[:, :2] = raw._data.max(axis=1, keepdims=True) + 1e-7
    check_silently(raw)


def test_clipped_channels(raw):
    """At the end of an amplifier's range; coarse steps are no end of a range."""
    quiet = raw.copy()
    quiet._data[:] = 5e-6 * np.round(quiet._data / 5e-6)
    check_silently(quiet)
    raw._data[3] = np.clip(raw._data[3], -1, np.percentile(raw._data[3], 97))
    raw._data[9] = np.clip(raw._data[9], np.percentile(raw._data[9], 4), 1)
    with pytest.warns(RuntimeWarning, match=r"clips them: F3 \(3 %\), Cz \(4 %\)\. M"):
        check_scalp(raw)


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("low", "high", "found"), [(4, None, "0.5 and 2.5"), (None, 15, "22 and 32")]
)
@pytest.mark.slow
def test_filters_that_info_does_not_have(make_raw, low, high, found):
    """Seen to be predicted from, as if the rest were brain."""
    raw = make_raw(20.0)
    honest = raw.copy().filter(low, high, verbose=False)
    raw._data[:] = honest.get_data()
    with pytest.warns(
        RuntimeWarning, match=f"hardly any power in bands between {found}"
    ):
        predict(raw)
    with pytest.raises(ValueError, match="hardly any power"):
        predict(raw, on_mismatch="raise")
    with pytest.warns(RuntimeWarning, match="-passed at") as caught:
        predict(honest)
    assert not any("hardly any" in str(each.message) for each in caught)


# Data of another kind -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("ch_type", "match"),
    [
        ("csd", "'csd'.*before mne.preprocessing.compute_current_source_density"),
        ("seeg", "'seeg'.*contacts=ieeg.info"),
        ("ecog", "'ecog'.*contacts=ieeg.info"),
        ("mag", "'mag'.*no MEG"),
        ("misc", "'misc'.*set_channel_types"),
    ],
)
def test_other_types(ch_type, match):
    info = mne.create_info([f"X{k}" for k in range(9)], 200.0, ch_type)
    raw = mne.io.RawArray(np.zeros((9, 900)), info, verbose=False)
    with pytest.raises(ValueError, match=match):
        check_scalp(raw)


def test_quantity(raw):
    for ch in raw.info["chs"][:2]:
        ch["unit"] = 202  # volts per metre
    with pytest.raises(ValueError, match="not in volts: Fp1, Fp2"):
        check_scalp(raw)


def test_current_source_density_by_any_name(raw):
    """MNE notes it beside the channels, whose type and unit somebody has changed."""
    csd = mne.preprocessing.compute_current_source_density(raw)
    with pytest.raises(ValueError, match="'csd'.*before mne.preprocessing"):
        check_scalp(csd)
    for ch, before in zip(csd.info["chs"], raw.info["chs"], strict=True):
        ch.update(unit=before["unit"], coil_type=before["coil_type"])
    assert csd.get_channel_types(unique=True) == ["eeg"]
    with pytest.raises(ValueError, match="hold a current source density.*before mne"):
        check_scalp(csd)


def test_no_unit_helps(raw):
    """Seen to be advised, and then accepted, as EEG divided by a million."""
    raw._data *= 1e-8
    with pytest.raises(ValueError, match="no scaling.*tesla.*set_channel_types"):
        check_scalp(raw)


def without(raw, n, seed=0):
    """Take components out of a recording, as after an ICA."""
    data = raw.get_data() - raw.get_data().mean(axis=0)
    power, topographies = np.linalg.eigh(data @ data.T)
    scale = np.sqrt(power[1:])  # the average reference is empty
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.standard_normal((len(scale),) * 2))[0]
    mixing = topographies[:, 1:] * scale @ turn
    sources = turn.T @ (topographies[:, 1:] / scale).T @ data
    raw._data[:] = mixing[:, n:] @ sources[n:]
    return raw


def interpolated(raw, n):
    raw.info["bads"] = raw.ch_names[1 : 2 * n : 2]
    return raw.interpolate_bads(reset_bads=True, verbose=False)


def fewer(raw, n):
    """Round to the 0.1 uV of many amplifiers what is left of it."""
    without(raw, n)._data.round(7, out=raw._data)
    return raw


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize("change", [without, interpolated, fewer])
def test_signals_that_are_sums_of_others(raw, change):
    """Seen to fail with a rank of what the channels' amplitude is clipped to."""
    raw._data[5, 700:720] += 1e-3  # an artifact that is clipped
    some = change(raw.copy(), 10)
    with mne.utils.catch_logging(verbose=True) as log:
        predict(some, verbose=True)
    assert "holds 21 independent signals, where its electrodes could record 31" in (
        log.getvalue()
    )
    if change is interpolated:
        return
    most = change(raw.copy(), 20)
    with pytest.warns(RuntimeWarning, match="holds 11 independent .* record 31.*ICA"):
        predict(most)
    with pytest.raises(ValueError, match="holds 11 independent"):
        predict(most, on_mismatch="raise")
    predict(most, on_mismatch="ignore")


@pytest.mark.usefixtures("small_model")
@pytest.mark.slow
def test_signals_that_are_independent(raw, make_raw):
    """Projectors and short recordings of many channels allow fewer; that is known."""
    noise = mne.compute_proj_raw(raw, n_eeg=5, verbose=False)
    names = mne.channels.make_standard_montage("GSN-HydroCel-128").ch_names
    many = make_raw(1.0, names=names, montage=False).set_montage("GSN-HydroCel-128")
    for inst in (raw, raw.copy().add_proj(noise, verbose=False).apply_proj(), many):
        with mne.utils.catch_logging(verbose=True) as log:
            predict(inst, verbose=True)
        assert "independent" not in log.getvalue()


# Ranges of training -------------------------------------------------------------------


def test_ranges_are_the_same_everywhere():
    """README, docstring and check have one table; seen to fail with 129 in it."""
    low, high = TRAINED["electrodes"]
    for text in (predict_ieeg.__doc__, Path("README.rst").read_text("utf-8")):
        assert f"{low} to {high} electrodes" in " ".join(text.split())
    low, high = TRAINED["gain"]
    far = 1e3 * TRAINED["from_temporal_lobes"][1]
    warns = " ".join(predict_ieeg.__doc__.split())
    assert f"{low:g} to {high:g} times" in warns and f"within {far:g} mm" in warns
    assert TRAINED["independent"][0] == 0.5
    assert "at least half of the signals are independent" in warns
    assert len(TRAINED) == 4  # one more belongs into this test and into the next


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("scale", "warns"), [(0.1, True), (0.5, False), (1.5, False), (8.0, True)]
)
def test_amplitudes_on_both_sides(raw, scale, warns):
    """Seen to fail with the lower bound left out."""
    gain = Predictor(raw, contacts=POINTS, random_state=0).gain
    raw._data *= scale / gain
    said = warnings_for(raw)
    assert any("lie between 0.2 and 3 times" in text for text in said) == warns
    if warns:
        with pytest.raises(ValueError, match=f"{scale:g} times what the model"):
            predict_ieeg(raw, contacts=POINTS, random_state=0, on_mismatch="raise")


@pytest.mark.usefixtures("small_model")
def test_distance_from_what_was_trained(raw):
    for contacts, warns in (([POINTS[0]], False), ([[-0.03, 0.04, 0.03]], True)):
        said = warnings_for(raw, contacts)
        assert any("more than 20 mm from the temporal" in one for one in said) == warns
    with pytest.raises(ValueError, match="1 of 1 contacts are more than 20 mm"):
        predict_ieeg(raw, contacts=contacts, random_state=0, on_mismatch="raise")


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("n", "warns"), [(5, True), (8, False), (128, False), (129, True)]
)
@pytest.mark.slow
def test_number_of_electrodes(make_raw, n, warns):
    names = mne.channels.make_standard_montage("GSN-HydroCel-256").ch_names
    names = [*names[5:250:2], *names[:n]]
    raw = make_raw(2.0, names=list(dict.fromkeys(names))[:n], montage=False)
    raw.set_montage("GSN-HydroCel-256")
    said = warnings_for(raw)
    assert any("trained on 8 to 128" in text for text in said) == warns
    if warns:
        with pytest.raises(ValueError, match=f"has {n} usable"):
            predict_ieeg(raw, contacts=POINTS, random_state=0, on_mismatch="raise")


# Epochs of all kinds ------------------------------------------------------------------


def _recoded(epochs):
    epochs.events[:, 2] = 99
    return epochs


def _shifted(epochs):
    return epochs.shift_time(0.3, relative=True)


EPOCHS = {
    "drawn with replacement": lambda e: e[[0, 0, 3]],
    "out of order": lambda e: e[[3, 0, 2]],
    "event codes rewritten": _recoded,
    "shifted": _shifted,
    "after the event": lambda e: e.copy().crop(0.25, 1.5),
    "concatenated": lambda e: mne.concatenate_epochs([e, e], verbose="error"),
    "one": lambda e: e[2],
    "decimated": lambda e: e.decimate(2, verbose="error"),
    "array": lambda e: mne.EpochsArray(
        e.get_data(copy=True), e.info, tmin=-0.5, verbose=False
    ),
    "no metadata": lambda e: e.reset_drop_log_selection() or e,
}


@pytest.mark.usefixtures("small_model")
@pytest.mark.filterwarnings("error:.*(chronolog|unique|event)")
@pytest.mark.parametrize("kind", EPOCHS)
def test_epochs_of_all_kinds(epochs, kind):
    """What distinguishes epochs is kept; seen to fail with `events=inst.events`."""
    inst = EPOCHS[kind](epochs)
    virtual = predict(inst)
    np.testing.assert_array_equal(virtual.events, inst.events)
    np.testing.assert_array_equal(virtual.times, inst.times)
    np.testing.assert_array_equal(virtual.selection, inst.selection)
    assert virtual.event_id == inst.event_id
    assert virtual.drop_log == inst.drop_log
    if inst.metadata is not None:
        assert virtual.metadata.equals(inst.metadata)
    assert virtual.get_data(copy=False).shape == (len(inst), 2, len(inst.times))
    assert np.isfinite(virtual.get_data(copy=False)).all()


@pytest.mark.usefixtures("small_model")
def test_decimated_too_far(epochs):
    low = epochs.copy().decimate(4, verbose="error")
    with pytest.raises(ValueError, match="got 64 Hz.*decimated from 256 Hz.*'decim'"):
        predict(low)


# The sign of a prediction -------------------------------------------------------------


@pytest.mark.usefixtures("small_model")
def test_the_sign_lasts(raw, tmp_path):
    """Seen to fail with the description alone."""
    raw.crop(0, 3)
    raw.set_meas_date(1e9)
    virtual = predict(raw).load_data()
    text = provenance(virtual.info)
    assert SAYS_SO in text and "seed 0" in text and provenance(raw.info) == ""
    saved = tmp_path / "a_raw.fif"
    hidden = virtual.copy().anonymize()
    assert SAYS_SO not in hidden.info["description"]
    hidden.save(saved, verbose=False)
    both = raw.copy().load_data().add_channels([virtual])
    both.save(tmp_path / "b_raw.fif", verbose=False)
    kept = {
        "anonymized": hidden,
        "without a date": virtual.copy().anonymize(daysback=None),
        "saved": mne.io.read_raw(saved, verbose=False),
        "beside the scalp": mne.io.read_raw(tmp_path / "b_raw.fif", verbose=False),
        "anonymized beside the scalp": both.copy().anonymize(),
        "picked": both.copy().anonymize().pick("seeg"),
        "one after the other": mne.concatenate_raws([hidden.copy(), hidden.copy()]),
        "resampled": hidden.copy().resample(128, verbose=False),
        "cut into epochs": mne.make_fixed_length_epochs(hidden, 1.0, verbose=False),
    }
    for what, each in kept.items():
        assert SAYS_SO in provenance(each.info), what
    for what in ("anonymized", "saved", "picked"):
        pytest.importorskip("edfio")
        file = export_edf(kept[what], tmp_path / f"{what}.edf")
        back = mne.io.read_raw_edf(file, verbose=False)
        assert SAYS_SO in back.annotations.description[0]
    # MNE's own functions are not surprised by the record.
    mne.compute_rank(both, rank="info", verbose=False)
    assert repr(both.info)


@pytest.mark.usefixtures("small_model")
@pytest.mark.parametrize(
    ("ending", "writer"),
    [("edf", "edfio"), ("bdf", "edfio"), ("vhdr", "pybv"), ("set", "eeglabio")],
)
@pytest.mark.parametrize("preload", [True, False])
def test_the_sign_in_files_of_others(raw, tmp_path, ending, writer, preload):
    """Seen to fail with a device whose name has blanks, and without the annotation."""
    pytest.importorskip(writer)
    if not preload:
        raw.save(tmp_path / "scalp_raw.fif", verbose=False)
        raw = mne.io.read_raw(tmp_path / "scalp_raw.fif", verbose=False)
    raw.set_annotations(mne.Annotations([2.0], [0.5], ["go"]))
    virtual = predict(raw.crop(1, 4))
    n = len(virtual.annotations)
    file = tmp_path / f"virtual.{ending}"
    virtual.export(file, verbose="error")
    back = mne.io.read_raw(file, verbose="error")
    assert "not recorded" in provenance(back) and len(virtual.annotations) == n == 1
    assert provenance(raw) == ""
    onsets = dict(
        zip(back.annotations.description, back.annotations.onset, strict=True)
    )
    go = next(onset for text, onset in onsets.items() if text.endswith("go"))
    assert go == pytest.approx(1.0, abs=0.01)
    back.set_channel_types(
        dict.fromkeys(back.ch_names, "seeg"), on_unit_change="ignore"
    )
    pytest.importorskip("edfio")
    export_edf(back, tmp_path / "again.edf")
    if ending == "edf":  # also where another function writes it
        mne.export.export_raw(
            tmp_path / "mne.edf", virtual.load_data(), verbose="error"
        )
        import edfio

        code = edfio.read_edf(tmp_path / "mne.edf").recording.equipment_code
        assert SAYS_SO in code.replace("_", " ")


@pytest.mark.usefixtures("small_model")
def test_epochs_keep_the_sign(epochs, tmp_path):
    virtual = predict(epochs).anonymize()
    virtual.save(tmp_path / "v-epo.fif", verbose=False)
    assert SAYS_SO in provenance(mne.read_epochs(tmp_path / "v-epo.fif").info)
    assert SAYS_SO in provenance(virtual.average(picks="seeg").info)
    assert type(virtual[1:].copy()) is EpochsVirtual


@pytest.mark.usefixtures("small_model")
def test_epochs_in_files_of_eeglab(epochs, tmp_path):
    """Seen to fail with MNE-Python's own export."""
    pytest.importorskip("eeglabio")
    virtual = predict(epochs)
    virtual.export(tmp_path / "v.set", verbose="error")
    assert virtual.event_id == epochs.event_id
    back = mne.read_epochs_eeglab(tmp_path / "v.set", verbose="error")
    assert "not recorded" in provenance(back[2:])
    assert len(back["go"]) == len(epochs)
    np.testing.assert_allclose(back.get_data(), virtual.get_data(), atol=1e-10)
    epochs.export(tmp_path / "s.set", verbose="error")
    assert not provenance(mne.read_epochs_eeglab(tmp_path / "s.set", verbose="error"))


@pytest.mark.usefixtures("small_model")
@pytest.mark.usefixtures("small_model")
def test_virtual_recordings_are_no_input(raw, make_raw):
    """Seen to be predicted from once they were called EEG, also without their name."""
    names = ["C3", "C4", "O1", "O2"]
    rr = np.vstack([POINTS, 1.2 * np.array(POINTS)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        virtual = predict_ieeg(raw, contacts=rr, random_state=0)
    both = raw.copy().add_channels([virtual.copy()], force_update_info=True)
    assert check_scalp(both).ch_names == raw.ch_names
    other = virtual.copy().add_channels([raw.copy()], force_update_info=True)
    assert check_scalp(other).ch_names == raw.ch_names
    with pytest.warns(RuntimeWarning, match="ieeg was predicted, not recorded"):
        mne_neuroflow.score_ieeg(raw, virtual)
    with pytest.raises(ValueError, match="give recorded contacts"):
        check_ieeg(virtual)
    new_names = dict(zip(virtual.ch_names, names, strict=True))
    called = virtual.copy().rename_channels(new_names)
    called.set_channel_types(dict.fromkeys(names, "eeg"), on_unit_change="ignore")
    for each in (called, called.copy().anonymize(verbose=False)):
        with pytest.raises(ValueError, match="EEG was predicted.*recording itself"):
            check_scalp(each.set_montage(None))


@pytest.mark.parametrize("ending", ["vhdr", "set"])
def test_the_sign_of_a_recording_that_was_read(raw, tmp_path, ending):
    """The line in "Will it read my recording?" keeps it; seen to fail without."""
    pytest.importorskip("pybv" if ending == "vhdr" else "eeglabio")
    predict(raw.crop(0, 3)).save(tmp_path / "v_raw.fif", verbose=False)
    virtual = mne.io.read_raw(tmp_path / "v_raw.fif", verbose=False)
    virtual.annotations.append(virtual.first_time, 0, "predicted; not recorded")
    virtual.export(tmp_path / f"v.{ending}", verbose="error")
    back = mne.io.read_raw(tmp_path / f"v.{ending}", verbose="error")
    assert "not recorded" in provenance(back)


# Consoles and pipes -------------------------------------------------------------------

RUN = "import sys; from mne_neuroflow.cli import main; sys.exit(main())"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_console_that_lacks_letters(tmp_path, encoding):
    env = {**os.environ, "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-c", RUN, "export", "no\u982d_raw.fif", "x.edf"]
    done = subprocess.run(command, capture_output=True, env=env, cwd=tmp_path)
    assert done.returncode == 2
    text = done.stderr.decode(encoding)
    assert "does not exist" in text and "Traceback" not in text
    assert ("\u982d" if encoding == "utf-8" else "\\u982d") in text


def test_closed_pipe(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "sys-info"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        process.stdout.close()
        text = process.stderr.read().decode()
        assert process.wait() == 0, text
    assert not re.search("Traceback|BrokenPipe", text)
    assert mne_neuroflow.__version__


@pytest.mark.usefixtures("small_model")
def test_epochs_of_eeglab_on_the_command_line(epochs, tmp_path, capsys):
    pytest.importorskip("eeglabio")
    epochs.export(tmp_path / "scalp.set", verbose="error")
    command = ["--quiet", "predict", str(tmp_path / "scalp.set"), "--seed", "0"]
    command += ["--contacts", "mtl-core"]
    assert main([*command, str(tmp_path / "v_raw.fif")]) == 2
    assert "must end with -epo.fif" in capsys.readouterr().err
    assert main([*command, str(tmp_path / "v-epo.fif")]) == 0, capsys.readouterr().err
    virtual = mne.read_epochs(tmp_path / "v-epo.fif", verbose=False)
    np.testing.assert_array_equal(len(virtual), len(epochs))
