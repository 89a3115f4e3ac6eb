"""Virtual recordings for others: EDF+ for review software, and BIDS derivatives."""

from __future__ import annotations

import json
import os
import re
import shutil
import unicodedata
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import mne
import numpy as np

from . import __version__
from ._compat import ProgressBar, _validate_type, logger, verbose
from ._files import draft_folder, move_into
from ._text import listed
from .contract import BAND
from .head.contacts import (
    LABEL_RADII,
    contact_labels,
    contact_positions,
    make_contacts,
)
from .virtual import provenance

if TYPE_CHECKING:
    import mne_bids

_LABEL_LENGTH = 16  # of a signal in EDF
_YEARS = (1985, 2084)  # that two digits tell apart in EDF
_LARGEST = 32767  # of 16 bits, the same on both sides of zero
# Microvolts of one quantization step, finest first. Review software and amplifiers
# use the first: it holds 3.2 mV, several times the largest seizure.
_STEPS = (0.1, 1.0, 10.0, 100.0)
_CHUNK_SECONDS = 60.0
_LONG = 3  # chunks, above which a progress bar shows
_KIND = "virtual contact, predicted from scalp EEG, not recorded"
_README = """Virtual intracranial EEG, predicted from scalp EEG with mne_neuroflow.

Nothing in this dataset was recorded inside a head. Every signal is a prediction for
research, and must not be used for diagnosis, for planning an operation or for any
other decision about a patient. The JSON file beside each signal says which model made
it, and from which seed. Contacts are in metres of fsaverage's MNI space.
"""


@verbose
def export_edf(raw, fname, *, overwrite=False, anonymize=True, verbose=None) -> Path:
    """Export a virtual recording to EDF+, for clinical review software.

    Parameters
    ----------
    raw : Raw
        What :func:`predict_ieeg` returns for a Raw, also after it was saved and read;
        no other channels among it.
    fname : path-like
        The file to write, ``*.edf``.
    overwrite : bool
        Replace the file if it exists.
    anonymize : bool
        Leave out name, code, sex, date of birth and the date of the recording; the
        time of day is kept. ``False`` writes what ``info`` knows of them.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    fname : Path
        The file.

    See Also
    --------
    write_bids
    mne.export.export_raw : Writes any Raw, also one that was recorded.

    Notes
    -----
    Potentials are in microvolts with steps of 0.1 (coarser for what exceeds 3.2 mV),
    so that every sample is right to half a step. The recording field, every signal's
    transducer field and an annotation at the first sample say that it is virtual.

    Labels have 16 ASCII characters at most: longer ones are cut, numbered where they
    would be the same, and named in the log; accents are lost. The time is that of the
    first sample, also after ``crop``. EDF consists of whole seconds: the last one is
    filled up with the last sample and annotated ``BAD_ACQ_SKIP``, which MNE-Python
    skips.

    A recording that is not preloaded is computed minute by minute. The writer, edfio,
    holds the file in memory twice, four bytes a sample: an hour of 80 contacts at 256
    Hz, a file of 148 MB, took 340 MB.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False).crop(0, 4)
    >>> virtual = mne_neuroflow.predict_ieeg(
    ...     raw, contacts="mtl-core", random_state=0, verbose=False
    ... )
    >>> fname = mne_neuroflow.export_edf(virtual, "virtual.edf")
    >>> fname.name
    'virtual.edf'
    """
    _check_result(raw)
    _validate_type(fname, "path-like", "fname")
    fname = Path(os.path.abspath(Path(fname).expanduser()))
    if fname.suffix.lower() != ".edf":
        raise ValueError(
            "Invalid value for the 'fname' parameter. Allowed values are names that "
            f"end with .edf, but got {fname.name}."
        )
    if fname.is_dir():
        raise IsADirectoryError(f"{fname} is a folder.")
    if fname.exists() and not overwrite:
        raise FileExistsError(f"{fname} exists; use overwrite=True to replace it.")
    edf = _make_edf(raw, anonymize)
    with draft_folder(fname.parent) as folder:
        edf.write(folder / fname.name)
        move_into(folder, fname.parent)
    return fname


