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

from .._compat import _validate_type, logger
from .._text import listed
from ..head.contact_names import read_contact_name
from ..head.geometry import load_head

# 'K13-14 1mA', "A'1-2 0.5mA", "A'1-A'2 5mA 1.0ms 0.5Hz"
_SITE = re.compile(r"(?P<first>[^\W\d_]+['’]?\d+)-(?P<second>[^\s-]*\d+)(?P<how>.*)")
_N_ITERATIONS = 60
# By what factor adults' brains differ from the template's along any axis, with room;
# beyond is another unit, or a part of a cortex.
_SCALES = (0.75, 1.4)
_LOWEST = 100.0  # hertz, below which the rate has another unit
_LARGEST = 0.1  # volts of ordinary channels; stimulation artefacts have millivolts


def check_numbers(subject, run, n_subjects):
    """Refuse a subject or run that no dataset has.

    Parameters
    ----------
    subject : int
        The subject.
    run : int
        The run.
    n_subjects : int
        The number of subjects of the dataset.
    """
    for name, number in (("subject", subject), ("run", run)):
        _validate_type(number, ("int-like",), name)
    if not 1 <= subject <= n_subjects or run < 1:
        raise ValueError(
            "Invalid value for the 'subject' or 'run' parameter. Allowed values are "
            f"subjects 1 to {n_subjects} and runs from 1, but got {subject} and {run}."
        )


def other_layout(fname, wrong):
    """Describe how a file differs from the layout that this version reads.

    Parameters
    ----------
    fname : Path
        The file.
    wrong : str
        What it has.

    Returns
    -------
    error : RuntimeError
        The error to raise.
    """
    return RuntimeError(
        f"{fname} is not as its dataset is documented: it has {wrong}. Delete it and "
        "get it again; if it stays so, the dataset has another layout than the one "
        "that this version reads."
    )


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
    channels = read_table(
        root / files["channels"], ["name", "units", "sampling_frequency", "status"]
    )
    events = read_table(root / files["events"], ["zero_time"])
    about = read_json(root / files["about"], ["Description"])
    data = _read_array(root / files["data"])
    names = channels["name"].astype(str).tolist()
    status = channels["status"].fillna("n/a").astype(str).str.lower()
    for wrong in _differences(data, channels.assign(status=status), events):
        raise other_layout(root / files["data"], wrong)
    sfreq = float(channels["sampling_frequency"].iloc[0])
    info = mne.create_info(names, sfreq, ch_type)
    info["bads"] = [name for name, of in zip(names, status, strict=True) if of == "bad"]
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


def read_table(fname, columns):
    """Read a BIDS table.

    Parameters
    ----------
    fname : Path
        The file.
    columns : list of str
        The columns that it must have.

    Returns
    -------
    table : DataFrame
        The table.
    """
    table = pd.read_csv(fname, sep="\t", encoding="utf-8-sig")
    _check_parts(fname, columns, table.columns, "column")
    return table


def read_json(fname, keys):
    """Read a BIDS side-car.

    Parameters
    ----------
    fname : Path
        The file.
    keys : list of str
        The entries that it must have.

    Returns
    -------
    entries : dict
        The entries.
    """
    entries = json.loads(fname.read_text("utf-8"))
    _check_parts(fname, keys, entries, "entry")
    return entries


def _check_parts(fname, needed, present, kind):
    lacking = [name for name in needed if name not in present]
    if lacking:
        raise other_layout(fname, f"no {kind} {listed(lacking)}")


def _read_array(fname):
    try:
        return np.load(fname, allow_pickle=False)
    except (ValueError, EOFError) as err:
        raise other_layout(fname, f"no readable array ({err})") from err


def _differences(data, channels, events):
    """Find how the files differ from those that the authors' code writes."""
    names, status = channels["name"].astype(str), channels["status"]
    rates, zeros = channels["sampling_frequency"], events["zero_time"]
    if data.ndim != 3 or data.shape[:2] != (len(events), len(channels)):
        yield (
            f"shape {data.shape}, but the tables list {len(events)} epochs of "
            f"{len(channels)} channels"
        )
    if not data.size or data.dtype.kind != "f":
        yield f"{data.size} numbers of type {data.dtype}"
    if names.duplicated().any():
        yield f"channels with the same name: {listed(names[names.duplicated()])}"
    if set(channels["units"]) != {"V"}:
        yield f"units {listed(map(str, channels['units'].unique()))} instead of V"
    if not status.isin(["good", "bad", "n/a"]).all():
        yield f"status {listed(status.unique())} instead of good or bad"
    if rates.nunique() != 1 or zeros.nunique() != 1:
        yield "channels or epochs of different rates or beginnings"
    if rates[0] < _LOWEST:
        yield f"a sampling rate of {rates[0]:g} Hz"
    if not 0 <= zeros[0] <= data.shape[2] / rates[0]:
        yield f"no pulse in the epochs (zero_time {zeros[0]:g} s)"
    spoilt = ~np.isfinite(data).all(axis=(0, 2)) & (status != "bad").to_numpy()
    if spoilt.any():
        yield f"NaN or infinite values in {listed(names[spoilt])}"
    if np.nanmedian(np.abs(data).max(axis=2)) > _LARGEST:
        yield f"an amplitude above {_LARGEST} V, so that it cannot be in volts"


def read_site(description):
    """Read which contacts were stimulated.

    Parameters
    ----------
    description : str
        The text of the dataset, such as ``"Stimulation of channel A'1-2 0.5mA"``.

    Returns
    -------
    contacts : tuple of ContactName
        Both contacts.
    how : str
        The rest of the text: current, duration, rate.

    Examples
    --------
    >>> from mne_neuroflow.datasets._stimulation import read_site
    >>> contacts, how = read_site("Stimulation of channel K13-14 1mA")
    >>> [f"{shaft}{number}" for shaft, number in contacts], how
    (['K13', 'K14'], '1mA')
    """
    match = _SITE.search(description)
    if match is None:
        raise RuntimeError(f"No stimulated contacts are named in {description!r}.")
    return _pair(match), match["how"].strip()


def read_derivation(name):
    """Read the name of a bipolar derivation.

    Parameters
    ----------
    name : str
        Such as ``"A'1-A'2"`` or ``'K13-14'``.

    Returns
    -------
    contacts : tuple of ContactName | None
        Both contacts, or None if the name is not that of a derivation.
    """
    match = _SITE.fullmatch(name)
    return _pair(match) if match and not match["how"] else None


def _pair(match):
    first, second = read_contact_name(match["first"]), match["second"]
    if second.isdecimal():
        return first, first._replace(number=int(second))
    return first, read_contact_name(second)


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
