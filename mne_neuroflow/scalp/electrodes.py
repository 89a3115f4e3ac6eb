"""Names and positions: which channels are electrodes on the scalp, and where they are.

This module knows the names, types and positions of channels, the 10-05 system and the
scalp of the template head. It must never know samples.
"""

import mne
import numpy as np
from mne.io.constants import FIFF
from scipy.spatial.distance import cdist

from .._compat import logger
from .._text import listed
from ..contract import SAME_PLACE
from ..head.contacts import get_head_to_mri, get_info_to_mri
from ..head.geometry import inside_brain, load_head, project_to_scalp
from .header import check_quantity, why_no_eeg
from .mismatch import report_mismatch
from .montages import (
    montage_hint,
    montage_positions,
    montages_with,
    template_name,
    template_positions,
)
from .names import FILTERED, read_names
from .positions import ELSEWHERE, fit_placement, unnamed_findings

MIN_CHANNELS = 4
_SYNONYMS = 0.01  # metres between positions whose names some montages exchange
_ON_SPHERE = 1e-3  # metres from a sphere with a radius of one metre
_HEAD_SIZE = 0.1  # metres of electrodes from the middle of the head
_MAX_INSIDE = 0.75  # share of electrodes: MNE's montages on a sphere have 0.57
# Metres in the median between electrodes of the same names. Caps with the same numbers
# have 60 mm or more, MNE's nets whose numbers are shifted by one place 49 or less.
_OTHER_CAP = 0.055
MAX_OFF_HEAD = 0.06  # spherical template montages are up to 46 mm off the head


def find_electrodes(info, *, trans="fsaverage", on_mismatch="warn"):
    """Find the usable EEG channels and the positions of their electrodes.

    Parameters
    ----------
    info : Info
        Info of the recording. Channels in ``info['bads']`` are left out.
    trans : str | path-like | Transform
        Transform from head coordinates to the fsaverage MRI.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'`` if channels are bipolar or their
        position is unknown. Such channels cannot be used.

    Returns
    -------
    picks : ndarray of int, shape (n_channels,)
        Indices of channels in ``info``.
    electrodes : ndarray, shape (n_channels, 3)
        Positions in metres, fsaverage surface RAS. A channel without a position gets
        the position with the same name in the 10-05 template, if ``trans`` is
        ``'fsaverage'`` or no channel has a position.
    """
    try:
        picks = mne.pick_types(info, meg=False, eeg=True, exclude="bads")
    except KeyError as err:
        raise ValueError(
            "The type of a channel is unknown, because MNE-Python does not know "
            f"its kind, unit or coil {err}. The file seems to be damaged."
        ) from err
    every = mne.pick_types(info, meg=False, eeg=True, exclude=())
    if not len(picks):
        raise ValueError(
            f"The recording needs good EEG channels, but {why_no_eeg(info, every)}"
        )
    chs = [info["chs"][pick] for pick in picks]
    check_quantity(info, chs)
    # Bad channels belong to the same cap, so their names are used too.
    read = read_names([info["ch_names"][pick] for pick in every], template_positions())
    here = np.searchsorted(every, picks)
    places = [read.places[k] for k in here]
    names = np.array([ch["ch_name"] for ch in chs])
    _check_unfiltered(names, [read.references[k] for k in here])
    # For a bipolar channel, MNE keeps only the position of the anode.
    bipolar = np.array([ch["coil_type"] == FIFF.FIFFV_COIL_EEG_BIPOLAR for ch in chs])
    bipolar |= np.array([read.bipolar[k] for k in here])
    loc = np.array([ch["loc"][:3] for ch in chs], float)
    known = np.isfinite(loc).all(axis=1) & (loc != 0).any(axis=1) & ~bipolar
    measured = known
    names_tell = not known.any() or (isinstance(trans, str) and trans == "fsaverage")
    trans = trans if known.any() else "fsaverage"
    head_to_mri = get_head_to_mri(trans)
    to_mri = get_info_to_mri(info, trans)
    if known.any() and to_mri is not head_to_mri and (to_mri != head_to_mri).any():
        to_head = np.linalg.inv(head_to_mri) @ to_mri
        loc = mne.transforms.apply_trans(to_head, loc)
    if names_tell:  # only then does the recording have the template's head coordinates
        _check_series(read, names[~known & ~bipolar])
        loc, known = _fill_in(names, places, loc, known, bipolar)
    _check_usable(names, known, bipolar, names_tell, on_mismatch)
    _check_one_reference([read.references[k] for k in here[known]], on_mismatch)
    electrodes = mne.transforms.apply_trans(head_to_mri, loc[known])
    _check_on_head(names[known], electrodes)
    placed = measured[known]
    measured_places = [place for place, ok in zip(places, measured, strict=True) if ok]
    _check_placement(names[measured], measured_places, electrodes[placed], on_mismatch)
    known_places = [place for place, ok in zip(places, known, strict=True) if ok]
    _check_apart(names[known], known_places, electrodes, on_mismatch)
    return picks[known], electrodes


