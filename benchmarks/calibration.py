"""Measure calibration and accuracy of intervals and draws by stratum, on simulation.

Run ``python benchmarks/calibration.py``, which takes half an hour on one core. On
held-out simulation it measures the coverage of 50, 80, 90 and 95 % intervals by
structure, scenario, size of the montage, artifacts of the scalp EEG and band; ranks of
whole recordings (simulation-based calibration); the benefit of leaving out uncertain
contacts; scores compared with the adapted spatial posterior and the fixed prior; and
the similarity of single draws to the truth. ``--rows`` saves one row per contact.
``--record SECTION`` writes the figures that pages quote to ``doc/figures.json``.

``--prior neural-masses`` measures the same with a wrong prior: recordings of coupled
neural masses, sources of one length scale and, with ``--heads`` and tables of
``tools/build_head.py --skull-conductivity``, heads that were not used in training.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from figures import record
from held_out import make_data, make_parser
from machine import print_machine
from scipy import stats
from wrong_prior import PRIORS, heads_of

from mne_neuroflow.contract import SFREQ
from mne_neuroflow.flow.wavelet import LEVEL_BANDS
from mne_neuroflow.head.geometry import load_head, nearest_structure
from mne_neuroflow.scores.ensemble import (
    energy_score,
    pit,
    ranks,
    risk_coverage,
    variogram_score,
)
from mne_neuroflow.scores.signals import (
    aperiodic_exponent,
    correlation_matrix,
    in_band,
    log_band_power,
    log_spectral_distance,
    power_spectrum,
    relative_frobenius,
)
from mne_neuroflow.scores.tensors import (
    LEVELS,
    crps_ensemble,
    crps_normal,
    inside,
)
from mne_neuroflow.simulation.sources import SCENARIOS
from mne_neuroflow.training.evaluate import draw
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

SIZES = (8, 10, 19, 32, 64, 128)  # electrodes: upper ends of the strata
STRATA = ("structure", "scenario", "electrodes", "scalp", "head")
OVERALL, IN_STRATUM = 0.03, 0.06  # how far coverage may be off
THINNED = 16  # samples between those that count for PIT and joint scores


def main():
    parser = make_parser(__doc__, contacts_a_batch=192)
    # Ranks from 0 to 39 fill the ten bins of the PIT histogram evenly.
    parser.set_defaults(draws=39)
    parser.add_argument("--prior", choices=PRIORS, default="trained")
    parser.add_argument("--rows", type=Path, help="CSV file for a line per contact")
    options = parser.parse_args()
    flow, card = load_checkpoint(fetch_model(options.model), options.device)
    flow.requires_grad_(False)
    data = make_data(options, PRIORS[options.prior])
    rows, values = [], []
    for number in range(options.batches):
        batch = data.batch(number)
        draws = draw(flow, batch.conditions, options.draws, number)
        table = score_contacts(flow, batch, draws, options.heads)
        table["recording"] = f"{number}-" + table["recording"]
        rows.append(table)
        values.append(score_recordings(batch, draws))
    rows = pd.concat(rows, ignore_index=True)
    print_machine()
    print(
        f"{options.draws} draws of {rows['recording'].nunique()} recordings of "
        f"{options.seconds} s"
    )
    report_coverage(rows)
    report_ranks(rows, np.concatenate([value.pop("pit") for value in values]))
    report_skill(rows, pd.DataFrame(values).mean())
    if options.record:
        record(options.record, quoted(rows), weights=card["sha256"])
    if options.rows:
        rows.to_csv(options.rows, index=False)


def score_contacts(flow, batch, draws, heads):
    """Make a row for every contact of every recording."""
    truth, setups = batch.pairs.deep, batch.setups
    columns = {f"coverage {level:.2f}": inside(draws, truth, level) for level in LEVELS}
    bands = zip(flow.wavelet(draws), flow.wavelet(truth), LEVEL_BANDS, strict=True)
    for drawn, true, (low, high) in bands:
        for level in LEVELS:
            key = f"coverage {level:.2f}, {low}-{high} Hz"
            columns[key] = inside(drawn, true, level)
    gain = batch.conditions.gain[:, None, None]
    prior_std = gain * setups.prior_std[..., None]
    std = gain * batch.conditions.posterior_std[..., None]
    mean = gain * batch.conditions.mean
    columns["crps"] = crps_ensemble(draws, truth) / prior_std
    columns["crps posterior"] = crps_normal(mean, std, truth) / prior_std
    columns["crps prior"] = crps_normal(0 * mean, prior_std, truth) / prior_std
    columns["std"] = draws.std(0) / prior_std
    columns["error"] = (draws.median(0).values - truth).abs() / prior_std
    shape = truth.shape[:2]
    table = {name: value.flatten(2).mean(-1) for name, value in columns.items()}
    table = {name: value.numpy().ravel() for name, value in table.items()}
    table["observability"] = observability(batch.conditions).numpy().ravel()
    table |= spectral_errors(draws[0].numpy(), truth.numpy())
    for band in ("theta", "alpha", "beta"):
        powers = [
            log_band_power(in_band(series.numpy(), SFREQ, band), SFREQ).mean(-1)
            for series in (draws, truth)
        ]
        table[f"rank of {band} power"] = ranks(*powers).ravel()
    contacts = setups.contacts.reshape(-1, 3).numpy()
    table["structure"] = nearest_structure(load_head(), contacts)[0]
    of_recording = {
        "recording": [str(k) for k in range(shape[0])],
        "scenario": np.array(SCENARIOS)[batch.pairs.scenario.numpy()],
        "electrodes": montage_sizes(setups.used.sum(-1).numpy()),
        "scalp": artifacts_of(batch.pairs),
        "head": heads_of(setups, heads),
    }
    for name, value in of_recording.items():
        table[name] = np.repeat(value, shape[1])
    return pd.DataFrame(table)


def observability(conditions):
    """Return the share of variance that the scalp EEG explains, by contact."""
    explained = conditions.mean_std.square()
    return explained / (explained + conditions.posterior_std.square())


def spectral_errors(drawn, truth):
    """Compare the spectra of one draw and the truth, contact by contact."""
    (freqs, drawn), (_, true) = (power_spectrum(x, SFREQ) for x in (drawn, truth))
    slopes = [aperiodic_exponent(freqs, density) for density in (drawn, true)]
    compared = (freqs >= 1) & (freqs <= 45)
    drawn, true = drawn[..., compared], true[..., compared]
    return {
        "log-spectral distance": log_spectral_distance(drawn, true).ravel(),
        "log-spectral distance of the shape": log_spectral_distance(
            drawn, true, level=False
        ).ravel(),
        "mean log spectrum": (10 * np.log10(drawn / true)).mean(-1).ravel(),
        "aperiodic exponent": (slopes[0] - slopes[1]).ravel(),
    }


def montage_sizes(n_electrodes):
    """Name the stratum of each montage."""
    ends = np.searchsorted(SIZES, n_electrodes)
    lows = [SIZES[0], *(size + 1 for size in SIZES)]
    return [f"{min(lows[k], SIZES[k])}-{SIZES[k]}" for k in ends]


def artifacts_of(pairs):
    """Return the strongest artifact of each scalp recording."""
    shown = pairs.artifacts
    bad = (shown.noisy + shown.dead).sum(-1) > 0
    tense = (shown.muscle > 0.5).float().mean(-1) > 0.1
    names = np.where(tense, "muscle", "clean or blinks")
    return np.where(bad, "bad electrodes", names)


def score_recordings(batch, draws):
    """Score the joint distribution of contacts, relative to each recording's prior."""
    truth = batch.pairs.deep
    unit = batch.conditions.gain[:, None, None] * batch.setups.prior_std[..., None]
    drawn = (draws / unit)[..., ::THINNED].numpy()
    true = (truth / unit)[..., ::THINNED].numpy()
    errors = {band: [] for band in ("theta", "alpha")}
    scores = {"energy score": [], "variogram score": []}
    for k in range(len(true)):
        scores["energy score"].append(energy_score(drawn[:, k], true[k]).mean())
        scores["variogram score"].append(variogram_score(drawn[:, k], true[k]).mean())
        for band, found in errors.items():
            one, other = (
                correlation_matrix(in_band(x[k].numpy(), SFREQ, band))
                for x in (draws[0], truth)
            )
            found.append(relative_frobenius(one, other))
    values = {name: float(np.mean(score)) for name, score in scores.items()}
    for band, found in errors.items():
        values[f"{band} connectivity error"] = float(np.mean(found))
    return values | {"pit": pit(drawn, true).ravel()}


