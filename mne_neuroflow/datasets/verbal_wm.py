"""OpenNeuro ds004752: scalp EEG and depth electrodes during verbal working memory.

The dataset has simultaneous scalp and intracranial EEG of fifteen patients with
epilepsy, in 68 sessions of about 50 trials of a Sternberg task. The licence is CC0.
Please cite

- Dimakopoulos V, Mégevand P, Stieglitz LH, Imbach L, Sarnthein J. Information flows
  from hippocampus to auditory cortex during replay of verbal working memory items.
  eLife 11:e78677, 2022. doi:10.7554/eLife.78677
- Boran E, Fedele T, Klaver P, Hilfiker P, Stieglitz L, Grunwald T, Sarnthein J.
  Persistent hippocampal neural firing and hippocampal-cortical coupling predict verbal
  working memory load. Science Advances 5(3):eaav3687, 2019. doi:10.1126/sciadv.aav3687
"""

import re
from fractions import Fraction
from pathlib import Path

import mne
import numpy as np
import pandas as pd
from scipy.signal import resample_poly

from .._compat import _check_option, logger, set_band, verbose
from .._docs import fill_doc
from .._download import ListedFile, checked_base_url, data_folder, download
from .._text import listed
from ..head.contact_names import bare_name
from ..head.contacts import read_contacts
from ..scalp.montages import template_name
from ._paired import PairedSession, describe_contacts

BASE_URL = "https://s3.amazonaws.com/openneuro.org/ds004752"

_REGISTRY = Path(__file__).parent / "data" / "ds004752.txt"
# Seconds: fixation from -6, letters from -5 to -3, maintenance until the probe at 0.
_TMIN, _DURATION = -6.0, 8.0
_LINE_FREQ = 50.0  # PowerLineFrequency of every eeg.json and ieeg.json
# For instance 'Hipp, Left Hippocampus rHipp, rostral hippocampus'
_LABEL = r"^(?P<region>\w+), (?P<side>Left|Right) (?P<label>.+)$"
# What the template montage lacks. The ear lobes and the anterior temporal electrodes
# of Silverman (Am. J. EEG Technol. 1960) have no place among the 10-05 positions.
_TEMPLATE_SITES = {
    **{"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"},
    **{"A1": "T9", "A2": "T10", "T1": "FT9", "T2": "FT10"},
}


def sessions():
    """List the sessions of every subject.

    Returns
    -------
    sessions : dict of int to list of int
        The sessions of each subject.

    See Also
    --------
    load

    Examples
    --------
    >>> from mne_neuroflow.datasets import verbal_wm
    >>> verbal_wm.sessions()[4]
    [1, 2]
    """
    names = re.findall(r"sub-(\d+)/ses-(\d+)/eeg/\S+\.edf ", _REGISTRY.read_text())
    found = {}
    for subject, session in names:
        found.setdefault(int(subject), []).append(int(session))
    return found


@verbose
@fill_doc
def fetch(subject, session=None, path=None, base_url=None, *, verbose=None):
    """Download the missing files of one or all sessions of a subject.

    Every file is checked against the sha256 of version 1.0.1. Interrupted downloads are
    continued.

    Parameters
    ----------
    subject : int
        The subject, 1 to 15.
    session : int | None
        The session, or None for all sessions of the subject. A session has 54 to 288
        MB. The log shows the total before the download begins.
    path : path-like | None
        The folder of the dataset, which contains its ``participants.tsv``. If
        None, ``ds004752`` in the folder of the MNE-Python config key ``MNE_DATA``, or
        else in ``~/mne_data``.
    base_url : str | None
        The web address of the dataset. If None, OpenNeuro's public bucket.
    %(verbose)s

    Returns
    -------
    path : pathlib.Path
        The folder of the dataset.

    See Also
    --------
    load

    Examples
    --------
    >>> from mne_neuroflow.datasets import verbal_wm
    >>> path = verbal_wm.fetch(1, 1)  # doctest: +SKIP
    """
    folder = _folder(path)
    wanted = [f for f in _files(subject, session) if not f.is_kept(folder)]
    if wanted:
        base_url = checked_base_url(BASE_URL if base_url is None else base_url)
        logger.info(
            "Downloading %d files, %.0f MB in all, of OpenNeuro ds004752 (CC0) to %s",
            len(wanted),
            sum(file.n_bytes for file in wanted) / 1e6,
            folder,
        )
    for file in wanted:
        download(file, folder, base_url, resume=True)
    return folder


