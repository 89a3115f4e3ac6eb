"""Simulate recordings with sources outside the prior: coupled neural masses.

The weights are trained on Gaussian noise, rhythms and transients. Here, each generator
is a cortical column of Jansen & Rit. Its activity is non-linear and not Gaussian, with
rhythms from its own dynamics and spikes from its own excitability. Such recordings show
the performance of the weights where the prior is wrong.
"""

from dataclasses import dataclass
from math import exp, log

import torch
from torch import Tensor

from mne_neuroflow.contract import SFREQ
from mne_neuroflow.head.geometry import STRUCTURES
from mne_neuroflow.simulation.events import Focus, seizure
from mne_neuroflow.simulation.recordings import Pairs, Traits, draw_traits, record
from mne_neuroflow.simulation.setups import GeneratorTable, Setups, Worlds
from mne_neuroflow.simulation.sources import (
    MESIAL,
    SCENARIOS,
    ActiveSources,
    Batched,
    Coupling,
    band_response,
    chance,
    draw_scenarios,
    log_normal,
    normal,
    uniform,
)

# Jansen & Rit 1995, Biol Cybern 73:357: gains in mV, rates in 1/s, number of
# synapses, and the sigmoid from membrane potential to firing rate.
_A, _B, _RATE_A, _RATE_B = 3.25, 22.0, 100.0, 50.0
_SYNAPSES = (135.0, 0.8 * 135, 0.25 * 135, 0.25 * 135)
_HALF_RATE, _THRESHOLD, _SLOPE = 2.5, 6.0, 0.56
# Input in pulses per second, uniform between 120 and 320, drawn every millisecond.
_INPUT_STD = 200 / 12**0.5
# Steps of integration in a sample at 128 Hz, and seconds until columns have settled.
_STEPS, _SETTLING = 8, 2
# Pulses a second that a column gets for a partner's firing rate of one a second.
_DRIVE = 60.0
# Speed of columns in units of Jansen & Rit's 10 Hz: with the rhythm of a deep
# structure, of the lateral temporal lobe or of another region, and all other columns.
_PACES, _ANY_PACE = ((0.35, 0.8), (0.5, 1.1), (0.8, 1.3)), (0.1, 5.0)
# Standard deviation of slow changes of the input, in pulses per second.
_TIDE_SECONDS, _TIDE = 1.0, 60.0
# Excitatory gain at a focus, as a share above that of other columns.
_SPIKING, _ICTAL = 0.12, (0.15, 0.5)


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


@dataclass(frozen=True)
class Columns(Batched):
    """The column of each generator.

    Attributes
    ----------
    pace : Tensor of shape (batch, generator)
        Speed of the column; 1 for that of Jansen & Rit.
    level : Tensor of shape (batch, generator)
        Mean input in pulses per second.
    amplitude : Tensor of shape (batch, generator)
        Standard deviation of its activity, with a mean square of about one.
    shared : Tensor of shape (batch, 1)
        Share of the input's variance that is common to the region.
    """

    pace: Tensor
    level: Tensor
    amplitude: Tensor
    shared: Tensor


def draw_columns(active: ActiveSources, rng: torch.Generator) -> Columns:
    """Draw the columns of patients.

    Some columns of a region have its rhythm. The speeds of the others are uniform on a
    logarithmic scale, with larger amplitudes at low speeds. Together they have a
    spectrum that falls with a power of the frequency.

    Parameters
    ----------
    active : ActiveSources
        Active sources.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    columns : Columns
        One row for each patient.
    """
    shape, per_patient = active.structure.shape, (len(active), 1)
    regions = (len(active), 2 * len(STRUCTURES))
    kind = (active.structure - MESIAL + 1).clamp(0, 2)
    low, high = torch.tensor(_PACES, device=rng.device)[kind].unbind(-1)
    rhythm = low + (high - low) * uniform(0, 1, regions, rng).gather(1, active.region)
    rhythm = rhythm * log_normal(0.08, shape, rng)
    slowest, fastest = (log(pace) for pace in _ANY_PACE)
    log_pace = uniform(slowest, fastest, shape, rng)
    share = uniform(0, 0.5, regions, rng).gather(1, active.region)
    keeps = chance(share, shape, rng) > 0
    # Log-uniform speeds give an exponent of one, and amplitudes add to it.
    slope = uniform(0, 0.5, per_patient, rng)
    amplitude = torch.exp(-slope * (log_pace - (slowest + fastest) / 2))
    amplitude = amplitude / amplitude.square().mean(1, keepdim=True).sqrt()
    level = uniform(60, 260, regions, rng).gather(1, active.region)
    return Columns(
        pace=torch.where(keeps, rhythm, log_pace.exp()),
        level=level + 40 * normal(shape, rng),
        amplitude=torch.where(keeps, 1.0, amplitude),
        shared=uniform(0, 0.3, per_patient, rng),
    )


