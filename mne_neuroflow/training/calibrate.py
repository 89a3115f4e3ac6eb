"""Calibration of a trained flow: means, amplitudes and tails of draws.

The likelihood determines these poorly. Run this command after training::

    python -m mne_neuroflow.training.calibrate weights.safetensors mtl-v2 --out FILE

It first fits the weight of the posterior mean, because the likelihood prefers a smaller
weight than the CRPS (doc/decisions/flow.md). It then fits the scales and tails of the
last layer by the CRPS, and chooses the distribution of amplitudes by the coverage of
intervals. The likelihood of a recording hardly depends on that distribution, because
each contact and level has one amplitude and thousands of samples, and the CRPS prefers
intervals of amplitude that are too narrow. Last, it trains the head for the
distribution of each sample, first on simulated pairs and then on draws. All recordings
are simulated from the recipe's training patients, in batches that no training step has
used.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..flow.amplitude import N_VARIATES
from ..flow.marginal import Calibration, Marginal, fit_marginal
from ..flow.model import ConditionalFlow, FlowConfig
from ..scores.tensors import LEVELS, crps_ensemble, inside
from .data import SimulatedData
from .evaluate import draw
from .fit import learning_rate, prepare_data
from .pointwise import HEAD_DRAWS, learn_pointwise
from .recipe import load_recipe

# Numbers of batches begin here, beyond all steps of training.
_FIRST_BATCH = 10**6
_THINNED = 16  # use one in 16 samples, because neighbouring samples are similar
# Candidates: factors on the spreads of amplitudes and shifts of their centres. Without
# a shift, a wider spread would increase the mean amplitude (doc/decisions/
# adaptive-stage.md).
_WIDER = ((1.0, 0.0), (1.5, -0.1), (1.9, -0.2), (2.3, -0.35), (2.6, -0.45))
_AMPLITUDE_LEVEL = 0.8  # of intervals of a contact's amplitude
# Maximum learning rates of the weight of the posterior mean, and steps of warm-up.
_RATES, _WARM_UP = {"bias": 4e-3, "weight": 1e-3}, 10
_LEFT_OUT = 5  # folds of the cross-validation


def learn_trust(
    flow: ConditionalFlow, data: SimulatedData, n_steps: int, n_held_out: int = 4
) -> dict:
    """Fit the weight of the posterior mean by the CRPS.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device. Only this weight is changed.
    data : SimulatedData
        Recordings of the training patients, not of the held-out ones.
    n_steps, n_held_out : int
        Number of steps of one batch each, and number of held-out batches.

    Returns
    -------
    figures : dict
        ``crps before`` and ``crps after`` on the held-out batches, relative to each
        contact's prior.
    """
    parameters = dict(flow.named_parameters())
    learned = {k: v for k, v in parameters.items() if ".trust." in k}
    for name, parameter in parameters.items():
        parameter.requires_grad_(name in learned)
    groups = [
        {"params": [v for k, v in learned.items() if k.endswith(kind)], "peak": peak}
        for kind, peak in _RATES.items()
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    rng = torch.Generator(data.device).manual_seed(data.seed)
    held_out = range(_FIRST_BATCH, _FIRST_BATCH + n_held_out)
    figures = {"crps before": _mean_crps(flow, data, held_out)}
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps, group["peak"], _WARM_UP)
        # The other calibrations use other batches.
        batch = data.batch(2 * _FIRST_BATCH + step)
        with torch.enable_grad():
            loss = _crps_of_two(flow, batch, rng)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    figures["crps after"] = _mean_crps(flow, data, held_out)
    return figures


def _crps_of_two(flow, batch, rng):
    """Estimate the CRPS from two draws (fair), relative to each contact's prior."""
    conditioned = flow.condition(batch.conditions.repeat(2))
    shape = conditioned.shape

    def normals(*shape):
        return torch.randn(shape, generator=rng, device=rng.device)

    draws = conditioned.sample(normals(*shape), normals(*shape[:2], N_VARIATES))
    score = crps_ensemble(draws.unflatten(0, (2, -1)), batch.pairs.deep)
    return (score / _prior_std(batch)).mean()


@torch.no_grad()
def _mean_crps(flow, data, numbers, n_draws=16):
    total = 0.0
    for number in numbers:
        batch = data.batch(number)
        draws = draw(flow, batch.conditions, n_draws, number)
        total += (crps_ensemble(draws, batch.pairs.deep) / _prior_std(batch)).mean()
    return float(total / len(numbers))


def _prior_std(batch):
    """Return the prior standard deviation of contacts in volts, (batch, contact, 1)."""
    gain = batch.conditions.gain[:, None, None]
    return gain * batch.setups.prior_std[..., None]


@torch.no_grad()
def widen_amplitudes(
    flow: ConditionalFlow, data: SimulatedData, n_batches: int, n_draws: int = 40
) -> dict:
    """Choose how much wider the amplitudes are than at maximum likelihood.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device, with its last layer. Its amplitudes
        are changed.
    data : SimulatedData
        Recordings of the training patients, not of the held-out ones.
    n_batches, n_draws : int
        Number of batches, and of draws for each recording.

    Returns
    -------
    scores : dict
        For each pair of a factor on the spreads and a shift of the centres, the mean
        absolute difference between nominal and measured coverage: of the central
        intervals of samples, and of the 80 % interval of a contact's power over the
        recording. The pair with the lowest was used.
    """
    weight = flow.amplitude.weight
    likeliest = weight.clone()
    n_levels = likeliest.shape[1] // 2

    def change(factor, shift):
        weight.copy_(likeliest)
        weight[0, :n_levels] += shift
        weight[:, n_levels:] *= factor

    covered = {how: [] for how in _WIDER}
    for number in range(_FIRST_BATCH, _FIRST_BATCH + n_batches):
        batch = data.batch(number)
        for how, found in covered.items():
            change(*how)
            draws = draw(flow, batch.conditions, n_draws, number)
            found.append(_covered(draws, batch.pairs.deep))
    wanted = torch.tensor([*LEVELS, _AMPLITUDE_LEVEL])
    scores = {
        how: float((torch.cat(found).mean(0).cpu() - wanted).abs().mean())
        for how, found in covered.items()
    }
    change(*min(scores, key=scores.get))
    return scores


