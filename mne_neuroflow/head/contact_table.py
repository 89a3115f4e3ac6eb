"""The table of contacts: where they are, and how much scalp EEG explains of them.

It knows contacts and their posterior. It does not know recordings or the flow.
"""

import numpy as np

from .contacts import contact_labels, contact_positions, contact_structures
from .geometry import nearest_distance

# If scalp EEG explains less than this share of a contact's variance, the prediction is
# only the prior: the best linear estimate would correlate below 0.22 with the truth.
ABSTAIN = 0.05


def observability_table(montage, electrodes, posterior, gain=1.0):
    """Make the table of contacts that :func:`mne_neuroflow.observability` returns.

    Parameters
    ----------
    montage : DigMontage
        The contacts.
    electrodes : ndarray, shape (n_electrodes, 3)
        Metres, fsaverage surface RAS.
    posterior : SpatialPosterior | AdaptedPosterior
        The posterior of the contacts given these electrodes, or given a recording.
    gain : float
        The gain of the recording, by which standard deviations are multiplied.

    Returns
    -------
    table : pandas.DataFrame
        One row per contact, indexed by its name.
    """
    import pandas

    names, positions = contact_positions(montage)
    return pandas.DataFrame(
        {
            "structure": contact_structures(montage)[0],
            **contact_labels(positions),
            "observability": posterior.observability,
            "prior_std": gain * posterior.prior_std,
            "posterior_std": gain * np.sqrt(np.diag(posterior.covariance)),
            "electrode_distance": nearest_distance(positions, electrodes),
            "abstain": posterior.observability < ABSTAIN,
        },
        index=pandas.Index(names, name="channel"),
    )
