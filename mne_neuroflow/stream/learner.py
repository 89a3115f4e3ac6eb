"""Estimates from a running recording: sources, amplitudes and autocorrelation.

All estimates are means over the past whose weights decay by one half per half-life, so
that memory does not grow. In the first seconds there are few data, and the prior has
more weight.
"""

import numpy as np

from ..contract import BLOCK
from ..head import wiener
from ..head.adaptive import CLIP, adapt
from ..head.bands import N_BANDS, N_HALO, band_covariance
from ..head.source_powers import EFFECTIVE_SAMPLES, estimate_sources, load_source_prior
from ..spatial import ModelStage, PairsStage, places_as_fitted
from . import future

# Effective number of independent samples per second. The narrowest band has more.
_A_SECOND = 2.0
# Number of half-lives for which the amplitude of a second is kept, and seconds at most.
# All of them are sorted every second.
_HALF_LIVES, _LONGEST = 4, 14400
# Seconds between estimates at the beginning and later, and when this changes.
_OFTEN, _SELDOM, _LATER = 2, 8, 16
# Weight in seconds of the expected autocorrelation, and of the covariance in pairs.
_EXPECTED = 2.0
# Names of the arrays behind an estimate, in the saved state.
_KNOWN = ("rms", "seen", "samples", "by_pairs", "weight")


class PairsFilter:
    """The running filter from the EEG channels to the electrodes of recorded pairs.

    Parameters
    ----------
    contact_fit : ContactFit
        The contact fit, with a map.
    ch_names : list of str
        The EEG channels of the stream.

    Attributes
    ----------
    expected : ndarray, shape (n_channels, n_channels)
        Covariance of these channels in the pairs, all bands together.
    covariance : ndarray, shape (n_bands, n_channels, n_channels)
        Running covariance, at the gain of the pairs.
    """

    def __init__(self, contact_fit, ch_names):
        self._fit, lagged = contact_fit, contact_fit.lagged
        self._present = places_as_fitted(ch_names, contact_fit)
        self._limit = wiener.clip_limit(lagged.scalp_rms[self._present])
        n_channels = len(ch_names)
        centring = np.eye(n_channels) - 1 / n_channels
        usual = lagged.scalp_covariance[:, self._present[:, None], self._present]
        self._usual = centring @ usual @ centring
        total = usual.sum(axis=0)
        self.expected = total + wiener.noise_floor(total) * np.eye(n_channels)
        self.covariance = np.zeros_like(usual)

    def update(self, wide, share):
        """Update the covariance with one second, whose weight is 0 to 1."""
        spare = N_HALO - wiener.N_HALO
        data = wide[:, spare : wide.shape[1] - spare] / self._fit.gain
        seen = wiener.band_covariance([wiener.clip(data, self._limit)])
        self.covariance += share * (seen - self.covariance)

    def stage(self, physics, covariance, weight):
        """Compute the spatial stage.

        Parameters
        ----------
        physics : AdaptedPosterior
            The posterior of the head model.
        covariance : ndarray, shape (n_bands, n_channels, n_channels)
            Covariance of the channels so far.
        weight : float
            Effective seconds of data behind it.

        Returns
        -------
        stage : PairsStage
            The spatial stage.
        """
        share = weight / (weight + _EXPECTED)
        observed = share * covariance + (1 - share) * self._usual
        scalp_filter = wiener.find_scalp_filter(
            self._fit.lagged.scalp_covariance, self._limit, self._present, observed
        )
        return PairsStage(scalp_filter, physics, self._fit)


