"""Measure the distance of the strongest virtual contact from a source at a known site.

Run ``python benchmarks/real_truth.py`` for simulated sites, with ``--archive`` for the
session of Localize-MI inside the source archive of sesameeg (``pip download
sesameeg==0.0.3 --no-deps --no-binary :all:``), or ``mne-neuroflow benchmark --data
localize_mi`` for all sessions that were downloaded. ``--others`` adds SESAME and
methods of invertmeeg (``pip install sesameeg invertmeeg``). A site takes half a minute
on one core. With ``--csv`` a run that was stopped can be continued, and sites can be
added.

:mod:`mne_neuroflow.evaluation.known_sites` describes the sources and the scores.
"""

import argparse
from pathlib import Path

import mne
import pandas as pd
from figures import record
from machine import print_machine

from mne_neuroflow.datasets import localize_mi
from mne_neuroflow.evaluation.known_sites import (
    calibrated_region,
    make_grid,
    methods,
    parts,
    recorded_case,
    run_cases,
    simulated_cases,
    summarize,
)
from mne_neuroflow.evaluation.point_solvers import INVERT_METHODS
from mne_neuroflow.weights.model import find_model

OTHERS = ("SESAME", *INVERT_METHODS)


def main():
    mne.set_log_level("error")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--sites", type=int, default=16)
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--montage", default="64")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--spacing", type=float, default=18.0, help="of the grid, mm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="SECTION")
    parser.add_argument("--csv", type=Path, help="file for one row a case and method")
    options = parser.parse_args()
    grid = make_grid(1e-3 * options.spacing)
    chosen = methods()
    if not options.others:
        chosen = {name: each for name, each in chosen.items() if name not in OTHERS}
    table = pd.DataFrame()
    if options.csv and options.csv.is_file():
        table = pd.read_csv(options.csv, dtype={"case": str})
    for rows in run_cases(find_cases(options, table), chosen, grid, options.draws):
        print(rows.round(2).to_string(), flush=True)
        table = pd.concat([table, rows], ignore_index=True)
        if options.csv:
            table.to_csv(options.csv, index=False)
    print_machine()
    print(f"Grid of {len(grid)} contacts, {options.spacing:g} mm apart.")
    for title, part in parts(table).items():
        print(f"\n{title}\n{summarize(part).to_string()}")
    regions = calibrated_region(table)
    print(f"\nSingle patches, mean of sites\n{explained(table).to_string()}")
    if len(table["case"].unique()) > 1:
        print(f"\nRegions that other sites have calibrated\n{regions.to_string()}")
    if options.record:
        figures = flatten(summarize(table), regions)
        record(options.record, figures, weights=find_model("mtl-v2").sha256)


def find_cases(options, before):
    """Find the cases that have no scores yet."""
    if options.archive:
        yield recorded_case("example", localize_mi.load_example(options.archive))
        return
    done = set(before["case"]) if len(before) else ()
    numbers = [k for k in range(options.sites) if str(k) not in done]
    yield from simulated_cases(numbers, options.montage, options.seed)


def explained(table):
    """Average what single patches explain of topographies."""
    columns = ["one patch explains", "its distance", "within 10 mm"]
    return table.groupby("case")[columns].first().mean().round(2)


def flatten(summary, regions):
    """Name the figures that pages quote."""
    figures = {"n": summary["n"].iloc[0]}
    for method, row in summary.iterrows():
        figures[f"{method} mean error"] = row["mean error"], row["standard error"]
        median = row["median error"], row["s.e. of the median"]
        figures[f"{method} median error"] = median
        if row["region holds"] == row["region holds"]:  # else it has no posterior
            figures[f"{method} region holds"] = row["region holds"]
            figures[f"{method} region of draws holds"] = row["region of draws holds"]
    for method, row in regions.iterrows():
        if row["contacts"] < float("inf"):
            figures[f"{method} calibrated contacts"] = round(row["contacts"])
            figures[f"{method} calibrated holds"] = row["holds"]
    return figures


if __name__ == "__main__":
    main()
