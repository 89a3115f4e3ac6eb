"""The command ``cohort``: features of all recordings of a dataset, and effects."""

import argparse
import shutil
import tomllib
from pathlib import Path

from .._files import written_whole
from .messages import as_bad_input, logged
from .options import CONTACT_FILE, add_command, add_contact_file, contacts_of

_LABELS = ("subjects", "sessions", "tasks", "runs")
_CHOICE = ("pattern", *_LABELS, "derivatives", "validate")
_HOW = (
    "contacts",
    "model",
    "n_draws",
    "random_state",
    "device",
    "trans",
    "window",
    "control",
    "specparam",
    "keep_recordings",
    "tsv",
    "stretch",
    "work_dir",
)
_WHERE = ("n_jobs", "scheduler", "retries")
_ALLOWED = _CHOICE + _HOW + _WHERE + CONTACT_FILE
# Options that the group level would silently ignore. Others say where to compute or
# which dataset it is, as scripts do for both levels.
_NOT_OF_GROUP = (*_LABELS, *_HOW[:-1], *CONTACT_FILE, "dry_run")


def add_cohort(commands):
    """Add the command ``cohort``, with arguments by the conventions of BIDS Apps."""
    parser = add_command(
        commands,
        "cohort",
        _cohort,
        "predict all recordings of a BIDS dataset",
        "Predict features of virtual contacts, with intervals, for all recordings of a "
        "dataset, and estimate effects over people. The same command continues a run "
        "that was stopped.",
    )
    parser.add_argument("root", metavar="BIDS_ROOT", type=Path, help="the dataset")
    parser.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        help="the folder for results, which is made if needed",
    )
    parser.add_argument(
        "level",
        choices=("participant", "group"),
        help="predict recordings, or combine the predictions",
    )
    add = _adder(parser.add_argument_group("which recordings"))
    for name, short in zip(
        _LABELS, ("participant", "session", "task", "run"), strict=True
    ):
        add(
            f"--{short}-label",
            dest=name,
            nargs="+",
            metavar="LABEL",
            help="labels to use",
        )
    add(
        "--derivatives",
        metavar="NAME",
        help="read recordings of this pipeline, only those with desc-clean or "
        "proc-clean if there are any",
    )
    add("--pattern", metavar="GLOB", help="files of a folder that is not BIDS: '*.edf'")
    add(
        "--skip-bids-validation",
        dest="validate",
        action="store_false",
        help="do not require dataset_description.json",
    )
    add = _adder(parser.add_argument_group("what is predicted"))
    add(
        "--config",
        type=Path,
        metavar="TOML",
        help="a file of options, which is copied to OUT; options of the command line "
        "take precedence",
    )
    add("--contacts", help="an implant's name or a BIDS electrodes.tsv (default: mtl)")
    add_contact_file(add)
    add("--model", help="the weights: a name or a *.safetensors file")
    add(
        "--draws",
        dest="n_draws",
        type=int,
        metavar="N",
        help="19 or more (default: 20)",
    )
    add(
        "--seed",
        dest="random_state",
        type=int,
        metavar="N",
        help="seed, from which each recording's seed is made (default: 0)",
    )
    add("--device", help="auto (default), cpu or cuda")
    add(
        "--trans",
        metavar="FILE",
        help="transform from head coordinates to the fsaverage MRI, with {participant} "
        "and {session} for labels, such as 'trans/sub-{participant}-trans.fif'",
    )
    add(
        "--window",
        type=float,
        metavar="S",
        help="write time courses in windows of S seconds",
    )
    add(
        "--no-control",
        dest="control",
        action="store_false",
        help="leave out the control with shifted channels (half of the time)",
    )
    add(
        "--no-specparam",
        dest="specparam",
        action="store_false",
        help="do not fit exponents with specparam, if it is installed",
    )
    add(
        "--keep-recordings",
        choices=("fif", "edf"),
        help="write one draw of the signals too",
    )
    add("--tsv", action="store_true", help="write tables as TSV too")
    add = _adder(parser.add_argument_group("where it is computed"))
    add("--n-jobs", type=int, metavar="N", help="workers (default: one per core)")
    add(
        "--scheduler",
        metavar="ADDRESS",
        help="a dask scheduler, tcp://host:port or its file, instead of workers here",
    )
    add("--retries", type=int, metavar="N", help="for each recording (default: 1)")
    add(
        "--stretch",
        type=float,
        metavar="S",
        help="seconds of a long recording in each task (default: 3600)",
    )
    add(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="folder for parts of long recordings (default: OUT/work)",
    )
    add(
        "--dry-run",
        action="store_true",
        help="list the recordings, and estimate time and disk space",
    )
    add = _adder(parser.add_argument_group("group level"))
    add(
        "--formula",
        action="append",
        metavar="FORMULA",
        help="a model of effects, such as 'power ~ group + age + (1|participant)'; may "
        "be repeated",
    )
    return parser


def _adder(group):
    """Add options without defaults, so that those of `predict_cohort` are used."""

    def add(*names, **options):
        group.add_argument(*names, default=argparse.SUPPRESS, **options)

    return add


