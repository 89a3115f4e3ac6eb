"""Test random wrong inputs: each must have a right answer or an understandable error.

Recordings, lists of contacts, weights, recipes, command lines, and EDF and FIF files
are damaged at random from a seed. Each must end within ten seconds, either with an
answer or with one error of the package or of MNE's reader (one line on the command
line), and leave no incomplete file::

    python benchmarks/hostile.py --number 600 --out doc/decisions/hostile-inputs.md
"""

import argparse
import collections
import io
import json
import os
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import mne
import numpy as np

import mne_neuroflow
from mne_neuroflow.cli import main
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.training.recipe import RECIPES, load_recipe
from mne_neuroflow.weights.checkpoint import file_hash, load_checkpoint

LIMIT = 10  # seconds
POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
OURS = (ValueError, TypeError, RuntimeError, OSError)


def flip(rng, data, n=None):
    """Change some bytes, cut off the end, or insert bytes."""
    data = bytearray(data)
    for _ in range(n or rng.integers(1, 30)):
        data[rng.integers(len(data))] = rng.integers(256)
    if rng.random() < 0.2:
        data = data[: rng.integers(len(data))]
    if rng.random() < 0.1:
        at = rng.integers(len(data) + 1)
        data[at:at] = rng.bytes(rng.integers(1, 50))
    return bytes(data)


def recording(rng, folder):
    """Make a recording or epochs with one to three things wrong."""
    raw = load_demo(verbose=False).load_data(verbose=False).crop(0, 3)
    parts = []
    for _ in range(rng.integers(1, 4)):
        name = rng.choice(list(WRONGS))
        parts.append(name)
        raw = WRONGS[name](rng, raw) or raw
    if rng.random() < 0.3:
        parts.append("epochs")
        raw = mne.make_fixed_length_epochs(raw, 1.0, verbose=False)
    return ", ".join(parts), lambda: _predict(raw)


def _predict(inst, **options):
    virtual = mne_neuroflow.predict_ieeg(
        inst, contacts=POINTS, random_state=0, verbose="error", **options
    )
    data = virtual.get_data()
    if not np.isfinite(data).all():
        raise AssertionError("the prediction is not finite")
    # In nine tenths of all seconds, a tenth to ten times the amplitude of iEEG.
    size = np.median(data.std(axis=-1))
    if not 5e-6 < size < 5e-3:
        raise AssertionError(f"the prediction has {size:.2g} V")
    return "answered"


def _channels(rng, raw, few=10):
    return rng.choice(len(raw.ch_names), rng.integers(1, few), replace=False)


def _rename(make):
    def rename(rng, raw):
        picked = _channels(rng, raw)
        raw.rename_channels(
            {raw.ch_names[k]: make(rng, raw.ch_names[k]) for k in picked}
        )

    return rename


def _scale(rng, raw):
    raw._data[_channels(rng, raw)] *= 10.0 ** rng.integers(-9, 10)


def _spoil(value):
    def spoil(rng, raw):
        start = rng.integers(raw.n_times)
        raw._data[_channels(rng, raw, 64), start : start + rng.integers(1, 300)] = value

    return spoil


def _move(rng, raw):
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0] * rng.choice([1, 1, 2, 1e3])
    shift = rng.normal(0, 0.03, 3)
    for ch in raw.info["chs"]:
        ch["loc"][:3] = turn @ np.nan_to_num(ch["loc"][:3]) + shift


def _annotate(rng, raw):
    n = rng.integers(1, 6)
    raw.set_annotations(
        mne.Annotations(
            rng.uniform(0, 3, n),
            rng.exponential(1, n),
            rng.choice(["BAD_x", "bad", "EDGE", "", "BAD_ACQ_SKIP", "\u982d"], n),
        ),
        emit_warning=False,
    )


def _bads(rng, raw):
    raw.info["bads"] = [raw.ch_names[k] for k in _channels(rng, raw, 64)]


def _types(rng, raw):
    kind = rng.choice(["seeg", "ecog", "misc", "eog", "csd", "bio", "stim"])
    picked = [raw.ch_names[k] for k in _channels(rng, raw, 64)]
    raw.set_channel_types(dict.fromkeys(picked, kind), on_unit_change="ignore")


