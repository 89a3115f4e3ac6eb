"""Shared fixtures, and a guard over global state."""

import random
import sys
import warnings

import matplotlib
import matplotlib.pyplot as plt
import mne
import numpy as np
import pytest

from mne_neuroflow.scalp.montages import template_name

plt.switch_backend("agg")

NAMES = (
    "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2 "
    "FC5 FC1 FC2 FC6 CP5 CP1 CP2 CP6 AF3 AF4 PO3 PO4 Oz"
).split()


def simulate_eeg(n_channels, n_times, sfreq, seed=0, places=None):
    """Return smooth noise of 20 uV rms that is correlated over channels, in volts.

    With places of electrodes, neighbours are nearly the same, as on a head.
    """
    rng = np.random.default_rng(seed)
    freqs = np.fft.rfftfreq(n_times, 1 / sfreq)
    shape = np.zeros_like(freqs)
    inside = (freqs >= 0.5) & (freqs <= 50)
    shape[inside] = freqs[inside] ** -0.75
    spectra = rng.standard_normal((2, n_channels, len(freqs))).view(float)
    data = np.fft.irfft((spectra[0] + 1j * spectra[1]) * shape, n_times)
    mixing = np.eye(n_channels) + 0.5 * rng.standard_normal((n_channels,) * 2)
    if places is not None:
        apart = np.linalg.norm(places[:, None] - places, axis=-1)
        smooth = np.exp(-((apart / 0.15) ** 2)) + 0.05 * np.eye(n_channels)
        mixing = np.linalg.cholesky(smooth)
    data = mixing @ data
    return 20e-6 * data / data.std(axis=1, keepdims=True)


def build_raw(
    n_seconds=12.0, sfreq=256.0, names=NAMES, montage=True, seed=0, smooth=True
):
    """Return a synthetic scalp recording, preloaded."""
    info = mne.create_info(list(names), sfreq, "eeg", verbose=False)
    places = None
    if montage:
        info.set_montage(template_name())
    if montage and smooth:
        places = np.array([ch["loc"][:3] for ch in info["chs"]])
    data = simulate_eeg(len(names), round(n_seconds * sfreq), sfreq, seed, places)
    return mne.io.RawArray(data, info, verbose=False)


@pytest.fixture(scope="session")
def _raw():
    return build_raw()


@pytest.fixture
def make_raw():
    """Builder of synthetic recordings."""
    return build_raw


@pytest.fixture
def raw(_raw):
    """12 s of 32-channel EEG at 256 Hz with template positions, preloaded."""
    return _raw.copy()


@pytest.fixture
def lazy_raw(raw, tmp_path):
    """The same recording in a file, not preloaded, with an offset first sample."""
    raw.set_meas_date(1e9)
    raw.set_annotations(mne.Annotations([1.0, 4.0], [0.5, 0.0], ["BAD_x", "go"]))
    fname = tmp_path / "scalp_raw.fif"
    raw.save(fname, fmt="double", verbose=False)
    return mne.io.read_raw_fif(fname, verbose=False).crop(1.0)


@pytest.fixture
def epochs(raw):
    """Five epochs of 2 s with metadata, preloaded; one was dropped."""
    pandas = pytest.importorskip("pandas")
    events = mne.make_fixed_length_events(raw, id=3, duration=2.0)
    with warnings.catch_warnings():
        # MNE 1.13 with pandas 3.1: deprecated inside MNE
        warnings.filterwarnings("ignore", "The inplace keyword")
        epochs = mne.Epochs(
            raw,
            events,
            {"go": 3},
            tmin=-0.5,
            tmax=1.5,
            baseline=(None, 0),
            metadata=pandas.DataFrame(dict(trial=np.arange(len(events)))),
            preload=True,
            verbose=False,
        )
        return epochs.drop([1], verbose=False)


@pytest.fixture(scope="session")
def model_file(tmp_path_factory):
    """A small model with random weights, in a file."""
    from small_model import one_thread, save_small_model

    with one_thread():
        return save_small_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def small_model(monkeypatch, model_file):
    """Let the default model be the small one."""
    from small_model import use_model

    use_model(monkeypatch, model_file)


def _global_state():
    _, key, position, *gauss = np.random.get_state()  # noqa: NPY002
    state = dict(
        numpy=(key.tobytes(), position, gauss),
        random=hash(random.getstate()),
        mne_config=mne.get_config(),
        mne_log_level=mne.utils.logger.level,
        rc={k: v for k, v in matplotlib.rcParams.items() if k != "backend"},
        silenced=[f for f in warnings.filters if f[0] == "ignore" and _blanket(f)],
    )
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        state.update(
            torch_rng=torch.get_rng_state().numpy().tobytes(),
            torch_dtype=torch.get_default_dtype(),
            torch_threads=torch.get_num_threads(),
            torch_grad=torch.is_grad_enabled(),
        )
    return state


def _blanket(entry):
    """Tell whether a warning filter silences everything of a broad category."""
    _, message, category, module, _ = entry
    broad = category in (Warning, UserWarning, RuntimeWarning)
    return message is None and module is None and broad


@pytest.fixture(autouse=True)
def global_state_untouched():
    """Fail tests that leave global state changed."""
    before = _global_state()
    yield
    plt.close("all")
    after = _global_state()
    # what appears because a module was imported was not changed
    changed = [key for key in before if before[key] != after[key]]
    assert not changed, f"the test changed global state: {changed}"