@verbose
def write_bids(
    raw,
    root,
    *,
    subject,
    task="rest",
    session=None,
    run=None,
    trans="fsaverage",
    overwrite=False,
    verbose=None,
) -> mne_bids.BIDSPath:
    """Write a virtual recording to a BIDS derivative dataset.

    Parameters
    ----------
    raw : Raw
        What :func:`predict_ieeg` returns for a Raw, also after it was saved and read.
    root : path-like
        Folder of the derivative dataset, made if there is none. Not that of the
        dataset with the recordings.
    subject : str
        Label of the subject, without ``sub-``. Labels consist of letters and digits.
    task : str
        Label of the task.
    session : str | None
        Label of the session.
    run : str | int | None
        Number of the run.
    trans : str | path-like | Transform
        What it was predicted with, see :func:`predict_ieeg`.
    overwrite : bool
        Replace the recording if it exists.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    bids_path : mne_bids.BIDSPath
        Where the EDF file is, with ``desc-virtual`` in its name.

    See Also
    --------
    export_edf

    Notes
    -----
    Needs MNE-BIDS. Contacts are written in metres of fsaverage's MNI space. Name,
    dates and other details of ``info`` are left out, as :func:`export_edf` does; the
    dataset's description names this package and what the recording was predicted
    with. All files are made in a temporary folder first, so that nothing is
    half-written when something fails. ``electrodes.tsv`` also has the structures within
    3 and 5 mm of each contact, with their shares, as :func:`observability` has them.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False).crop(0, 4)
    >>> virtual = mne_neuroflow.predict_ieeg(
    ...     raw, contacts="mtl-core", random_state=0, verbose=False
    ... )
    >>> path = mne_neuroflow.write_bids(virtual, "derivative", subject="01")
    >>> path.basename
    'sub-01_task-rest_desc-virtual_ieeg.edf'
    """
    mne_bids = _needed("mne_bids", "mne-bids", "write BIDS datasets")
    _check_result(raw)
    _validate_type(root, "path-like", "root")
    root = Path(os.path.abspath(Path(root).expanduser()))
    _check_labels(subject=subject, task=task, session=session, run=run)
    path = mne_bids.BIDSPath(
        subject=subject,
        session=session,
        task=task,
        run=run,
        description="virtual",
        datatype="ieeg",
        suffix="ieeg",
        extension=".edf",
        root=root,
    )
    _check_root(root)
    if path.fpath.exists() and not overwrite:
        raise FileExistsError(f"{path.fpath} exists; use overwrite=True to replace it.")
    root.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(root.parent) as folder:
        draft = folder / "dataset"
        draft.mkdir()
        _bring_shared_files(root, draft, path)
        _, positions = contact_positions(make_contacts(raw.info, trans=trans))
        _write_draft(raw, positions, path.copy().update(root=draft), folder)
        _check_same_contacts(draft, path)
        move_into(draft, root, last=lambda fname: fname.suffix == ".edf")
    return path


def _check_result(raw):
    if isinstance(raw, mne.BaseEpochs):
        raise TypeError(
            "raw must be an instance of Raw, got Epochs, which EDF cannot hold "
            "apart from each other. Predict the continuous recording, or keep epochs "
            "with raw.save()."
        )
    _validate_type(raw, mne.io.BaseRaw, "raw", "Raw")
    if not provenance(raw.info):
        raise ValueError(
            "Invalid value for the 'raw' parameter. Allowed values are virtual "
            "recordings as predict_ieeg() returns them, whose info['description'] or "
            "info['proc_history'] says that they are predicted, because the file will "
            f"say so; but got {raw.info['description']!r}. mne.export.export_raw() "
            "writes others."
        )
    others = sorted(set(raw.get_channel_types()) - {"seeg"})
    if others:
        raise ValueError(
            "Invalid value for the 'raw' parameter. Allowed values have 'seeg' "
            "channels alone, because the file will say of each that it is predicted, "
            f"but got also {', '.join(others)}. Use raw.pick('seeg')."
        )


