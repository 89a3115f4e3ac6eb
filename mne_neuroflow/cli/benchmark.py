"""The command ``benchmark``: methods on paired recordings, or on known sites."""

import os
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

from .._files import written_whole
from .files import absolute
from .messages import as_bad_input, logged
from .options import add_command, positive, positive_float

_GRID = 18.0  # mm between the contacts of the grid around sites
_FEW_SITES = 10
_DRAWS = 10


def add_benchmark(commands):
    """Add the command ``benchmark``."""
    parser = add_command(
        commands,
        "benchmark",
        _benchmark,
        "compare methods on paired recordings",
        "Compare methods that predict intracranial from scalp EEG on paired "
        "recordings. Writes a table of all scores, and a page that opens offline. The "
        "same command continues a run that was stopped.",
    )
    parser.add_argument(
        "--data",
        default="simulated",
        metavar="DATA",
        help="simulated; ds004752 (downloaded); a folder with pairs of files such as "
        "sub-01_ses-01_eeg.fif and sub-01_ses-01_ieeg.fif; or localize_mi (the "
        "stimulated sites that datasets.localize_mi.fetch() has downloaded, or the one "
        "in sesameeg), which uses only --methods, --out and --draws (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--protocol",
        default="session",
        choices=("paper", "session", "loso", "loso+k"),
        help="which recordings are for training and for testing (default: %(default)s)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["all"],
        metavar="NAME",
        help="all, or names of methods (a wrong name lists them); NAME=module:Class "
        "for a class with fit() and sample(); NAME=FOLDER for draws in CSV files",
    )
    parser.add_argument(
        "--patients", nargs="+", metavar="NAME", help="patients to test (default: all)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="the folder of the run (default: benchmark-DATA-PROTOCOL)",
    )
    parser.add_argument(
        "--minutes",
        type=positive_float,
        metavar="K",
        help="minutes of training: of the tested patient's first session for loso+k, "
        "and of each other patient for loso (default: 2, quick: 0.5)",
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        metavar="N",
        help="number of processes (default: 1)",
    )
    parser.add_argument(
        "--draws", type=positive, metavar="N", help="number of draws of each method"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="seed of all random numbers (default: 0)",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="two patients and little training: a first look, not a result",
    )
    return parser


def _benchmark(args):
    if args.data == "localize_mi":
        _benchmark_sites(args)
    else:
        _benchmark_pairs(args)


def _benchmark_sites(args):
    """Evaluate methods on recorded sources whose place is known."""
    import pandas as pd

    from ..evaluation import known_sites

    out = absolute(args.out or Path("benchmark-localize_mi")) / "sites.csv"
    n_draws = args.draws or _DRAWS
    with logged(args):
        with as_bad_input(ValueError):
            chosen = _site_methods(args.methods)
        with as_bad_input(OSError, ValueError):
            out.parent.mkdir(parents=True, exist_ok=True)
            table = _read_sites(out)
        grid = known_sites.make_grid(1e-3 * _GRID)
        same = table[table["draws"] == n_draws]
        done = set(zip(same["case"], same["method"], strict=True))
        for case, missing in _recorded_cases(chosen, done):
            some = {name: chosen[name] for name in missing}
            for rows in known_sites.run_cases([case], some, grid, n_draws):
                rows = rows.assign(draws=n_draws)
                table = pd.concat([table, rows], ignore_index=True)
            with written_whole(out) as part:
                table.to_csv(part, index=False)
    table = table[table["method"].isin(chosen) & (table["draws"] == n_draws)]
    n_sites = table["case"].nunique()
    print(known_sites.summarize(table).to_string())
    few = ": a demonstration, not a result" if n_sites < _FEW_SITES else ""
    print(
        f"Distances in mm on a grid of {_GRID:g} mm; {n_draws} draws; n = "
        f"{n_sites}{few}."
    )
    print(f"Scores: {out}")


def _read_sites(fname):
    """Read the scores of earlier runs, of any methods and numbers of draws."""
    import pandas as pd

    columns = ["case", "method", "draws"]
    if not fname.is_file():
        return pd.DataFrame(columns=columns)
    table = pd.read_csv(fname)
    if not set(columns) <= set(table.columns):
        raise ValueError(
            f"{fname} is not a table of this command. Choose another folder with --out."
        )
    return table


def _site_methods(names):
    """Find the methods with these names; with "all", only the installed ones."""
    from ..evaluation.known_sites import methods
    from ..evaluation.point_solvers import is_installed

    known = methods()
    if names == ["all"]:
        absent = [name for name in known if not is_installed(name)]
        if absent:
            warnings.warn(
                f"Left out because their programs are not installed: "
                f"{', '.join(absent)}. pip install sesameeg invertmeeg adds them.",
                stacklevel=2,
            )
        return {name: draw for name, draw in known.items() if name not in absent}
    unknown = sorted(set(names).difference(known))
    if unknown:
        raise ValueError(
            f"Unknown methods: {', '.join(unknown)}. Allowed are all, or some of "
            f"{', '.join(known)}."
        )
    return {name: known[name] for name in names}


def _recorded_cases(methods, done):
    """Read the sessions that lack scores, and name the methods that each lacks."""
    from ..datasets import localize_mi
    from ..evaluation.known_sites import recorded_case

    sessions = localize_mi.find_sessions()
    named = {f"{subject}-{run}": (subject, run) for subject, run in sessions}
    for name, session in (named or {"example": None}).items():
        missing = [method for method in methods if (name, method) not in done]
        if not missing:
            continue
        if session is None:
            yield recorded_case(name, localize_mi.load_example()), missing
            continue
        read = localize_mi.load(*session)
        yield recorded_case(name, read._replace(scalp=read.scalp.average())), missing


def _benchmark_pairs(args):
    from ..evaluation.benchmark import run_benchmark
    from ..evaluation.methods import METHODS
    from ..evaluation.report import write_report
    from ..evaluation.results import leaderboard

    name = Path(args.data).resolve().name
    quick = "-quick" if args.quick else ""
    out = args.out or Path(f"benchmark-{name}-{args.protocol}{quick}")
    out = absolute(out)
    methods = list(METHODS) if args.methods == ["all"] else args.methods
    with logged(args):
        with as_bad_input(OSError, ValueError):
            dataset = _find_dataset(args.data)
        with as_bad_input(ValueError):
            with _importing_from_here():
                rows, failures = run_benchmark(
                    dataset, methods, out, _settings(args), n_jobs=args.jobs
                )
        page = write_report(out)
    print(leaderboard(rows)[0].round(3).to_string())
    print(f"Scores: {out / 'results.csv'}")
    print(f"Tables: {out / 'leaderboard.csv'}, {out / 'crps_by_patient.csv'}")
    print(f"Report: {page}")
    if failures:
        raise RuntimeError(f"these failed: {', '.join(failures)}.")


@contextmanager
def _importing_from_here():
    """Import users' own methods from the current folder, as ``python -m`` does."""
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _settings(args):
    from ..evaluation.benchmark import Settings

    changes = {"protocol": args.protocol, "seed": args.seed}
    if args.patients:
        changes["patients"] = tuple(args.patients)
    if args.draws:
        changes["n_draws"] = args.draws
    if args.minutes:
        changes["minutes"] = args.minutes
    return Settings.quick(**changes) if args.quick else Settings(**changes)


def _find_dataset(data):
    from ..datasets import simulated_cohort, verbal_wm
    from ..evaluation.protocols import Dataset

    if data == "simulated":
        return Dataset.of(data, simulated_cohort)
    if data == "ds004752":
        return Dataset.of(data, verbal_wm)
    return Dataset.from_folder(data)
