"""Calibration and skill of a flow on simulated pairs it was not trained on."""

import math
from collections import defaultdict

import torch

from ..flow.amplitude import N_VARIATES
from ..flow.wavelet import LEVEL_BANDS
from ..scores.tensors import LEVELS, crps_ensemble, crps_normal, inside
from ..simulation.sources import SCENARIOS
from .data import SimulatedData
from .fit import gaussian_losses, level_losses

_DRAWS_AT_ONCE = 5


@torch.no_grad()
def judge(
    flow,
    data: SimulatedData,
    n_batches: int,
    n_draws: int = 100,
    n_mismatched: int = 25,
) -> dict:
    """Measure coverage, CRPS and negative log-density on held-out simulation.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device.
    data : SimulatedData
        Held-out batches.
    n_batches : int
        How many.
    n_draws, n_mismatched : int
        Draws per recording, and with the scalp of another recording.

    Returns
    -------
    figures : dict
        ``coverage`` (by level, and by stratum at 90 %), ``crps`` of the flow,
        the spatial posterior, the prior and the flow with another recording's
        scalp, relative to the posterior, ``nll`` in nats per sample. ``r mean`` is
        that of the mean over draws, ``r expected`` what it would be with any number
        of them: corrected for attenuation (Spearman 1904, Am. J. Psychol. 15:72) by
        the correlation of the means over two halves of the draws.
    """
    sums = defaultdict(list)
    for number in range(n_batches):
        batch = data.batch(number)
        truth, conditions = batch.pairs.deep, batch.conditions
        weights = torch.tensor([16, 16, 32, 64]).to(truth) / 128
        sums["nll flow"].append((level_losses(flow, batch) * weights).sum())
        sums["nll posterior"].append((gaussian_losses(flow, batch) * weights).sum())
        draws = draw(flow, conditions, n_draws, number)
        for level in LEVELS:
            sums[f"coverage {level:.2f}"].append(inside(draws, truth, level).mean())
        hit = inside(draws, truth, 0.9).mean(-1)
        _stratify(sums, batch, hit)
        _bands(sums, flow, draws, truth)
        amplitude = (x.square().mean(-1) for x in (draws, truth))
        key = "coverage of 0.80, loudness over a recording"
        sums[key].append(inside(*amplitude, 0.8).mean())
        # Scores are in units of each contact's prior, so that all count alike.
        gain = conditions.gain[:, None, None]
        unit = gain * batch.setups.prior_std[..., None]
        std = conditions.posterior_std[..., None]
        mean = conditions.mean * gain
        score = crps_ensemble(draws, truth) / unit
        baseline = crps_normal(mean, gain * std, truth) / unit
        sums["crps flow"].append(score.mean())
        sums["crps posterior"].append(baseline.mean())
        sums["crps prior"].append((crps_normal(0 * mean, unit, truth) / unit).mean())
        for k, name in enumerate(SCENARIOS):
            here = batch.pairs.scenario == k
            if here.any():
                ratio = score[here].mean() / baseline[here].mean()
                sums[f"crps ratio {name}"].append(ratio)
        rng = data.random_numbers(number, 1)
        mismatched = data.conditions_of(
            data.simulate(batch.setups, rng).scalp, batch.setups
        )
        mismatched_draws = draw(flow, mismatched, n_mismatched, number)
        sums["crps shuffled"].append(
            (crps_ensemble(mismatched_draws, truth) / unit).mean()
        )
        spread = draws.std(0).mean(-1).flatten()
        error = (draws.median(0).values - truth).abs().mean(-1).flatten()
        sums["spread-error rank correlation"].append(_rank_correlation(spread, error))
        # As predict_ieeg does: half of the draws, and their mirror images.
        half = n_draws // 2
        mirrored = draw(flow, conditions, half, number, sign=-1)
        mirrored = (draws[:half] + mirrored) / 2
        sums["r mean"].append(_correlation(mirrored.mean(0), truth).mean())
        parts = (mirrored[::2].mean(0), mirrored[1::2].mean(0))
        sums["r halves"].append(_correlation(*parts).mean())
        sums["r posterior"].append(_correlation(mean, truth).mean())
        sums["log-spectral distance dB"].append(_log_spectral(draws[0], truth))
    figures = {name: float(torch.stack(values).mean()) for name, values in sums.items()}
    halves = figures.pop("r halves")
    # Of the whole mean: Spearman 1910 and Brown 1910, Br. J. Psychol. 3.
    reliability = 2 * halves / (1 + halves)
    told = reliability**0.5 if reliability > 0 else math.nan
    figures["r expected"] = figures["r mean"] / told
    return dict(sorted(figures.items()))


def draw(flow, conditions, n_draws: int, seed: int, sign: int = 1) -> torch.Tensor:
    """Draw from a batch of conditions, (draw, batch, contact, time) in volts.

    With the sign -1 come the mirror images of the draws: the same noise, negated.
    """
    rng = torch.Generator(conditions.mean.device).manual_seed(seed)
    # Always as many at once: the first draws do not depend on how many follow.
    conditioned = flow.condition(conditions.repeat(_DRAWS_AT_ONCE))
    shape = conditioned.shape

    def normals(*shape):
        return torch.randn(shape, generator=rng, device=rng.device)

    draws = [
        conditioned.sample(sign * normals(*shape), normals(*shape[:2], N_VARIATES))
        for _ in range(0, n_draws, _DRAWS_AT_ONCE)
    ]
    return torch.cat(draws).unflatten(0, (-1, len(conditions.mean)))[:n_draws]


def _stratify(sums, batch, hit):
    for k, name in enumerate(SCENARIOS):
        here = batch.pairs.scenario == k
        if here.any():
            sums[f"coverage of 0.90, {name}"].append(hit[here].mean())
    n_used = batch.setups.used.sum(-1)
    for low, high in ((8, 9), (9, 18), (18, 24), (24, 48), (48, 129)):
        here = (n_used >= low) & (n_used < high)
        if here.any():
            key = f"coverage of 0.90, {low}-{high - 1} electrodes"
            sums[key].append(hit[here].mean())


def _bands(sums, flow, draws, truth):
    pairs = zip(flow.wavelet(draws[:40]), flow.wavelet(truth), LEVEL_BANDS, strict=True)
    for drawn, true, (low, high) in pairs:
        key = f"coverage of 0.90, {low}-{high} Hz"
        sums[key].append(inside(drawn, true, 0.9).mean())


def _correlation(a, b):
    a, b = (v - v.mean(-1, keepdim=True) for v in (a, b))
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp_min(1e-30)


def _rank_correlation(a, b):
    a, b = (v.argsort().argsort().float() for v in (a, b))
    return _correlation(a[None], b[None])[0]


def _log_spectral(drawn, truth):
    """Root-mean-square difference of log spectra over 1-45 Hz, in decibels."""
    window = torch.hann_window(128, device=truth.device)

    def spectrum(series):
        pieces = series.unfold(-1, 128, 64) * window
        power = torch.fft.rfft(pieces).abs().square().mean(-2)[..., 1:46]
        return 10 * torch.log10(power)

    shift = spectrum(drawn) - spectrum(truth)
    return shift.square().mean(-1).sqrt().mean()
