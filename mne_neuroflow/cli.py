"""The command line: ``mne-neuroflow``.

Results go to standard output; logs, progress bars, warnings and errors to standard
error. Exit codes: 0 done, 1 failure while running, 2 wrong usage or input, 130
interrupted.

MNE-Python and torch are imported inside the commands, so that ``--help`` and
``--version`` answer at once.
"""

import argparse
import logging
import os
import re
import signal
import sys
import time
import traceback
import warnings
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path

from . import __version__
from ._files import draft_folder, move_into

_PROG = "mne-neuroflow"
_REPORT_ENDINGS = (".html",)
_TABLE_ENDINGS, _FIGURE_ENDINGS = (".csv",), (".png", ".pdf", ".svg")
_RAW_ENDINGS = ("_raw.fif", "-raw.fif", "_ieeg.fif")  # names that MNE-Python expects
_EPOCHS_ENDINGS = ("-epo.fif", "_epo.fif")
_EPOCHS_INPUT = re.compile(r"[-_]epo\.fif(\.gz)?$")
_METHODS = ("eLORETA", "sLORETA", "dSPM", "MNE", "LCMV")
_COMPARED = 30.0  # seconds, unless the user asks otherwise
# What messages say of Python, in the words of the command line.
_OPTIONS = {
    "overwrite=True": "--overwrite",
    'read_contacts(fname, on_missing="warn")': "--on-missing warn",
    'on_missing="warn"': "--on-missing warn",
    "read_contacts(fname, space='MNI152')": "--space MNI152",
    "units='mm', 'cm' or 'm' to read_contacts()": "--units mm, cm or m",
    "units='m'": "--units m",
    "space= and units=": "--space and --units",
}
_DEMO_FILES = ("virtual_ieeg_raw.fif", "virtual_ieeg.png")
# The demo's figure: seconds of the recording shown, draws behind the intervals, and
# most contacts shown.
_FIGURE_SPAN, _FIGURE_DRAWS, _FIGURE_ROWS = (10.0, 14.0), 50, 6


class _BadInput(Exception):
    """Something that the user gave is wrong."""


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str | None
        The arguments; those of the process if None.

    Returns
    -------
    code : int
        The exit code.
    """
    try:
        args = _make_parser().parse_args(argv)
    except SystemExit as done:  # argparse ends in this way, with 0 after --help
        return done.code
    try:
        with _termination_unwinds(), _plain_warnings(args), _any_letters():
            args.command(args)
            sys.stdout.flush()
    except BrokenPipeError:  # who read the output wants no more of it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return 0
    except KeyboardInterrupt as err:
        return _fail(str(err) or "interrupted", 130, args.debug)
    except _BadInput as err:
        return _fail(_one_line(err), 2, args.debug)
    except Exception as err:
        return _fail(_one_line(err), 1, args.debug)
    return 0


# Arguments ----------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, like every other error here."""

    def error(self, message):
        self.exit(2, f"{_PROG}: error: {message} (see {self.prog} --help)\n")


def _make_parser():
    parser = _Parser(
        prog=_PROG,
        description="Virtual intracranial EEG from scalp EEG. "
        "The result is a prediction, never a recording.",
    )
    parser.add_argument("--version", action="version", version=f"{_PROG} {__version__}")
    _add_common(parser, default=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        _add_predict,
        _add_report,
        _add_compare,
        _add_export,
        _add_benchmark,
        _add_cohort,
        _add_demo,
        _add_fetch,
        _add_sys_info,
    ):
        # SUPPRESS keeps a flag that was given before the command.
        _add_common(add(commands), default=argparse.SUPPRESS)
    return parser


def _add_common(parser, default):
    parser.add_argument(
        "--debug",
        action="store_true",
        default=default,
        help="on an error, print where it arose",
    )
    how_much = parser.add_mutually_exclusive_group()
    how_much.add_argument(
        "--verbose", action="store_true", default=default, help="say more"
    )
    how_much.add_argument(
        "--quiet", action="store_true", default=default, help="print errors only"
    )


