"""Measure how much of contact potentials can be known from the scalp EEG, and why.

Run ``python benchmarks/oracles.py``, which takes two minutes on one core. In held-out
simulation, oracles know parts of the truth that the spatial stage must estimate: the
noise of electrodes with eyes and drift, the mean powers of its parcels of sources, the
powers of the active sources in each band, the gains of the patient's own head, or the
noise-free scalp EEG. All are linear maps from scalp EEG to contacts, one for each band.
Potentials and differences of neighbouring contacts (bipolar derivations) are scored
separately, and the course of power in three bands, from the expected power in windows
of two seconds. A second table has the length scales of the sources: how much of the
potentials and of the differences they make, and how well an oracle knows their part.
"""

import argparse

import numpy as np
import pandas as pd
import torch
from figures import record
from machine import print_machine
from scipy.fft import irfft, rfft
from spatial_stage import N_CONTACTS, N_SHAFTS, N_WORLDS

from mne_neuroflow.contract import SFREQ
from mne_neuroflow.head.bands import N_HALO, band_responses
from mne_neuroflow.head.posterior import (
    CORTEX_SCALES,
    HEAD_ERROR,
    SENSOR_STD,
    VOLUME_SCALES,
)
from mne_neuroflow.head.scalp_model import source_parcels
from mne_neuroflow.scores.signals import (
    NEAR,
    in_band,
    log_band_power,
    near_contacts,
    pearson_r,
)
from mne_neuroflow.simulation import recordings
from mne_neuroflow.simulation.events import add_events
from mne_neuroflow.simulation.recordings import electrode_rms
from mne_neuroflow.simulation.sources import background, couple, draw_scenarios
from mne_neuroflow.training.data import SimulatedData, adapt_window, build_patients

SCALES = [f"cortex, {1e3 * scale:.0f} mm" for scale, _ in CORTEX_SCALES] + [
    f"volume, {1e3 * scale:.0f} mm" for scale, _ in VOLUME_SCALES
]
WHAT = {"r": "potentials", "r diff.": f"differences < {1e3 * NEAR:.0f} mm"}
POWERS = ("theta", "alpha", "beta")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=91)
    parser.add_argument("--record", metavar="SECTION")
    options = parser.parse_args()
    patients = build_patients(
        [(N_CONTACTS, options.recordings)],
        N_WORLDS,
        N_SHAFTS,
        options.seed,
        held_out=True,
    )
    together = (options.seconds, N_CONTACTS, options.seed, "cpu")
    data = SimulatedData(patients, *together, mismatched=False)
    found = [score_recording(data, k) for k in range(options.recordings)]
    methods, scales = (
        pd.concat(part, keys=range(len(found))) for part in zip(*found, strict=True)
    )
    print_machine()
    print(
        f"{len(found)} recordings of {options.seconds} s, {N_CONTACTS} contacts; "
        "correlation with the truth, mean ± standard error over recordings"
    )
    figures = {}
    for title, table in (("knowing", methods), ("length scale", scales)):
        figures |= report(title, table)
    if options.record:
        record(options.record, figures, weights=None)


def score_recording(data, k):
    """Score the oracles in one recording.

    Returns
    -------
    methods : DataFrame
        A row for each method, with the columns of ``WHAT``.
    scales : DataFrame
        A row for each length scale: its share of the variance of the truth, and the
        correlation of what an oracle knows of it.
    """
    setups, rng = data.banks[0].pick(torch.tensor([k])), data.random_numbers(k, 0)
    traits = data.draw_traits(setups, rng)
    activity = draw_activity(traits, data.n_seconds * SFREQ, rng)
    scalp, deep, _ = recordings.record(setups, data.worlds, traits, activity, True, rng)
    n_used = int(setups.used[0].sum())
    index = traits.index[0]
    scalp_rows, deep_rows = setups.scalp_rows[0, :n_used], setups.deep_rows[0]
    known = (
        data.template.scalp[scalp_rows % data.template.n_electrodes],
        data.template.deep[deep_rows % len(data.template.deep)],
    )
    actual = data.worlds.scalp[scalp_rows], data.worlds.deep[deep_rows]
    template, own = (
        [part[:, index].double().numpy() for part in gains] for gains in (known, actual)
    )
    tissue, gain = traits.tissue[0].double().numpy(), float(traits.gain)
    # record() has multiplied the activity by the amplitudes of the sources.
    sources = gain * activity[0].double().numpy()
    signal = referenced(own[0]) @ sources
    scalp, deep = scalp[0, :n_used], deep[0].double().numpy()
    noise = scalp.double().numpy() - signal
    power = (in_bands(sources) ** 2).mean(-1)
    noises = covariance(noise)
    amplitude = np.sqrt(np.einsum("eg,bg->e", referenced(template[0]) ** 2, power))
    error = np.diag(SENSOR_STD**2 + (HEAD_ERROR * amplitude) ** 2) / len(power)
    least = 1e-6 * np.trace(covariance(signal).sum(0)) / n_used * np.eye(n_used)
    seen = scalp.double().numpy()
    posterior, adapted = adapt_window(
        seen,
        electrode_rms(scalp).double().numpy(),
        setups.electrodes[0, :n_used].numpy(),
        *known,
    )
    everywhere = [part.double().numpy() for part in known]
    predictions = {
        "nothing: the adapted stage": adapted,
        "noise": apply(
            operators(*everywhere, estimated_powers(posterior), noises + error), seen
        ),
        "powers of parcels": apply(
            operators(*everywhere, of_parcels(power, index), noises + error), seen
        ),
        "powers of sources": apply(operators(*template, power, noises + error), seen),
        "powers, electrode gains": apply(
            operators(own[0], template[1], power, noises), seen
        ),
        "powers, contact gains": apply(
            operators(template[0], own[1], power, noises + error), seen
        ),
        "powers, all gains": apply(operators(*own, power, noises), seen),
        "powers, all gains, scalp EEG without noise": apply(
            operators(*own, power, least), signal
        ),
        "all activity, template gains of contacts": template[1] @ sources,
        "all activity, all gains": own[1] @ sources,
        "all but local noise": tissue * (own[1] @ sources),
    }
    couples = near_contacts(setups.contacts[0])
    methods = {
        name: [*both(mean, deep, couples), *powers(mean, deep)]
        for name, mean in predictions.items()
    }
    columns = [*WHAT, *(f"r {band} power" for band in POWERS)]
    return (
        pd.DataFrame.from_dict(methods, orient="index", columns=columns),
        by_scale(data, index, own, power, noises, seen, sources, couples),
    )


