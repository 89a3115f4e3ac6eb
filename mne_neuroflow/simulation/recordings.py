"""Pairs of scalp and intracranial EEG of virtual patients, in batches.

Examples
--------
Four seconds of a virtual patient with two contacts, in volts:

>>> from mne_neuroflow.head.geometry import load_head
>>> from mne_neuroflow.simulation.setups import build_patient
>>> head, rng = load_head(), torch.Generator().manual_seed(0)
>>> contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
>>> setups, worlds = build_patient(head.scalp.rr[::40], contacts, seed=0)
>>> pairs = simulate(setups, worlds, GeneratorTable.from_head(head), 4, rng)
>>> pairs.deep.shape
torch.Size([1, 2, 512])
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .._docs import fill_doc
from ..contract import SFREQ
from ..head.geometry import STRUCTURES
from .artifacts import Artifacts, contaminate, sensor_noise
from .events import Focus, add_events, draw_focus
from .setups import GeneratorTable, Setups, Worlds
from .sources import (
    MESIAL,
    ActiveSources,
    Batched,
    Coupling,
    Spectra,
    background,
    band_response,
    chance,
    coloured,
    couple,
    draw_coupling,
    draw_scenarios,
    draw_spectra,
    log_normal,
    normal,
    uniform,
)

# Contact potentials that do not come from patches (10 µV in the spatial posterior):
# tissue at the contact's surface, and the amplifier's white noise.
_LOCAL_STD, _AMPLIFIER_STD = 9.8e-6, 1.5e-6
# Log-normal amplitude of contacts: a smooth field and each contact's own.
_FIELD_SIGMA, _OWN_SIGMA, _FIELD_LENGTH, _N_WAVES = 0.5, 0.25, 0.012, 64
# Seconds simulated beyond a window, so that windows are not periodic.
_SPARE = 2


@dataclass(frozen=True)
class Pairs:
    """A batch of simulated recordings.

    Attributes
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        The scalp EEG with average reference in volts. Padded rows are zero.
    deep : Tensor of shape (batch, contact, time)
        Contact potentials in volts.
    scenario : Tensor of int, shape (batch,)
        An index into :data:`~.sources.SCENARIOS`.
    focus : Focus
        The origin of spikes and seizures.
    spikes : Tensor of shape (batch, time)
        Relative height of spikes at the samples of their peaks at the focus.
    seizure : Tensor of shape (batch, time)
        Envelope of the seizure, 0 to 1.
    theta : Tensor of shape (batch, 2, time)
        Above 0.5 during a bout of theta in the left and the right medial temporal
        lobe.
    artifacts : Artifacts | None
        The artifacts of the scalp EEG.
    """

    scalp: Tensor
    deep: Tensor
    scenario: Tensor
    focus: Focus
    spikes: Tensor
    seizure: Tensor
    theta: Tensor
    artifacts: Artifacts | None


@dataclass(frozen=True)
class Traits(Batched):
    """Properties of a patient that are the same in every recording.

    Attributes
    ----------
    index : Tensor of int, shape (batch, generator)
        Columns of the gains: the active sources.
    active : ActiveSources
        The structures of the active sources.
    amplitude : Tensor of shape (batch, generator)
        Their strengths.
    spectra : Spectra
        Their spectra.
    coupling : Coupling
        The coupling of mesial structures with the neocortex.
    focus : Focus
        The origin of events.
    tissue : Tensor of shape (batch, contact, 1)
        The local amplitude factor of each contact.
    local_exponent, local_level : Tensor of shape (batch, contact, 1)
        Spectral exponent and amplitude in volts of activity at the contact itself.
    gain : Tensor of shape (batch, 1, 1)
        The gain of scalp and contacts.
    mismatched : Tensor of shape (batch, 1, 1)
        1 if the scalp EEG is that of another time.
    """

    index: Tensor
    active: ActiveSources
    amplitude: Tensor
    spectra: Spectra
    coupling: Coupling
    focus: Focus
    tissue: Tensor
    local_exponent: Tensor
    local_level: Tensor
    gain: Tensor
    mismatched: Tensor


@fill_doc
def draw_traits(
    setups: Setups,
    worlds: Worlds,
    all_generators: GeneratorTable,
    rng: torch.Generator,
    n_generators: int = 256,
) -> Traits:
    """Draw the properties of patients that are the same in every recording.

    Parameters
    ----------
    setups : Setups
        The virtual patients, on the generator's device.
    worlds : Worlds
        Their true gains.
    all_generators : GeneratorTable
        The properties of all sources.
    %(rng)s
    n_generators : int
        The number of active sources.

    Returns
    -------
    traits : Traits
        One row for each setup. Several calls of :func:`simulate` with the same traits
        are several sessions of the same patients.
    """
    index, amplitude = choose_generators(worlds.of(setups), n_generators, rng)
    active = ActiveSources(
        all_generators.structure[index], all_generators.hemisphere[index]
    )
    coupling = draw_coupling(active, rng)
    per_contact, per_patient = (*setups.deep_rows.shape, 1), (len(setups), 1, 1)
    return Traits(
        index=index,
        active=active,
        amplitude=amplitude * amplitudes(active, all_generators.group[index], rng),
        spectra=draw_spectra(active, rng),
        coupling=coupling,
        focus=draw_focus(active, coupling.partner, rng),
        tissue=contact_amplitudes(setups.contacts, rng),
        local_exponent=uniform(0.6, 2.0, per_contact, rng),
        local_level=_LOCAL_STD * log_normal(0.5, per_contact, rng),
        gain=torch.exp(0.4 * normal(per_patient, rng)),
        # In one recording in twelve, the scalp EEG is that of another time.
        mismatched=chance(1 / 12, per_patient, rng),
    )


def choose_generators(
    gains: tuple[Tensor, Tensor], n_generators: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Choose the sources active in each recording, strong ones more often.

    Amplitudes compensate for the choice, so that the mean covariance over choices is
    that of all sources together.

    Returns
    -------
    index : Tensor of int, shape (batch, n_generators)
        Columns of the gains.
    amplitude : Tensor of shape (batch, n_generators)
        Root of one over (n_generators × probability).
    """
    shares = []
    for part in gains:
        power = part.square()
        power = (power / power.sum(-1, keepdim=True).clamp_min(1e-30)).sum(1)
        shares.append(power / power.sum(-1, keepdim=True))
    even = torch.full_like(shares[0], 1 / shares[0].shape[-1])
    probability = 0.3 * shares[0] + 0.5 * shares[1] + 0.2 * even
    index = torch.multinomial(probability, n_generators, True, generator=rng)
    chosen = probability.gather(1, index)
    return index, (n_generators * chosen).rsqrt()


