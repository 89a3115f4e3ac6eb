"""
Epochs, metadata and evoked responses
=====================================

Virtual epochs keep events, metadata and selection. The evoked response of a virtual
contact is the average over *its* epochs, with an interval from the draws.
"""

# %%
# Epochs of a task
# ----------------
# The annotations of the recording are T0 for rest, and T1 and T2 for imagined movements
# of the left and right fist. With so few trials, averages only show how the functions
# are used.
import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd

import mne_neuroflow
from mne_neuroflow.datasets import load_demo

raw = load_demo(verbose=False)
events, event_id = mne.events_from_annotations(raw)
metadata = pd.DataFrame({"trial": np.arange(len(events)), "onset": events[:, 0] / 160})
metadata["task"] = np.where(events[:, 2] == event_id["T0"], "rest", "movement")
epochs = mne.Epochs(
    raw, events, event_id, -0.5, 2.0, baseline=None, metadata=metadata, preload=True
)
print(epochs)

# sphinx_gallery_thumbnail_number = -1

# %%
# Virtual epochs
# --------------
# Events, metadata, selection and times are those of the scalp epochs. Each epoch is
# predicted separately; only the gain of the recording, one number, comes from all of
# them. Epochs must last one second or more. For shorter ones, predict the continuous
# recording and cut the result into epochs.
virtual = mne_neuroflow.predict_ieeg(epochs, contacts="mtl-core", random_state=0)
print(virtual["task == 'movement' and trial > 4"])

# %%
# They are ordinary epochs of ``'seeg'`` channels and work with all methods of epochs in
# MNE-Python.
spectrum = virtual.compute_psd(fmin=1, fmax=45)
fig = spectrum.plot(picks="seeg", amplitude=False, spatial_colors=False, ci=None)
fig.axes[0].set_title("Virtual contacts: predicted from scalp EEG, not recorded")

# %%
# Evoked responses
# ----------------
# Predicting an :class:`~mne.Evoked` is an error: with a non-linear model, the
# prediction of an average is not the average of predictions. Predict epochs, and
# average them. For an interval, average each draw. The spread of these averages is what
# the scalp EEG leaves open about the evoked response.
names = ["vAHL1", "vAHL4", "vAHL8", "vAHR1", "vAHR4", "vAHR8"]
positions = mne_neuroflow.make_contacts("mtl").get_positions()["ch_pos"]
montage = mne.channels.make_dig_montage(
    {name: positions[name] for name in names}, coord_frame="mni_tal"
)
draws = mne_neuroflow.sample_ieeg(epochs, 40, contacts=montage, random_state=0)
draws = draws - draws.sel(time=slice(None, 0)).mean("time")
evoked = {
    task: draws[:, (epochs.metadata["task"] == task).values].mean("epoch") * 1e6
    for task in ("rest", "movement")
}

# %%
# The figure shows both conditions at three contacts of each anterior hippocampal
# electrode, beginning with the tip. The intervals overlap nearly everywhere, as
# expected for a dozen trials.
fig, axes = plt.subplots(
    3, 2, figsize=(10, 6), sharex=True, sharey="row", layout="constrained"
)
for ax, name in zip(axes.T.flat, names, strict=True):
    for (task, average), color in zip(
        evoked.items(), ("#0072B2", "#D55E00"), strict=True
    ):
        low, middle, high = average.sel(channel=name).quantile(
            [0.05, 0.5, 0.95], "draw"
        )
        ax.fill_between(average["time"], low, high, color=color, alpha=0.2, lw=0)
        n_epochs = (epochs.metadata["task"] == task).sum()
        ax.plot(
            average["time"], middle, color=color, label=f"{task}, {n_epochs} epochs"
        )
    ax.axvline(0, color="0.5", lw=0.8, ls="--")
    observability = float(draws["observability"].sel(channel=name))
    ax.set_title(f"{name}, observability {observability:.2f}", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
for ax in axes[-1]:
    ax.set_xlabel("Time from cue (s)")
fig.supylabel("Evoked potential (µV)")
fig.suptitle(
    "Virtual evoked responses, predicted, not recorded: median and 90 % interval"
)
handles, labels = ax.get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
plt.show()