def _covered(draws, truth):
    """Return the coverage of a batch's recordings, (recording, level)."""
    thin = (draws[..., ::_THINNED], truth[..., ::_THINNED])
    found = [inside(*thin, level).mean((1, 2)) for level in LEVELS]
    power = (potentials.square().mean(-1) for potentials in (draws, truth))
    found.append(inside(*power, _AMPLITUDE_LEVEL).mean(1))
    return torch.stack(found, -1)


@torch.no_grad()
def calibrate(
    flow: ConditionalFlow, data: SimulatedData, n_batches: int, n_draws: int = 16
) -> dict:
    """Fit the calibration of a flow to simulated recordings.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device. Its calibration is replaced.
    data : SimulatedData
        Recordings of the training patients, not of the held-out ones.
    n_batches, n_draws : int
        Number of batches, and of draws for each recording.

    Returns
    -------
    figures : dict
        Cross-validated ``crps before`` and ``crps after``, relative to the standard
        deviation of each contact's truth.
    """
    flow.calibration = Calibration().to(data.device)  # a new one changes nothing
    rows = [
        _rows(flow, data.batch(_FIRST_BATCH + k), k, n_draws) for k in range(n_batches)
    ]
    figures = {"crps before": 0.0, "crps after": 0.0}
    n_left_out = min(_LEFT_OUT, n_batches)
    for part in range(n_left_out):
        others = [row for k, row in enumerate(rows) if k % n_left_out != part]
        left_out = _joined(rows[part::n_left_out])
        weight = fit_marginal(*_joined(others))
        share = len(left_out[1]) / sum(len(truth) for _, truth, _, _ in rows)
        figures["crps before"] += share * _score(*left_out, 0 * weight)
        figures["crps after"] += share * _score(*left_out, weight)
    flow.calibration.weight.copy_(fit_marginal(*_joined(rows)))
    return figures


def _rows(flow, batch, number, n_draws):
    """Return draws, truth, map and features, one row per contact of a recording."""
    draws = draw(flow, batch.conditions, n_draws, _FIRST_BATCH + number)
    marginal = flow.calibration(batch.conditions)
    marginal = Marginal(
        marginal.centre[..., ::_THINNED].flatten(0, 1),
        *(
            value.flatten(0, 1)
            for value in (marginal.unit, marginal.log_scale, marginal.tail)
        ),
    )
    return (
        draws[..., ::_THINNED].flatten(1, 2),
        batch.pairs.deep[..., ::_THINNED].flatten(0, 1),
        marginal,
        flow.calibration.design(batch.conditions).flatten(0, 1),
    )


def _joined(rows):
    draws, truth, marginals, design = zip(*rows, strict=True)
    names = ("centre", "unit", "log_scale", "tail")
    return (
        torch.cat(draws, 1),
        torch.cat(truth),
        Marginal(*(torch.cat([getattr(m, name) for m in marginals]) for name in names)),
        torch.cat(design),
    )


def _score(draws, truth, marginal, design, weight):
    """Return the CRPS of calibrated draws over the standard deviation of each truth."""
    change = (design @ weight)[:, None]
    moved = marginal.changed(change).apply(draws)
    score = crps_ensemble(moved, truth).mean(-1)
    return float((score / truth.std(-1)).mean())


def main(argv=None):
    """Calibrate weights and write them to a new file."""
    parser = argparse.ArgumentParser(prog="python -m mne_neuroflow.training.calibrate")
    parser.add_argument("weights", type=Path, help="a safetensors file of a flow")
    parser.add_argument("recipe", help="name of the recipe of their training")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--trust-steps", type=int, default=150)
    parser.add_argument("--amplitude-batches", type=int, default=8)
    parser.add_argument(
        "--head-steps",
        type=int,
        nargs=2,
        default=(350, 150),
        metavar=("PAIRS", "DRAWS"),
        help="steps of the pointwise head on simulated pairs and on draws",
    )
    parser.add_argument("--heads", nargs="*", help="head tables beside the template")
    parser.add_argument("--cache", help="file in which to keep the patients")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(argv)
    recipe = load_recipe(options.recipe)
    flow = ConditionalFlow(FlowConfig.from_dict(recipe["flow"])).to(options.device)
    flow.load_state_dict(load_file(options.weights, device=options.device))
    data, _ = prepare_data(
        recipe, options.device, options.heads, options.jobs, options.cache
    )
    flow.eval()
    if options.trust_steps:
        print(learn_trust(flow, data, options.trust_steps))
    if options.batches:
        print(calibrate(flow, data, options.batches))
    if options.amplitude_batches:
        print(widen_amplitudes(flow, data, options.amplitude_batches))
    for n_steps, n_draws in zip(options.head_steps, (0, HEAD_DRAWS), strict=True):
        learn_pointwise(flow, data, n_steps, n_draws)
    save_file({k: v.cpu() for k, v in flow.state_dict().items()}, options.out)


if __name__ == "__main__":
    main()
