"""What users do with the result: readers, rates, plots, files, connectivity."""

import re
import warnings
from fractions import Fraction

import mne
import mne_connectivity
import numpy as np
import pytest
from conftest import NAMES, simulate_eeg
from scipy.signal import resample_poly
from scipy.signal.windows import tukey

from mne_neuroflow import cli, predict_ieeg
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.datasets.demo import DEMO
from mne_neuroflow.scalp.montages import template_name
from mne_neuroflow.weights.fetch import _EMBEDDED, fetch_model

POINTS = np.array(
    [[-0.027, -0.02, -0.018], [0.027, -0.02, -0.018], [0.05, -0.01, -0.02]]
)
WEIGHTS = _EMBEDDED / "mtl-v2.safetensors"
needs_weights = pytest.mark.skipif(
    not WEIGHTS.is_file(), reason="the weights of mtl-v2 are not shipped yet"
)


@pytest.fixture
def virtual(raw, small_model):
    """Six seconds of virtual contacts, with annotations."""
    raw.set_annotations(mne.Annotations([1, 3], [0.5, 0], ["BAD_x", "go"]))
    return _predict(raw.crop(2, 8))


@pytest.fixture
def virtual_epochs(epochs, small_model):
    return _predict(epochs)


def _predict(inst, **options):
    return predict_ieeg(inst, **{"contacts": POINTS, "random_state": 0, **options})


