"""Export of virtual recordings: EDF+ for review software, and BIDS derivatives."""

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
from ._docs import fill_doc
from ._files import draft_folder, locked, move_into
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

_LABEL_LENGTH = 16  # maximum of a signal's label in EDF
_YEARS = (1985, 2084)  # range of two-digit years in EDF
_LARGEST = 32767  # of 16 bits, the same on both sides of zero
# Microvolts of one quantization step, finest first. Review software and amplifiers
# use the first. Its range is 3.2 mV, several times the largest seizure.
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
@fill_doc
def export_edf(raw, fname, *, overwrite=False, anonymize=True, verbose=None) -> Path:
    """Export a virtual recording to EDF+, for clinical review software.

    Parameters
    ----------
    raw : Raw
        The result of :func:`predict_ieeg` for a Raw, also after saving and reading it.
        It must not have other channels.
    fname : path-like
        The file to write, ``*.edf``.
    overwrite : bool
        Replace the file if it exists.
    anonymize : bool
        Leave out name, code, sex, date of birth and the date of the recording, and keep
        the time of day. ``False`` writes all of these that ``info`` contains.
    %(verbose)s

    Returns
    -------
    fname : Path
        The file.

    See Also
    --------
    write_bids
    mne.export.export_raw : Exports any Raw, including recorded ones.

    Notes
    -----
    Potentials are stored in microvolts, in steps of 0.1 µV (larger for signals beyond
    3.2 mV). The recording field, the transducer field of every signal and an annotation
    at the first sample say that the recording is virtual.

    Labels have at most 16 ASCII characters. Longer ones are shortened, numbered if they
    would be the same, and named in the log. Accents are removed. The start time is that
    of the first sample, also after ``crop``. EDF files consist of whole seconds: the
    last second is filled with the last sample and annotated as ``BAD_padding``, which
    MNE-Python skips.

    A recording that is not preloaded is computed and written minute by minute, so that
    memory does not grow with its length.

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
    fname = _check_fname(fname, ".edf", overwrite)
    with draft_folder(fname.parent) as folder:
        _write_edf(raw, folder / fname.name, anonymize)
        move_into(folder, fname.parent)
    return fname


@verbose
@fill_doc
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
        The result of :func:`predict_ieeg` for a Raw, also after saving and reading it.
    root : path-like
        The folder of the derivative dataset, which is made if it does not exist. It
        must not be the folder of the recorded dataset.
    subject : str
        The label of the subject, without ``sub-``. Labels consist of letters and
        digits.
    task : str
        The label of the task.
    session : str | None
        The label of the session.
    run : str | int | None
        The number of the run.
    trans : str | path-like | Transform
        The ``trans`` with which :func:`predict_ieeg` was called.
    overwrite : bool
        Replace the recording if it exists.
    %(verbose)s

    Returns
    -------
    bids_path : mne_bids.BIDSPath
        The path of the EDF file, with ``desc-virtual`` in its name.

    See Also
    --------
    export_edf

    Notes
    -----
    This function needs MNE-BIDS. Contacts are written in metres, in fsaverage's MNI
    space. ``electrodes.tsv`` also has the structures within 3 and 5 mm of each contact
    with their shares, as in :func:`observability`. Name, dates and other personal
    details of ``info`` are left out. The description of the dataset names this package,
    the weights and the seed. All files are made in a temporary folder first, so that a
    failure leaves no incomplete files.

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
        draft, edf = folder / "dataset", folder / "virtual.edf"
        draft.mkdir()
        _, positions = contact_positions(make_contacts(raw.info, trans=trans))
        _write_edf(raw, edf, anonymize=True)
        # Other processes must not change the files that recordings share meanwhile.
        with locked(root.parent):
            _bring_shared_files(root, draft, path)
            _write_draft(raw, edf, positions, path.copy().update(root=draft))
            _check_same_contacts(draft, path)
            move_into(draft, root, last=lambda fname: fname.suffix == ".edf")
    return path


def _check_fname(fname, ending, overwrite):
    """Check the name of a file to write and make it absolute."""
    _validate_type(fname, "path-like", "fname")
    fname = Path(os.path.abspath(Path(fname).expanduser()))
    if fname.suffix.lower() != ending:
        raise ValueError(
            "Invalid value for the 'fname' parameter. Allowed values are names that "
            f"end with {ending}, but got {fname.name}."
        )
    if fname.is_dir():
        raise IsADirectoryError(f"{fname} is a folder.")
    if fname.exists() and not overwrite:
        raise FileExistsError(f"{fname} exists; use overwrite=True to replace it.")
    return fname


def _check_result(raw):
    if isinstance(raw, mne.BaseEpochs):
        raise TypeError(
            "raw must be an instance of Raw, got Epochs, which EDF cannot hold "
            "apart from each other. Predict the continuous recording, or keep epochs "
            "with raw.save()."
        )
    _validate_type(raw, mne.io.BaseRaw, "raw", "Raw")
    if not provenance(raw):
        raise ValueError(
            "Invalid value for the 'raw' parameter. Allowed values are virtual "
            "recordings as predict_ieeg() returns them, whose info['description'], "
            "info['proc_history'] or annotations say that they are predicted, because "
            f"the file will say so; but got {raw.info['description']!r}. "
            "mne.export.export_raw() writes others."
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


def _write_edf(raw, fname, anonymize):
    """Quantize a recording and write it, a minute at a time."""
    names, labels = raw.ch_names, edf_labels(raw.ch_names)
    cut = [name for name, label in zip(names, labels, strict=True) if name != label]
    if cut:
        logger.info("Shortened %d labels for EDF: %s.", len(cut), listed(cut))
    # Whole samples in a record; one second for all usual sampling rates.
    n_record = round(raw.info["sfreq"])
    n_records = -(-raw.n_times // n_record)
    for step in _STEPS:
        header, notes = _make_frame(raw, fname, labels, step, n_records, anonymize)
        if _write_records(raw, fname, header, notes, step, n_record):
            return
    raise ValueError(
        f"raw exceeds {1e-6 * _LARGEST * _STEPS[-1]:.1f} V. Check its unit, which "
        "must be volts."
    )


def _make_frame(raw, fname, labels, step, n_records, anonymize):
    """Make the parts of a file other than its samples.

    edfio keeps all samples of a file in memory, twice. It is therefore called with one
    sample per record and second, and the number of samples in the header is replaced.

    Returns
    -------
    header : bytes
        Header of the file with all samples.
    notes : ndarray of uint8, shape (n_records, n_bytes)
        The annotations at the end of each record.
    """
    edfio = _needed("edfio", "edfio", "export EDF files")
    sfreq = raw.info["sfreq"]
    n_record = round(sfreq)
    duration = float(f"{n_record / sfreq:.6f}")
    limit = round(_LARGEST * step, 1)
    signals = [
        edfio.EdfSignal.from_digital(
            np.zeros(n_records, np.int16),
            1 / duration,
            label=label,
            transducer_type=_KIND,
            physical_dimension="uV",
            physical_range=(-limit, limit),
            digital_range=(-_LARGEST, _LARGEST),
            prefiltering=f"HP:{BAND[0]:g}Hz LP:{BAND[1]:g}Hz",
        )
        for label in labels
    ]
    start = _start(raw, anonymize)
    edf = edfio.Edf(
        signals,
        patient=edfio.Patient() if anonymize else _patient(edfio, raw.info),
        recording=edfio.Recording(
            startdate=None if anonymize or start is None else start.date(),
            equipment_code="virtual_iEEG",
            additional=("predicted_not_recorded", "mne_neuroflow"),
        ),
        starttime=None if start is None else start.time(),
        data_record_duration=duration,
        annotations=_annotations(edfio, raw, n_records * n_record - raw.n_times),
    )
    frame = fname.with_name(f"{fname.stem}-frame.edf")
    edf.write(frame)
    content = frame.read_bytes()
    frame.unlink()
    return _with_samples(content, len(labels), n_records, n_record)


def _with_samples(content, n_signals, n_records, n_record):
    """Split a file of one sample per record, and replace the number in its header.

    The fields of a header have fixed positions (Kemp et al. 1992, Electroencephalogr
    Clin Neurophysiol 82:391): the number of its bytes is at 184, the number of signals
    at 252, and the samples of each signal in a record after 216 bytes of other fields.
    """
    size, n_all = int(content[184:192]), int(content[252:256])
    header, places = bytearray(content[:size]), []
    for signal in range(n_all):
        if header[256 + 16 * signal :][:16].rstrip() != b"EDF Annotations":
            places.append(signal)
            at = 256 + 216 * n_all + 8 * signal
            header[at : at + 8] = f"{n_record:<8d}".encode()
    assert places == list(range(n_signals)), "edfio writes annotations last"
    records = np.frombuffer(content, np.uint8, offset=size).reshape(n_records, -1)
    return bytes(header), records[:, 2 * n_signals :]


def _write_records(raw, fname, header, notes, step, n_record):
    """Write all samples; return whether they fit into 16 bits at this step."""
    n_chunk = max(1, int(_CHUNK_SECONDS * raw.info["sfreq"]) // n_record)
    starts = range(0, len(notes), n_chunk)
    long = len(starts) > _LONG
    with open(fname, "wb") as file:
        file.write(header)
        for first in ProgressBar(starts, mesg="Exporting") if long else starts:
            some = notes[first : first + n_chunk]
            digital = _quantize(raw, first * n_record, len(some) * n_record, step)
            if digital is None:
                return False
            records = digital.reshape(len(digital), len(some), n_record)
            records = np.ascontiguousarray(records.swapaxes(0, 1)).view(np.uint8)
            rows = [records.reshape(len(some), -1), some]
            file.write(np.concatenate(rows, axis=1).tobytes())
    return True


def _start(raw, anonymize):
    """Return the time of the first sample, also after cropping."""
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


def _quantize(raw, start, n_samples, step):
    """Return samples as integers, or None if they are too large.

    Beyond the end of the recording, the last sample is repeated.
    """
    stop = min(start + n_samples, raw.n_times)
    steps = np.rint(raw.get_data(start=start, stop=stop, verbose=False) / (1e-6 * step))
    if not np.isfinite(steps).all():
        raise ValueError(
            "raw holds NaN or infinite values, which EDF cannot hold. Predict with "
            "bad_time='prior', or crop them away."
        )
    if np.abs(steps).max() > _LARGEST:
        return None
    n_more = n_samples - (stop - start)
    return np.pad(steps.astype("<i2"), ((0, 0), (0, n_more)), mode="edge")


def _patient(edfio, info):
    """Collect the patient's details from info, without blanks, as EDF+ requires."""
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
    """Convert text to ASCII, without accents and with '?' for other letters."""
    parts = unicodedata.normalize("NFKD", text)
    plain = "".join(c for c in parts if not unicodedata.combining(c))
    plain = plain.encode("ascii", "replace").decode()
    return " ".join(re.sub("[\x00-\x1f\x7f]", " ", plain).split())


