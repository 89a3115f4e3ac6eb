"""Draws of a few seconds, from the scalp EEG up to the present and the flow.

This module knows the flow, its conditioning inputs and its noise. It does not know when
a prediction is due or what becomes of it.
"""

import numpy as np

from ..arguments import find_device
from ..contract import BLOCK
from ..flow_inputs import FlowInputs
from ..good_time import bad_share
from ..head.adaptive import without_scalp
from ..head.bands import N_HALO as STAGE_HALO
from ..recording import reflected

#: Seconds to either side of a window that the flow computes in addition.
HALO = 2
# Number of draws that are computed at once.
_BATCH = 32


class WindowSampler:
    """The flow with the noise of a recording.

    Parameters
    ----------
    model : Model
        The weights.
    contact_fit : ContactFit
        The contact fit.
    positions, electrodes : ndarray, shape (n, 3)
        Contacts and electrodes in metres, fsaverage surface RAS.
    seed : int
        Seed of the noise.
    device : str
        Where the flow is computed.
    """

    def __init__(self, model, contact_fit, positions, electrodes, seed, device):
        from ..flow.sampler import Noise, contact_keys

        device = find_device(device)
        self._flow = model.flow_on(device)
        self.noise = Noise(seed, contact_keys(positions), device)
        self.inputs = FlowInputs(positions, electrodes, device)
        self.inputs.use(contact_fit)
        self._gain = contact_fit.gain

    def draw(self, stage, listener, first, last, draws):
        """Draw model samples.

        Parameters
        ----------
        stage : ModelStage | PairsStage
            The spatial stage at present.
        listener : Listener
            The scalp EEG.
        first, last : int
            Half-open range of model samples.
        draws : list of int
            Numbers of the draws.

        Returns
        -------
        potentials : ndarray of float32, shape (n_draws, n_contacts, n)
            Volts, whole seconds that include the range. In bad time they are draws of
            the prior.
        first : int
            The first of these model samples.
        """
        block = first // BLOCK
        n_blocks = -(-last // BLOCK) - block
        posterior = stage.posterior

        def seen_mean(block, n_blocks):
            first, last = BLOCK * block, BLOCK * (block + n_blocks)
            wide, _ = listener.scalp(first - STAGE_HALO, last + STAGE_HALO)
            return stage.mean(wide)

        drawn = self._sample(posterior, block, n_blocks, draws, seen_mean)
        at = np.arange(block * BLOCK, (block + n_blocks) * BLOCK)
        share = bad_share(at, listener.intake.gaps()).astype(np.float32)
        if share[first - at[0] : last - at[0]].any():
            # The flow would take zeros for a quiet moment. Its inputs are therefore
            # ordinary seconds, whose mean of the contacts is then subtracted.
            shown = _ordinary_mean(stage, listener.ordinary)
            nothing = without_scalp(posterior)
            prior = self._sample(nothing, block, n_blocks, draws, shown)
            prior = prior - shown(block, n_blocks).astype(np.float32)
            drawn = drawn + share * (prior - drawn)
        return drawn, block * BLOCK

    def _sample(self, posterior, block, n_blocks, draws, mean_of):
        from ..flow.sampler import sample_blocks

        tensors = self.inputs.of(posterior)
        gain = posterior.gain if self._gain is None else self._gain

        def conditions_of(*window):
            kinds = (tensors, gain, posterior.spread)
            return self.inputs.conditions(mean_of(*window), *kinds)

        where = (self.noise, block, n_blocks, draws, _BATCH)
        sampled = sample_blocks(self._flow, conditions_of, *where, halo=HALO)
        return np.stack([one.cpu().numpy() for one in sampled])


def _ordinary_mean(stage, wide):
    """Return the contacts' mean in good time, extended by reflection."""
    if not wide.shape[1]:
        n_contacts = len(stage.posterior.prior_std)
        return lambda block, n_blocks: np.zeros((n_contacts, n_blocks * BLOCK))
    ordinary = stage.mean(wide)

    def mean(block, n_blocks):
        at = np.arange(block * BLOCK, (block + n_blocks) * BLOCK)
        return ordinary[:, reflected(at, ordinary.shape[1])]

    return mean
