"""CCEPCOREG: simultaneous high-density EEG and stereo-EEG during stimulation.

The dataset has responses of thirty-six patients to single electrical pulses inside the
head, on the scalp (185 electrodes) and at the contacts. Please cite

- Parmigiani S, Mikulan E, Russo S, et al. Simultaneous stereo-EEG and high-density
  scalp EEG recordings to study the effects of intracerebral stimulation parameters.
  Brain Stimulation 15(3):664-675, 2022.
"""

from pathlib import Path

import mne
import numpy as np
from mne.io.constants import FIFF

from .._compat import logger, verbose
from .._docs import fill_doc
from .._text import listed
from ..head.contact_file import UNITS
from ..head.contacts import contact_positions, read_places
from ._paired import PairedSession, describe_contacts
from ._stimulation import (
    check_numbers,
    other_layout,
    read_derivation,
    read_json,
    read_run,
    read_site,
    read_table,
    run_files,
)

_TASK = "ccepcoreg"
_N_SUBJECTS = 36
_SPACE = "space-MNI152NLin2009aSym"
_LANDMARKS = ("NAS", "LPA", "RPA")
_RADII = (0.05, 0.15)  # metres of electrodes from their middle: heads of all ages


@verbose
@fill_doc
def load(subject, run, path, *, verbose=None):
    """Load the scalp and intracranial EEG of one run.

    Parameters
    ----------
    subject : int
        The subject, 1 to 36.
    run : int
        One of its runs.
    path : path-like
        The folder of the dataset, which contains ``derivatives``. It is not downloaded.
    %(verbose)s

    Returns
    -------
    scalp : Epochs
        Epochs from -300 to 700 ms around each pulse, in volts, with average reference
        and the patient's own electrode positions and fiducials.
    ieeg : Epochs
        The same pulses at the contacts in **bipolar** derivations, in volts, with
        positions in MNI coordinates and fiducials. Derivations without coordinates are
        left out. Compare them with :func:`mne_neuroflow.make_bipolar` of a prediction.
    contacts : DataFrame
        One row per derivation of ``ieeg``: ``x``, ``y``, ``z`` (metres, MNI),
        ``hemisphere``, ``group``, ``structure`` and ``stimulated``.

    See Also
    --------
    mne_neuroflow.datasets.localize_mi.load

    Notes
    -----
    The layout was taken from the code that the authors published with the
    paper. No file of the dataset was available when this function was written. It
    **assumes** the following, and raises an error otherwise:

    - ``derivatives/epochs/sub-XX/{eeg,ieeg}/sub-XX_task-ccepcoreg_run-YY_`` followed by
      ``epochs.npy`` (epochs, channels, samples; volts), ``channels.tsv``,
      ``epochs.tsv`` (``zero_time`` before the pulse) and ``epochs.json``;
    - scalp and intracranial EEG have the same epochs with the same times;
    - scalp electrodes are in ``eeg/sub-XX_task-ccepcoreg_electrodes.tsv`` by name, in
      the unit that ``coordsystem.json`` names, with its fiducials;
    - intracranial channels are bipolar derivations by name, such as ``A'1-A'2``, and
      their coordinates are in
      ``ieeg/sub-XX_task-ccepcoreg_space-MNI152NLin2009aSym_electrodes.tsv`` in metres
      under the same name.

    The model works best with recordings longer than one second. The artefact of the
    pulse lasts some milliseconds and is in both recordings.

    Examples
    --------
    >>> from mne_neuroflow.datasets import ccepcoreg
    >>> scalp, ieeg, contacts = ccepcoreg.load(5, 3, "ccepcoreg")  # doctest: +SKIP
    """
    check_numbers(subject, run, _N_SUBJECTS)
    root = Path(path).expanduser()
    scalp = read_run(root, run_files(subject, _TASK, run, "eeg"), "eeg")
    inside = run_files(subject, _TASK, run, "ieeg")
    ieeg = read_run(root, inside, "seeg")
    if len(scalp) != len(ieeg) or not np.array_equal(scalp.times, ieeg.times):
        raise RuntimeError(
            f"Scalp and contacts of subject {subject}, run {run} hold different "
            f"epochs: {_span(scalp)}, and {_span(ieeg)}."
        )
    who = f"sub-{subject:02d}"
    stem = f"{who}_task-{_TASK}"
    _set_electrodes(scalp, root / "derivatives" / "epochs" / who / "eeg", stem)
    folder = root / "derivatives" / "epochs" / who / "ieeg"
    montage = read_places(
        folder / f"{stem}_{_SPACE}_electrodes.tsv",
        space="MNI152",
        units="m",
        on_missing="ignore",
        derived=True,
    )
    ieeg = _set_derivations(ieeg, montage)
    pairs = [read_derivation(name) for name in ieeg.ch_names]
    if None in pairs:
        single = [n for n, pair in zip(ieeg.ch_names, pairs, strict=True) if not pair]
        raise other_layout(
            root / inside["channels"],
            f"channels that are no bipolar derivations: {listed(single)}",
        )
    contacts = describe_contacts(montage).loc[ieeg.ch_names]
    stimulated = set(read_site(scalp.info["description"])[0])
    touched = [not stimulated.isdisjoint(pair) for pair in pairs]
    return PairedSession(scalp, ieeg, contacts.assign(stimulated=touched))


