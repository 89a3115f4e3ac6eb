"""The command ``mne-neuroflow cohort``: its arguments, and what it prints.

Nothing heavy is imported before the command runs, so that ``--help`` answers at once.
"""

import argparse
import shutil
import tomllib
from pathlib import Path

_LABELS = ("subjects", "sessions", "tasks", "runs")
_CHOICE = ("pattern", *_LABELS, "derivatives", "validate")
_HOW = (
    "contacts",
    "model",
    "n_draws",
    "random_state",
    "window",
    "control",
    "keep_recordings",
    "tsv",
    "stretch",
    "work_dir",
)
_WHERE = ("n_jobs", "scheduler", "retries")


def add_arguments(parser):
    """Add the arguments of the command, by the conventions of BIDS Apps.

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Those that the user leaves out are not in its result: the defaults are those of
        :func:`mne_neuroflow.predict_cohort`.
    """
    parser.add_argument("root", metavar="BIDS_ROOT", type=Path, help="the dataset")
    parser.add_argument(
        "out", metavar="OUT", type=Path, help="the folder of results, made if need be"
    )
    parser.add_argument(
        "level",
        choices=("participant", "group"),
        help="predict recordings, or put what was predicted together",
    )
    add = _adder(parser.add_argument_group("which recordings"))
    for name, short in zip(
        _LABELS, ("participant", "session", "task", "run"), strict=True
    ):
        add(f"--{short}-label", dest=name, nargs="+", metavar="LABEL", help="of which")
    add(
        "--derivatives",
        metavar="NAME",
        help="read cleaned recordings of this pipeline, those with desc-clean or "
        "proc-clean if there are such",
    )
    add("--pattern", metavar="GLOB", help="for a folder that is not BIDS, as '*.edf'")
    add(
        "--skip-bids-validation",
        dest="validate",
        action="store_false",
        help="do not ask for dataset_description.json",
    )
    add = _adder(parser.add_argument_group("what is predicted"))
    add(
        "--config",
        type=Path,
        metavar="TOML",
        help="a file of options, which is copied into OUT; those of the command line "
        "come first",
    )
    add("--contacts", help="an implant's name or a BIDS electrodes.tsv (default: mtl)")
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
        help="together with its name it makes a recording's seed (default: 0)",
    )
    add(
        "--window",
        type=float,
        metavar="S",
        help="write courses in windows of S seconds",
    )
    add(
        "--no-control",
        dest="control",
        action="store_false",
        help="leave out the control with shifted channels, in half of the time",
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
    add("--retries", type=int, metavar="N", help="of a recording (default: 1)")
    add(
        "--stretch",
        type=float,
        metavar="S",
        help="seconds of a long recording in one task (default: 3600)",
    )
    add("--work-dir", type=Path, metavar="DIR", help="for parts (default: OUT/work)")
    add("--dry-run", action="store_true", help="list what would be done, and estimate")
    add = _adder(parser.add_argument_group("group level"))
    add(
        "--formula",
        action="append",
        metavar="FORMULA",
        help="an effect to tell, as 'power ~ group + age + (1|participant)'; several "
        "are possible",
    )


def _adder(group):
    def add(*names, **options):
        group.add_argument(*names, default=argparse.SUPPRESS, **options)

    return add


def run(args):
    """Run the command.

    Parameters
    ----------
    args : argparse.Namespace
        What :func:`add_arguments` has made of the command line.

    Returns
    -------
    lines : list of str
        What to print.
    n_failed : int
        Recordings that failed.
    """
    given = _options(args)
    if args.level == "group":
        return _group(args, given), 0
    if given.pop("dry_run", False):
        return _dry_run(args, given), 0
    return _participant(args, given)


def _options(args):
    """Put the file of options and the command line together."""
    given = {k: v for k, v in vars(args).items() if k in _CHOICE + _HOW + _WHERE}
    given |= {k: getattr(args, k) for k in ("dry_run", "formula") if hasattr(args, k)}
    config = getattr(args, "config", None)
    if config is None:
        return given
    try:
        read = tomllib.loads(config.read_text("utf-8"))
    except tomllib.TOMLDecodeError as err:
        raise ValueError(f"{config} is not TOML: {err}") from err
    unknown = sorted(set(read) - set(_CHOICE + _HOW + _WHERE) - {"formula"})
    if unknown:
        raise ValueError(
            f"Invalid options in {config}: {', '.join(unknown)}. Allowed options are "
            f"{', '.join(sorted(_CHOICE + _HOW + _WHERE))} and formula."
        )
    return read | given


def _participant(args, given):
    from .run import predict_cohort

    given.pop("formula", None)
    try:
        status = predict_cohort(args.root, args.out, **given)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"interrupted. What is done is kept in {args.out}: the same command goes on"
        ) from None
    if hasattr(args, "config"):
        shutil.copyfile(args.config, args.out / "options.toml")
    counts = status["state"].value_counts()
    told = ", ".join(f"{number} {state}" for state, number in counts.items())
    lines = [f"Recordings: {told}", f"Status:     {args.out / 'status.tsv'}"]
    return lines, int(counts.get("failed", 0))


def _dry_run(args, given):
    from .plan import plan_cohort
    from .run import check_settings

    n_jobs = given.get("n_jobs") or 1
    how = _defaults() | {k: v for k, v in given.items() if k in _HOW}
    chosen = {k: v for k, v in given.items() if k in _CHOICE}
    plan = plan_cohort(args.root, check_settings(out=args.out, **how), **chosen)
    cores = f"{plan.work / n_jobs:.2f} h with {n_jobs} workers"
    return [
        *(one.file for one in plan.missing),
        f"Recordings: {len(plan.missing)} to do, {plan.n_done} done; about "
        f"{plan.hours:.2f} h of scalp EEG",
        f"Time:       about {plan.work:.2f} h of one core, {cores}",
        f"Disk:       about {plan.disk / 1e6:.1f} MB in {args.out}",
    ]


def _defaults():
    import inspect

    from .run import predict_cohort

    parameters = inspect.signature(predict_cohort).parameters
    return {name: parameters[name].default for name in _HOW}


def _group(args, given):
    from .group import analyze_cohort

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
