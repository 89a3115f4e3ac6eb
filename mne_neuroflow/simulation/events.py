"""Events of an epileptic focus: interictal spikes and seizures."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .._docs import fill_doc
from ..contract import SFREQ
from ..head.geometry import STRUCTURES
from .sources import (
    MAX_LAG,
    MESIAL,
    SCENARIOS,
    ActiveSources,
    Batched,
    chance,
    convolved,
    delayed,
    normal,
    poisson_train,
    uniform,
)


def spike_waveform(time: Tensor, sharp: Tensor, slow: Tensor) -> Tensor:
    """Compute an interictal spike: a sharp wave of 20-70 ms and a slow after-wave.

    Parameters
    ----------
    time : Tensor
        The time from the peak in seconds.
    sharp : Tensor
        The standard deviation of the peak in seconds.
    slow : Tensor
        The amplitude of the after-wave relative to the peak.

    Returns
    -------
    waveform : Tensor
        The waveform, with a peak near one. Spikes last less than 70 ms and sharp waves
        less than 200 ms (IFCN glossary, Kane et al. 2017, Clin Neurophysiol Pract
        2:170).
    """
    peak = torch.exp(-0.5 * (time / sharp) ** 2)
    rebound = 0.4 * torch.exp(-0.5 * ((time - 2.5 * sharp) / (1.3 * sharp)) ** 2)
    wave = slow * torch.exp(-0.5 * ((time - 0.2) / 0.08) ** 2)
    return peak - rebound + wave


@dataclass(frozen=True)
class Focus(Batched):
    """A patient's epileptic focus and its events.

    Attributes
    ----------
    structure, side : Tensor of int, shape (batch,)
        The place of the focus: an index into
        :data:`~mne_neuroflow.head.geometry.STRUCTURES`, and 0 for left, 1 for right.
    home, away : Tensor of shape (batch, generator)
        The amplitude of events at the mesial focus and at the neocortical sources that
        follow, in units of their background, with the sign of their dipoles.
    lag : Tensor of int, shape (batch, generator)
        The delay of the neocortex in samples.
    sharp, slow : Tensor of shape (batch, 1)
        Parameters of the waveform, see :func:`spike_waveform`.
    """

    structure: Tensor
    side: Tensor
    home: Tensor
    away: Tensor
    lag: Tensor
    sharp: Tensor
    slow: Tensor


@fill_doc
def draw_focus(active: ActiveSources, partner: Tensor, rng: torch.Generator) -> Focus:
    """Draw one mesial region as the focus, and whether the neocortex follows.

    Parameters
    ----------
    active : ActiveSources
        The active sources.
    partner : Tensor of int, shape (batch, generator)
        The neocortical generator that each one goes with.
    %(rng)s

    Returns
    -------
    focus : Focus
        One row for each patient.
    """
    n_batch, shape = len(active), active.structure.shape
    structure = torch.randint(0, MESIAL, (n_batch,), generator=rng, device=rng.device)
    side = torch.randint(0, 2, (n_batch,), generator=rng, device=rng.device)
    region = structure + len(STRUCTURES) * side
    at_focus = (active.region == region[:, None]).float()
    home = uniform(3, 12, (n_batch, 1), rng) * at_focus * uniform(0.3, 1.0, shape, rng)
    # Neocortical involvement: partners follow after 10-40 ms, or none follows.
    spread = torch.zeros_like(home).scatter_reduce(1, partner, at_focus, reduce="amax")
    follows = chance(0.6, (n_batch, 1), rng) * uniform(0.5, 6, (n_batch, 1), rng)
    polarity = 1 - 2 * chance(0.5, shape, rng)
    return Focus(
        structure=structure,
        side=side,
        home=home * polarity,
        away=spread * (active.structure >= MESIAL) * follows * polarity,
        lag=torch.randint(1, MAX_LAG + 1, shape, generator=rng, device=rng.device),
        sharp=uniform(0.012, 0.035, (n_batch, 1), rng),
        slow=uniform(-0.4, 0.7, (n_batch, 1), rng),
    )


@fill_doc
def spike_train(scenario: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw the times and heights of spikes: a Poisson train of 3 to 75 per minute.

    Parameters
    ----------
    scenario : Tensor of int, shape (batch,)
        Only ``'spikes'`` has spikes.
    %(n_times)s
    %(rng)s

    Returns
    -------
    train : Tensor of shape (batch, n_times)
        The relative height at peaks, 0.6 to 1.4, and 0 elsewhere.
    """
    spiking = (scenario == SCENARIOS.index("spikes")).float()[:, None]
    rate = 10 ** uniform(-1.3, 0.1, (len(scenario), 1), rng)
    train = poisson_train(rate, n_times, rng)
    return train * spiking * uniform(0.6, 1.4, train.shape, rng)