def report_coverage(rows):
    """Print coverage overall and by stratum, and mark values outside tolerances."""
    names = [f"coverage {level:.2f}" for level in LEVELS]
    title = "coverage (%) of (recordings, ± at 90 %)"
    print(f"\n{title:45s}" + "".join(f"{x:>9.0%}" for x in LEVELS))
    print(coverage_line("all", rows[names].mean(), OVERALL))
    errors = [100 * standard_error(rows, name) for name in names]
    print(f"{'  standard error':45s}" + "".join(f"{x:8.1f} " for x in errors))
    for low, high in LEVEL_BANDS:
        here = [f"{name}, {low}-{high} Hz" for name in names]
        print(coverage_line(f"{low}-{high} Hz", rows[here].mean(), IN_STRATUM))
    for stratum in STRATA:
        for name, part in rows.groupby(stratum):
            error = 100 * standard_error(part, "coverage 0.90")
            label = f"{stratum} {name} ({part['recording'].nunique()}, ±{error:.1f})"
            print(coverage_line(label, part[names].mean(), IN_STRATUM))


def quoted(rows):
    """Return the figures that pages quote, each with its standard error."""
    names = [f"coverage {level:.2f}" for level in LEVELS]
    found = {name: _mean(rows, name) for name in [*names, "aperiodic exponent"]}
    for head, part in rows.groupby("head"):
        found[f"coverage of 0.90, {head}"] = _mean(part, "coverage 0.90")
    return found


