"""
Your own electrodes
===================

This example predicts at the contacts of a patient, given as a BIDS ``electrodes.tsv``,
as the Info of a stereo-EEG recording, or as coordinates.
"""

# %%
# From a BIDS ``electrodes.tsv``
# ------------------------------
# This is a small file as in a BIDS dataset, with MNI coordinates in millimetres.
import json
import tempfile
from pathlib import Path

import mne
import numpy as np

import mne_neuroflow
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.viz import plot_contacts, plot_virtual

folder = Path(tempfile.mkdtemp())
electrodes = folder / "sub-01_space-MNI152NLin2009aSym_electrodes.tsv"
lines = ["name\tx\ty\tz\tsize"]
for name, tip in (("HR", (24, -16, -20)), ("HL", (-24, -16, -20))):
    for k in range(6):
        x = tip[0] + np.sign(tip[0]) * 7 * k
        lines.append(f"{name}{k + 1}\t{x}\t{tip[1]}\t{tip[2] + 1.5 * k}\t5")
electrodes.write_text("\n".join(lines))
space = {"iEEGCoordinateSystem": "MNI152NLin2009aSym", "iEEGCoordinateUnits": "mm"}
sidecar = folder / "sub-01_space-MNI152NLin2009aSym_coordsystem.json"
sidecar.write_text(json.dumps(space))

montage = mne_neuroflow.read_contacts(electrodes)
print(montage)

# sphinx_gallery_thumbnail_number = -1

# %%
# Space and unit are read from the ``coordsystem.json``. If a dataset has none, use
# ``read_contacts(electrodes, space="MNI152", units="mm")``. Neither is ever guessed.
# Contacts outside the template's brain, at the same position or without coordinates are
# errors that name the contacts. No contact is moved.
plot_contacts(montage)

# %%
# Contacts in a patient's own coordinates must be transformed to MNI space first, for
# example by :func:`mne.compute_volume_registration` between the MRIs of the patient and
# of the template.
#
# From a stereo-EEG recording
# ---------------------------
# With an Info that has ``'seeg'`` channels, virtual channels have the same names in the
# same order, so that recorded and virtual signals are easy to compare. The positions
# need fiducials: :meth:`~mne.channels.DigMontage.add_mni_fiducials` says where MNI
# coordinates are in the head. ``read_contacts`` has added them.
recorded = mne.create_info(montage.ch_names, 512.0, "seeg").set_montage(montage)
raw = load_demo(verbose=False)
virtual = mne_neuroflow.predict_ieeg(raw, contacts=recorded, random_state=0)
print(virtual.ch_names == recorded.ch_names)

# %%
# From coordinates
# ----------------
# Positions are in metres, in fsaverage surface RAS (MNI Talairach in MNE-Python). The
# contacts are named ``VC001`` and so on.
pair = mne_neuroflow.make_contacts([[-0.024, -0.016, -0.020], [0.024, -0.016, -0.020]])
print(pair.ch_names)

# %%
# Shipped implants
# ----------------
# ``'mtl'`` and ``'mtl-core'`` were designed for this package. ``'ds004752-sub-01'`` to
# ``'ds004752-sub-15'`` are those of patients :cite:p:`dimakopoulos2022`.
plot_contacts("ds004752-sub-06")

# %%
# Prediction at your own electrodes
# ---------------------------------
# These are predictions at three contacts of each depth electrode, with the share of
# their variance that the 64 scalp electrodes explain.
draws = mne_neuroflow.sample_ieeg(
    raw, 60, tmin=20, tmax=24, contacts=montage, random_state=0
)
plot_virtual(draws.sel(channel=["HL1", "HL3", "HL6", "HR1", "HR3", "HR6"]))