def _rate(rng, raw):
    sfreq = float(rng.choice([7.0, 99.9, 100.0, 128.0, 499.907, 1e6, 163.7]))
    info = mne.create_info(raw.ch_names, sfreq, "eeg")
    return mne.io.RawArray(raw.get_data(), info, verbose=False)


WRONGS = {
    "names of contacts": _rename(lambda rng, name: f"{name[0]}{rng.integers(1, 20)}'"),
    "any letters": _rename(
        lambda rng, name: "".join(map(chr, rng.integers(33, 1000, 6))) + name
    ),
    "references": _rename(
        lambda rng, name: f"{name}-{rng.choice(['A1', 'Cz', 'F7', 'Ref', '0', 'x'])}"
    ),
    "units": _scale,
    "NaN": _spoil(np.nan),
    "infinity": _spoil(np.inf),
    "zeros": _spoil(0.0),
    "huge": _spoil(1e30),
    "positions": _move,
    "annotations": _annotate,
    "bads": _bads,
    "types": _types,
    "rate": _rate,
    "short": lambda rng, raw: raw.crop(0, rng.uniform(0.01, 2)),
    "average": lambda rng, raw: raw.set_eeg_reference("average", verbose=False),
    "projector": lambda rng, raw: raw.set_eeg_reference(projection=True, verbose=False),
}


def contact_list(rng, folder):
    """Make a damaged electrodes.tsv beside a damaged or a good coordsystem.json."""
    rows = "name\tx\ty\tz\n" + "".join(
        f"A{k}\t{-27 - 4 * k}\t-20\t-18\n" for k in range(5)
    )
    system = {"iEEGCoordinateSystem": "MNI152Lin", "iEEGCoordinateUnits": "mm"}
    good = json.dumps(system).encode()
    file = folder / "sub-01_electrodes.tsv"
    file.write_bytes(flip(rng, rows.encode(), rng.integers(1, 6)))
    sidecar = flip(rng, good, 2) if rng.random() < 0.5 else good
    (folder / "sub-01_coordsystem.json").write_bytes(sidecar)
    on_missing = str(rng.choice(["raise", "warn", "ignore"]))

    def read():
        mne_neuroflow.read_contacts(file, on_missing=on_missing, verbose="error")
        return "answered"

    return "electrodes.tsv", read


def positions(rng, folder):
    """Make an array or any object in place of contacts."""
    array = rng.normal(0, 0.03, (rng.integers(0, 5), rng.integers(2, 5)))
    objects = [
        array,
        array * rng.choice([1e-9, 1e3, np.nan, np.inf]),
        array.tolist(),
        None,
        {},
        "mtl-",
        "\x00",
        3,
        [["a", "b", "c"]],
        object(),
    ]
    spec = objects[rng.integers(len(objects))]

    def make():
        mne_neuroflow.make_contacts(spec, verbose="error")
        return "answered"

    return "contacts", make


def weights(rng, folder):
    """Make weights or a card with flipped bytes, with and without a fitting hash."""
    file = folder / "x.safetensors"
    file.write_bytes(SMALL.read_bytes())
    card = SMALL.with_suffix(".json").read_bytes()
    which = rng.choice(["card", "head", "body"])
    if which == "card":
        card = flip(rng, card, 3)
    else:
        data = file.read_bytes()
        edge = 8 + int.from_bytes(data[:8], "little")
        head = flip(rng, data[:edge], 2) if which == "head" else data[:edge]
        body = flip(rng, data[edge:]) if which == "body" else data[edge:]
        file.write_bytes(head + body)
    if which != "card" and rng.random() < 0.8:
        entries = json.loads(card)
        card = json.dumps({**entries, "sha256": file_hash(file)}).encode()
    file.with_suffix(".json").write_bytes(card)

    def load():
        load_checkpoint(file)
        return "answered"

    return f"weights: {which}", load


def recorded_file(rng, folder):
    """Make an EDF or FIF file with flipped bytes, for the command line."""
    ending = str(rng.choice(["edf", "fif"]))
    file = folder / f"scalp_raw.{ending}"
    source = FILES[ending].read_bytes()
    edge = 20_000 if rng.random() < 0.7 else len(source)  # headers more than data
    file.write_bytes(flip(rng, source[:edge]) + source[edge:])
    return f"{ending} file", lambda: _command(
        folder, ["predict", file, folder / "out_raw.fif", "--seed", "0"]
    )


