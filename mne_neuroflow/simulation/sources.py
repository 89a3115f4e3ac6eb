"""Ongoing activity of the generators: spectra, rhythms and coupling.

Everything is drawn on the device of the random number generator. Functions named
``draw_*`` draw properties of a patient, and the others what is new in every recording.
Activity has unit variance on average, so that the second moments of a simulated cohort
are those of the spatial prior.

Examples
--------
Ten seconds of aperiodic noise that falls with the square of the frequency:

>>> rng = torch.Generator().manual_seed(0)
>>> frequency = torch.fft.rfftfreq(10 * SFREQ, 1 / SFREQ)
>>> power = aperiodic_power(frequency, torch.tensor(2.0), torch.tensor(1.0))
>>> coloured(power, 10 * SFREQ, rng).shape
torch.Size([1280])
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .._docs import fill_doc
from ..contract import SFREQ
from ..head.geometry import STRUCTURES

SCENARIOS = ("rest", "theta", "slowing", "spikes", "ictal", "uncoupled")
SCENARIO_SHARE = (0.30, 0.18, 0.10, 0.20, 0.10, 0.12)
MAX_LAG = 5  # samples: 39 ms, from deep to cortical or back
_SOFTNESS = 0.1  # of the edges of a bout, in standard deviations of its noise
MESIAL = 3  # the first three structures are the medial temporal lobe


class Batched:
    """A batch with one row per recording, of tensors and of other batches."""

    def __len__(self):
        return len(getattr(self, fields(self)[0].name))

    def to(self, device):
        """Move to a device."""
        return self._map(lambda part: part.to(device))

    def pick(self, index):
        """Select rows, in this order. A row may be selected twice."""
        return self._map(
            lambda part: part.pick(index) if isinstance(part, Batched) else part[index]
        )

    def _map(self, change):
        return type(self)(
            **{f.name: change(getattr(self, f.name)) for f in fields(self)}
        )


@dataclass(frozen=True)
class ActiveSources(Batched):
    """The sources active in each recording of a batch.

    Attributes
    ----------
    structure : Tensor of int, shape (batch, generator)
        Index into :data:`~mne_neuroflow.head.geometry.STRUCTURES`.
    hemisphere : Tensor of int, shape (batch, generator)
        0 left, 1 right.
    """

    structure: Tensor
    hemisphere: Tensor

    @property
    def region(self) -> Tensor:
        """Return structure and hemisphere as one index, 0 to 15."""
        return self.structure + len(STRUCTURES) * self.hemisphere


def uniform(low: float, high: float, shape, rng: torch.Generator) -> Tensor:
    """Draw uniformly on the generator's device."""
    unit = torch.rand(shape, generator=rng, device=rng.device)
    return low + (high - low) * unit


def normal(shape, rng: torch.Generator) -> Tensor:
    """Draw standard normals on the generator's device."""
    return torch.randn(shape, generator=rng, device=rng.device)


def log_normal(sigma: float, shape, rng: torch.Generator) -> Tensor:
    """Draw amplitudes whose mean square is one."""
    return torch.exp(sigma * normal(shape, rng) - sigma**2)


def chance(probability: float, shape, rng: torch.Generator) -> Tensor:
    """Draw booleans as 0.0 and 1.0."""
    unit = torch.rand(shape, generator=rng, device=rng.device)
    return (unit < probability).float()


