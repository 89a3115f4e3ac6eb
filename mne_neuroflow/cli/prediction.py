"""Commands on one recording: predict, report, view, compare, export and demo."""

import time
from contextlib import ExitStack
from pathlib import Path

from .files import (
    absolute,
    check_ending,
    check_free,
    check_input,
    checked_output,
    is_epochs,
    output_folder,
    pyplot,
    read,
    save,
    save_figure,
)
from .messages import as_bad_input, logged
from .options import (
    add_command,
    add_draws,
    add_out,
    add_overwrite,
    add_prediction,
    add_recording,
    add_span,
    output,
    positive,
    prediction_options,
)

_OR_EPOCHS = ", or epochs (-epo.fif)"
_PAGE_ENDINGS = (".html",)
_TABLE_ENDINGS, _FIGURE_ENDINGS = (".csv",), (".png", ".pdf", ".svg")
_RAW_ENDINGS = ("_raw.fif", "-raw.fif", "_ieeg.fif")  # names that MNE-Python expects
_EPOCHS_ENDINGS = ("-epo.fif", "_epo.fif")
_METHODS = ("eLORETA", "sLORETA", "dSPM", "MNE", "LCMV")
_COMPARED = 30.0  # seconds, unless the user asks otherwise
_DEMO_FILES = ("virtual_ieeg_raw.fif", "virtual_ieeg.png")
# The demo's figure: seconds of the recording, number of draws for the intervals, and
# maximum number of contacts.
_FIGURE_SPAN, _FIGURE_DRAWS, _FIGURE_ROWS = (10.0, 14.0), 50, 6
# Errors of a path that the user gave, not of a disk that is full.
_OF_NAMES = (
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


def add_predict(commands):
    """Add the command ``predict``."""
    parser = add_command(
        commands,
        "predict",
        _predict,
        "predict virtual intracranial channels",
        "Predict virtual intracranial channels from a scalp recording.",
    )
    add_recording(parser, more=_OR_EPOCHS)
    add_out(parser, "the file to write: *_raw.fif or *_ieeg.fif, for epochs *-epo.fif")
    add_prediction(parser)
    add_overwrite(parser)
    parser.add_argument(
        "--output",
        type=output,
        default="sample",
        help="sample (one draw), mean, std, median or quantile:Q with 0 < Q < 1 "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--draws",
        type=positive,
        metavar="N",
        help="compute mean, std, median and quantiles from N draws instead of in one "
        "pass",
    )
    parser.add_argument(
        "--bad-time",
        choices=("prior", "nan"),
        default="prior",
        help="values in time with BAD annotations or without a signal: draws of the "
        "prior, or NaN (default: %(default)s)",
    )
    return parser


def _predict(args):
    out = absolute(args.out)
    endings = _EPOCHS_ENDINGS if is_epochs(args.in_) else _RAW_ENDINGS
    with checked_output(args, out, endings) as writing:
        from ..predict import predict_ieeg

        inst = read(args.in_)
        with as_bad_input(ValueError, TypeError):
            virtual = predict_ieeg(
                inst,
                output=args.output,
                n_draws=args.draws,
                bad_time=args.bad_time,
                **prediction_options(args),
            )
        save(virtual, writing, out.name)
    print(f"Virtual iEEG: {out}")


def add_report(commands):
    """Add the command ``report``."""
    parser = add_command(
        commands,
        "report",
        _report,
        "write a report on the virtual contacts of a recording",
        "Write a report on the virtual contacts of a recording: checks, observability, "
        "traces, spectra, connectivity and lateralization with their intervals.",
    )
    add_recording(parser, more=_OR_EPOCHS)
    add_out(
        parser,
        "the file to write: *.html (default: IN_report.html in this folder)",
        nargs="?",
    )
    add_prediction(parser)
    add_overwrite(parser)
    add_draws(parser, 40)
    add_span(parser, "drawn", "30 s from the middle of a recording, all of an epoch")
    return parser


def _report(args):
    args.out = args.out or Path(f"{args.in_.stem}_report.html")
    _write_page(args, "make_report", open_browser=False, verbose=False)


def add_view(commands):
    """Add the command ``view``."""
    parser = add_command(
        commands,
        "view",
        _view,
        "write an interactive page with scalp and virtual traces",
        "Write an interactive page with scalp and virtual traces and their intervals, "
        "and contacts on a glass brain with their properties. It is one file that "
        "opens offline.",
    )
    add_recording(parser)
    add_out(parser, "the file to write: *.html")
    add_prediction(parser)
    add_overwrite(parser)
    add_draws(parser, 20)
    add_span(parser, "shown", "all, or ten minutes from the middle of a long recording")
    return parser


def _view(args):
    _write_page(args, "make_view")


def _write_page(args, make, **saving):
    """Make a page with a function of ``viz`` and save it."""
    from .. import viz

    out = absolute(args.out)
    with checked_output(args, out, _PAGE_ENDINGS) as writing:
        inst = read(args.in_)
        pyplot()
        with as_bad_input(ValueError, TypeError):
            page = getattr(viz, make)(
                inst,
                n_draws=args.draws,
                tmin=args.tmin,
                tmax=args.tmax,
                **prediction_options(args),
            )
        with writing(out.name) as fname:
            page.save(fname, **saving)
    print(f"Page: {out}")


def add_compare(commands):
    """Add the command ``compare``."""
    parser = add_command(
        commands,
        "compare",
        _compare,
        "compare virtual contacts with source localization",
        "Compare virtual contacts with source localization at the same positions in "
        "the same head. Prints medians over contacts.",
    )
    add_recording(parser, more=_OR_EPOCHS)
    parser.add_argument(
        "--methods",
        type=_methods,
        default=("eLORETA", "sLORETA", "dSPM", "LCMV"),
        metavar="A,B",
        help="some of eLORETA, sLORETA, dSPM, MNE and LCMV (default: all but MNE)",
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
    add_prediction(parser)
    add_overwrite(parser)
    add_draws(parser, 50, "the intervals, 19 or more")
    add_span(parser, "compared", "30 s from the middle")
    return parser


def _methods(text):
    """Split names of methods, ignoring case."""
    known = {name.lower(): name for name in _METHODS}
    names = [name.strip() for name in text.split(",")]
    return tuple(known.get(name.lower(), name) for name in names)


def _compare(args):
    outputs = {"table": (args.output, _TABLE_ENDINGS)}
    outputs["figure"] = (args.figure, _FIGURE_ENDINGS)
    outputs = {k: (absolute(out), ends) for k, (out, ends) in outputs.items() if out}
    with as_bad_input(OSError, ValueError):
        for out, endings in outputs.values():
            check_input(args.in_, out)
            check_ending(out, endings)
            check_free(out, args.overwrite)
        if not args.in_.exists():
            raise FileNotFoundError(f"{args.in_} does not exist.")
    with ExitStack() as stack:
        writing = {
            name: stack.enter_context(output_folder(out.parent))
            for name, (out, _) in outputs.items()
        }
        stack.enter_context(logged(args))
        comparison = _compare_file(args)
        if args.output:
            with writing["table"](args.output.name) as fname:
                comparison.table.to_csv(fname, index=False)
        if args.figure:
            from ..viz import plot_comparison

            pyplot()
            fig = plot_comparison(comparison, show=False)
            save_figure(fig, writing["figure"], args.figure.name)
    table = comparison.table[comparison.table["band"] == "broad"]
    columns = ["r", "inside", "power_difference"]
    medians = table.groupby(["method", "structure"], sort=False)[columns].median()
    print("0.5-45 Hz, medians over contacts; neither side is a recording")
    print(medians.round(2).to_string())
    for out, _ in outputs.values():
        print(f"Written: {out}")


def _compare_file(args):
    from ..compare import compare_sources

    inst = read(args.in_)
    tmin, tmax = args.tmin, args.tmax
    if tmin is None and tmax is None:
        middle, half = (inst.times[0] + inst.times[-1]) / 2, _COMPARED / 2
        tmin = max(inst.times[0], middle - half)
        tmax = min(inst.times[-1], middle + half)
    with as_bad_input(ValueError, TypeError):
        return compare_sources(
            inst,
            methods=args.methods,
            n_draws=args.draws,
            tmin=tmin,
            tmax=tmax,
            **prediction_options(args),
        )


def add_export(commands):
    """Add the command ``export``."""
    parser = add_command(
        commands,
        "export",
        _export,
        "export a virtual recording to EDF+ or BIDS",
        "Export a virtual recording to EDF+ for review software, or to a BIDS "
        "derivative dataset.",
    )
    parser.add_argument(
        "in_", metavar="IN", type=Path, help="a file from the command predict: *.fif"
    )
    add_out(
        parser, "the file to write, *.edf, or the folder of a BIDS derivative dataset"
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
    add_overwrite(parser, "replace what exists")
    return parser


def _export(args):
    from ..export import export_edf, write_bids

    out = absolute(args.out)
    is_edf = out.suffix.lower() == ".edf"
    with as_bad_input(OSError, ValueError):
        if not args.in_.exists():
            raise FileNotFoundError(f"{args.in_} does not exist.")
        if not is_edf and args.subject is None:
            raise ValueError(
                f"{out.name} does not end with .edf, so it is the folder of a BIDS "
                "dataset, which needs --subject LABEL."
            )
    with logged(args), as_bad_input(*_OF_NAMES, ValueError, TypeError):
        virtual = read(args.in_)
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


def add_demo(commands):
    """Add the command ``demo``."""
    parser = add_command(
        commands,
        "demo",
        _demo,
        "predict from the recording that ships with the package",
        "Predict from the recording that ships with the package; write "
        f"{' and '.join(_DEMO_FILES)}.",
    )
    parser.add_argument(
        "--out-dir",
        type=Path,
        default=Path("."),
        metavar="DIR",
        help="the folder for the results (default: the current one)",
    )
    add_overwrite(parser, "replace earlier results")
    return parser


def _demo(args):
    out_dir = absolute(args.out_dir)
    with as_bad_input(OSError):
        out_dir.mkdir(parents=True, exist_ok=True)
        for name in _DEMO_FILES:
            check_free(out_dir / name, args.overwrite)
    fif_name, png_name = _DEMO_FILES
    with output_folder(out_dir) as writing, logged(args):
        from ..datasets import load_demo
        from ..predictor import Predictor

        raw = load_demo()
        start = time.perf_counter()
        predictor = Predictor(raw, contacts="mtl", random_state=0)
        virtual = predictor.predict()
        save(virtual, writing, fif_name)
        seconds = time.perf_counter() - start
        save_figure(_demo_figure(predictor), writing, png_name)
    recorded = raw.n_times / raw.info["sfreq"]
    n_contacts = len(virtual.ch_names)
    print(f"Virtual iEEG: {out_dir / fif_name}")
    print(f"Figure:       {out_dir / png_name}")
    print(
        f"Time taken:   {seconds:.1f} s for {recorded:.0f} s of {n_contacts} virtual "
        f"contacts: {recorded / seconds:.1f} times real time, loading the model and "
        "writing the file included"
    )


def _demo_figure(predictor):
    from ..viz import plot_virtual

    # The first of these draws is the one that was saved.
    draws = predictor.sample(_FIGURE_DRAWS, *_FIGURE_SPAN)
    # The most observable contact of each structure: one row each.
    table = draws[0, :, 0].to_dataframe()
    table = table.sort_values("observability", ascending=False, kind="stable")
    table = table.groupby("structure", sort=False).head(1)[:_FIGURE_ROWS]
    pyplot()
    return plot_virtual(draws.sel(channel=list(table.index)), show=False)
