"""Reader of epochs around intracranial stimulation, in the form of two datasets.

Localize-MI and CCEPCOREG were written by the same code, which their authors have
published: arrays and tables in ``derivatives/epochs``.
"""

import json
import re

import mne
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from .._compat import logger
from .._text import listed
from ..head.contact_names import read_contact_name
from ..head.geometry import load_head

# 'K13-14 1mA', "A'1-2 0.5mA", "A'1-A'2 5mA 1.0ms 0.5Hz"
_SITE = re.compile(r"(?P<first>[^\W\d_]+['’]?\d+)-(?P<second>[^\s-]*\d+)(?P<how>.*)")
_N_ITERATIONS = 60
# By what factor adults' brains differ from the template's along any axis, with room;
# beyond is another unit, or a part of a cortex.
_SCALES = (0.75, 1.4)


def run_files(subject, task, run, kind):
    """Return the files of one run of the scalp or the intracranial EEG.

    Parameters
    ----------
    subject : int
        The subject.
    task : str
        BIDS name of the task.
    run : int
        The run.
    kind : str
        ``'eeg'`` or ``'ieeg'``.

    Returns
    -------
    files : dict of str to str
        The paths of ``channels``, ``events``, ``about`` and ``data`` in the dataset.
    """
    folder = f"derivatives/epochs/sub-{subject:02d}/{kind}"
    stem = f"{folder}/sub-{subject:02d}_task-{task}_run-{run:02d}"
    return dict(
        channels=f"{stem}_channels.tsv",
        events=f"{stem}_epochs.tsv",
        about=f"{stem}_epochs.json",
        data=f"{stem}_epochs.npy",
    )


def read_run(root, files, ch_type):
    """Read the epochs of one run, and check that its files belong together.

    Parameters
    ----------
    root : Path
        The dataset.
    files : dict of str to str
        From :func:`run_files`.
    ch_type : str
        ``'eeg'`` or ``'seeg'``.

    Returns
    -------
    epochs : Epochs
        The epochs in volts, without positions. Bad channels are marked, and
        ``metadata`` has the columns of the table of epochs.
    """
    channels = read_table(root / files["channels"])
    events = read_table(root / files["events"])
    about = json.loads((root / files["about"]).read_text("utf-8"))
    data = np.load(root / files["data"], allow_pickle=False)
    _check(data, channels, events, root / files["data"])
    info = mne.create_info(
        channels["name"].astype(str).tolist(),
        float(channels["sampling_frequency"].iloc[0]),
        ch_type,
    )
    info["bads"] = channels["name"][channels["status"] == "bad"].tolist()
    info["description"] = about["Description"]
    step = data.shape[2]
    return mne.EpochsArray(
        data,
        info,
        np.c_[step * np.arange(len(data)), np.zeros((len(data), 2), int)] + [0, 0, 1],
        -float(events["zero_time"].iloc[0]),
        {"stimulation": 1},
        metadata=events,
        verbose=False,
    )


def read_table(fname):
    """Read a BIDS table.

    Parameters
    ----------
    fname : Path
        The file.

    Returns
    -------
    table : DataFrame
        The table.
    """
    return pd.read_csv(fname, sep="\t", encoding="utf-8-sig")


def _check(data, channels, events, fname):
    """Refuse files that differ from those that the authors' code writes."""
    wrong = None
    if data.ndim != 3 or data.shape[:2] != (len(events), len(channels)):
        wrong = (
            f"shape {data.shape}, but the tables list {len(events)} epochs of "
            f"{len(channels)} channels"
        )
    elif set(channels["units"]) != {"V"}:
        wrong = f"units {listed(map(str, channels['units'].unique()))} instead of V"
    elif (
        channels["sampling_frequency"].nunique() > 1
        or events["zero_time"].nunique() > 1
    ):
        wrong = "channels or epochs of different rates or beginnings"
    elif np.nanmedian(np.abs(data).max(axis=2)) > 0.1:
        wrong = "an amplitude above 0.1 V, so that it cannot be in volts"
    if wrong:
        raise RuntimeError(
            f"{fname} is not as its dataset is documented: it has {wrong}. Fetch it "
            "again; if it stays so, the dataset has changed."
        )