@fill_doc
def seizure(
    scenario: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a seizure: a rhythm of 2-8 Hz that grows, slows down and stops.

    Seizures of the temporal lobe last one to two minutes (Jenssen et al. 2006,
    Epilepsia 47:1499) and start with a rhythm that grows within 5 to 26 s.

    Parameters
    ----------
    scenario : Tensor of int, shape (batch,)
        Only ``'ictal'`` has a seizure.
    %(n_times)s
    %(rng)s

    Returns
    -------
    rhythm : Tensor of shape (batch, n_times)
        In units of the amplitude of a spike.
    envelope : Tensor of shape (batch, n_times)
        0 to 1. The seizure may begin before the recording and end after it.
    """
    shape = (len(scenario), 1)
    clock = torch.arange(n_times, device=rng.device) / SFREQ
    onset = -8 + (8 + 0.7 * n_times / SFREQ) * uniform(0, 1, shape, rng)
    growth = ((clock - onset) / uniform(5, 26, shape, rng)).clamp(0, 1)
    end = onset + uniform(30, 120, shape, rng)
    envelope = growth * ((end - clock) / 0.5).clamp(0, 1)
    envelope = envelope * (scenario == SCENARIOS.index("ictal")).float()[:, None]
    pace = uniform(3.0, 8.0, shape, rng) * (1 - 0.4 * growth)
    phase = 2 * torch.pi * (pace / SFREQ).cumsum(-1)
    phase = phase + 0.4 * (normal(phase.shape, rng) / SFREQ**0.5).cumsum(-1)
    harmonic = uniform(0, 0.6, shape, rng)
    rhythm = torch.sin(phase) + harmonic * torch.sin(2 * phase + 0.7)
    return 0.7 * envelope * rhythm, envelope


@fill_doc
def add_events(
    activity: Tensor, focus: Focus, scenario: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Add interictal spikes or a seizure to a mesial focus and its partners.

    Parameters
    ----------
    activity : Tensor of shape (batch, generator, time)
        Ongoing activity of unit variance, changed in place.
    focus : Focus
        The origin of the events.
    scenario : Tensor of int, shape (batch,)
        Only ``'spikes'`` and ``'ictal'`` have events.
    %(rng)s

    Returns
    -------
    activity : Tensor of shape (batch, generator, time)
        The activity with events.
    spikes : Tensor of shape (batch, time)
        The height of spikes at their peaks.
    seizure : Tensor of shape (batch, time)
        The envelope of the seizure.
    """
    n_times = activity.shape[-1]
    spikes = spike_train(scenario, n_times, rng)
    time = (torch.arange(n_times, device=rng.device) - n_times // 2) / SFREQ
    waveform = spike_waveform(time, focus.sharp, focus.slow)
    rhythm, envelope = seizure(scenario, n_times, rng)
    shape = convolved(spikes, waveform) + rhythm
    # One copy for each lag, rather than one for each generator.
    lags = torch.arange(MAX_LAG + 1, device=rng.device).expand(len(focus), -1)
    copies = delayed(shape[:, None].expand(-1, len(lags[0]), -1), lags)
    weights = focus.away[..., None] * (focus.lag[..., None] == lags[:, None])
    weights[..., 0] += focus.home
    activity += weights @ copies
    return activity, spikes, envelope