def poisson_train(rate: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw events at rates per second, (batch, 1), as 0 and 1 in (batch, n_times)."""
    unit = torch.rand((len(rate), n_times), generator=rng, device=rng.device)
    return (unit < rate / SFREQ).float()


def convolved(train: Tensor, waveform: Tensor) -> Tensor:
    """Place a waveform at each event, with its middle at the time of the event.

    Parameters
    ----------
    train : Tensor of shape (..., time)
        Heights of events.
    waveform : Tensor of shape (..., time)
        With time zero in the middle, sample ``time // 2``.

    Returns
    -------
    series : Tensor of shape (..., time)
        Periodic.
    """
    waveform = torch.roll(waveform, -(waveform.shape[-1] // 2), -1)
    product = torch.fft.rfft(train) * torch.fft.rfft(waveform)
    return torch.fft.irfft(product, n=train.shape[-1])


def band_response(n_times: int, device) -> Tensor:
    """Return the amplitude response of the model's band of 0.5-50 Hz.

    It has half-cosine flanks at 0.25-0.75 Hz and 50-62 Hz, as the filter of recordings
    at 128 Hz.
    """
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(device)
    rise = ((frequency - 0.25) / 0.5).clamp(0, 1)
    fall = ((62 - frequency) / 12).clamp(0, 1)
    return (0.5 - 0.5 * torch.cos(torch.pi * rise)) * (
        0.5 - 0.5 * torch.cos(torch.pi * fall)
    )


@fill_doc
def coloured(power: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw Gaussian noise of a given spectrum with unit variance.

    Parameters
    ----------
    power : Tensor of shape (..., n_times // 2 + 1)
        Spectral shape on the grid of a real Fourier transform.
    n_times : int
        Even number of samples.
    %(rng)s

    Returns
    -------
    noise : Tensor of shape (..., n_times)
        Periodic noise.
    """
    # The first and the last frequency have no negative counterpart. They have half the
    # variance of the others, and only a real part.
    twins = torch.full(power.shape[-1:], 2.0, device=rng.device)
    twins[[0, -1]] = 1
    power = power * (2 / twins) / (twins * power).sum(-1, keepdim=True).clamp_min(1e-30)
    spectrum = torch.randn(
        power.shape, generator=rng, device=rng.device, dtype=torch.complex64
    )
    spectrum *= power.sqrt()
    return torch.fft.irfft(spectrum, n=n_times, dim=-1, norm="forward")


def aperiodic_power(frequency: Tensor, exponent: Tensor, knee: Tensor) -> Tensor:
    """Spectral density ``1 / (knee**x + f**x)``, Donoghue et al. (2020).

    Parametrization of Donoghue et al., Nature Neuroscience 23:1655.
    """
    knee_term = knee[..., None] ** exponent[..., None]
    return 1 / (knee_term + frequency.clamp_min(0.1) ** exponent[..., None])


def bump_power(frequency: Tensor, centre: Tensor, width: Tensor) -> Tensor:
    """Gaussian spectral peak."""
    return torch.exp(-0.5 * ((frequency - centre[..., None]) / width[..., None]) ** 2)


# Rhythms of each structure: centre frequency range, bandwidth range (Hz), the
# largest share of variance they take and how often a recording has them.
# Alpha 8-12 Hz posterior, sensorimotor mu and beta, frontal theta and spindles
# 11-15 Hz: Niedermeyer's Electroencephalography (2018), chapters 7 and 27;
# human hippocampal theta 3-8 Hz in bouts: Lega et al. 2012, Hippocampus 22:748.
_RHYTHMS = {
    "hippocampus": ((3.0, 8.0), (0.4, 1.5), 0.6, 0.5),
    "amygdala": ((3.0, 9.0), (0.4, 2.0), 0.5, 0.4),
    "parahippocampal": ((3.0, 10.0), (0.4, 2.0), 0.5, 0.4),
    "temporal-lateral": ((4.0, 11.0), (0.5, 2.0), 0.5, 0.5),
    "frontal": ((4.0, 15.0), (0.4, 1.5), 0.4, 0.4),
    "parietal": ((8.0, 13.0), (0.5, 1.5), 0.7, 0.7),
    "occipital": ((8.0, 12.0), (0.4, 1.2), 0.8, 0.8),
    "insula": ((5.0, 12.0), (0.5, 2.0), 0.4, 0.3),
}


def draw_scenarios(n: int, rng: torch.Generator) -> Tensor:
    """Draw the scenario of each recording, an index into :data:`SCENARIOS`."""
    share = torch.tensor(SCENARIO_SHARE, device=rng.device)
    return torch.multinomial(share, n, replacement=True, generator=rng)


def _per_region(values: list, n_batch: int, device) -> Tensor:
    """Repeat a column of a table by structure for both hemispheres."""
    return torch.tensor(values, device=device).repeat(2).expand(n_batch, -1)


@dataclass(frozen=True)
class Spectra(Batched):
    """The spectra of a patient's generators at rest.

    Attributes
    ----------
    exponent, knee : Tensor of shape (batch, generator)
        Aperiodic part, see :func:`aperiodic_power`.
    centre, width, share : Tensor of shape (batch, region)
        Rhythm of each region: frequency and bandwidth in hertz, share of variance.
    centre_2, width_2, share_2 : Tensor of shape (batch, region)
        The second rhythm, delta or beta, whose envelope is that of the first.
    offset, part : Tensor of shape (batch, generator)
        The deviation of a single source: of the centre in hertz, and a factor of the
        shares.
    """

    exponent: Tensor
    knee: Tensor
    centre: Tensor
    width: Tensor
    share: Tensor
    centre_2: Tensor
    width_2: Tensor
    share_2: Tensor
    offset: Tensor
    part: Tensor


@fill_doc
def draw_spectra(active: ActiveSources, rng: torch.Generator) -> Spectra:
    """Draw the spectra of patients.

    Aperiodic exponents are between 0.6 and 2.8, with regional and local spread. Knees
    reach 10 Hz. Each region has a rhythm, which is similar on both sides. Three regions
    in ten have a second rhythm: delta of 1-3.5 Hz or beta of 14-28 Hz.

    Parameters
    ----------
    active : ActiveSources
        The active sources.
    %(rng)s

    Returns
    -------
    spectra : Spectra
        One row for each patient.
    """
    n, device = len(active), rng.device
    shape, own = (n, 2 * len(STRUCTURES)), active.structure.shape
    exponent = uniform(1.0, 2.5, (n, 1), rng) + 0.2 * normal(shape, rng)
    exponent = _gather(exponent, active) + 0.1 * normal(own, rng)
    knee = uniform(0, 10, shape, rng) * uniform(0, 1, shape, rng).square()
    rows = [_RHYTHMS[name] for name in STRUCTURES]
    low, high = (_per_region([row[0][k] for row in rows], n, device) for k in (0, 1))
    thin, wide = (_per_region([row[1][k] for row in rows], n, device) for k in (0, 1))
    most = _per_region([row[2] for row in rows], n, device)
    often = _per_region([row[3] for row in rows], n, device)
    # Both sides of a brain share most of a rhythm's frequency.
    both = uniform(0, 1, (n, len(STRUCTURES)), rng).repeat(1, 2)
    centre = low + (high - low) * (both + 0.05 * normal(shape, rng)).clamp(0, 1)
    present = (uniform(0, 1, (n, len(STRUCTURES)), rng).repeat(1, 2) < often).float()
    delta, second = chance(0.5, shape, rng), chance(0.3, shape, rng)
    slow, fast = uniform(1.0, 3.5, shape, rng), uniform(14, 28, shape, rng)
    return Spectra(
        exponent=exponent.clamp(0.6, 2.8),
        knee=_gather(knee, active),
        centre=centre,
        width=thin + (wide - thin) * uniform(0, 1, shape, rng),
        share=most * uniform(0.1, 1, shape, rng) * present,
        centre_2=delta * slow + (1 - delta) * fast,
        width_2=0.5 + (1 - delta) * uniform(0.5, 2.5, shape, rng),
        share_2=0.3 * uniform(0.15, 1, shape, rng) * second,
        offset=0.3 * normal(own, rng),
        part=uniform(0.4, 1.0, own, rng),
    )


def _rhythms_in(scenario: Tensor, spectra: Spectra, side: Tensor, rng):
    """Centre, bandwidth and share of every region's rhythm in a recording."""
    centre, width, share = spectra.centre, spectra.width, spectra.share
    n, shape = len(scenario), share.shape
    index = torch.arange(shape[1], device=rng.device)
    structure, hemisphere = index % len(STRUCTURES), index // len(STRUCTURES)
    theta = (scenario == SCENARIOS.index("theta"))[:, None] & (structure < MESIAL)
    centre = torch.where(theta, centre.clamp(3, 8), centre)
    share = torch.where(theta, uniform(0.3, 0.85, shape, rng), share)
    # Temporal slowing: 1-4 Hz over the temporal lobe of the focus.
    temporal = (structure <= MESIAL) & (hemisphere == side[:, None])
    slow = (scenario == SCENARIOS.index("slowing"))[:, None] & temporal
    centre = torch.where(slow, uniform(1.0, 4.0, (n, 1), rng), centre)
    width = torch.where(slow, uniform(0.4, 1.2, (n, 1), rng), width)
    share = torch.where(slow, uniform(0.4, 0.9, shape, rng), share)
    return centre, width, share


def _envelopes(n_times: int, depth: Tensor, rng: torch.Generator) -> Tensor:
    """Slow positive modulation with unit mean square, (batch, region, time)."""
    n_batch, n_regions = depth.shape
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    corner = 10 ** uniform(-0.8, 0.4, (n_batch, 1, 1), rng)
    power = torch.exp(-((frequency / corner) ** 2)).expand(-1, n_regions, -1)
    slow = coloured(power, n_times, rng)
    depth = depth[..., None]
    return torch.exp(depth * slow - depth**2)


@fill_doc
def bouts(n_times: int, share: Tensor, seconds: Tensor, rng: torch.Generator) -> Tensor:
    """Draw times of bouts, as a gate with soft edges.

    The gate is open while slow Gaussian noise with the spectrum ``exp(-(f / c)**2)`` is
    above a threshold. The threshold determines the share of time. The corner ``c``
    determines the mean duration by Rice's formula for the rate of crossings (Rice 1945,
    Bell Syst Tech J 24:46), ``c / sqrt(2) * exp(-threshold**2 / 2)`` per second.

    Parameters
    ----------
    %(n_times)s
    share : Tensor of shape (...,)
        The share of time in bouts, 0 to 1.
    seconds : Tensor of shape (...,)
        The mean duration of a bout in seconds.
    %(rng)s

    Returns
    -------
    gate : Tensor of shape (..., n_times)
        0 to 1, above 0.5 in a bout.
    """
    threshold = (2**0.5 * torch.erfinv(1 - 2 * share))[..., None]
    rate = (share / seconds)[..., None]
    corner = 2**0.5 * rate * torch.exp(0.5 * threshold**2)
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    slow = coloured(torch.exp(-((frequency / corner) ** 2)), n_times, rng)
    return torch.sigmoid((slow - threshold) / _SOFTNESS)


def _gate_power(share: Tensor, floor: float) -> Tensor:
    """Return the mean square of ``floor + (1 - floor) * gate``, by quadrature."""
    threshold = (2**0.5 * torch.erfinv(1 - 2 * share))[..., None]
    point = torch.linspace(-5, 5, 501, device=share.device)
    weight = torch.exp(-0.5 * point**2)
    gate = torch.sigmoid((point - threshold) / _SOFTNESS)
    value = (floor + (1 - floor) * gate).square()
    return (value * weight).sum(-1) / weight.sum()


def _theta_bouts(scenario: Tensor, n_times: int, rng: torch.Generator):
    """Return the gates of theta in each hemisphere and their envelopes.

    Theta of the medial temporal lobe occurs in bouts of some cycles, in a fifth to a
    half of the time (Lega et al. 2012, Hippocampus 22:748).
    """
    shape = (len(scenario), 2)
    share, seconds = uniform(0.15, 0.5, shape, rng), uniform(0.6, 2.5, shape, rng)
    gate = bouts(n_times, share, seconds, rng)
    floor = 0.15
    envelope = floor + (1 - floor) * gate
    envelope = envelope / _gate_power(share, floor).sqrt()[..., None]
    theta = (scenario == SCENARIOS.index("theta"))[:, None, None]
    mesial = torch.arange(len(STRUCTURES), device=rng.device) < MESIAL
    envelope = torch.where(
        (theta & mesial[:, None])[:, None], envelope[:, :, None], 1.0
    )
    return gate * theta, envelope.flatten(1, 2)


def _gather(per_region: Tensor, active: ActiveSources) -> Tensor:
    """Return the values of each source's region."""
    index = active.region
    if per_region.ndim == 3:
        index = index[..., None].expand(-1, -1, per_region.shape[-1])
    return per_region.gather(1, index)


@fill_doc
def background(
    active: ActiveSources,
    spectra: Spectra,
    side: Tensor,
    scenario: Tensor,
    n_times: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw ongoing activity: aperiodic activity and the rhythms of each region.

    Parameters
    ----------
    active : ActiveSources
        The active sources.
    spectra : Spectra
        The patients' spectra.
    side : Tensor of int, shape (batch,)
        The hemisphere with slow activity in the scenario ``'slowing'``.
    scenario : Tensor of int, shape (batch,)
        Index into :data:`SCENARIOS`.
    %(n_times)s
    rng : torch.Generator
        Random numbers. Its device does the computation.

    Returns
    -------
    activity : Tensor of shape (batch, generator, n_times)
        Unit variance on average, within 0.5-50 Hz.
    theta : Tensor of shape (batch, 2, n_times)
        Above 0.5 during a bout of theta in the left and the right medial temporal
        lobe; 0 except in the scenario ``'theta'``.
    """
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    band = band_response(n_times, rng.device).square()
    power = aperiodic_power(frequency, spectra.exponent, spectra.knee)
    noise = coloured(power * band, n_times, rng)

    centre, width, share = _rhythms_in(scenario, spectra, side, rng)
    all_ = (share + spectra.share_2).clamp(1e-9, 0.95)
    second = (spectra.share_2 / all_).clamp(max=1)
    one = bump_power(
        frequency, _gather(centre, active) + spectra.offset, _gather(width, active)
    )
    two = bump_power(frequency, spectra.centre_2, spectra.width_2)
    one *= _gather((1 - second) / width, active)[..., None]
    one += _gather(two * (second / spectra.width_2)[..., None], active)
    rhythm = coloured(one * band, n_times, rng)

    waxing = uniform(0.2, 1.0, share.shape, rng)
    drift = uniform(0.0, 0.35, share.shape, rng)
    theta, envelope = _theta_bouts(scenario, n_times, rng)
    envelope = envelope * _envelopes(n_times, waxing, rng)
    rhythm *= _gather(envelope, active)
    noise *= _gather(_envelopes(n_times, drift, rng), active)
    own_share = (_gather(all_, active) * spectra.part)[..., None]
    noise.mul_((1 - own_share).sqrt()).add_(rhythm.mul_(own_share.sqrt()))
    return noise, theta


def partners(active: ActiveSources, rng: torch.Generator) -> Tensor:
    """Choose a temporal neocortical source on the same side for every source.

    Returns
    -------
    partner : Tensor of int, shape (batch, generator)
        Index of a generator of the same recording.
    """
    lateral = STRUCTURES.index("temporal-lateral")
    index = []
    for side in (0, 1):
        weight = (active.structure == lateral) & (active.hemisphere == side)
        weight = weight.float() + 1e-6
        pick = torch.multinomial(
            weight, active.structure.shape[1], replacement=True, generator=rng
        )
        index.append(pick)
    return torch.where(active.hemisphere == 0, *index)


def delayed(activity: Tensor, samples: Tensor) -> Tensor:
    """Delay each series by its own number of samples, at most the first's.

    Parameters
    ----------
    activity : Tensor of shape (batch, generator, time)
        Periodic series.
    samples : Tensor of int, shape (batch, generator)
        Delays.

    Returns
    -------
    delayed : Tensor of shape (batch, generator, time)
        The delayed series.
    """
    time = torch.arange(activity.shape[-1], device=activity.device)
    index = (time - samples[..., None]) % activity.shape[-1]
    return activity.gather(-1, index)


@dataclass(frozen=True)
class Coupling(Batched):
    """The coupling of mesial structures with lateral temporal cortex.

    Attributes
    ----------
    partner : Tensor of int, shape (batch, generator)
        The neocortical source that each source is coupled with.
    strength : Tensor of shape (batch, generator)
        The correlation with the delayed partner, -0.9 to 0.9, and zero for sources that
        are not mesial.
    lag : Tensor of int, shape (batch, generator)
        The delay in samples.
    """

    partner: Tensor
    strength: Tensor
    lag: Tensor


@fill_doc
def draw_coupling(active: ActiveSources, rng: torch.Generator) -> Coupling:
    """Draw the strength, sign and lag of the coupling.

    Strengths are between zero and strong. Sign and lag (0-40 ms) are random, because
    the scalp EEG does not show them.

    Parameters
    ----------
    active : ActiveSources
        The active sources.
    %(rng)s

    Returns
    -------
    coupling : Coupling
        One row for each patient.
    """
    partner = partners(active, rng)
    region = (len(active), 2 * len(STRUCTURES))
    strength = uniform(0, 0.9, region, rng) * chance(0.6, region, rng)
    strength = strength * (1 - 2 * chance(0.5, region, rng))
    lag = torch.randint(0, MAX_LAG + 1, region, generator=rng, device=rng.device)
    strength = _gather(strength, active) * (active.structure < MESIAL)
    strength = strength * uniform(0.6, 1.0, strength.shape, rng)
    return Coupling(partner, strength, _gather(lag, active))


def couple(activity: Tensor, coupling: Coupling, scenario: Tensor) -> Tensor:
    """Couple mesial structures with lateral temporal cortex.

    Parameters
    ----------
    activity : Tensor of shape (batch, generator, time)
        The activity of independent sources.
    coupling : Coupling
        The coupling.
    scenario : Tensor of int, shape (batch,)
        ``'uncoupled'`` has no coupling.

    Returns
    -------
    activity : Tensor of shape (batch, generator, time)
        The activity with coupled mesial sources and the same variances.
    """
    free = (scenario == SCENARIOS.index("uncoupled"))[:, None]
    strength = torch.where(free, 0.0, coupling.strength)[..., None]
    index = coupling.partner[..., None].expand(-1, -1, activity.shape[-1])
    driven = delayed(activity.gather(1, index), coupling.lag)
    return (1 - strength.square()).sqrt() * activity + strength * driven
