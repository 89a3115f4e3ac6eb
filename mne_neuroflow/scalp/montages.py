"""Positions by name: the 10-05 template and the other montages of MNE-Python.

This module knows names and positions of montages. It must never know a recording.
"""

import re
from functools import lru_cache

import mne
import numpy as np

from ..head.geometry import load_head

_TEMPLATES = ("fsaverage_1005", "colin27_1005", "standard_1005")
# Montages of MNE whose names are not those of the 10-05 system.
_OTHER_MONTAGES = re.compile(r"biosemi(128|160|256)|GSN-|EGI|easycap-M(10|43)|mgh")
# BioSemi's caps of 10-20 electrodes, in the order of the inputs A1 to A32, B1 to B32.
_BIOSEMI = ("biosemi16", "biosemi32", "biosemi64")
_BIOSEMI_INPUTS = [f"{bank}{k}" for bank in "AB" for k in range(1, 33)]
# Inputs of BioSemi beside those of a cap, which MNE-Python reads as EEG.
_BIOSEMI_OTHERS = re.compile(r"(EXG|GSR|Erg|Resp|Plet|Temp)\d*$")


def template_name():
    """Return the name of the template montage in the installed version of MNE.

    Returns
    -------
    name : str
        A name for :func:`mne.channels.make_standard_montage` that is not deprecated.
    """
    builtin = mne.channels.get_builtin_montages()
    return next(name for name in _TEMPLATES if name in builtin)


@lru_cache(maxsize=1)
def template_positions():
    """Return positions by plain name, in fsaverage's head frame, metres."""
    montage = mne.channels.make_standard_montage(template_name())
    info = mne.create_info(montage.ch_names, 1.0, "eeg").set_montage(montage)
    return {ch["ch_name"].lower(): ch["loc"][:3].copy() for ch in info["chs"]}


def montages_with(names):
    """Find MNE's montages with these names, except montages of the 10-05 system.

    Parameters
    ----------
    names : list of str
        Channel names.

    Returns
    -------
    montages : list of str
        Names for :meth:`mne.io.Raw.set_montage`, the best first, and the smallest first
        of equally good ones. The list is empty if no montage has nine tenths of the
        names.
    """
    names, sizes = set(names), {}
    if not names:
        return []
    for montage in mne.channels.get_builtin_montages():
        if _OTHER_MONTAGES.match(montage):
            table = montage_positions(montage)
            missing = len(names - set(table))
            if missing <= 0.1 * len(names):
                sizes[montage] = missing, len(table)
    return sorted(sizes, key=sizes.get)


@lru_cache(maxsize=32)
def montage_positions(name):
    """Return positions by name of one of MNE's montages, metres, fsaverage's MRI."""
    montage = mne.channels.make_standard_montage(name)
    info = mne.create_info(montage.ch_names, 1.0, "eeg").set_montage(montage)
    loc = np.array([ch["loc"][:3] for ch in info["chs"]])
    loc = mne.transforms.apply_trans(load_head().head_to_mri, loc)
    return dict(zip(info["ch_names"], loc, strict=True))


def montage_hint(names):
    """Return a hint to the montage of MNE that has these names, if there is one."""
    cap = [name for name in names if not _BIOSEMI_OTHERS.match(name)]
    for montage in _BIOSEMI:
        kit = f"mne.channels.make_standard_montage({montage!r})"
        if cap == _BIOSEMI_INPUTS[: int(montage.removeprefix("biosemi"))]:
            return (
                f"BioSemi gives these names to a cap of {len(cap)} electrodes that "
                "MNE calls by their 10-20 names: rename them with inst.rename_channels("
                f"dict(zip(inst.ch_names, {kit}.ch_names))). They have other positions "
                "in a larger cap. "
            )
    fitting = [] if all(map(str.isdigit, cap)) else montages_with(cap)
    # EGI's reference, the vertex, is the last electrode of a net in some files.
    last = f"E{len(names)}"
    for net in ("GSN-HydroCel-65_1.0", "GSN-HydroCel-129", "GSN-HydroCel-257"):
        if set(names) - set(montage_positions(net)) == {last} and last in names:
            return (
                f"These are names of MNE's montage {net}, which calls {last} 'Cz': set "
                f"it with inst.rename_channels({{{last!r}: 'Cz'}}) and "
                f"inst.set_montage({net!r}). "
            )
    if not fitting:
        return ""
    missing = set(names) - set(montage_positions(fitting[0]))
    option = ", on_missing='ignore'" if missing else ""
    return (
        f"These are names of MNE's montage {fitting[0]}: set it with "
        f"inst.set_montage({fitting[0]!r}{option}). "
    )
