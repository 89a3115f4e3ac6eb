"""Options that several commands share, and their parsing."""

import argparse
from pathlib import Path

from .._text import listed
from ..contract import MODEL
from .messages import as_bad_input

#: Names of the options of :func:`add_contact_file`.
CONTACT_FILE = ("space", "units", "on_missing")


def add_command(commands, name, run, summary, description):
    """Add a command that calls a function with its arguments; return its parser."""
    parser = commands.add_parser(name, help=summary, description=description)
    parser.set_defaults(command=run)
    return parser


def add_recording(parser, metavar="IN", more=""):
    """Add the argument for the input file."""
    parser.add_argument(
        "in_",
        metavar=metavar,
        type=Path,
        help=f"a recording in any format that MNE-Python reads{more}",
    )


def add_out(parser, help_, **options):
    """Add the argument for the output file."""
    parser.add_argument("out", metavar="OUT", type=Path, help=help_, **options)


def add_prediction(parser):
    """Add the options that all predicting commands share."""
    parser.add_argument(
        "--contacts",
        default="mtl",
        help="an implant's name or a BIDS electrodes.tsv (default: %(default)s)",
    )
    add_contact_file(parser.add_argument)
    parser.add_argument(
        "--model",
        default=MODEL,
        help="the weights: a name, or a *.safetensors file (default: %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed for reproducible results (default: a new seed, stored in OUT)",
    )
    parser.add_argument(
        "--device",
        default="auto",
        help="auto, cpu, cuda or cuda:1 (default: %(default)s)",
    )


def add_contact_file(add):
    """Add the options for a file of contacts by a function that adds one option."""
    add(
        "--space",
        help="space of the electrodes.tsv, such as MNI152, if no file contains it",
    )
    add(
        "--units",
        choices=("m", "cm", "mm"),
        help="unit of the electrodes.tsv, if no file contains it",
    )
    add(
        "--on-missing",
        choices=("raise", "warn", "ignore"),
        help="for contacts of the electrodes.tsv without coordinates: raise an error, "
        "or leave them out with or without a warning (default: raise)",
    )


def prediction_options(args):
    """Return the options of :func:`add_prediction` as arguments of functions."""
    return dict(
        contacts=contacts_of(vars(args)),
        model=args.model,
        random_state=args.seed,
        device=args.device,
    )


def contacts_of(options):
    """Read a file of contacts with the user's options; return others unchanged."""
    from ..head.contacts import read_contacts

    contacts = options.get("contacts")
    given = {k: options[k] for k in CONTACT_FILE if options.get(k) is not None}
    if not isinstance(contacts, str) or not contacts.lower().endswith(".tsv"):
        if given:
            flags = listed(f"--{k.replace('_', '-')}" for k in given)
            raise ValueError(f"{flags} need a file of contacts: give --contacts FILE.")
        return contacts
    with as_bad_input(OSError):
        return read_contacts(contacts, **given)


def add_overwrite(parser, help_="replace OUT if it exists"):
    """Add the option to replace earlier results."""
    parser.add_argument("--overwrite", action="store_true", help=help_)


def add_draws(parser, default, behind="the intervals"):
    """Add the option for the number of draws."""
    parser.add_argument(
        "--draws",
        type=positive,
        default=default,
        metavar="N",
        help=f"number of draws for {behind} (default: %(default)s)",
    )


def add_span(parser, done, default):
    """Add the options for the part of a recording that is used."""
    for name, which in (("--tmin", "first"), ("--tmax", "last")):
        parser.add_argument(
            name,
            type=float,
            metavar="S",
            help=f"{which} second that is {done} (default: {default})",
        )


def output(text):
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


def positive(text):
    """Parse a positive integer."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(
            f"it must be a whole number above zero, but got {text!r}"
        )
    return int(text)


def positive_float(text):
    """Parse a positive number."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(
            f"it must be a number above zero, but got {text!r}"
        )
    return number
