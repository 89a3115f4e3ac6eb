"""Commands on the installation: fetch and sys-info."""

from .messages import as_bad_input, logged
from .options import add_command


def add_fetch(commands):
    """Add the command ``fetch``."""
    parser = add_command(
        commands,
        "fetch",
        _fetch,
        "download the weights of a model and print their path",
        "Download the weights of a model, if necessary, and print their path.",
    )
    parser.add_argument("name", metavar="NAME", help="the model, for example mtl-v2")
    return parser


def _fetch(args):
    from ..weights.fetch import fetch_model

    with logged(args), as_bad_input(ValueError):
        fname = fetch_model(args.name)
    print(fname)


def add_sys_info(commands):
    """Add the command ``sys-info``."""
    return add_command(
        commands,
        "sys-info",
        _sys_info,
        "print the information for a bug report",
        "Print versions and the machine, for a bug report.",
    )


def _sys_info(args):
    from .._sys_info import sys_info

    sys_info()
