"""Simulated pairs as MNE objects.

Each test names the planted bugs that it was seen to catch.
"""

import mne
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from small_model import one_thread

import mne_neuroflow
from mne_neuroflow import make_contacts, simulate_pair
from mne_neuroflow.scalp.montages import template_name
from mne_neuroflow.simulation import recordings


@pytest.fixture(scope="module", autouse=True)
def quick():
    with one_thread():
        yield


# Two contacts of the left hippocampus, one of the right, one lateral.
CONTACTS = np.array([[-24, -20, -18], [-30, -20, -18], [26, -20, -18], [-52, -20, -18]])
CONTACTS = CONTACTS * 1e-3


def _pair(duration=8, **kwargs):
    kwargs = {"contacts": CONTACTS, "montage": "10", "random_state": 1} | kwargs
    return simulate_pair(duration=duration, **kwargs, verbose=False)


def test_pair():
    """Names, units, places, length, reference, provenance; ready to be predicted from.

    Catches contacts in the scalp's frame, millivolts, a signal that is one sample
    too long, and a description that does not say what this is.
    """
    scalp, ieeg = _pair(8.5, scenario="rest")
    names = "Fp1 Fp2 F3 F4 C3 C4 O1 O2 T7 T8".split()
    assert scalp.ch_names == names
    assert scalp.get_channel_types(unique=True) == ["eeg"]
    assert ieeg.get_channel_types(unique=True) == ["seeg"]
    assert ieeg.ch_names == make_contacts(CONTACTS).ch_names
    for raw in (scalp, ieeg):
        assert raw.info["sfreq"] == 128 and raw.n_times == 8.5 * 128
        assert raw.info["description"].startswith("Simulated ")
        assert "not a recording" in raw.info["description"]
        assert "scenario rest, seed 1." in raw.info["description"]
        assert (raw.info["highpass"], raw.info["lowpass"]) == (0.5, 50)
    assert scalp.info["custom_ref_applied"]
    assert_allclose(scalp.get_data().sum(0), 0, atol=1e-10)
    assert 2e-6 < np.median(scalp.get_data().std(1)) < 100e-6
    assert 10e-6 < np.median(ieeg.get_data().std(1)) < 500e-6
    known = mne.channels.make_standard_montage(template_name()).get_positions()
    found = scalp.get_montage().get_positions()
    assert set(found["ch_pos"]) <= set(known["ch_pos"])
    # Where the package itself finds contacts again.
    again = make_contacts(ieeg.info).get_positions()["ch_pos"]
    assert_allclose(list(again.values()), CONTACTS, atol=1e-6)
    assert len(mne_neuroflow.observability(scalp.info, ieeg.info, verbose=False)) == 4


def test_rates_and_lengths():
    """The same patient at another rate; annotations stay where they are.

    Catches annotations that are counted in samples.
    """
    one = _pair(6.25, scenario="spikes", random_state=3)
    two = _pair(6.25, scenario="spikes", random_state=3, sfreq=500)
    for slow, fast in zip(one, two, strict=True):
        assert fast.info["sfreq"] == 500 and fast.n_times == 3125
        # The two rates share every 125th and every 32nd sample.
        data = [fast.get_data()[:, ::125].ravel(), slow.get_data()[:, ::32].ravel()]
        assert np.corrcoef(data)[0, 1] > 0.99
        assert_allclose(fast.annotations.onset, slow.annotations.onset)
        assert fast.info["lowpass"] == 50


def _average(raw, onset, half=0.25):
    """Mean of stretches around onsets, (channel, time), and their times."""
    n, sfreq = int(half * raw.info["sfreq"]), raw.info["sfreq"]
    peaks = np.round(np.asarray(onset) * sfreq).astype(int)
    peaks = peaks[(peaks > n) & (peaks < raw.n_times - n)]
    data = raw.get_data()
    return np.mean([data[:, k - n : k + n + 1] for k in peaks], 0), np.arange(-n, n + 1)


def test_spikes_are_where_annotations_say():
    """Their average stands out at the contacts of the focus, at time zero.

    Catches annotations half a second late, and the other hemisphere's name.
    """
    contacts = make_contacts("mtl-core")
    for seed in range(4, 20):
        _, ieeg = _pair(60, contacts=contacts, scenario="spikes", random_state=seed)
        onset = ieeg.annotations.onset
        if len(onset) > 25:
            break
    kinds = set(ieeg.annotations.description)
    assert len(kinds) == 1
    kind, side, structure = kinds.pop().split("/")
    assert kind == "spike" and structure in (
        "hippocampus",
        "amygdala",
        "parahippocampal",
    )
    mean, times = _average(ieeg, onset)
    peak = np.abs(mean).max(1) / ieeg.get_data().std(1)
    best = int(peak.argmax())
    assert abs(times[np.abs(mean[best]).argmax()]) <= 3
    assert peak[best] > 1.5
    x = make_contacts(ieeg.info).get_positions()["ch_pos"][ieeg.ch_names[best]][0]
    assert (x > 0) == (side == "right")


