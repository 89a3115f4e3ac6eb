"""Write the 10-05 electrode positions for the montages of the simulation.

Run ``python tools/build_positions.py``. The positions are those of MNE's template
montage (BSD-3-Clause), transformed from fsaverage's head frame to its surface RAS
frame, so that the simulation does not need MNE.
"""

import csv
from pathlib import Path

import mne
import numpy as np

OUT = Path(__file__).parents[1] / "mne_neuroflow/simulation/data/positions_1005.csv"


def main():
    """Write the table."""
    builtin = mne.channels.get_builtin_montages()
    kind = "fsaverage_1005" if "fsaverage_1005" in builtin else "standard_1005"
    montage = mne.channels.make_standard_montage(kind)
    names = [name for name in montage.ch_names if name not in ("T3", "T4", "T5", "T6")]
    info = mne.create_info(names, 100.0, "eeg").set_montage(montage)
    fif = Path(mne.__file__).parent / "data" / "fsaverage" / "fsaverage-trans.fif"
    trans = mne.read_trans(fif)
    if trans["from"] != mne.io.constants.FIFF.FIFFV_COORD_HEAD:
        trans = mne.transforms.invert_transform(trans)
    head = np.array([channel["loc"][:3] for channel in info["chs"]])
    positions = mne.transforms.apply_trans(trans, head)
    OUT.parent.mkdir(exist_ok=True)
    with OUT.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["name", "x", "y", "z"])
        for name, place in zip(names, positions, strict=True):
            writer.writerow([name, *(f"{value:.5f}" for value in place)])


if __name__ == "__main__":
    main()
