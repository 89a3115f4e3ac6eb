"""Simulated batches in the flow's terms."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..flow.context import Conditions, make_conditions
from ..head.geometry import load_head
from ..simulation.recordings import Pairs, electrode_rms, simulate
from ..simulation.setups import Company, Setups, build_setups


@dataclass(frozen=True)
class Batch:
    """Conditions, the truth under them and where they come from."""

    conditions: Conditions
    pairs: Pairs
    setups: Setups


class SimulatedData:
    """Endless simulated batches over banks of virtual patients.

    Every batch follows from the seed and its number alone, so that a run that
    was interrupted goes on with the batches it would have seen.

    Parameters
    ----------
    banks : list of Setups
        One bank for each number of contacts.
    n_seconds : int
        Length of a window.
    n_tokens : int
        Contacts × recordings in a batch.
    seed : int
        Seed of all batches.
    device : str | torch.device
        Where to simulate.
    """

    def __init__(self, banks, n_seconds, n_tokens, seed, device):
        self.banks = [bank.to(device) for bank in banks]
        self.company = Company.from_head(load_head(), device)
        self.n_seconds, self.n_tokens = n_seconds, n_tokens
        self.seed, self.device = seed, torch.device(device)

    def batch(self, number: int) -> Batch:
        """Simulate one batch.

        Parameters
        ----------
        number : int
            Which one.

        Returns
        -------
        batch : Batch
            On the data's device.
        """
        rng = torch.Generator(self.device).manual_seed(self.seed * 2**32 + number)
        bank = self.banks[number % len(self.banks)]
        n_batch = max(2, self.n_tokens // bank.deep.shape[1])
        pick = torch.randint(len(bank), (n_batch,), generator=rng, device=self.device)
        setups = bank.pick(pick)
        pairs = simulate(setups, self.company, self.n_seconds, rng)
        return Batch(conditions_of(pairs.scalp, setups), pairs, setups)


def conditions_of(scalp: Tensor, setups: Setups) -> Conditions:
    """Turn simulated scalps into what the flow is told."""
    posterior = {
        name: getattr(setups, name)
        for name in (
            "operator",
            "covariance",
            "root",
            "inverse_root",
            "mean_std",
            "prior_std",
            "observability",
            "roi_operator",
            "scalp_std",
        )
    }
    return make_conditions(
        scalp,
        electrode_rms(scalp),
        posterior,
        setups.contacts,
        setups.electrode_distance,
        setups.half,
        setups.used,
    )


def build_banks(sizes, seed, heads=None, held_out=False, n_jobs=1, device="cpu"):
    """Build one bank of setups for each number of contacts.

    Parameters
    ----------
    sizes : list of tuple of int
        Number of contacts and number of setups of each bank.
    seed : int
        Seed.
    heads : list of str | None
        Head tables beside the template.
    held_out : bool
        Whether to draw the implants that training never sees.
    n_jobs : int
        Threads.
    device : str | torch.device
        Where the large products are taken.

    Returns
    -------
    banks : list of Setups
        On the CPU.
    """
    return [
        build_setups(
            n_setups, n_contacts, seed + k, heads, held_out, 128, n_jobs, device
        )
        for k, (n_contacts, n_setups) in enumerate(sizes)
    ]