def _add_predict(commands):
    parser = commands.add_parser(
        "predict",
        help="predict virtual intracranial channels",
        description="Predict virtual intracranial channels from a scalp recording.",
    )
    parser.set_defaults(command=_predict)
    parser.add_argument(
        "in_",
        metavar="IN",
        type=Path,
        help="a recording in any format that MNE-Python reads, or epochs (-epo.fif)",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="the file to write: *_raw.fif or *_ieeg.fif, for epochs *-epo.fif",
    )
    _add_prediction(parser)
    parser.add_argument(
        "--output",
        type=_output,
        default="sample",
        help="sample (one draw), mean, std, median or quantile:Q with 0 < Q < 1 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--draws",
        type=_positive,
        default=100,
        metavar="N",
        help="draws behind mean, std, median and quantiles (default: %(default)s)",
    )
    parser.add_argument(
        "--bad-time",
        choices=("prior", "nan"),
        default="prior",
        help="what to give where the scalp is annotated as BAD or has no signal "
        "(default: %(default)s)",
    )
    return parser


def _add_report(commands):
    parser = commands.add_parser(
        "report",
        help="write a report on the virtual contacts of a recording",
        description="Write a report on the virtual contacts of a recording: its "
        "checks, what the scalp can say, traces, spectra, connectivity and "
        "lateralization with their intervals.",
    )
    parser.set_defaults(command=_report)
    parser.add_argument(
        "in_",
        metavar="IN",
        type=Path,
        help="a recording in any format that MNE-Python reads, or epochs (-epo.fif)",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        nargs="?",
        help="the file to write: *.html (default: IN_report.html in this folder)",
    )
    _add_prediction(parser)
    parser.add_argument(
        "--draws",
        type=_positive,
        default=40,
        metavar="N",
        help="draws behind the intervals (default: %(default)s)",
    )
    for name, which in (("--tmin", "first"), ("--tmax", "last")):
        parser.add_argument(
            name,
            type=float,
            metavar="S",
            help=f"{which} second that is drawn (default: 30 s from the middle of a "
            "recording, all of an epoch)",
        )
    return parser


def _add_compare(commands):
    parser = commands.add_parser(
        "compare",
        help="compare virtual contacts with source localization",
        description="Compare virtual contacts with those that source localization "
        "gives at the same places of the same head. Prints medians over contacts.",
    )
    parser.set_defaults(command=_compare)
    parser.add_argument(
        "in_",
        metavar="IN",
        type=Path,
        help="a recording in any format that MNE-Python reads, or epochs (-epo.fif)",
    )
    parser.add_argument(
        "--methods",
        type=_methods,
        default=("eLORETA", "sLORETA", "dSPM", "LCMV"),
        metavar="A,B",
        help="of eLORETA, sLORETA, dSPM, MNE and LCMV (default: all but MNE)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="CSV",
        help="write the table of all contacts and bands: *.csv",
    )
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="PNG",
        help="write a figure: *.png, *.pdf or *.svg",
    )
    _add_prediction(parser)
    parser.add_argument(
        "--draws",
        type=_positive,
        default=50,
        metavar="N",
        help="draws behind the intervals, 19 or more (default: %(default)s)",
    )
    for name, which in (("--tmin", "first"), ("--tmax", "last")):
        parser.add_argument(
            name,
            type=float,
            metavar="S",
            help=f"{which} second that is compared (default: 30 s from the middle)",
        )
    return parser


def _add_export(commands):
    parser = commands.add_parser(
        "export",
        help="export a virtual recording to EDF+ or BIDS",
        description="Export a virtual recording to EDF+ for review software, or to a "
        "BIDS derivative dataset.",
    )
    parser.set_defaults(command=_export)
    parser.add_argument(
        "in_", metavar="IN", type=Path, help="what the command predict wrote: *.fif"
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="the file to write, *.edf, or the folder of a BIDS derivative dataset",
    )
    parser.add_argument(
        "--subject", metavar="LABEL", help="subject in the dataset, without sub-"
    )
    parser.add_argument(
        "--session", metavar="LABEL", help="session in the dataset, without ses-"
    )
    parser.add_argument(
        "--task",
        default="rest",
        metavar="LABEL",
        help="task in the dataset (default: %(default)s)",
    )
    parser.add_argument("--run", metavar="N", help="run in the dataset, without run-")
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")
    return parser


