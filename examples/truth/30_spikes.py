"""
Interictal spikes with a known truth
====================================

Can spikes of the medial temporal lobe be found in virtual contacts? This example uses
simulated spikes, whose times and positions are known.
"""

# %%
# Simulated spikes
# ----------------
# This is a minute of a patient with interictal spikes of a mesial focus. The
# annotations mark the time and place of each peak.
import matplotlib.pyplot as plt
import numpy as np

import mne_neuroflow
from mne_neuroflow.scores.signals import spike_detection, spike_score

scalp, ieeg = mne_neuroflow.simulate_pair(
    "32", "mtl-core", duration=60, scenario="spikes", random_state=4
)
of_spikes = [name.startswith("spike") for name in ieeg.annotations.description]
onsets = ieeg.annotations.onset[of_spikes]
print(sorted(set(ieeg.annotations.description)), len(onsets), "spikes")

# %%
# A detector on virtual contacts
# ------------------------------
# The spike score compares a signal with its background at each time. It is computed for
# each draw separately, and averaged over draws. The area under the ROC curve says how
# well the score separates spikes from other times: 1 is perfect, 0.5 is chance. The
# focus is on the left.
sfreq = scalp.info["sfreq"]
draws = mne_neuroflow.sample_ieeg(
    scalp, 20, contacts=ieeg.info, random_state=0, verbose=False
)
sharp = np.mean([spike_score(draw, sfreq) for draw in draws.values], axis=0)


def areas(score):
    """Compute the area under the ROC curve of each channel."""
    return np.array([spike_detection(one, onsets, sfreq)[2] for one in score])


virtual, inside = areas(sharp), areas(spike_score(ieeg.get_data(), sfreq))
outside = areas(spike_score(scalp.get_data(), sfreq))
left = np.array(["L" in name for name in ieeg.ch_names])
for name, area in (
    ("contacts of the left side", inside[left]),
    ("virtual contacts of the left side", virtual[left]),
    ("virtual contacts of the right side", virtual[~left]),
    ("scalp electrodes", outside),
):
    print(f"{name}: median {np.median(area):.2f}, best {area.max():.2f}")

# %%
# The best scalp electrode detects these spikes better than any virtual contact. Virtual
# contacts on the side of the focus are only slightly better than the others. To detect
# spikes, use the scalp EEG.
#
# The average spike
# -----------------
# The first panels show averages over spikes: the true potential, the best scalp
# electrode, and the virtual contact with the interval of this average over draws. An
# average over many spikes can show what a single spike does not, but the times of the
# spikes must be known. The last panel is about single spikes. The scalp EEG shows the
# spikes of this focus well. With ``random_state=2``, a hippocampal focus, the best
# scalp electrode reaches 0.75 and the best virtual contact 0.65, with a median of 0.52.
focus = ieeg.ch_names[int(np.argmax(inside))]
nearest = scalp.ch_names[int(np.argmax(outside))]
samples = np.round(onsets * sfreq).astype(int)
span = np.arange(-round(0.5 * sfreq), round(0.5 * sfreq))
samples = samples[(samples > len(span)) & (samples < scalp.n_times - len(span))]


def average(signal):
    """Average over spikes, in microvolts."""
    return 1e6 * signal[..., samples[:, np.newaxis] + span].mean(axis=-2)


true, electrode = average(ieeg.get_data(focus)[0]), average(scalp.get_data(nearest)[0])
drawn = average(draws.sel(channel=focus).values)
low, middle, high = np.quantile(drawn, [0.05, 0.5, 0.95], axis=0)

fig, axes = plt.subplots(1, 4, figsize=(12, 3.5), layout="constrained")
axes[0].plot(span / sfreq, true, color="#D55E00")
axes[0].set_title(f"{focus}, simulated truth")
axes[1].plot(span / sfreq, electrode, color="0.2")
axes[1].set_title(f"{nearest}, scalp")
axes[2].fill_between(span / sfreq, low, high, color="#0072B2", alpha=0.2, lw=0)
axes[2].plot(span / sfreq, middle, color="#0072B2")
axes[2].set_title(f"{focus}, virtual (90 %)")
for ax in axes[:3]:
    ax.set_xlabel("Time from spike (s)")
    ax.axvline(0, color="0.5", lw=0.8, ls="--")
axes[0].set_ylabel(f"Mean of {len(samples)} spikes (µV)")
axes[3].boxplot(
    [inside[left], virtual[left], outside], widths=0.6, medianprops=dict(color="k")
)
axes[3].set_xticks([1, 2, 3], ["left inside", "left virtual", "scalp"])
axes[3].axhline(0.5, color="0.5", lw=0.8, ls="--")
axes[3].set_ylabel("Area under the ROC curve")
axes[3].set_title("Single spikes")
for ax in axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()
