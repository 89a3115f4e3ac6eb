"""The command line: ``mne-neuroflow``.

Results go to standard output; logs, progress bars, warnings and errors to standard
error. Exit codes: 0 done, 1 failure while running, 2 wrong usage or input, 130
interrupted.

MNE-Python and torch are imported inside the commands, so that ``--help`` and
``--version`` are fast.
"""

import argparse
import os
import sys

from .. import __version__
from . import benchmark, cohort, installation, live, prediction
from .messages import (
    PROG,
    BadInput,
    any_letters,
    fail,
    one_line,
    plain_warnings,
    termination_unwinds,
)

_COMMANDS = (
    prediction.add_predict,
    prediction.add_report,
    prediction.add_view,
    prediction.add_compare,
    prediction.add_export,
    benchmark.add_benchmark,
    cohort.add_cohort,
    live.add_stream,
    live.add_play,
    prediction.add_demo,
    installation.add_fetch,
    installation.add_sys_info,
)


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str | None
        The arguments. None takes those of the process.

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
        with termination_unwinds(), plain_warnings(args), any_letters():
            args.command(args)
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has closed it
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return 0
    except KeyboardInterrupt as err:
        return fail(str(err) or "interrupted", 130, args.debug)
    except BadInput as err:
        return fail(one_line(err), 2, args.debug)
    except Exception as err:
        return fail(one_line(err), 1, args.debug)
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors of the command line."""

    def error(self, message):
        self.exit(2, f"{PROG}: error: {message} (see {self.prog} --help)\n")


def _make_parser():
    parser = _Parser(
        prog=PROG,
        description="Virtual intracranial EEG from scalp EEG. "
        "The result is a prediction, never a recording.",
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    _add_common(parser, default=False)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in _COMMANDS:
        # SUPPRESS keeps a flag that was given before the command.
        _add_common(add(commands), default=argparse.SUPPRESS)
    return parser


def _add_common(parser, default):
    parser.add_argument(
        "--debug",
        action="store_true",
        default=default,
        help="on an error, print the traceback",
    )
    how_much = parser.add_mutually_exclusive_group()
    for flag, help_ in (("--verbose", "log more"), ("--quiet", "print errors only")):
        how_much.add_argument(flag, action="store_true", default=default, help=help_)
