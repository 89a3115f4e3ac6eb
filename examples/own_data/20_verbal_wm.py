"""
The working-memory dataset step by step
=======================================

OpenNeuro ds004752 has simultaneous recordings from the scalp and from depth electrodes.
This example loads a session, predicts at the patient's contacts, and compares with the
recording.
"""

# %%
# Simulated or real data
# ----------------------
# These pages are built without a network. The signals below are simulated, and written
# in the layout of the dataset with its real side-car files: **no figure here shows a
# patient.** To use the real data, leave out this cell and set ``path = None`` in the
# next one. Missing files are then downloaded (80 to 550 MB per session) and checked.
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np

import mne_neuroflow
from mne_neuroflow.datasets import verbal_wm
from mne_neuroflow.scores.decoding import decoding_auc
from mne_neuroflow.scores.signals import decibels, in_band, pearson_r
from mne_neuroflow.viz import plot_calibration, plot_spectra

n_trials = 6
sys.path.append(str(Path("../../tests").resolve()))
layout = import_module("verbal_wm_layout")
names = layout.table(f"{layout.stem(1, 1, 'eeg')}channels.tsv")["name"]
new = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8", "A1": "T9", "A2": "T10"}
places = [new.get(name, name) for name in names]
scalp, ieeg = mne_neuroflow.simulate_pair(
    places, "ds004752-sub-01", 8 * n_trials, scenario="theta", random_state=2
)
signals = {
    len(scalp.ch_names): 1e6 * scalp.resample(200).get_data(),
    len(ieeg.ch_names): 1e6 * ieeg.resample(2000).get_data(),
}
path = Path(tempfile.mkdtemp())
layout.write_session(path, 1, 1, n_trials, lambda n_channels, _: signals[n_channels])

# sphinx_gallery_thumbnail_number = -1

# %%
# One session
# -----------
# The results are Epochs of scalp EEG and iEEG with the same trials, times and metadata,
# and a table of the contacts.
scalp, ieeg, contacts = verbal_wm.load(1, 1, path)
scalp.metadata[["trial", "set_size", "match", "correct", "response_time", "artifact"]]

# %%
contacts.groupby(["structure", "hemisphere"]).size().unstack(fill_value=0)

# %%
# Only trials that the dataset marks as clean are kept. Maintenance lasts from -3 to 0
# s.
clean = "artifact == 0"
scalp, ieeg = scalp[clean], ieeg[clean]
print(scalp)

# %%
# Prediction at the patient's contacts
# ------------------------------------
# With ``contacts=ieeg.info``, virtual channels have the same names in the same order.
draws = mne_neuroflow.sample_ieeg(
    scalp, 15, tmin=-3, tmax=-0.1, contacts=ieeg.info, random_state=0, verbose=False
)

# %%
# The same reference and band
# ---------------------------
# The contacts of the dataset have a common reference in the brain; the model's
# potentials have none. Both are re-referenced to the mean of all contacts, and compared
# between 0.5 and 50 Hz.
ieeg = ieeg.load_data().filter(0.5, 50, verbose=False)
ieeg.set_eeg_reference("average", ch_type="seeg", verbose=False)
recorded = ieeg.copy().crop(-3, -0.1)
draws = draws - draws.mean("channel")

# %%
# The waveform
# ------------
# This is the correlation of the mean over draws with the contacts in each trial.
# Without pairs of this patient, the waveform can hardly be predicted; :ref:`limits`
# says why.
r = pearson_r(draws.mean("draw").values, recorded.get_data())
print(f"mean over contacts and trials: r = {r.mean():.2f}")

# %%
# The next figure shows spectra of draws and contacts for each structure.
plot_spectra(draws, {"stand-in for the recording": recorded})

# %%
# Calibration
# -----------
# The result on real data is not known yet.
plot_calibration(draws, recorded)

# %%
# Decoding of load, and a control without EEG
# -------------------------------------------
# In this task an error is followed by a trial of low load. The correctness of the
# previous trial alone therefore decodes load. In a pre-registered study of these
# patients (EEG-to-LFP, 2026) its area under the curve was 0.596, and that of scalp EEG
# 0.616. A decoder must therefore be better than this control, not better than 0.5, and
# draws with the control better than the control alone. Each draw is decoded separately,
# so that the result has an interval.
known = scalp.metadata["previous_correct"].notna().to_numpy()
load = (scalp.metadata["set_size"] >= 6).to_numpy()[known]
control = scalp.metadata["previous_correct"].to_numpy()[known]
theta = decibels((in_band(draws.values, 200, "theta") ** 2).mean(axis=-1))[:, known]
auc = [decoding_auc(draw, load, n_folds=2) for draw in theta]
both = [decoding_auc(np.c_[control, draw], load, n_folds=2) for draw in theta]
print(f"control: {decoding_auc(control, load, n_folds=2):.2f}")
print(f"draws: {min(auc):.2f} to {max(auc):.2f}, n = {known.sum()} trials")
print(f"draws with the control: {min(both):.2f} to {max(both):.2f}")

# %%
# With a few simulated trials these figures are meaningless. Sessions of the real data
# have about fifty trials.
