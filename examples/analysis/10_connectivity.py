"""
Connectivity with mne-connectivity
==================================

This example computes the coherence between virtual contacts, for one draw, over all
draws, and for a control with shuffled electrodes.
"""

# %%
# Coherence of one draw
# ---------------------
# mne-connectivity takes virtual epochs like any others. This is the coherence between 8
# and 13 Hz at the tips of the ten depth electrodes of the default implant, in windows
# of two seconds:
import matplotlib.pyplot as plt
import mne
import numpy as np
from mne.viz import circular_layout
from mne_connectivity import spectral_connectivity_epochs
from mne_connectivity.viz import plot_connectivity_circle

import mne_neuroflow
from mne_neuroflow.datasets import load_demo

raw = load_demo(verbose=False)
positions = mne_neuroflow.make_contacts("mtl").get_positions()["ch_pos"]
names = [name for name in positions if name.endswith("1")]
montage = mne.channels.make_dig_montage(
    {name: positions[name] for name in names}, coord_frame="mni_tal"
)
virtual = mne_neuroflow.predict_ieeg(raw, contacts=montage, random_state=0)
windows = mne.make_fixed_length_epochs(virtual, 2.0, preload=True, verbose=False)
options = dict(method="coh", fmin=8, fmax=13, faverage=True, verbose=False)
print(spectral_connectivity_epochs(windows, **options))

# %%
# Coherence over draws
# --------------------
# Connectivity is not linear. It is therefore computed for each draw separately and
# summarized afterwards. The coherence of the mean over draws would be something else.
pairs = np.tril_indices(len(names), -1)
sfreq = raw.info["sfreq"]


def coherence(raw, seed):
    """Compute the alpha coherence of each pair in 30 draws, (n_draws, n_pairs)."""
    draws = mne_neuroflow.sample_ieeg(
        raw, 30, contacts=montage, random_state=seed, verbose=False
    )
    size = int(2 * sfreq)
    n_windows = draws.sizes["time"] // size
    found = []
    for draw in draws.values[..., : n_windows * size]:
        windows = draw.reshape(len(names), n_windows, size).swapaxes(0, 1)
        one = spectral_connectivity_epochs(windows, sfreq=sfreq, **options)
        found.append(one.get_data("dense")[..., 0][pairs])
    return np.array(found)


alpha = coherence(raw, seed=0)

# %%
# A control
# ---------
# Neighbouring contacts share sources whatever the scalp EEG shows, and coherence from
# few windows is never zero. The control therefore exchanges the signals of the scalp
# electrodes at random. What remains the same does not come from the scalp EEG.
rng = np.random.default_rng(0)
data = raw.get_data()[rng.permutation(len(raw.ch_names))]
control = coherence(mne.io.RawArray(data, raw.info, verbose=False), seed=1)

# %%
# The left panel shows the median over draws. The right panel shows the median and 90 %
# interval of each pair against its median in the control. Points near the diagonal are
# pairs whose coherence is that of the prior. Do not draw conclusions from them.
low, middle, high = np.quantile(alpha, [0.05, 0.5, 0.95], axis=0)
expected = np.median(control, axis=0)

fig = plt.figure(figsize=(11, 5), layout="constrained")
left = [name for name in names if "L" in name[-2:]]
right = [name.replace("L1", "R1") for name in left[::-1]]
plot_connectivity_circle(
    middle,
    names,
    indices=pairs,
    node_angles=circular_layout(names, left + right, group_boundaries=[0, len(left)]),
    ax=fig.add_subplot(1, 2, 1, polar=True),
    facecolor="white",
    textcolor="black",
    colormap="viridis",
    colorbar_size=0.5,
    node_colors=["0.8"],
    title="Alpha coherence, median of 30 draws",
    show=False,
)
ax = fig.add_subplot(1, 2, 2)
ax.plot([0, 1], [0, 1], color="0.5", ls="--", lw=1)
ax.errorbar(
    expected, middle, [middle - low, high - middle], fmt="o", ms=4, elinewidth=0.7
)
limit = 1.05 * high.max()
ax.set(
    xlabel="Coherence with shuffled electrodes (median)",
    ylabel="Coherence (median and 90 % of draws)",
    xlim=(0, limit),
    ylim=(0, limit),
    aspect="equal",
)
fig.suptitle("Virtual iEEG: predicted from scalp EEG, not recorded")
ax.spines[["top", "right"]].set_visible(False)
plt.show()
