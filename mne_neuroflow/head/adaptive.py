"""A spatial posterior that adapts to the recording.

It has one linear operator from scalp EEG to contacts for each frequency band, computed
with the powers of the recording's sources.

This module works on covariances of electrodes and on lead fields. It does not depend on
recordings, files or tensors.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from .._threads import one_blas_thread
from .bands import LEVEL_OF_BAND, N_HALO, band_responses
from .posterior import LOCAL_STD, symmetric_roots
from .scalp_model import source_parcels
from .source_powers import SourceEstimate, estimate_sources, load_source_prior

#: Attributes of an :class:`AdaptedPosterior` that the flow uses.
POSTERIOR_FIELDS = (
    "covariance",
    "root",
    "inverse_root",
    "mean_std",
    "prior_std",
    "observability",
    "level_features",
)
#: Times an electrode's typical amplitude at which its signal is clipped.
CLIP = 6.0


def posterior_by_band(model, estimate, targets):
    """Condition linear functions of the sources on the scalp EEG, band by band.

    Parameters
    ----------
    model : ScalpModel
        The montage.
    estimate : SourceEstimate
        The powers of the recording.
    targets : array of shape (n_targets, n_generators)
        Value from each unit generator, such as volts at contacts.

    Returns
    -------
    operator : array of shape (n_bands, n_targets, n_electrodes)
        Posterior mean per volt of referenced scalp EEG.
    field : array of shape (n_bands, n_targets, n_targets)
        Prior covariance with the recording's powers, at unit gain of the band.
    explained : array of shape (n_bands, n_targets, n_targets)
        Part of this covariance that the scalp EEG explains.
    """
    index = source_parcels().index
    targets = np.asarray(targets, float)
    shape = (len(estimate.power), len(targets))
    operator = np.empty((*shape, model.whitener.shape[1]))
    field, explained = np.empty((*shape, shape[1])), np.empty((*shape, shape[1]))
    for band, power in enumerate(estimate.power):
        weighted = targets * power[index]
        cross = weighted @ model.sources.T
        gain = cross @ estimate.inverse[band]
        operator[band] = gain @ model.whitener
        field[band] = weighted @ targets.T
        explained[band] = gain @ cross.T
    return operator, field, explained


@dataclass(frozen=True)
class AdaptedPosterior:
    """Distribution of contact potentials given one recording, at unit gain.

    Attributes
    ----------
    limit : array of shape (n_electrodes, 1)
        Amplitude at which each electrode is clipped, volts.
    operator : array of shape (n_bands, n_contacts, n_electrodes)
        Posterior mean per volt of referenced scalp EEG, in each band.
    wideband_operator : array of shape (n_contacts, n_electrodes)
        Posterior mean for all bands together, for maps without bands.
    covariance : array of shape (n_contacts, n_contacts)
        Posterior covariance of all bands together, V².
    root, inverse_root : array of shape (n_levels, n_contacts, n_contacts)
        Symmetric square root of each wavelet level's posterior covariance, and its
        inverse. Levels are scaled: in a recording with a typical spectrum, each has
        about the covariance of all bands.
    explained : array of shape (n_contacts, n_contacts)
        Part of the covariance of all bands that the scalp EEG explains, V².
    level_explained : array of shape (n_levels, n_contacts, n_contacts)
        The same part for each wavelet level, with the scaling of the levels.
    mean_std, prior_std : array of shape (n_contacts,)
        Standard deviation of the posterior mean and of the contact potential with the
        recording's own sources, volts.
    observability : array of shape (n_contacts,)
        Share of the variance of contact potentials that the scalp EEG explains, 0 to 1.
    level_features : array of shape (n_contacts, 3 * n_levels)
        For each level: log ratio of the contact's amplitude to that of the fixed prior,
        root of the explained share, and log of the electrodes' typical excess noise.
    gain : float
        Ratio of the amplitude of the recording to the expected amplitude.
    spread : float
        Standard deviation over electrodes of the logarithm of measured to expected
        amplitude.
    sources : SourceEstimate
        The estimated powers of the recording.
    """

    limit: np.ndarray
    operator: np.ndarray
    wideband_operator: np.ndarray
    covariance: np.ndarray
    root: np.ndarray
    inverse_root: np.ndarray
    explained: np.ndarray
    level_explained: np.ndarray
    mean_std: np.ndarray
    prior_std: np.ndarray
    observability: np.ndarray
    level_features: np.ndarray
    gain: float
    spread: float
    sources: SourceEstimate

    @one_blas_thread
    def apply(self, scalp):
        """Compute the posterior mean of contacts.

        Parameters
        ----------
        scalp : array of shape (n_electrodes, n_times + 2 * N_HALO)
            Referenced volts at 128 Hz.

        Returns
        -------
        mean : array of shape (n_contacts, n_times)
            Volts.
        """
        n_times, n_fft = scalp.shape[-1], next_fast_len(scalp.shape[-1], real=True)
        clipped = np.clip(scalp, -self.limit, self.limit)
        # The operators are real: apply them to real and imaginary parts in turn.
        spectrum = rfft(np.asarray(clipped, float), n_fft).view(float)
        mean = np.zeros((self.operator.shape[1], spectrum.shape[1]))
        responses = np.repeat(band_responses(n_fft), 2, axis=1)
        for operator, response in zip(self.operator, responses, strict=True):
            mean += operator @ (spectrum * response)
        return irfft(mean.view(complex), n_fft)[:, N_HALO : n_times - N_HALO]


@one_blas_thread
def adapt(model, contacts, observed, rms, estimate=None):
    """Compute the spatial posterior of one recording.

    Parameters
    ----------
    model : ScalpModel
        The montage.
    contacts : array of shape (n_contacts, n_generators)
        Potential of each unit generator at each contact, volts.
    observed : array of shape (n_bands, n_electrodes, n_electrodes)
        Covariance of the referenced recording in each band, V².
    rms : array of shape (n_electrodes,)
        Robust r.m.s. of each electrode, volts.
    estimate : SourceEstimate | None
        The powers. None estimates them from ``observed``.

    Returns
    -------
    posterior : AdaptedPosterior
        The distribution of contacts given this recording.
    """
    estimate = estimate_sources(model, observed) if estimate is None else estimate
    contacts = np.asarray(contacts, float)
    operator, field, explained = posterior_by_band(model, estimate, contacts)
    ratio = rms / np.sqrt(model.variance)
    gain = max(np.median(ratio), 1e-3)
    # Share of each band in the power of the recording; they sum to about one.
    share = estimate.gain / gain**2
    local = LOCAL_STD**2 * np.eye(len(contacts))
    residual = field - explained + local
    residual = (residual + residual.transpose(0, 2, 1)) / 2
    covariance = np.tensordot(share, residual, 1)
    prior = np.tensordot(share, field + local, 1)
    explained = (explained + explained.transpose(0, 2, 1)) / 2
    all_explained = np.tensordot(share, explained, 1)
    shown = np.diag(all_explained)
    expected = np.bincount(LEVEL_OF_BAND, load_source_prior().spectrum)
    roots, features, level_explained = [], [], []
    fixed = (contacts**2).sum(1) + LOCAL_STD**2
    noise = np.log(np.median(estimate.electrode_noise, axis=1) + 1e-3)
    for level, typical in enumerate(expected):
        here = LEVEL_OF_BAND == level
        weight = share[here] / typical
        roots.append(symmetric_roots(np.tensordot(weight, residual[here], 1)))
        power = np.tensordot(weight, np.einsum("bcc->bc", field[here] + local), 1)
        level_explained.append(np.tensordot(weight, explained[here], 1))
        seen = np.diag(level_explained[-1])
        features += [
            0.5 * np.log(power / fixed),
            np.sqrt(np.clip(seen / power, 0, 1)),
            np.full(len(contacts), noise[here].mean() / 4),
        ]
    spread = np.sqrt((np.log(np.maximum(ratio / gain, 1e-3)) ** 2).mean())
    return AdaptedPosterior(
        limit=CLIP * rms[:, None],
        operator=operator,
        wideband_operator=_wideband_operator(model, estimate, contacts),
        covariance=covariance,
        root=np.stack([root for root, _ in roots]),
        inverse_root=np.stack([inverse for _, inverse in roots]),
        explained=all_explained,
        level_explained=np.stack(level_explained),
        mean_std=np.sqrt(np.maximum(shown, 1e-18)),
        prior_std=np.sqrt(np.diag(prior)),
        observability=np.clip(shown / np.diag(prior), 0, 1),
        level_features=np.stack(features, axis=1),
        gain=float(gain),
        spread=float(spread),
        sources=estimate,
    )


@one_blas_thread
def without_scalp(posterior):
    """Return the prior of the same contacts, without the information of the scalp EEG.

    Parameters
    ----------
    posterior : AdaptedPosterior
        The distribution of the contacts given a recording.

    Returns
    -------
    prior : AdaptedPosterior
        Covariances are those of the prior and operators are zero. Other attributes of
        the contacts and the recording do not change.
    """
    levels = posterior.root @ posterior.root + posterior.level_explained
    roots = [symmetric_roots(level) for level in levels]
    return replace(
        posterior,
        operator=np.zeros_like(posterior.operator),
        wideband_operator=np.zeros_like(posterior.wideband_operator),
        covariance=posterior.covariance + posterior.explained,
        root=np.stack([root for root, _ in roots]),
        inverse_root=np.stack([inverse for _, inverse in roots]),
    )


def between(one, other, share):
    """Interpolate between two posteriors of the same contacts and electrodes.

    Parameters
    ----------
    one, other : AdaptedPosterior
        Posteriors at unit gain.
    share : float
        Weight of ``other``, 0 to 1.

    Returns
    -------
    posterior : AdaptedPosterior
        Operators and covariances are interpolated linearly, and amplitudes by their
        logarithms. Other attributes are those of ``other``.
    """

    def line(name):
        return (1 - share) * getattr(one, name) + share * getattr(other, name)

    def ratio(name):
        return getattr(one, name) ** (1 - share) * getattr(other, name) ** share

    levels = (1 - share) * one.root @ one.root + share * other.root @ other.root
    roots, inverses = zip(*map(symmetric_roots, levels), strict=True)
    linear = (
        "operator",
        "wideband_operator",
        "covariance",
        "explained",
        "level_explained",
        "observability",
        "level_features",
        "spread",
    )
    return replace(
        other,
        root=np.stack(roots),
        inverse_root=np.stack(inverses),
        **{name: line(name) for name in linear},
        **{name: ratio(name) for name in ("limit", "mean_std", "prior_std", "gain")},
    )


def _wideband_operator(model, estimate, contacts):
    """Condition contacts on the scalp EEG of all bands together."""
    power = (estimate.gain @ estimate.power)[source_parcels().index]
    covariance = np.tensordot(estimate.gain, np.linalg.inv(estimate.inverse), 1)
    cross = (contacts * power) @ model.sources.T
    return np.linalg.solve(covariance, cross.T).T @ model.whitener
