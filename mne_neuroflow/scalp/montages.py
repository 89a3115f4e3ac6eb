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
    fitting = [] if all(map(str.isdigit, names)) else montages_with(names)
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
    return (
        f"These are names of MNE's montage {fitting[0]}: set it with "
        f"inst.set_montage({fitting[0]!r}). "
    )
