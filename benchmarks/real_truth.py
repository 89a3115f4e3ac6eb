"""How far the loudest virtual contact is from a source whose place is known.

Run ``python benchmarks/real_truth.py`` for simulated sites, with ``--archive`` for the
session of Localize-MI inside the source archive of sesameeg (``pip download
sesameeg==0.0.3 --no-deps --no-binary :all:``), or with ``--localize-mi FOLDER`` for all
sessions that a folder of the dataset holds. Half a minute a site on one core.

A source plays eight pulses in six seconds, over the scalp EEG of a virtual patient at
rest. Of a real session only the topography at its peak is taken: the stimulation
artefact lasts a few milliseconds and cannot be read in the band of the model. In
simulation the source is one patch of the template, seen by electrodes that are 5 mm
(r.m.s. in each direction) from where their positions say.

Virtual contacts lie on a grid all over the template brain. The response of a contact is
its regression on the known time course, in each draw apart.
"""

import argparse
import re
from functools import partial
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from figures import record
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.datasets import localize_mi
from mne_neuroflow.evaluation.baselines import HeadModel
from mne_neuroflow.evaluation.inverse import INVERSE_METHODS, SourceImaging
from mne_neuroflow.evaluation.pairs import ScalpData
from mne_neuroflow.head.geometry import (
    inside_brain,
    load_head,
    nearest_structure,
    project_to_scalp,
)
from mne_neuroflow.head.leadfield import scalp_lead_field
from mne_neuroflow.scalp import find_electrodes

SECONDS, N_PULSES = 6, 8
# Root mean square of the topography at a pulse's peak, over that of the background.
LOUDNESS = 3.0
MOVED = 5e-3  # metres by which true electrodes are off, in each direction
NEAR = 8e-3  # metres from a source within which the grid has contacts
SAME_DEPTH = 10e-3
SHARE = 0.9  # of draws that the region of loudest contacts holds
LOBES = {
    **dict.fromkeys(
        ("hippocampus", "amygdala", "parahippocampal", "temporal-lateral"), "temporal"
    ),
    **{name: name for name in ("frontal", "parietal", "occipital", "insula")},
}
TRAINED = ("hippocampus", "amygdala", "parahippocampal", "temporal-lateral", "insula")


def main():
    mne.set_log_level("error")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--localize-mi", type=Path)
    parser.add_argument("--sites", type=int, default=16)
    parser.add_argument("--montage", default="64")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--spacing", type=float, default=18.0, help="of the grid, mm")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--record", metavar="SECTION")
    parser.add_argument("--csv", type=Path, help="file for one row a case and method")
    options = parser.parse_args()
    grid = make_grid(1e-3 * options.spacing)
    rows = []
    for name, info, topography, site in find_cases(options):
        raw, course = make_recording(info, topography, options.seed)
        for method, draw in methods().items():
            draws = draw(raw, grid, options.draws)
            rows.append(
                dict(case=name, method=method, **judge(draws, course, grid, site))
            )
        print(pd.DataFrame(rows[-len(methods()) :]).round(2).to_string(), flush=True)
    table = pd.DataFrame(rows)
    print_machine()
    print(f"Grid of {len(grid)} contacts, {options.spacing:g} mm apart.")
    if options.csv:
        table.to_csv(options.csv, index=False)
    for title, part in parts(table).items():
        print(f"\n{title}\n{summarize(part).to_string()}")
    if options.record:
        record(options.record, flatten(summarize(table)))


