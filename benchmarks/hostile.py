"""Hostile inputs: for each a right answer, or one error that a user understands.

Recordings, contact lists, weights, command lines, EDF and FIF files are made wrong at
random, from a seed. Each is tried in a process of its own kind of trouble: it must end
within ten seconds with an answer or with one error of the package (or of MNE's reader,
on the command line in one line), leave no half-written file, and nothing else.

    python benchmarks/hostile.py --number 600 --out doc/decisions/hostile-inputs.md
"""

import argparse
import collections
import io
import json
import os
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
from mne_neuroflow.weights.checkpoint import file_hash, load_checkpoint

LIMIT = 10  # seconds
POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
OURS = (ValueError, TypeError, RuntimeError, OSError)


def flip(rng, data, n=None):
    """Change some bytes, cut the end off, or put some in."""
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
    told = []
    for _ in range(rng.integers(1, 4)):
        name = rng.choice(list(WRONGS))
        told.append(name)
        raw = WRONGS[name](rng, raw) or raw
    if rng.random() < 0.3:
        told.append("epochs")
        raw = mne.make_fixed_length_epochs(raw, 1.0, verbose=False)
    return ", ".join(told), lambda: _predict(raw)


def _predict(inst, **options):
    virtual = mne_neuroflow.predict_ieeg(
        inst, contacts=POINTS, random_state=0, verbose="error", **options
    )
    data = virtual.get_data()
    if not np.isfinite(data).all():
        raise AssertionError("the prediction is not finite")
    # Of nine parts in ten of all seconds, a tenth to ten times of what iEEG has.
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
    """Take an array or any object where contacts are meant."""
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
        told = json.loads(card)
        card = json.dumps({**told, "sha256": file_hash(file)}).encode()
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
    """Take words that belong to commands, in any order, and some that do not."""
    words = (
        "predict report compare export fetch sys-info --contacts mtl nowhere --model "
        "mtl-v1 --seed -1 0 x --output mean quantile:2 quantile:0.5 --draws --quiet "
        "--space ACPC --units mm --on-missing out_raw.fif out.edf \u982d --device gpu"
    ).split()
    some = list(rng.choice(words, rng.integers(1, 8)))
    return "command line", lambda: _command(folder, some)


def _command(folder, words):
    told = io.StringIO()
    with redirect_stderr(told), redirect_stdout(told), _inside(folder):
        code = main([str(word) for word in words])
    text = told.getvalue()
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
    "command lines": command_line,
}


def make(kind, rng, folder):
    """Make one; not all that is wrong can be made with MNE-Python."""
    while True:
        try:
            return KINDS[kind](rng, folder)
        except (ValueError, RuntimeError, KeyError, TypeError):
            continue


def attempt(kind, seed):
    """Try one; return what was wrong with it, what came, and how long it took."""
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
    if seconds > LIMIT and came != "answered":  # a long recording is no trouble
        came, text = "too slow", f"{seconds:.0f} s {text}"
    return what, came, text, seconds


def _expired(*_):
    raise AssertionError("it hangs")


def run(number, first=0):
    """Try all kinds in turn."""
    mne.set_log_level("ERROR")
    signal.signal(signal.SIGALRM, _expired)
    for seed in range(first, first + number):
        kind = list(KINDS)[seed % len(KINDS)]
        yield (seed, kind, *attempt(kind, seed))


def page(rows):
    """Write what was tried and what came."""
    columns = ["answered", "refused", "not understood", "failed", "too slow"]
    lines = [
        "# Hostile inputs",
        "",
        f"{len(rows)} inputs made wrong at random by `python benchmarks/hostile.py",
        f"--number {len(rows)}`. *Refused* is one error in the package's own words or",
        "of MNE-Python's reader; *not understood* one that was not written for users.",
        "",
        f"| Kind | {' | '.join(columns)} | longest |",
        f"|---|{'---|' * (len(columns) + 1)}",
    ]
    for kind in KINDS:
        mine = [row for row in rows if row[1] == kind]
        counts = collections.Counter(row[3] for row in mine)
        longest = max((row[5] for row in mine), default=0)
        told = " | ".join(str(counts[column]) for column in columns)
        lines.append(f"| {kind} | {told} | {longest:.1f} s |")
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
        for row in run(options.number, options.first):
            results.append(row)
            if row[3] not in ("answered", "refused"):
                print(row, flush=True)
    if options.out:
        options.out.write_text(page(results), encoding="utf-8")
    print(page(results))
