"""The scalp recording that ships with the package."""

from pathlib import Path

import mne

from .._compat import verbose
from .._docs import fill_doc
from ..scalp.montages import template_name

DEMO = Path(__file__).parent / "data" / "eegbci_S001R04_crop.edf"


@verbose
@fill_doc
def load_demo(*, verbose=None):
    """Load the bundled scalp recording.

    Parameters
    ----------
    %(verbose)s

    Returns
    -------
    raw : Raw
        EEG of 54 s with 64 channels at 160 Hz, not preloaded, with standard channel
        names, template positions and the annotations of the task (T0 for rest, T1 and
        T2 for imagined movement).

    Notes
    -----
    These are the first 54 s of subject 1, run 4 of the EEG Motor
    Movement/Imagery dataset of PhysioNet (doi:10.13026/C28G6P), under the Open Data
    Commons Attribution License v1.0: Schalk, McFarland, Hinterberger, Birbaumer &
    Wolpaw, BCI2000: a general-purpose brain-computer interface system, IEEE Trans.
    Biomed. Eng. 51 (2004) 1034-1043.

    Examples
    --------
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False)
    >>> len(raw.ch_names), raw.info["sfreq"], len(raw.times)
    (64, 160.0, 8640)
    """
    raw = mne.io.read_raw_edf(DEMO)
    mne.datasets.eegbci.standardize(raw)
    return raw.set_montage(template_name())
