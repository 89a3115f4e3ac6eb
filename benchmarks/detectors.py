"""Apply published detectors and a two-sample test to draws.

Run ``python benchmarks/detectors.py`` (``pip install brainmaze-eeg-models
scikit-learn``), which takes a third of a minute per recording on one core. ``--record
SECTION`` writes the figures that pages quote to ``doc/figures.json``.

The detectors were trained by others on recordings of people. Here they are applied to
simulation and to the bundled scalp recording: a spindle detector for scalp and for
intracranial EEG (Seják et al. 2025, Comput. Biol. Med. 197:110854), and a seizure
detector for intracranial EEG (Sladky et al. 2022, Brain Communications 4:fcac115). They
use frequencies above 50 Hz, which draws and simulated recordings do not have. The
controls are the simulated truth, and the truth with random phases, which has the same
spectrum and no other structure.

The two-sample test (Lopez-Paz & Oquab 2017, ICLR) is a classifier of windows of two
seconds as draw or truth. It is trained on some recordings and tested on others. If
draws and truth do not differ, half of its answers are right.
"""

import argparse

import mne
import numpy as np
import pandas as pd
from figures import record
from machine import print_machine
from scipy.signal import hilbert, resample_poly
from scipy.stats import kurtosis

import mne_neuroflow
from mne_neuroflow.contract import SFREQ
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.head.contacts import contact_positions, contact_structures
from mne_neuroflow.scores.signals import BANDS, POWER_WINDOW, decibels, in_band
from mne_neuroflow.weights.model import find_model

SECONDS = 64
RATE = 250  # that the detectors read, in hertz
SCALP = ("F3", "F4", "C3", "C4")
SCENARIOS = ("rest", "spikes", "slowing", "ictal")


def main():
    mne.set_log_level("error")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=12)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--montage", default="32")
    parser.add_argument("--no-detectors", action="store_true")
    parser.add_argument("--record", metavar="SECTION")
    options = parser.parse_args()
    montage, structures = one_contact_each()
    rows, windows = [], []
    for number in range(options.recordings):
        signals = simulate(number, montage, options)
        windows.append(features(signals, structures).assign(recording=number))
        if not options.no_detectors:
            rows.append(ask(signals).assign(recording=number))
            print(rows[-1].round(3).to_string(), flush=True)
    print_machine()
    figures = {"n": options.recordings}
    if rows:
        figures |= report_detectors(pd.concat(rows))
        print(
            f"\nThe bundled scalp recording, n = 1\n{real(montage, options).round(3)}"
        )
    figures |= report_classifier(pd.concat(windows, ignore_index=True))
    if options.record:
        record(options.record, figures, weights=find_model("mtl-v2").sha256)


def one_contact_each():
    """Choose a contact of each structure and side of the small implant."""
    montage = mne_neuroflow.make_contacts("mtl-core")
    names, positions = contact_positions(montage)
    structures = contact_structures(montage)[0]
    keys = [
        (structure, place[0] < 0)
        for structure, place in zip(structures, positions, strict=True)
    ]
    first = [keys.index(key) for key in dict.fromkeys(keys)]
    chosen = {names[k]: positions[k] for k in first}
    made = mne.channels.make_dig_montage(chosen, coord_frame="mni_tal")
    return made, [structures[k] for k in first]


def simulate(number, montage, options):
    """Return truth, draws, truth with phases of chance, and scalp, each in volts."""
    scalp, ieeg = mne_neuroflow.simulate_pair(
        contacts=montage,
        montage=options.montage,
        duration=SECONDS,
        scenario=SCENARIOS[number % len(SCENARIOS)],
        artifacts=False,
        random_state=number,
        verbose="error",
    )
    truth = ieeg.get_data()
    draws = draw(scalp, montage, options.draws)
    rng = np.random.default_rng(number)
    at_scalp = scalp.get_data(picks=[ch for ch in SCALP if ch in scalp.ch_names])
    return {
        "truth": truth[np.newaxis],
        "draws": draws,
        "surrogate": phases_of_chance(truth, rng)[np.newaxis],
        "scalp": at_scalp[np.newaxis],
    }