def _check_labels(*, subject, run, **labels):
    _validate_type(subject, str, "subject")
    labels = {"subject": subject, "run": None if run is None else str(run)} | labels
    for name, label in labels.items():
        if label is None:
            continue
        _validate_type(label, str, name)
        if not re.fullmatch("[0-9A-Za-z]+", label):
            raise ValueError(
                f"Invalid value for the '{name}' parameter. Allowed values consist of "
                f"letters and digits, as BIDS has them, but got {label!r}."
            )


def _needed(module, package, purpose):
    try:
        return import_module(module)
    except ImportError as err:
        raise ImportError(
            f"To {purpose}, install {package}: pip install {package}"
        ) from err


# EDF ----------------------------------------------------------------------------------


def _make_edf(raw, anonymize):
    """Quantize a recording; edfio's object is all of the file."""
    edfio = _needed("edfio", "edfio", "export EDF files")
    labels = edf_labels(raw.ch_names)
    cut = [
        name for name, label in zip(raw.ch_names, labels, strict=True) if name != label
    ]
    if cut:
        logger.info("Shortened %d labels for EDF: %s.", len(cut), listed(cut))
    # Whole samples in a record; one second for all usual sampling rates.
    n_record = round(raw.info["sfreq"])
    duration = float(f"{n_record / raw.info['sfreq']:.6f}")
    digital, step = _quantize(raw, n_record)
    limit = round(_LARGEST * step, 1)
    signals = [
        edfio.EdfSignal.from_digital(
            row,
            n_record / duration,
            label=label,
            transducer_type=_KIND,
            physical_dimension="uV",
            physical_range=(-limit, limit),
            digital_range=(-_LARGEST, _LARGEST),
            prefiltering=f"HP:{BAND[0]:g}Hz LP:{BAND[1]:g}Hz",
        )
        for row, label in zip(digital, labels, strict=True)
    ]
    start = _start(raw, anonymize)
    return edfio.Edf(
        signals,
        patient=edfio.Patient() if anonymize else _patient(edfio, raw.info),
        recording=edfio.Recording(
            startdate=None if anonymize or start is None else start.date(),
            equipment_code="virtual_iEEG",
            additional=("predicted_not_recorded", "mne_neuroflow"),
        ),
        starttime=None if start is None else start.time(),
        data_record_duration=duration,
        annotations=_annotations(edfio, raw, digital.shape[1] - raw.n_times),
    )


def _start(raw, anonymize):
    """Return when the first sample is from, later than the date if it was cropped."""
    date = raw.info["meas_date"]
    if date is None:
        return None
    start = date + timedelta(seconds=raw.first_time)
    if not anonymize and not _YEARS[0] <= start.year <= _YEARS[1]:
        raise ValueError(
            f"EDF holds dates from {_YEARS[0]} to {_YEARS[1]}, but raw was recorded "
            f"on {start.date()}. Use anonymize=True, or raw.set_meas_date()."
        )
    return start


def edf_labels(names):
    """Shorten channel names for EDF.

    Parameters
    ----------
    names : list of str
        Channel names.

    Returns
    -------
    labels : list of str
        Unique, ASCII, 16 characters at most.

    Examples
    --------
    >>> edf_labels(["vAL1", "left hippocampus 1", "left hippocampus 2"])
    ['vAL1', 'left hippocampus', 'left hippocamp~2']
    """
    labels, taken = [], set()
    for name in names:
        plain = _ascii(name) or "channel"
        label, k = plain[:_LABEL_LENGTH].strip(), 1
        while label in taken:
            k += 1
            end = f"~{k}"
            label = plain[: _LABEL_LENGTH - len(end)] + end
        labels.append(label)
        taken.add(label)
    return labels


