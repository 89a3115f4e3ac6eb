"""
Calibration against a known truth
=================================

This example simulates scalp EEG and the signals of contacts, predicts the contacts from
the scalp EEG alone, and compares the intervals with the truth.
"""

# %%
# A simulated pair
# ----------------
# Head, couplings, rhythms and artifacts are drawn from the prior that the weights were
# trained on. The assumptions of the model therefore hold here, which may not be true in
# people. The contacts are those of a patient whose implant was not used in training.
import warnings

import matplotlib.pyplot as plt
import numpy as np

import mne_neuroflow
from mne_neuroflow.scores.ensemble import coverage, crps
from mne_neuroflow.scores.signals import pearson_r
from mne_neuroflow.viz import plot_calibration, plot_spectra, plot_virtual

scalp, ieeg = mne_neuroflow.simulate_pair(
    "32", "ds004752-sub-09", duration=16, scenario="rest", random_state=3
)
print(ieeg.info["description"])

# sphinx_gallery_thumbnail_number = -1

# %%
# Prediction at the same contacts
# -------------------------------
# With ``contacts=ieeg.info``, truth and prediction have the same names in the same
# order.
draws = mne_neuroflow.sample_ieeg(
    scalp, 30, contacts=ieeg.info, random_state=0, verbose=False
)
ranked = draws["channel"].values[draws["observability"].values.argsort()[::-1]]
shown = draws.sel(channel=ranked[[0, 12, 25, 38, 50, 63]], time=slice(8, 12))
plot_virtual(shown, {"simulated truth": ieeg})

# %%
# Scores
# ------
# Proper scores combine error and spread. The correlation of the mean depends on the
# waveform alone. Compare both with a control without information, here the draws of the
# same contacts half a recording later.
truth = ieeg.get_data()
later = draws.roll(time=draws.sizes["time"] // 2)
for name, some in (("draws", draws), ("half a recording later", later)):
    r = pearson_r(some.mean("draw").values, truth).mean()
    score = 1e6 * crps(some.values, truth).mean()
    inside = 100 * coverage(some.values, truth, 0.9).mean()
    print(
        f"{name}: CRPS {score:.1f} µV, r {r:.2f}, 90 % intervals cover {inside:.0f} %"
    )

# %%
# Spectra
# -------
# A draw has the spectrum of a signal. The scalp EEG does not show the amplitude of a
# contact, so that intervals are wide. In this patient three structures have more power
# than nearly all draws.
plot_spectra(draws, {"simulated truth": ieeg})

# %%
# Calibration
# -----------
# For this reason, samples of this recording are outside the intervals too often.
# :ref:`calibration` explains the panels.
plot_calibration(draws, ieeg)

# %%
# Eight patients
# --------------
# One recording does not show whether intervals are calibrated, which is a property of
# the average. If the amplitudes of contacts happen to be large, intervals cover too
# little; if they are small, intervals cover nearly everything. The
# :ref:`model card <model_card>` has means over many recordings.
positions = mne_neuroflow.make_contacts("mtl").get_positions()["ch_pos"]
contacts = [places for name, places in positions.items() if name[-1] in "147"]
levels = np.linspace(0.05, 0.9, 18)
warnings.filterwarnings("ignore", "EEG channels more than")  # a bad one is simulated
covered = []
for patient in range(8):
    scalp, ieeg = mne_neuroflow.simulate_pair(
        "32", contacts, duration=6, random_state=patient, verbose=False
    )
    draws = mne_neuroflow.sample_ieeg(
        scalp, 20, contacts=ieeg.info, random_state=0, verbose=False
    )
    truth = ieeg.get_data()
    covered.append([coverage(draws.values, truth, level).mean() for level in levels])
covered = 100 * np.array(covered)

fig, ax = plt.subplots(figsize=(5, 4.5), layout="constrained")
ax.plot([0, 100], [0, 100], color="0.5", ls="--", lw=1, label="calibrated")
for patient, share in enumerate(covered):
    label = None if patient else "simulated patients"
    ax.plot(100 * levels, share, color="#56B4E9", lw=1, label=label)
ax.plot(100 * levels, covered.mean(axis=0), color="#0072B2", lw=3, label="their mean")
ax.set(xlabel="Nominal coverage (%)", ylabel="Samples inside (%)", aspect="equal")
ax.set_title("Intervals of virtual iEEG: predicted, not recorded", fontsize=10)
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False)
plt.show()
