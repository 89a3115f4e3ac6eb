"""Names of electrodes, in all the ways that systems write them."""

import mne
import numpy as np
import pytest

from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.scalp.electrodes import find_electrodes
from mne_neuroflow.scalp.montages import montages_with, template_positions
from mne_neuroflow.scalp.names import read_name, read_names

KNOWN = set(template_positions())
TEN_TWENTY = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split()

# As written, 10-05 position, reference.
TABLE = [
    ("Fp1", "fp1", ""),
    ("FP1", "fp1", ""),
    ("EEG Fp1", "fp1", ""),
    ("EEG FP1-REF", "fp1", "ref"),
    ("EEG Fp1-LE", "fp1", "le"),
    ("EEG Fp1-CPz", "fp1", "cpz"),
    ("Fp1-LM", "fp1", "lm"),
    ("Fp1-AA", "fp1", "aa"),
    ("EEG Fp1-Average", "fp1", "average"),
    ("Fp1-AVG", "fp1", "avg"),
    ("Fp1-A1", "fp1", "a1"),
    ("Fp1-A1A2", "fp1", "a1a2"),
    ("Fp1-(A1+A2)/2", "fp1", "a1+a2"),
    ("Fp1-M2", "fp1", "m2"),
    ("Fp1 - Ref", "fp1", "ref"),
    ("Fp1_Ref", "fp1", "ref"),
    ("EEG 001-Fp1", "fp1", ""),
    ("EEG 001-Fp1-Ref", "fp1", "ref"),
    ("Fp1'", "fp1'", ""),
    ("EEG\u00a0Fp1", "fp1", ""),
    (" Fp1 ", "fp1", ""),
    ("Fp1-0", "fp1", ""),
    ("Fp1-Ref-0", "fp1", "ref"),
    ("Chan Fp1", "fp1", ""),
    ("POL Fp1", "fp1", ""),
    ("Fp1.", "fp1", ""),
    ("Af7.", "af7", ""),
    ("EEG T3-REF", "t7", "ref"),
    ("T6", "p8", ""),
    ("T4-T6", "t8", "p8"),
    ("EEG T3-T5", "t7", "p7"),
    ("T4 T6", "t8", "p8"),
    ("T4: T6", "t8", "p8"),
    ("fp1_f7", "fp1", "f7"),
    ("FP1\u2013F7", "fp1", "f7"),
    ("EEG Fp1/F7", "fp1", "f7"),
    ("CB1", "cb1", ""),
    ("\uff26\uff501", "fp1", ""),  # full-width letters
    ("\ufeffFp1", "fp1", ""),  # what nobody sees
    ("Fp1\x00", "fp1", ""),
    ("Fp1\u200b", "fp1", ""),
    ("Fp1 [uV]", "fp1", ""),
    ("Fp1(µV)", "fp1", ""),
    ("1:Fp1", "fp1", ""),
    ("1-Fp1", "fp1", ""),
    ("Fp1(REF)", "fp1", "ref"),
    ("EEG Fp1 (A1+A2)", "fp1", "a1+a2"),
    ("Fp1-Lap", "fp1", "lap"),
    ("\u04211", "c1", ""),  # Cyrillic
    ("\u039f2", "o2", ""),  # Greek
]
# What is no position, however it looks.
STRANGERS = ["aF3", "pO5", "C3-4", "A1-2", "A'1", "Fp1-1", "X1", "EKG", "", "-Ref"]


@pytest.mark.parametrize(("name", "place", "reference"), TABLE)
def test_one_name(name, place, reference):
    read = read_name(name, KNOWN)
    assert (read.place, read.reference) == (place, reference)


@pytest.mark.parametrize("name", STRANGERS)
def test_no_position(name):
    assert read_names([name, "Fp1", "Cz"], KNOWN).places == [None, "fp1", "cz"]


@pytest.mark.parametrize(
    ("form", "reference"),
    [
        ("{}-Linked Ears", "linked ears"),
        ("{}-LER", "ler"),
        ("EEG {}-CLE", "cle"),
        ("EEG {}-G19", "g19"),
        ("{}/Ref", "ref"),
        ("{}>A1", "a1"),
        ("{}-REF1", "ref1"),
        ("{}-Vref", "vref"),
        ("EEG {}-CMS", "cms"),
        ("{}-ROC", "roc"),
        ("{}.Ref", "ref"),
        ("{}*", "*"),
        ("eeg:{}", ""),
        ("Brain {}", ""),
    ],
)
def test_what_all_names_share(form, reference):
    """Whatever it is called; seen to fail when names are read one by one."""
    names = [form.format(name) for name in TEN_TWENTY]
    read = read_names([*names, "ECG", "X1"], KNOWN)
    assert read.places[:19] == [name.lower() for name in TEN_TWENTY]
    assert set(read.references[:19]) == {reference}
    assert not any(read.bipolar) and read.places[19:] == [None, None]