def _mean(rows, name):
    return rows[name].mean(), standard_error(rows, name)


def standard_error(rows, name):
    """Return the standard error of a mean over contacts, clustered by recording."""
    by_recording = rows.groupby("recording")[name]
    sums = by_recording.sum() - rows[name].mean() * by_recording.size()
    n = len(sums)
    return np.sqrt((sums**2).sum() * n / (n - 1)) / len(rows) if n > 1 else np.nan


def coverage_line(name, shares, allowed):
    cells = [
        f"{100 * share:8.1f}{' ' if abs(share - level) <= allowed else '*'}"
        for share, level in zip(shares, LEVELS, strict=True)
    ]
    return f"{name:45s}" + "".join(cells)


def report_ranks(rows, values):
    """Print the distance of ranks from a uniform distribution."""
    shares = np.histogram(values, bins=10, range=(0, 1))[0] / len(values)
    print("\nPIT histogram (%), ten bins:", *(f"{100 * x:.1f}" for x in shares))
    for band in ("theta", "alpha", "beta"):
        rank = rows[f"rank of {band} power"]
        # Contacts of a recording are not independent: use the mean of each recording.
        places = (rank + 0.5) / (rank.max() + 1)
        test = stats.kstest(places, "uniform")
        print(
            f"ranks of {band} power: mean {places.mean():.3f} (0.500 if calibrated), "
            f"Kolmogorov-Smirnov distance {test.statistic:.3f}"
        )


def report_skill(rows, joint):
    """Print scores, abstention, and the similarity of single draws to the truth."""
    means = rows.mean(numeric_only=True)
    print()
    for other in ("posterior", "prior"):
        gain = 1 - means["crps"] / means[f"crps {other}"]
        print(f"CRPS against the {other}: {gain:+.1%} below")
        ratios = rows.groupby("scenario")[["crps", f"crps {other}"]].mean()
        ratios = 1 - ratios["crps"] / ratios[f"crps {other}"]
        print("  by scenario:", ", ".join(f"{k} {v:+.1%}" for k, v in ratios.items()))
    for name in ("energy score", "variogram score"):
        print(f"{name}: {joint[name]:.3f} (prior's standard deviations)")
    for name, uncertainty in (("std", rows["std"]), ("obs.", -rows["observability"])):
        area = risk_coverage(uncertainty.to_numpy(), rows["error"].to_numpy())[2]
        print(f"risk-coverage area by {name}: {area:.3f} (1 is chance)")
    distances = rows.filter(like="log-spectral")
    for name, value in distances.mean().items():
        print(f"{name} of a single draw: {value:.2f} dB (2 wanted)")
    print(f"level of a draw's log spectrum: {means['mean log spectrum']:+.2f} dB")
    slope = rows["aperiodic exponent"]
    print(
        f"aperiodic exponent of a draw: {slope.mean():+.3f} off in the mean, "
        f"{slope.abs().mean():.3f} in absolute value (0.15 wanted)"
    )
    for band in ("theta", "alpha"):
        name = f"{band} connectivity error"
        print(f"{name} of a single draw: {joint[name]:.3f} (0.157 wanted)")


if __name__ == "__main__":
    main()
