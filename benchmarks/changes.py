"""Compare one estimate of the sources with one for each minute, around a seizure.

Run ``python benchmarks/changes.py``, which takes some minutes on one core.
``--patients 2`` is a quick look. In recordings of 21 simulated minutes, one in the
middle has a seizure. The spatial stage, without the flow, predicts this minute and one
at rest. The sources are estimated from the whole recording, as the package does, or
from this minute alone, as on a fixed grid. Predictions are normal distributions, whose
scores need no draws.
"""

import argparse

import mne
import numpy as np
import pandas as pd
import torch
from figures import record
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.contract import BLOCK, SFREQ
from mne_neuroflow.head.bands import N_HALO
from mne_neuroflow.head.contacts import contact_positions, make_contacts
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.scores.signals import pearson_r
from mne_neuroflow.scores.tensors import crps_normal
from mne_neuroflow.spatial import AdaptedStage

MONTAGES = ("19", "32", "10", "64")
REST, MINUTE = 600, 60  # seconds before and after the seizure's minute, and of it
MINUTES = {"seizure": REST, "rest": REST // 2}  # where they begin
CONTACTS = "mtl-core"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--first", type=int, default=4000, help="seed of the first")
    parser.add_argument(
        "--record",
        metavar="SECTION",
        help="section of doc/figures.json for the figures that pages quote",
    )
    options = parser.parse_args()
    mne.set_log_level("error")
    rows = pd.concat(
        [
            score_patient(options.first + k, MONTAGES[k % 4])
            for k in range(options.patients)
        ]
    )
    print_machine()
    figures = report(rows)
    if options.record:
        record(options.record, figures, weights=None)


def score_patient(seed, montage):
    """Score both minutes of a patient with both estimates."""
    scalp, truth = simulate(seed, montage)
    positions = contact_positions(make_contacts(CONTACTS, verbose=False))[1]
    whole = check(scalp)
    stages = {"whole recording": AdaptedStage(whole, positions)}
    rows = []
    for name, start in MINUTES.items():
        alone = scalp.copy().crop(start, start + MINUTE, include_tmax=False)
        stages["this minute"] = AdaptedStage(check(alone), positions)
        wide = whole.to_model(start - 1, MINUTE + 2)
        wide = wide[:, BLOCK - N_HALO : wide.shape[1] - BLOCK + N_HALO]
        true = truth[:, start * SFREQ : (start + MINUTE) * SFREQ]
        rows += [
            dict(
                patient=seed, minute=name, estimate=estimate, **score(stage, wide, true)
            )
            for estimate, stage in stages.items()
        ]
    return pd.DataFrame(rows)


def check(raw):
    return check_scalp(raw, on_mismatch="ignore")


def simulate(seed, montage):
    """Simulate a patient: ten minutes of rest, one with a seizure, ten of rest."""
    parts = [
        mne_neuroflow.simulate_pair(
            montage,
            CONTACTS,
            seconds,
            scenario=scenario,
            session=session,
            random_state=seed,
            verbose="error",
        )
        for session, (seconds, scenario) in enumerate(
            ((REST, "rest"), (MINUTE, "ictal"), (REST, "rest")), 1
        )
    ]
    scalp, ieeg = (
        mne.concatenate_raws(list(side), verbose="error")
        for side in zip(*parts, strict=True)
    )
    scalp.set_annotations(None)  # boundaries between the parts
    return scalp, ieeg.get_data()


def score(stage, wide, truth):
    """Score a normal distribution, in standard deviations of each contact."""
    posterior = stage.posterior
    mean = posterior.apply(wide)
    std = posterior.gain * np.sqrt(np.diag(posterior.covariance))[:, None]
    unit = truth.std(axis=1, keepdims=True)
    crps = crps_normal(*(torch.from_numpy(x / unit) for x in (mean, std, truth)))
    return {"r": pearson_r(mean, truth).mean(), "CRPS": float(crps.mean())}


def report(rows):
    """Print means and paired differences, with standard errors over patients."""
    figures = {}
    print(f"{rows['patient'].nunique()} patients; mean ± standard error")
    for (minute, measure), part in rows.melt(
        ["patient", "minute", "estimate"], var_name="measure"
    ).groupby(["minute", "measure"], sort=False):
        table = part.pivot(index="patient", columns="estimate", values="value")
        table["difference"] = table["this minute"] - table["whole recording"]
        for name, values in table.items():
            title = f"{minute}: {measure}, {name}"
            figures[title] = values.mean(), values.sem()
            print(f"{title:45s}{values.mean():+8.3f} ± {values.sem():.3f}")
    return figures


if __name__ == "__main__":
    main()
