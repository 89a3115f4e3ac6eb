"""
Calibration against a known truth
=================================

Simulate scalp EEG and what the contacts would have recorded, predict from the scalp
alone, and see what the intervals hold.
"""

# %%
# A simulated pair
# ----------------
# Head, couplings, rhythms and artifacts are drawn from the prior that the weights were
# trained on, so that this shows the model at its best: where its idea of the brain
# holds. The contacts are those of a real patient whom the training never saw.
import matplotlib.pyplot as plt

import mne_neuroflow
from mne_neuroflow.evaluation.calibration import coverage, crps
from mne_neuroflow.evaluation.signals import pearson_r
from mne_neuroflow.viz import plot_calibration, plot_spectra, plot_virtual

scalp, ieeg = mne_neuroflow.simulate_pair(
    "ds004752-sub-09", montage="32", duration=16, scenario="rest", random_state=3
)
print(ieeg.info["description"])

# sphinx_gallery_thumbnail_number = -1

# %%
# Prediction at the same contacts
# -------------------------------
# ``contacts=ieeg.info`` gives the same names in the same order, so that truth and
# prediction lie over each other.
draws = mne_neuroflow.sample_ieeg(
    scalp, 30, contacts=ieeg.info, random_state=0, verbose=False
)
ranked = draws["channel"].values[draws["observability"].values.argsort()[::-1]]
shown = draws.sel(channel=ranked[[0, 12, 25, 38, 50, 63]], time=slice(8, 12))
plot_virtual(shown, {"simulated truth": ieeg})

# %%
# Scores
# ------
# Proper scores weigh error against spread; the correlation of the mean tells about the
# waveform alone. Both are best read beside what knows nothing, here the draws of the
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
# A draw has the spectrum of a signal. How loud a contact is, the scalp does not tell,
# which is why the intervals are so wide.
plot_spectra(draws, {"simulated truth": ieeg})

# %%
# Calibration
# -----------
# In one recording the coverage scatters about its mean over recordings, because a whole
# contact may be louder or quieter than expected. :ref:`calibration` tells how to read
# the panels, and the :ref:`model card <model_card>` has the means over recordings.
plot_calibration(draws, ieeg)
plt.show()
