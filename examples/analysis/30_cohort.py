"""
Many people: features, two groups, and the control
==================================================

This example computes a table of features with intervals from a BIDS dataset, and
estimates differences between groups. A control shows whether they come from the pattern
over the scalp.
"""

# %%
# A dataset of twenty people
# --------------------------
# The dataset is simulated, so that the truth is known. Half of the people have a rhythm
# of 5-7 Hz in the left temporal lobe, with the scalp topography of a dipole. Half of
# each group were recorded in another hospital, whose amplifier reports three times the
# voltage. This is not a difference between brains.
#
# The background has the same amplitude in all people. In reality, it differs by large
# factors, and a study needs more people.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import mne_bids
import numpy as np
import pandas as pd

import mne_neuroflow

contacts = [
    [-0.058, -0.02, -0.015],  # metres, MNI: left temporal neocortex
    [-0.025, -0.02, -0.018],  # left hippocampus
    [0.058, -0.02, -0.015],
    [0.025, -0.02, -0.018],
]
folder = Path(tempfile.mkdtemp())
root = folder / "dataset"
people = pd.DataFrame(
    {
        "participant_id": [f"sub-{k + 1:02d}" for k in range(20)],
        "group": ["theta", "none"] * 10,
        "hospital": ["A", "A", "B", "B"] * 5,
    }
)
background = 8e-6  # volts


def simulate(seed, group, hospital):
    """Simulate the scalp EEG of one person, with the gain of the amplifier."""
    scalp, ieeg = mne_neuroflow.simulate_pair(
        "32",
        contacts,
        duration=12,
        scenario="rest",
        artifacts=False,
        random_state=seed,
        verbose=False,
    )
    data = scalp.get_data()
    data *= background / data.std()
    if group == "theta":
        place = ieeg.info["chs"][0]["loc"][:3]
        dipole = mne.Dipole([0], [place], [1e-7], [[-1.0, 0.0, 0.0]], [100])
        sphere = mne.make_sphere_model("auto", "auto", scalp.info, verbose=False)
        forward, _ = mne.make_forward_dipole(dipole, sphere, scalp.info, verbose=False)
        pattern = forward["sol"]["data"][:, 0]
        pattern -= pattern.mean()
        rhythm = np.random.default_rng(seed).normal(size=data.shape[1])
        rhythm = mne.filter.filter_data(
            rhythm, scalp.info["sfreq"], 5, 7, verbose=False
        )
        scale = 4 * background / np.abs(pattern).max() / rhythm.std()
        data += scale * np.outer(pattern, rhythm)
    gain = {"A": 1.0, "B": 3.0}[hospital]
    return mne.io.RawArray(gain * data, scalp.info, verbose=False)


for k, person in people.iterrows():
    path = mne_bids.BIDSPath(
        root=root,
        subject=person["participant_id"].removeprefix("sub-"),
        task="rest",
        datatype="eeg",
    )
    mne_bids.write_raw_bids(
        simulate(k, person["group"], person["hospital"]),
        path,
        allow_preload=True,
        format="EDF",
        verbose="error",
    )
people.to_csv(root / "participants.tsv", sep="\t", index=False)

# %%
# Features of all recordings
# --------------------------
# One call computes the features of all recordings. The command is ``mne-neuroflow
# cohort dataset results participant``. A script needs ``if __name__ == "__main__":``
# around the call, because workers are processes. When run again, only missing or
# changed recordings are computed.
status = mne_neuroflow.predict_cohort(
    root, folder / "results", contacts=contacts, n_jobs=2, verbose="error"
)
print(status["state"].value_counts().to_string())

# %%
# Each recording has a table with values, and with the limits of the central half and
# nine tenths of draws. These are the virtual contacts of the first person, predicted
# and not recorded:
fname = next((folder / "results").glob("sub-01/**/*_features.parquet"))
table = pd.read_parquet(fname)
shown = table.query(
    "level == 'structure' and feature == 'relative_power' and band == 'theta' "
    "and scalp == 'recorded'"
)
print(shown[["structure", "side", "median", "low_90", "high_90"]].round(2).to_string())

# %%
# Effects over people
# -------------------
# A model is fitted to each draw, and the fits are combined by Rubin's rules. The
# uncertainty of the prediction for each person therefore widens the interval of the
# effect. The control is the same analysis with each scalp channel shifted in time by a
# different amount. Channels then keep their amplitudes and spectra, but lose the
# pattern over the scalp. An effect in the control does not come from this pattern.
effects = mne_neuroflow.analyze_cohort(
    folder / "results",
    ["relative_power ~ group", "power ~ hospital"],
    verbose="error",
)
recorded = effects.query("scalp == 'recorded' and term != 'Intercept'")
print(recorded.groupby("term")["reading"].value_counts().to_string())

# %%
# The rhythm of the left temporal lobe is found, and disappears when channels are
# shifted. It therefore comes from the pattern over the scalp. It is also found in the
# left hippocampus, where there was none, because the scalp EEG cannot distinguish the
# two. The amplifier of the other hospital increases the power of virtual contacts, with
# and without shifted channels. The control shows that this is not a difference between
# brains.
#
# The report, ``results/group/report.html``, has all effects, the distributions, and the
# missing recordings.
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
drawn = {
    "Group: share of theta": ("relative_power", "group[T.theta]", "theta"),
    "Hospital: power (dB)": ("power", "hospital[T.B]", "broad"),
}
looks = {
    "recorded": ("recorded scalp", "#0072B2"),
    "shifted": ("control: shifted channels", "0.6"),
    "recorded - shifted": ("difference", "#D55E00"),
}
by_effect = effects.set_index(["feature", "term", "band"]).sort_index()
for ax, (title, effect) in zip(axes, drawn.items(), strict=True):
    chosen = by_effect.loc[effect]
    for k, (scalp, (label, color)) in enumerate(looks.items()):
        rows = chosen[chosen["scalp"] == scalp]
        y = np.arange(len(rows)) + 0.2 * (k - 1)
        ax.hlines(y, rows["low_95"], rows["high_95"], color=color)
        ax.plot(rows["estimate"], y, "o", color=color, ms=4, label=label)
    ax.axvline(0, color="0.5", ls="--", lw=1)
    ax.set(title=title, xlabel="Effect, 95 % interval")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(range(len(rows)), rows["structure"] + " " + rows["side"])
axes[0].invert_yaxis()
fig.legend(
    *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
    frameon=False, fontsize=8,
)  # fmt: skip
fig.suptitle("Virtual iEEG: predicted from scalp EEG, not recorded", fontsize=10)
plt.show()
