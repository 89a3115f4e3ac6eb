"""The files of a command: its inputs, and outputs that are written completely."""

import os
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .._files import draft_folder, move_into
from .messages import BadInput, as_bad_input, logged, one_line

_EPOCHS_INPUT = re.compile(r"[-_]epo\.fif(\.gz)?$")


def absolute(fname):
    """Return the full path of a file."""
    return Path(os.path.abspath(fname.expanduser()))


def is_epochs(fname):
    """Return whether a file contains epochs."""
    return bool(_EPOCHS_INPUT.search(fname.name)) or _is_eeglab_epochs(fname)


def _is_eeglab_epochs(fname):
    """Return whether a file of EEGLAB contains epochs, independent of its name."""
    if fname.suffix.lower() != ".set" or not fname.is_file():
        return False
    import mne

    try:
        mne.io.read_raw_eeglab(fname, preload=False, verbose="error")
    except TypeError as err:  # raised if there is more than one trial
        return "trials" in str(err)
    except Exception:  # reported when the file is read
        return False
    return False


def read(fname):
    """Read a recording or epochs from a file."""
    import mne

    try:
        if _is_eeglab_epochs(fname):
            return mne.read_epochs_eeglab(fname)  # always loads the data
        read_it = mne.read_epochs if is_epochs(fname) else mne.io.read_raw
        return read_it(fname, preload=False)
    except Exception as err:  # MNE-Python's readers raise many kinds
        raise BadInput(f"Cannot read {fname}: {one_line(err)}") from err


def check_input(in_, out):
    """Check that the input exists, and that it is not the output."""
    if not in_.exists():
        raise FileNotFoundError(f"{in_} does not exist.")
    if out.exists() and out.samefile(in_):
        raise ValueError(f"{out} is the input itself, which is never overwritten.")


def check_ending(out, endings):
    """Check the ending of the name of the output."""
    if not out.name.endswith(endings):
        raise ValueError(
            f"The name of the output file must end with {' or '.join(endings)}, "
            f"but got {out.name}."
        )


def check_free(out, overwrite):
    """Check before the work that the output does not exist."""
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


@contextmanager
def output_folder(folder):
    """Move all files of a command to a folder at the end, or none of them.

    Files are written to a temporary folder under their final names, because the parts
    of a split recording refer to each other, and then moved.

    Parameters
    ----------
    folder : Path
        The folder for the files.

    Yields
    ------
    writing : callable
        A function of the name of a file. It returns a context manager with the
        temporary path to write to. Errors contain the final path.
    """
    with ExitStack() as stack:
        with as_bad_input(OSError):
            draft = stack.enter_context(draft_folder(folder))

        @contextmanager
        def writing(name):
            try:
                yield draft / name
            except OSError as err:
                raise OSError(
                    f"Could not write {folder / name}: {err.strerror or err}. "
                    "Nothing was kept."
                ) from err

        yield writing
        # In this order x_raw-1.fif is moved before x_raw.fif. The name from the user
        # appears when all files to which it refers exist.
        move_into(draft, folder)


@contextmanager
def checked_output(args, out, endings):
    """Check the names of input and output, and log until the output is written.

    Parameters
    ----------
    args : argparse.Namespace
        The arguments of the command.
    out : Path
        The file to write.
    endings : tuple of str
        Allowed endings of its name.

    Yields
    ------
    writing : callable
        The function from :func:`output_folder`.
    """
    with as_bad_input(OSError, ValueError):
        check_input(args.in_, out)
        check_ending(out, endings)
        check_free(out, args.overwrite)
    with output_folder(out.parent) as writing, logged(args):
        yield writing


def save(virtual, writing, name):
    """Write a virtual recording."""
    with writing(name) as fname:
        try:
            virtual.save(fname)
        except UnicodeEncodeError as err:
            raise BadInput(
                "FIF files hold ASCII names only: rename the contacts "
                f"{', '.join(ch for ch in virtual.ch_names if not ch.isascii())}."
            ) from err


def pyplot():
    """Return matplotlib's pyplot for use without a display."""
    import matplotlib.pyplot as plt

    plt.switch_backend("agg")
    return plt


def save_figure(fig, writing, name):
    """Write a figure, and close it."""
    with writing(name) as fname:
        fig.savefig(fname, dpi=150)
    pyplot().close(fig)