def _add_prediction(parser):
    """Add what all commands ask that predict."""
    parser.add_argument(
        "--contacts",
        default="mtl",
        help="an implant's name or a BIDS electrodes.tsv (default: %(default)s)",
    )
    parser.add_argument(
        "--space",
        help="space of the electrodes.tsv, such as MNI152, where no file tells it",
    )
    parser.add_argument(
        "--units",
        choices=("m", "cm", "mm"),
        help="unit of the electrodes.tsv, where no file tells it",
    )
    parser.add_argument(
        "--on-missing",
        choices=("raise", "warn", "ignore"),
        default="raise",
        help="contacts of the electrodes.tsv without coordinates: an error, or left "
        "out with a warning or without (default: %(default)s)",
    )
    parser.add_argument(
        "--model",
        default="mtl-v2",
        help="the weights: a name, or a *.safetensors file (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="makes the result repeatable (default: a new seed, noted in OUT)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda or cuda:1 (default: %(default)s)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace OUT if it exists"
    )


def _add_benchmark(commands):
    parser = commands.add_parser(
        "benchmark",
        help="compare methods on paired recordings",
        description="Compare methods that predict intracranial from scalp EEG on "
        "paired recordings: one table of all scores, and one page that opens offline. "
        "A run that was stopped goes on with the same command.",
    )
    parser.set_defaults(command=_benchmark)
    parser.add_argument(
        "--data",
        default="simulated",
        metavar="DATA",
        help="simulated, ds004752 (as fetched) or a folder with pairs of files like "
        "sub-01_ses-01_eeg.fif and sub-01_ses-01_ieeg.fif (default: %(default)s)",
    )
    parser.add_argument(
        "--protocol",
        default="session",
        choices=("paper", "session", "loso", "loso+k"),
        help="what is trained and tested on what (default: %(default)s)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="all, or some of those that a wrong name lists; NAME=module:Class for a "
        "class with fit() and sample(), NAME=FOLDER for draws in CSV files",
    )
    parser.add_argument(
        "--patients", nargs="+", metavar="NAME", help="who is tested (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the folder of the run (default: benchmark-DATA-PROTOCOL)",
    )
    parser.add_argument(
        "--minutes",
        type=_positive_float,
        metavar="K",
        help="of the tested patient's first session that loso+k trains on, and of each "
        "other patient's that loso does (default: 2, quick: 0.5)",
    )
    parser.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="processes (default: 1)"
    )
    parser.add_argument(
        "--draws", type=_positive, metavar="N", help="draws of each method"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of everything (default: 0)"
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two patients and little training: a first look, not a result",
    )
    return parser


def _add_cohort(commands):
    from .cohort.command import add_arguments

    parser = commands.add_parser(
        "cohort",
        help="predict all recordings of a BIDS dataset",
        description="Predict features of virtual contacts, with intervals, for all "
        "recordings of a dataset, and tell effects over people. A run that was stopped "
        "goes on with the same command.",
    )
    parser.set_defaults(command=_cohort)
    add_arguments(parser)
    return parser


def _add_demo(commands):
    parser = commands.add_parser(
        "demo",
        help="predict from the recording that ships with the package",
        description="Predict from the recording that ships with the package; write "
        f"{' and '.join(_DEMO_FILES)}.",
    )
    parser.set_defaults(command=_demo)
    parser.add_argument(
        "--out-dir",
        type=Path,
        default=Path("."),
        metavar="DIR",
        help="the folder for the results (default: the current one)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace earlier results"
    )
    return parser


def _add_fetch(commands):
    parser = commands.add_parser(
        "fetch",
        help="get the weights of a model and print where they are",
        description="Get the weights of a model and print where they are.",
    )
    parser.set_defaults(command=_fetch)
    parser.add_argument("name", metavar="NAME", help="the model, for example mtl-v2")
    return parser


def _add_sys_info(commands):
    parser = commands.add_parser(
        "sys-info",
        help="print what belongs in a bug report",
        description="Print the versions and the machine, as a bug report needs them.",
    )
    parser.set_defaults(command=_sys_info)
    return parser