def draw(scalp, montage, n_draws):
    return mne_neuroflow.sample_ieeg(
        scalp,
        n_draws,
        contacts=montage,
        random_state=0,
        on_mismatch="ignore",
        verbose="error",
    ).values


def phases_of_chance(data, rng):
    """Keep the spectrum, and nothing else."""
    spectrum = np.fft.rfft(data)
    phases = np.exp(2j * np.pi * rng.random(spectrum.shape))
    return np.fft.irfft(np.abs(spectrum) * phases, data.shape[-1])


# Detectors ----------------------------------------------------------------------------


def ask(signals, sfreq=SFREQ):
    """Ask the detectors: one row a column of the table.

    Spindles a minute of channel; the share of the scalp's spindles during which a
    contact has one, and the same where the scalp is shifted by half of the recording;
    the mean probability of a seizure, and the share of seconds above one half.
    """
    at_scalp = spindles(signals["scalp"][0], "eeg", sfreq)
    seconds = signals["scalp"].shape[-1] / sfreq
    rows = {}
    for name, draws in signals.items():
        found = (
            [at_scalp]
            if name == "scalp"
            else [spindles(each, "ieeg", sfreq) for each in draws]
        )
        likely = np.stack([seizure(each, sfreq) for each in draws])
        minutes = seconds / 60 * draws.shape[1]
        rows[name] = {
            "spindles a minute": np.mean([len(each) for each in found]) / minutes,
            "with the scalp's": together(at_scalp, found, 0, seconds),
            "by chance": together(at_scalp, found, seconds / 2, seconds),
            "seizure probability": np.nanmean(likely),
            "seconds called seizure": np.nanmean(likely > 0.5),
        }
    return pd.DataFrame(rows).T


def spindles(data, model, sfreq):
    """Find spindles: begin and end in seconds, channel."""
    from brainmaze_eeg_models.spindles import SpindleDetector

    detector = SpindleDetector(model=model, device="cpu", threads=1)
    found = detector.detect(at_rate(data, sfreq), RATE)
    return np.stack([found.start, found.end, found.channel], axis=1)


def seizure(data, sfreq):
    """Probability of a seizure, (n_channels, n_half_seconds)."""
    from brainmaze_eeg_models.seizure import predict_channel_seizure_probability

    return np.stack(
        [
            predict_channel_seizure_probability(
                each, RATE, window_s=int(data.shape[-1] / sfreq), discard_edges_s=2
            )[1]
            for each in at_rate(data, sfreq)
        ]
    )


