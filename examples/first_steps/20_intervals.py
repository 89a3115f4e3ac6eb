"""
Intervals and observability
===========================

How much can scalp EEG show of a contact, and what do the intervals mean?
"""

# %%
# Observability of a montage
# --------------------------
# The observability is the share of a contact's prior variance that the scalp EEG
# explains. With typical sources it depends on the head model and the electrodes alone.
# It needs no recording, only an :class:`~mne.Info` with positions, and can be computed
# before a study.
import matplotlib.pyplot as plt
import numpy as np

import mne_neuroflow
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.viz import plot_contacts, plot_virtual

raw = load_demo(verbose=False)
table = mne_neuroflow.observability(raw.info)
table.groupby("structure").agg(
    contacts=("observability", "size"),
    observability=("observability", "median"),
    abstaining=("abstain", "sum"),
)

# sphinx_gallery_thumbnail_number = 2

# %%
# The observability is high at the outer contacts of each depth electrode and low at the
# tips in the medial temporal lobe. Contacts below 0.05 *abstain*: their prediction
# rests on the prior alone.
plot_contacts("mtl", table["observability"], label="Observability")

# %%
# Fewer electrodes show less. This is the same implant with four common montages:
montages = {
    "64": raw.ch_names,
    "32": (
        "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 "
        "P7 P3 Pz P4 P8 O1 Oz O2 AF3 AF4 PO3 PO4"
    ).split(),
    "19": "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split(),
    "8": "F3 F4 C3 C4 T7 T8 O1 O2".split(),
}
structures = ["temporal-lateral", "parahippocampal", "hippocampus", "amygdala"]
observability = {
    size: mne_neuroflow.observability(raw.copy().pick(names).info, verbose=False)
    for size, names in montages.items()
}
fig, ax = plt.subplots(figsize=(7, 3.5), layout="constrained")
for k, structure in enumerate(structures):
    for shift, (size, one) in zip(
        np.linspace(-0.3, 0.3, 4), observability.items(), strict=True
    ):
        values = one.loc[one["structure"] == structure, "observability"]
        color = plt.colormaps["viridis"](0.85 - (shift + 0.3) * 1.3)
        label = f"{size} electrodes" if k == 0 else None
        ax.plot(
            np.full(len(values), k + shift), values, "o", ms=3, color=color, alpha=0.5
        )
        ax.plot(
            k + shift, values.median(), "_", ms=16, mew=2.5, color=color, label=label
        )
ax.axhline(0.05, color="0.4", ls="--", lw=1)
ax.text(3.45, 0.05, "abstain", va="center", fontsize=8)
ax.set_xticks(range(4), structures)
ax.set(ylabel="Observability", ylim=(0, None), xlim=(-0.5, 3.45))
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, title="Median, and each contact")
plt.show()

# %%
# Draws and their intervals
# -------------------------
# These are six contacts, from high to low observability. The shaded intervals hold for
# each sample separately: if the model is calibrated, the true signal is outside the 90
# % interval in one of ten samples. The line is one draw, and any other draw is as good.
ranked = table.sort_values("observability", ascending=False).index
names = list(ranked[[0, 10, 30, 50, 65, 79]])
draws = mne_neuroflow.sample_ieeg(
    raw, 40, tmin=20, tmax=23, random_state=0, verbose=False
)
plot_virtual(draws.sel(channel=names))

# %%
# Agreement of the draws
# ----------------------
# Where the scalp EEG shows something of a contact, draws agree in part, and their mean
# varies over time. The share of variance on which they agree is what the flow takes
# from the scalp EEG. The observability is what the linear spatial model would take. In
# this recording the flow takes less: it was trained on scalp EEG with muscle and eye
# artifacts, whereas the spatial model assumes that all of it comes from the brain.
mean, spread = draws.mean("draw"), draws.var("draw", ddof=1).mean("time")
agreed = mean.var("time") - spread / draws.sizes["draw"]  # without the draws' own noise
share = agreed / (agreed + spread)

fig, ax = plt.subplots(figsize=(6, 4.5), layout="constrained")
ax.plot([0, 0.7], [0, 0.7], color="0.5", ls="--", lw=1)
colors = ("#56B4E9", "#CC79A7", "#D55E00", "#009E73")  # as in the package's figures
for structure, color in zip(structures, colors, strict=True):
    of = draws["structure"].values == structure
    observability = draws["observability"][of]
    ax.scatter(observability, share[of], s=20, color=color, label=structure)
ax.set(
    xlabel="Observability: share explained in the spatial model",
    ylabel="Share of variance on which draws agree",
    title="80 virtual contacts, predicted, not recorded",
)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()
