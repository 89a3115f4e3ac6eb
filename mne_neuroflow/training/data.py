"""Simulated batches with the conditioning inputs of the flow."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..flow.context import Conditions, make_conditions
from ..head.adaptive import CLIP, POSTERIOR_FIELDS, adapt
from ..head.bands import N_HALO, band_covariance
from ..head.geometry import load_head
from ..head.scalp_model import scalp_model
from ..simulation.recordings import Pairs, Traits, draw_traits, electrode_rms, simulate
from ..simulation.setups import (
    GeneratorTable,
    Setups,
    Worlds,
    build_setups,
    build_sites,
    build_worlds,
    template_world,
)
from ..simulation.sources import draw_scenarios


@dataclass(frozen=True)
class Batch:
    """Conditioning inputs, the recorded pairs, and the virtual patients."""

    conditions: Conditions
    pairs: Pairs
    setups: Setups


class SimulatedData:
    """Any number of simulated batches of virtual patients.

    A batch depends only on the seed and its number. A training that was interrupted
    therefore continues with the same batches.

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
        Device of the simulation.
    mismatched : bool
        Whether one recording in twelve has scalp EEG of another time. A flow that is
        trained with such pairs trusts the scalp EEG less. Figures of accuracy are those
        of pairs that belong together.
    """

    def __init__(self, patients, n_seconds, n_tokens, seed, device, mismatched=True):
        self.banks = [bank.to(device) for bank in patients.banks]
        self.worlds = patients.worlds.to(device)
        self.template = patients.template
        self.all_generators = GeneratorTable.from_head(load_head(), device)
        self.n_seconds, self.n_tokens = n_seconds, n_tokens
        self.seed, self.device = seed, torch.device(device)
        self.mismatched = mismatched

    def batch(self, number: int) -> Batch:
        """Simulate one batch.

        Parameters
        ----------
        number : int
            Number of the batch.

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
        return Batch(self.conditions_of(pairs.scalp, setups), pairs, setups)

    def conditions_of(self, scalp: Tensor, setups: Setups) -> Conditions:
        """Compute the conditioning inputs of recordings of these patients."""
        return conditions_of(scalp, setups, self.template)

    def random_numbers(self, *numbers: int) -> torch.Generator:
        """Make a random number generator that depends on the seed and these numbers."""
        # A CPU generator keeps 32 bits of its seed, so mix the numbers; do not shift.
        state = np.random.SeedSequence([self.seed, *numbers]).generate_state(1)
        return torch.Generator(self.device).manual_seed(int(state[0]))

    def simulate(self, setups: Setups, rng: torch.Generator) -> Pairs:
        """Simulate one recording of each of these patients."""
        scenario = draw_scenarios(len(setups), rng)
        traits = self.draw_traits(setups, rng)
        people = (setups, self.worlds, self.all_generators)
        return simulate(*people, self.n_seconds, rng, scenario=scenario, traits=traits)

    def draw_traits(self, setups: Setups, rng: torch.Generator, **options) -> Traits:
        """Draw the properties of these patients."""
        people = (setups, self.worlds, self.all_generators)
        traits = draw_traits(*people, rng, **options)
        if self.mismatched:
            return traits
        return replace(traits, mismatched=torch.zeros_like(traits.mismatched))


def conditions_of(scalp: Tensor, setups: Setups, template: Worlds) -> Conditions:
    """Compute the flow's conditioning inputs from simulated scalp EEG.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        Average-referenced volts at 128 Hz, rows of zeros where padded.
    setups : Setups
        The patients.
    template : Worlds
        Gains of the template head at every nominal site.

    Returns
    -------
    conditions : Conditions
        On the device of ``scalp``.
    """
    # One by one in numpy, as for real recordings.
    parts = []
    rms = electrode_rms(scalp).double().cpu().numpy()
    for k, n_used in enumerate(setups.used.sum(1).int().tolist()):
        posterior, mean = adapt_window(
            scalp[k, :n_used].double().cpu().numpy(),
            rms[k, :n_used],
            setups.electrodes[k, :n_used].cpu().numpy(),
            template.scalp[setups.scalp_rows[k, :n_used] % template.n_electrodes],
            template.deep[setups.deep_rows[k] % len(template.deep)],
        )
        parts.append({"mean": mean, **vars(posterior)})

    def stacked(name):
        values = np.stack([part[name] for part in parts]).astype(np.float32)
        return torch.from_numpy(values).to(scalp.device)

    return make_conditions(
        stacked("mean"),
        {name: stacked(name) for name in POSTERIOR_FIELDS},
        setups.contacts,
        setups.electrode_distance,
        setups.half,
        setups.used.sum(-1),
        stacked("gain"),
        stacked("spread"),
    )


def adapt_window(scalp, rms, electrodes, scalp_gains, deep_gains):
    """Adapt the spatial stage to one simulated window.

    Parameters
    ----------
    scalp : array of shape (n_electrodes, n_times)
        Average-referenced volts at 128 Hz.
    rms : array of shape (n_electrodes,)
        Robust r.m.s. of each electrode, volts.
    electrodes : array of shape (n_electrodes, 3)
        Nominal positions, metres.
    scalp_gains, deep_gains : Tensor of shape (n_electrodes | n_contacts, generator)
        The template head's, volts.

    Returns
    -------
    posterior : AdaptedPosterior
        The posterior of the contacts given this window.
    mean : array of shape (n_contacts, n_times)
        Mean of the posterior in volts.
    """
    model = scalp_model(scalp_gains.cpu().numpy(), electrodes)
    limit = CLIP * rms[:, None]
    wide = np.pad(scalp, ((0, 0), (N_HALO, N_HALO)), "reflect")
    observed = band_covariance([np.clip(wide, -limit, limit)])
    posterior = adapt(model, deep_gains.cpu().numpy(), observed, rms)
    return posterior, posterior.apply(wide)


@dataclass(frozen=True)
class Patients:
    """Virtual patients by number of contacts, their true heads and the template."""

    banks: list
    worlds: Worlds
    template: Worlds


def build_patients(
    sizes, n_worlds, n_shafts, seed, heads=None, held_out=False, n_jobs=1, device="cpu"
) -> Patients:
    """Build a set of patients for each number of contacts.

    Parameters
    ----------
    sizes : list of tuple of int
        Number of contacts and number of patients in each set.
    n_worlds, n_shafts : int
        Number of heads and of random depth electrodes from which patients are drawn.
    seed : int
        Seed of all random numbers.
    heads : list of str | None
        Head tables in addition to the template.
    held_out : bool
        Whether to use the real implants that are held out from training.
    n_jobs : int
        Number of threads.
    device : str | torch.device
        Device for large matrix products.

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
    return Patients(banks, worlds, template_world(sites))
