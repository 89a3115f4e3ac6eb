"""The common form of datasets of simultaneous recordings."""

from typing import NamedTuple

import mne
import numpy as np
import pandas as pd

from ..head.contact_names import read_contact_name
from ..head.contacts import contact_positions, contact_structures


class PairedSession(NamedTuple):
    """Scalp and intracranial EEG of one session.

    Attributes
    ----------
    scalp : Raw | Epochs
        Scalp EEG.
    ieeg : Raw | Epochs
        Intracranial EEG of the same type, with the same times.
    contacts : DataFrame
        A description of each contact of ``ieeg``, in the same order.
    """

    scalp: mne.io.BaseRaw | mne.BaseEpochs
    ieeg: mne.io.BaseRaw | mne.BaseEpochs
    contacts: pd.DataFrame


def describe_contacts(montage):
    """Describe the positions of contacts.

    Parameters
    ----------
    montage : DigMontage
        The contacts, in the ``'mni_tal'`` frame.

    Returns
    -------
    contacts : DataFrame
        One row per contact, by name: ``x``, ``y``, ``z`` (metres, MNI),
        ``hemisphere``, ``group`` (the depth electrode of the contact) and ``structure``
        (that of the nearest source of the template head).
    """
    names, rr = contact_positions(montage)
    contacts = pd.DataFrame(rr, columns=list("xyz"), index=pd.Index(names, name="name"))
    return contacts.assign(
        hemisphere=np.where(rr[:, 0] < 0, "L", "R"),
        group=[_shaft(name) for name in names],
        structure=contact_structures(montage)[0],
    )


def _shaft(name):
    read = read_contact_name(name)
    return name if read is None else read.shaft
