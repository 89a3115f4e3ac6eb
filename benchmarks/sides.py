"""Measure how often the side with more power is right, and whether draws know it.

Run ``python benchmarks/sides.py``, which takes half an hour on one core. ``--patients
4`` is a quick look. In simulated patients of all scenarios, the table of sides that
reports show (``lateralization_table``) is compared with the truth: where the true
difference is clear (more than its root mean square over patients), and where the draws
agree on a side. The control has the draws of another patient with the same contacts.
The coverage of intervals of the mean log power of each structure on each side, as in
the tables of cohorts, is measured too.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import xarray
from figures import record
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.cohort.features import (
    Places,
    combine,
    measure,
    tabulate,
    typical_line_length,
)
from mne_neuroflow.contract import SFREQ
from mne_neuroflow.head.contacts import make_contacts
from mne_neuroflow.viz.lateralization import left_minus_right
from mne_neuroflow.viz.sides import lateralization_table
from mne_neuroflow.weights.model import find_model

MONTAGES = ("19", "32", "64", "10")
BANDS = ("theta", "alpha", "beta")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--first", type=int, default=6000, help="seed of the first")
    parser.add_argument("--contacts", default="mtl-core")
    parser.add_argument("--model", default="mtl-v2")
    parser.add_argument("--rows", type=Path, help="CSV file for a line per comparison")
    parser.add_argument(
        "--record",
        metavar="SECTION",
        help="section of doc/figures.json for the figures that pages quote",
    )
    options = parser.parse_args()
    rows = pd.concat(
        [compare(options.first + k, options) for k in range(options.patients)],
        ignore_index=True,
    )
    print_machine()
    figures = report(rows)
    if options.rows:
        rows.to_csv(options.rows, index=False)
    if options.record:
        record(options.record, figures, weights=find_model(options.model).sha256)


def compare(seed, options):
    """Compare sides of draws with the truth, a row for each structure and band."""
    scalp, ieeg = mne_neuroflow.simulate_pair(
        MONTAGES[seed % len(MONTAGES)],
        options.contacts,
        options.seconds,
        random_state=seed,
        verbose="error",
    )
    draws = mne_neuroflow.sample_ieeg(
        scalp,
        options.draws,
        contacts=options.contacts,
        model=options.model,
        random_state=seed,
        on_mismatch="ignore",
        verbose="error",
    )
    # Two copies, because a difference over draws needs two.
    true = xarray.concat([draws[0]] * 2, "draw")
    names, n_times = draws["channel"].values.tolist(), draws.shape[-1]
    true.values[:] = ieeg.get_data(names)[:, :n_times]
    truth = left_minus_right(true, options.contacts)[0]
    truth = truth.stack(place=("structure", "band"))
    table = lateralization_table(draws, options.contacts)
    table["truth"] = truth.to_series()
    table = table.reset_index().assign(patient=seed)
    powers = compare_powers(draws, true, options.contacts).assign(patient=seed)
    table = pd.concat([table, powers])
    return table[table["band"].isin(BANDS)]


def compare_powers(draws, truth, contacts):
    """Compare intervals of the mean log power of each structure with the truth."""
    places = Places(make_contacts(contacts, verbose="error"))
    assert list(places.names) == draws["channel"].values.tolist()
    tables = [
        tabulate(combine([window], typical_line_length([window])), places, False)
        for window in (measure(each.values, SFREQ, places) for each in (draws, truth))
    ]
    tables = [table[table["feature"] == "power"].reset_index() for table in tables]
    return pd.DataFrame(
        {
            "structure": tables[0]["structure"] + " " + tables[0]["side"],
            "band": tables[0]["band"],
            "difference": tables[0]["median"],
            "low": tables[0]["low_90"],
            "high": tables[0]["high_90"],
            "truth": tables[1]["median"],
        }
    )


def report(rows):
    """Print the figures of each band, and those of the control."""
    figures = {"patients": rows["patient"].nunique()}
    place = ["structure", "band"]
    powers, rows = rows[rows["side"].isna()], rows[~rows["side"].isna()]
    held = (powers["low"] <= powers["truth"]) & (powers["truth"] <= powers["high"])
    name = "power of a structure: 90 % interval holds the truth"
    figures[f"{name}, %"] = mean, error = share(held, powers["patient"])
    print(f"{name:70s}{mean:6.1f} ± {error:.1f} %")
    others = rows.sort_values("patient").copy()
    others["truth"] = others.groupby(place)["truth"].transform(np.roll, 1)
    for title, table in (("", rows), (", draws of another patient", others)):
        for band in (*BANDS, "all"):
            some = table if band == "all" else table[table["band"] == band]
            for name, figure in shares(some, place).items():
                figures[f"{band}{title}: {name}, %"] = mean, error = figure
                print(f"{f'{band}{title}: {name}':70s}{mean:6.1f} ± {error:.1f} %")
    return figures


def shares(rows, place):
    """Compute shares, with standard errors over patients."""
    usual = rows.groupby(place)["truth"].transform(lambda x: np.sqrt((x**2).mean()))
    right = (rows["difference"] > 0) == (rows["truth"] > 0)
    clear = rows["truth"].abs() > usual
    agreed = rows["side"] != "not clear"
    held = (rows["low"] <= rows["truth"]) & (rows["truth"] <= rows["high"])
    return {
        "right where the truth is clear": share(right[clear], rows["patient"]),
        "right where draws agree": share(right[agreed], rows["patient"]),
        "draws agree": share(agreed, rows["patient"]),
        "draws agree where the truth is clear": share(agreed[clear], rows["patient"]),
        "90 % interval holds the truth": share(held, rows["patient"]),
    }


def share(hits, patient):
    """Return a share in percent, and its standard error clustered by patient."""
    if not len(hits):
        return np.nan, np.nan
    hits = 100.0 * hits
    groups = hits.groupby(patient.reindex(hits.index))
    excess = groups.sum() - hits.mean() * groups.size()
    n = len(excess)
    error = np.sqrt((excess**2).sum() * n / max(n - 1, 1)) / len(hits)
    return float(hits.mean()), float(error) if n > 1 else np.nan


if __name__ == "__main__":
    main()