def command_line(rng, folder):
    """Take a command that is right, and change, add, repeat or leave out some words."""
    shutil.copy(FILES["edf"], folder / "scalp.edf")
    (folder / "a_raw.fif").write_bytes(FILES["fif"].read_bytes())
    words = str(rng.choice(COMMANDS)).split()
    others = [word for line in COMMANDS for word in line.split()]
    others += ["--space", "ACPC", "-1", "nowhere", "\u982d", "--device", "gpu", "1e9"]
    for _ in range(rng.integers(0, 4)):
        at = rng.integers(len(words))
        match rng.integers(4):
            case 0:
                words[at] = str(rng.choice(others))
            case 1:
                words.insert(at, str(rng.choice(others)))
            case 2:
                words.insert(at, words[at])
            case _ if len(words) > 1:
                del words[at]
    return f"mne-neuroflow {' '.join(words)}", lambda: _command(folder, words)


COMMANDS = (
    "predict a_raw.fif out_raw.fif --contacts mtl-core --seed 0",
    "predict scalp.edf out_raw.fif --output quantile:0.5 --contacts mtl-core --seed 0",
    "predict a_raw.fif v_raw.fif --output mean --draws 3 --contacts mtl-core --seed 1",
    "report a_raw.fif out.html --contacts mtl-core --seed 0",
    "compare a_raw.fif out.html --contacts mtl-core",
    "view a_raw.fif out.html --contacts mtl-core --seed 0",
    "export a_raw.fif out.edf",
    "--quiet cohort . out participant --pattern *.edf --dry-run --draws 20",
    "cohort . out group --formula power~age",
    "benchmark run . --dry-run",
    "fetch mtl-v1",
    "sys-info",
)
VALUES = ("0", "-1", "1e400", "nan", "true", "''", "'mtl'", "'\u982d'", "[]", "{}")
VALUES += ("['a', 2]", "2026-01-01", "0.5", "99999999999999999999", "'../..'", "20")


FIELDS = ("steps", "width", "seeds", "sizes", "clip", "eager", "'\u982d'")


def options_file(rng, folder):
    """Make a file of options for a cohort, with wrong values, names or bytes."""
    shutil.copy(FILES["edf"], folder / "scalp.edf")
    known = ["contacts", "model", "n_draws", "random_state", "device", "trans", "tsv"]
    known += ["window", "control", "specparam", "keep_recordings", "stretch", "n_jobs"]
    known += ["subjects", "tasks", "derivatives", "validate", "work_dir", "formula"]
    lines = ["pattern = '*.edf'", "contacts = 'mtl-core'"]
    for _ in range(rng.integers(0, 4)):
        lines.append(f"{rng.choice(known)} = {rng.choice(VALUES)}")
    data = "\n".join(lines).encode()
    file = folder / "options.toml"
    file.write_bytes(
        flip(rng, data, rng.integers(1, 4)) if rng.random() < 0.3 else data
    )
    command = ["cohort", folder, folder / "out", "participant", "--dry-run"]
    return (
        f"options: {'; '.join(lines[2:])}",
        lambda: _command(folder, [*command, "--config", file]),
    )


def recipe(rng, folder):
    """Make a recipe of a training, with wrong values, fields or bytes."""
    known = sorted(RECIPES.glob("*.toml"))
    lines = known[rng.integers(len(known))].read_text("utf-8").splitlines()
    for _ in range(rng.integers(0, 4)):
        at = rng.integers(len(lines))
        key, equal, _ = lines[at].partition(" = ")
        match rng.integers(4):
            case 0:
                lines.insert(at, f"{rng.choice(FIELDS)} = {rng.choice(VALUES)}")
            case 1 if equal:
                lines[at] = f"{key} = {rng.choice(VALUES)}"
            case 2:
                lines.insert(at, lines[rng.integers(len(lines))])
            case _:
                del lines[at]
    data = "\n".join(lines).encode()
    file = folder / "recipe.toml"
    file.write_bytes(
        flip(rng, data, rng.integers(1, 4)) if rng.random() < 0.3 else data
    )

    def read():
        accepted = load_recipe(file)
        ConditionalFlow(FlowConfig.from_dict(accepted["flow"]))
        return "answered"

    return "recipe", read


