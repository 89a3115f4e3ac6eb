"""Recordings whose sources are not those of the prior: coupled neural masses.

The weights are trained on Gaussian noise, rhythms and transients. Here a column of
Jansen & Rit stands behind every generator: non-linear, not Gaussian, rhythmic by its
own dynamics, spiking by its own excitability. What was trained on the prior can so be
judged where the prior is wrong.
"""

import torch
from torch import Tensor

from .events import Focus, seizure
from .recordings import Pairs, Traits, draw_traits, record
from .setups import Company, Setups, Worlds
from .sources import (
    MESIAL,
    SCENARIOS,
    SFREQ,
    STRUCTURES,
    Cast,
    Coupling,
    band_response,
    draw_scenarios,
    normal,
    uniform,
)

# Jansen & Rit 1995, Biol Cybern 73:357: gains in mV, rates in 1/s, number of
# synapses, and the sigmoid from membrane potential to firing rate.
_A, _B, _RATE_A, _RATE_B = 3.25, 22.0, 100.0, 50.0
_SYNAPSES = (135.0, 0.8 * 135, 0.25 * 135, 0.25 * 135)
_HALF_RATE, _THRESHOLD, _SLOPE = 2.5, 6.0, 0.56
# Their input: pulses a second, uniform between 120 and 320, drawn every millisecond.
_INPUT_STD = 200 / 12**0.5
# Steps of integration in a sample at 128 Hz, and seconds until columns have settled.
_STEPS, _SETTLING = 8, 1
# Pulses a second that a column gets for a partner's firing rate of one a second.
_DRIVE = 60.0
# How fast columns are, in units of Jansen & Rit's 10 Hz, in deep structures, in the
# lateral temporal lobe and elsewhere.
_PACES = ((0.35, 0.8), (0.5, 1.1), (0.8, 1.3))


def firing_rate(potential: Tensor) -> Tensor:
    """Return the firing rate of a population at a mean membrane potential.

    Parameters
    ----------
    potential : Tensor
        Millivolts.

    Returns
    -------
    rate : Tensor
        1/s; 0 to 5, 2.5 at 6 mV.
    """
    return 2 * _HALF_RATE * torch.sigmoid(_SLOPE * (potential - _THRESHOLD))


def column_derivatives(state: Tensor, pulses: Tensor, excitation, pace) -> Tensor:
    """Return the right-hand side of a column's six differential equations.

    ``pace`` scales all rates and gains together, which leaves the dynamics as they
    are, only faster or slower: David & Friston 2003, NeuroImage 20:1743.

    Parameters
    ----------
    state : Tensor of shape (6, ...)
        Postsynaptic potentials of the pyramidal cells' output, their excitation and
        their inhibition in mV, and the derivatives of the three.
    pulses : Tensor of shape (...)
        Input in pulses a second.
    excitation, pace : Tensor | float
        Excitatory gain and rates, 1 for those of Jansen & Rit.

    Returns
    -------
    derivatives : Tensor of shape (6, ...)
        In units of the state per second.
    """
    c1, c2, c3, c4 = _SYNAPSES
    output, excited, inhibited, *slopes = state
    drives = (
        firing_rate(excited - inhibited),
        pulses + c2 * firing_rate(c1 * output),
        c4 * firing_rate(c3 * output),
    )
    gains = (excitation * _A, excitation * _A, _B)
    rates = (_RATE_A, _RATE_A, _RATE_B)
    bends = [
        pace**2 * rate * (gain * drive - rate * level) - 2 * pace * rate * slope
        for gain, rate, drive, level, slope in zip(
            gains, rates, drives, state[:3], slopes, strict=True
        )
    ]
    return torch.stack([*slopes, *bends])