@verbose
@fill_doc
def load(subject, session, path=None, sfreq=200.0, *, verbose=None):
    """Load the scalp and intracranial EEG of the trials of one session.

    Parameters
    ----------
    subject : int
        The subject, 1 to 15.
    session : int
        One of its sessions, see :func:`sessions`.
    path : path-like | None
        The folder of the dataset; what it lacks is downloaded. If None,
        ``ds004752`` in the folder of the MNE-Python config key ``MNE_DATA``, or else
        in ``~/mne_data``.
    sfreq : float
        The sampling rate of both in hertz. It is at most that of the scalp EEG: 200 for
        subjects 1 to 9, and 2000 to 4096 for the others.
    %(verbose)s

    Returns
    -------
    scalp : Epochs
        Scalp EEG in volts, against an electrode near the vertex, with template
        positions.
    ieeg : Epochs
        The same trials at the contacts in volts, against a common intracranial
        reference, with the same times and metadata, positions in MNI coordinates and
        fiducials. Contacts without coordinates are left out.
    contacts : DataFrame
        One row per contact of ``ieeg``, by name: ``x``, ``y``, ``z`` (metres, MNI),
        ``hemisphere`` (``'L'`` or ``'R'``), ``group`` (the depth electrode, such as
        ``'AHL'`` for mAHL1, _AHL1 and AHL1), ``structure`` (that of the nearest source
        of the template head), and from the dataset ``region`` (the gyrus of the
        Brainnetome atlas, such as ``'Hipp'``) and ``label`` (the label of the atlas,
        without the side). The last two are None if the dataset has none.

    See Also
    --------
    fetch, sessions

    Notes
    -----
    Time 0 is the probe. Fixation begins at -6 s, the letters are shown from -5 to -3 s,
    and the data end just before 2 s. The metadata have ``subject``, ``session``,
    ``trial``, ``set_size``, ``probe_letter``, ``match`` (``'IN'`` or ``'OUT'``),
    ``correct`` (1 or 0), ``previous_correct`` (that of the previous trial, or NaN),
    ``response_time`` (seconds) and ``artifact`` (the dataset's mark; no trial is
    dropped). For trials with set size 0, the dataset has only the signals, and the
    columns of the task are NaN.

    The files have some peculiarities:

    - The EDF files contain concatenated trials of 8 s, not a continuous recording. Each
      trial is read and resampled separately, and extended by reflection.
    - An error is followed by a trial of low load, so that ``previous_correct`` alone
      decodes load. Compare every decoding with it, see
      :func:`mne_neuroflow.scores.decoding.decoding_auc`.
    - ``onset`` counts samples from 1. Trials are cut by ``begSample`` and
      ``endSample``.
    - Where an EDF header has no unit, that of ``channels.tsv`` (µV) is used. The
      sampling rate is always that of ``channels.tsv``.
    - ``low_cutoff`` and ``high_cutoff`` in ``channels.tsv`` are swapped.
    - The hemisphere is that of the x coordinate, even if the atlas label names the
      other one.
    - The template has no ear lobes and no T1 or T2. A1, A2, T1 and T2 have the
      positions of T9, T10, FT9 and FT10.

    The trials are kept in memory at ``sfreq``: 41 MB for 50 trials of 64 contacts at
    200 Hz.

    Examples
    --------
    >>> from mne_neuroflow.datasets import verbal_wm
    >>> scalp, ieeg, contacts = verbal_wm.load(1, 1)  # doctest: +SKIP
    >>> scalp["artifact == 0 and set_size == 8"]  # doctest: +SKIP
    """
    folder = _folder(path)
    wanted = _files(subject, session)
    if not all((folder / file.name).is_file() for file in wanted):
        fetch(subject, session, folder)
    name = f"sub-{subject:02d}_ses-{session:02d}_task-verbalWM_run-01"
    top = folder / f"sub-{subject:02d}" / f"ses-{session:02d}"
    scalp_files, ieeg_files = _Files(top / "eeg", name), _Files(top / "ieeg", name)
    _check_rate(sfreq, scalp_files, ieeg_files)
    metadata = _metadata(subject, session, scalp_files, ieeg_files)

    # The dataset has no coordsystem.json; its README names the space.
    montage = read_contacts(
        ieeg_files.electrodes, space="MNI152", units="mm", on_missing="ignore"
    )
    _log_left_out(ieeg_files, montage)
    ieeg = _epochs(ieeg_files, montage.ch_names, sfreq, metadata).set_montage(montage)
    scalp = _epochs(scalp_files, list(scalp_files.channels.index), sfreq, metadata)
    _set_template(scalp)
    return PairedSession(scalp, ieeg, _describe(ieeg_files, montage))


