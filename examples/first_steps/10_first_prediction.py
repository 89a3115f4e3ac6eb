"""
First prediction on a real recording
====================================

This example predicts virtual intracranial EEG from a scalp recording. The result is an
ordinary :class:`~mne.io.Raw`, which is one draw from a distribution.
"""

# %%
# The recording
# -------------
# This recording ships with the package: 54 s of scalp EEG from 64 electrodes, a part of
# the EEG Motor Movement/Imagery dataset. Read your own file with ``mne.io.read_raw``
# instead. Channels need positions or names of the 10-05 system.
import matplotlib.pyplot as plt

import mne_neuroflow
from mne_neuroflow.datasets import load_demo

raw = load_demo(verbose=False)
print(raw)

# %%
# One draw
# --------
# The result has one ``'seeg'`` channel for each of the 80 contacts of the default
# implant. It has the rate and the annotations of the recording, except annotations of
# single scalp channels. The recording is not preloaded, so that the signals are
# computed when they are read. The log says how much the scalp EEG can show: for half of
# the contacts it explains less than a sixth of the variance.
virtual = mne_neuroflow.predict_ieeg(raw, random_state=0)
print(virtual)

# %%
# The description says what the signals are and how to reproduce them.
print(virtual.info["description"])

# %%
# The distribution
# ----------------
# A draw is one of many signals that fit the scalp EEG. A hundred draws show on what
# they agree. Here are three contacts of a depth electrode through the left posterior
# hippocampus, from its tip in the medial temporal lobe to the lateral surface, and
# three contacts of its mirror image on the right:
names = ["vPHL1", "vPHL5", "vPHL8", "vPHR1", "vPHR5", "vPHR8"]
positions = mne_neuroflow.make_contacts("mtl").get_positions()["ch_pos"]
draws = mne_neuroflow.sample_ieeg(
    raw,
    100,
    tmin=20,
    tmax=24,
    contacts=[positions[name] for name in names],
    random_state=0,
)
draws = draws.assign_coords(channel=names)

# %%
# The scalp EEG on the left was recorded, the contacts on the right were predicted. The
# closer a contact is to the scalp, the more the median follows the scalp EEG, and the
# narrower the intervals are relative to the signal. At the tips the median is almost
# zero.
electrodes = ["F7", "T7", "P7", "F8", "T8", "P8"]
scalp = raw.get_data(electrodes, tmin=20, tmax=24) * 1e6
times = raw.times[(raw.times >= 20) & (raw.times < 24)]

fig, axes = plt.subplots(
    6,
    2,
    figsize=(11, 6.5),
    sharex=True,
    sharey="col",
    layout="constrained",
    width_ratios=(1, 1.6),
)
for ax, name, signal in zip(axes[:, 0], electrodes, scalp, strict=True):
    ax.plot(times, signal - signal.mean(), color="0.2", lw=0.8)
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
for ax, name in zip(axes[:, 1], names, strict=True):
    contact = draws.sel(channel=name) * 1e6
    for share, alpha in ((0.9, 0.2), (0.5, 0.4)):
        low, high = contact.quantile([(1 - share) / 2, (1 + share) / 2], "draw")
        label = f"{share:.0%} interval".replace("%", " %")
        ax.fill_between(
            draws["time"], low, high, color="#0072B2", alpha=alpha, lw=0, label=label
        )
    ax.plot(draws["time"], contact.median("draw"), color="#0072B2", label="median")
    ax.plot(draws["time"], contact[0], color="0.2", lw=0.6, label="one draw")
    ax.set_ylabel(name, rotation=0, ha="right", va="center")
    label = f"{100 * float(contact['observability']):.0f} % explained"
    ax.text(1.01, 0.5, label, transform=ax.transAxes, va="center", fontsize=8)
for ax in axes.flat:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
axes[0, 0].set_title("Scalp EEG (µV), recorded")
axes[0, 1].set_title("Virtual iEEG (µV), predicted from it, not recorded")
for ax in axes[-1]:
    ax.set_xlabel("Time (s)")
    ax.set_xticks(range(20, 25))
handles, labels = axes[0, 1].get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower right", ncols=4, frameon=False)
plt.show()
