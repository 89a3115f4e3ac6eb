"""Virtual contacts by source localization: MNE-Python's inverse methods as baselines.

:mod:`mne.minimum_norm` or :mod:`mne.beamformer` estimates source moments from the scalp
EEG on the package's template head. The intracranial lead field of the same head
projects them to the contacts: ``x = L W y``.
"""

from copy import deepcopy
from functools import lru_cache

import mne
import numpy as np

from .._compat import _check_option, make_projector
from .._docs import fill_doc
from ..contract import SAME_PLACE
from ..head.geometry import load_head
from ..head.leadfield import contact_lead_field, scalp_lead_field
from ..head.posterior import (
    HEAD_ERROR,
    LOCAL_STD,
    SENSOR_STD,
    source_generators,
)
from .baselines import GaussianMethod, ResidualNoise, mean_spectrum

INVERSE_METHODS = ("eLORETA", "sLORETA", "dSPM", "MNE", "LCMV")
# What these return is a dipole moment. The others return statistics.
_MOMENTS = ("eLORETA", "MNE")
# MNE's defaults: depth weighting (exponent and limit) of minimum-norm methods, and
# regularization of the beamformer.
_DEPTH, _DEPTH_LIMIT, _LCMV_REG = 0.8, 10.0, 0.05
# Radius (metres) of a sphere that holds every head, for the forward solution that
# lends its form.
_DUMMY_RADIUS = 1.0
# Contacts nearer than this (metres) are the same contact.