@pytest.mark.parametrize(
    "form", ["SEEG {}", "ECoG {}", "depth-{}", "{}-1", "{}_2", "x{}"]
)
def test_what_names_share_and_is_no_reference(form):
    """Of another kind of electrode, or the number of a copy."""
    names = [form.format(name) for name in TEN_TWENTY]
    assert set(read_names(names, KNOWN).places) == {None}


def test_primes():
    """Alone a way to write it; beside the name without, another place."""
    assert read_names(["F3'", "Cz"], KNOWN).places == ["f3", "cz"]
    assert read_names(["F3'", "F3"], KNOWN).places == [None, "f3"]


@pytest.mark.parametrize(
    "names",
    [
        "Fp1-F7 F7-T3 T3-T5 T5-O1 Fp2-F8 F8-T4 T4-T6 T6-O2".split(),
        "F7-F3 F3-Fz Fz-F4 F4-F8 C3-Cz Cz-C4".split(),
        ["EEG Fpz-Cz", "EEG Pz-Oz"],
    ],
)
@pytest.mark.parametrize("form", ["{}", "EEG {}-Ref", "BP: {}", "S {}-0"])
def test_derivations(names, form):
    """Seen to be taken for single electrodes where all names share a part."""
    names = [form.format(name.removeprefix("EEG ")) for name in names]
    assert all(read_names(names, KNOWN).bipolar)


def test_names_that_tell_of_a_filter():
    names = [f"{name}-Laplacian" for name in TEN_TWENTY[:8]]
    with pytest.raises(ValueError, match=r"filtered over space.*F7-Lap.*before this"):
        find_electrodes(mne.create_info(names, 100.0, "eeg"))


@pytest.mark.parametrize("reference", ["CPz", "Cz", "FCz", "A1", "Ref"])
def test_one_reference_is_no_derivation(reference):
    names = [f"{name}-{reference}" for name in TEN_TWENTY if name != reference]
    read = read_names(names, KNOWN)
    assert not any(read.bipolar) and None not in read.places


def shafts(letters, n=8, form="{}{}"):
    return [form.format(letter, k) for letter in letters for k in range(1, n + 1)]


@pytest.mark.parametrize(
    "names",
    [
        shafts("ABCFOP"),
        shafts("CFP", form="EEG {}{}-Ref"),
        shafts("AHCF"),
        shafts("FP"),  # all of them are positions, but no cap has these alone
        shafts("C", 6),
        shafts("P")[1:7],
        shafts(["FC", "AF", "B"]),
        shafts("abcf"),
        shafts("ABCD", 32),
        shafts("ABCDEFGH", 32),
        shafts("ABCDEFGHI", 16),
        ["Fz", "Cz", "Pz", *shafts("CFH")],  # beside three electrodes on the scalp
        ["Fz", "Cz", "Pz", *shafts("FH")],
        [*TEN_TWENTY, *shafts(["TP"])],  # a strip beside a cap
        [*TEN_TWENTY, *shafts(["FC"], 4)],
        shafts("T", 6),  # T3 to T6 had these names before, in a cap
        shafts("TH", 6),
        ["Fz", "Cz", *shafts("T", 6)],
        ["Fp1", "Fp2", "C3", "C4", *shafts("T", 8)],
        shafts("T", 16),
    ],
)
def test_series_that_are_no_scalp(names, make_raw):
    """Seen to fail without the rule of the missing middle, and without the limits."""
    read = read_names(names, KNOWN)
    assert read.doubtful
    kept = [place for place in read.places if place]
    assert set(kept) <= {name.lower() for name in TEN_TWENTY}
    with pytest.raises(ValueError, match="series that no cap of 10-05 has"):
        find_electrodes(mne.create_info(names, 100.0, "eeg"))


@pytest.mark.parametrize(
    "names",
    [
        TEN_TWENTY,
        "Fp1 Fp2 F7 F3 F4 F8 T1 T2 T3 C3 C4 T4 T5 P3 P4 T6 O1 O2 A1 A2".split(),
        [*TEN_TWENTY, *shafts("XE", 10), "DC01", "DC02"],  # inputs of other kinds
        [*TEN_TWENTY, *shafts("BD", 8)],  # unused, and no positions
        [*TEN_TWENTY, "T9", "T10"],
        "C3 C4 T1 T2 T3 T4 T5 T6 T9 T10".split(),
        "F1 F2 F3 F4 F5 F6 F7 F8 Fz C1 C2 C3 C4 C5 C6 P1 P2 P3 P4 P5 P6 CPz".split(),
        "F3 F4 C3 C4 O1 O2 M1 M2".split(),
        "C3 C4".split(),
    ],
)
def test_series_of_caps(names):
    """C1 to C6 without Cz, which is the reference, are a cap's."""
    read = read_names(names, KNOWN)
    assert not read.doubtful
    assert [p for p in read.places if p]