def _quantize(raw, n_record):
    """Return samples as integers, whole records of them, and the step in µV."""
    for step in _STEPS:
        digital = _quantize_with(raw, n_record, step)
        if digital is not None:
            return digital, step
    raise ValueError(
        f"raw exceeds {1e-6 * _LARGEST * _STEPS[-1]:.1f} V. Check its unit, which "
        "must be volts."
    )


def _quantize_with(raw, n_record, step):
    n_padded = -(-raw.n_times // n_record) * n_record
    digital = np.empty((len(raw.ch_names), n_padded), np.int16)
    length = int(_CHUNK_SECONDS * raw.info["sfreq"])
    starts = range(0, raw.n_times, length)
    long = len(starts) > _LONG
    for start in ProgressBar(starts, mesg="Exporting") if long else starts:
        stop = min(start + length, raw.n_times)
        steps = np.rint(
            raw.get_data(start=start, stop=stop, verbose=False) / (1e-6 * step)
        )
        if not np.isfinite(steps).all():
            raise ValueError(
                "raw holds NaN or infinite values, which EDF cannot hold. Predict with "
                "bad_time='prior', or crop them away."
            )
        if np.abs(steps).max() > _LARGEST:
            return None
        digital[:, start:stop] = steps
    digital[:, raw.n_times :] = digital[:, [raw.n_times - 1]]
    return digital


def _patient(edfio, info):
    """Collect what info knows of the patient; EDF+ forbids blanks."""
    about = info["subject_info"] or {}
    names = [about.get(part) for part in ("first_name", "middle_name", "last_name")]
    return edfio.Patient(
        code=_word(about.get("his_id")),
        sex={1: "M", 2: "F"}.get(about.get("sex"), "X"),
        birthdate=about.get("birthday"),
        name=_word(" ".join(filter(None, names))),
    )


def _word(text):
    return _ascii(str(text or "")).replace(" ", "_") or "X"


def _ascii(text):
    """Write text in the letters of EDF: accents are lost, other letters are '?'."""
    parts = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in parts if not unicodedata.combining(c))
    plain = plain.encode("ascii", "replace").decode()
    return " ".join(re.sub("[\x00-\x1f\x7f]", " ", plain).split())


def _annotations(edfio, raw, n_added):
    """Annotations from the first sample on, with where the recording comes from."""
    told = [edfio.EdfAnnotation(0, None, provenance(raw.info))]
    found = raw.annotations
    onsets = found.onset - raw.first_time
    labels = dict(zip(raw.ch_names, edf_labels(raw.ch_names), strict=True))
    for onset, duration, text, names in zip(
        onsets, found.duration, found.description, found.ch_names, strict=True
    ):
        # EDF+ keeps control characters for itself. "@@" is how MNE-Python tells the
        # channel that an annotation is of.
        text = " ".join(re.sub("[\x00-\x1f]", " ", text).split())
        for end in [f"@@{labels[name]}" for name in names] or [""]:
            told.append(edfio.EdfAnnotation(onset, duration or None, text + end))
    if n_added:
        added = n_added / raw.info["sfreq"]
        told.append(edfio.EdfAnnotation(raw.duration, added, "BAD_ACQ_SKIP"))
    return told


# BIDS ---------------------------------------------------------------------------------


def _check_root(root):
    """Refuse to put predictions among recordings."""
    description = root / "dataset_description.json"
    if description.is_file() and '"derivative"' not in description.read_text("utf-8"):
        raise ValueError(
            f"{root} is a dataset of recordings. Write predictions to a dataset of "
            "their own, for example its folder derivatives/mne_neuroflow."
        )
    if root.exists() and not root.is_dir():
        raise NotADirectoryError(f"{root} is a file, not a folder.")
    if root.exists() and not description.is_file() and any(root.iterdir()):
        raise ValueError(f"{root} is neither empty nor a BIDS dataset.")