class SourceImaging(GaussianMethod):
    """Virtual contacts by one of MNE's inverse methods, with a Gaussian interval.

    Parameters
    ----------
    method : str
        ``'eLORETA'``, ``'sLORETA'``, ``'dSPM'``, ``'MNE'`` or ``'LCMV'``.
    snr : float
        The amplitude signal-to-noise ratio that regularizes minimum-norm methods,
        ``lambda2 = 1 / snr ** 2``. 1 is usual for recordings that are not averaged, and
        3 for averages. ``'LCMV'`` does not use it.
    projs : list of Projection
        Projectors that were applied to the recordings, beside the average reference.
        Their channels are found by name.
    head : Head | None
        None takes the template head.

    Notes
    -----
    **Volts.** eLORETA and MNE estimate dipole moments, whose potentials at contacts are
    in volts. dSPM and sLORETA divide each moment by a standard deviation, and the
    weights of the beamformer have unit noise gain. These are statistics without a unit.
    One number per recording scales them, so that the potentials of the sources at the
    scalp fit the recording in least squares. (Multiplying dSPM and sLORETA by their
    standard deviations would give MNE.) The beamformer treats every source as if it
    were the only one, so that its sum over sources has no scale either.

    **Interval.** Before :meth:`fit`, the covariance of the error follows from the
    spatial prior of the package. For a linear estimate it is
    ``(L - A G) Q (L - A G)' + A R A'`` plus the noise of the contacts, times the
    squared gain of the recording. ``A = L W`` is the estimate, ``G`` and ``L`` are the
    lead fields of scalp and contacts, ``Q`` is the covariance of the sources and ``R``
    that of the scalp noise. It needs no recorded contacts. :meth:`fit` scales estimates
    and errors to those of training pairs.

    The error is drawn with the average spectrum of the scalp recording.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.inverse import SourceImaging
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, _ = toy_pair(seconds=2)
    >>> SourceImaging("eLORETA").sample(scalp, contacts, n_draws=5).shape
    (5, 2, 256)
    """

    def __init__(self, method="eLORETA", *, snr=1.0, projs=(), head=None):
        _check_option("method", method, INVERSE_METHODS)
        if not snr > 0:
            raise ValueError(
                "Invalid value for the 'snr' parameter. Allowed values are numbers "
                f"above 0, but got {snr}."
            )
        self.method, self.snr, self.projs = method, float(snr), list(projs)
        self.head = load_head() if head is None else head
        self._trained = _Trained()

    def fit(self, pairs):
        """Scale estimates and intervals to pairs of recordings.

        Parameters
        ----------
        pairs : iterable of tuple
            Triples ``(scalp, contacts, ieeg)``, see
            :mod:`mne_neuroflow.evaluation.pairs`.

        Returns
        -------
        self : SourceImaging
            The same object.

        Notes
        -----
        Two factors are fitted: one of the estimate, by least squares, and one of the
        standard deviation of its error. Contacts of the pairs have their own factors.
        Other contacts have those of all training contacts together.
        """
        trained = _Trained()
        for scalp, contacts, ieeg in pairs:
            contacts = np.asarray(contacts, float)
            operator = self.operator(scalp, contacts)
            std = np.sqrt(np.diag(self.error_covariance(scalp, contacts, operator)))
            trained.add(contacts, operator @ scalp.data, np.asarray(ieeg, float), std)
        self._trained = trained
        return self

    @fill_doc
    def estimate(self, scalp, contacts):
        """Estimate contact potentials.

        Parameters
        ----------
        %(scalp_data)s
        %(positions)s

        Returns
        -------
        estimate : ndarray, shape (n_contacts, n_times)
            Volts, against infinity.
        """
        contacts = np.asarray(contacts, float)
        slope, _ = self._trained.of(contacts)
        return slope[:, np.newaxis] * (self.operator(scalp, contacts) @ scalp.data)

    @fill_doc
    def predict(self, scalp, contacts):
        """Predict contact potentials and their error.

        Parameters
        ----------
        %(scalp_data)s
        %(positions)s

        Returns
        -------
        mean : ndarray, shape (n_contacts, n_times)
            Volts, against infinity.
        noise : ResidualNoise
            The error.
        """
        contacts = np.asarray(contacts, float)
        slope, inflation = self._trained.of(contacts)
        operator = slope[:, np.newaxis] * self.operator(scalp, contacts)
        covariance = self.error_covariance(scalp, contacts, operator)
        covariance *= np.outer(inflation, inflation)
        freqs, density = mean_spectrum([scalp.data], scalp.sfreq)
        noise = ResidualNoise(covariance, freqs, density.mean(axis=0), scalp.sfreq)
        return operator @ scalp.data, noise

    @fill_doc
    def operator(self, scalp, contacts):
        """Compute the linear map from scalp EEG to contacts.

        Parameters
        ----------
        %(scalp_data)s
        %(positions)s

        Returns
        -------
        operator : ndarray, shape (n_contacts, n_electrodes)
            Volts at a contact per volt of average-referenced scalp.
        """
        moments = self.source_operator(scalp)
        return contact_lead_field(self.head, np.asarray(contacts, float)) @ moments

    @fill_doc
    def source_operator(self, scalp):
        """Compute the linear map from scalp EEG to the sources of the head.

        Parameters
        ----------
        %(scalp_data)s

        Returns
        -------
        operator : ndarray, shape (n_patches, n_electrodes)
            Ampere metres per volt of average-referenced scalp.
        """
        fwd, info = self._forward(scalp)
        covariance = np.cov(scalp.data)
        if self.method == "LCMV":
            kernel = _beamformer(fwd, info, covariance, scalp.data.shape[1])
        else:
            kernel = _minimum_norm(fwd, info, self.method, self.snr)
        if self.method in _MOMENTS:
            return kernel
        return kernel * _scale_to_scalp(_referenced(fwd, info) @ kernel, covariance)

    def _forward(self, scalp):
        """Return the forward solution and the Info of a recording's electrodes."""
        electrodes = np.ascontiguousarray(scalp.electrodes, float)
        if not self.projs:
            return _kept_forward(self.head, electrodes.tobytes())
        return make_template_forward(
            electrodes, ch_names=list(scalp.ch_names), projs=self.projs, head=self.head
        )

    @fill_doc
    def error_covariance(self, scalp, contacts, operator):
        """Compute the covariance of an estimate's error under the spatial prior.

        Parameters
        ----------
        %(scalp_data)s
        %(positions)s
        operator : ndarray, shape (n_contacts, n_electrodes)
            The linear estimate.

        Returns
        -------
        covariance : ndarray, shape (n_contacts, n_contacts)
            The covariance in square volts, for the amplitude of this recording. It is
            at least that of the spatial posterior, which is the best linear estimate.
        """
        factor = source_generators(self.head).factor
        deep = contact_lead_field(self.head, np.asarray(contacts, float))
        at_scalp = _referenced(*self._forward(scalp)).astype(np.float32) @ factor
        power = np.sum(at_scalp.astype(float) ** 2, axis=1)
        noise = SENSOR_STD**2 + HEAD_ERROR**2 * power
        missed = deep.astype(np.float32) @ factor - operator @ at_scalp
        covariance = missed @ missed.T + (operator * noise) @ operator.T
        covariance += LOCAL_STD**2 * np.eye(len(operator))
        gain = scalp.robust_rms() / np.sqrt(power + noise)
        return np.median(gain) ** 2 * (covariance + covariance.T) / 2