def _difference(got, wanted):
    """Largest difference in units of the standard deviation."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    return np.abs(got - wanted).max() / wanted.std()


# Files that recordings come in --------------------------------------------------------


def _write_brainvision(raw, folder):
    """Write the simplest BrainVision file: multiplexed float32 in microvolts."""
    (1e6 * raw.get_data()).T.astype("<f4").tofile(folder / "scalp.eeg")
    lines = [
        "Brain Vision Data Exchange Header File Version 1.0",
        "[Common Infos]",
        "Codepage=UTF-8",
        "DataFile=scalp.eeg",
        "MarkerFile=scalp.vmrk",
        "DataFormat=BINARY",
        "DataOrientation=MULTIPLEXED",
        f"NumberOfChannels={len(raw.ch_names)}",
        f"SamplingInterval={1e6 / raw.info['sfreq']:g}",
        "[Binary Infos]",
        "BinaryFormat=IEEE_FLOAT_32",
        "[Channel Infos]",
    ]
    lines += [f"Ch{k}={name},,1,µV" for k, name in enumerate(raw.ch_names, 1)]
    (folder / "scalp.vmrk").write_text(
        "Brain Vision Data Exchange Marker File Version 1.0\n", encoding="utf-8"
    )
    (folder / "scalp.vhdr").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return mne.io.read_raw_brainvision(folder / "scalp.vhdr", verbose=False)


def _write_edf(raw, folder):
    pytest.importorskip("edfio")
    fname = folder / "scalp.edf"
    mne.export.export_raw(fname, raw, physical_range="auto", verbose=False)
    return mne.io.read_raw_edf(fname, verbose=False)


def _write_fif(raw, folder):
    fname = folder / "scalp_raw.fif"
    raw.save(fname, verbose=False)
    return mne.io.read_raw_fif(fname, verbose=False)


@pytest.mark.parametrize("write", [_write_fif, _write_edf, _write_brainvision])
def test_readers(small_model, raw, tmp_path, write):
    """Written, read lazily without positions, predicted: as from memory.

    EDF keeps 16 bits; these are 0.0003 of the signal and small in the result.
    Catches: template positions in another order than the channels.
    """
    raw.crop(0, 6, include_tmax=False)
    read = write(raw, tmp_path)
    lazy = _predict(read)
    assert not lazy.preload
    loaded = _predict(read.load_data())
    assert _difference(lazy.get_data(), loaded.get_data()) < 1e-5
    assert _difference(lazy.get_data(), _predict(raw).get_data()) < 5e-3


def test_recorded_edf(small_model):
    """The bundled recording: a real header, annotations, dots in the names."""
    raw = mne.io.read_raw_edf(DEMO, verbose=False).crop(10, 14)
    virtual = _predict(raw)
    assert virtual.first_samp == raw.first_samp
    assert list(virtual.annotations.description) == list(raw.annotations.description)
    named = load_demo(verbose=False).crop(10, 14)
    assert _difference(virtual.get_data(), _predict(named).get_data()) < 1e-5


@pytest.mark.parametrize("sfreq", [160, 250, 512, 1000, 2048])
def test_rates(small_model, sfreq):
    """Any rate gives its own samples of nearly the same virtual potentials.

    The signal ends in silence, because what is beyond the ends is reflected about
    the last sample, which each rate has at another moment.
    Catches: model samples taken half a sample late.
    """
    names = NAMES[:16]
    factor = 2 if sfreq > 1000 else 16
    silent = 256
    coarse = simulate_eeg(len(names), 6 * 128, 128.0) * tukey(6 * 128, 0.2)
    coarse = np.pad(coarse, ((0, 0), (silent, silent)))
    ratio = Fraction(sfreq * factor, 128)
    data = resample_poly(coarse, ratio.numerator, ratio.denominator, axis=1)
    results = []
    for step in (1, factor):
        info = mne.create_info(names, sfreq * factor / step, "eeg", verbose=False)
        raw = mne.io.RawArray(data[:, ::step], info, verbose=False)
        results.append(_predict(raw.set_montage(template_name())))
    fine, virtual = results
    assert virtual.info["sfreq"] == sfreq
    assert virtual.n_times == data[:, ::factor].shape[1]
    got, wanted = virtual.get_data(), fine.get_data()[:, ::factor]
    assert (got - wanted).std() < 0.02 * wanted.std()
    # Of a window whose side lobes fall off: there is much more at 1 Hz.
    spectrum = virtual.compute_psd(window="hann", verbose=False)
    beyond = spectrum.get_data(fmin=66).mean()
    assert beyond < 1e-5 * spectrum.get_data(fmin=1, fmax=40).mean()


# What is done with the result ---------------------------------------------------------


def test_spectra_and_plots(virtual, virtual_epochs):
    for inst in (virtual, virtual_epochs):
        spectrum = inst.compute_psd(fmax=60, verbose=False)
        assert spectrum.ch_names == inst.ch_names
        assert (spectrum.get_data() > 0).all()
        spectrum.plot(show=False)
        inst.plot(show=False)
    virtual_epochs.average(picks="seeg").plot(show=False)
    virtual.copy().filter(2, 30, verbose=False)
    virtual.get_montage().plot(show=False, verbose=False)


def test_files(virtual, virtual_epochs, tmp_path):
    for inst, name, read in (
        (virtual, "virtual_ieeg.fif", mne.io.read_raw_fif),
        (virtual_epochs, "virtual-epo.fif", mne.read_epochs),
    ):
        fname = tmp_path / name
        inst.save(fname, fmt="double", verbose=False)
        with warnings.catch_warnings():
            # MNE 1.13 with pandas 3.1: deprecated inside MNE
            warnings.filterwarnings("ignore", "The inplace keyword")
            back = read(fname, verbose=False)
        np.testing.assert_allclose(back.get_data(), inst.get_data(), rtol=1e-12)
        assert back.ch_names == inst.ch_names
        assert back.get_channel_types() == inst.get_channel_types()
        assert back.info["description"] == inst.info["description"]
    assert back.metadata.equals(virtual_epochs.metadata)
    np.testing.assert_array_equal(back.events, virtual_epochs.events)


def test_connectivity(virtual, virtual_epochs):
    cut = mne.make_fixed_length_epochs(virtual, 1.0, verbose=False)
    for epochs in (virtual_epochs, cut):
        result = mne_connectivity.spectral_connectivity_epochs(
            epochs, method="coh", fmin=8, fmax=13, faverage=True, verbose=False
        )
        dense = result.get_data("dense")[..., 0]
        pairs = dense[np.tril_indices(len(POINTS), -1)]
        assert ((pairs >= 0) & (pairs <= 1)).all()
        assert list(result.names) == epochs.ch_names


def test_beside_the_scalp(raw, small_model):
    """Scalp and virtual channels in one recording, positions and all."""
    for inst in (raw.copy().crop(2, 8), raw.copy().crop(0, 4)):
        virtual = _predict(inst)
        both = inst.copy().add_channels([virtual], force_update_info=True)
        assert both.ch_names == inst.ch_names + virtual.ch_names
        np.testing.assert_array_equal(both.get_data(picks="seeg"), virtual.get_data())
        np.testing.assert_array_equal(both.get_data(picks="eeg"), inst.get_data())
        positions = both.get_montage().get_positions()["ch_pos"]
        for name in virtual.ch_names:
            wanted = virtual.get_montage().get_positions()["ch_pos"][name]
            np.testing.assert_allclose(positions[name], wanted, atol=1e-7)


def test_epochs_of_the_result_are_those_of_the_scalp(raw, small_model):
    """Events found in the scalp cut the virtual recording at the same moments."""
    raw.crop(2, 10)
    virtual = _predict(raw)
    events = mne.make_fixed_length_events(raw, duration=1.5)
    one, other = (
        mne.Epochs(inst, events, tmin=0, tmax=1, baseline=None, verbose=False)
        for inst in (virtual, raw)
    )
    assert len(one.load_data()) == len(other.load_data())
    start = events[1, 0] - raw.first_samp
    wanted = virtual.get_data(start=start, stop=start + len(one.times))
    np.testing.assert_array_equal(one.get_data()[1], wanted)


# From the command line ----------------------------------------------------------------


def test_command_line(raw, small_model, tmp_path, capsys):
    """The file holds what the function returns; a second run refuses to replace it."""
    scalp, out = tmp_path / "scalp_raw.fif", tmp_path / "virtual_ieeg.fif"
    raw.crop(0, 4).save(scalp, verbose=False)
    argv = ["predict", scalp, out, "--contacts", "mtl-core", "--seed", "4"]
    argv = [str(arg) for arg in argv]
    assert cli.main(argv) == 0
    assert str(out) in capsys.readouterr().out
    virtual = mne.io.read_raw_fif(out, verbose=False)
    lazy = mne.io.read_raw_fif(scalp, verbose=False)
    wanted = _predict(lazy, contacts="mtl-core", random_state=4)
    assert _difference(virtual.get_data(), wanted.get_data()) < 1e-5
    assert virtual.info["description"] == wanted.info["description"]
    before = out.read_bytes()
    assert cli.main(argv) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == before


def test_command_line_leaves_nothing_after_bad_input(
    raw, small_model, tmp_path, capsys
):
    raw._data[4, 300] = np.nan
    scalp, out = tmp_path / "scalp_raw.fif", tmp_path / "virtual_ieeg.fif"
    raw.save(scalp, verbose=False)
    assert cli.main(["predict", str(scalp), str(out)]) == 2
    err = capsys.readouterr().err
    (line,) = [x for x in err.splitlines() if x.startswith("mne-neuroflow: error")]
    assert re.search("NaN or infinite values in 1 channels: Fz", line)
    assert [f.name for f in tmp_path.iterdir()] == [scalp.name]


# The weights that ship ----------------------------------------------------------------


@needs_weights
@pytest.mark.parametrize("output", ["sample", "std"])
def test_shipped_weights(output):
    """One line with the defaults: eighty contacts in a plausible range."""
    raw = load_demo(verbose=False).crop(20, 24)
    options = dict(n_draws=4) if output == "std" else {}
    virtual = predict_ieeg(raw, output=output, random_state=0, **options)
    assert len(virtual.ch_names) == 80
    assert (virtual.n_times, virtual.info["sfreq"]) == (raw.n_times, 160.0)
    rms = virtual.get_data().std(axis=1) if output == "sample" else virtual.get_data()
    assert 5e-6 < np.median(rms) < 5e-4  # volts
    assert "model mtl-v2" in virtual.info["description"]


@needs_weights
def test_shipped_weights_are_those_of_the_registry():
    assert fetch_model("mtl-v2") == WEIGHTS
