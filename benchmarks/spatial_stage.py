"""Measure the accuracy of the spatial stage without the flow, on held-out simulation.

Run ``python benchmarks/spatial_stage.py``, which takes a few minutes on one core.
``--recordings 12`` is a quick look. Simulated patients have implants and montages that
are held out from training. The stage that adapts to the recording is compared with the
fixed prior; with the fixed posterior, for the scalp EEG as it is and after a Wiener
filter towards the covariance that the head model expects; and with itself for
mismatched scalp EEG, from another time or from another patient with the same montage.
All predictions are normal distributions, whose scores need no draws. In the fixed ones,
each band has its share of the power of a typical recording. At the end, the time of
the stage for an hour of 64 electrodes is measured.
"""

import argparse
import time
from dataclasses import dataclass

import mne
import numpy as np
import pandas as pd
import torch
from calibration import montage_sizes
from figures import record
from machine import print_machine
from scipy.fft import irfft, rfft

from mne_neuroflow.contract import SFREQ
from mne_neuroflow.evaluation.ours import make_scalp_raw
from mne_neuroflow.evaluation.pairs import ScalpData
from mne_neuroflow.flow.wavelet import LEVEL_BANDS
from mne_neuroflow.head import wiener
from mne_neuroflow.head.bands import LEVEL_OF_BAND, N_HALO, band_responses
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.posterior import spatial_posterior
from mne_neuroflow.head.source_powers import load_source_prior
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.scores.signals import NEAR, near_contacts, nrmse, pearson_r
from mne_neuroflow.scores.tensors import crps_normal
from mne_neuroflow.simulation.recordings import electrode_rms
from mne_neuroflow.spatial import AdaptedStage
from mne_neuroflow.training.data import SimulatedData, adapt_window, build_patients

N_CONTACTS, N_WORLDS, N_SHAFTS = 32, 3, 30
AT_ONCE = 4  # recordings that are simulated together
# The iEEG has little above.
N_LEVELS = 3
BANDS = ("all", *(f"{low}-{high} Hz" for low, high in LEVEL_BANDS[:N_LEVELS]))
ADAPTED = "adapted"
MEASURES = {
    "r": "correlation with the truth",
    "r diff.": f"that of differences of contacts less than {1e3 * NEAR:.0f} mm apart",
    "error": "root-mean-square error of the mean",
    "CRPS": "continuous ranked probability score",
    "log ratio": "absolute logarithm of expected to true amplitude",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=96)
    parser.add_argument("--seconds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument(
        "--record",
        metavar="SECTION",
        help="section of doc/figures.json to write the figures that pages quote to",
    )
    options = parser.parse_args()
    mne.set_log_level("error")
    patients = build_patients(
        [(N_CONTACTS, options.recordings)],
        N_WORLDS,
        N_SHAFTS,
        options.seed,
        held_out=True,
    )
    together = (options.seconds, N_CONTACTS, options.seed, "cpu")
    data = SimulatedData(patients, *together, mismatched=False)
    numbers = range(options.recordings)
    found = [
        pair
        for first in numbers[::AT_ONCE]
        for pair in score_recordings(data, numbers[first : first + AT_ONCE])
    ]
    rows = pd.concat([rows for rows, _ in found], ignore_index=True)
    print_machine()
    print(
        f"{options.recordings} recordings of {options.seconds} s, {N_CONTACTS} contacts"
    )
    report(rows)
    seconds = np.array([seconds for _, seconds in found])
    print(
        f"\nprocessor time of the adapted stage: {np.median(seconds):.2f} s a "
        f"recording in the median, {seconds.max():.2f} s at most"
    )
    an_hour = time_an_hour()
    print(f"an hour of 64 electrodes, 64 contacts: {an_hour:.2f} s")
    if options.record:
        figures = {
            **quoted(rows),
            **worst(rows[rows["band"] == "all"]),
            "recordings": options.recordings,
            "seconds": np.median(seconds),
            "seconds, an hour of 64 electrodes": an_hour,
        }
        record(options.record, figures, weights=None)


@dataclass(frozen=True)
class Prediction:
    """A normal distribution of contact potentials.

    Attributes
    ----------
    mean : array of shape (n_contacts, n_times)
        Volts.
    std : array of shape (n_bands, n_contacts)
        Standard deviation about the mean in each of ``BANDS``, volts.
    """

    mean: np.ndarray
    std: np.ndarray