@pytest.mark.parametrize(
    ("scenario", "kind"), [("theta", "theta"), ("ictal", "seizure"), ("rest", None)]
)
def test_events(scenario, kind):
    """Annotations are those of the scenario, the same on both sides, inside.

    Catches spans that end where they begin, and events on one side alone.
    """
    scalp, ieeg = _pair(40, scenario=scenario, random_state=6, artifacts=False)
    assert scalp.annotations == ieeg.annotations
    found = {text.split("/")[0] for text in ieeg.annotations.description}
    assert found == ({kind} if kind else set())
    ends = ieeg.annotations.onset + ieeg.annotations.duration
    assert np.all(ieeg.annotations.duration > 0) and np.all(ends <= 40 + 1e-5)


def test_blinks_are_where_annotations_say():
    """Up and frontal in the middle. Catches annotations of another patient."""
    for seed in range(20):
        scalp, ieeg = _pair(30, scenario="rest", random_state=seed)
        is_blink = scalp.annotations.description == "blink"
        if is_blink.sum() > 5:
            break
    assert not len(ieeg.annotations)
    blinks = scalp.annotations[is_blink]
    mean, times = _average(scalp, blinks.onset + blinks.duration / 2)
    assert set(np.argsort(mean.max(1))[-2:]) == {0, 1}  # Fp1 and Fp2
    assert np.all(np.abs(times[mean[:2].argmax(1)]) <= 6)
    assert np.all(mean[:2].max(1) > 20e-6)


@pytest.mark.slow
def test_channel_specific_annotations():
    """A bad electrode is named with its channel.

    Catches annotations of the whole recording.
    """
    found = 0
    for seed in range(6):
        scalp, _ = _pair(4, montage="64", scenario="rest", random_state=seed)
        for annotation in scalp.annotations:
            if annotation["description"].endswith("electrode"):
                (name,) = annotation["ch_names"]
                assert name in scalp.ch_names and annotation["duration"] == 4
                rms = scalp.get_data().std(1)
                mine = rms[scalp.ch_names.index(name)] / np.median(rms)
                noisy = annotation["description"] == "noisy electrode"
                assert mine > 0.6 if noisy else mine < 1.5
                found += 1
    assert found >= 3


def test_montages():
    """Names, montages and Infos of recordings; bad channels are left out.

    Catches an order that is not the user's.
    """
    names = ["O2", "Cz", "T3", "Fp1", "Pz", "F8", "C3", "Oz"]
    scalp, _ = _pair(2, montage=names)
    assert scalp.ch_names == names
    whole = mne.channels.make_standard_montage("biosemi16")
    assert _pair(2, montage=whole)[0].ch_names == whole.ch_names
    info = mne.create_info(names + ["EOG"], 256, ["eeg"] * 8 + ["eog"])
    info["bads"] = ["Cz"]
    scalp, _ = _pair(2, montage=info)
    assert scalp.ch_names == [name for name in names if name != "Cz"]


def test_random_state():
    """Catches torch's or numpy's global numbers, and a seed that is not logged."""
    one, again, other = (_pair(2, random_state=seed) for seed in (5, 5, 6))
    assert_array_equal(one[1].get_data(), again[1].get_data())
    assert not np.allclose(one[1].get_data(), other[1].get_data())
    unseeded = _pair(2, random_state=None)
    seed = int(unseeded[0].info["description"].rsplit("seed ")[1].rstrip("."))
    assert_array_equal(
        _pair(2, random_state=seed)[0].get_data(), unseeded[0].get_data()
    )


def test_pairs_belong_together(monkeypatch):
    """In training one scalp in twelve is of another moment, here none is.

    Catches traits that are passed on as they are drawn.
    """
    seen = []
    simulate = recordings.simulate

    def watch(*args, traits, **kwargs):
        seen.append(traits.mismatched)
        return simulate(*args, traits=traits, **kwargs)

    def mismatched(probability, shape, rng):
        import torch

        return torch.ones(shape)

    monkeypatch.setattr(recordings, "simulate", watch)
    monkeypatch.setattr(recordings, "chance", mismatched)
    _pair(2)
    assert not seen[0].any()


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        (dict(scenario="seizure"), "Invalid value for the 'scenario' parameter"),
        (dict(duration=0.5), "Invalid value for the 'duration' parameter"),
        (dict(duration=np.inf), "Invalid value for the 'duration' parameter"),
        (dict(sfreq=50), "Invalid value for the 'sfreq' parameter"),
        (dict(montage="20"), "Invalid value for the 'montage' parameter"),
        (dict(montage=["Cz", "Nowhere"]), "Nowhere"),
        (dict(montage=["Cz", "Cz"]), "differ from each other"),
        (dict(montage=[]), "differ from each other"),
        (dict(session=-1), "Invalid value for the 'session' parameter"),
        (dict(random_state=-1), "Invalid value for the 'random_state' parameter"),
        (dict(contacts="nothing"), "nothing"),
    ],
)
def test_bad_values(kwargs, match):
    """Catches values that go through and fail later."""
    with pytest.raises(ValueError, match=match):
        _pair(**{"duration": 2} | kwargs)


@pytest.mark.parametrize(
    "kwargs", [dict(artifacts="eyes"), dict(montage=19), dict(duration="long")]
)
def test_bad_types(kwargs):
    """Catches types that go through."""
    with pytest.raises(TypeError, match=f"{next(iter(kwargs))} must be"):
        _pair(**{"duration": 2} | kwargs)