def amplitudes(active: ActiveSources, group: Tensor, rng: torch.Generator) -> Tensor:
    """Draw the amplitude of each source, with unit mean square.

    The ratio of mesial structures to cortex varies, and so do structures, length scales
    and single sources.
    """
    n_batch = len(group)
    region = log_normal(0.55, (n_batch, 2 * len(STRUCTURES)), rng)
    ratio = log_normal(0.5, (n_batch, 1), rng)
    scale = log_normal(0.35, (n_batch, 5), rng)
    own = log_normal(0.3, group.shape, rng)
    mesial = torch.where(active.structure < MESIAL, ratio, torch.ones_like(ratio))
    return region.gather(1, active.region) * mesial * scale.gather(1, group) * own


@fill_doc
def contact_amplitudes(contacts: Tensor, rng: torch.Generator) -> Tensor:
    """Draw a local amplitude factor of each contact, with unit mean square.

    It consists of a field that is smooth over about 12 mm (grey or white matter, a
    sclerotic or healthy hippocampus) and of a part that is independent at each contact.
    The scalp EEG does not show it. Together with the amplitudes of the sources, it
    makes the amplitude of a contact uncertain by a factor of two between recordings.

    Parameters
    ----------
    contacts : Tensor of shape (batch, contact, 3)
        Metres.
    %(rng)s

    Returns
    -------
    amplitude : Tensor of shape (batch, contact, 1)
        Factors.
    """
    n_batch, n_contacts, _ = contacts.shape
    # Random Fourier features of a Gaussian kernel (Rahimi & Recht 2007).
    waves = normal((n_batch, 3, _N_WAVES), rng) / _FIELD_LENGTH
    phase = contacts @ waves + uniform(0, 6.2832, (n_batch, 1, _N_WAVES), rng)
    field = torch.cos(phase).sum(-1) * (2 / _N_WAVES) ** 0.5
    own = normal((n_batch, n_contacts), rng)
    exponent = _FIELD_SIGMA * field + _OWN_SIGMA * own
    return torch.exp(exponent - _FIELD_SIGMA**2 - _OWN_SIGMA**2)[..., None]