class _Files:
    """The files of the scalp or intracranial EEG of one session."""

    def __init__(self, folder, name):
        self.edf = folder / f"{name}_{folder.name}.edf"
        self.electrodes = folder / f"{name}_electrodes.tsv"
        self.channels = _read_tsv(folder / f"{name}_channels.tsv").set_index("name")
        self.events = _read_tsv(folder / f"{name}_events.tsv")
        self.sfreq = float(self.channels["sampling_frequency"].iloc[0])


def _read_tsv(fname):
    return pd.read_csv(fname, sep="\t", encoding="utf-8-sig")


def _folder(path):
    return data_folder() / "ds004752" if path is None else Path(path).expanduser()


def _files(subject, session):
    """Return the files of a session, small files first."""
    known = sessions()
    _check_option("subject", subject, list(known))
    if session is not None:
        _check_option("session", session, known[subject])
    chosen = known[subject] if session is None else [session]
    of_subject = f"sub-{subject:02d}"
    of_session = {f"ses-{number:02d}" for number in chosen}
    files = []
    for line in _REGISTRY.read_text().splitlines():
        if not line.startswith("#"):
            name, sha256, n_bytes = line.split()
            *folders, _ = name.split("/")
            if folders[:1] in ([], [of_subject]) and of_session.issuperset(
                folders[1:2]
            ):
                files.append(ListedFile(name, sha256, int(n_bytes)))
    return files


def _check_rate(sfreq, scalp_files, ieeg_files):
    highest = min(scalp_files.sfreq, ieeg_files.sfreq)
    if not 0 < sfreq <= highest:
        raise ValueError(
            "Invalid value for the 'sfreq' parameter. It must be positive and at most "
            f"{highest:g} Hz, above half of which this recording holds nothing, but "
            f"got {sfreq:g}."
        )


def _metadata(subject, session, scalp_files, ieeg_files):
    """Describe the trials, which must be the same in both recordings."""
    scalp, ieeg = scalp_files.events, ieeg_files.events
    if not scalp["nTrial"].equals(ieeg["nTrial"]):
        raise RuntimeError(
            f"{scalp_files.edf.name} and {ieeg_files.edf.name} hold different trials, "
            "according to their events.tsv. Fetch the session again."
        )
    metadata = pd.DataFrame(
        dict(
            subject=subject,
            session=session,
            trial=scalp["nTrial"],
            set_size=scalp["SetSize"].astype(float),
            probe_letter=scalp["ProbeLetter"].astype(object),
            match=scalp["Match"].astype(object),
            correct=scalp["Correct"].astype(float),
            response_time=scalp["ResponseTime"].astype(float),
            artifact=scalp["Artifact"].astype(bool),
        )
    )
    of_task = ["set_size", "probe_letter", "match", "correct", "response_time"]
    unknown = metadata["set_size"] == 0
    metadata.loc[unknown, of_task] = np.nan
    follows = metadata["trial"].diff() == 1
    metadata["previous_correct"] = metadata["correct"].shift().where(follows)
    if unknown.any():
        logger.info(
            "The dataset does not say what was shown in %d of %d trials: %s.",
            unknown.sum(),
            len(metadata),
            listed(map(str, metadata["trial"][unknown])),
        )
    return metadata


