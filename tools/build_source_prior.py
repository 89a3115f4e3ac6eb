"""Measure how the power of brain regions varies between simulated recordings.

Run ``python tools/build_source_prior.py``, which takes two minutes on one core. It
writes ``mne_neuroflow/head/data/source_prior.npz``, the prior of the source powers that
the spatial stage estimates from a recording. The patients differ from those with which
the flow is trained and evaluated.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from mne_neuroflow.head.bands import N_BANDS, N_HALO, band_covariance, band_responses
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.posterior import average_reference
from mne_neuroflow.head.scalp_model import N_REGIONS
from mne_neuroflow.simulation.events import add_events
from mne_neuroflow.simulation.recordings import draw_traits, electrode_rms, record
from mne_neuroflow.simulation.setups import (
    GeneratorTable,
    build_setups,
    build_sites,
    build_worlds,
)
from mne_neuroflow.simulation.sources import (
    SFREQ,
    background,
    couple,
    draw_scenarios,
)

_OUT = Path(__file__).parents[1] / "mne_neuroflow/head/data/source_prior.npz"
_N_PATIENTS, _SEED, _SECONDS, _AT_ONCE = 480, 101, 24, 4
# With the 256 active generators of the training, regions are empty by chance. More of
# them show the power of regions; which generators are active is left to the parcels.
_N_GENERATORS = 1024
# Least relative power: what is silent by chance is not infinitely so.
_FLOOR = 0.01
_SHRINKAGE = 0.1  # of the covariance towards its diagonal


def main():
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=_N_PATIENTS)
    parser.add_argument("--out", type=Path, default=_OUT)
    options = parser.parse_args()
    sites = build_sites(60, _SEED)
    worlds = build_worlds(sites, 4, _SEED)
    bank = build_setups(sites, 4, options.patients, 16, _SEED)
    all_generators = GeneratorTable.from_head(load_head())
    region = (
        all_generators.structure + N_REGIONS // 2 * all_generators.hemisphere
    ).numpy()
    weight = (average_reference(sites.scalp.astype(float)) ** 2).sum(0)
    rows, spectra = [], []
    for first in range(0, options.patients, _AT_ONCE):
        setups = bank.pick(torch.arange(first, min(first + _AT_ONCE, options.patients)))
        rng = torch.Generator().manual_seed(_SEED * 10_000 + first)
        for row, spectrum in measure(
            setups, worlds, all_generators, region, weight, rng
        ):
            rows.append(row)
            spectra.append(spectrum)
    rows = np.stack(rows)
    # Left and right are alike: every patient counts once as in a mirror.
    other_side = np.roll(np.arange(N_REGIONS), N_REGIONS // 2)
    rows = np.concatenate([rows, rows[:, :, other_side]])
    mean = rows.mean(0)
    departures = (rows - mean).reshape(len(rows), -1)
    covariance = departures.T @ departures / (len(rows) - 1)
    covariance *= 1 - _SHRINKAGE * (1 - np.eye(len(covariance)))
    spectrum = np.exp(np.log(spectra).mean(0))
    np.savez_compressed(
        options.out,
        mean=mean.astype(np.float32),
        covariance=covariance.astype(np.float32),
        spectrum=(spectrum / spectrum.sum()).astype(np.float32),
    )
    print(f"{options.out}: {options.patients} patients")
    np.set_printoptions(precision=2, suppress=True, linewidth=120)
    print(mean[:, : N_REGIONS // 2])
    print(np.sqrt(np.diag(covariance)).reshape(mean.shape)[:, : N_REGIONS // 2])
    print(spectrum / spectrum.sum())


def measure(setups, worlds, all_generators, region, weight, rng):
    """Yield log relative power by band and region, and the scalp's power by band."""
    scenario = draw_scenarios(len(setups), rng)
    traits = draw_traits(setups, worlds, all_generators, rng, _N_GENERATORS)
    n_times = _SECONDS * SFREQ
    activity, _ = background(
        traits.active, traits.spectra, traits.focus.side, scenario, n_times, rng
    )
    activity = couple(activity, traits.coupling, scenario)
    activity, _, _ = add_events(activity, traits.focus, scenario, rng)
    response = torch.as_tensor(band_responses(n_times) ** 2, dtype=torch.float32)
    power = torch.fft.rfft(activity).abs().square() @ response.T * (2 / n_times**2)
    power = power * (traits.gain * traits.amplitude[..., None]).square()
    scalp, _, _ = record(setups, worlds, traits, activity, True, rng)
    rms = electrode_rms(scalp)
    total = np.bincount(region, weight, N_REGIONS)
    for k, n_used in enumerate(setups.used.sum(1).int().tolist()):
        own, limit = scalp[k, :n_used].double(), 6 * rms[k, :n_used, None]
        wide = np.pad(own.clamp(-limit, limit), ((0, 0), (N_HALO,) * 2), "reflect")
        seen = np.diagonal(band_covariance([wide]), axis1=1, axis2=2)
        gain = np.median(seen / setups.scalp_std[k, :n_used].double().numpy() ** 2, 1)
        index = traits.index[k].numpy()
        by_region = np.zeros((N_REGIONS, N_BANDS))
        np.add.at(
            by_region, region[index], weight[index][:, None] * power[k].double().numpy()
        )
        yield np.log((by_region / total[:, None]).T / gain[:, None] + _FLOOR), gain


if __name__ == "__main__":
    main()