def _annotations(edfio, raw, n_added):
    """Return the annotations, relative to the first sample, with the provenance."""
    annotations = [edfio.EdfAnnotation(0, None, provenance(raw))]
    found = raw.annotations
    onsets = found.onset - raw.first_time
    labels = dict(zip(raw.ch_names, edf_labels(raw.ch_names), strict=True))
    for onset, duration, text, names in zip(
        onsets, found.duration, found.description, found.ch_names, strict=True
    ):
        # EDF+ reserves control characters. MNE-Python writes the channel of an
        # annotation after "@@".
        text = " ".join(re.sub("[\x00-\x1f]", " ", text).split())
        for end in [f"@@{labels[name]}" for name in names] or [""]:
            annotations.append(edfio.EdfAnnotation(onset, duration or None, text + end))
    if n_added:
        added = n_added / raw.info["sfreq"]
        annotations.append(edfio.EdfAnnotation(raw.duration, added, "BAD_padding"))
    return annotations


# BIDS ---------------------------------------------------------------------------------


def _check_root(root):
    """Refuse a folder with a dataset of recordings."""
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
    """Copy the files that several recordings share, so that rows can be added."""
    folder = Path(f"sub-{path.subject}")
    if path.session is not None:
        folder = folder / f"ses-{path.session}"
    shared = ["dataset_description.json", "participants.tsv", "participants.json"]
    shared += [folder / f"{'_'.join(folder.parts)}_scans.tsv"]
    for name in shared:
        if (root / name).is_file():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, draft / name)


