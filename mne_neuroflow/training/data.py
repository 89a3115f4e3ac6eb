"""Simulated batches in the flow's terms."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..flow.context import Conditions, make_conditions
from ..head.geometry import load_head
from ..head.wiener import (
    N_HALO,
    band_responses,
    inverse_with_excess,
    loudest,
    noise_floor,
)
from ..simulation.recordings import Pairs, electrode_rms, simulate
from ..simulation.setups import (
    GeneratorTable,
    Setups,
    Worlds,
    build_setups,
    build_sites,
    build_worlds,
)


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
    patients : Patients
        Virtual patients by number of contacts.
    n_seconds : int
        Length of a window.
    n_tokens : int
        Contacts × recordings in a batch.
    seed : int
        Seed of all batches.
    device : str | torch.device
        Where to simulate.
    """

    def __init__(self, patients, n_seconds, n_tokens, seed, device):
        self.banks = [bank.to(device) for bank in patients.banks]
        self.worlds = patients.worlds.to(device)
        self.all_generators = GeneratorTable.from_head(load_head(), device)
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
        rng = self.random_numbers(number)
        bank = self.banks[number % len(self.banks)]
        n_batch = max(2, self.n_tokens // bank.deep_rows.shape[1])
        pick = torch.randint(len(bank), (n_batch,), generator=rng, device=self.device)
        setups = bank.pick(pick)
        pairs = self.simulate(setups, rng)
        return Batch(conditions_of(pairs.scalp, setups), pairs, setups)

    def random_numbers(self, *numbers: int) -> torch.Generator:
        """Start a stream of random numbers that belongs to the seed and numbers."""
        # A CPU generator keeps 32 bits of its seed: mix before, rather than shift.
        state = np.random.SeedSequence([self.seed, *numbers]).generate_state(1)
        return torch.Generator(self.device).manual_seed(int(state[0]))

    def simulate(self, setups: Setups, rng: torch.Generator) -> Pairs:
        """Simulate one recording of each of these patients."""
        return simulate(setups, self.worlds, self.all_generators, self.n_seconds, rng)


def filtered(scalp: Tensor, rms: Tensor, expected: Tensor) -> Tensor:
    """Take out what is noisier in a recording than the head model expects.

    The same as :func:`mne_neuroflow.head.wiener.find_scalp_filter` and what it returns,
    where the recording is a window and all electrodes are heard.

    Parameters
    ----------
    scalp : Tensor of shape (electrode, time)
        Average-referenced volts at 128 Hz.
    rms : Tensor of shape (electrode,)
        Robust r.m.s. of each electrode, volts.
    expected : Tensor of shape (electrode, electrode)
        Covariance that the head model expects, in any unit.

    Returns
    -------
    clean : Tensor of shape (electrode, time)
        Average-referenced volts.
    """
    limit = loudest(rms)
    padded = torch.nn.functional.pad(
        scalp.clamp(-limit, limit), (N_HALO, N_HALO), mode="reflect"
    )
    n_times = padded.shape[-1]
    responses = torch.as_tensor(band_responses(n_times)).to(padded)
    spectrum = torch.fft.rfft(padded) * responses[:, None]
    bands = torch.fft.irfft(spectrum, n_times)[..., N_HALO:-N_HALO]
    observed = (bands @ bands.mT / bands.shape[-1]).double()
    expected = expected.double()
    power = observed.diagonal(dim1=1, dim2=2) / expected.diagonal()
    usual = power.quantile(0.5, dim=1)[:, None, None] * expected
    usual = usual + noise_floor(usual)[:, None, None] * torch.eye(
        len(expected), dtype=usual.dtype, device=usual.device
    )
    operator = usual @ inverse_with_excess(usual, observed, torch.linalg.inv)
    clean = (operator.to(bands) @ bands).sum(0)
    return clean - clean.mean(0)


def conditions_of(scalp: Tensor, setups: Setups) -> Conditions:
    """Turn simulated scalps into what the flow is told."""
    rms = electrode_rms(scalp)
    clean = torch.zeros_like(scalp)
    for k, n_used in enumerate(setups.used.sum(1).int().tolist()):
        expected = setups.scalp_covariance[k, :n_used, :n_used]
        clean[k, :n_used] = filtered(scalp[k, :n_used], rms[k, :n_used], expected)
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
        clean,
        rms,
        posterior,
        setups.contacts,
        setups.electrode_distance,
        setups.half,
        setups.used,
    )


@dataclass(frozen=True)
class Patients:
    """Virtual patients: banks by number of contacts, and their true heads."""

    banks: list
    worlds: Worlds


def build_patients(
    sizes, n_worlds, n_shafts, seed, heads=None, held_out=False, n_jobs=1, device="cpu"
) -> Patients:
    """Build one bank of patients for each number of contacts.

    Parameters
    ----------
    sizes : list of tuple of int
        Number of contacts and number of patients of each bank.
    n_worlds, n_shafts : int
        Heads and random depth electrodes that the patients draw from.
    seed : int
        Everything follows from it.
    heads : list of str | None
        Head tables beside the template.
    held_out : bool
        Whether to use the real implants that training never sees.
    n_jobs : int
        Threads.
    device : str | torch.device
        Where the large products are taken.

    Returns
    -------
    patients : Patients
        On the CPU.
    """
    sites = build_sites(n_shafts, seed, held_out, device)
    worlds = build_worlds(sites, n_worlds, seed, heads, n_jobs, device)
    banks = [
        build_setups(sites, n_worlds, n_setups, n_contacts, seed, n_jobs=n_jobs)
        for n_contacts, n_setups in sizes
    ]
    return Patients(banks, worlds)
