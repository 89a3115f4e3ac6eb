"""The virtual side: the result is an ordinary MNE object in every way."""

import mne
import numpy as np
import pytest

import mne_neuroflow.virtual as virtual_module
from mne_neuroflow._compat import Description
from mne_neuroflow.head.contacts import (
    contact_positions,
    get_head_to_mri,
    make_contacts,
)
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.virtual import (
    RawVirtual,
    describe,
    make_virtual_epochs,
    make_virtual_info,
)

DESCRIPTION = describe("mtl-v2", "0123456789abcdef" * 4, 7, "sample")
N_CONTACTS = 30


@pytest.fixture(scope="module")
def montage():
    return make_contacts("mtl-core")


class Compute:
    """Known samples, and a record of what was asked for."""

    def __init__(self):
        self.calls = []

    def __call__(self, start, stop):
        self.calls.append((start, stop))
        scale = 1e-6 * np.arange(1, N_CONTACTS + 1)[:, np.newaxis]
        return scale * np.cos(0.1 * np.arange(start, stop))


def truth(start, stop):
    return Compute()(start, stop)


@pytest.fixture
def virtual(lazy_raw, montage):
    info = make_virtual_info(lazy_raw, montage, DESCRIPTION)
    return RawVirtual(lazy_raw, info, Compute(), preload=False)


def test_description_says_what_it_is():
    assert "predicted, not recorded" in DESCRIPTION
    for part in ("mne_neuroflow 0.", "mtl-v2", "0123456789ab", "seed 7", "sample"):
        assert part in DESCRIPTION
    assert "seed" not in describe("m", "0" * 64, None, "mean")


def test_info(lazy_raw, montage):
    lazy_raw.info["line_freq"] = 50.0
    lazy_raw.info["subject_info"] = dict(his_id="x")
    lazy_raw.info["bads"] = lazy_raw.ch_names[:2]
    lazy_raw.set_eeg_reference(projection=True, verbose=False)
    before = lazy_raw.info.copy()
    info = make_virtual_info(lazy_raw, montage, DESCRIPTION)
    assert info["ch_names"] == montage.ch_names
    assert set(info.get_channel_types()) == {"seeg"}
    for key in ("meas_date", "line_freq", "subject_info", "sfreq"):
        assert info[key] == before[key]
    assert info["bads"] == [] and info["projs"] == []
    assert info["description"] == DESCRIPTION
    assert mne.utils.object_diff(lazy_raw.info, before) == ""


def test_positions_survive(virtual, montage, tmp_path):
    """Within 0.0001 mm. Seen to catch: a montage without the MNI fiducials."""
    fname = tmp_path / "virtual_raw.fif"
    virtual.save(fname, verbose=False)
    for raw in (virtual, mne.io.read_raw_fif(fname, verbose=False)):
        names, rr = contact_positions(make_contacts(raw.info))
        assert names == montage.ch_names
        assert np.abs(rr - contact_positions(montage)[1]).max() < 1e-7
        assert raw.get_montage().get_positions()["coord_frame"] == "head"


def test_positions_of_a_recording_without_any(make_raw, montage):
    raw = make_raw(2.0, montage=False)
    info = make_virtual_info(raw, montage, DESCRIPTION)
    rr = contact_positions(make_contacts(info))[1]
    assert np.abs(rr - contact_positions(montage)[1]).max() < 1e-7
    assert len(info["dig"]) == 3 + N_CONTACTS


def test_positions_share_the_head_frame_of_the_electrodes(raw, montage):
    """Seen to catch: fsaverage's head frame whatever ``trans`` says."""
    shift = np.eye(4)
    shift[:3, 3] = [0.001, 0.002, 0.003]
    trans = mne.transforms.Transform("head", "mri", get_head_to_mri() @ shift)
    info = make_virtual_info(raw, montage, DESCRIPTION, trans=trans)
    rr = contact_positions(make_contacts(info, trans=trans))[1]
    assert np.abs(rr - contact_positions(montage)[1]).max() < 1e-7
    rr = contact_positions(make_contacts(info))[1]
    assert np.abs(rr - contact_positions(montage)[1]).max() > 1e-3


def test_time_axis_annotations_and_events(lazy_raw, virtual):
    assert virtual.first_samp == lazy_raw.first_samp > 0
    assert virtual.n_times == lazy_raw.n_times
    np.testing.assert_array_equal(virtual.times, lazy_raw.times)
    assert virtual.annotations == lazy_raw.annotations and len(virtual.annotations)
    want, _ = mne.events_from_annotations(lazy_raw, verbose=False)
    have, _ = mne.events_from_annotations(virtual, verbose=False)
    np.testing.assert_array_equal(have, want)