class Learner:
    """The spatial stage of a running recording.

    Parameters
    ----------
    model : ScalpModel
        The montage.
    contacts : ndarray, shape (n_contacts, n_generators)
        Potential of each unit generator at each contact, volts.
    half_life : float
        Seconds after which data have half of their weight.
    pairs : PairsFilter | None
        The filter for a map from pairs, if there is one.

    Attributes
    ----------
    weight : float
        Effective seconds of data so far.
    """

    def __init__(self, model, contacts, half_life, pairs=None):
        self.model, self.contacts, self._pairs = model, contacts, pairs
        n_channels = len(model.variance)
        n_rows = int(min(_HALF_LIVES * half_life, _LONGEST))
        self._fade = 0.5 ** (1 / half_life)
        self.weight = 0.0
        self._covariance = np.zeros((N_BANDS, n_channels, n_channels))
        self._rhythm = np.zeros(future.ORDER + 1)
        # Robust amplitude of each second, and its time in the weighting.
        self._rms = np.full((n_rows, n_channels), np.nan)
        self._age = np.full(n_rows, np.inf)
        self._row = 0
        # Second of the last estimate, and seconds of the transition to it.
        self._transition = np.array([0, 1])
        self._known = [None, None]
        self._stages = [None, None]

    def update(self, wide):
        """Update the estimates with one second.

        Parameters
        ----------
        wide : ndarray, shape (n_channels, 128 + 2 * N_HALO)
            Referenced volts at 128 Hz without bad samples, with the samples before and
            after the second.
        """
        inner = wide[:, (wide.shape[1] - BLOCK) // 2 :][:, :BLOCK]
        self._age += 1
        self._rms[self._row] = np.sqrt((inner**2).mean(axis=1))
        self._age[self._row] = 0
        self._row = (self._row + 1) % len(self._age)
        limit = CLIP * self.rms()[:, None]
        clipped = np.clip(wide, -limit, limit)
        share = 1 / (self.weight * self._fade + 1)
        seen = band_covariance([clipped])
        self._covariance += share * (seen - self._covariance)
        self._rhythm += share * (future.autocovariance(clipped) - self._rhythm)
        if self._pairs is not None:
            self._pairs.update(wide, share)
        self.weight = self.weight * self._fade + 1

    def skip(self):
        """Skip a second without updating the estimates."""
        self._age += 1
        self.weight *= self._fade

    def rms(self):
        """Return the weighted median amplitude of each channel, volts."""
        order = np.argsort(self._rms, axis=0)
        weights = np.where(np.isfinite(self._age), self._fade**self._age, 0.0)[order]
        half = np.cumsum(weights, axis=0) >= weights.sum(axis=0) / 2
        place = order[half.argmax(axis=0), np.arange(order.shape[1])]
        return self._rms[place, np.arange(order.shape[1])]

    def future(self):
        """Return the extrapolation of the scalp EEG."""
        scale = self._rhythm[0] if self._rhythm[0] > 0 else 1.0
        expected = _EXPECTED * scale * future.expected_correlation()
        return future.Future(self.weight * self._rhythm + expected)

    @property
    def is_ready(self):
        """Whether there is a spatial stage."""
        return self._stages[1] is not None

    def observe(self, second, provisional):
        """Compute new estimates if they are due.

        Parameters
        ----------
        second : int
            Seconds since the start.
        provisional : ndarray, shape (n_channels,)
            Amplitude of channels before the first second is complete, volts.

        Returns
        -------
        new : bool
            Whether there are new estimates.
        """
        every = _OFTEN if second < _LATER else _SELDOM
        if self.is_ready and second % every:
            return False
        if self.weight:
            rms, seen = self.rms(), min(EFFECTIVE_SAMPLES, _A_SECOND * self.weight)
            known = (rms, self._covariance.copy(), np.array(seen))
        else:
            known = (provisional, np.zeros_like(self._covariance), np.array(0.0))
        if self._pairs is not None:
            known = (*known, self._pairs.covariance.copy(), np.array(self.weight))
        self._move(second, every, known)
        return True

    def _move(self, second, every, known):
        """Start the transition from the last to a new estimate over some seconds."""
        first = not self.is_ready
        self._known = [known if first else self._known[1], known]
        new = self._adapt(*known)
        self._stages = [new if first else self._stages[1], new]
        self._transition = np.array([second, 1 if first else every])

    def stage(self, time):
        """Return the spatial stage at a time in seconds since the start."""
        begin, every = self._transition
        share = min(max((time - begin) / every, 0.0), 1.0)
        one, other = self._stages
        return other if one is other or share == 1 else one.between(other, share)

    def _adapt(self, rms, observed, effective_samples, *of_pairs):
        """Compute the spatial stage from the estimates."""
        model = self.model
        if not effective_samples:
            # Only the amplitude is known: typical spectrum, sources of the prior.
            gain = np.median(rms**2 / model.variance)
            spectrum = load_source_prior().spectrum * gain
            observed = spectrum[:, None, None] * np.diag(model.variance)
        estimate = estimate_sources(
            model, observed, effective_samples=float(effective_samples)
        )
        posterior = adapt(model, self.contacts, observed, rms, estimate)
        if self._pairs is None:
            return ModelStage(posterior)
        return self._pairs.stage(posterior, *of_pairs)

    def state(self):
        """Return all estimates as arrays."""
        state = {
            "weight": np.array(self.weight),
            "covariance": self._covariance,
            "rhythm": self._rhythm,
            "rms": self._rms,
            "age": self._age,
            "row": np.array(self._row),
            "transition": self._transition,
        }
        if self._pairs is not None:
            state["by_pairs"] = self._pairs.covariance
        for k, known in enumerate(self._known):
            for name, array in zip(_KNOWN, known or (), strict=False):
                state[f"known_{k}_{name}"] = array
        return state

    def restore(self, state):
        """Continue from saved estimates."""
        self.weight = float(state["weight"])
        self._covariance = np.array(state["covariance"])
        self._rhythm = np.array(state["rhythm"])
        self._rms, self._age = np.array(state["rms"]), np.array(state["age"])
        self._row, self._transition = int(state["row"]), np.array(state["transition"])
        if self._pairs is not None:
            self._pairs.covariance = np.array(state["by_pairs"])
        for k in range(2):
            known = (state.get(f"known_{k}_{name}") for name in _KNOWN)
            known = tuple(array for array in known if array is not None)
            self._known[k] = known or None
            self._stages[k] = self._adapt(*known) if known else None