@pytest.mark.parametrize("montage", mne.channels.get_builtin_montages())
def test_every_montage_of_mne(montage):
    """No name of a montage is another place's, by more than the length of a finger."""
    montage = mne.channels.make_standard_montage(montage)
    info = mne.create_info(montage.ch_names, 100.0, "eeg").set_montage(montage)
    template = mne.channels.make_standard_montage("standard_1005")
    there = mne.create_info(template.ch_names, 100.0, "eeg").set_montage(template)
    loc = {ch["ch_name"].lower(): ch["loc"][:3] for ch in there["chs"]}
    for ch, place in zip(
        info["chs"], read_names(info.ch_names, KNOWN).places, strict=True
    ):
        if place is not None:
            assert np.linalg.norm(ch["loc"][:3] - loc[place]) < 0.055, ch["ch_name"]


def test_montage_is_named(make_raw):
    assert montages_with(shafts("ABCD", 32))[0] == "biosemi128"
    assert montages_with([f"E{k}" for k in range(1, 129)])[0] == "GSN-HydroCel-128"
    assert montages_with(TEN_TWENTY) == []
    raw = make_raw(2.0, names=shafts("ABCD", 32), montage=False)
    with pytest.raises(ValueError, match=r"inst.set_montage\('biosemi128'\)"):
        check_scalp(raw)
    assert len(check_scalp(raw.set_montage("biosemi128")).ch_names) == 128


@pytest.mark.parametrize(
    ("names", "montage"),
    [
        (shafts("ABC", 32), "biosemi128"),
        ([f"E{k}" for k in range(1, 101)], "GSN-HydroCel-128"),
        ([f"E{k}" for k in range(1, 65)], "GSN-HydroCel-64_1.0"),
        ([f"EEG{k:03d}" for k in range(1, 61)], "mgh60"),
    ],
)
def test_montage_is_named_where_no_name_is_known(names, montage):
    with pytest.raises(ValueError, match=f"inst.set_montage.'{montage}'"):
        find_electrodes(mne.create_info(names, 100.0, "eeg"))
    digits = mne.create_info([str(k) for k in range(1, 60)], 100.0, "eeg")
    with pytest.raises(ValueError, match="got 0. Set positions with"):
        find_electrodes(digits)


OTHERS = [*shafts(["EXG"], 8), "GSR1", "GSR2", "Erg1", "Erg2", "Resp", "Plet", "Temp"]


@pytest.mark.parametrize("others", [[], OTHERS])
@pytest.mark.parametrize("n", [16, 32, 64])
def test_inputs_of_a_small_cap_of_biosemi(n, others):
    """Seen to be told to set the montage of 128, whose A1 is at the vertex."""
    names = [*shafts("AB", 32)[:n], *others]
    info = mne.create_info(names, 100.0, "eeg")
    with pytest.raises(ValueError, match=f"cap of {n} elec.*'biosemi{n}'") as error:
        find_electrodes(info)
    assert "set_montage('" not in str(error.value)
    kit = mne.channels.make_standard_montage(f"biosemi{n}").ch_names
    info.rename_channels(dict(zip(info.ch_names, kit, strict=False)))
    assert len(find_electrodes(info, on_mismatch="ignore")[0]) == n


@pytest.mark.parametrize(
    ("names", "montage"),
    [
        ([*shafts("ABCD", 32), *OTHERS], "biosemi128"),
        ([*shafts("E", 128), "VREF"], "GSN-HydroCel-128"),
    ],
)
def test_montage_beside_other_inputs(names, montage):
    """Seen to be named for the cap alone, or in a call that fails."""
    info = mne.create_info(names, 100.0, "eeg")
    match = f"inst.set_montage.'{montage}', on_missing='ignore'"
    with pytest.raises(ValueError, match=match):
        find_electrodes(info)
    info.set_montage(montage, on_missing="ignore")
    assert len(find_electrodes(info, on_mismatch="ignore")[0]) == 128


@pytest.mark.parametrize(
    ("n", "net"),
    [(65, "GSN-HydroCel-65_1.0"), (129, "GSN-HydroCel-129"), (257, "GSN-HydroCel-257")],
)
def test_reference_of_a_net_is_its_last_electrode(n, net):
    """Seen to name a montage of another net, whose E1 to E129 are elsewhere."""
    names = [f"E{k}" for k in range(1, n + 1)]
    info = mne.create_info(names, 100.0, "eeg")
    with pytest.raises(ValueError, match=f"E{n}': 'Cz'.*set_montage.'{net}'"):
        find_electrodes(info)
    info.rename_channels({f"E{n}": "Cz"})
    assert len(find_electrodes(info.set_montage(net))[0]) == n


def test_derivations_with_positions(make_raw):
    """MNE gives them the position of their anode; they are left out all the same."""
    raw = make_raw(2.0)
    rename = {"C3": "C3-P3", "C4": "C4-P4"}
    raw.rename_channels(rename)
    with pytest.warns(RuntimeWarning, match="Bipolar EEG channels: C3-P3, C4-P4"):
        assert len(check_scalp(raw).ch_names) == 30
