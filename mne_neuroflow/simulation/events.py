"""What a focus fires: interictal spikes and seizures."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..contract import SFREQ
from .sources import (
    MAX_LAG,
    MESIAL,
    SCENARIOS,
    STRUCTURES,
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
    """Interictal spike: a sharp wave of 20-70 ms and a slow after-wave.

    Parameters
    ----------
    time : Tensor
        Seconds from the peak.
    sharp : Tensor
        Standard deviation of the peak in seconds.
    slow : Tensor
        Amplitude of the after-wave relative to the peak.

    Returns
    -------
    waveform : Tensor
        Peak near one. Duration of spikes under 70 ms and of sharp waves under
        200 ms: IFCN glossary, Kane et al. 2017, Clin Neurophysiol Pract 2:170.
    """
    peak = torch.exp(-0.5 * (time / sharp) ** 2)
    rebound = 0.4 * torch.exp(-0.5 * ((time - 2.5 * sharp) / (1.3 * sharp)) ** 2)
    wave = slow * torch.exp(-0.5 * ((time - 0.2) / 0.08) ** 2)
    return peak - rebound + wave


@dataclass(frozen=True)
class Focus(Batched):
    """A patient's epileptic focus and what it fires.

    Attributes
    ----------
    structure, side : Tensor of int, shape (batch,)
        Where the focus is: an index into :data:`~.sources.STRUCTURES`, and 0 for
        left, 1 for right.
    home, away : Tensor of shape (batch, generator)
        Amplitude of events at the mesial focus and at the neocortical generators
        that follow, in units of their background, with the sign of their dipoles.
    lag : Tensor of int, shape (batch, generator)
        Samples by which the neocortex follows.
    sharp, slow : Tensor of shape (batch, 1)
        Spike waveform, see :func:`spike_waveform`.
    """

    structure: Tensor
    side: Tensor
    home: Tensor
    away: Tensor
    lag: Tensor
    sharp: Tensor
    slow: Tensor


def draw_focus(active: ActiveSources, partner: Tensor, rng: torch.Generator) -> Focus:
    """Draw one mesial region as the focus, and whether the neocortex follows.

    Parameters
    ----------
    active : ActiveSources
        Who plays.
    partner : Tensor of int, shape (batch, generator)
        The neocortical generator that each one goes with.
    rng : torch.Generator
        Random numbers.

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
    # Neocortical involvement: partners follow after 10-40 ms, or nobody does.
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


def spike_train(scenario: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw when spikes peak, and how high: a Poisson train of 3 to 75 a minute.

    Parameters
    ----------
    scenario : Tensor of int, shape (batch,)
        There are none except in ``'spikes'``.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    train : Tensor of shape (batch, n_times)
        Relative height, 0.6 to 1.4, at peaks, 0 elsewhere.
    """
    spiking = (scenario == SCENARIOS.index("spikes")).float()[:, None]
    rate = 10 ** uniform(-1.3, 0.1, (len(scenario), 1), rng)
    train = poisson_train(rate, n_times, rng)
    return train * spiking * uniform(0.6, 1.4, train.shape, rng)


def seizure(
    scenario: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw a seizure: a rhythm of 2-8 Hz that builds up, slows and stops.

    Seizures of the temporal lobe last one to two minutes (Jenssen et al. 2006,
    Epilepsia 47:1499) and start with a rhythm that grows within 5 to 26 s.

    Parameters
    ----------
    scenario : Tensor of int, shape (batch,)
        There is none except in ``'ictal'``.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    rhythm : Tensor of shape (batch, n_times)
        In units of the amplitude of a spike.
    envelope : Tensor of shape (batch, n_times)
        0 to 1. The seizure may have begun before the recording and go on after it.
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


def add_events(
    activity: Tensor, focus: Focus, scenario: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Add interictal spikes or a seizure to a mesial focus and its partners.

    Parameters
    ----------
    activity : Tensor of shape (batch, generator, time)
        Ongoing activity of unit variance, changed in place.
    focus : Focus
        Where events come from.
    scenario : Tensor of int, shape (batch,)
        ``'spikes'``, ``'ictal'`` or nothing.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    activity : Tensor of shape (batch, generator, time)
        With events.
    spikes : Tensor of shape (batch, time)
        Height of spikes at their peaks.
    seizure : Tensor of shape (batch, time)
        Envelope of the seizure.
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