def score_recordings(data, numbers):
    """Score some recordings.

    Yields
    ------
    rows : DataFrame
        A line for each method and band, see ``MEASURES``.
    seconds : float
        Processor time of the adapted stage.
    """
    setups = data.banks[0].pick(torch.tensor(numbers))
    pairs, others = (
        data.simulate(setups, data.random_numbers(numbers[0], k)) for k in range(2)
    )
    sizes = setups.used.sum(-1).int().numpy()
    strata = montage_sizes(sizes)
    for k, (number, n_used) in enumerate(zip(numbers, sizes, strict=True)):
        own, other = (part.scalp[k, :n_used] for part in (pairs, others))
        later = torch.roll(own, own.shape[1] // 2, -1)
        tick = time.process_time()
        adapted = adapted_stage(data, setups, k, own)
        seconds = time.process_time() - tick
        predictions = {
            **fixed_stages(setups, k, own),
            ADAPTED: adapted,
            f"{ADAPTED}, scalp of another moment": adapted_stage(
                data, setups, k, later
            ),
            f"{ADAPTED}, scalp of another patient": adapted_stage(
                data, setups, k, other
            ),
        }
        truth = pairs.deep[k].double().numpy()
        couples = near_contacts(setups.contacts[k])
        rows = [
            {"method": method, "band": band, **figures}
            for method, prediction in predictions.items()
            for band, figures in score(prediction, truth, couples)
        ]
        yield pd.DataFrame(rows).assign(recording=number, electrodes=strata[k]), seconds


def adapted_stage(data, setups, k, scalp):
    """Predict the contacts of a setup with the sources of the recording."""
    n_used, template = len(scalp), data.template
    posterior, mean = adapt_window(
        scalp.double().numpy(),
        electrode_rms(scalp).double().numpy(),
        setups.electrodes[k, :n_used].numpy(),
        template.scalp[setups.scalp_rows[k, :n_used] % template.n_electrodes],
        template.deep[setups.deep_rows[k] % len(template.deep)],
    )
    by_level = np.einsum("lij,lij->li", posterior.root, posterior.root)[:N_LEVELS]
    variance = [np.diag(posterior.covariance), *(by_level * typical_shares()[:, None])]
    return Prediction(mean, posterior.gain * np.sqrt(variance))


def fixed_stages(setups, k, scalp):
    """Predict the contacts of a setup with the sources of the fixed prior."""
    n_used = len(scalp)
    posterior = spatial_posterior(
        setups.electrodes[k, :n_used].numpy(), setups.contacts[k].numpy()
    )
    rms = electrode_rms(scalp).double().numpy()
    gain = np.median(rms / posterior.scalp_std)
    shares = np.sqrt([1, *typical_shares()])[:, None]
    std = gain * shares * np.sqrt(np.diag(posterior.covariance))
    clipped = wiener.clip(scalp.double().numpy(), wiener.clip_limit(rms))
    clean = filtered(clipped, rms, posterior.scalp_covariance)
    return {
        "prior": Prediction(
            np.zeros((len(std[0]), scalp.shape[1])), gain * shares * posterior.prior_std
        ),
        "fixed": Prediction(posterior.operator @ clipped, std),
        "fixed, filtered scalp": Prediction(posterior.operator @ clean, std),
    }


def filtered(scalp, rms, expected):
    """Filter out noise that exceeds the expectation of the head model."""
    wide = np.pad(scalp, ((0, 0), (wiener.N_HALO, wiener.N_HALO)), "reflect")
    observed = wiener.band_covariance([wide])
    power = np.diagonal(observed, axis1=1, axis2=2) / np.diag(expected)
    usual = np.median(power, axis=1)[:, None, None] * expected
    present = np.arange(len(scalp))
    return wiener.find_scalp_filter(usual, wiener.clip_limit(rms), present, observed)(
        wide
    )


def typical_shares():
    """Return the share of each level in the power of a typical recording."""
    return np.bincount(LEVEL_OF_BAND, load_source_prior().spectrum)[:N_LEVELS]


def score(prediction, truth, couples):
    """Yield each band with its figures, means over contacts."""
    parts = zip(
        BANDS, split(prediction.mean), split(truth), prediction.std, strict=True
    )
    for band, mean, true, std in parts:
        amplitude = true.std(-1)
        distribution = (torch.as_tensor(a) for a in (mean, std[:, None], true))
        crps = crps_normal(*distribution).mean(-1).numpy()
        expected = np.sqrt(std**2 + mean.var(-1))
        differences = (a[couples[:, 0]] - a[couples[:, 1]] for a in (mean, true))
        figures = (
            pearson_r(mean, true),
            pearson_r(*differences),
            nrmse(mean, true),
            crps / amplitude,
            np.abs(np.log(expected / amplitude)),
        )
        # Some implants have no near contacts.
        means = [values.mean() if len(values) else np.nan for values in figures]
        yield band, dict(zip(MEASURES, means, strict=True))


def split(signals):
    """Filter to each of ``BANDS``, (n_bands, n_contacts, n_times)."""
    wide = np.pad(signals, ((0, 0), (N_HALO, N_HALO)), "reflect")
    n_times = wide.shape[1]
    responses, spectrum = band_responses(n_times), rfft(wide)
    levels = [
        irfft(spectrum * responses[LEVEL_OF_BAND == level].sum(0), n_times)
        for level in range(N_LEVELS)
    ]
    return np.stack([signals, *(level[:, N_HALO:-N_HALO] for level in levels)])


def quoted(rows):
    """Return the figures that pages quote, each with its standard error."""
    found = {}
    for (band, method), part in rows.groupby(["band", "method"], sort=False):
        if band == "all" or method == ADAPTED:
            part = part[list(MEASURES)]
            for name, mean, error in zip(
                MEASURES, part.mean(), part.sem(), strict=True
            ):
                found[f"{method}, {band}: {name}"] = mean, error
    return found


def report(rows):
    """Print figures by band and by montage, and the worst recordings."""
    for name, meaning in MEASURES.items():
        print(f"  {name:12s}{meaning}")
    print("Error and CRPS are in standard deviations of the contact.")
    for band in BANDS:
        report_part(f"band: {band}", rows[rows["band"] == band])
    everything = rows[rows["band"] == "all"]
    for size in sorted(
        set(rows["electrodes"]), key=lambda size: int(size.split("-")[0])
    ):
        report_part(f"{size} electrodes", everything[everything["electrodes"] == size])
    report_worst(everything)


def report_part(title, rows):
    """Print means over recordings, and paired differences with standard errors."""
    count = rows["recording"].nunique()
    print(
        f"\n{f'{title} ({count} recordings)':50s}"
        + "".join(f"{x:>18s}" for x in MEASURES)
    )
    methods = rows["method"].unique()
    tables = {
        method: rows[rows["method"] == method].set_index("recording")[list(MEASURES)]
        for method in methods
    }
    for method, table in tables.items():
        print_line(method, [cell(value, ".3f") for value in table.mean()])
    for method in methods:
        if method != ADAPTED:
            change = tables[ADAPTED] - tables[method]
            pairs = zip(change.mean(), change.sem(), strict=True)
            cells = [f"{cell(m, '+.3f')} ± {cell(e, '.3f')}" for m, e in pairs]
            print_line(f"{ADAPTED} minus {method}", cells)


def worst(rows):
    """Return the worst recording of each method, in CRPS over its own prior's."""
    crps = rows.pivot(index="recording", columns="method", values="CRPS")
    ratios = crps.div(crps["prior"], axis=0).drop(columns="prior")
    return {
        f"{name}: CRPS over the prior's, worst": r.max() for name, r in ratios.items()
    }


def time_an_hour():
    """Measure the processor time of the stage for an hour of 64 electrodes."""
    rng = np.random.default_rng(0)
    places = load_head().scalp.rr
    places = places[:: len(places) // 64][:64]
    data = 1e-5 * rng.standard_normal((64, 3600 * SFREQ))
    data -= data.mean(0)
    scalp = check_scalp(make_scalp_raw(ScalpData(data, places)), on_mismatch="ignore")
    contacts = rng.uniform((0.02, -0.035, -0.03), (0.05, 0.005, 0), (64, 3))
    AdaptedStage(scalp, contacts)  # with lead fields, which are kept
    begun = time.process_time()
    AdaptedStage(scalp, contacts)
    return time.process_time() - begun


def print_line(name, cells):
    print(f"{name:50s}" + "".join(f"{text:>18s}" for text in cells))


def cell(value, form):
    """Format a number, or return a dash for a missing one."""
    return "-" if np.isnan(value) else format(value, form)


def report_worst(rows):
    """Print the largest loss of each method compared with the prior."""
    crps = rows.pivot(index="recording", columns="method", values="CRPS")
    sizes = rows.groupby("recording")["electrodes"].first()
    print("\nCRPS above the prior's: the worst recording, and how many are worse")
    for method in rows["method"].unique()[1:]:
        loss = crps[method] / crps["prior"] - 1
        last = loss.idxmax()
        print(
            f"{method:50s}{loss[last]:+8.1%} (recording {last}, {sizes[last]} "
            f"electrodes), {(loss > 0).mean():.0%} of {len(loss)}"
        )


if __name__ == "__main__":
    main()