def column_activity(
    cast: Cast,
    coupling: Coupling,
    focus: Focus,
    scenario: Tensor,
    n_times: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw the activity of one column for each generator.

    Columns of a region share a part of their input, mesial ones are driven by their
    partners after the coupling's lag. In the scenarios ``'spikes'`` and ``'ictal'``
    columns of the focus are more excitable, which makes them spike (Wendling et al.
    2000, Biol Cybern 83:367).

    Parameters
    ----------
    cast : Cast
        Who plays.
    coupling : Coupling
        Who drives whom, how strongly and how late.
    focus : Focus
        Which columns are excitable.
    scenario : Tensor of int, shape (batch,)
        Index into :data:`~.sources.SCENARIOS`.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    activity : Tensor of shape (batch, generator, n_times)
        Zero mean, unit variance, 0.5-50 Hz.
    envelope : Tensor of shape (batch, n_times)
        Of the seizure.
    """
    n_batch, shape = len(cast), cast.structure.shape
    regions = (n_batch, 2 * len(STRUCTURES))
    kind = (cast.structure - MESIAL + 1).clamp(0, 2)
    low, high = torch.tensor(_PACES, device=rng.device)[kind].unbind(-1)
    pace = low + (high - low) * uniform(0, 1, regions, rng).gather(1, cast.region)
    level = uniform(80, 300, regions, rng).gather(1, cast.region)
    shared = uniform(0, 0.8, (n_batch, 1), rng)
    free = (scenario == SCENARIOS.index("uncoupled"))[:, None]
    drive = _DRIVE * torch.where(free, 0.0, coupling.strength)
    lag = coupling.lag * _STEPS
    envelope = seizure(scenario, n_times, rng)[1]
    spiking = (scenario == SCENARIOS.index("spikes")).float()[:, None]
    excess = 0.12 * spiking + uniform(0.15, 0.5, (n_batch, 1), rng) * envelope
    at_focus = (focus.home != 0).float()

    step = 1 / (SFREQ * _STEPS)
    state = torch.zeros(6, *shape, device=rng.device)
    past = torch.full((int(lag.max()) + 1, *shape), _HALF_RATE, device=rng.device)
    series = torch.empty(n_times, *shape, device=rng.device)
    for k in range(-_SETTLING * SFREQ, n_times):
        excitation = 1 + at_focus * excess[:, max(k, 0), None]
        mean = torch.zeros(shape, device=rng.device)
        for _ in range(_STEPS):
            noise = shared.sqrt() * normal(regions, rng).gather(1, cast.region)
            noise = noise + (1 - shared).sqrt() * normal(shape, rng)
            driver = past.gather(0, lag[None])[0].gather(1, coupling.partner)
            pulses = level + _INPUT_STD * noise + drive * (driver - _HALF_RATE)
            state = state + step * column_derivatives(state, pulses, excitation, pace)
            potential = state[1] - state[2]
            past = torch.cat([firing_rate(potential)[None], past[:-1]])
            mean += potential / _STEPS
        if k >= 0:
            series[k] = mean
    series = series.movedim(0, -1)
    spectrum = torch.fft.rfft(series) * band_response(n_times, rng.device)
    series = torch.fft.irfft(spectrum, n=n_times)
    return series / series.std(-1, keepdim=True).clamp_min(1e-6), envelope


def simulate_neural_masses(
    setups: Setups,
    worlds: Worlds,
    company: Company,
    n_seconds: int,
    rng: torch.Generator,
    n_generators: int = 256,
    scenario: Tensor | None = None,
    traits: Traits | None = None,
    artifacts: bool = True,
) -> Pairs:
    """Simulate one recording per setup from coupled neural masses.

    Parameters and output are those of :func:`~.recordings.simulate`. Spikes happen
    when columns come to them, so that ``spikes`` and ``theta`` of the answer are
    zero.

    Parameters
    ----------
    setups : Setups
        The virtual patients, on the generator's device.
    worlds : Worlds
        Their true gains.
    company : Company
        What is known of the generators.
    n_seconds : int
        Length.
    rng : torch.Generator
        Random numbers; its device does the work.
    n_generators : int
        Generators that play in a recording, where no ``traits`` are given.
    scenario : Tensor of int, shape (batch,) | None
        None draws it.
    traits : Traits | None
        What the patients bring along from other sessions; None draws it.
    artifacts : bool
        Whether the scalp shows more than the brain and the noise of sensors.

    Returns
    -------
    pairs : Pairs
        The recordings.
    """
    if scenario is None:
        scenario = draw_scenarios(len(setups), rng)
    if traits is None:
        traits = draw_traits(setups, worlds, company, rng, n_generators)
    n_times = n_seconds * SFREQ
    activity, envelope = column_activity(
        traits.cast, traits.coupling, traits.focus, scenario, n_times, rng
    )
    scalp, deep, shown = record(setups, worlds, traits, activity, artifacts, rng)
    return Pairs(
        scalp,
        deep,
        scenario,
        traits.focus,
        torch.zeros_like(envelope),
        envelope,
        torch.zeros_like(envelope)[:, None].expand(-1, 2, -1),
        shown,
    )