def draw_activity(traits, n_times, rng):
    """Draw the activity of the sources in a random scenario."""
    scenario = draw_scenarios(1, rng)
    activity, _ = background(
        traits.active, traits.spectra, traits.focus.side, scenario, n_times, rng
    )
    activity = couple(activity, traits.coupling, scenario)
    return add_events(activity, traits.focus, scenario, rng)[0]


def estimated_powers(posterior):
    """Return the power that the stage estimates for each generator, by band."""
    sources = posterior.sources
    return (sources.gain[:, None] * sources.power)[:, source_parcels().index]


def of_parcels(power, index):
    """Give all generators the mean power of their parcel, (n_bands, n_generators)."""
    parcel = source_parcels().index
    n_parcels = parcel.max() + 1
    total = [np.bincount(parcel[index], row, n_parcels) for row in power]
    return (total / np.bincount(parcel))[:, parcel]


def operators(scalp_gains, deep_gains, power, noise):
    """Compute the best linear map for each band, (n_bands, n_contacts, n_electrodes).

    ``power`` has the power of each source in each band, ``noise`` the covariance of the
    rest of the scalp EEG in each band.
    """
    gains = referenced(scalp_gains)
    weighted = power[:, None] * gains
    return (
        deep_gains
        @ weighted.transpose(0, 2, 1)
        @ np.linalg.pinv(weighted @ gains.T + noise, rcond=1e-12, hermitian=True)
    )


def apply(maps, scalp):
    """Apply a map for each band."""
    return (maps @ in_bands(scalp)).sum(0)


def by_scale(data, index, own, power, noises, seen, sources, couples):
    """Score what an oracle of powers and gains knows of each length scale."""
    rows, total = {}, own[1] @ sources
    everything = [x.var(-1).sum() for x in pairs_of(total, couples)]
    for scale, name in enumerate(SCALES):
        here = (data.all_generators.group[index] == scale).numpy()
        gains = np.where(here, own[1], 0.0)
        true = gains @ sources
        mean = apply(operators(own[0], gains, power, noises), seen)
        shares = [
            x.var(-1).sum() / whole
            for x, whole in zip(pairs_of(true, couples), everything, strict=True)
        ]
        rows[name] = [*shares, *both(mean, true, couples)]
    columns = [*(f"share, {what}" for what in WHAT), *WHAT]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def pairs_of(potentials, couples):
    """Return potentials, and differences of neighbouring contacts."""
    return potentials, potentials[couples[:, 0]] - potentials[couples[:, 1]]


def both(mean, truth, couples):
    """Correlate potentials and differences with the truth, means over contacts."""
    found = map(pearson_r, pairs_of(mean, couples), pairs_of(truth, couples))
    return [np.mean(r) if len(r) else np.nan for r in found]


def powers(mean, truth):
    """Correlate the logarithms of expected and true power in windows of two seconds.

    The expected power has the error of the mean, as a whole recording shows it.
    """
    found = []
    for band in POWERS:
        known, true = (in_band(x, SFREQ, band) for x in (mean, truth))
        error = np.square(true - known).mean(-1, keepdims=True)
        expected = 10 ** (log_band_power(known, SFREQ) / 10) + error
        found.append(pearson_r(np.log(expected), log_band_power(true, SFREQ)).mean())
    return found


def referenced(gains):
    """Subtract the mean over electrodes."""
    return gains - gains.mean(0)


def in_bands(signals):
    """Filter to each band, (n_bands, n_channels, n_times)."""
    wide = np.pad(signals, ((0, 0), (N_HALO, N_HALO)), "reflect")
    spectrum = rfft(wide) * band_responses(wide.shape[1])[:, None]
    return irfft(spectrum, wide.shape[1])[..., N_HALO:-N_HALO]


def covariance(signals):
    """Compute the covariance in each band."""
    parts = in_bands(signals)
    return parts @ parts.transpose(0, 2, 1) / parts.shape[-1]


def report(title, table):
    """Print means over recordings, and return them with standard errors."""
    print(f"\n{title:45s}" + "".join(f"{name:>20s}" for name in table))
    figures = {}
    for name, rows in table.groupby(level=1, sort=False):
        mean, error = rows.mean(), rows.sem()
        cells = (f"{m:.3f} ± {e:.3f}" for m, e in zip(mean, error, strict=True))
        print(f"{name:45s}" + "".join(f"{cell:>20s}" for cell in cells))
        for column in table:
            figures[f"{name}: {column}"] = mean[column], error[column]
    return figures


if __name__ == "__main__":
    main()
