"""
First prediction on a real recording
====================================

Virtual intracranial EEG from a scalp recording, with the interval behind it.
"""

# %%
# The bundled recording: 54 s of scalp EEG, 64 channels.
import matplotlib.pyplot as plt

import mne_neuroflow
from mne_neuroflow.datasets import load_demo

raw = load_demo()

# %%
# How much can this montage say about the default implant? The share of prior
# variance that the scalp explains is small for most mesial contacts, and a contact
# below 5 % rests on the prior alone.
table = mne_neuroflow.observability(raw.info)
print(table.groupby("structure")["observability"].describe().round(2))
print(f"{table['abstain'].sum()} of {len(table)} contacts rest on the prior alone")

# %%
# One draw per contact, as an ordinary Raw of 'seeg' channels.
virtual = mne_neuroflow.predict_ieeg(raw, random_state=0)
print(virtual.info["description"])

# %%
# Draws of a few seconds, and what they agree on.
draws = mne_neuroflow.sample_ieeg(raw.copy().crop(10, 20), 50, random_state=0)
contact = table["observability"].idxmax()
low, median, high = draws.sel(channel=contact).quantile([0.05, 0.5, 0.95], "draw") * 1e6

time = draws["time"]
one = draws.sel(channel=contact)[0] * 1e6

fig, ax = plt.subplots(figsize=(8, 3), layout="constrained")
ax.fill_between(time, low, high, alpha=0.25, linewidth=0, label="90 % interval")
ax.plot(time, median, label="median")
ax.plot(time, one, lw=0.6, color="k", label="a draw")
ax.set(xlabel="Time (s)", ylabel=f"{contact} (µV)")
ax.set_title("A prediction, not a recording")
ax.legend(ncols=3, frameon=False)
plt.show()