def _span(epochs):
    return (
        f"{len(epochs)} from {epochs.tmin:g} to {epochs.tmax:g} s at "
        f"{epochs.info['sfreq']:g} Hz"
    )


def _set_electrodes(scalp, folder, stem):
    """Set the patient's own electrodes and fiducials."""
    fname = folder / f"{stem}_electrodes.tsv"
    table = read_table(fname, ["name", "x", "y", "z"]).set_index("name")
    if table.index.has_duplicates:
        raise other_layout(fname, "electrodes with the same name")
    about = _read_system(folder / f"{stem}_coordsystem.json")
    scale = UNITS[about["EEGCoordinateUnits"]]
    rr = scale * table.reindex(scalp.ch_names)[["x", "y", "z"]].to_numpy(float)
    known = np.isfinite(rr).all(axis=1)
    if not known.all():
        lost = [name for name, ok in zip(scalp.ch_names, known, strict=True) if not ok]
        raise other_layout(fname, f"no position of {listed(lost)}")
    radius = np.median(np.linalg.norm(rr - rr.mean(axis=0), axis=1))
    if not _RADII[0] < radius < _RADII[1]:
        raise other_layout(
            fname, f"electrodes {radius:.3g} m from their middle, which is no head"
        )
    marks = about["AnatomicalLandmarkCoordinates"]
    unit = UNITS[about["AnatomicalLandmarkCoordinateUnits"]]
    nasion, lpa, rpa = (unit * np.array(marks[name]) for name in _LANDMARKS)
    scalp.set_montage(
        mne.channels.make_dig_montage(
            dict(zip(scalp.ch_names, rr, strict=True)), nasion=nasion, lpa=lpa, rpa=rpa
        ),
        verbose=False,
    )


def _read_system(fname):
    """Read the units of electrodes and fiducials, and the fiducials."""
    units = ["EEGCoordinateUnits", "AnatomicalLandmarkCoordinateUnits"]
    about = read_json(fname, [*units, "AnatomicalLandmarkCoordinates"])
    unknown = [str(about[name]) for name in units if about[name] not in UNITS]
    if unknown:
        raise other_layout(fname, f"units {listed(unknown)}, not {listed(UNITS)}")
    lost = [
        name
        for name in _LANDMARKS
        if name not in about["AnatomicalLandmarkCoordinates"]
    ]
    if lost:
        raise other_layout(fname, f"no fiducial {listed(lost)}")
    return about


def _set_derivations(ieeg, montage):
    """Keep the derivations with known positions, and mark them as bipolar."""
    known = dict(zip(*contact_positions(montage), strict=True))
    kept = [name for name in ieeg.ch_names if name in known]
    if not kept:
        raise RuntimeError(
            f"No channel of {listed(ieeg.ch_names)} has coordinates, only "
            f"{listed(known)} have some. The layout of the dataset is not the one "
            "that this version reads."
        )
    lost = [name for name in ieeg.ch_names if name not in known]
    if lost:
        logger.info("Left out derivations without coordinates: %s.", listed(lost))
    ieeg.pick(kept, verbose=False)
    places = mne.channels.make_dig_montage(
        {name: known[name] for name in kept}, coord_frame="mni_tal"
    )
    ieeg.set_montage(places.add_mni_fiducials(verbose=False), verbose=False)
    for ch in ieeg.info["chs"]:
        ch["coil_type"] = FIFF.FIFFV_COIL_EEG_BIPOLAR
    return ieeg