def _check_usable(names, known, bipolar, names_tell, on_mismatch):
    unknown = names[~known & ~bipolar]
    problems = []
    if len(unknown):
        lack = "a position and without a 10-05 name" if names_tell else "a position"
        problems.append(f"EEG channels without {lack}: {listed(unknown)}.")
    if bipolar.any():
        problems.append(f"Bipolar EEG channels: {listed(names[bipolar])}.")
    if not problems:
        return
    message = " ".join(problems)
    remedy = (
        "Set positions with inst.set_montage(), rename channels with "
        "inst.rename_channels(), or mark them in inst.info['bads']. Bipolar "
        "derivations cannot be used."
    )
    if known.sum() < MIN_CHANNELS:
        raise ValueError(
            f"{message} At least {MIN_CHANNELS} EEG channels with positions are "
            f"needed, but got {known.sum()}. {montage_hint(unknown)}{remedy}"
        )
    kept = f"They are left out, and these are used: {listed(names[known])}."
    report_mismatch(f"{message} {kept} {remedy}", on_mismatch)


def _check_unfiltered(names, references):
    """Refuse channels whose names tell of a filter over space."""
    filtered = [reference in FILTERED for reference in references]
    if any(filtered):
        raise ValueError(
            "EEG channels that were filtered over space, as their names tell: "
            f"{listed(names[filtered])}. The model reads potentials: give the "
            "recording as it was before this step."
        )


def _check_one_reference(references, on_mismatch):
    """Warn or raise if references differ, as in ``'C3-A2'`` and ``'C4-A1'``.

    The average reference removes only a reference that all channels share.
    """
    references = {reference.upper() for reference in references if reference}
    if len(references) > 1:
        report_mismatch(
            "The names of the EEG channels tell of different references: "
            f"{listed(sorted(references))}. The model was built for channels that "
            "share one, whichever it is. Export the recording with one reference, "
            "or mark the channels of the others in inst.info['bads'].",
            on_mismatch,
        )


def _check_series(read, names):
    """Refuse names in the 10-05 system that probably mean something else."""
    series = {
        letters: [name for name in members if name in names]
        for letters, members in read.doubtful.items()
    }
    doubtful = [name for members in series.values() for name in members]
    if not doubtful:
        return
    raise ValueError(
        f"EEG channels whose names are those of 10-05 positions, but which are part of "
        f"a series that no cap of 10-05 has: {listed(doubtful)}. "
        f"{montage_hint(names)}Contacts of depth electrodes and strips are called so "
        "as well: set their type with inst.set_channel_types(dict.fromkeys(names, "
        "'seeg')). If these are electrodes on the scalp, give their positions with "
        "inst.set_montage()."
    )


