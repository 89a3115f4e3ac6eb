"""The spatial stage of one recording: from scalp EEG to the mean at the contacts.

A stage is made once from a whole recording, and then computes the mean of any part of
it. Without pairs it is the head model with the recording's own sources. With pairs it
is the map that was fitted to them. This module uses the recording, the head and contact
fits, in NumPy. It does not depend on the flow. Each stage has

- ``posterior``, an :class:`~mne_neuroflow.head.adaptive.AdaptedPosterior` at unit gain:
  covariances, spreads and observability of the contacts;
- ``mean(wide)``, which takes a stretch with :data:`HALO` samples at 128 Hz on either
  side, (n_channels, n_times + 2 * HALO) in volts, and returns the mean at the contacts,
  (n_contacts, n_times) in volts.

A new kind of stage is a class with these two attributes, chosen in :func:`find_stage`.
"""

from functools import lru_cache

import numpy as np

from ._compat import logger
from ._text import listed
from ._threads import one_blas_thread
from .contract import BAND, BLOCK
from .head import wiener
from .head.adaptive import CLIP, adapt, between
from .head.bands import N_HALO as HALO
from .head.bands import band_covariance
from .head.geometry import load_head
from .head.leadfield import contact_lead_field, scalp_lead_field
from .head.posterior import source_generators
from .head.ridge import N_LAGS
from .head.scalp_model import scalp_model
from .scalp.check import check_scalp
from .scalp.fields import measure_fields

#: Times an electrode's amplitude in the pairs, or one over it, from which it is taken
# for bad.
FAR = 6.0
# Share of the power of usual directions of the scalp below which one is empty: any
# amplifier's noise makes 2e-3, rounding to 0.1 uV 1e-4.
_EMPTY = 1e-3
_SAMPLES = 2 * BAND[1]  # a second, of which no more are independent
# Seconds of one stretch that the scalp's covariance is computed from, and their number.
_STRETCH, _N_STRETCHES = 10, 18
# Seconds that are compared with potentials on a head, at least and at most.
_LEAST, _MOST = 10, 60


def head_model(electrodes, contacts, operator):
    """Compute the potentials of the head's sources at electrodes and contacts.

    Parameters
    ----------
    electrodes, contacts : array of shape (n, 3)
        Positions in metres, fsaverage surface RAS.
    operator : array of shape (n_electrodes, n_electrodes)
        The linear map of the recording's reference and projectors.

    Returns
    -------
    model : ScalpModel
        The montage.
    deep : array of shape (n_contacts, n_generators)
        Potential of each unit generator at each contact, volts.
    """
    fields = _unit_fields(scalp_lead_field, _as_bytes(electrodes))
    deep = _unit_fields(contact_lead_field, _as_bytes(contacts))
    return scalp_model(fields, electrodes, operator), deep


def _as_bytes(positions):
    return np.ascontiguousarray(positions, float).tobytes()


@lru_cache(maxsize=8)
def _unit_fields(lead_field, positions):
    """Compute potentials of unit generators, and cache them for the same positions.

    A cohort has the same contacts in all recordings, and often the same electrodes.
    """
    head = load_head()
    fields = lead_field(head, np.frombuffer(positions).reshape(-1, 3))
    fields = fields.astype(np.float32) @ source_generators(head).factor
    fields.setflags(write=False)
    return fields


class ModelStage:
    """The head model with known powers of its sources.

    Parameters
    ----------
    posterior : AdaptedPosterior
        The posterior of the contacts given the scalp EEG.
    """

    def __init__(self, posterior):
        self.posterior = posterior

    def mean(self, wide):
        """Compute the posterior mean of a stretch with its halo."""
        return self.posterior.apply(wide)

    def between(self, other, share):
        """Interpolate to another stage, whose weight is 0 to 1."""
        return ModelStage(between(self.posterior, other.posterior, share))


class AdaptedStage(ModelStage):
    """The head model with the sources of one recording.

    Parameters
    ----------
    scalp : Scalp
        The recording.
    contacts : array of shape (n_contacts, 3)
        Positions in metres, fsaverage surface RAS.

    Attributes
    ----------
    posterior : AdaptedPosterior
        The posterior of the contacts given the scalp EEG.
    n_independent, n_possible : int
        The number of independent signals in the scalp EEG, and the maximum that its
        montage, projectors and duration allow.
    """

    @one_blas_thread
    def __init__(self, scalp, contacts):
        model, deep = head_model(scalp.electrodes, contacts, scalp.operator)
        rms = scalp.robust_rms()
        limit = CLIP * rms[:, None]
        total, n_seconds = 0.0, 0

        def pieces():
            nonlocal total, n_seconds
            for piece in stretches(scalp, HALO):
                total = total + piece.astype(float) @ piece.T
                n_seconds += (piece.shape[1] - 2 * HALO) // BLOCK
                yield np.clip(piece, -limit, limit)

        super().__init__(adapt(model, deep, band_covariance(pieces()), rms))
        self.n_independent = _n_independent(model.whitener @ total @ model.whitener.T)
        self.n_possible = min(len(model.whitener), int(_SAMPLES * n_seconds))


