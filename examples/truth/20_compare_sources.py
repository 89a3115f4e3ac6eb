"""
Comparison with eLORETA and LCMV
================================

This example predicts the same contacts of the same head with the flow and with
MNE-Python's inverse methods.
"""

# %%
# Source localization at contacts
# -------------------------------
# Inverse methods estimate source moments, and the intracranial lead field of the same
# head turns them into potentials at the contacts. eLORETA :cite:p:`pascualmarqui2011`
# estimates moments. sLORETA, dSPM and the LCMV beamformer :cite:p:`vanveen1997` compute
# statistics without a unit. One number per method scales them to fit the scalp EEG.
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
# The table has one row per method, contact and band. Shown are medians over contacts:
# ``r`` is the correlation of the source estimate with the mean of the draws, and
# ``inside`` is the share of its samples that lie in the 90 % interval of the draws.
table = comparison.table.query("band in ('broad', 'theta', 'alpha')")
table.groupby(["method", "band"], sort=False)[["r", "inside"]].median().round(2)

# %%
# The estimates of each method are an ordinary Raw.
print(comparison.estimates["eLORETA"])

# %%
# Both are predictions
# --------------------
# At the outermost contact, where the observability is high, all methods agree. At
# deeper contacts, the source estimates are larger than the draws and sometimes outside
# their interval, most often in the amygdala. A linear inverse method explains all scalp
# EEG, including eye and muscle artifacts, by brain activity, and has no interval that
# shows this. Agreement says that two methods read the scalp EEG in the same way, not
# that either is right.
plot_comparison(comparison)