def _check_placement(names, places, electrodes, on_mismatch):
    """Compare measured positions with names, or with the scalp of the template.

    Parameters
    ----------
    names : ndarray of str, shape (n_electrodes,)
        Names of channels with measured positions.
    places : list of str | None
        Their 10-05 names.
    electrodes : ndarray, shape (n_electrodes, 3)
        Measured positions in metres, fsaverage surface RAS.
    on_mismatch : str
        As for :func:`find_electrodes`.
    """
    placements = _placements(names, places, electrodes)
    elsewhere = []
    if placements:
        best, compared = min(placements, key=lambda each: each[0].residual)
        elsewhere = [
            f"{name} ({1e3 * d:.0f} mm)"
            for name, d in zip(compared, best.distances, strict=True)
            if d > ELSEWHERE
        ]
        logger.info("Positions against the names' on the template: %s.", best)
        wrong, odd = best.findings(1), best.findings(0)
        against = "their names"
    else:
        _check_outside(names, electrodes)
        odd, wrong = unnamed_findings(electrodes)
        against = "the shape of a head"
    remedy = (
        "Are axes, unit, fiducials and 'trans' right? Set measured positions with "
        "inst.set_montage(mne.channels.make_dig_montage(ch_pos, nasion, lpa, rpa)), or "
        f"those of the template with inst.set_montage({template_name()!r}, "
        "match_case=False, on_missing='ignore')."
    )
    if wrong:
        raise ValueError(
            f"The positions of the EEG electrodes contradict {against}: they look "
            f"{', '.join(wrong)}. {remedy}"
        )
    if odd:
        report_mismatch(
            f"The positions of the EEG electrodes look {', '.join(odd)}, more than "
            f"measured positions on a head do. {remedy}",
            on_mismatch,
        )
    if elsewhere:
        report_mismatch(
            "The positions of single EEG electrodes contradict their names: "
            f"{listed(elsewhere)}. Were names or positions exchanged? {remedy}",
            on_mismatch,
        )


def _check_apart(names, places, electrodes, on_mismatch):
    """Report electrodes at one position whose names are not those of one position."""
    template = template_positions()
    expected = [template.get(place, [np.nan] * 3) for place in places]
    expected = np.array(expected).reshape(-1, 3)
    same = cdist(electrodes, electrodes) < SAME_PLACE
    same &= ~(cdist(expected, expected) < _SYNONYMS)
    np.fill_diagonal(same, False)
    if same.any():
        report_mismatch(
            "EEG channels at the same position as another one: "
            f"{listed(names[same.any(axis=0)])}. Set their positions with "
            "inst.set_montage(), or mark all but one of each in inst.info['bads'].",
            on_mismatch,
        )


def _check_outside(names, electrodes):
    """Refuse channels inside the brain that do not have names of scalp electrodes."""
    inside = inside_brain(load_head(), electrodes)
    if len(inside) and inside.mean() > _MAX_INSIDE:
        raise ValueError(
            f"{inside.sum()} of {len(inside)} EEG channels lie inside the brain of the "
            f"template: {listed(names[inside])}. If they are contacts of intracranial "
            "electrodes, set their type with inst.set_channel_types(dict.fromkeys("
            "names, 'seeg')); if not, set the positions of the scalp electrodes with "
            "inst.set_montage()."
        )


def _placements(names, places, electrodes):
    """Fit the positions to those of all montages that have these names.

    Returns
    -------
    placements : list of tuple
        The transform from each montage, and the names that it was fitted to.
    """
    template = {
        place: mne.transforms.apply_trans(load_head().head_to_mri, rr)
        for place, rr in template_positions().items()
    }
    tables = [(template, places)]
    if sum(place is not None for place in places) < len(places) / 2:
        tables += [(montage_positions(m), names) for m in montages_with(names)]
    found = []
    for table, keys in tables:
        has = [key in table for key in keys]
        expected = [table[key] for key, ok in zip(keys, has, strict=True) if ok]
        fit = fit_placement(electrodes[has], np.array(expected).reshape(-1, 3))
        # Many caps have electrodes E1, E2 or 1, 2: they are not those of MNE's montage.
        others = table is not template and fit and fit.residual > _OTHER_CAP
        if fit is not None and not others:
            found.append((fit, names[has]))
    return found


