"""What the scalp shows and the brain does not: eyes, muscle, mains, sensors.

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

from ..contract import SFREQ
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

# Metres, fsaverage surface RAS. Two vertical dipoles here explain the mean blink of
# the bundled recording with a residual of 17 µV r.m.s., of 211 µV at Fp1.
_EYES = ((-0.03, 0.055, -0.04), (0.03, 0.055, -0.04))
_FP1, _F8 = (-0.028, 0.082, 0.003), (0.070, 0.040, 0.0)
# Temples, forehead and neck of either side, and how often each is tense.
_MUSCLES = ((0.075, 0.015, 0.0), (0.045, 0.075, 0.03), (0.05, -0.105, -0.02))
_TENSE = (0.6, 0.2, 0.2)
# Share of time and seconds of bursts of muscle.
_BURSTS = ((0.05, 0.35), (0.3, 2.0))


@dataclass(frozen=True)
class Artifacts(Batched):
    """When and where artifacts are.

    Attributes
    ----------
    blinks, saccades : Tensor of shape (batch, time)
        Not 0 at the peak of a blink and at a movement of gaze.
    muscle : Tensor of shape (batch, time)
        Above 0.5 during a burst of muscle.
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
    """Pass series through the 0.5-50 Hz band of the contract."""
    n_times = series.shape[-1]
    response = band_response(n_times, series.device)
    return torch.fft.irfft(torch.fft.rfft(series) * response, n=n_times)


def _topography(electrodes: Tensor, centre: Tensor, width: float) -> Tensor:
    """Fall-off with distance from a place, (batch, electrode)."""
    distance = (electrodes - centre[:, None]).norm(dim=-1)
    return torch.exp(-0.5 * (distance / width) ** 2)


def eye_topography(electrodes: Tensor, direction: Tensor, peak) -> Tensor:
    """Potential of a dipole in each eye, relative to that at one place.

    Berg & Scherg 1991 (Electroencephalogr Clin Neurophysiol 79:36) describe blinks
    and eye movements by dipoles in the eyes; the potential is that of an infinite
    medium, ``d · r / |r|**3``.

    Parameters
    ----------
    electrodes : Tensor of shape (batch, electrode, 3)
        Metres.
    direction : Tensor of shape (batch, 3)
        Of the dipoles.
    peak : array_like of shape (3,)
        Where the topography is one.

    Returns
    -------
    topography : Tensor of shape (batch, electrode)
        Relative potential.
    """
    peak = torch.tensor(peak, device=electrodes.device).expand(len(electrodes), 1, 3)
    places = torch.cat([electrodes, peak], dim=1)[:, :, None]
    away = places - torch.tensor(_EYES, device=electrodes.device)
    along = (away * direction[:, None, None]).sum(-1)
    potential = (along / away.norm(dim=-1).clamp_min(0.03) ** 3).sum(-1)
    return potential[:, :-1] / potential[:, -1:]