@fill_doc
def contact_noise(
    exponent: Tensor, level: Tensor, n_times: int, rng: torch.Generator
) -> Tensor:
    """Draw activity at the surface of each contact and amplifier noise, in volts.

    Parameters
    ----------
    exponent, level : Tensor of shape (batch, contact, 1)
        Spectral exponent and amplitude in volts of the contact's own activity.
    %(n_times)s
    %(rng)s

    Returns
    -------
    noise : Tensor of shape (batch, contact, n_times)
        Volts.
    """
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    power = band_response(n_times, rng.device).square()
    power = power / frequency.clamp_min(0.3) ** exponent
    local = coloured(power, n_times, rng) * level
    return local + _AMPLIFIER_STD * normal(local.shape, rng)


def simulate(
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
    """Simulate one recording per setup.

    Parameters
    ----------
    setups : Setups
        The virtual patients, on the generator's device.
    worlds : Worlds
        Their true gains.
    all_generators : GeneratorTable
        The properties of the generators.
    n_seconds : int
        The duration in seconds.
    rng : torch.Generator
        Random numbers. Its device does the computation.
    n_generators : int
        The number of sources active in a recording, if ``traits`` is None.
    scenario : Tensor of int, shape (batch,) | None
        The scenarios. None draws them.
    traits : Traits | None
        The properties of the patients from other sessions. None draws them.
    artifacts : bool
        Whether to add artifacts to the scalp EEG. Sensor noise is always added.

    Returns
    -------
    pairs : Pairs
        The recordings.

    See Also
    --------
    draw_traits
    """
    if scenario is None:
        scenario = draw_scenarios(len(setups), rng)
    if traits is None:
        traits = draw_traits(setups, worlds, all_generators, rng, n_generators)
    n_times = (n_seconds + _SPARE) * SFREQ
    activity, theta = background(
        traits.active, traits.spectra, traits.focus.side, scenario, n_times, rng
    )
    activity = couple(activity, traits.coupling, scenario)
    activity, spikes, seizure = add_events(activity, traits.focus, scenario, rng)
    scalp, deep, shown = record(setups, worlds, traits, activity, artifacts, rng)
    n_times = n_seconds * SFREQ
    return Pairs(
        scalp[..., :n_times],
        deep[..., :n_times],
        scenario,
        traits.focus,
        spikes[:, :n_times],
        seizure[:, :n_times],
        theta[..., :n_times],
        shown.crop(n_times) if artifacts else None,
    )


@fill_doc
def record(
    setups: Setups,
    worlds: Worlds,
    traits: Traits,
    activity: Tensor,
    artifacts: bool,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, Artifacts | None]:
    """Compute the potentials of sources at the scalp and at the contacts.

    Parameters
    ----------
    setups : Setups
        The virtual patients.
    worlds : Worlds
        Their true gains.
    traits : Traits
        The amplitudes of their sources and contacts.
    activity : Tensor of shape (batch, generator, time)
        The activity with unit variance, changed in place.
    artifacts : bool
        Whether to add artifacts to the scalp EEG. Sensor noise is always added.
    %(rng)s

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        Volts against the average reference.
    deep : Tensor of shape (batch, contact, time)
        Volts.
    shown : Artifacts | None
        The artifacts of the scalp EEG.
    """
    n_times = activity.shape[-1]
    activity *= traits.amplitude[..., None]
    scalp_gains, deep_gains = (_take(part, traits.index) for part in worlds.of(setups))
    local = contact_noise(traits.local_exponent, traits.local_level, n_times, rng)
    deep = traits.gain * (traits.tissue * (deep_gains @ activity) + local)
    scalp = scalp_gains @ activity
    later = torch.roll(scalp, n_times // 2, -1)
    scalp = traits.gain * torch.where(traits.mismatched > 0, later, scalp)
    shown = None
    if artifacts:
        scalp, shown = contaminate(scalp, setups.electrodes, setups.used, rng)
    else:
        scalp = scalp + sensor_noise(setups.electrodes, n_times, rng)
    used = setups.used[..., None]
    scalp = scalp * used
    scalp = (scalp - scalp.sum(1, keepdim=True) / used.sum(1, keepdim=True)) * used
    return scalp, deep, shown


def _take(gains: Tensor, index: Tensor) -> Tensor:
    """Columns of the gains of the sources active in each recording."""
    return gains.gather(2, index[:, None].expand(-1, gains.shape[1], -1))


def electrode_rms(scalp: Tensor) -> Tensor:
    """Return the median over seconds of the r.m.s. of each electrode, in volts."""
    patches = scalp.unflatten(-1, (-1, SFREQ))
    return patches.square().mean(-1).sqrt().median(-1).values