def _epochs(files, names, sfreq, metadata):
    """Read the epochs, trial by trial, at the requested rate."""
    raw = _read_edf(files)
    picks = _find_channels(raw, names)
    start = files.events["begSample"].to_numpy() - 1  # they count from 1
    stop = files.events["endSample"].to_numpy()
    n_times = round(_DURATION * files.sfreq)
    if (stop - start != n_times).any() or stop.max() > raw.n_times:
        raise RuntimeError(
            f"{files.edf} does not hold the trials of {_DURATION:g} s that its "
            "events.tsv lists. Fetch the session again."
        )
    ratio = Fraction(sfreq / files.sfreq).limit_denominator(10_000)
    data = [
        resample_poly(
            raw.get_data(picks, first, last),
            ratio.numerator,
            ratio.denominator,
            axis=-1,
            padtype="reflect",
        )
        for first, last in zip(start, stop, strict=True)
    ]
    probes = np.round((start / files.sfreq - _TMIN) * sfreq).astype(int)
    return mne.EpochsArray(
        np.stack(data),
        _make_info(files.channels.loc[names], sfreq, metadata),
        np.c_[probes, np.zeros_like(probes), np.ones_like(probes)],
        _TMIN,
        {"probe": 1},
        metadata=metadata,
        verbose=False,
    )


def _read_edf(files):
    """Open an EDF file without reading its data."""
    with files.edf.open("rb") as stream:
        stream.seek(252)
        n_channels = int(stream.read(4))
        # Labels (16 bytes) and transducers (80 bytes) come first.
        stream.seek(256 + 96 * n_channels)
        has_units = bool(stream.read(8 * n_channels).strip())
    # MNE-Python takes what has no unit for volts, and knows the Greek mu of
    # channels.tsv for no unit. All of the dataset is in microvolts.
    return mne.io.read_raw_edf(
        files.edf, units=None if has_units else "uV", verbose=False
    )


def _find_channels(raw, names):
    """Return the indices of channels in a file, for all styles of names."""
    places = {bare_name(name): place for place, name in enumerate(raw.ch_names)}
    missing = [name for name in names if bare_name(name) not in places]
    if missing:
        raise RuntimeError(
            f"{raw.filenames[0]} lacks channels that its channels.tsv lists: "
            f"{listed(missing)}. Fetch the session again."
        )
    return [places[bare_name(name)] for name in names]


def _make_info(channels, sfreq, metadata):
    types = channels["type"].str.lower().tolist()
    info = mne.create_info(channels.index.tolist(), sfreq, types)
    info["line_freq"] = _LINE_FREQ
    subject, session = metadata[["subject", "session"]].iloc[0]
    info["subject_info"] = dict(his_id=f"sub-{subject:02d}")
    info["description"] = f"OpenNeuro ds004752 v1.0.1 (CC0), session {session}"
    cutoffs = channels[["low_cutoff", "high_cutoff"]].iloc[0]
    set_band(info, cutoffs.min(), min(cutoffs.max(), sfreq / 2))
    return info


def _set_template(scalp):
    """Set template positions, with the channel names of the dataset."""
    sites = {old: new for old, new in _TEMPLATE_SITES.items() if old in scalp.ch_names}
    logger.info(
        "Positions of the template %s; %s.",
        template_name(),
        ", ".join(f"{old} at {new}" for old, new in sites.items()),
    )
    scalp.rename_channels(sites).set_montage(template_name())
    scalp.rename_channels({new: old for old, new in sites.items()})


def _log_left_out(files, montage):
    left_out = files.channels.index.difference(montage.ch_names)
    if len(left_out):
        logger.info("Left out contacts without coordinates: %s.", listed(left_out))


def _describe(files, montage):
    """Describe the positions of the contacts, with the labels of the dataset."""
    contacts = describe_contacts(montage)
    texts = _read_tsv(files.electrodes).set_index("name")["AnatomicalLocation"]
    labels = texts[contacts.index].str.extract(_LABEL).astype(object)
    side = labels.pop("side")
    other = side.notna() & (side.str[0] != contacts["hemisphere"])
    if other.any():
        logger.info(
            "%d of %d atlas labels name the other hemisphere than the coordinates, "
            "which are trusted: %s.",
            other.sum(),
            side.notna().sum(),
            listed(contacts.index[other]),
        )
    return contacts.join(labels.where(labels.notna(), None))