def compare_with_head(scalp):
    """Compare a recording with potentials on one head.

    Parameters
    ----------
    scalp : Scalp
        The recording.

    Returns
    -------
    fields : Fields | None
        The comparison. None if less than ten seconds are good.
    """
    found = scalp.good_stretches(_STRETCH, _MOST)
    seconds = sum(length for *_, length in found)
    if seconds < _LEAST:
        return None
    limit = CLIP * scalp.robust_rms()[:, None]
    pieces = []
    for epoch, first, length in found[:: -(-seconds // _MOST)]:
        wide = scalp.as_recorded(first - 1, length + 2, epoch)
        # Clip what is far from the other electrodes; a reference can be anything.
        middle = np.median(wide, axis=0)
        wide = middle + np.clip(wide - middle, -limit, limit)
        pieces.append(wide[:, BLOCK - HALO : wide.shape[1] - BLOCK + HALO])
    fields = _unit_fields(scalp_lead_field, _as_bytes(scalp.electrodes))
    return measure_fields(pieces, scalp.electrodes, fields)


def _n_independent(white):
    """Count the directions of a whitened covariance that hold a signal."""
    power = np.linalg.eigvalsh(white)[::-1]
    # Where few directions are left a quarter of them is empty. The largest are those
    # of artifacts, and say less about usual ones.
    usual = max(np.percentile(power, 75), 0.03 * power[:4][-1], 0.01 * power[:2][-1])
    return int((power > _EMPTY * usual).sum())


class PairsStage:
    """A map from recorded pairs, after a filter of the scalp EEG.

    Parameters
    ----------
    scalp_filter : ScalpFilter
        The filter from the recording's channels to the electrodes of the pairs.
    physics : AdaptedPosterior
        The posterior of the head model.
    contact_fit : ContactFit
        The contact fit, with a map.
    error : array of shape (n_contacts, n_contacts) | None
        Covariance of the error of the filter after the map. ``None`` computes it.
    """

    def __init__(self, scalp_filter, physics, contact_fit, error=None):
        self._contact_fit = contact_fit
        self._gain, self._map = contact_fit.gain, contact_fit.lagged
        self.scalp_filter, self._physics = scalp_filter, physics
        self._error = scalp_filter.error(self._map.weights) if error is None else error
        self.posterior = self._map.update(physics, self._error)

    def is_for(self, lagged):
        """Return whether another map is from the same pairs and has the same filter."""
        return self._map.scalp_covariance is lagged.scalp_covariance

    def mean(self, wide):
        """Apply the map to a stretch with its halo."""
        spare = HALO - wiener.N_HALO - N_LAGS
        clean = self.scalp_filter(wide[:, spare:-spare] / self._gain)
        return self._gain * self._map.mean(clean)

    def between(self, other, share):
        """Interpolate to a stage with the same map, whose weight is 0 to 1."""
        return PairsStage(
            self.scalp_filter.between(other.scalp_filter, share),
            between(self._physics, other._physics, share),
            self._contact_fit,
            (1 - share) * self._error + share * other._error,
        )


def find_stage(scalp, adapted, contact_fit, before=None):
    """Choose the spatial stage of a recording.

    Parameters
    ----------
    scalp : Scalp
        The recording, from :func:`check_as_fitted`.
    adapted : AdaptedStage
        The stage with the head model.
    contact_fit : ContactFit
        The contact fit.
    before : AdaptedStage | PairsStage | None
        The stage of the same recording with another contact fit. Its filter is used
        again if it is the same.

    Returns
    -------
    stage : AdaptedStage | PairsStage
        The stage.
    """
    if contact_fit.lagged is None:
        return adapted
    if type(before) is PairsStage and before.is_for(contact_fit.lagged):
        return PairsStage(before.scalp_filter, adapted.posterior, contact_fit)
    return PairsStage(
        filter_as_fitted(scalp, contact_fit), adapted.posterior, contact_fit
    )


def check_as_fitted(inst, contact_fit, trans, on_mismatch):
    """Check a scalp recording, with only the EEG channels of the fit.

    Channels whose amplitude differs strongly from that in the pairs are left out as
    well. They are removed one by one, beginning with the largest difference, because
    the average reference spreads their signals over the other channels.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG.
    contact_fit : ContactFit
        The contact fit.
    trans : str | path-like | Transform
        As for :func:`mne_neuroflow.predict_ieeg`.
    on_mismatch : str
        As for :func:`mne_neuroflow.predict_ieeg`.

    Returns
    -------
    scalp : Scalp
        The recording, checked.
    """
    if contact_fit.lagged is None or not hasattr(inst, "info"):
        return check_scalp(inst, trans=trans, on_mismatch=on_mismatch)
    inst = inst.copy().pick(names_as_fitted(inst.info, contact_fit), verbose=False)
    scalp = check_scalp(inst, trans=trans, on_mismatch=on_mismatch)
    unlike = amplitude_as_fitted(scalp.robust_rms(), scalp.ch_names, contact_fit)
    if unlike.max() < FAR:
        return scalp
    inst.info["bads"] = [scalp.ch_names[unlike.argmax()]]
    return check_as_fitted(inst, contact_fit, trans, on_mismatch)


def names_as_fitted(info, contact_fit):
    """Return the good EEG channels of a fit that a recording has.

    Parameters
    ----------
    info : Info
        Info of the recording.
    contact_fit : ContactFit
        The contact fit, with a map.

    Returns
    -------
    names : list of str
        The channels, in the order of the fit.
    """
    good = set(info["ch_names"]).difference(info["bads"])
    kept = [name for name in contact_fit.electrodes if name in good]
    if 2 * len(kept) < len(contact_fit.electrodes):
        absent = sorted(set(contact_fit.electrodes).difference(kept))
        raise ValueError(
            "More than half of the EEG channels that the model was fitted with are "
            f"missing, bad, or differ in amplitude by more than a factor of {FAR:g}: "
            f"{listed(absent)}. Fit again without them."
        )
    return kept


def amplitude_as_fitted(rms, names, contact_fit):
    """Compare the amplitudes of EEG channels with those in the pairs of a fit.

    Parameters
    ----------
    rms : array of shape (n_channels,)
        Typical amplitude of each channel, volts.
    names : list of str
        The channels.
    contact_fit : ContactFit
        The contact fit, with a map.

    Returns
    -------
    factor : array of shape (n_channels,)
        How many times larger or smaller each amplitude is, at least 1.
    """
    usual = contact_fit.lagged.scalp_rms[places_as_fitted(names, contact_fit)]
    ratio = rms / (contact_fit.gain * usual)
    return np.maximum(ratio, 1 / ratio)


def filter_as_fitted(scalp, contact_fit):
    """Compute the filter from a recording to the electrodes of the pairs.

    Parameters
    ----------
    scalp : Scalp
        The recording, from :func:`check_as_fitted`.
    contact_fit : ContactFit
        The contact fit.

    Returns
    -------
    scalp_filter : ScalpFilter
        The filter from the present channels to those of the pairs.
    """
    lagged = contact_fit.lagged
    log_absent(scalp.ch_names, contact_fit)
    present = places_as_fitted(scalp.ch_names, contact_fit)
    limit = wiener.clip_limit(lagged.scalp_rms[present])
    observed = _covariance(scalp, contact_fit.gain, limit)
    return wiener.find_scalp_filter(lagged.scalp_covariance, limit, present, observed)


def places_as_fitted(names, contact_fit):
    """Return the indices of EEG channels among those of a fit.

    Parameters
    ----------
    names : list of str
        The channels.
    contact_fit : ContactFit
        The contact fit, with a map.

    Returns
    -------
    present : array of int, shape (n_channels,)
        The indices.
    """
    return np.array([contact_fit.electrodes.index(name) for name in names])


def log_absent(names, contact_fit):
    """Log which EEG channels of a fit are estimated, because they are not in a list."""
    absent = sorted(set(contact_fit.electrodes).difference(names))
    if absent:
        logger.info(
            "Estimated from the other EEG channels, because they are missing, bad or "
            "unlike what they were in the pairs that the model was fitted to: %s.",
            listed(absent),
        )


def _covariance(scalp, gain, limit):
    """Compute the covariance of a recording in each band, divided by a gain squared."""
    pieces = stretches(scalp, wiener.N_HALO)
    return wiener.band_covariance(wiener.clip(p / gain, limit) for p in pieces)


def stretches(scalp, halo):
    """Yield stretches of good time from all parts of a recording.

    Parameters
    ----------
    scalp : Scalp
        The recording.
    halo : int
        Samples before and after each stretch, at most a second.

    Yields
    ------
    stretch : array of shape (n_electrodes, n_times + 2 * halo)
        Referenced volts at 128 Hz.
    """
    for epoch, first, length in scalp.good_stretches(_STRETCH, _N_STRETCHES):
        wide = scalp.to_model(first - 1, length + 2, epoch)
        yield wide[:, BLOCK - halo : wide.shape[1] - BLOCK + halo]
