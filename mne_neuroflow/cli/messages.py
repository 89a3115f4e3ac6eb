"""Messages of the command line: errors, warnings and the log."""

import logging
import os
import signal
import sys
import traceback
import warnings
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

PROG = "mne-neuroflow"
# Python expressions in messages, and the options of the command line that replace them.
_OPTIONS = {
    "overwrite=True": "--overwrite",
    'read_contacts(fname, on_missing="warn")': "--on-missing warn",
    'on_missing="warn"': "--on-missing warn",
    "read_contacts(fname, space='MNI152')": "--space MNI152",
    "units='mm', 'cm' or 'm' to read_contacts()": "--units mm, cm or m",
    "units='m'": "--units m",
    "space= and units=": "--space and --units",
    "Multiply the samples by 1e-6": "Give --scalp-unit uV",
    "Multiply the samples by 1e-3": "Give --scalp-unit mV",
    "pattern='*.edf'": "--pattern '*.edf'",
}


class BadInput(Exception):
    """An error in the user's input."""


@contextmanager
def as_bad_input(*kinds):
    """Convert these errors to errors in the user's input."""
    try:
        yield
    except kinds as err:
        raise BadInput(one_line(err)) from err


def one_line(err):
    """Return the message of an error in one line, with options of the command line."""
    message = " ".join(str(err).split())
    for python, option in _OPTIONS.items():
        message = message.replace(python, option)
    if isinstance(err, (BadInput, OSError, RuntimeError, TypeError, ValueError)):
        return message or type(err).__name__
    # Other messages are not meant for users: that of a KeyError is only the key.
    return f"{type(err).__name__}: {message} (--debug prints where it arose)"


def fail(message, code, debug):
    """Print an error, and return the exit code."""
    with any_letters():
        if debug:
            traceback.print_exc()
        print(f"{PROG}: error: {message}", file=sys.stderr)
    return code


@contextmanager
def any_letters():
    """Escape characters that the console lacks, because files can have any name."""
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
def plain_warnings(args):
    """Print warnings as one line each, or not at all with ``--quiet``."""
    with warnings.catch_warnings():
        if args.quiet:
            warnings.simplefilter("ignore")
        warnings.showwarning = _show_warning
        yield


def _show_warning(message, *_, **__):
    print(f"{PROG}: warning: {' '.join(str(message).split())}", file=sys.stderr)


@contextmanager
def logged(args):
    """Send the log, which MNE-Python prints to standard output, to standard error.

    MNE-Python's own messages on reading and writing are left out, except warnings and
    with ``--verbose``. This package's messages are kept during writing, because long
    recordings are computed then.
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
def termination_unwinds():
    """Clean up after a termination signal, with which batch systems end jobs."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