class _Trained:
    """The scales of estimates and errors at each contact, from pairs."""

    def __init__(self):
        self._contacts = np.empty((0, 3))
        # of each contact: number of samples, then estimate squared, estimate times
        # truth, and truth squared, summed over samples
        self._sums = np.empty((0, 4))

    def add(self, contacts, estimate, truth, std):
        # In units of the expected error, so that recordings and contacts with large
        # amplitudes count no more than others.
        estimate, truth = estimate / std[:, np.newaxis], truth / std[:, np.newaxis]
        products = [np.ones_like(truth), estimate**2, estimate * truth, truth**2]
        sums = np.stack([np.sum(product, axis=1) for product in products], axis=1)
        self._contacts = np.vstack([self._contacts, contacts])
        self._sums = np.vstack([self._sums, sums])

    def of(self, contacts):
        """Return the factors of estimates and errors of contacts."""
        if not len(self._sums):
            return np.ones(len(contacts)), np.ones(len(contacts))
        distance = np.linalg.norm(self._contacts - contacts[:, np.newaxis], axis=-1)
        same = distance < SAME_PLACE
        same[~same.any(axis=1)] = True
        n, power, product, truth = (same @ self._sums).T
        slope = product / power
        return slope, np.sqrt((truth - slope * product) / n)


def make_template_forward(electrodes, *, ch_names=None, projs=(), head=None):
    """Make a forward solution of scalp electrodes on the template head.

    Parameters
    ----------
    electrodes : array_like, shape (n_electrodes, 3)
        Positions in metres, fsaverage surface RAS.
    ch_names : list of str | None
        The names of the electrodes. None takes ``'ch1'``, ``'ch2'`` and so on.
    projs : list of Projection
        Projectors of the recording, to which the average reference is added.
    head : Head | None
        None takes the template head.

    Returns
    -------
    fwd : mne.Forward
        The forward solution, with one dipole of fixed orientation per source patch, in
        volts per ampere metre against a reference at infinity. Its source space is
        discrete, at the centres of the patches.
    info : mne.Info
        The electrodes, with projectors.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.inverse import make_template_forward
    >>> from mne_neuroflow.head.geometry import load_head
    >>> fwd, info = make_template_forward(load_head().scalp.rr[::33])
    >>> fwd["nsource"], info["nchan"]
    (3978, 20)
    """
    head = load_head() if head is None else head
    electrodes = np.asarray(electrodes, float)
    names = ch_names or [f"ch{k}" for k in range(1, len(electrodes) + 1)]
    info = _electrode_info(electrodes, names, projs, head.head_to_mri)
    fwd = _form_of_forward(info, head)
    fwd["sol"]["data"] = scalp_lead_field(head, electrodes)
    return fwd, info


def _electrode_info(electrodes, names, projs, head_to_mri):
    rr = mne.transforms.apply_trans(np.linalg.inv(head_to_mri), electrodes)
    montage = mne.channels.make_dig_montage(
        dict(zip(names, rr, strict=True)), coord_frame="head"
    )
    info = mne.create_info(names, 1.0, "eeg", verbose=False)
    # Only containers add projectors.
    evoked = mne.EvokedArray(np.zeros((len(names), 1)), info, verbose=False)
    evoked.set_montage(montage, verbose=False)
    projs = [deepcopy(proj) for proj in projs]
    for proj in projs:
        proj["active"] = False
    evoked.add_proj(projs, verbose=False)
    evoked.set_eeg_reference(projection=True, verbose=False)
    return evoked.info


