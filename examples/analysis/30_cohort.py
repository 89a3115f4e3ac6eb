"""
Many people: features, two groups, and the control
==================================================

From a BIDS dataset to a table of features with intervals, and from there to differences
between groups, beside the control that tells where they come from.
"""

# %%
# A dataset of ten people
# -----------------------
# Simulated, so that we know what is true. In five of them one temporal lobe is slow
# (1-4 Hz); five are at rest. Some were recorded with an amplifier that shows everything
# half as large again, which says nothing about any brain.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mne_bids
import numpy as np
import pandas as pd

import mne_neuroflow

folder = Path(tempfile.mkdtemp())
root = folder / "dataset"
people = pd.DataFrame(
    {
        "participant_id": [f"sub-{k:02d}" for k in range(1, 11)],
        "group": ["slowing", "rest"] * 5,
        "amplifier": [1.0, 1.5, 1.5, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.0],
    }
)
for k, person in people.iterrows():
    scalp, _ = mne_neuroflow.simulate_pair(
        "mtl-core",
        "19",
        duration=20,
        scenario=person["group"],
        artifacts=False,
        random_state=100 + k,
        verbose=False,
    )
    scalp.apply_function(lambda x, gain=person["amplifier"]: gain * x, verbose=False)
    path = mne_bids.BIDSPath(
        root=root,
        subject=person["participant_id"].removeprefix("sub-"),
        task="rest",
        datatype="eeg",
    )
    mne_bids.write_raw_bids(
        scalp, path, allow_preload=True, format="EDF", verbose="error"
    )
people.to_csv(root / "participants.tsv", sep="\t", index=False)

# %%
# Features of every recording
# ---------------------------
# One call, or ``mne-neuroflow cohort dataset results participant`` in a terminal. A
# script needs ``if __name__ == "__main__":`` around it, because workers are processes.
# Run again, it does only what is missing or has changed.
status = mne_neuroflow.predict_cohort(
    root, folder / "results", contacts="mtl-core", n_jobs=2, verbose="error"
)
print(status[["recording", "state", "duration"]].to_string(index=False))

# %%
# Each recording has a table of its own: a value, and the limits between which half and
# nine tenths of draws lie.
fname = next((folder / "results").glob("sub-01/**/*_features.parquet"))
table = pd.read_parquet(fname)
shown = table.query(
    "level == 'structure' and feature == 'relative_power' and band == 'delta' "
    "and scalp == 'recorded'"
)
print(shown[["structure", "side", "median", "low_90", "high_90"]].round(2).to_string())

# %%
# Effects over people
# -------------------
# A model is fitted to every draw, and the fits are combined by Rubin's rules: what the
# scalp leaves open about each person widens the interval of the effect. The same is
# done with every scalp channel shifted in time by a different amount. Channels keep
# their amplitudes and spectra then, and lose the pattern over the scalp: an effect that
# is still there does not come from that pattern.
effects = mne_neuroflow.analyze_cohort(
    folder / "results",
    ["relative_power ~ group + amplifier", "power ~ group + amplifier"],
    verbose="error",
)
print(effects.query("scalp == 'recorded'")["reading"].value_counts().to_string())

# %%
# Two effects beside their controls. The report, ``results/group/report.html``, has the
# others, the distributions, and who is missing.
fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharey=True)
shown = {
    "slowing: share of delta": ("relative_power", "group[T.slowing]", "delta"),
    "amplifier: power (dB)": ("power", "amplifier", "broad"),
}
colors = {"recorded": "#0072B2", "shifted": "0.6", "recorded - shifted": "#D55E00"}
by_effect = effects.set_index(["feature", "term", "band"]).sort_index()
for ax, (title, effect) in zip(axes, shown.items(), strict=True):
    chosen = by_effect.loc[effect]
    for k, (scalp, color) in enumerate(colors.items()):
        rows = chosen[chosen["scalp"] == scalp]
        y = np.arange(len(rows)) + 0.2 * (k - 1)
        ax.hlines(y, rows["low_95"], rows["high_95"], color=color)
        ax.plot(rows["estimate"], y, "o", color=color, ms=4, label=scalp)
    ax.axvline(0, color="0.5", ls="--", lw=1)
    ax.set(title=title, xlabel="Effect, 95 % interval")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(range(len(rows)), rows["structure"] + " " + rows["side"])
axes[0].invert_yaxis()
axes[1].legend(fontsize=8, frameon=False)
fig.suptitle("Virtual iEEG: predicted from scalp EEG, not recorded", fontsize=10)
plt.show()
