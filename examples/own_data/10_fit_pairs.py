"""
Fitting to pairs of your own
============================

From a few minutes of simultaneous scalp and intracranial EEG, the model learns what
differs between patients: the sign and the lag of the coupling between contacts and
scalp.
"""

# %%
# Two sessions of a simulated patient
# -----------------------------------
# Head, implant and couplings are the same in both sessions, but the signals are new.
# Use recorded pairs in the same way: a :class:`~mne.io.Raw` or :class:`~mne.Epochs` of
# the scalp EEG and one of the contacts, or lists of them.
import matplotlib.pyplot as plt
import numpy as np

import mne_neuroflow
from mne_neuroflow.scores.ensemble import coverage, crps
from mne_neuroflow.scores.signals import pearson_r

positions = mne_neuroflow.make_contacts("mtl").get_positions()["ch_pos"]
contacts = np.array(
    [positions[f"v{name}{k}"] for name in ("AHL", "PHR") for k in range(1, 9)]
)
patient = dict(contacts=contacts, montage="19", scenario="theta", random_state=4)
scalp, ieeg = mne_neuroflow.simulate_pair(duration=180, session=1, **patient)
later_scalp, later_ieeg = mne_neuroflow.simulate_pair(duration=16, session=2, **patient)

# %%
# Fit
# ---
# The first session is divided into parts before anything is estimated, and the last
# part is held out. With ``n_steps=0`` only the spatial stage and the intervals are
# fitted, which takes seconds. By default the flow is trained as well.
model = mne_neuroflow.NeuroFlow.load("mtl-v2")
history = model.fit(scalp, ieeg, n_steps=0, random_state=0, verbose=False)
print(model)

# %%
# The later session
# -----------------
# The later session, which neither model has seen, is predicted with the shipped weights
# and with the fitted model.
truth = later_ieeg.get_data()
shipped = mne_neuroflow.sample_ieeg(
    later_scalp, 40, contacts=later_ieeg.info, random_state=0, verbose=False
)
fitted = model.sample(later_scalp, 40, random_state=0, verbose=False)
for name, draws in (("shipped", shipped), ("fitted", fitted)):
    r = pearson_r(draws.mean("draw").values, truth).mean()
    score = 1e6 * crps(draws.values, truth).mean()
    inside = 100 * coverage(draws.values, truth, 0.9).mean()
    print(
        f"{name}: r {r:.2f}, CRPS {score:.1f} µV, 90 % intervals cover {inside:.0f} %"
    )

# %%
# After fitting, the error is smaller and the intervals are narrower. They may cover
# less than their nominal level, because sessions differ. ``doc/decisions/fitting.md``
# has the figures of several patients.
#
# A fitted model is saved with its weights, its fits and a model card. Give it to
# :func:`mne_neuroflow.predict_ieeg` and similar functions as ``model``.
#
# Where it helps
# --------------
# The figure shows the correlation of the mean over draws with the truth for each
# contact, and four seconds of the contact with the largest gain. Pairs show the sign of
# a contact's coupling, which the shipped weights cannot know.
before = pearson_r(shipped.mean("draw").values, truth)
after = pearson_r(fitted.mean("draw").values, truth)
best = int(np.argmax(after - before))
seconds = slice(4, 8)
times = later_ieeg.times
shown = (times >= seconds.start) & (times <= seconds.stop)

fig = plt.figure(figsize=(11, 4.5), layout="constrained")
scatter, traces = fig.subfigures(1, 2, width_ratios=(1, 2))
ax = scatter.subplots()
limits = [min(before.min(), after.min()) - 0.05, max(before.max(), after.max()) + 0.05]
ax.plot(limits, limits, color="0.5", ls="--", lw=1)
ax.plot(before, after, "o", color="#0072B2")
ax.plot(before[best], after[best], "o", ms=10, mfc="none", color="#D55E00")
ax.set(
    xlabel="r of the shipped weights", ylabel="r of the fitted model", aspect="equal"
)
axes = traces.subplots(2, 1, sharex=True, sharey=True)
for ax, (name, draws) in zip(
    axes, (("shipped", shipped), ("fitted", fitted)), strict=True
):
    contact = 1e6 * draws[:, best].sel(time=seconds)
    low, middle, high = contact.quantile([0.05, 0.5, 0.95], "draw")
    ax.fill_between(contact["time"], low, high, color="#0072B2", alpha=0.2, lw=0)
    ax.plot(contact["time"], middle, color="#0072B2", label="median, 90 % of draws")
    ax.plot(
        times[shown], 1e6 * truth[best, shown], color="#D55E00", lw=1, label="truth"
    )
    ax.set_title(f"{name}: predicted, not recorded", fontsize=10)
    ax.set_ylabel("µV")
axes[1].set_xlabel("Time (s)")
axes[0].legend(frameon=False, ncols=2, fontsize=8, loc="upper right")
for ax in fig.axes:
    ax.spines[["top", "right"]].set_visible(False)
plt.show()
