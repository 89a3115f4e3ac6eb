"""What the scalp shows and the brain does not: eyes, muscle, mains, sensors."""

import torch
from torch import Tensor

from .sources import SFREQ, band_response, chance, coloured, normal, uniform


def _topography(electrodes: Tensor, centre: Tensor, width: float) -> Tensor:
    """Fall-off with distance from a place, (batch, electrode)."""
    distance = (electrodes - centre[:, None]).norm(dim=-1)
    return torch.exp(-0.5 * (distance / width) ** 2)


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


def blinks(electrodes: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Blinks and saccades: 50-200 µV over the forehead, volts.

    A blink is a pulse of about 0.3 s with a frontal maximum, a saccade a step
    with opposite sign at the two temples.
    """
    n_batch, device = len(electrodes), rng.device
    forehead = torch.tensor([0.0, 0.09, 0.0], device=device).expand(n_batch, 3)
    front = _topography(electrodes, forehead, 0.04)
    sideways = _topography(electrodes, forehead, 0.06) * electrodes[..., 0] / 0.05
    rate = 10 ** uniform(-1.2, -0.2, (n_batch, 1), rng)
    train = (uniform(0, 1, (n_batch, n_times), rng) < rate / SFREQ).float()
    train = train * uniform(0.5, 1.5, train.shape, rng)
    time = (torch.arange(n_times, device=device) - n_times // 2) / SFREQ
    pulse = torch.roll(torch.exp(-0.5 * (time / 0.09) ** 2), -(n_times // 2))
    blink = torch.fft.irfft(torch.fft.rfft(train) * torch.fft.rfft(pulse), n=n_times)
    moves = (uniform(0, 1, (n_batch, n_times), rng) < rate / SFREQ).float()
    gaze = (moves * normal(moves.shape, rng)).cumsum(-1)
    gaze = gaze - gaze.mean(-1, keepdim=True)
    height = uniform(30e-6, 150e-6, (n_batch, 1, 1), rng)
    present = chance(0.5, (n_batch, 1, 1), rng)
    wave = (
        front[..., None] * blink[:, None] + 0.15 * sideways[..., None] * gaze[:, None]
    )
    return present * height * wave


def muscle(electrodes: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Scalp muscle above some 20 Hz: bursts at a temple, a floor everywhere, volts.

    Muscle of forehead, temples and neck dominates the scalp above 20 Hz, in 100 of
    100 channels of a resting subject: Whitham et al. 2007, Clin Neurophysiol
    118:1877. Temporal bursts reach 20 µV, the floor 1 to 12 µV.
    """
    n_batch, n_electrodes = electrodes.shape[:2]
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ).to(rng.device)
    band = band_response(n_times, rng.device).square()
    onset = uniform(12, 28, (n_batch, 1, 1), rng)
    power = band / (1 + torch.exp(-(frequency - onset) / 5))
    noise = coloured(power.expand(n_batch, n_electrodes, -1), n_times, rng)
    side = torch.tensor([1.0, 0.2, 0.0], device=rng.device)
    side = side * (1 - 2 * chance(0.5, (n_batch, 1), rng))
    temple = _topography(electrodes, 0.075 * side, 0.05)
    slow = torch.exp(-((frequency / 0.4) ** 2)).expand(n_batch, 1, -1)
    burst = torch.exp(1.2 * coloured(slow, n_times, rng) - 0.7)
    height = torch.exp(uniform(0.7, 3.0, (n_batch, 1, 1), rng)) * 1e-6
    bursts = chance(0.5, (n_batch, 1, 1), rng) * height * temple[..., None] * burst
    floor = torch.exp(uniform(0, 2.5, (n_batch, 1, 1), rng)) * 1e-6
    floor = floor * torch.exp(0.4 * normal((n_batch, n_electrodes, 1), rng))
    return (bursts + chance(0.7, (n_batch, 1, 1), rng) * floor) * noise


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


def bad_electrodes(scalp: Tensor, rng: torch.Generator) -> Tensor:
    """Electrode pops, an electrode that is noisy and one that is nearly dead.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        Volts before referencing.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    scalp : Tensor of shape (batch, electrode, time)
        With one electrode in fifty affected.
    """
    shape = scalp.shape[:2]
    spread = scalp.std(-1).median(-1).values[:, None, None]
    noisy = chance(0.02, shape, rng)[..., None] * uniform(1, 6, (*shape, 1), rng)
    dead = chance(0.01, shape, rng)[..., None]
    pops = (uniform(0, 1, scalp.shape, rng) < 0.02 / SFREQ).float()
    decay = torch.exp(-torch.arange(scalp.shape[-1], device=scalp.device) / 20.0)
    pop = torch.fft.irfft(
        torch.fft.rfft(pops) * torch.fft.rfft(decay), n=scalp.shape[-1]
    )
    popping = chance(0.03, shape, rng)[..., None] * 8
    noise = noisy * normal(scalp.shape, rng) + popping * pop
    return (scalp * (1 - 0.95 * dead)) + spread * noise


def artifacts(electrodes: Tensor, n_times: int, rng: torch.Generator) -> Tensor:
    """Draw everything that adds to the scalp, volts.

    Parameters
    ----------
    electrodes : Tensor of shape (batch, electrode, 3)
        Positions in metres, fsaverage surface RAS.
    n_times : int
        Samples at 128 Hz.
    rng : torch.Generator
        Random numbers.

    Returns
    -------
    noise : Tensor of shape (batch, electrode, n_times)
        Volts.
    """
    parts = (sensor_noise, blinks, muscle, mains)
    return sum(part(electrodes, n_times, rng) for part in parts)
