"""Calibration and accuracy of a flow on held-out simulated pairs."""

import math
from collections import defaultdict

import torch

from ..contract import BLOCK
from ..flow.amplitude import N_VARIATES
from ..flow.wavelet import LEVEL_BANDS, LEVEL_SIZES
from ..scores.signals import near_contacts
from ..scores.tensors import LEVELS, crps_ensemble, crps_normal, inside
from ..simulation.sources import SCENARIOS
from .data import SimulatedData
from .fit import gaussian_losses, level_losses

# Metres from the midline beyond which a contact has a side.
_MIDLINE = 10e-3
_DRAWS_AT_ONCE = 5
# Expected values: of the flow in one pass, and of the spatial posterior.
_EXPECTED = ("one pass", "posterior")


@torch.no_grad()
def evaluate(
    flow,
    data: SimulatedData,
    n_batches: int,
    n_draws: int = 100,
    n_mismatched: int = 25,
) -> dict[str, tuple[float, float]]:
    """Measure coverage, CRPS and negative log-density on held-out simulation.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device.
    data : SimulatedData
        Held-out batches.
    n_batches : int
        Number of batches.
    n_draws, n_mismatched : int
        Number of draws for each recording, and with the scalp EEG of another recording.

    Returns
    -------
    figures : dict
        By name, the mean over recordings and its standard error, NaN where there is
        none. ``coverage`` by level, and by stratum at 90 %. ``crps`` of the flow, the
        spatial posterior, the prior, and the flow with the scalp EEG of another
        recording, in units of each contact's prior. ``nll`` in nats per sample.
        ``crps of own draws`` is the same with a draw of the flow as the truth. It shows
        the gain from the scalp EEG, and the loss with that of another recording, for a
        flow that is exactly right. ``r mean`` is the correlation of the mean over draws
        with the truth. ``r expected`` is this correlation for infinitely many draws: it
        is corrected for attenuation (Spearman 1904, Am. J. Psychol. 15:72) by the
        correlation of the means over two halves of the draws. ``r one pass`` is that of
        the expected value without draws, which ``predict_ieeg(output="mean")`` returns,
        and ``r posterior`` that of the spatial posterior. ``bipolar`` figures are
        of differences of contacts less than
        :data:`~mne_neuroflow.scores.signals.NEAR` apart. ``side`` figures count
        how often the side with the larger power is found, see :func:`_sides`.
        ``crps ratio`` is the CRPS of the flow over that of the posterior by scenario,
        and ``crps over the prior`` that over the prior's, also of the worst recording.
        ``recordings`` is their number.
    """
    values = defaultdict(list)
    sides, worst = [], []
    for number in range(n_batches):
        batch = data.batch(number)
        truth, conditions = batch.pairs.deep, batch.conditions
        weights = torch.tensor(LEVEL_SIZES).to(truth) / BLOCK
        slope = flow.calibration(conditions).undo(truth)[1].mean()
        nll = (level_losses(flow, batch) * weights).sum() - slope
        values["nll flow"].append(nll[None])
        nll = (gaussian_losses(flow, batch) * weights).sum()
        values["nll posterior"].append(nll[None])
        draws = draw(flow, conditions, n_draws, number)
        for level in LEVELS:
            values[f"coverage {level:.2f}"].append(_by_recording(draws, truth, level))
        _stratify(values, batch, values["coverage 0.90"][-1])
        _bands(values, flow, draws, truth)
        amplitude = (x.square().mean(-1, keepdim=True) for x in (draws, truth))
        key = "coverage of 0.80, amplitude over a recording"
        values[key].append(_by_recording(*amplitude, 0.8))
        # Scores are in units of each contact's prior, for equal weights of contacts.
        gain = conditions.gain[:, None, None]
        unit = gain * batch.setups.prior_std[..., None]
        std = conditions.posterior_std[..., None]
        mean = conditions.mean * gain
        rng = data.random_numbers(number, 1)
        mismatched = data.conditions_of(
            data.simulate(batch.setups, rng).scalp, batch.setups
        )
        mismatched_draws = draw(flow, mismatched, n_mismatched, number)
        # The same for a flow that is exactly right: its last draw is the truth.
        own, others = draws[-1], draws[:-1]
        scores = {
            "crps flow": crps_ensemble(draws, truth),
            "crps posterior": crps_normal(mean, gain * std, truth),
            "crps prior": crps_normal(0 * mean, unit, truth),
            "crps shuffled": crps_ensemble(mismatched_draws, truth),
            "crps of own draws, flow": crps_ensemble(others, own),
            "crps of own draws, prior": crps_normal(0 * mean, unit, own),
            "crps of own draws, shuffled": crps_ensemble(mismatched_draws, own),
        }
        for name, score in scores.items():
            values[name].append((score / unit).mean((1, 2)))
        ratios = [
            values["crps flow"][-1] / values[f"crps {of}"][-1]
            for of in ("posterior", "prior")
        ]
        for of, ratio in zip(("ratio", "over the prior,"), ratios, strict=True):
            for k, name in enumerate(SCENARIOS):
                here = batch.pairs.scenario == k
                if here.any():
                    values[f"crps {of} {name}"].append(ratio[here])
        for name, limit in (("worse", 1), ("a tenth worse", 1.1)):
            share = 100 * (ratios[1] > limit).float()
            values[f"recordings {name} than the prior, %"].append(share)
        worst.append(ratios[1].max())
        spread = draws.std(0).mean(-1).flatten()
        error = (draws.median(0).values - truth).abs().mean(-1).flatten()
        rank = _rank_correlation(spread, error)
        values["spread-error rank correlation"].append(rank[None])
        # As predict_ieeg does: half of the draws, and their mirror images.
        half = n_draws // 2
        mirrored = draw(flow, conditions, half, number, sign=-1)
        mirrored = (draws[:half] + mirrored) / 2
        parts = (mirrored[::2].mean(0), mirrored[1::2].mean(0))
        means = {
            "r mean": (mirrored.mean(0), truth),
            "r halves": parts,
            **_expected(flow.condition(conditions).pointwise(), batch),
        }
        _correlate(values, "", means)
        for difference in _differences_of_near(batch.setups.contacts):
            _score_bipolar(values, difference(draws), difference(truth))
            _correlate(values, ", bipolar", means, difference)
        distance = _log_spectral(draws[0], truth)
        values["log-spectral distance dB"].append(distance)
        sides += _power_differences(flow, batch.setups.contacts, draws, truth)
    values |= _sides(sides)
    figures = {name: _mean_and_error(each) for name, each in values.items()}
    figures["crps over the prior, worst recording"] = float(max(worst)), math.nan
    figures["recordings"] = len(torch.cat(values["crps flow"])), math.nan
    for kind in ("", ", bipolar"):
        halves, _ = figures.pop(f"r halves{kind}", (math.nan, math.nan))
        # Of the whole mean: Spearman 1910 and Brown 1910, Br. J. Psychol. 3.
        reliability = 2 * halves / (1 + halves)
        attenuation = reliability**0.5 if reliability > 0 else math.nan
        if f"r mean{kind}" in figures:
            mean, error = figures[f"r mean{kind}"]
            figures[f"r expected{kind}"] = mean / attenuation, error / attenuation
    return dict(sorted(figures.items()))


