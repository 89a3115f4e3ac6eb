"""The methods of this package, with the interface of the benchmark.

They convert arrays to MNE objects and call the public functions, as users do.
"""

import mne
import numpy as np

from .._compat import set_band
from ..contract import BAND, MODEL
from ..head.contacts import make_contacts
from .baselines import same_places


def make_scalp_raw(scalp):
    """Make a Raw of a scalp recording.

    Parameters
    ----------
    scalp : ScalpData
        The recording.

    Returns
    -------
    raw : RawArray
        EEG channels in volts with their positions.
    """
    names = scalp.ch_names or [f"ch{k}" for k in range(1, len(scalp.electrodes) + 1)]
    montage = mne.channels.make_dig_montage(
        dict(zip(names, scalp.electrodes, strict=True)), coord_frame="mni_tal"
    )
    montage.add_mni_fiducials(verbose=False)
    return _make_raw(scalp.data, names, scalp.sfreq, "eeg", montage)


def make_ieeg_raw(contacts, ieeg, sfreq):
    """Make a Raw of recorded contacts.

    Parameters
    ----------
    contacts : array of shape (n_contacts, 3)
        Positions in metres, fsaverage surface RAS.
    ieeg : array of shape (n_contacts, n_times)
        Volts.
    sfreq : float
        The sampling rate in hertz.

    Returns
    -------
    raw : RawArray
        Channels of type ``'seeg'`` with their positions.
    """
    montage = make_contacts(contacts, verbose="error")
    return _make_raw(ieeg, montage.ch_names, sfreq, "seeg", montage)


def _make_raw(data, names, sfreq, kind, montage):
    info = mne.create_info(list(names), sfreq, kind, verbose=False)
    set_band(info, *BAND)
    raw = mne.io.RawArray(np.asarray(data, float), info, verbose=False)
    return raw.set_montage(montage, verbose=False)


class Pretrained:
    """The shipped weights without fitting.

    Parameters
    ----------
    model : str
        The name of the weights, see :func:`mne_neuroflow.fetch_model`.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=2)
    >>> method = Pretrained().fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 256)
    """

    def __init__(self, model=MODEL):
        self.model = model

    def fit(self, pairs):
        """Do nothing, as this method is not trained."""
        return self

    def sample(self, scalp, contacts, n_draws, random_state=0):
        """Draw contact potentials, (n_draws, n_contacts, n_times) in volts."""
        from ..predict import sample_ieeg

        return sample_ieeg(
            make_scalp_raw(scalp),
            n_draws,
            contacts=np.asarray(contacts, float),
            model=self.model,
            random_state=random_state,
            on_mismatch="ignore",
            verbose="error",
        ).to_numpy()

    def log_density(self, scalp, contacts, ieeg):
        """Log-density of recorded contacts, nats per sample and contact for volts."""
        from ..predict import score_ieeg

        score = score_ieeg(
            make_scalp_raw(scalp),
            make_ieeg_raw(np.asarray(contacts, float), ieeg, scalp.sfreq),
            model=self.model,
            on_mismatch="ignore",
            verbose="error",
        )
        return float(score.mean())


class Recalibrated(Pretrained):
    """The shipped weights, recalibrated with the pairs.

    See :meth:`mne_neuroflow.NeuroFlow.recalibrate`. Pairs of other patients do not
    change the intervals of a patient's contacts.

    Parameters
    ----------
    model : str
        The weights to start from.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=30)
    >>> method = Recalibrated().fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 3840)
    """

    def fit(self, pairs):
        """Correct the intervals."""
        from ..estimator import NeuroFlow

        if not _of_one_patient(pairs):
            return self
        model = NeuroFlow.load(self.model)
        model.recalibrate(*_as_raws(pairs), on_mismatch="ignore", verbose="error")
        self.model = model
        return self


class Fitted(Pretrained):
    """The shipped weights, fitted to the pairs.

    See :meth:`mne_neuroflow.NeuroFlow.fit`. Pairs of one patient change the spatial
    stage, the flow and the intervals. Pairs of several patients train only the flow,
    which can then predict contacts of other patients.

    Parameters
    ----------
    model : str
        The weights to start from.
    random_state : int
        The seed of the training.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=30)
    >>> method = Fitted().fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 3840)
    """

    def __init__(self, model=MODEL, random_state=0):
        super().__init__(model)
        self.random_state = random_state

    def fit(self, pairs):
        """Fit the model."""
        from ..estimator import NeuroFlow

        model = NeuroFlow.load(self.model)
        model.fit(
            *_as_raws(pairs),
            spatial="fitted" if _of_one_patient(pairs) else "physics",
            random_state=self.random_state,
            on_mismatch="ignore",
            verbose="error",
        )
        self.model = model
        return self


def _of_one_patient(pairs):
    return all(same_places(pairs[0][1], contacts) for _, contacts, _ in pairs)


def _as_raws(pairs):
    scalps = [make_scalp_raw(scalp) for scalp, _, _ in pairs]
    ieegs = [make_ieeg_raw(contacts, x, scalp.sfreq) for scalp, contacts, x in pairs]
    return scalps, ieegs
