"""Scalp EEG up to the present, referenced and in the model's band.

A channel without a signal is replaced by its conditional mean given the other channels.
The spatial stage is linear. By the law of total expectation, the same operators then
return the mean given the other channels.
"""

from functools import lru_cache

import numpy as np

from ..contract import BLOCK
from ..head.bands import N_HALO as STAGE_HALO
from ..resampling import HIGHPASS_HALF
from .future import Future
from .intake import Intake, too_few

_REACH = STAGE_HALO + HIGHPASS_HALF
# Seconds of good time that are kept, for the prior in bad time.
_ORDINARY = 4


class Listener:
    """Running scalp EEG and the estimates from it.

    Parameters
    ----------
    learner : Learner
        The estimates, which are updated every second.
    operator : ndarray, shape (n_channels, n_channels)
        The recording's projectors and the average reference.
    expected : ndarray, shape (n_channels, n_channels)
        Expected covariance against the average reference, with any scale, from which
        channels without a signal are estimated.
    resampler : Resampler
        Resampler from the rate of the scalp EEG.
    latency, n_past : int
        As for :class:`~mne_neuroflow.stream.intake.Intake`.

    Attributes
    ----------
    intake : Intake
        The incoming samples.
    future : Future
        Their extrapolation.
    ordinary : ndarray, shape (n_channels, n_times)
        The last contiguous seconds of good time, referenced volts between 0.5 and 50
        Hz; no samples before there were any.
    """

    def __init__(self, learner, operator, expected, resampler, latency=0, n_past=0):
        self.learner, self._operator = learner, operator
        self._expected = expected
        self._filling = lru_cache(64)(self._make_filling)
        # A second for the estimates, the samples that the filters need around it, and
        # the seconds before it that a step of the clock may add.
        n_past = max(n_past, 2 * _REACH + 3 * BLOCK + resampler.halo_model)
        self.intake = Intake(len(operator), resampler, latency, n_past)
        self.future = learner.future()
        self.ordinary = np.zeros((len(operator), 0))
        self.restart(0)

    def restart(self, sample):
        """Discard the samples, but not the estimates; this sample is the next."""
        self.intake.restart(sample)
        self.second = -(-(self.intake.begin + _REACH) // BLOCK)
        self._recent = self.ordinary[:, :0]

    def advance(self, known):
        """Process all samples that have arrived before a model sample."""
        self.intake.advance(known)
        needed = BLOCK + _REACH + self.intake.resampler.halo_model
        while BLOCK * self.second + needed <= known:
            first = BLOCK * self.second
            wide, bad = self.scalp(first - STAGE_HALO, first + BLOCK + STAGE_HALO)
            if bad.any():
                self.learner.skip()
                self._recent = self._recent[:, :0]
            else:
                self.learner.update(wide)
                self._keep(wide[:, STAGE_HALO : STAGE_HALO + BLOCK])
            self.second += 1

    def _keep(self, second):
        self._recent = np.concatenate([self._recent, second], axis=1)
        if self._recent.shape[1] == _ORDINARY * BLOCK:
            self.ordinary, self._recent = self._recent, self._recent[:, :0]

    def scalp(self, first, last):
        """Read whole seconds, including those that have not arrived.

        Parameters
        ----------
        first, last : int
            Half-open range of model samples.

        Returns
        -------
        data : ndarray, shape (n_channels, last - first)
            Referenced volts between 0.5 and 50 Hz.
        bad : ndarray of bool, shape (last - first,)
            Where too few channels are good.
        """
        wide, bad = self.intake.window(
            first - HIGHPASS_HALF, last + HIGHPASS_HALF, self.future
        )
        data = self.intake.resampler.highpass(wide)
        bad = bad[:, HIGHPASS_HALF : bad.shape[1] - HIGHPASS_HALF]
        return self._reference(data, bad), too_few(bad)

    def _reference(self, data, bad):
        """Estimate bad channels, and apply the average reference."""
        if bad.any():
            data = data.copy()
            patterns, which = np.unique(bad, axis=1, return_inverse=True)
            for k, pattern in enumerate(patterns.T):
                if pattern.any() and not too_few(pattern[:, None])[0]:
                    here = np.ravel(which) == k
                    data[:, here] = self._filling(pattern.tobytes()) @ data[:, here]
        return self._operator @ data

    def _make_filling(self, pattern):
        """Compute the map to the conditional mean given the good channels."""
        good = np.flatnonzero(~np.frombuffer(pattern, bool))
        seen = np.zeros((len(good), len(self._operator)))
        seen[:, good] = np.eye(len(good)) - 1 / len(good)
        cross = self._expected @ seen.T
        return cross @ np.linalg.pinv(seen @ cross, hermitian=True) @ seen

    def state(self):
        """Return all that later scalp EEG depends on, as arrays."""
        return {
            "second": np.array(self.second),
            "correlation": self.future.correlation,
            "ordinary": self.ordinary,
            "recent": self._recent,
            **{f"intake_{k}": v for k, v in self.intake.state().items()},
            **{f"learner_{k}": v for k, v in self.learner.state().items()},
        }

    def restore(self, state):
        """Continue from a saved state."""
        self.second = int(state["second"])
        self.future = Future(state["correlation"])
        self.ordinary, self._recent = state["ordinary"], state["recent"]
        self.intake.restore(part_of(state, "intake_"))
        self.learner.restore(part_of(state, "learner_"))


def part_of(state, prefix):
    """Return the arrays of a state whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in state.items()
        if name.startswith(prefix)
    }
