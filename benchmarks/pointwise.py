"""Compare intervals from one pass with those of many draws, on held-out simulation.

Run ``python benchmarks/pointwise.py``. It measures the differences of means, spreads
and quantiles between the pointwise head and 400 draws, and the coverage and CRPS of
both. ``--speed`` also measures the time of ``predict_ieeg`` for both.
"""

import time
from collections import defaultdict
from functools import partial

import numpy as np
import torch
from figures import record
from held_out import make_data, make_parser
from machine import print_machine
from sampling_speed import CONTACTS, make_recording

from mne_neuroflow import predict_ieeg, predict_quantiles
from mne_neuroflow.scores.tensors import LEVELS, crps_ensemble, inside
from mne_neuroflow.training.evaluate import draw
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

# Equally spaced quantiles whose mean quantile score is half the CRPS.
_N_SHARES = 99
# Seconds at either end of a window that are not scored.
_MARGIN = 3 * 128
_STRIDE = 4


def main():
    parser = make_parser(__doc__, contacts_a_batch=128)
    parser.add_argument("--speed", action="store_true", help="also time predict_ieeg")
    parser.set_defaults(draws=400)
    options = parser.parse_args()
    flow, card = load_checkpoint(fetch_model(options.model), options.device)
    data = make_data(options)
    rows = defaultdict(list)
    with torch.inference_mode():
        for number in range(options.batches):
            compare(rows, flow, data.batch(number), options.draws, number)
    figures = {
        name: (np.mean(v), np.std(v, ddof=1) / np.sqrt(len(v)))
        for name, v in rows.items()
    }
    if options.speed:
        figures |= speed()
    print_machine()
    print(f"{len(rows['mean: distance from draws'])} recordings")
    for name, (value, error) in figures.items():
        spread = "" if error is None else f" ± {error:.4f}"
        print(f"{name:45s} {value:9.4f}{spread}")
    if options.record:
        record(options.record, figures, weights=card["sha256"])


def compare(rows, flow, batch, n_draws, number):
    """Add the figures of each recording.

    Distances are in standard deviations of the draws. The sampling error of the mean of
    draws is estimated from two halves of them and subtracted.
    """
    thin = slice(_MARGIN, -_MARGIN, _STRIDE)
    conditions, truth = batch.conditions, batch.pairs.deep[..., thin]
    draws = draw(flow, conditions, n_draws, number)[..., thin]
    distribution = flow.condition(conditions).pointwise()
    mean, std = (each[..., thin] for each in distribution.moments())
    spread = draws.std(0)
    halves = draws[::2].mean(0) - draws[1::2].mean(0)
    noise = (halves / spread).square().mean((1, 2)) / 4
    apart = ((mean - draws.mean(0)) / spread).square().mean((1, 2))
    rows["mean: distance from draws"] += (apart - noise).clamp_min(0).sqrt().tolist()
    rows["mean: absolute distance, noise of draws included"] += (
        ((mean - draws.mean(0)) / spread).abs().mean((1, 2)).tolist()
    )
    measures = {"spread": (std.square(), partial(torch.var, dim=0), 0.5)}
    for level in (0.5, 0.9):
        shares = [(1 - level) / 2, (1 + level) / 2]
        own = distribution.quantiles(shares)[..., thin].diff(dim=0)[0]
        measures[f"width of {level:.0%}"] = own, partial(_width, shares), 1.0
    for name, (own, measure, power) in measures.items():
        # By contact, over time; the same of two halves of the draws shows their noise.
        own, every, *halves = (
            power * each.mean(-1).log()
            for each in (own, *map(measure, (draws, draws[::2], draws[1::2])))
        )
        rows[f"{name}: ratio to draws"] += (own - every).exp().mean(1).tolist()
        rows[f"{name}: absolute log-ratio"] += (own - every).abs().mean(1).tolist()
        rows[f"{name}: absolute log-ratio of two halves of draws"] += (
            (halves[0] - halves[1]).abs().mean(1).tolist()
        )
    powers = draws.square().mean(-1).sort(0, descending=True).values
    strongest = powers[: n_draws // 100].sum(0) / powers.sum(0)
    rows["power in the strongest hundredth of draws"] += strongest.mean(1).tolist()
    for level in LEVELS:
        shares = [(1 - level) / 2, (1 + level) / 2]
        low, high = distribution.quantiles(shares)[..., thin]
        held = ((low <= truth) & (truth <= high)).float().mean((1, 2))
        rows[f"coverage {level:.2f}, one pass"] += held.tolist()
        held = inside(draws, truth, level).mean((1, 2))
        rows[f"coverage {level:.2f}, draws"] += held.tolist()
    unit = conditions.gain[:, None] * batch.setups.prior_std
    shares = (torch.arange(_N_SHARES) + 0.5) / _N_SHARES
    found = distribution.quantiles(shares.tolist())[..., thin]
    excess = truth - found
    share = shares.to(excess)[:, None, None, None]
    score = 2 * torch.maximum(share * excess, (share - 1) * excess).mean((0, -1))
    rows["CRPS over prior s.d., one pass"] += (score / unit).mean(1).tolist()
    score = crps_ensemble(draws, truth).mean(-1)
    rows["CRPS over prior s.d., draws"] += (score / unit).mean(1).tolist()


def _width(shares, draws):
    """Return the distance between two quantiles of draws."""
    low, high = torch.quantile(draws, torch.tensor(shares), dim=0)
    return high - low


def speed(n_seconds=120):
    """Time one pass and a hundred draws of the same recording, warm."""
    raw, figures = make_recording(n_seconds / 60), {}

    def took(name, call, seconds):
        begin, processor = time.perf_counter(), time.process_time()
        call()
        figures[f"{name}: times real time"] = (
            seconds / (time.perf_counter() - begin),
            None,
        )
        figures[f"{name}: seconds of signal per processor second"] = (
            seconds / (time.process_time() - processor),
            None,
        )

    options = dict(contacts=CONTACTS, verbose="error")
    predict_quantiles(raw.copy().crop(0, 10), **options)
    took("three quantiles", lambda: predict_quantiles(raw, **options), n_seconds)
    for output in ("mean", ("quantile", 0.9)):
        name = output if isinstance(output, str) else "one quantile"
        took(
            name,
            lambda output=output: predict_ieeg(raw, output=output, **options),
            n_seconds,
        )
    part = raw.copy().crop(0, 20, include_tmax=False)
    took(
        "one quantile of 100 draws",
        lambda: predict_ieeg(
            part, output=("quantile", 0.9), n_draws=100, random_state=0, **options
        ),
        20,
    )
    return figures


if __name__ == "__main__":
    main()
