"""Measure the benefit of fitting to five minutes of a patient's own pairs.

Run ``python benchmarks/fitting.py``, which takes some minutes per patient on two cores.
``--patients 1`` is a quick look. Simulated patients have the same head, contacts and
couplings in two sessions, with new signals. Methods are fitted to the first session and
evaluated on a minute of the second.
"""

import argparse
import time
from functools import partial

import numpy as np
import torch
from figures import record
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.evaluation.baselines import LaggedRidge
from mne_neuroflow.evaluation.pairs import ScalpData
from mne_neuroflow.head.contacts import contact_positions, make_contacts
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.scores import signals
from mne_neuroflow.scores.signals import near_contacts
from mne_neuroflow.scores.tensors import crps_ensemble, inside
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

SCENARIOS = ("rest", "theta", "slowing", "spikes", "uncoupled", "ictal")
MONTAGES = ("19", "10", "25", "32", "8", "21")
WINDOW = (20.0, 80.0)  # seconds of the second session that methods are evaluated on
STRIDE = 4  # every fourth sample is scored
# Columns with "bip." are of differences of near contacts. Minutes are processor time,
# which on two cores is at most twice the elapsed time.
COLUMNS = "r,CRPS,50 %,90 %,r bip.,CRPS bip.,LSD dB,exponent,alpha,log p,minutes".split(
    ","
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=6)
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--contacts", default="mtl-core")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--methods", nargs="*", help="some of them, by name")
    parser.add_argument("--model", default="mtl-v2", help="name or weights file")
    parser.add_argument(
        "--record",
        metavar="SECTION",
        help="section of doc/figures.json for the figures that pages quote",
    )
    options = parser.parse_args()
    print_machine()
    tables = []
    for number in range(options.first, options.first + options.patients):
        first, second = simulate(number, options)
        rows = evaluate(first, second, options)
        tables.append(rows)
        print(f"\npatient {number}: {describe(number)}", flush=True)
        report(rows)
    found = {name: np.array([t[name] for t in tables]) for name in tables[0]}
    print(f"\nmean over {len(tables)} patients")
    report({name: values.mean(0) for name, values in found.items()})
    if len(tables) < 2:
        return
    print("\nstandard errors")
    errors = {
        name: values.std(0, ddof=1) / len(tables) ** 0.5
        for name, values in found.items()
    }
    report(errors)
    if options.record:
        figures = {
            f"{name}: {column}": (found[name].mean(0)[k], errors[name][k])
            for name in found
            for k, column in enumerate(COLUMNS)
        }
        figures |= compare(found, "pretrained + fit", "from scratch + fit")
        weights = load_checkpoint(fetch_model(options.model))[1]["sha256"]
        record(options.record, figures, weights=weights)


def compare(found, one, other):
    """Return paired differences of r and CRPS, where both methods were run."""
    if one not in found or other not in found:
        return {}
    differences = found[one] - found[other]
    error = differences.std(0, ddof=1) / len(differences) ** 0.5
    mean = differences.mean(0)
    return {
        f"{one} minus {other}: {column}": (mean[k], error[k])
        for k, column in enumerate(COLUMNS[:2])
    }


def describe(number):
    scenario, montage = (names[number % 6] for names in (SCENARIOS, MONTAGES))
    return f"{scenario}, {montage} electrodes"


def simulate(number, options):
    """Simulate two sessions of a patient, as pairs of Raw."""
    scenario, montage = (names[number % 6] for names in (SCENARIOS, MONTAGES))
    lengths = (options.seconds, WINDOW[1] + 20)
    return [
        mne_neuroflow.simulate_pair(
            montage,
            options.contacts,
            length,
            scenario=scenario,
            session=session,
            random_state=1000 + number,
            verbose="error",
        )
        for session, length in enumerate(lengths, 1)
    ]


def evaluate(first, second, options):
    """Compute the figures of all methods, by name."""
    load = partial(mne_neuroflow.NeuroFlow.load, options.model)
    scratch = mne_neuroflow.NeuroFlow.untrained
    methods = {
        "pretrained": (load, lambda model: None),
        "pretrained + recalibration": (
            load,
            lambda model: model.recalibrate(*first, verbose="error"),
        ),
        "pretrained + fit": (load, lambda model: fit(model, first, options)),
        "from scratch + fit": (scratch, lambda model: fit(model, first, options)),
        "from scratch, flow alone": (
            scratch,
            lambda model: fit(model, first, options, "physics"),
        ),
    }
    rows = {}
    for name in options.methods or methods:
        make, learn = methods[name]
        model, begin = make(), time.process_time()
        learn(model)
        minutes = (time.process_time() - begin) / 60
        rows[name] = [*score(model, second, options), minutes]
    rows["lagged ridge, Gaussian"] = score_ridge(first, second, options)
    return rows