def _command(folder, words):
    output = io.StringIO()
    with redirect_stderr(output), redirect_stdout(output), _inside(folder):
        code = main([str(word) for word in words])
    text = output.getvalue()
    left = [f.name for f in folder.rglob("*") if f.name.startswith(".mne-neuroflow")]
    if "Traceback" in text or left or code not in (0, 1, 2):
        raise AssertionError(f"code {code}, left {left}: {text[-300:]}")
    if code == 1 and "--debug prints" in text:
        raise AssertionError(text[-300:])
    return "answered" if code == 0 else "refused"


@contextmanager
def _inside(folder):
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


KINDS = {
    "recordings": recording,
    "contact files": contact_list,
    "contacts": positions,
    "weights": weights,
    "EDF and FIF files": recorded_file,
    "files of options": options_file,
    "command lines": command_line,
    "recipes": recipe,
}


def make(kind, rng, folder):
    """Make an input; some wrong ones cannot be made with MNE-Python."""
    while True:
        try:
            return KINDS[kind](rng, folder)
        except (ValueError, RuntimeError, KeyError, TypeError):
            continue


def attempt(kind, seed):
    """Try an input; return the fault, the outcome and the time."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signal.alarm(6 * LIMIT)
        what, call = make(kind, rng, Path(folder))
        try:
            start = time.perf_counter()
            came, text = call(), ""
        except OURS as err:
            came, text = "refused", f"{type(err).__name__}: {err}"
            if isinstance(err, UnicodeError | json.JSONDecodeError) or len(text) < 25:
                came = "not understood"
        except Exception as err:
            where = traceback.extract_tb(err.__traceback__)[-1]
            came = "failed"
            text = f"{type(err).__name__}: {err} ({where.filename}:{where.lineno})"
        finally:
            signal.alarm(0)
        seconds = time.perf_counter() - start
    if seconds > LIMIT and came != "answered":  # long recordings may take longer
        came, text = "too slow", f"{seconds:.0f} s {text}"
    return what, came, text, seconds


def _expired(*_):
    raise AssertionError("it hangs")


def run(number, first=0, kinds=tuple(KINDS)):
    """Try kinds of inputs in turn."""
    mne.set_log_level("ERROR")
    signal.signal(signal.SIGALRM, _expired)
    for seed in range(first, first + number):
        kind = kinds[seed % len(kinds)]
        yield (seed, kind, *attempt(kind, seed))


def page(rows):
    """Write a page with the inputs and outcomes."""
    columns = ["answered", "refused", "not understood", "failed", "too slow"]
    lines = [
        "# Hostile inputs",
        "",
        f"{len(rows)} inputs made wrong at random by `python benchmarks/hostile.py",
        f"--number {len(rows)} --first {rows[0][0]}`. *Refused* is one error in the",
        "package's own words or of MNE-Python's reader; *not understood* one that was",
        "not written for users.",
        "",
        f"| Kind | {' | '.join(columns)} | longest |",
        f"|---|{'---|' * (len(columns) + 1)}",
    ]
    for kind in KINDS:
        mine = [row for row in rows if row[1] == kind]
        counts = collections.Counter(row[3] for row in mine)
        longest = max((row[5] for row in mine), default=0)
        row = " | ".join(str(counts[column]) for column in columns)
        lines.append(f"| {kind} | {row} | {longest:.1f} s |")
    wrong = [row for row in rows if row[3] not in ("answered", "refused")]
    lines += [
        "",
        "What was neither answered nor refused:" if wrong else "Nothing else.",
    ]
    for seed, kind, what, came, text, _ in wrong:
        lines.append(f"- seed {seed}, {kind} ({what}), {came}: `{text[:300]}`")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=600)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        from mne_neuroflow import NeuroFlow

        SMALL = NeuroFlow.untrained().save(Path(place) / "small.safetensors")
        demo = load_demo(verbose="error").crop(0, 3)
        edf = Path(mne_neuroflow.__file__).parent / "datasets" / "data"
        FILES = {"edf": next(edf.glob("*.edf")), "fif": Path(place) / "a_raw.fif"}
        demo.save(FILES["fif"], verbose="error")
        results = []
        for row in run(options.number, options.first, options.kinds):
            results.append(row)
            if row[3] not in ("answered", "refused"):
                print(row, flush=True)
    if options.out:
        options.out.write_text(page(results), encoding="utf-8")
    print(page(results))
