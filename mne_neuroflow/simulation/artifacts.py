"""Artifacts of scalp EEG: eyes, muscles, mains, sensors and bad electrodes.

Examples
--------
A minute of blinks at twenty places of the template's scalp, in volts:

>>> from mne_neuroflow.head.geometry import load_head
>>> electrodes = torch.tensor(load_head().scalp.rr[None, ::33][:, :20])
>>> potential, train = blinks(electrodes, 60 * SFREQ, torch.Generator().manual_seed(0))
>>> potential.shape
torch.Size([1, 20, 7680])
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .._docs import fill_doc
from ..contract import SFREQ
from ..head.geometry import EYES
from .sources import (
    Batched,
    band_response,
    bouts,
    chance,
    coloured,
    convolved,
    normal,
    poisson_train,
    uniform,
)

_FP1, _F8 = (-0.028, 0.082, 0.003), (0.070, 0.040, 0.0)
# Temples, forehead and neck of either side, and how often each is tense.
_MUSCLES = ((0.075, 0.015, 0.0), (0.045, 0.075, 0.03), (0.05, -0.105, -0.02))
_TENSE = (0.6, 0.2, 0.2)
# Share of time and seconds of bursts of muscle.
_BURSTS = ((0.05, 0.35), (0.3, 2.0))


@dataclass(frozen=True)
class Artifacts(Batched):
    """The times and electrodes of artifacts.

    Attributes
    ----------
    blinks, saccades : Tensor of shape (batch, time)
        Nonzero at the peak of a blink, and at a movement of gaze.
    muscle : Tensor of shape (batch, time)
        Above 0.5 during a burst of muscle activity.
    pops : Tensor of shape (batch, electrode, time)
        1 where an electrode pops.
    noisy, dead : Tensor of shape (batch, electrode)
        1 for such electrodes.
    """

    blinks: Tensor
    saccades: Tensor
    muscle: Tensor
    pops: Tensor
    noisy: Tensor
    dead: Tensor

    def crop(self, n_times: int) -> "Artifacts":
        """Keep the first samples."""
        names = ("blinks", "saccades", "muscle", "pops")
        return replace(
            self, **{name: getattr(self, name)[..., :n_times] for name in names}
        )


def _in_band(series: Tensor) -> Tensor:
    """Filter series to the model's band of 0.5-50 Hz."""
    n_times = series.shape[-1]
    response = band_response(n_times, series.device)
    return torch.fft.irfft(torch.fft.rfft(series) * response, n=n_times)


def _topography(electrodes: Tensor, centre: Tensor, width: float) -> Tensor:
    """Return a topography that falls with distance, (batch, electrode)."""
    distance = (electrodes - centre[:, None]).norm(dim=-1)
    return torch.exp(-0.5 * (distance / width) ** 2)


@fill_doc
def eye_topography(electrodes: Tensor, direction: Tensor, peak) -> Tensor:
    """Compute the relative potential of a dipole in each eye.

    Berg & Scherg 1991 (Electroencephalogr Clin Neurophysiol 79:36) describe blinks and
    eye movements by dipoles in the eyes. The potential is that in an infinite medium,
    ``d · r / |r|**3``.

    Parameters
    ----------
    %(electrodes)s
    direction : Tensor of shape (batch, 3)
        The direction of the dipoles.
    peak : array_like of shape (3,)
        The position where the topography is one.

    Returns
    -------
    topography : Tensor of shape (batch, electrode)
        Relative potential.
    """
    peak = torch.tensor(peak, device=electrodes.device).expand(len(electrodes), 1, 3)
    places = torch.cat([electrodes, peak], dim=1)[:, :, None]
    away = places - torch.tensor(EYES, device=electrodes.device)
    along = (away * direction[:, None, None]).sum(-1)
    potential = (along / away.norm(dim=-1).clamp_min(0.03) ** 3).sum(-1)
    return potential[:, :-1] / potential[:, -1:]