def test_annotations_without_a_date(raw, montage):
    """Seen to catch: onsets shifted by the first sample."""
    raw.set_annotations(mne.Annotations([2.0, 6.0], 0.5, ["a", "b"]))
    raw.crop(1.5, 10.0)
    info = make_virtual_info(raw, montage, DESCRIPTION)
    virtual = RawVirtual(raw, info, Compute(), preload=True)
    np.testing.assert_allclose(virtual.annotations.onset, raw.annotations.onset)
    assert virtual.preload


def test_annotations_of_single_scalp_channels(raw, montage, tmp_path):
    raw.set_annotations(mne.Annotations([2.0], 0.5, "BAD", ch_names=[["Fp1"]]))
    info = make_virtual_info(raw, montage, DESCRIPTION)
    virtual = RawVirtual(raw, info, Compute(), preload=False)
    virtual.save(tmp_path / "v_raw.fif", verbose=False)
    read = mne.io.read_raw_fif(tmp_path / "v_raw.fif", verbose=False)
    # MNE drops them too when the channel is dropped
    assert len(virtual.annotations) == len(read.annotations) == 0


def test_nothing_is_computed_before_it_is_read(virtual):
    compute = virtual._raw_extras[0]["source"]._compute
    virtual.copy().crop(1, 5).pick(["vAL1"])
    assert compute.calls == []
    virtual.get_data(start=0, stop=10)
    assert len(compute.calls) == 1
    assert all(isinstance(sample, int) for sample in compute.calls[0])


@pytest.mark.parametrize("chunk", [60.0, 0.37])
def test_reading(virtual, monkeypatch, chunk):
    """Seen to catch: crops counted from the first sample of the file."""
    source = virtual._raw_extras[0]["source"]
    source._length = int(chunk * virtual.info["sfreq"])
    n = virtual.n_times
    np.testing.assert_allclose(virtual.get_data(), truth(0, n), atol=1e-20)
    part = virtual.copy().crop(2.0, 5.0)
    np.testing.assert_allclose(part.get_data(), truth(512, 1281), atol=1e-20)
    picked = part.copy().pick(["vAL2", "vAL1"]).get_data(start=7, stop=300)
    np.testing.assert_allclose(picked, truth(519, 812)[[1, 0]], atol=1e-20)
    again = part.copy().crop(1.0, 2.0)
    np.testing.assert_allclose(again.get_data(), truth(768, 1025), atol=1e-20)
    loaded = part.copy().load_data()
    np.testing.assert_allclose(loaded.get_data(), truth(512, 1281), atol=1e-20)
    reset = virtual.copy().crop(2.0, 5.0, reset_first_samp=True)
    np.testing.assert_allclose(reset.get_data(), truth(512, 1281), atol=1e-20)
    assert reset.first_samp == 0
    joined = mne.concatenate_raws([part.copy(), virtual.copy()], verbose=False)
    np.testing.assert_allclose(
        joined.get_data(), np.hstack([truth(512, 1281), truth(0, n)]), atol=1e-20
    )
    projected = virtual.copy().add_proj(
        mne.Projection(
            active=False,
            data=dict(
                col_names=["vAL1", "vAL2"],
                row_names=None,
                data=np.array([[0.6, 0.8]]),
                nrow=1,
                ncol=2,
            ),
            desc="x",
            kind=1,
        ),
        verbose=False,
    )
    data = projected.apply_proj(verbose=False).get_data(start=5, stop=600)
    assert np.abs(0.6 * data[0] + 0.8 * data[1]).max() < 1e-20
    np.testing.assert_allclose(data[2:], truth(5, 600)[2:], atol=1e-20)


def test_small_buffers_compute_every_chunk_once(virtual, tmp_path):
    source = virtual._raw_extras[0]["source"]
    source._length = 1000
    virtual.copy().save(tmp_path / "v_raw.fif", buffer_size_sec=1.0, verbose=False)
    starts = [start for start, _ in source._compute.calls]
    assert starts == sorted(set(starts))
    assert max(stop - start for start, stop in source._compute.calls) <= 1000


