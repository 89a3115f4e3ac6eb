"""Commands on streams of the lab streaming layer: stream and play."""

from pathlib import Path

from .files import read
from .messages import as_bad_input, logged
from .options import (
    add_command,
    add_draws,
    add_prediction,
    add_recording,
    output,
    positive,
    positive_float,
    prediction_options,
)


def add_stream(commands):
    """Add the command ``stream``."""
    parser = add_command(
        commands,
        "stream",
        _stream,
        "publish virtual contacts of an LSL stream",
        "Read scalp EEG from an LSL stream and publish virtual contacts as another "
        "stream, until it is stopped with Ctrl+C. The published signals are predicted, "
        "not recorded.",
    )
    parser.add_argument("in_", metavar="IN_NAME", help="name of the scalp EEG stream")
    parser.add_argument(
        "--out", required=True, metavar="OUT_NAME", help="name of the virtual stream"
    )
    add_prediction(parser)
    parser.add_argument(
        "--latency",
        type=positive_float,
        default=1.0,
        metavar="S",
        help="latency in seconds (default: %(default)g)",
    )
    parser.add_argument(
        "--hop",
        type=positive_float,
        default=0.25,
        metavar="S",
        help="seconds between predictions (default: %(default)g)",
    )
    parser.add_argument(
        "--output",
        type=output,
        nargs="+",
        default=["sample"],
        help="one or more of sample (one draw), mean, std, median and quantile:Q "
        "with 0 < Q < 1 (default: sample)",
    )
    add_draws(parser, 20, "every output but sample")
    parser.add_argument(
        "--scalp-unit",
        choices=("V", "mV", "uV", "nV"),
        help="unit of the scalp EEG, if its stream does not say or is wrong",
    )
    parser.add_argument(
        "--channels",
        nargs="+",
        metavar="NAME",
        help="names of the first channels of the stream, if it has none; further "
        "channels are not used",
    )
    parser.add_argument(
        "--montage",
        metavar="NAME",
        help="positions of electrodes that are not named by the 10-05 system: a "
        "montage of MNE-Python, or a file of positions",
    )
    parser.add_argument(
        "--bads",
        nargs="+",
        default=[],
        metavar="NAME",
        help="EEG channels to leave out",
    )
    parser.add_argument(
        "--baseline",
        type=Path,
        metavar="FILE",
        help="an earlier recording of the same person for initial estimates",
    )
    parser.add_argument(
        "--half-life",
        type=positive_float,
        default=60.0,
        metavar="S",
        help="seconds after which data have half of their weight "
        "(default: %(default)g)",
    )
    _add_seconds(parser)
    return parser


def _stream(args):
    from ..stream.lsl import relay

    with logged(args), as_bad_input(ImportError, ValueError, TypeError):
        done = relay(
            args.in_,
            args.out,
            seconds=args.seconds,
            baseline=read(args.baseline) if args.baseline else None,
            ch_names=args.channels,
            unit=args.scalp_unit,
            montage=args.montage,
            bads=args.bads,
            latency=args.latency,
            hop=args.hop,
            output=args.output if len(args.output) > 1 else args.output[0],
            n_draws=args.draws,
            half_life=args.half_life,
            **prediction_options(args),
        )
    print(f"Virtual iEEG: {done.n_published} samples of {done.n_received} published")


def add_play(commands):
    """Add the command ``play``."""
    parser = add_command(
        commands,
        "play",
        _play,
        "play a recording as an LSL stream",
        "Play a recording as an LSL stream, to try the command stream without an "
        "amplifier.",
    )
    add_recording(parser, "FILE")
    parser.add_argument(
        "--name", default="scalp", help="name of the stream (default: %(default)s)"
    )
    parser.add_argument(
        "--repeat",
        type=positive,
        metavar="N",
        help="number of times to play it (default: until stopped)",
    )
    _add_seconds(parser)
    return parser


def _play(args):
    from ..stream.lsl import play

    raw = read(args.in_)
    with logged(args), as_bad_input(ImportError, ValueError, TypeError):
        play(raw, args.name, n_repeat=args.repeat, seconds=args.seconds)


def _add_seconds(parser):
    parser.add_argument(
        "--seconds",
        type=positive_float,
        metavar="S",
        help="seconds after which to stop (default: never)",
    )