def _form_of_forward(info, head):
    """Make a forward solution of the right form, whose lead field is to be replaced.

    MNE-Python has no public constructor. The forward solution is therefore computed
    with the cheapest model, a sphere. See also `mne_neuroflow.make_seeg_forward`.
    """
    src = mne.setup_volume_source_space(
        pos=dict(rr=head.patch_centres, nn=head.patch_normals), verbose=False
    )
    on_sphere = info.copy()
    for ch in on_sphere["chs"]:
        ch["loc"][:6] = [0, 0, _DUMMY_RADIUS, 0, 0, 0]
    sphere = mne.make_sphere_model(
        r0=(0.0, 0.0, 0.0),
        head_radius=_DUMMY_RADIUS,
        relative_radii=(0.9, 1.0),
        sigmas=(1.0, 1.0),
        verbose=False,
    )
    trans = mne.transforms.Transform("head", "mri", head.head_to_mri)
    fwd = mne.make_forward_solution(
        on_sphere, trans, src, sphere, meg=False, verbose="error"
    )
    fwd = mne.convert_forward_solution(fwd, force_fixed=True, verbose=False)
    for ch, electrode in zip(fwd["info"]["chs"], info["chs"], strict=True):
        ch.update(loc=electrode["loc"].copy())
    return fwd


@lru_cache(maxsize=8)
def _kept_forward(head, electrodes):
    """Return the forward solution of a montage, which is cached."""
    return make_template_forward(np.frombuffer(electrodes).reshape(-1, 3), head=head)


def _noise_covariance(info):
    return mne.make_ad_hoc_cov(info, std=dict(eeg=SENSOR_STD), verbose=False)


def _identity(info):
    """Return one unit of every electrode in turn, which reveals a linear map."""
    return mne.EvokedArray(np.eye(len(info["ch_names"])), info, verbose=False)


def _referenced(fwd, info):
    """Apply the recording's projectors and the average reference to a lead field."""
    projector, *_ = make_projector(info["projs"], info["ch_names"])
    return projector @ fwd["sol"]["data"]


def _minimum_norm(fwd, info, method, snr):
    """Return the kernel of a minimum-norm method, (n_sources, n_electrodes)."""
    noise = _noise_covariance(info)
    weighted, weight = _depth_weighted(fwd, info, method)
    inverse = mne.minimum_norm.make_inverse_operator(
        info, weighted, noise, loose=0.0, depth=None, fixed=True, verbose=False
    )
    sources = mne.minimum_norm.apply_inverse(
        _identity(info), inverse, 1 / snr**2, method, verbose=False
    )
    return weight[:, np.newaxis] * sources.data


def _depth_weighted(fwd, info, method):
    """Weight the lead field for depth, and return the weights of the moments.

    MNE-Python weights depth only if it knows the other orientations of each source. A
    column with a larger scale is equivalent to a source with a larger prior, and its
    moment is this scale times the estimate. Statistics do not depend on the unit of a
    source, and eLORETA has its own weighting.
    """
    one = np.ones(fwd["nsource"])
    if method == "eLORETA":
        return fwd, one
    prior = mne.forward.compute_depth_prior(
        fwd, info, _DEPTH, _DEPTH_LIMIT, limit_depth_chs=False, verbose=False
    )
    weighted = fwd.copy()
    weighted["sol"]["data"] = fwd["sol"]["data"] * np.sqrt(prior)
    return weighted, np.sqrt(prior) if method == "MNE" else one


def _beamformer(fwd, info, covariance, n_times):
    """Return the kernel of the LCMV beamformer, (n_sources, n_electrodes)."""
    covariance = mne.Covariance(
        covariance, info["ch_names"], [], info["projs"], nfree=n_times
    )
    filters = mne.beamformer.make_lcmv(
        info,
        fwd,
        covariance,
        reg=_LCMV_REG,
        noise_cov=_noise_covariance(info),
        weight_norm="unit-noise-gain",
        rank="info",
        verbose="error",
    )
    return mne.beamformer.apply_lcmv(_identity(info), filters, verbose=False).data


def _scale_to_scalp(fitted, covariance):
    """Return the least-squares scale between a recording and its estimated sources.

    ``fitted`` maps the recording to the potentials of the estimate at the electrodes.
    """
    return np.sum(covariance * fitted) / np.sum((fitted @ covariance) * fitted)