def _output(text):
    """Parse ``--output`` into what `predict_ieeg` takes."""
    if text in ("sample", "mean", "std", "median"):
        return text
    name, _, level = text.partition(":")
    try:
        level = float(level)
    except ValueError:
        level = -1.0
    if name != "quantile" or not 0 < level < 1:
        raise argparse.ArgumentTypeError(
            "allowed values are sample, mean, std, median and quantile:Q with "
            f"0 < Q < 1, but got {text!r}"
        )
    return ("quantile", level)


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"it must be a whole number above zero, but got {text!r}"
        )
    return int(text)


def _positive_float(text):
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(
            f"it must be a number above zero, but got {text!r}"
        )
    return number


# Commands -----------------------------------------------------------------------------


def _predict(args):
    out = _absolute(args.out)
    endings = _EPOCHS_ENDINGS if _is_epochs(args.in_) else _RAW_ENDINGS
    with _as_bad_input(OSError, ValueError):
        _check_input(args.in_, out)
        _check_ending(out, endings)
        _check_free(out, args.overwrite)
    with _OutputFolder(out.parent) as folder, _logging(args):
        virtual = _predict_file(args)
        _save(virtual, folder, out.name)
        folder.publish()
    print(f"Virtual iEEG: {out}")


def _predict_file(args):
    from .predict import predict_ieeg

    inst = _read(args.in_)
    with _as_bad_input(ValueError, TypeError):
        return predict_ieeg(
            inst,
            contacts=_contacts(args),
            model=args.model,
            output=args.output,
            n_draws=args.draws,
            bad_time=args.bad_time,
            random_state=args.seed,
            device=args.device,
        )


def _contacts(args):
    """Read a file of contacts as the user tells it; names are left as they are."""
    from .head.contacts import read_contacts

    if not args.contacts.lower().endswith(".tsv"):
        return args.contacts
    return read_contacts(
        args.contacts, space=args.space, units=args.units, on_missing=args.on_missing
    )


def _benchmark(args):
    from .evaluation.benchmark import METHODS, leaderboard, run_benchmark
    from .evaluation.report import write_report

    name = Path(args.data).resolve().name
    quick = "-quick" if args.quick else ""
    out = args.out or Path(f"benchmark-{name}-{args.protocol}{quick}")
    out = _absolute(out)
    methods = list(METHODS) if args.methods == ["all"] else args.methods
    with _logging(args):
        with _as_bad_input(OSError, ValueError):
            dataset = _find_dataset(args.data)
        with _as_bad_input(ValueError):
            with _importing_from_here():
                rows, failures = run_benchmark(
                    dataset, methods, out, _settings(args), n_jobs=args.jobs
                )
        page = write_report(out)
    print(leaderboard(rows)[0].round(3).to_string())
    print(f"Scores: {out / 'results.csv'}")
    print(f"Tables: {out / 'leaderboard.csv'}, {out / 'crps_by_patient.csv'}")
    print(f"Report: {page}")
    if failures:
        raise RuntimeError(f"these failed: {', '.join(failures)}.")


