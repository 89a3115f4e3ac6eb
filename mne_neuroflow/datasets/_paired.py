"""What every dataset of simultaneous recordings gives."""

from typing import NamedTuple

import mne
import numpy as np
import pandas as pd

from ..head.contact_names import read_contact_name
from ..head.contacts import contact_positions, contact_structures


class PairedSession(NamedTuple):
    """One session of one subject, on the scalp and inside the head.

    Attributes
    ----------
    scalp : Raw | Epochs
        Scalp EEG.
    ieeg : Raw | Epochs
        Intracranial EEG, of the same kind and with the same times.
    contacts : DataFrame
        What is known of every contact of ``ieeg``, in its order.
    """

    scalp: mne.io.BaseRaw | mne.BaseEpochs
    ieeg: mne.io.BaseRaw | mne.BaseEpochs
    contacts: pd.DataFrame


def describe_contacts(montage):
    """Say where contacts are.

    Parameters
    ----------
    montage : DigMontage
        In the ``'mni_tal'`` frame.

    Returns
    -------
    contacts : DataFrame
        By name: ``x``, ``y``, ``z`` (metres, MNI), ``hemisphere``, ``group`` (the
        electrode that carries the contact) and ``structure`` (that of the nearest
        source of the template head).
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
