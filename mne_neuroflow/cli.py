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
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from . import __version__

_PROG = "mne-neuroflow"
_RAW_ENDINGS = ("_raw.fif", "-raw.fif", "_ieeg.fif")  # names that MNE-Python expects
_EPOCHS_ENDINGS = ("-epo.fif", "_epo.fif")
_EPOCHS_INPUT = re.compile(r"[-_]epo\.fif(\.gz)?$")
_DEMO_FILES = ("virtual_ieeg_raw.fif", "virtual_ieeg.png")
# The demo's figure: seconds of the recording shown, seconds computed on either side
# so that no edge is in sight, draws behind the interval, and most contacts shown.
_FIGURE_SPAN, _FIGURE_MARGIN = (10.0, 14.0), 1.0
_FIGURE_DRAWS, _FIGURE_ROWS = 50, 6


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
        with _termination_unwinds(), _plain_warnings(args):
            args.command(args)
    except KeyboardInterrupt:
        return _fail("interrupted", 130, args.debug)
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
    for add in (_add_predict, _add_demo, _add_fetch, _add_sys_info):
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
    parser.add_argument(
        "--contacts",
        default="mtl",
        help="an implant's name or a BIDS electrodes.tsv (default: %(default)s)",
    )
    parser.add_argument(
        "--model", default="mtl-v1", help="the weights (default: %(default)s)"
    )
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
    parser.add_argument("name", metavar="NAME", help="the model, for example mtl-v1")
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


# Commands -----------------------------------------------------------------------------


def _predict(args):
    out = _absolute(args.out)
    is_epochs = bool(_EPOCHS_INPUT.search(args.in_.name))
    with _as_bad_input(OSError, ValueError):
        _check_input(args.in_, out)
        _check_ending(out, _EPOCHS_ENDINGS if is_epochs else _RAW_ENDINGS)
        _check_free(out, args.overwrite)
    with _OutputFolder(out.parent) as folder, _logging(args):
        virtual = _predict_file(args, is_epochs)
        _save(virtual, folder, out.name)
        folder.publish()
    print(f"Virtual iEEG: {out}")


def _predict_file(args, is_epochs):
    import mne

    from .predict import predict_ieeg

    read = mne.read_epochs if is_epochs else mne.io.read_raw
    with _as_bad_input(Exception):
        inst = read(args.in_, preload=False)
    with _as_bad_input(ValueError, TypeError):
        return predict_ieeg(
            inst,
            contacts=args.contacts,
            model=args.model,
            output=args.output,
            n_draws=args.draws,
            random_state=args.seed,
            device=args.device,
        )


def _demo(args):
    out_dir = _absolute(args.out_dir)
    with _as_bad_input(OSError):
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in _DEMO_FILES:
            _check_free(out_dir / name, args.overwrite)
    fif_name, png_name = _DEMO_FILES
    with _OutputFolder(out_dir) as folder, _logging(args):
        from .datasets import load_demo
        from .predict import predict_ieeg

        raw = load_demo()
        start = time.perf_counter()
        virtual = predict_ieeg(raw, random_state=0)
        _save(virtual, folder, fif_name)
        seconds = time.perf_counter() - start
        _save_figure(raw, folder, png_name)
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


def _save_figure(raw, folder, name):
    from .predict import observability, sample_ieeg
    from .viz._demo import plot_virtual

    table = observability(raw.info)
    # The most observable contact of each structure: one row each.
    table = table.sort_values("observability", ascending=False, kind="stable")
    table = table.groupby("structure", sort=False).head(1)[:_FIGURE_ROWS]
    first, last = _FIGURE_SPAN
    around = raw.copy().crop(first - _FIGURE_MARGIN, last + _FIGURE_MARGIN)
    draws = sample_ieeg(around, n_draws=_FIGURE_DRAWS, random_state=0)
    draws = draws.sel(channel=list(table.index)).assign_coords(
        time=draws["time"] + around.first_time - raw.first_time,
        structure=("channel", table["structure"]),
        observability=("channel", table["observability"]),
    )
    fig = plot_virtual(draws.sel(time=slice(first, last)))
    with folder.writing(name) as fname:
        fig.savefig(fname, dpi=150)


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
    parts = re.compile(rf"{re.escape(out.stem)}(-\d+)?{re.escape(out.suffix)}")
    taken = [f.name for f in sorted(out.parent.glob("*")) if parts.fullmatch(f.name)]
    if taken and not overwrite:
        raise FileExistsError(
            f"{', '.join(taken)} in {out.parent} exists; use --overwrite to replace it."
        )


class _OutputFolder:
    """A folder that receives all of a command's files, or none of them.

    Files are written into a temporary folder inside it, under their final names, which
    the parts of a split recording hold to find each other, and moved up at the end.
    """

    def __init__(self, folder):
        self._folder = folder

    def __enter__(self):
        if not self._folder.is_dir():
            raise _BadInput(f"The folder {self._folder} does not exist.")
        try:
            self._temporary = Path(
                tempfile.mkdtemp(prefix=f".{_PROG}-", dir=self._folder)
            )
        except OSError as err:
            raise _BadInput(f"Cannot write to {self._folder}: {err.strerror}.") from err
        return self

    def __exit__(self, *error):
        shutil.rmtree(self._temporary, ignore_errors=True)

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
        for fname in sorted(self._temporary.iterdir()):
            os.replace(fname, self._folder / fname.name)


def _save(virtual, folder, name):
    with folder.writing(name) as fname:
        virtual.save(fname)


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
    if isinstance(err, (_BadInput, OSError, RuntimeError, TypeError, ValueError)):
        return message or type(err).__name__
    # Others were not written for users: KeyError gives no more than the key.
    return f"{type(err).__name__}: {message} (--debug prints where it arose)"


def _fail(message, code, debug):
    if debug:
        traceback.print_exc()
    print(f"{_PROG}: error: {message}", file=sys.stderr)
    return code


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
