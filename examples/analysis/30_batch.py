"""
Many files at once
==================

A folder of recordings, one prediction each, in parallel and able to go on where it was
stopped.
"""

# %%
# Three files
# -----------
# Three parts of the bundled recording stand for a folder of recordings.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np
from joblib import Parallel, delayed

import mne_neuroflow
from mne_neuroflow.datasets import load_demo

folder = Path(tempfile.mkdtemp())
for k, tmin in enumerate((0, 18, 36)):
    part = load_demo(verbose=False).crop(tmin, tmin + 10)
    part.save(folder / f"sub-{k + 1:02d}_raw.fif", verbose=False)

# %%
# One function for one file
# -------------------------
# The file is not loaded: samples are read and predicted piece by piece, in memory that
# does not grow with its length. What is finished is left as it is, so that a run that
# was stopped can go on. The seed makes the result the same whatever the order of the
# files and the number of processes.


def predict_file(fname):
    """Predict one recording, and write what comes out beside it."""
    out = fname.with_name(fname.name.replace("_raw", "_desc-virtual_raw"))
    if not out.exists():
        raw = mne.io.read_raw(fname, verbose="error")
        virtual = mne_neuroflow.predict_ieeg(
            raw, contacts="mtl-core", random_state=0, verbose="error"
        )
        part = out.with_name(out.name.replace("_desc", "_part"))
        virtual.save(part, verbose="error")
        part.rename(out)
    return out


# %%
# In parallel
# -----------
# Each process loads PyTorch and the weights anew. On a machine with many cores, let
# ``n_jobs`` times PyTorch's threads equal their number (joblib does this by itself). On
# a GPU use one process.
files = sorted(folder.glob("*_raw.fif"))
written = Parallel(n_jobs=2)(delayed(predict_file)(fname) for fname in files)
print([fname.name for fname in written])

# %%
# Power of each subject
# ---------------------
# A statistic over subjects needs the uncertainty within each of them: draws instead of
# one prediction. Theta power of the hippocampal contacts, left minus right.
fig, ax = plt.subplots(figsize=(6, 3), layout="constrained")
for row, fname in enumerate(files):
    raw = mne.io.read_raw(fname, verbose="error")
    draws = mne_neuroflow.sample_ieeg(
        raw, 20, contacts="mtl-core", random_state=0, verbose="error"
    )
    draws = draws[:, draws["structure"].values == "hippocampus"]
    power, _ = mne.time_frequency.psd_array_welch(
        draws.values.astype(float), raw.info["sfreq"], 4, 8, n_fft=320, verbose="error"
    )
    decibels = 10 * np.log10(power.mean(axis=-1))
    left = np.array(["L" in name for name in draws["channel"].values])
    difference = decibels[:, left].mean(axis=1) - decibels[:, ~left].mean(axis=1)
    low, middle, high = np.quantile(difference, [0.05, 0.5, 0.95])
    ax.plot([low, high], [row, row], color="#0072B2", lw=2)
    ax.plot(middle, row, "o", color="#0072B2")
ax.axvline(0, color="0.5", ls="--", lw=1)
ax.set_yticks(range(len(files)), [fname.name.split("_")[0] for fname in files])
ax.set(
    xlabel="Theta power, left minus right (dB): median and 90 % of draws",
    title="Virtual hippocampal contacts: predicted, not recorded",
    ylim=(len(files) - 0.5, -0.5),
)
ax.spines[["top", "right"]].set_visible(False)
plt.show()