@contextmanager
def _importing_from_here():
    """Let users' own methods lie in the current folder, as with ``python -m``."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _settings(args):
    from .evaluation.benchmark import Settings

    changes = {"protocol": args.protocol, "seed": args.seed}
    if args.patients:
        changes["patients"] = tuple(args.patients)
    if args.draws:
        changes["n_draws"] = args.draws
    if args.minutes:
        changes["minutes"] = args.minutes
    return Settings.quick(**changes) if args.quick else Settings(**changes)


def _find_dataset(data):
    from .datasets import simulated_cohort, verbal_wm
    from .evaluation.protocols import Dataset

    if data == "simulated":
        return Dataset.of(data, simulated_cohort)
    if data == "ds004752":
        return Dataset.of(data, verbal_wm)
    return Dataset.from_folder(data)


def _cohort(args):
    from .cohort.command import run

    with _logging(args), _as_bad_input(FileNotFoundError, ValueError, TypeError):
        lines, n_failed = run(args)
    print("\n".join(lines))
    if n_failed:
        raise RuntimeError(f"{n_failed} recordings failed; status.tsv says why.")


def _demo(args):
    out_dir = _absolute(args.out_dir)
    with _as_bad_input(OSError):
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in _DEMO_FILES:
            _check_free(out_dir / name, args.overwrite)
    fif_name, png_name = _DEMO_FILES
    with _OutputFolder(out_dir) as folder, _logging(args):
        from .datasets import load_demo
        from .predictor import Predictor

        raw = load_demo()
        start = time.perf_counter()
        predictor = Predictor(raw, contacts="mtl", random_state=0)
        virtual = predictor.predict()
        _save(virtual, folder, fif_name)
        seconds = time.perf_counter() - start
        _save_figure(predictor, folder, png_name)
        folder.publish()
    recorded = raw.n_times / raw.info["sfreq"]
    n_contacts = len(virtual.ch_names)
    print(f"Virtual iEEG: {out_dir / fif_name}")
    print(f"Figure:       {out_dir / png_name}")
    print(
        f"Time taken:   {seconds:.1f} s for {recorded:.0f} s of {n_contacts} virtual "
        f"contacts: {recorded / seconds:.1f} times real time, loading the model and "
        "writing the file included"
    )


def _save_figure(predictor, folder, name):
    import matplotlib.pyplot as plt

    from .viz import plot_virtual

    # The first of these draws is the one that was saved.
    draws = predictor.sample(_FIGURE_DRAWS, *_FIGURE_SPAN)
    # The most observable contact of each structure: one row each.
    table = draws[0, :, 0].to_dataframe()
    table = table.sort_values("observability", ascending=False, kind="stable")
    table = table.groupby("structure", sort=False).head(1)[:_FIGURE_ROWS]
    plt.switch_backend("agg")  # also where there is no display
    fig = plot_virtual(draws.sel(channel=list(table.index)), show=False)
    with folder.writing(name) as fname:
        fig.savefig(fname, dpi=150)
    plt.close(fig)


def _report(args):
    out = _absolute(args.out or Path(f"{args.in_.stem}_report.html"))
    with _as_bad_input(OSError, ValueError):
        _check_input(args.in_, out)
        _check_ending(out, _REPORT_ENDINGS)
        _check_free(out, args.overwrite)
    with _OutputFolder(out.parent) as folder, _logging(args):
        report = _report_file(args)
        with folder.writing(out.name) as fname:
            report.save(fname, open_browser=False, verbose=False)
        folder.publish()
    print(f"Report: {out}")


def _report_file(args):
    import matplotlib.pyplot as plt

    from .viz.report import make_report

    inst = _read(args.in_)
    plt.switch_backend("agg")  # also where there is no display
    with _as_bad_input(ValueError, TypeError):
        return make_report(
            inst,
            contacts=_contacts(args),
            model=args.model,
            n_draws=args.draws,
            tmin=args.tmin,
            tmax=args.tmax,
            random_state=args.seed,
            device=args.device,
        )


def _compare(args):
    outputs = {"--output": (args.output, _TABLE_ENDINGS)}
    outputs["--figure"] = (args.figure, _FIGURE_ENDINGS)
    outputs = {k: (_absolute(out), ends) for k, (out, ends) in outputs.items() if out}
    with _as_bad_input(OSError, ValueError):
        for out, endings in outputs.values():
            _check_input(args.in_, out)
            _check_ending(out, endings)
            _check_free(out, args.overwrite)
        if not args.in_.exists():
            raise FileNotFoundError(f"{args.in_} does not exist.")
    with ExitStack() as stack:
        folders = {
            name: stack.enter_context(_OutputFolder(out.parent))
            for name, (out, _) in outputs.items()
        }
        stack.enter_context(_logging(args))
        comparison = _compare_file(args)
        if args.output:
            with folders["--output"].writing(args.output.name) as fname:
                comparison.table.to_csv(fname, index=False)
        if args.figure:
            _save_comparison(comparison, folders["--figure"], args.figure.name)
        for folder in folders.values():
            folder.publish()
    table = comparison.table[comparison.table["band"] == "broad"]
    columns = ["r", "inside", "power_difference"]
    medians = table.groupby(["method", "structure"], sort=False)[columns].median()
    print("0.5-45 Hz, medians over contacts; neither side is a recording")
    print(medians.round(2).to_string())
    for out, _ in outputs.values():
        print(f"Written: {out}")


def _compare_file(args):
    from .compare import compare_sources

    inst = _read(args.in_)
    tmin, tmax = args.tmin, args.tmax
    if tmin is None and tmax is None:
        middle, half = (inst.times[0] + inst.times[-1]) / 2, _COMPARED / 2
        tmin = max(inst.times[0], middle - half)
        tmax = min(inst.times[-1], middle + half)
    with _as_bad_input(ValueError, TypeError):
        return compare_sources(
            inst,
            methods=args.methods,
            contacts=_contacts(args),
            n_draws=args.draws,
            tmin=tmin,
            tmax=tmax,
            model=args.model,
            random_state=args.seed,
            device=args.device,
        )


def _save_comparison(comparison, folder, name):
    import matplotlib.pyplot as plt

    from .viz import plot_comparison

    plt.switch_backend("agg")  # also where there is no display
    fig = plot_comparison(comparison, show=False)
    with folder.writing(name) as fname:
        fig.savefig(fname, dpi=150)
    plt.close(fig)


def _methods(text):
    """Split names of methods, whose capitals nobody remembers."""
    known = {name.lower(): name for name in _METHODS}
    names = [name.strip() for name in text.split(",")]
    return tuple(known.get(name.lower(), name) for name in names)


def _export(args):
    from .export import export_edf, write_bids

    out = _absolute(args.out)
    is_edf = out.suffix.lower() == ".edf"
    with _as_bad_input(OSError, ValueError):
        if not args.in_.exists():
            raise FileNotFoundError(f"{args.in_} does not exist.")
        if not is_edf and args.subject is None:
            raise ValueError(
                f"{out.name} does not end with .edf, so it is the folder of a BIDS "
                "dataset, which needs --subject LABEL."
            )
    with _logging(args), _as_bad_input(OSError, ValueError, TypeError):
        virtual = _read(args.in_)
        if is_edf:
            written = export_edf(virtual, out, overwrite=args.overwrite)
        else:
            written = write_bids(
                virtual,
                out,
                subject=args.subject,
                session=args.session,
                task=args.task,
                run=args.run,
                overwrite=args.overwrite,
            ).fpath
    print(f"Virtual iEEG: {written}")


def _fetch(args):
    from .weights.fetch import fetch_model

    with _logging(args), _as_bad_input(ValueError):
        fname = fetch_model(args.name)
    print(fname)


def _sys_info(args):
    from ._sys_info import sys_info

    sys_info()


# Files --------------------------------------------------------------------------------


def _absolute(fname):
    return Path(os.path.abspath(fname.expanduser()))


def _is_epochs(fname):
    return bool(_EPOCHS_INPUT.search(fname.name)) or _is_eeglab_epochs(fname)


def _is_eeglab_epochs(fname):
    """Tell whether a file of EEGLAB holds epochs, which its name does not say."""
    if fname.suffix.lower() != ".set" or not fname.is_file():
        return False
    import mne

    try:
        mne.io.read_raw_eeglab(fname, preload=False, verbose="error")
    except TypeError as err:  # says that there is more than one trial
        return "trials" in str(err)
    except Exception:  # which reading says again, as what it is
        return False
    return False


def _read(fname):
    import mne

    read = mne.read_epochs if _is_epochs(fname) else mne.io.read_raw
    if _is_eeglab_epochs(fname):
        read = _read_eeglab_epochs
    try:
        return read(fname, preload=False)
    except Exception as err:  # MNE-Python's readers raise many kinds
        raise _BadInput(f"Cannot read {fname}: {_one_line(err)}") from err


def _read_eeglab_epochs(fname, preload):
    import mne

    return mne.read_epochs_eeglab(fname)  # which always loads them


def _check_input(in_, out):
    if not in_.exists():
        raise FileNotFoundError(f"{in_} does not exist.")
    if out.exists() and out.samefile(in_):
        raise ValueError(f"{out} is the input itself, which is never overwritten.")


def _check_ending(out, endings):
    if not out.name.endswith(endings):
        raise ValueError(
            f"The name of the output file must end with {' or '.join(endings)}, "
            f"but got {out.name}."
        )


def _check_free(out, overwrite):
    """Check before any work that nothing lies where the result shall go."""
    if out.is_dir():
        raise IsADirectoryError(f"{out} is a folder.")
    # Recordings beyond 2 GB are split into x_raw.fif, x_raw-1.fif, x_raw-2.fif, ...
    part = r"(-\d+)?" if out.suffix == ".fif" else ""
    parts = re.compile(re.escape(out.stem) + part + re.escape(out.suffix))
    taken = [f.name for f in sorted(out.parent.glob("*")) if parts.fullmatch(f.name)]
    if taken and not overwrite:
        raise FileExistsError(
            f"{', '.join(taken)} in {out.parent} exists; use --overwrite to replace it."
        )


class _OutputFolder:
    """A folder that receives all of a command's files, or none of them.

    Files are written into a draft under their final names, which the parts of a split
    recording hold to find each other, and moved up at the end.
    """

    def __init__(self, folder):
        self._folder = folder

    def __enter__(self):
        self._draft = draft_folder(self._folder)
        with _as_bad_input(OSError):
            self._temporary = self._draft.__enter__()
        return self

    def __exit__(self, *error):
        return self._draft.__exit__(*error)

    @contextmanager
    def writing(self, name):
        """Give the temporary name to write to; failures speak of the final one."""
        try:
            yield self._temporary / name
        except OSError as err:
            raise OSError(
                f"Could not write {self._folder / name}: {err.strerror or err}. "
                "Nothing was kept."
            ) from err

    def publish(self):
        """Move the files to where they belong."""
        # In this order x_raw-1.fif goes before x_raw.fif: the name that the user gave
        # appears only when all that it refers to is there.
        move_into(self._temporary, self._folder)


def _save(virtual, folder, name):
    with folder.writing(name) as fname:
        try:
            virtual.save(fname)
        except UnicodeEncodeError as err:
            raise _BadInput(
                "FIF files hold ASCII names only: rename the contacts "
                f"{', '.join(ch for ch in virtual.ch_names if not ch.isascii())}."
            ) from err


# Messages -----------------------------------------------------------------------------


@contextmanager
def _as_bad_input(*kinds):
    """Count these errors as the user's."""
    try:
        yield
    except kinds as err:
        raise _BadInput(_one_line(err)) from err


