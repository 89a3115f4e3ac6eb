"""Everything borrowed from MNE that MNE does not promise to keep.

One place to look when a new MNE release moves something.
"""

from functools import partial

from mne.proj import make_projector
from mne.utils import ProgressBar, _check_option, _validate_type, logger, verbose
from mne.utils import warn as _mne_warn

# Warnings point at the line of the user, not at a line of this package.
warn = partial(_mne_warn, ignore_namespaces=("mne", "mne_neuroflow"))

__all__ = [
    "ProgressBar",
    "_check_option",
    "_validate_type",
    "logger",
    "make_projector",
    "verbose",
    "warn",
]