def sensor_noise(electrodes: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw the noise of amplifiers and electrodes in volts.

    Each electrode has a white and a ``1/f`` part of 0.5 to 5 µV each.
    """
    n_batch, n_electrodes = electrodes.shape[:2]
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    band = band_response(n_times, rng.device).square()
    level = torch.exp(uniform(-0.7, 1.6, (n_batch, 1, 2), rng)) * 1e-6
    level = level * torch.exp(0.3 * normal((n_batch, n_electrodes, 2), rng))
    shape = (n_batch, n_electrodes, -1)
    white = coloured(band.expand(*shape), n_times, rng)
    pink = coloured((band / frequency.clamp_min(0.3)).expand(*shape), n_times, rng)
    return level[..., :1] * white + level[..., 1:] * pink


def drift(electrodes: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw slow potentials of skin and electrodes in volts.

    A high-pass of 0.5 Hz leaves potentials from sweat and moving cables below about 1.5
    Hz. They reach 20 µV, are similar at neighbouring electrodes, and occur in one of
    three recordings.
    """
    n_batch, n_electrodes = electrodes.shape[:2]
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    power = band_response(n_times, rng.device).square()
    power = power * torch.exp(-((frequency / 0.7) ** 2))
    places = uniform(-0.1, 0.1, (n_batch, 3, 3), rng)
    spots = [_topography(electrodes, places[:, k], 0.06) for k in range(3)]
    together = coloured(power.expand(n_batch, 3, -1), n_times, rng)
    own = 0.3 * coloured(power.expand(n_batch, n_electrodes, -1), n_times, rng)
    height = uniform(2e-6, 20e-6, (n_batch, 1, 1), rng)
    wave = torch.stack(spots, dim=-1) @ together + own
    return chance(0.35, (n_batch, 1, 1), rng) * height * wave


@fill_doc
def blinks(
    electrodes: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw blinks, which are positive pulses over the forehead.

    There are 4 to 38 per minute, around the 17 of people at rest (Bentivoglio et al.
    1997, Mov Disord 12:1028). They are 0.1 to 0.25 s wide at half maximum and have 50
    to 250 µV at Fp1. Half of the recordings have none, as with closed eyes or after
    cleaning.

    Parameters
    ----------
    %(electrodes)s
    %(n_times)s
    %(rng)s

    Returns
    -------
    potential : Tensor of shape (batch, electrode, n_times)
        Volts.
    train : Tensor of shape (batch, n_times)
        The relative height at the peaks.
    """
    shape, device = (len(electrodes), 1), rng.device
    direction = torch.cat(
        [0.1 * normal((shape[0], 2), rng), torch.ones(shape, device=device)], 1
    )
    topography = eye_topography(electrodes, direction, _FP1)
    train = poisson_train(10 ** uniform(-1.2, -0.2, shape, rng), n_times, rng)
    train = train * uniform(0.6, 1.4, train.shape, rng) * chance(0.5, shape, rng)
    height = uniform(50e-6, 250e-6, shape, rng)
    time = (torch.arange(n_times, device=device) - n_times // 2) / SFREQ
    # Lids close faster than they open.
    width = uniform(0.04, 0.1, shape, rng) * torch.where(time < 0, 0.8, 1.2)
    wave = _in_band(height * convolved(train, torch.exp(-0.5 * (time / width) ** 2)))
    return topography[..., None] * wave[:, None], train


@fill_doc
def saccades(
    electrodes: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw eye movements, which are steps of opposite sign at the two temples.

    The gaze jumps to a new direction, mostly to the side, 6 to 60 times per minute. It
    causes 10 to 60 µV at F8, in half of the recordings.

    Parameters
    ----------
    %(electrodes)s
    %(n_times)s
    %(rng)s

    Returns
    -------
    potential : Tensor of shape (batch, electrode, n_times)
        Volts.
    train : Tensor of shape (batch, n_times)
        1 at movements.
    """
    shape, device = (len(electrodes), 1), rng.device
    aside = torch.tensor([1.0, 0.0, 0.0], device=device).expand(shape[0], 3)
    aside = aside + 0.15 * normal((shape[0], 3), rng)
    topography = eye_topography(electrodes, aside, _F8)
    train = poisson_train(10 ** uniform(-1, 0, shape, rng), n_times, rng)
    train = train * chance(0.5, shape, rng)
    # Each movement has its own end point, independent of the previous one.
    number = train.cumsum(-1).long()
    places = normal((shape[0], int(number.max()) + 1), rng)
    moving = (train.sum(-1, keepdim=True) > 0).float()
    gaze = _in_band(places.gather(1, number) * moving)
    height = uniform(10e-6, 60e-6, shape, rng)
    return topography[..., None] * (height * gaze)[:, None], train


def _temples(electrodes: Tensor) -> Tensor:
    """Return the positions of the left and right temple, (2, batch, 3)."""
    right = torch.tensor(_MUSCLES[0], device=electrodes.device)
    both = torch.stack([right * right.new_tensor([-1, 1, 1]), right])
    return both[:, None].expand(-1, len(electrodes), -1)


@fill_doc
def muscle(
    electrodes: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw muscle activity above about 20 Hz: local bursts and a constant part.

    Muscles of forehead, temples and neck dominate scalp EEG above 20 Hz, in 100 of 100
    channels of a resting subject (Whitham et al. 2007, Clin Neurophysiol 118:1877).
    Bursts reach 20 µV. The constant part has 1 to 12 µV, and more at the temples.

    Parameters
    ----------
    %(electrodes)s
    %(n_times)s
    %(rng)s

    Returns
    -------
    potential : Tensor of shape (batch, electrode, n_times)
        Volts.
    gate : Tensor of shape (batch, n_times)
        Above 0.5 during a burst.
    """
    n_batch, n_electrodes = electrodes.shape[:2]
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    band = band_response(n_times, rng.device).square()
    onset = uniform(12, 28, (n_batch, 1, 1), rng)
    power = band / (1 + torch.exp(-(frequency - onset) / 5))
    noise = coloured(power.expand(n_batch, n_electrodes, -1), n_times, rng)
    often = torch.tensor(_TENSE, device=rng.device).expand(n_batch, -1)
    which = torch.multinomial(often, 1, generator=rng)[:, 0]
    place = torch.tensor(_MUSCLES, device=rng.device)[which]
    mirror = torch.ones(n_batch, 3, device=rng.device)
    mirror[:, 0] = 1 - 2 * chance(0.5, (n_batch,), rng)
    nearby = _topography(electrodes, place * mirror, 0.05)
    temples = [_topography(electrodes, temple, 0.05) for temple in _temples(electrodes)]
    share, seconds = (uniform(*ends, (n_batch,), rng) for ends in _BURSTS)
    gate = bouts(n_times, share, seconds, rng) * chance(0.5, (n_batch, 1), rng)
    height = torch.exp(uniform(0.7, 3.0, (n_batch, 1, 1), rng)) * 1e-6
    bursts = height * nearby[..., None] * gate[:, None]
    floor = torch.exp(uniform(0, 2.5, (n_batch, 1, 1), rng)) * 1e-6
    floor = floor * torch.exp(0.4 * normal((n_batch, n_electrodes, 1), rng))
    floor = floor * (0.7 + sum(temples))[..., None]
    return (bursts + chance(0.7, (n_batch, 1, 1), rng) * floor) * noise, gate


def mains(electrodes: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw mains noise at 50 or 60 Hz after the filter, up to 5 µV, in volts."""
    n_batch, n_electrodes = electrodes.shape[:2]
    fifty = chance(0.5, (n_batch, 1, 1), rng)
    pitch = 60 - 10 * fifty + 0.02 * normal((n_batch, 1, 1), rng)
    time = torch.arange(n_times, device=rng.device) / SFREQ
    start = uniform(0, 6.28, (n_batch, n_electrodes, 1), rng)
    left = 0.03 + 0.97 * fifty
    height = uniform(0, 5e-6, (n_batch, n_electrodes, 1), rng) * left
    present = chance(0.3, (n_batch, 1, 1), rng)
    return present * height * torch.sin(2 * torch.pi * pitch * time + start)


@fill_doc
def against_reference(scalp: Tensor, used: Tensor, rng: torch.Generator) -> Tensor:
    """Subtract one of the electrodes, whose noise is then in all others.

    If electrodes are dead afterwards, the average reference cannot undo this.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        Potentials in volts.
    %(used)s
    %(rng)s

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        The potentials against this reference, in volts.
    """
    reference = torch.multinomial(used, 1, generator=rng)
    index = reference[..., None].expand(-1, -1, scalp.shape[-1])
    return scalp - scalp.gather(1, index)


@fill_doc
def bad_electrodes(
    scalp: Tensor, used: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make one in twenty electrodes bad: with pops, noisy, or nearly dead.

    Pops have a steep rise and decay within about 0.2 s (IFCN glossary, Kane et al.
    2017, Clin Neurophysiol Pract 2:170). They reach eight times the standard deviation
    of the other electrodes.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        Volts against the recording's reference.
    %(used)s
    %(rng)s

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        The potentials with bad electrodes, in volts.
    pops : Tensor of shape (batch, electrode, time)
        1 at a pop.
    noisy, dead : Tensor of shape (batch, electrode)
        1 for such electrodes.
    """
    shape, n_times = scalp.shape[:2], scalp.shape[-1]
    spread = scalp.std(-1).where(used > 0, torch.nan).nanmedian(-1).values
    noisy = chance(0.02, shape, rng) * used
    dead = chance(0.01, shape, rng) * used
    popping = chance(0.03, shape, rng) * used
    level = noisy * uniform(0.5, 4, shape, rng)
    unit = torch.rand(scalp.shape, generator=rng, device=rng.device)
    pops = (unit < 0.05 / SFREQ).float() * popping[..., None]
    clock = torch.arange(n_times, device=scalp.device) - n_times // 2
    decay = torch.where(clock < 0, 0.0, torch.exp(-clock.clamp_min(0) / 20.0))
    added = 8 * _in_band(convolved(pops, decay))
    added += level[..., None] * normal(scalp.shape, rng)
    kept = (1 - 0.95 * dead)[..., None]
    return scalp * kept + spread[:, None, None] * added, pops, noisy, dead


@fill_doc
def contaminate(
    scalp: Tensor, electrodes: Tensor, used: Tensor, rng: torch.Generator
) -> tuple[Tensor, Artifacts]:
    """Add artifacts and noise to a scalp recording.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        The potentials of brain sources, in volts.
    electrodes : Tensor of shape (batch, electrode, 3)
        Positions in metres, fsaverage surface RAS.
    %(used)s
    %(rng)s

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        Volts against one electrode.
    artifacts : Artifacts
        The times and electrodes of the artifacts.
    """
    n_times = scalp.shape[-1]
    for part in (sensor_noise, drift, mains):
        scalp = scalp + part(electrodes, n_times, rng)
    blink, blinking = blinks(electrodes, n_times, rng)
    gaze, moving = saccades(electrodes, n_times, rng)
    tension, tense = muscle(electrodes, n_times, rng)
    scalp = against_reference(scalp + blink + gaze + tension, used, rng)
    scalp, pops, noisy, dead = bad_electrodes(scalp, used, rng)
    return scalp, Artifacts(blinking, moving, tense, pops, noisy, dead)