def read_site(description):
    """Read which contacts were stimulated.

    Parameters
    ----------
    description : str
        The text of the dataset, such as ``"Stimulation of channel A'1-2 0.5mA"``.

    Returns
    -------
    contacts : tuple of str
        Both contacts.
    how : str
        The rest of the text: current, duration, rate.

    Examples
    --------
    >>> from mne_neuroflow.datasets._stimulation import read_site
    >>> read_site("Stimulation of channel K13-14 1mA")
    (('K13', 'K14'), '1mA')
    """
    match = _SITE.search(description)
    if match is None:
        raise RuntimeError(f"No stimulated contacts are named in {description!r}.")
    first, second = match["first"].replace("’", "'"), match["second"].replace("’", "'")
    if second.isdecimal():
        second = f"{read_contact_name(first).shaft}{second}"
    return (first, second), match["how"].strip()


def template_affine(cortex):
    """Fit the affine map from a patient's cortex to that of the template.

    Parameters
    ----------
    cortex : ndarray, shape (n_points, 3)
        Points of both hemispheres in metres, with x to the right and y to the front.

    Returns
    -------
    affine : ndarray, shape (4, 4)
        The map to fsaverage surface RAS.

    Notes
    -----
    Iterative closest points with twelve parameters, starting from the
    bounding boxes. Both surfaces have the same weight: each point is matched to the
    nearest point of the other surface.
    """
    head = load_head()
    target = head.vertices[np.isfinite(head.patch_area[head.vertex_patch])][::3]
    tree = cKDTree(target)
    affine = _box(target) @ np.linalg.inv(_box(cortex))
    for _ in range(_N_ITERATIONS):
        moved = mne.transforms.apply_trans(affine, cortex)
        forth, back = tree.query(moved)[1], cKDTree(moved).query(target)[1]
        source = np.vstack([cortex, cortex[back]])
        wanted = np.vstack([target[forth], target])
        homogeneous = np.c_[source, np.ones(len(source))]
        affine[:3] = np.linalg.lstsq(homogeneous, wanted, rcond=None)[0].T
    apart = tree.query(mne.transforms.apply_trans(affine, cortex))[0]
    scales = np.linalg.svd(affine[:3, :3], compute_uv=False)
    if not _SCALES[0] < scales.min() <= scales.max() < _SCALES[1]:
        raise RuntimeError(
            "The cortex does not fit that of the template, to which it would have to "
            f"be scaled by {scales.min():.3g} to {scales.max():.3g}. It must be of "
            "both hemispheres, and in metres."
        )
    logger.info(
        "An affine map brings the cortex to the template's, %.1f mm apart (median).",
        1e3 * np.median(apart),
    )
    return affine


def _box(points):
    """Return the map from the unit cube to the box of the central points."""
    low, high = np.percentile(points, [1, 99], axis=0)
    box = np.diag([*(high - low) / 2, 1.0])
    box[:3, 3] = (high + low) / 2
    return box


def set_template_positions(epochs, positions):
    """Set electrode positions in template coordinates.

    Parameters
    ----------
    epochs : Epochs
        Changed in place.
    positions : dict of str to ndarray
        Positions in metres, fsaverage surface RAS. Channels without a position become
        bad.
    """
    montage = mne.channels.make_dig_montage(positions, coord_frame="mni_tal")
    epochs.set_montage(
        montage.add_mni_fiducials(verbose=False), on_missing="ignore", verbose=False
    )
    lost = set(epochs.ch_names) - set(positions)
    epochs.info["bads"] = [
        name for name in epochs.ch_names if name in lost or name in epochs.info["bads"]
    ]
