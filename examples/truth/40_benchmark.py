"""
Rerunning the benchmark
=======================

This example compares methods on the simulated cohort, with controls, fixed splits and
the same scores for all methods. It takes seconds; the command for the whole run is
below.
"""

# %%
# The cohort
# ----------
# The cohort has twelve virtual patients with two sessions each. They are simulated when
# they are needed, and are the same on every machine. Their implants and seeds were not
# used in training.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

from mne_neuroflow.datasets import simulated_cohort
from mne_neuroflow.evaluation.benchmark import Settings, run_benchmark
from mne_neuroflow.evaluation.protocols import Dataset
from mne_neuroflow.evaluation.report import write_report
from mne_neuroflow.evaluation.results import leaderboard

simulated_cohort.table().head()

# %%
# Three patients, four methods
# ----------------------------
# The control ``shifted-scalp`` is the shipped model with scalp EEG that is shifted by
# half a session. Its scores do not come from the scalp EEG. The protocol ``session``
# trains on the first session of a patient, if a method needs training, and tests on the
# second.
#
# These commands do the same run, and the whole one::
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
# The figures of the :ref:`model card <model_card>` and of :ref:`limits` come from
# scripts of the repository, which also print the machine. They use simulated patients
# that were not used in training, and simulations that differ from the prior on
# purpose::
#
#     python benchmarks/held_out.py
#     python benchmarks/calibration.py
#     python tools/build_head.py --skull-conductivity 0.002 --out skull-0.002.npz
#     python tools/build_head.py --skull-conductivity 0.03 --out skull-0.03.npz
#     python benchmarks/calibration.py --prior neural-masses \
#         --heads skull-0.002.npz skull-0.03.npz --batches 5
#
# A run of the benchmark is a folder with its settings, the split, all rows of results,
# and a page that opens offline. Rows contain versions, seeds and the split.
print(write_report(folder / "run").name)
print(rows.iloc[0][["method", "patient", "structure", "split", "mne_neuroflow"]])

# %%
# The leaderboard
# ---------------
# The table shows means over patients of the main columns. Three patients and six
# seconds are not enough for conclusions; see the page of a whole run. Methods have
# different information: the prior and eLORETA know the amplitude of each contact from
# the patient's first session, whereas the shipped weights have no data of the patient.
table, low, high = leaderboard(rows)
table[["CRPS", "CRPS skill", "90 % covers", "spread/error", "r", "LSD dB"]].round(2)

# %%
# Lower CRPS is better, and 90 % intervals should cover 90 %. If shifted scalp EEG does
# not make the score of a method worse, the method does not use the scalp EEG.
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