def test_loading_lets_go_of_the_computation(virtual):
    copy = virtual.copy()
    virtual.load_data()
    assert "source" not in virtual._raw_extras[0]
    # but not for the copies
    np.testing.assert_allclose(copy.get_data(stop=9), truth(0, 9), atol=1e-20)
    virtual.copy().filter(1.0, 40.0, verbose=False)


def test_saved_and_read_back(virtual, tmp_path):
    fname = tmp_path / "virtual_raw.fif"
    virtual.save(fname, fmt="double", verbose=False)
    read = mne.io.read_raw_fif(fname, verbose=False)
    assert read.ch_names == virtual.ch_names
    assert set(read.get_channel_types()) == {"seeg"}
    assert read.info["description"] == DESCRIPTION
    assert read.first_samp == virtual.first_samp
    assert read.annotations == virtual.annotations
    np.testing.assert_allclose(
        read.get_data(), truth(0, virtual.n_times), rtol=1e-12, atol=1e-20
    )


@pytest.mark.parametrize("link", [False, True])
def test_saving_does_not_destroy_the_scalp_recording(
    lazy_raw, montage, tmp_path, monkeypatch, link
):
    """Refused while chunks are still read from the file, under any of its names.

    Seen to fail without the check (the file is emptied before the first chunk is
    read), and for a link with a check that compares names.
    """
    scalp = target = lazy_raw.filenames[0]
    if link:
        target = tmp_path / "link_raw.fif"
        target.hardlink_to(scalp)
    before = scalp.read_bytes()

    def compute(start, stop):
        return lazy_raw.get_data(range(N_CONTACTS), start, stop)

    monkeypatch.setattr(virtual_module, "_CHUNK_SECONDS", 2.0)
    info = make_virtual_info(lazy_raw, montage, DESCRIPTION)
    virtual = RawVirtual(lazy_raw, info, compute, preload=False)
    for lazy in (virtual, virtual.copy().crop(1, 9)):
        with pytest.raises(
            ValueError, match=r"preloaded.*load_data\(\) or another name"
        ):
            lazy.save(str(target), overwrite=True, verbose=False)
    assert scalp.read_bytes() == before
    virtual.save(tmp_path / "other_raw.fif", verbose=False)
    wanted = virtual.load_data().get_data()
    virtual.save(scalp, fmt="double", overwrite=True, verbose=False)
    read = mne.io.read_raw_fif(scalp, verbose=False)
    np.testing.assert_array_equal(read.get_data(), wanted)


def test_everyday_methods(virtual, recwarn):
    virtual.compute_psd(fmax=60, verbose=False).plot(show=False)
    with mne.viz.use_browser_backend("matplotlib"):
        virtual.plot(show=False, verbose=False)
    epochs = mne.make_fixed_length_epochs(virtual, 2.0, preload=True, verbose=False)
    assert epochs.get_data().shape == (4, N_CONTACTS, 512)  # one lies in BAD_x
    data, times = virtual["vAL1", 100:200]
    np.testing.assert_allclose(data, truth(100, 200)[:1], atol=1e-20)
    ours = [w for w in recwarn if "mne_neuroflow" in str(w.filename)]
    assert not ours


@pytest.mark.parametrize("described", [None, "a scalp recording"])
def test_added_to_the_scalp_recording(raw, montage, described):
    """Seen to catch: a plain str as description, which fails for one text in five.

    And an Info that says 0.5-50 Hz where that of the scalp says 0-128 Hz.
    """
    raw.info["description"] = described
    raw.set_eeg_reference(projection=True, verbose=False)
    for k in range(40):  # the hash, thus MNE's luck, changes with the text
        info = make_virtual_info(raw, montage, f"predicted {k}")
        virtual = RawVirtual(raw, info, Compute(), preload=True)
        both = raw.copy().add_channels([virtual])
    assert both.ch_names == raw.ch_names + montage.ch_names
    assert both.get_channel_types().count("seeg") == N_CONTACTS


def test_description_is_an_ordinary_string():
    text = Description("predicted")
    assert text == "predicted" and "predicted" == text and text != "recorded"
    assert isinstance(text, str) and text is not None
    assert len({text, None}) == 1 and len({None, text}) == 1


def test_contacts_named_like_scalp_channels(raw, epochs, montage):
    """The patient's own contacts may be called C3."""
    rr = contact_positions(montage)[1][:3]
    own = mne.channels.make_dig_montage(
        dict(zip(["C3", "Fp1", "O2"], rr, strict=True)), coord_frame="mni_tal"
    )
    own = make_contacts(own)
    info = make_virtual_info(raw, own, DESCRIPTION)
    assert info["ch_names"] == ["C3", "Fp1", "O2"]
    data = np.zeros((len(epochs), 3, len(epochs.times)))
    assert make_virtual_epochs(epochs, data, own, DESCRIPTION).ch_names == own.ch_names