def _cohort(args):
    with logged(args), as_bad_input(FileNotFoundError, ValueError, TypeError):
        lines, n_failed = _run(args)
    print("\n".join(lines))
    if n_failed:
        raise RuntimeError(f"{n_failed} recordings failed; see status.tsv.")


def _run(args):
    """Run the command; return what to print, and how many recordings failed."""
    _check_level(args)
    given = _options(args)
    if args.level == "group":
        return _group(args, given), 0
    if given.pop("dry_run", False):
        return _dry_run(args, given), 0
    return _participant(args, given)


def _check_level(args):
    """Refuse options of the other level; files of options may be for both."""
    if args.level == "participant" and hasattr(args, "formula"):
        raise ValueError("--formula belongs to the group level.")
    if args.level == "group" and any(hasattr(args, name) for name in _NOT_OF_GROUP):
        raise ValueError(
            f"The group level combines all recordings in {args.out} as they were "
            "predicted. Labels, --dry-run and options of what is predicted belong to "
            "the participant level."
        )


def _options(args):
    """Combine the file of options and the command line."""
    given = {k: v for k, v in vars(args).items() if k in _ALLOWED}
    given |= {k: getattr(args, k) for k in ("dry_run", "formula") if hasattr(args, k)}
    if hasattr(args, "config"):
        given = _read_options(args.config) | given
    contacts = contacts_of(given)
    if "contacts" in given:
        given["contacts"] = contacts
    return {k: v for k, v in given.items() if k not in CONTACT_FILE}


def _read_options(config):
    """Read the file of options."""
    if not config.is_file():
        raise FileNotFoundError(f"The file {config} does not exist.")
    try:
        read = tomllib.loads(config.read_text("utf-8"))
    except tomllib.TOMLDecodeError as err:
        raise ValueError(f"{config} is not TOML: {err}") from err
    unknown = sorted(set(read) - {*_ALLOWED, "formula"})
    if unknown:
        raise ValueError(
            f"Invalid options in {config}: {', '.join(unknown)}. Allowed options are "
            f"{', '.join(sorted(_ALLOWED))} and formula."
        )
    return read


def _participant(args, given):
    from ..cohort.run import predict_cohort

    given.pop("formula", None)
    refused = False
    try:
        status = predict_cohort(args.root, args.out, **given)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted. What is done is kept in {args.out}: the same command goes on"
        ) from None
    except (FileNotFoundError, TypeError, ValueError):
        refused = True
        raise
    finally:
        if hasattr(args, "config") and not refused:
            _keep_options(args.config, args.out)
    counts = status["state"].value_counts()
    states = ", ".join(f"{number} {state}" for state, number in counts.items())
    lines = [f"Recordings: {states}", f"Status:     {args.out / 'status.tsv'}"]
    return lines, int(counts.get("failed", 0))


def _keep_options(config, out):
    """Copy the file of options to the results, if there are any."""
    kept = out / "options.toml"
    if (out / "status.tsv").is_file() and config.resolve() != kept.resolve():
        with written_whole(kept) as part:
            shutil.copyfile(config, part)


def _dry_run(args, given):
    from ..cohort.plan import plan_cohort
    from ..cohort.run import check_settings, count_workers

    n_workers = count_workers(given.get("n_jobs"))
    how = _defaults() | {k: v for k, v in given.items() if k in _HOW}
    chosen = {k: v for k, v in given.items() if k in _CHOICE}
    plan = plan_cohort(args.root, check_settings(out=args.out, **how), **chosen)
    workers = f"{n_workers} worker{'s' * (n_workers > 1)}"
    several = f"{plan.work / n_workers:.2f} h with {workers}"
    return [
        *(one.file for one in plan.missing),
        f"Recordings: {len(plan.missing)} to do, {plan.n_done} done; about "
        f"{plan.hours:.2f} h of scalp EEG",
        f"Time:       about {plan.work:.2f} h of one core, {several}",
        f"Disk:       about {plan.disk / 1e6:.1f} MB in {args.out}",
    ]


def _defaults():
    import inspect

    from ..cohort.run import predict_cohort

    parameters = inspect.signature(predict_cohort).parameters
    return {name: parameters[name].default for name in _HOW}


def _group(args, given):
    from ..cohort.folder import Folder
    from ..cohort.group import analyze_cohort

    if args.out.is_dir():
        Folder(args.out).copy_participants(args.root)
    effects = analyze_cohort(args.out, given.get("formula"))
    lines = []
    if len(effects):
        recorded = effects[effects["scalp"] == "recorded"]
        recorded = recorded[recorded["term"] != "Intercept"]
        for (formula, reading), rows in recorded.groupby(["formula", "reading"]):
            lines.append(f"{formula}: {len(rows)} effects: {reading}")
        lines.append(f"Effects: {args.out / 'group' / 'effects.tsv'}")
    return [
        *lines,
        f"Dataset: {args.out / 'group' / 'features'}",
        f"Report:  {args.out / 'group' / 'report.html'}",
    ]