@torch.no_grad()
def evaluate_one_pass(flow, data: SimulatedData, n_batches: int):
    """Measure expected values and intervals from one pass, without draws.

    Parameters
    ----------
    flow, data, n_batches
        As for :func:`evaluate`.

    Returns
    -------
    figures : dict
        The figures ``r one pass`` and ``r posterior`` of :func:`evaluate`, for
        potentials and for bipolar derivations, and their paired difference.
        ``coverage`` of central intervals by level, of samples of potentials. The number
        of ``recordings``.
    """
    values = defaultdict(list)
    for number in range(n_batches):
        batch = data.batch(number)
        conditions, truth = batch.conditions, batch.pairs.deep
        distribution = flow.condition(conditions).pointwise()
        for level in LEVELS:
            low, high = distribution.quantiles([(1 - level) / 2, (1 + level) / 2])
            inner = ((low <= truth) & (truth <= high)).to(truth).mean((1, 2))
            values[f"coverage {level:.2f}"].append(inner)
        means = _expected(distribution, batch)
        _correlate(values, "", means)
        for difference in _differences_of_near(batch.setups.contacts):
            _correlate(values, ", bipolar", means, difference)
    for kind in ("", ", bipolar"):
        one_pass, posterior = (values[f"r {of}{kind}"] for of in _EXPECTED)
        pairs = zip(one_pass, posterior, strict=True)
        values[f"r one pass minus posterior{kind}"] = [a - b for a, b in pairs]
    figures = {name: _mean_and_error(each) for name, each in values.items() if each}
    figures["recordings"] = len(torch.cat(values["r posterior"])), math.nan
    return figures


def _by_recording(draws, truth, level):
    return inside(draws, truth, level).mean((1, 2))


def _mean_and_error(values):
    """Mean over recordings, those without a value left out, and its standard error."""
    values = torch.cat(values)
    values = values[~values.isnan()].double()
    if not len(values):
        return math.nan, math.nan
    error = values.std() / len(values) ** 0.5 if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def draw(flow, conditions, n_draws: int, seed: int, sign: int = 1) -> torch.Tensor:
    """Draw from a batch of conditions, (draw, batch, contact, time) in volts.

    With ``sign=-1``, the draws are mirror images: the same noise, negated.
    """
    rng = torch.Generator(conditions.mean.device).manual_seed(seed)
    # A constant number at once, so that draws do not depend on how many follow.
    conditioned = flow.condition(conditions.repeat(_DRAWS_AT_ONCE))
    shape = conditioned.shape

    def normals(*shape):
        return torch.randn(shape, generator=rng, device=rng.device)

    draws = [
        conditioned.sample(sign * normals(*shape), normals(*shape[:2], N_VARIATES))
        for _ in range(0, n_draws, _DRAWS_AT_ONCE)
    ]
    return torch.cat(draws).unflatten(0, (-1, len(conditions.mean)))[:n_draws]


