"""
Rerunning the benchmark
=======================

Methods side by side on the simulated cohort, with controls, splits made beforehand and
the same scores for all: a first look that takes seconds, and the whole run.
"""

# %%
# The cohort
# ----------
# Twelve virtual patients with two sessions each, which are made on demand and are the
# same on every machine. None of their implants and seeds were used in training.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from mne_neuroflow.datasets import simulated_cohort
from mne_neuroflow.evaluation.benchmark import Settings, leaderboard, run_benchmark
from mne_neuroflow.evaluation.protocols import Dataset
from mne_neuroflow.evaluation.report import write_report

simulated_cohort.table().head()

# %%
# Three patients, four methods
# ----------------------------
# The control ``shifted-scalp`` is the shipped model with the scalp of half a session
# later: whatever it scores, it does not owe to the scalp. ``session`` trains on a
# patient's first session, where a method trains at all, and tests on the second.
#
# The same run, and the whole one, on the command line::
#
#     mne-neuroflow benchmark --data simulated --quick
#     mne-neuroflow benchmark --data simulated --protocol session --jobs 2
folder = Path(tempfile.mkdtemp())
cohort = Dataset.of("simulated", simulated_cohort, load_options={"path": folder})
methods = ["prior", "eloreta", "shifted-scalp", "pretrained"]
settings = Settings.quick(n_patients=3, n_draws=8, test_seconds=6.0)
rows, failures = run_benchmark(cohort, methods, folder / "run", settings)
print(failures or "no failures")

# %%
# The figures of the shipped weights, of the :ref:`model card <model_card>` and of
# :ref:`limits`, come from scripts of the repository, which print the machine with them:
# on simulation that training never saw, stratum by stratum, and on simulations whose
# prior is wrong on purpose::
#
#     python benchmarks/held_out.py
#     python benchmarks/calibration.py
#     python tools/build_head.py --skull-conductivity 0.002 --out skull-0.002.npz
#     python tools/build_head.py --skull-conductivity 0.03 --out skull-0.03.npz
#     python benchmarks/calibration.py --prior neural-masses \
#         --heads skull-0.002.npz skull-0.03.npz --batches 5
#
# A run of the benchmark is a folder: what was asked for, the split, all rows, and a
# page that opens offline. Rows carry versions, seeds and the split.
print(write_report(folder / "run").name)
print(rows.iloc[0][["method", "patient", "structure", "split", "mne_neuroflow"]])

# %%
# The leaderboard
# ---------------
# Means over patients, of the columns that matter most. From three patients and six
# seconds nothing follows; the page of a whole run says what does. Mind who has seen
# what: the prior and eLORETA have learned how loud each contact is from the patient's
# first session, the shipped weights have seen nothing of the patient.
table, low, high = leaderboard(rows)
table[["CRPS", "CRPS skill", "90 % covers", "spread/error", "r", "LSD dB"]].round(2)

# %%
# Lower CRPS is better, and 90 % intervals should cover 90 %. A method whose score does
# not suffer from a shifted scalp has not used it.
fig, axes = plt.subplots(1, 2, figsize=(9, 3), sharey=True, layout="constrained")
for ax, column in zip(axes, ("CRPS", "90 % covers"), strict=True):
    error = [table[column] - low[column], high[column] - table[column]]
    ax.errorbar(table[column], range(len(table)), xerr=error, fmt="o", color="#0072B2")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(range(len(table)), table.index)
axes[0].invert_yaxis()
axes[0].set_xlabel("CRPS (s.d. of the truth)")
axes[1].set_xlabel("Coverage of 90 % intervals")
axes[1].axvline(0.9, color="0.5", ls="--", lw=1)
fig.suptitle("Three simulated patients: mean and 95 % bootstrap interval")
plt.show()