def _bring_shared_files(root, draft, path):
    """Copy the files that several recordings share, to be added to."""
    folder = Path(f"sub-{path.subject}")
    if path.session is not None:
        folder = folder / f"ses-{path.session}"
    shared = ["dataset_description.json", "participants.tsv", "participants.json"]
    shared += [folder / f"{'_'.join(folder.parts)}_scans.tsv"]
    for name in shared:
        if (root / name).is_file():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, draft / name)


def _write_draft(raw, positions, path, folder):
    """Write one recording into a dataset that nobody else sees."""
    import mne_bids

    edf = _make_edf(raw, anonymize=True)
    edf.write(folder / "virtual.edf")
    again = mne.io.read_raw_edf(folder / "virtual.edf", verbose="error")
    again.set_channel_types(dict.fromkeys(again.ch_names, "seeg"), verbose="error")
    again.info["line_freq"] = raw.info["line_freq"]
    montage = mne.channels.make_dig_montage(
        dict(zip(again.ch_names, positions, strict=True)), coord_frame="mni_tal"
    )
    description = provenance(raw.info)
    mne_bids.make_dataset_description(
        path=path.root,
        name="Virtual intracranial EEG: predicted from scalp EEG, not recorded",
        dataset_type="derivative",
        generated_by=[
            dict(Name="mne_neuroflow", Version=__version__, Description=description)
        ],
        overwrite=False,
        verbose="error",
    )
    mne_bids.write_raw_bids(
        again, path, montage=montage, overwrite=True, readme=False, verbose="error"
    )
    _say_what_it_is(path)
    _add_labels(path, positions)
    mne_bids.update_sidecar_json(
        path.copy().update(extension=".json"),
        {
            "Description": description,
            "iEEGReference": "none: potentials against infinity, from a head model",
            "Manufacturer": "n/a",
        },
        verbose="error",
    )


def _say_what_it_is(path):
    """Replace what MNE-BIDS says of channels and authors, and write the README."""
    about = path.root / "dataset_description.json"
    told = json.loads(about.read_text(encoding="utf-8"))
    if any("Unspecified" in name for name in told.get("Authors", [])):
        del told["Authors"]
        about.write_text(json.dumps(told, indent=4, ensure_ascii=False), "utf-8")
    channels = path.copy().update(suffix="channels", extension=".tsv").fpath
    table = channels.read_text(encoding="utf-8-sig")
    channels.write_text(table.replace("\tStereoEEG\t", f"\t{_KIND}\t"), "utf-8")
    (path.root / "README").write_text(_README, "utf-8")


def _add_labels(path, positions):
    """Add the structures around each contact to electrodes.tsv, and what they mean."""
    (file,) = path.root.rglob("*_electrodes.tsv")
    header, *rows = file.read_text(encoding="utf-8-sig").splitlines()
    labels = contact_labels(positions)
    lines = ["\t".join([header, *labels])]
    lines += ["\t".join(row) for row in zip(rows, *labels.values(), strict=True)]
    file.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    about = {
        f"labels_{radius}mm": {
            "Description": "Structures of the template head within "
            f"{radius} mm of the contact, with their shares of this ball."
        }
        for radius in LABEL_RADII
    }
    file.with_suffix(".json").write_text(json.dumps(about, indent=4), "utf-8")


def _check_same_contacts(draft, path):
    """Refuse to give other recordings that are there other contacts.

    BIDS keeps the electrodes of a session in one file.
    """
    recordings = path.fpath.parent.glob("*_ieeg.edf")
    others = [file.name for file in recordings if file != path.fpath]
    (file,) = draft.rglob("*_electrodes.tsv")
    there = path.root / file.relative_to(draft)
    if others and there.is_file() and there.read_bytes() != file.read_bytes():
        raise ValueError(
            f"{there} holds other contacts, which belong to recordings that are there "
            f"already: {listed(sorted(others))}. Give this one another 'session'."
        )
