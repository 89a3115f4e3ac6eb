"""Positions that contradict names are told, those of caps and montages are not."""

import warnings

import mne
import numpy as np
import pytest

from mne_neuroflow.head.contacts import make_contacts
from mne_neuroflow.positions import fit_placement, unnamed_findings
from mne_neuroflow.scalp import find_electrodes, template_name

TEN_TWENTY = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()


def placed(change, names=TEN_TWENTY, montage=None):
    """Info with changed positions of a montage, in head coordinates."""
    kit = mne.channels.make_standard_montage(montage or template_name())
    info = mne.create_info(list(names or kit.ch_names), 100.0, "eeg").set_montage(kit)
    ch_pos = {ch["ch_name"]: change(ch["loc"][:3]) for ch in info["chs"]}
    dig = mne.channels.make_dig_montage(ch_pos, coord_frame="head")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return info.set_montage(dig, verbose="error")


def turn(degrees, axis):
    a, out = np.radians(degrees), np.eye(3)
    i, j = [k for k in range(3) if k != axis]
    out[[i, i, j, j], [i, j, i, j]] = [np.cos(a), -np.sin(a), np.sin(a), np.cos(a)]
    return lambda rr: out @ rr


WRONG = {
    "nose on +X": (lambda r: np.array([r[1], -r[0], r[2]]), r"nose along \+X"),
    "nose on -X": (lambda r: np.array([-r[1], r[0], r[2]]), "nose along -X"),
    "mirrored": (lambda r: r * [-1, 1, 1], "mirrored left to right"),
    "back to front": (lambda r: r * [-1, -1, 1], "turned by 180° about the vertical"),
    "y and z": (lambda r: np.array([r[0], r[2], r[1]]), "turned by"),
    "sphere's middle": (lambda r: r - [0, 0, 0.045], "45 mm too low|44 mm too low"),
    "tilted": (turn(25, 1), "turned by 25°"),
    "too large": (lambda r: r * 1.37, "1.37 times as large"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("n", [19, 8])
def test_wrong_positions_are_refused(case, n):
    """Seen to fail with the limits of a warning for those of an error times two."""
    change, match = WRONG[case]
    names = TEN_TWENTY if n == 19 else "F3 F4 C3 C4 P3 P4 Cz Oz".split()
    with pytest.raises(ValueError, match=match) as error:
        find_electrodes(placed(change, names))
    assert "inst.set_montage(" in str(error.value)


ODD = {
    "fiducials 12 mm to the side": (lambda r: r + [12e-3, 0, 0], "12 mm too far right"),
    "fiducials turned": (turn(7, 2), "turned by 7° about the vertical axis"),
    "one ear 12 mm up": (turn(4.6, 1), "turned by 5°"),
    "small": (lambda r: r * 0.8, "0.80 times as large"),
    "low": (lambda r: r - [0, 0, 0.03], "30 mm too low"),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_positions_are_warned_of(case):
    change, match = ODD[case]
    with pytest.warns(RuntimeWarning, match=match):
        find_electrodes(placed(change))
    with pytest.raises(ValueError, match=match):
        find_electrodes(placed(change), on_mismatch="raise")


@pytest.mark.parametrize("montage", mne.channels.get_builtin_montages())
def test_montages_of_mne_are_silent(montage):
    kit = mne.channels.make_standard_montage(montage)
    info = mne.create_info(kit.ch_names, 100.0, "eeg").set_montage(kit)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        picks, _ = find_electrodes(info)
    assert len(picks) == len(kit.ch_names)


@pytest.mark.parametrize("seed", range(5))
def test_a_measured_cap_is_silent(seed):
    """5 mm of digitizing, a head of another size and fiducials of another hand."""
    rng = np.random.default_rng(seed)
    pitch, size = turn(rng.uniform(-8, 8), 0), rng.uniform(0.9, 1.08)
    shift = rng.uniform([-4e-3, -10e-3, -10e-3], [4e-3, 10e-3, 10e-3])
    noise = iter(rng.normal(0, 5e-3 / np.sqrt(3), (19, 3)))
    info = placed(lambda r: size * pitch(r) + shift + next(noise))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        find_electrodes(info)


def test_names_of_other_montages_are_held_against_them():
    change, match = WRONG["nose on +X"]
    for montage in ("biosemi128", "GSN-HydroCel-128"):
        with pytest.raises(ValueError, match=match):
            find_electrodes(placed(change, names=None, montage=montage))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda r: r + [0.012, 0, 0], "too far right"),
        (lambda r: r * [1, 1, -1], "upside down"),
        (lambda r: r * 1.4, "times as large"),
    ],
)
def test_unnamed_electrodes(change, match):
    info = placed(change, names=None, montage="GSN-HydroCel-128")
    info.rename_channels({name: f"p{name}q" for name in info.ch_names})
    with pytest.warns(RuntimeWarning, match=match):
        find_electrodes(info)


def test_the_fit_finds_what_was_done():
    """Seen to fail with the transposed rotation."""
    rng = np.random.default_rng(0)
    model = rng.normal(0, 0.05, (30, 3))
    found = 1.1 * model @ turn(20, 2)(np.eye(3)).T + [0.01, 0.02, 0.03]
    fit = fit_placement(found, model)
    np.testing.assert_allclose(fit.turned, [0, 0, 20], atol=1e-6)
    assert not fit.mirrored and abs(fit.scale - 1.1) < 1e-9 and fit.residual < 1e-9
    found[3] += 0.08  # one name is wrong
    np.testing.assert_allclose(fit_placement(found, model).turned, [0, 0, 20], atol=0.1)
    assert fit_placement(found[:3], model[:3]) is None
    line = np.arange(6.0)[:, np.newaxis] * [0.0, 0.01, 0.002]
    assert fit_placement(line, line) is None
    assert unnamed_findings(model[:10]) == []


def test_contacts_typed_as_eeg():
    montage = make_contacts("ds004752-sub-01")
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    with pytest.raises(ValueError, match="lie inside the brain.*set_channel_types"):
        find_electrodes(info)