@pytest.mark.parametrize("kind", ["preloaded", "lazy", "projected", "array"])
def test_epochs_keep_everything_but_the_signal(epochs, lazy_raw, montage, kind):
    if kind == "lazy":
        events = mne.make_fixed_length_events(lazy_raw, duration=2.0)
        reject = dict(eeg=1.0)
        epochs = mne.Epochs(lazy_raw, events, tmax=1.0, reject=reject, verbose=False)
        epochs.set_annotations(None)
    elif kind == "projected":
        epochs.set_eeg_reference(projection=True, verbose=False).apply_proj()
    elif kind == "array":
        epochs = mne.EpochsArray(epochs.get_data(), epochs.info, verbose=False)
    before = epochs.copy()
    inst = check_scalp(epochs).inst
    rng = np.random.default_rng(0)
    data = 1e-5 * rng.standard_normal((len(inst), N_CONTACTS, len(inst.times)))
    virtual = make_virtual_epochs(inst, data, montage, DESCRIPTION)
    assert isinstance(virtual, mne.BaseEpochs)
    np.testing.assert_array_equal(virtual.get_data(), data)
    np.testing.assert_array_equal(virtual.events, inst.events)
    np.testing.assert_array_equal(virtual.times, inst.times)
    np.testing.assert_array_equal(virtual.selection, inst.selection)
    assert virtual.event_id == inst.event_id
    assert virtual.drop_log == inst.drop_log
    assert virtual.baseline == inst.baseline
    assert virtual.annotations == inst.annotations
    if kind == "preloaded":
        assert virtual.metadata.equals(inst.metadata)
        assert virtual["trial == 3"].get_data().shape[0] == 1
    assert virtual.info["bads"] == [] == virtual.info["projs"]
    assert virtual.info["description"] == DESCRIPTION
    assert mne.utils.object_diff(epochs.info, before.info) == ""
    rr = contact_positions(make_contacts(virtual.info))[1]
    assert np.abs(rr - contact_positions(montage)[1]).max() < 1e-7
    virtual.copy().drop_bad(verbose=False)
    assert virtual.average(picks="seeg").data.shape == data.shape[1:]


def test_epochs_saved_and_read_back(epochs, montage, tmp_path):
    data = np.zeros((len(epochs), N_CONTACTS, len(epochs.times)))
    virtual = make_virtual_epochs(epochs, data, montage, DESCRIPTION)
    virtual.metadata = None  # MNE's own reading of metadata warns under pandas 3.1
    virtual.save(tmp_path / "virtual-epo.fif", verbose=False)
    read = mne.read_epochs(tmp_path / "virtual-epo.fif", verbose=False)
    assert read.ch_names == montage.ch_names
    assert set(read.get_channel_types()) == {"seeg"}
    assert read.info["description"] == DESCRIPTION
    np.testing.assert_array_equal(read.events, epochs.events)


def test_epochs_whose_event_types_were_all_dropped(epochs, montage):
    epochs.event_id = dict(go=3)
    part = mne.EpochsArray(
        epochs.get_data(),
        epochs.info,
        events=epochs.events,
        event_id=dict(go=3, gone=9),
        on_missing="ignore",
        verbose=False,
    )
    data = np.zeros((len(part), N_CONTACTS, len(part.times)))
    virtual = make_virtual_epochs(part, data, montage, DESCRIPTION)
    assert virtual.event_id == part.event_id


def test_saving_what_is_computed_shows_progress(
    lazy_raw, montage, tmp_path, monkeypatch
):
    """Seen to fail without the update in ``_Source._chunk``."""
    shown = []

    class Bar:
        def __init__(self, total, mesg):
            shown.append(("of", total))

        def update(self, done):
            shown.append(done)

    monkeypatch.setattr(virtual_module, "ProgressBar", Bar)
    monkeypatch.setattr(virtual_module, "_CHUNK_SECONDS", 2.0)
    info = make_virtual_info(lazy_raw, montage, DESCRIPTION)
    virtual = RawVirtual(lazy_raw, info, Compute(), preload=False)
    virtual.save(tmp_path / "virtual_raw.fif", verbose=False)
    assert shown == [("of", 6), 1, 2, 3, 4, 5, 6]
