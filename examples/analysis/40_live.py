"""
Prediction during a recording
=============================

:class:`~mne_neuroflow.stream.StreamPredictor` predicts virtual contacts from incoming
samples of scalp EEG. In this example the bundled recording is passed to it in pieces,
as an amplifier would send it.
"""

# %%
# A source of samples
# -------------------
# Any source can be used. It must provide the ``info`` of the scalp EEG and, from time
# to time, an array of new samples in volts. For amplifiers with LSL, the command
# ``mne-neuroflow stream`` does all of this, see :ref:`live`.
import matplotlib.pyplot as plt
import numpy as np

import mne_neuroflow
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.stream import StreamPredictor

raw = load_demo(verbose=False)
sfreq = raw.info["sfreq"]

# %%
# These are three contacts of an electrode through the left posterior hippocampus. The
# latency is one second. The median and the 90 % interval are computed from twenty
# draws.
names = ["vPHL1", "vPHL5", "vPHL8"]
positions = mne_neuroflow.make_contacts("mtl").get_positions()["ch_pos"]
live = StreamPredictor(
    raw.info,
    contacts=[positions[name] for name in names],
    latency=1.0,
    output=["median", ("quantile", 0.05), ("quantile", 0.95)],
    n_draws=20,
    random_state=0,
)

# %%
# Each call passes a tenth of a second. The result may be empty. Samples that were
# returned do not change afterwards.
scalp = raw.get_data(live.ch_names, stop=int(30 * sfreq))
step = int(sfreq / 10)
virtual = []
for start in range(0, scalp.shape[1], step):
    new, first_sample = live.push(scalp[:, start : start + step])
    virtual.append(new)
virtual = np.concatenate(virtual, axis=-1)
waiting = (scalp.shape[1] - virtual.shape[-1]) / sfreq
print(f"{scalp.shape[1] / sfreq:g} s of scalp EEG, {waiting:.2f} s not yet predicted")

# %%
# This is the current estimate of the share of each contact's variance that the scalp
# EEG explains.
print(dict(zip(names, live.observability.round(2).tolist(), strict=True)))

# %%
# The last six seconds
# --------------------
# The scalp EEG at the top is recorded, and the contacts below are predicted. They end
# before the last second, which has not been predicted yet.
shown = 6.0
now = scalp.shape[1] / sfreq
fig, axes = plt.subplots(
    len(names) + 1, figsize=(7, 5), sharex=True, layout="constrained"
)
times = np.arange(scalp.shape[1]) / sfreq
electrode = live.ch_names.index("T7")
axes[0].plot(times, 1e6 * (scalp[electrode] - scalp.mean(0)), color="0.3", lw=0.7)
axes[0].set_ylabel("T7 (µV)")
times = np.arange(virtual.shape[-1]) / sfreq
for ax, name, (median, low, high) in zip(
    axes[1:], names, 1e6 * virtual.swapaxes(0, 1), strict=True
):
    ax.fill_between(times, low, high, color="C0", alpha=0.25, lw=0)
    ax.plot(times, median, color="C0", lw=0.7)
    ax.set_ylabel(f"{name} (µV)")
for ax in axes:
    ax.axvline(now - waiting, color="0.6", lw=0.7, ls="--")
    ax.spines[["top", "right"]].set_visible(False)
axes[-1].set(xlim=(now - shown, now), xlabel="Time (s)")
fig.suptitle("Virtual contacts: predicted from scalp EEG, not recorded")
plt.show()
