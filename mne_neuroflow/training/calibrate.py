"""What likelihood leaves open in a trained flow: its means, how loud draws are, tails.

One command, after training::

    python -m mne_neuroflow.training.calibrate weights.safetensors mtl-v2 --out FILE

First the trust in the posterior mean, which the likelihood holds lower than the CRPS
(doc/decisions/flow.md). Then the spread of amplitudes, which a recording's likelihood
hardly depends on: a level of a contact counts once among thousands of its samples.
Then the last layer, scales and tails. The recordings are simulated from the recipe's
training patients, in batches that no step of training has used.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ..flow.amplitude import N_VARIATES
from ..flow.calibration import Calibration, Marginal, fit_marginal
from ..flow.model import ConditionalFlow, FlowConfig
from ..scores.tensors import crps_ensemble
from .data import SimulatedData
from .fit import learning_rate, load_recipe, prepare_data
from .judge import draw

# Batches are numbered by the steps of training; these are beyond all of them.
_FIRST_BATCH = 10**6
_THINNED = 16  # samples, of which one counts: neighbours say the same
# Factors on the spreads of amplitudes and shifts of their centres that are tried: the
# wider the spread, the louder the mean of contacts. Still wider ones score better, but
# then samples' intervals are too wide (doc/decisions/flow.md).
_WIDER = ((1.0, 0.0), (1.15, -0.03), (1.3, -0.06))
# Highest learning rates of the trust, and the steps until they are reached.
_RATES, _WARM_UP = {"bias": 4e-3, "weight": 1e-3}, 10
_LEFT_OUT = 5  # parts of the recordings, each scored by what the others say


def learn_trust(
    flow: ConditionalFlow, data: SimulatedData, n_steps: int, n_judged: int = 4
) -> dict:
    """Learn by the CRPS how much of the posterior mean to take over.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device. Its trust is changed, nothing else.
    data : SimulatedData
        Where recordings come from: of training, not those that judge.
    n_steps, n_judged : int
        Steps of one batch each, and batches that none of them sees.

    Returns
    -------
    figures : dict
        ``crps before`` and ``crps after``, relative to each contact's prior, of the
        batches that the steps have not seen.
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
    judged = range(_FIRST_BATCH, _FIRST_BATCH + n_judged)
    figures = {"crps before": _mean_crps(flow, data, judged)}
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, n_steps, group["peak"], _WARM_UP)
        # Not those that the other calibrations look at.
        batch = data.batch(2 * _FIRST_BATCH + step)
        with torch.enable_grad():
            loss = _crps_of_two(flow, batch, rng)
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    figures["crps after"] = _mean_crps(flow, data, judged)
    return figures


def _crps_of_two(flow, batch, rng):
    """Fair estimate of the CRPS from two draws, relative to each contact's prior."""
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
    """Prior standard deviation of each contact in volts, (batch, contact, 1)."""
    gain = batch.conditions.gain[:, None, None]
    return gain * batch.setups.prior_std[..., None]


@torch.no_grad()
def widen_amplitudes(
    flow: ConditionalFlow, data: SimulatedData, n_batches: int, n_draws: int = 16
) -> dict:
    """Choose how much wider than the likeliest amplitudes shall be.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device. Its amplitudes are changed.
    data : SimulatedData
        Where recordings come from: of training, not those that judge.
    n_batches, n_draws : int
        Batches, and draws of each recording.

    Returns
    -------
    scores : dict
        By factor on the spreads and shift of the centres, the continuous ranked
        probability score of the logarithm of every contact's r.m.s. in volts over the
        window, levels counting alike. The best was taken.
    """
    weight = flow.amplitude.weight
    likeliest = weight.clone()
    n_levels = likeliest.shape[1] // 2

    def change(factor, shift):
        weight.copy_(likeliest)
        weight[0, :n_levels] += shift
        weight[:, n_levels:] *= factor

    scores = dict.fromkeys(_WIDER, 0.0)
    for number in range(_FIRST_BATCH, _FIRST_BATCH + n_batches):
        batch = data.batch(number)
        truth = _log_amplitude(flow, batch.pairs.deep)
        for how in scores:
            change(*how)
            draws = draw(flow, batch.conditions, n_draws, number)
            amplitude = torch.stack([_log_amplitude(flow, one) for one in draws])
            scores[how] += float(crps_ensemble(amplitude, truth).mean()) / n_batches
    change(*min(scores, key=scores.get))
    return scores


def _log_amplitude(flow, potentials):
    """Logarithm of the r.m.s. of each contact by level, (batch, contact, level)."""
    powers = [level.square().mean((2, 3)) for level in flow.wavelet(potentials)]
    return 0.5 * torch.log(torch.stack(powers, -1))


@torch.no_grad()
def calibrate(
    flow: ConditionalFlow, data: SimulatedData, n_batches: int, n_draws: int = 16
) -> dict:
    """Set the calibration of a flow from simulated recordings.

    Parameters
    ----------
    flow : ConditionalFlow
        In evaluation mode, on the data's device. Its calibration is replaced.
    data : SimulatedData
        Where recordings come from: of training, not those that judge.
    n_batches, n_draws : int
        Batches, and draws of each recording.

    Returns
    -------
    figures : dict
        ``crps before`` and ``crps after``, relative to the standard deviation of each
        contact's truth, of recordings that the calibration was not chosen by.
    """
    flow.calibration = Calibration().to(data.device)  # which changes nothing
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
    """Draws, truth, map and features of a batch, a row per contact of a recording."""
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
    """CRPS of calibrated draws over the standard deviation of each truth."""
    change = (design @ weight)[:, None]
    moved = marginal.changed(change).apply(draws)
    score = crps_ensemble(moved, truth).mean(-1)
    return float((score / truth.std(-1)).mean())


def main(argv=None):
    """Calibrate weights and write them again."""
    parser = argparse.ArgumentParser(prog="python -m mne_neuroflow.training.calibrate")
    parser.add_argument("weights", type=Path, help="a safetensors file of a flow")
    parser.add_argument("recipe", help="name of the recipe that they were trained by")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--trust-steps", type=int, default=150)
    parser.add_argument("--amplitude-batches", type=int, default=8)
    parser.add_argument("--heads", nargs="*", help="head tables beside the template")
    parser.add_argument("--cache", help="file that the patients are kept in")
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
    if options.amplitude_batches:
        print(widen_amplitudes(flow, data, options.amplitude_batches))
    if options.batches:
        print(calibrate(flow, data, options.batches))
    save_file({k: v.cpu() for k, v in flow.state_dict().items()}, options.out)


if __name__ == "__main__":
    main()