def sensor_noise(electrodes: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Amplifier and electrode noise, volts.

    White and ``1/f`` parts of 0.5 to 5 µV each, per electrode.
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
    """Slow potentials of skin and electrodes, volts.

    What a high-pass of 0.5 Hz leaves of sweating and swaying cables, below some
    1.5 Hz: up to 20 µV, alike at neighbours, in one recording of three.
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


def blinks(
    electrodes: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw blinks: upward positive pulses over the forehead.

    4 to 38 a minute, about the 17 of people at rest (Bentivoglio et al. 1997, Mov
    Disord 12:1028), 0.1 to 0.25 s wide at half height, 50 to 250 µV at Fp1, in half
    of the recordings: the others are with closed eyes or cleaned.

    Parameters
    ----------
    electrodes : Tensor of shape (batch, electrode, 3)
        Metres.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    potential : Tensor of shape (batch, electrode, n_times)
        Volts.
    train : Tensor of shape (batch, n_times)
        Relative height at the peaks.
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


def saccades(
    electrodes: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw movements of gaze: steps of opposite sign at the two temples.

    The gaze jumps to a new place, mostly to the side, 6 to 60 times a minute; its
    place makes 10 to 60 µV at F8, in half of the recordings.

    Parameters
    ----------
    electrodes : Tensor of shape (batch, electrode, 3)
        Metres.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.

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
    # Every movement ends at a place of its own, not beside the last one.
    number = train.cumsum(-1).long()
    places = normal((shape[0], int(number.max()) + 1), rng)
    moving = (train.sum(-1, keepdim=True) > 0).float()
    gaze = _in_band(places.gather(1, number) * moving)
    height = uniform(10e-6, 60e-6, shape, rng)
    return topography[..., None] * (height * gaze)[:, None], train


def _temples(electrodes: Tensor) -> Tensor:
    """Left and right temple, (2, batch, 3)."""
    right = torch.tensor(_MUSCLES[0], device=electrodes.device)
    both = torch.stack([right * right.new_tensor([-1, 1, 1]), right])
    return both[:, None].expand(-1, len(electrodes), -1)


def muscle(
    electrodes: Tensor, n_times: int, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw scalp muscle above some 20 Hz: bursts somewhere, a floor everywhere.

    Muscle of forehead, temples and neck dominates the scalp above 20 Hz, in 100 of
    100 channels of a resting subject: Whitham et al. 2007, Clin Neurophysiol
    118:1877. Bursts reach 20 µV, the floor 1 to 12 µV, more at the temples.

    Parameters
    ----------
    electrodes : Tensor of shape (batch, electrode, 3)
        Metres.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.

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
    """Mains at 50 or 60 Hz, what the band leaves of it, up to 5 µV, volts."""
    n_batch, n_electrodes = electrodes.shape[:2]
    fifty = chance(0.5, (n_batch, 1, 1), rng)
    pitch = 60 - 10 * fifty + 0.02 * normal((n_batch, 1, 1), rng)
    time = torch.arange(n_times, device=rng.device) / SFREQ
    start = uniform(0, 6.28, (n_batch, n_electrodes, 1), rng)
    left = 0.03 + 0.97 * fifty
    height = uniform(0, 5e-6, (n_batch, n_electrodes, 1), rng) * left
    present = chance(0.3, (n_batch, 1, 1), rng)
    return present * height * torch.sin(2 * torch.pi * pitch * time + start)


def against_reference(scalp: Tensor, used: Tensor, rng: torch.Generator) -> Tensor:
    """Record against one of the electrodes, whose noise is then in all others.

    Where electrodes are dead afterwards, this is what the average reference cannot
    undo.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        Potentials in volts.
    used : Tensor of shape (batch, electrode)
        1 for electrodes, 0 for padding.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        Differences to the reference, in volts.
    """
    reference = torch.multinomial(used, 1, generator=rng)
    index = reference[..., None].expand(-1, -1, scalp.shape[-1])
    return scalp - scalp.gather(1, index)


def bad_electrodes(
    scalp: Tensor, used: Tensor, rng: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Spoil one electrode in twenty: it pops, is noisy or nearly dead.

    Pops are steep and decay within some 0.2 s (IFCN glossary, Kane et al. 2017, Clin
    Neurophysiol Pract 2:170), up to eight times as high as the other electrodes'
    standard deviation.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        Volts against the recording's reference.
    used : Tensor of shape (batch, electrode)
        1 for electrodes, 0 for padding.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        With what the bad ones add.
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


def contaminate(
    scalp: Tensor, electrodes: Tensor, used: Tensor, rng: torch.Generator
) -> tuple[Tensor, Artifacts]:
    """Add everything that is not brain to a scalp recording.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        What the brain makes, volts.
    electrodes : Tensor of shape (batch, electrode, 3)
        Positions in metres, fsaverage surface RAS.
    used : Tensor of shape (batch, electrode)
        1 for electrodes, 0 for padding.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        Volts against one electrode.
    artifacts : Artifacts
        What there is.
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