def _check_on_head(names, electrodes):
    if len(names) < MIN_CHANNELS:
        raise ValueError(
            f"At least {MIN_CHANNELS} good EEG channels with positions are needed, but "
            f"got {len(names)}."
        )
    distance = project_to_scalp(load_head(), electrodes)[3]
    logger.info(
        "Scalp electrodes: %d, in the median %.0f mm off the template head's scalp.",
        len(names),
        1e3 * np.median(distance),
    )
    far = distance > MAX_OFF_HEAD
    if far.any():
        described = [
            f"{name} ({1e3 * d:.0f} mm)"
            for name, d in zip(names[far], distance[far], strict=True)
        ]
        raise ValueError(
            f"{far.sum()} electrodes are more than {1e3 * MAX_OFF_HEAD:.0f} mm off the "
            f"scalp of the template head: {listed(described)}.{_as_unit(electrodes)} "
            "Positions must be in metres and in head coordinates: see "
            "inst.set_montage(), or give 'trans'."
        )


def _as_unit(electrodes):
    """Name the unit of positions that are much too far apart."""
    in_head = mne.transforms.apply_trans(
        np.linalg.inv(load_head().head_to_mri), electrodes
    )
    aside = np.minimum(np.linalg.norm(in_head[:, :2], axis=1), 1)
    above = np.abs(in_head[:, 2]) - np.sqrt(1 - aside**2)
    if np.abs(above).max() < _ON_SPHERE:
        return (
            " They are on a sphere of one metre about the middle of the head, as MNE-"
            "Python reads the plane positions of Neuroscan: use those of the template "
            f"with inst.set_montage({template_name()!r}, match_case=False, "
            "on_missing='ignore')."
        )
    # From the middle of the head, because few electrodes can be close together.
    size = np.median(np.linalg.norm(in_head, axis=1))
    for unit, factor in (("millimetres", 1e3), ("centimetres", 1e2)):
        if 0.4 < size / (factor * _HEAD_SIZE) < 2.5:
            return f" They seem to be in {unit}: divide them by {factor:.0f}."
    for factor in (10, 100, 1000):  # as in files with another unit than their header
        if 0.4 < size * factor / _HEAD_SIZE < 2.5:
            return f" They are too close together: multiply them by {factor}."
    return ""


def _fill_in(names, places, loc, known, bipolar):
    """Give channels without a position the template position of the same name.

    Returns
    -------
    loc : ndarray, shape (n_channels, 3)
        Positions in head coordinates, metres.
    known : ndarray of bool, shape (n_channels,)
        Which channels have a position.
    """
    missing = np.flatnonzero(~known & ~bipolar)
    template = template_positions()
    found = [k for k in missing if places[k] in template]
    taken = [places[k] for k in [*np.flatnonzero(known), *found]]
    same = {places[k] for k in found if taken.count(places[k]) > 1}
    if same:
        clash = [name for name, p in zip(names, places, strict=True) if p in same]
        raise ValueError(
            f"EEG channels that are the same 10-05 position: {listed(clash)}. Mark "
            "all but one of each in inst.info['bads'], or give positions with "
            "inst.set_montage()."
        )
    if not found:
        return loc, known
    logger.info(
        "%d of %d channels have no position; %d of them get that of the template %s "
        "by name: %s.",
        len(missing),
        len(names),
        len(found),
        template_name(),
        listed(names[k] for k in found),
    )
    loc, known = loc.copy(), known.copy()
    loc[found] = [template[places[k]] for k in found]
    known[found] = True
    return loc, known