def column_activity(
    active: ActiveSources,
    coupling: Coupling,
    focus: Focus,
    scenario: Tensor,
    n_times: int,
    rng: torch.Generator,
    columns: Columns | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw the activity of one column for each generator.

    Columns of a region share a part of their input, and mesial columns receive input
    from their partners after the lag of the coupling. In the scenarios ``'spikes'`` and
    ``'ictal'``, columns of the focus are more excitable, which causes spikes (Wendling
    et al. 2000, Biol Cybern 83:367) and larger amplitudes. ``'theta'`` and
    ``'slowing'`` are the same as ``'rest'``.

    Parameters
    ----------
    active : ActiveSources
        Active sources.
    coupling : Coupling
        The coupling of columns.
    focus : Focus
        The columns with larger excitability.
    scenario : Tensor of int, shape (batch,)
        Index into :data:`~.sources.SCENARIOS`.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.
    columns : Columns | None
        None draws them.

    Returns
    -------
    activity : Tensor of shape (batch, generator, n_times)
        Activity within 0.5-50 Hz with zero mean. Outside a focus with spikes, its
        standard deviation is the amplitude of the columns.
    envelope : Tensor of shape (batch, n_times)
        Of the seizure.
    """
    if columns is None:
        columns = draw_columns(active, rng)
    envelope = seizure(scenario, n_times, rng)[1]
    spiking = (scenario == SCENARIOS.index("spikes")).float()[:, None]
    excess = _SPIKING * spiking + uniform(*_ICTAL, (len(active), 1), rng) * envelope
    at_focus = (focus.home != 0) & (excess.amax(1, keepdim=True) > 0)
    excess = at_focus[..., None] * excess[:, None]
    free = (scenario == SCENARIOS.index("uncoupled"))[:, None]
    drive = _DRIVE * torch.where(free, 0.0, coupling.strength)
    series = _in_band(_integrate(active, coupling, columns, drive, excess, rng))
    std = series.std(-1, keepdim=True)
    # A focus may exceed its amplitude, by as much as its columns are excitable.
    usual = torch.where(at_focus[..., None], torch.nan, std).nanmedian(1, keepdim=True)
    std = torch.where(at_focus[..., None], usual.values, std)
    return columns.amplitude[..., None] * series / std.clamp_min(1e-6), envelope


def _integrate(active, coupling, columns, drive, excess, rng):
    """Integrate all columns by Euler's method.

    Returns the potentials from the settling on, (batch, generator, time).
    """
    shape, regions = active.structure.shape, (len(active), 2 * len(STRUCTURES))
    step, lag = 1 / (SFREQ * _STEPS), coupling.lag * _STEPS
    own, common = (1 - columns.shared).sqrt(), columns.shared.sqrt()
    # Slow input is an autoregressive process of the first order.
    stay = exp(-1 / (SFREQ * _TIDE_SECONDS))

    def inputs():
        """Draw noise that is white in time and partly common to a region."""
        alike = normal(regions, rng).gather(1, active.region)
        return common * alike + own * normal(shape, rng)

    state = torch.zeros(6, *shape, device=rng.device)
    state[1] = uniform(0, 20, shape, rng)  # columns begin with different phases
    tide = inputs()
    rates = torch.full((int(lag.max()) + 1, *shape), _HALF_RATE, device=rng.device)
    series = []
    for k in range(-_SETTLING * SFREQ, excess.shape[-1]):
        excitation = 1 + excess[..., max(k, 0)]
        tide = stay * tide + (1 - stay**2) ** 0.5 * inputs()
        level = columns.level + _TIDE * tide
        mean = torch.zeros(shape, device=rng.device)
        for n in range(k * _STEPS, (k + 1) * _STEPS):
            # The latest rates are in a ring buffer.
            late = rates.gather(0, ((n - 1 - lag) % len(rates))[None])[0]
            driven = drive * (late.gather(1, coupling.partner) - _HALF_RATE)
            pulses = level + _INPUT_STD * inputs() + driven
            change = column_derivatives(state, pulses, excitation, columns.pace)
            state = state + step * change
            potential = state[1] - state[2]
            rates[n % len(rates)] = firing_rate(potential)
            mean += potential / _STEPS
        series.append(mean)
    return torch.stack(series, -1)


def _in_band(series):
    """Filter to 0.5-50 Hz, and remove the settling time."""
    # The filter is periodic, so the settling time connects the end to the beginning.
    n_settling = _SETTLING * SFREQ
    fade = torch.linspace(0, 1, n_settling, device=series.device)
    settling = series[..., -1:].lerp(series[..., :n_settling], fade)
    series = torch.cat([settling, series[..., n_settling:]], -1)
    n_times = series.shape[-1]
    spectrum = torch.fft.rfft(series) * band_response(n_times, series.device)
    return torch.fft.irfft(spectrum, n=n_times)[..., n_settling:]


def simulate_neural_masses(
    setups: Setups,
    worlds: Worlds,
    all_generators: GeneratorTable,
    n_seconds: int,
    rng: torch.Generator,
    n_generators: int = 256,
    scenario: Tensor | None = None,
    traits: Traits | None = None,
    artifacts: bool = True,
) -> Pairs:
    """Simulate one recording per setup from coupled neural masses.

    Parameters and results are those of :func:`~.recordings.simulate`. Spikes occur by
    the dynamics of columns, and ``spikes`` and ``theta`` of the result are zero.

    Parameters
    ----------
    setups : Setups
        The virtual patients, on the generator's device.
    worlds : Worlds
        Their true gains.
    all_generators : GeneratorTable
        The properties of the generators.
    n_seconds : int
        Length.
    rng : torch.Generator
        Random numbers. Its device does the computation.
    n_generators : int
        Number of sources active in a recording, if ``traits`` is None.
    scenario : Tensor of int, shape (batch,) | None
        None draws it.
    traits : Traits | None
        Properties of the patients from other sessions. None draws them.
    artifacts : bool
        Whether to add artifacts to the scalp EEG. Sensor noise is always added.

    Returns
    -------
    pairs : Pairs
        The recordings.
    """
    if scenario is None:
        scenario = draw_scenarios(len(setups), rng)
    if traits is None:
        traits = draw_traits(setups, worlds, all_generators, rng, n_generators)
    n_times = n_seconds * SFREQ
    activity, envelope = column_activity(
        traits.active, traits.coupling, traits.focus, scenario, n_times, rng
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