def _write_draft(raw, edf, positions, path):
    """Write one recording into a temporary dataset."""
    import mne_bids

    again = mne.io.read_raw_edf(edf, verbose="error")
    again.set_channel_types(dict.fromkeys(again.ch_names, "seeg"), verbose="error")
    again.info["line_freq"] = raw.info["line_freq"]
    montage = mne.channels.make_dig_montage(
        dict(zip(again.ch_names, positions, strict=True)), coord_frame="mni_tal"
    )
    description = provenance(raw)
    mne_bids.make_dataset_description(
        path=path.root,
        name="Virtual intracranial EEG: predicted from scalp EEG, not recorded",
        dataset_type="derivative",
        generated_by=[],
        overwrite=False,
        verbose="error",
    )
    mne_bids.write_raw_bids(
        again, path, montage=montage, overwrite=True, readme=False, verbose="error"
    )
    _say_what_it_is(path, description)
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


def _say_what_it_is(path, provenance):
    """Correct the channels and authors that MNE-BIDS wrote, and write the README.

    A dataset is generated by all versions, weights and seeds of its recordings.
    """
    about = path.root / "dataset_description.json"
    description = json.loads(about.read_text(encoding="utf-8"))
    if any("Unspecified" in name for name in description.get("Authors", [])):
        del description["Authors"]
    ours = dict(Name="mne_neuroflow", Version=__version__, Description=provenance)
    if ours not in description["GeneratedBy"]:
        description["GeneratedBy"].append(ours)
    about.write_text(json.dumps(description, indent=4, ensure_ascii=False), "utf-8")
    channels = path.copy().update(suffix="channels", extension=".tsv").fpath
    table = channels.read_text(encoding="utf-8-sig")
    channels.write_text(table.replace("\tStereoEEG\t", f"\t{_KIND}\t"), "utf-8")
    (path.root / "README").write_text(_README, "utf-8")


def _add_labels(path, positions):
    """Add the structures around each contact to electrodes.tsv and its side-car."""
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
    """Refuse contacts that differ from those of other recordings in the dataset.

    In BIDS, all recordings of a session share one file of electrodes.
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