def _stratify(values, batch, hit):
    for k, name in enumerate(SCENARIOS):
        here = batch.pairs.scenario == k
        values[f"coverage of 0.90, {name}"].append(hit[here])
    n_used = batch.setups.used.sum(-1)
    for low, high in ((8, 9), (9, 18), (18, 24), (24, 48), (48, 129)):
        here = (n_used >= low) & (n_used < high)
        key = f"coverage of 0.90, {low}-{high - 1} electrodes"
        values[key].append(hit[here])


def _bands(values, flow, draws, truth):
    pairs = zip(flow.wavelet(draws[:40]), flow.wavelet(truth), LEVEL_BANDS, strict=True)
    for drawn, true, (low, high) in pairs:
        key = f"coverage of 0.90, {low}-{high} Hz"
        values[key].append(inside(drawn, true, 0.9).flatten(1).mean(1))


def _expected(distribution, batch):
    """Return pairs of an expected value and the truth, by name."""
    conditions, truth = batch.conditions, batch.pairs.deep
    one_pass, _ = distribution.moments()
    posterior = conditions.mean * conditions.gain[:, None, None]
    pairs = zip(_EXPECTED, (one_pass, posterior), strict=True)
    return {f"r {of}": (mean, truth) for of, mean in pairs}


def _correlate(values, kind, pairs, change=None):
    """Add the correlations of pairs of signals, recording by recording."""
    for name, pair in pairs.items():
        pair = pair if change is None else map(change, pair)
        values[f"{name}{kind}"].append(_correlation(*pair).mean(-1))


def _differences_of_near(contacts):
    """Yield functions that subtract near contacts, one for each recording."""
    for k, positions in enumerate(contacts):
        couples = near_contacts(positions.cpu())
        if not len(couples):
            continue
        first, second = torch.as_tensor(couples.T, device=positions.device)

        def difference(series, k=k, first=first, second=second):
            return (series[..., k, first, :] - series[..., k, second, :])[
                ..., None, :, :
            ]

        yield difference


def _score_bipolar(values, drawn, true):
    """Score draws of the differences of one recording."""
    values["coverage 0.90, bipolar"].append(_by_recording(drawn, true, 0.9))
    size = true.square().mean(-1, keepdim=True).sqrt()
    score = crps_ensemble(drawn, true) / size
    values["crps over r.m.s., bipolar"].append(score.mean((1, 2)))


def _power_differences(flow, contacts, draws, truth):
    """Left minus right mean log-power, of draws (level, draw) and truth (level,)."""
    powers = [
        torch.stack([x.square().mean((-1, -2)).log() for x in flow.wavelet(series)])
        for series in (draws, truth)
    ]
    for k, of_recording in enumerate(contacts):
        left, right = (of_recording[:, 0] < -_MIDLINE, of_recording[:, 0] > _MIDLINE)
        if left.any() and right.any():
            yield [
                power[..., k, left].mean(-1) - power[..., k, right].mean(-1)
                for power in powers
            ]


def _sides(differences):
    """Compute how often draws have the side with the larger power.

    A side is clear in truth where left and right differ by more than the root mean
    square of that difference over recordings, level by level, and clear in draws where
    90 % of them have the same side.
    """
    if len(differences) < 2:
        return {}
    drawn, true = (torch.stack(each).float() for each in zip(*differences, strict=True))
    # Share of draws with the side of the truth.
    share = ((drawn > 0) == (true > 0)[..., None]).float().mean(-1)
    in_draws = (share - 0.5).abs() >= 0.4
    in_truth = true.abs() > true.square().mean(0).sqrt()
    everything = torch.ones_like(in_truth)
    nothing = torch.full_like(share, math.nan)
    shown = {
        "side correct, clear in truth": (share > 0.5, in_truth),
        "side correct, clear in draws": (share > 0.5, in_draws),
        "side clear in draws": (in_draws, everything),
        "side clear in draws where clear in truth": (in_draws, in_truth),
    }
    # Levels of a recording go together: their mean counts once.
    return {
        name: [torch.where(among, what.float(), nothing).nanmean(1)]
        for name, (what, among) in shown.items()
    }


def _correlation(a, b):
    a, b = (v - v.mean(-1, keepdim=True) for v in (a, b))
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1)).clamp_min(1e-30)


def _rank_correlation(a, b):
    a, b = (v.argsort().argsort().float() for v in (a, b))
    return _correlation(a[None], b[None])[0]


def _log_spectral(drawn, truth):
    """Return the r.m.s. difference of log spectra over 1-45 Hz, in decibels."""
    window = torch.hann_window(BLOCK, device=truth.device)

    def spectrum(series):
        pieces = series.unfold(-1, BLOCK, BLOCK // 2) * window
        power = torch.fft.rfft(pieces).abs().square().mean(-2)[..., 1:46]
        return 10 * torch.log10(power)

    shift = spectrum(drawn) - spectrum(truth)
    return shift.square().mean(-1).sqrt().mean(-1)
