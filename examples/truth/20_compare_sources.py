"""
Comparison with eLORETA and LCMV
================================

The same contacts on the same head, once by the flow and once by MNE-Python's own
inverse methods.
"""

# %%
# Source localization at contacts
# -------------------------------
# Inverse methods estimate moments of sources; the intracranial lead field of the same
# head turns them into potentials at the contacts. eLORETA :cite:p:`pascualmarqui2011`
# gives moments, sLORETA, dSPM and the LCMV beamformer :cite:p:`vanveen1997` statistics
# without a unit, for which one number a method is fitted to the scalp.
import mne_neuroflow
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.viz import plot_comparison

raw = load_demo(verbose=False)
comparison = mne_neuroflow.compare_sources(
    raw, contacts="mtl", n_draws=30, tmin=20, tmax=26, random_state=0, verbose=False
)

# %%
# How far they agree
# ------------------
# One row per method, contact and band. Here is the median over contacts of the
# correlation between the source estimate and the mean of the draws, and of the share of
# the source estimate's samples that lie in the 90 % interval of the draws.
table = comparison.table.query("band in ('broad', 'theta', 'alpha')")
table.groupby(["method", "band"], sort=False)[["r", "inside"]].median().round(2)

# %%
# What the estimates are is an ordinary Raw for each method.
print(comparison.estimates["eLORETA"])

# %%
# Both are predictions
# --------------------
# At the outermost contact, where the scalp tells a lot, all see the same. Deeper,
# source localization is louder than the draws and leaves their interval at times, most
# of all in the amygdala: a linear inverse method turns everything that the scalp shows
# into activity somewhere, eyes and muscle included, and has no interval that says so.
# Agreement says that two methods read the same scalp alike, not that either is right.
plot_comparison(comparison)