def fit(model, pair, options, spatial="fitted"):
    model.fit(
        *pair, spatial=spatial, n_steps=options.steps, random_state=0, verbose="error"
    )


def score(model, pair, options):
    """Compute correlation, CRPS, coverage and log-density of a model."""
    scalp, ieeg = pair
    known = dict(contacts=ieeg.info, model=model, random_state=1, verbose="error")
    draws = mne_neuroflow.sample_ieeg(
        scalp, options.draws, tmin=WINDOW[0], tmax=WINDOW[1], **known
    )
    mean = mne_neuroflow.predict_ieeg(
        scalp, output="mean", n_draws=20, **known
    ).get_data(tmin=WINDOW[0], tmax=WINDOW[1])
    density = mne_neuroflow.score_ieeg(scalp, ieeg, model=model, verbose="error")
    density = density.sel(time=slice(*WINDOW)).mean().item()
    truth = ieeg.get_data(tmin=WINDOW[0], tmax=WINDOW[1])
    draws = torch.as_tensor(draws.values[..., : truth.shape[1]])
    couples = near_contacts(contact_positions(make_contacts(ieeg.info))[1])
    return [*figures(mean, draws, truth, ieeg.info["sfreq"], couples), density]


def score_ridge(first, second, options):
    """Score ridge regression on scalp EEG within 120 ms, with Gaussian residuals."""
    positions = contact_positions(make_contacts(first[1].info))[1]
    begin = time.process_time()
    ridge = LaggedRidge().fit([(as_scalp(first[0]), positions, first[1].get_data())])
    minutes = (time.process_time() - begin) / 60
    scalp = as_scalp(second[0].copy().crop(*WINDOW))
    truth = second[1].get_data(tmin=WINDOW[0], tmax=WINDOW[1])
    n_times = truth.shape[1]
    mean = 0.0
    for seed in range(10):
        draws = ridge.sample(scalp, positions, options.draws, seed)[..., :n_times]
        mean = mean + draws.mean(0)
    sfreq = second[1].info["sfreq"]
    couples = near_contacts(positions)
    found = figures(mean, torch.as_tensor(draws), truth, sfreq, couples)
    return [*found, np.nan, minutes]


def as_scalp(raw):
    checked = check_scalp(raw, verbose="error")
    return ScalpData(raw.get_data(), checked.electrodes, tuple(raw.ch_names))


def figures(mean, draws, truth, sfreq, couples):
    likeness = single_draws(np.asarray(draws[:5]), truth, sfreq)
    one, other = couples.T
    bipolar = [x[..., one, :] - x[..., other, :] for x in (mean, draws, truth)]
    r, crps, *covered = waveform(mean, draws, truth)
    r_bipolar, crps_bipolar, *_ = waveform(*bipolar)
    return [r, crps, *covered, r_bipolar, crps_bipolar, *likeness]


def waveform(mean, draws, truth):
    """Compute correlation, CRPS and coverage, means over signals."""
    r = [np.corrcoef(*pair)[0, 1] for pair in zip(mean, truth, strict=False)]
    draws, truth = (
        torch.as_tensor(a, dtype=torch.float32)[..., ::STRIDE] for a in (draws, truth)
    )
    crps = crps_ensemble(draws, truth).mean(-1) / truth.std(-1)
    covered = [inside(draws, truth, level).mean().item() for level in (0.5, 0.9)]
    return [np.mean(r), crps.mean().item(), *covered]


def single_draws(draws, truth, sfreq):
    """Measure the distance of single draws from the truth.

    The measures are log-spectral distance over 1-45 Hz in decibels, absolute difference
    of the aperiodic exponent, and relative Frobenius error of correlations in the alpha
    band.
    """
    freqs, density = signals.power_spectrum(draws, sfreq)
    _, true = signals.power_spectrum(truth, sfreq)
    exponents = [signals.aperiodic_exponent(freqs, d) for d in (density, true)]
    matrices = [
        signals.correlation_matrix(signals.in_band(x, sfreq, "alpha"))
        for x in (truth, *draws)
    ]
    errors = [signals.relative_frobenius(draw, matrices[0]) for draw in matrices[1:]]
    return [
        signals.log_spectral_distance(density, true).mean(),
        np.abs(exponents[0] - exponents[1]).mean(),
        np.mean(errors),
    ]


def report(rows):
    print(f"{'':32s}" + "".join(f"{name:>10s}" for name in COLUMNS))
    for name, values in rows.items():
        print(f"{name:32s}" + "".join(f"{value:10.3f}" for value in values), flush=True)


if __name__ == "__main__":
    main()