def at_rate(data, sfreq):
    """Bring microvolts to the detectors' rate."""
    divisor = int(np.gcd(RATE, round(sfreq)))
    return resample_poly(1e6 * data, RATE // divisor, round(sfreq) // divisor, axis=-1)


def together(at_scalp, found, shift, seconds):
    """Share of the scalp's spindles during which any contact has one."""
    if not len(at_scalp):
        return np.nan
    middles = (at_scalp[:, :2].mean(axis=1) + shift) % seconds
    hits = [
        ((each[:, 0] <= middle) & (middle <= each[:, 1])).any()
        for each in found
        for middle in middles
    ]
    return np.mean(hits)


def report_detectors(rows):
    """Average over recordings, with standard errors."""
    groups = rows.groupby(level=0, sort=False)
    columns = [name for name in rows.columns if name != "recording"]
    mean, error = groups[columns].mean(), groups[columns].sem()
    n_with = rows.loc["scalp", "with the scalp's"].notna().sum()
    print(f"\nSimulation: mean of {rows['recording'].nunique()} recordings")
    print(mean.round(3).to_string())
    print(f"\nStandard errors; {n_with} recordings have spindles at the scalp")
    print(error.round(3).to_string())
    return {
        f"{name}: {column}": (mean.loc[name, column], error.loc[name, column])
        for name in mean.index
        for column in columns
        if np.isfinite(mean.loc[name, column])
    }


def real(montage, options):
    """Ask the detectors about the bundled scalp recording and its draws."""
    raw = load_demo(verbose="error").load_data()
    draws = draw(raw, montage, options.draws)
    rng = np.random.default_rng(0)
    data = raw.get_data(picks=list(SCALP))
    signals = {
        "draws": draws,
        "surrogate": phases_of_chance(draws, rng),
        "scalp": data[np.newaxis],
    }
    return ask(signals, raw.info["sfreq"])


# The two-sample test ------------------------------------------------------------------


def features(signals, structures):
    """Describe each band in windows of two seconds, level aside.

    How its power differs from the contact's own mean, how its envelope varies, how
    heavy its tails are, and how large its steps are against its level. Nothing that is
    one number for a whole recording: for few recordings that distinguishes them.
    """
    rows = []
    for kind in ("truth", "draws"):
        data = signals[kind].reshape(-1, signals[kind].shape[-1])
        where = np.tile(structures, len(signals[kind]))
        for band in BANDS:
            filtered = in_band(data, SFREQ, band)
            size = int(POWER_WINDOW * SFREQ)
            n_windows = data.shape[-1] // size
            cut = filtered[:, : n_windows * size].reshape(len(data), n_windows, size)
            envelope = np.abs(hilbert(cut, axis=-1))
            level = decibels(np.square(cut).mean(axis=-1))
            table = {
                "level": level - level.mean(axis=1, keepdims=True),
                "variation": envelope.std(axis=-1) / envelope.mean(axis=-1),
                "tails": kurtosis(cut, axis=-1),
                "steps": decibels(np.square(np.diff(cut)).mean(axis=-1)) - level,
            }
            frame = pd.DataFrame({name: each.ravel() for name, each in table.items()})
            rows.append(
                frame.assign(
                    band=band,
                    structure=np.repeat(where, n_windows),
                    is_draw=kind == "draws",
                )
            )
    return pd.concat(rows, ignore_index=True)


def report_classifier(windows):
    """Tell draws from the truth, structure by structure and band by band."""
    rows = []
    for structure in [*dict.fromkeys(windows["structure"]), "all"]:
        here = windows["structure"] == structure
        inside = windows if structure == "all" else windows[here]
        for band in BANDS:
            part = inside[inside["band"] == band]
            auc, error, weights = tell_apart(part)
            most = weights.abs().idxmax()
            rows.append((structure, band, auc, error, most))
    columns = ["structure", "band", "auc", "standard error", "gives away"]
    table = pd.DataFrame(rows, columns=columns)
    n = windows["recording"].nunique()
    print(f"\nArea under the curve, truth against draws, n = {n} recordings")
    print(table.round(3).to_string(index=False))
    return {
        f"{row.structure}, {row.band}: area under the curve": (row.auc, row._4)
        for row in table.itertuples()
    }


def tell_apart(part):
    """Train on four fifths of the recordings and ask about the others.

    Returns
    -------
    auc, error : float
        Mean over recordings of the area under the curve, and its standard error.
    weights : Series
        Of the standardized features.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = ["level", "variation", "tails", "steps"]
    x, y = part[names].to_numpy(), part["is_draw"].to_numpy()
    recording = part["recording"].to_numpy()
    aucs, weights = [], []
    n_folds = min(5, len(np.unique(recording)))
    for known, asked in GroupKFold(n_folds).split(x, y, recording):
        model = make_pipeline(
            StandardScaler(), LogisticRegression(class_weight="balanced")
        )
        model.fit(x[known], y[known])
        weights.append(model[-1].coef_[0])
        score = model.decision_function(x[asked])
        for each in np.unique(recording[asked]):
            here = recording[asked] == each
            aucs.append(roc_auc_score(y[asked][here], score[here]))
    error = np.std(aucs, ddof=1) / np.sqrt(len(aucs)) if len(aucs) > 1 else np.nan
    return np.mean(aucs), error, pd.Series(np.mean(weights, axis=0), names)


if __name__ == "__main__":
    main()