def _one_line(err):
    message = " ".join(str(err).split())
    for python, option in _OPTIONS.items():
        message = message.replace(python, option)
    if isinstance(err, (_BadInput, OSError, RuntimeError, TypeError, ValueError)):
        return message or type(err).__name__
    # Others were not written for users: KeyError gives no more than the key.
    return f"{type(err).__name__}: {message} (--debug prints where it arose)"


def _fail(message, code, debug):
    with _any_letters():
        if debug:
            traceback.print_exc()
        print(f"{_PROG}: error: {message}", file=sys.stderr)
    return code


@contextmanager
def _any_letters():
    """Print letters that the console lacks as numbers: files can have any name."""
    streams = [s for s in (sys.stdout, sys.stderr) if hasattr(s, "reconfigure")]
    before = [stream.errors for stream in streams]
    for stream in streams:
        stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        for stream, errors in zip(streams, before, strict=True):
            stream.reconfigure(errors=errors)


@contextmanager
def _plain_warnings(args):
    """Print warnings as one line each, or not at all with ``--quiet``."""
    with warnings.catch_warnings():
        if args.quiet:
            warnings.simplefilter("ignore")
        warnings.showwarning = _show_warning
        yield


def _show_warning(message, *_, **__):
    print(f"{_PROG}: warning: {' '.join(str(message).split())}", file=sys.stderr)


@contextmanager
def _logging(args):
    """Send the log, which MNE-Python prints to standard output, to standard error.

    What MNE-Python itself says about reading and writing is left out unless it is a
    warning or the user wants to know more. This package's own lines are kept also
    while a file is written, since a long recording is computed only then.
    """
    import mne

    mne_folder = str(Path(mne.__file__).parent) + os.sep

    def is_wanted(record):
        return record.levelno >= logging.WARNING or not record.pathname.startswith(
            mne_folder
        )

    level = "error" if args.quiet else "debug" if args.verbose else "info"
    with redirect_stdout(sys.stderr), mne.use_log_level(level):
        if not args.verbose:
            mne.utils.logger.addFilter(is_wanted)
        try:
            yield
        finally:
            mne.utils.logger.removeFilter(is_wanted)


@contextmanager
def _termination_unwinds():
    """Let a termination signal clean up too: batch queues end jobs with one."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    sys.exit(main())