def make_grid(spacing):
    """Lay contacts all over the grey matter of the template."""
    head = load_head()
    low, high = head.inner_skull.rr.min(axis=0), head.inner_skull.rr.max(axis=0)
    axes = [
        np.arange(a + spacing / 2, b, spacing) for a, b in zip(low, high, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[inside_brain(head, grid)]
    return grid[nearest_structure(head, grid)[1] < NEAR]


def find_cases(options):
    """Yield name, Info of the scalp, topography in volts and site of each case."""
    if options.archive:
        yield real_case("example", localize_mi.load_example(options.archive))
    elif options.localize_mi:
        files = sorted(options.localize_mi.rglob("*_task-seegstim_run-*_epochs.npy"))
        for file in files:
            subject, run = map(
                int, re.search(r"sub-(\d+)_.*run-(\d+)_", file.name).groups()
            )
            session = localize_mi.load(subject, run, options.localize_mi)
            scalp = session.scalp.average()
            yield real_case(f"{subject}-{run}", session._replace(scalp=scalp))
    else:
        yield from simulated_cases(options)


def real_case(name, session):
    """Take the topography at the peak of the artefact."""
    evoked = session.scalp.copy().pick("eeg", exclude="bads", verbose=False)
    data = evoked.data - evoked.data.mean(axis=0)
    peak = np.argmax(np.sum(data**2, axis=0))
    return name, evoked.info, data[:, peak], session.site


def simulated_cases(options):
    """Let one patch after the other play, all structures alike."""
    head = load_head()
    rng = np.random.default_rng(options.seed)
    scalp, _ = mne_neuroflow.simulate_pair(
        contacts="mtl-core",
        montage=options.montage,
        duration=2,
        scenario="rest",
        random_state=0,
        verbose="error",
    )
    _, electrodes = find_electrodes(scalp.info)
    structures = np.unique(head.patch_structure)
    for k in range(options.sites):
        ours = np.flatnonzero(head.patch_structure == structures[k % len(structures)])
        patch = rng.choice(ours)
        moved = electrodes + MOVED * rng.standard_normal(electrodes.shape)
        topography = scalp_lead_field(head, moved)[:, patch]
        topography = topography - topography.mean()
        yield f"{k}", scalp.info, topography, head.patch_centres[patch]


def make_recording(info, topography, seed):
    """Let a topography play over the scalp EEG of a virtual patient at rest."""
    picks, electrodes = find_electrodes(info)
    montage = mne.channels.make_dig_montage(
        dict(zip([info["ch_names"][k] for k in picks], electrodes, strict=True)),
        coord_frame="mni_tal",
    ).add_mni_fiducials(verbose=False)
    raw, _ = mne_neuroflow.simulate_pair(
        contacts="mtl-core",
        montage=montage,
        duration=SECONDS,
        scenario="rest",
        artifacts=False,
        random_state=seed,
        verbose="error",
    )
    rng = np.random.default_rng(seed)
    course = pulses(raw.times, rng)
    loudness = LOUDNESS * np.sqrt(np.mean(raw.get_data() ** 2) / np.mean(topography**2))
    pulse = loudness * np.outer(topography, course)
    return mne.io.RawArray(raw.get_data() + pulse, raw.info, verbose="error"), course


def pulses(times, rng):
    """Waves of 8 Hz under a Gaussian of 60 ms, at moments of chance."""
    step = (SECONDS - 1) / N_PULSES
    onsets = 0.5 + step * (np.arange(N_PULSES) + rng.uniform(0.3, 0.7, N_PULSES))
    away = times[:, np.newaxis] - onsets
    return np.sum(np.exp(-((away / 0.06) ** 2) / 2) * np.cos(16 * np.pi * away), axis=1)


def methods():
    """Name what draws virtual contacts: function of Raw, grid and number of draws."""
    return {
        "ours": draw_ours,
        "unadapted spatial stage": partial(draw_with, HeadModel()),
        **{
            name: partial(draw_with, SourceImaging(name, snr=3.0))
            for name in INVERSE_METHODS
        },
    }


def draw_ours(raw, grid, n_draws):
    return mne_neuroflow.sample_ieeg(
        raw,
        n_draws,
        contacts=grid,
        random_state=0,
        on_mismatch="ignore",
        verbose="error",
    ).values


def draw_with(method, raw, grid, n_draws):
    picks, electrodes = find_electrodes(raw.info)
    data = raw.get_data(picks=picks)
    return method.sample(ScalpData(data - data.mean(axis=0), electrodes), grid, n_draws)


def judge(draws, course, grid, site):
    """Hold the loudest contacts against the site."""
    head = load_head()
    course = course - course.mean()
    response = np.abs(draws @ course / (course @ course))
    # The response of the mean of draws: what a map of one estimate would show.
    mean = np.abs(draws.mean(axis=0) @ course / (course @ course))
    loudest = response.argmax(axis=1)
    away = np.linalg.norm(grid - site, axis=1)
    depth = project_to_scalp(head, np.vstack([grid, site]))[3]
    structure, _ = nearest_structure(head, np.vstack([grid, site]))
    lobe = np.array([LOBES.get(name, "none") for name in structure])
    region = smallest_region(loudest, SHARE)
    return {
        "structure": structure[-1],
        "error": 1e3 * away[mean.argmax()],
        "best": 1e3 * away.min(),
        "rank": 1 + np.sum(mean > mean[away.argmin()]),
        "error of draws": 1e3 * away[loudest].mean(),
        "side": np.mean(np.sign(grid[loudest, 0]) == np.sign(site[0])),
        "depth": np.mean(np.abs(depth[loudest] - depth[-1]) < SAME_DEPTH),
        "lobe": np.mean(lobe[loudest] == lobe[-1]),
        "region holds": float(away.argmin() in region),
        "region size": len(region),
    }


def smallest_region(loudest, share):
    """Find the fewest contacts that are the loudest in this share of draws."""
    contacts, counts = np.unique(loudest, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    enough = np.searchsorted(np.cumsum(counts[order]), share * len(loudest)) + 1
    return set(contacts[order[:enough]].tolist())


def parts(table):
    """Split cases by whether the model was trained where the site is."""
    inside = table["structure"].isin(TRAINED)
    named = {"All sites": table}
    if inside.any() and not inside.all():
        named["Around the temporal lobes, where the model was trained"] = table[inside]
        named["Elsewhere"] = table[~inside]
    return named


def summarize(table):
    """Average over cases, with standard errors of the distance."""
    groups = table.groupby("method", sort=False)
    columns = ["side", "depth", "lobe", "region holds", "region size"]
    return pd.DataFrame(
        {
            "n": groups.size(),
            "median error": groups["error"].median().round(1),
            "mean error": groups["error"].mean().round(1),
            "standard error": groups["error"].sem().round(1),
            "error of draws": groups["error of draws"].mean().round(1),
            "median rank": groups["rank"].median(),
            **{name: groups[name].mean().round(2) for name in columns},
        }
    ).sort_values("median error")


def flatten(summary):
    figures = {"n": summary["n"].iloc[0]}
    for method, row in summary.iterrows():
        figures[f"{method} mean error"] = row["mean error"], row["standard error"]
        figures[f"{method} median error"] = row["median error"]
        figures[f"{method} region holds"] = row["region holds"]
    return figures


if __name__ == "__main__":
    main()
