"""Measure the effect of each choice in the design of the flow on held-out simulation.

Run ``python benchmarks/ablations.py``, which takes an hour on one core. Each row is a
small flow that differs from the shipped choices in one. All flows are trained for the
same number of steps on the same simulated batches, and evaluated on the same held-out
patients, who have other implants. A finished row is a line in ``OUT/rows.jsonl``. The
same command computes the rows that are missing. ``--table`` prints the finished rows.
Times are processor times of one thread, which other programs affect little.
"""

import argparse
import json
import time
from pathlib import Path
from types import SimpleNamespace

import torch
from ablation_variants import VARIANTS, Variant
from machine import print_machine
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mne_neuroflow._files import written_whole
from mne_neuroflow.contract import BLOCK
from mne_neuroflow.flow.context import N_RELATIONS, N_STATIC, Conditions
from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.flow.wavelet import LEVEL_BANDS, LEVEL_SIZES
from mne_neuroflow.scores.tensors import crps_ensemble, crps_normal, inside
from mne_neuroflow.training.data import SimulatedData, build_patients
from mne_neuroflow.training.evaluate import draw
from mne_neuroflow.training.fit import gaussian_losses, learning_rate, level_losses
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

#: Patients, windows and size of every run.
BUDGET = dict(
    width=32,
    n_heads=4,
    seconds=12,
    contacts=12,
    contacts_a_batch=48,
    patients=96,
    learning_rate=3e-3,
    warm_up=30,
    weight_decay=1e-4,
    clip=1.0,
    average=0.98,
)
LEVELS = (0.5, 0.9)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--batches", type=int, default=16, help="to evaluate on")
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--seconds", type=int, default=BUDGET["seconds"])
    parser.add_argument("--contacts-a-batch", type=int, default=48)
    parser.add_argument("--width", type=int, default=BUDGET["width"])
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument(
        "--only", nargs="*", help="questions, or QUESTION:CHOICE, in this order"
    )
    parser.add_argument(
        "--start",
        metavar="MODEL",
        help="go on from weights, as far as a variant has the same ones",
    )
    parser.add_argument("--table", action="store_true", help="print what there is")
    options = parser.parse_args()
    for name in ("seconds", "contacts_a_batch", "width", "learning_rate"):
        BUDGET[name] = getattr(options, name)
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.table:
        data, held_out = (Kept(options.out, part) for part in ("train", "held-out"))
        run(chosen(options.only), data, held_out, options)
    print_machine()
    print(f"One thread, {options.steps} steps of {BUDGET}")
    print(table(read_rows(options.out)))


def chosen(questions: list[str] | None) -> list[Variant]:
    """Variants that answer some questions, or are named; None are all."""
    found = {}
    for variant in VARIANTS:
        found.setdefault(variant.question, []).append(variant)
    if questions is None:
        questions = list(found)
    found |= {f"{each.question}:{each.name}": [each] for each in VARIANTS}
    if unknown := set(questions) - set(found):
        raise SystemExit(f"Unknown {sorted(unknown)}; there are {sorted(found)}.")
    return [variant for question in questions for variant in found[question]]


class Kept:
    """Simulated batches in files, so that all variants use the same batches.

    Parameters
    ----------
    out : Path
        Folder of the files.
    part : {'train', 'held-out'}
        Which patients; held-out ones have other implants.
    """

    def __init__(self, out: Path, part: str):
        self.folder, self.part, self._data = out / part, part, None
        self.folder.mkdir(exist_ok=True)

    def _simulated(self) -> SimulatedData:
        if self._data is None:
            held_out = self.part == "held-out"
            n_patients = BUDGET["patients"] // (2 if held_out else 1)
            patients = build_patients(
                [(BUDGET["contacts"], n_patients)],
                n_worlds=3,
                n_shafts=60,
                seed=11 + held_out,
                held_out=held_out,
            )
            common = (BUDGET["seconds"], BUDGET["contacts_a_batch"])
            self._data = SimulatedData(patients, *common, 11 + held_out, "cpu")
        return self._data

    def batch(self, number: int) -> SimpleNamespace:
        """Load or simulate a batch: what training and evaluation need, no more."""
        fname = self.folder / f"{number}.pt"
        if not fname.exists():
            batch = self._simulated().batch(number)
            kept = {
                "conditions": vars(batch.conditions),
                "deep": batch.pairs.deep.clone(),
                "prior_std": batch.setups.prior_std,
            }
            with written_whole(fname) as part:
                torch.save(kept, part)
        kept = torch.load(fname, weights_only=True)
        return SimpleNamespace(
            conditions=Conditions(**kept["conditions"]),
            pairs=SimpleNamespace(deep=kept["deep"]),
            prior_std=kept["prior_std"],
        )


def run(variants, data: Kept, held_out: Kept, options):
    """Train and evaluate the variants that are missing, one line a variant."""
    for variant in variants:
        # Read again each time, because another process may compute other rows.
        done = {(row["question"], row["name"]) for row in read_rows(options.out)}
        if (variant.question, variant.name) in done:
            continue
        flow = variant.flow(BUDGET["width"], BUDGET["n_heads"])
        if options.start:
            take_over(flow, options.start)
        flow, n_moved, seconds = train(flow, variant, data, options.steps)
        row = {
            "question": variant.question,
            "name": variant.name,
            "parameters": n_moved,
            "training_s": seconds,
            "speed": speed_ratio(variant),
            **evaluate(flow, held_out, options.batches, options.draws),
        }
        with (options.out / "rows.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def take_over(flow: ConditionalFlow, model: str):
    """Copy the weights that a model has under the same name and in the same shape."""
    known, own = load_checkpoint(fetch_model(model))[0].state_dict(), flow.state_dict()
    own |= {k: v for k, v in known.items() if k in own and v.shape == own[k].shape}
    flow.load_state_dict(own)


def read_rows(out: Path) -> list[dict]:
    """Rows that are finished."""
    fname = out / "rows.jsonl"
    return [json.loads(line) for line in fname.open()] if fname.exists() else []


def train(flow: ConditionalFlow, variant: Variant, data: Kept, n_steps: int):
    """Train by maximum likelihood.

    The loop of :class:`mne_neuroflow.training.fit.Training`, for flows and weights of
    levels that it does not know.

    Returns
    -------
    flow : ConditionalFlow
        The running average of the flow.
    n_moved : int
        Number of trained parameters.
    seconds : float
        Time of the steps, without simulation.
    """
    follow = get_ema_multi_avg_fn(BUDGET["average"])
    average = AveragedModel(flow, multi_avg_fn=follow)
    parameters = list(flow.parameters())
    optimizer = torch.optim.AdamW(
        parameters,
        lr=BUDGET["learning_rate"],
        betas=(0.9, 0.99),
        weight_decay=BUDGET["weight_decay"],
    )
    weights, n_moved, seconds = variant.weights(), 0, 0.0
    for step in range(n_steps):
        batch = data.batch(step)
        tick = time.process_time()
        (level_losses(flow, batch) * weights).sum().backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, BUDGET["clip"])
        rate = learning_rate(step, n_steps, BUDGET["learning_rate"], BUDGET["warm_up"])
        for group in optimizer.param_groups:
            group["lr"] = rate
        if torch.isfinite(norm):
            optimizer.step()
            average.update_parameters(flow)
        n_moved = sum(p.numel() for p in parameters if p.grad is not None)
        optimizer.zero_grad()
        seconds += time.process_time() - tick
    return average.module, n_moved, seconds


@torch.no_grad()
def evaluate(flow, data: Kept, n_batches: int, n_draws: int) -> dict:
    """Measure negative log-density, CRPS and coverage on held-out batches.

    Returns
    -------
    figures : dict
        ``nll`` in nats per whitened sample, and ``levels`` the same of each level;
        ``crps`` relative to the spatial posterior's; ``coverage`` of raw samples at
        the contacts; ``posterior``, the ``nll`` of the spatial posterior.
    """
    shares = torch.tensor(LEVEL_SIZES) / BLOCK
    losses, start, scores, hits = [], [], [], []
    for number in range(n_batches):
        batch = data.batch(number)
        truth, conditions = batch.pairs.deep, batch.conditions
        losses.append(level_losses(flow, batch))
        start.append((gaussian_losses(flow, batch) * shares).sum())
        draws = draw(flow, conditions, n_draws, number)
        hits.append([float(inside(draws, truth, level).mean()) for level in LEVELS])
        # In units of each contact's prior, for equal weights.
        gain = conditions.gain[:, None, None]
        unit = gain * batch.prior_std[..., None]
        std = gain * conditions.posterior_std[..., None]
        baseline = crps_normal(conditions.mean * gain, std, truth)
        pair = (crps_ensemble(draws, truth), baseline)
        scores.append([float((score / unit).mean()) for score in pair])
    levels = torch.stack(losses).mean(0)
    ours, posterior = torch.tensor(scores).sum(0)
    return {
        "nll": float((levels * shares).sum()),
        "levels": levels.tolist(),
        "posterior": float(torch.stack(start).mean()),
        "crps": float(ours / posterior),
        "coverage": torch.tensor(hits).mean(0).tolist(),
    }


def speed_ratio(variant: Variant, n_contacts=64, n_seconds=20, repeats=10) -> float:
    """Measure the speed of one draw relative to the shipped flow of the same width.

    The context is computed again for each draw, as in ``predict_ieeg``. The shortest
    time of each flow is used, because it is the least disturbed.
    """
    config = FlowConfig()
    conditions = made_up_conditions(n_contacts, n_seconds)
    noise = torch.randn(1, n_contacts, n_seconds, BLOCK)
    flows = (variant.flow(config.width, config.n_heads), ConditionalFlow())
    best = [float("inf"), float("inf")]
    for repeat in range(repeats):
        for k in (0, 1) if repeat % 2 else (1, 0):
            with torch.inference_mode():
                tick = time.process_time()
                flows[k].condition(conditions).sample(noise)
                best[k] = min(best[k], time.process_time() - tick)
    return best[1] / best[0]


def made_up_conditions(n_contacts: int, n_seconds: int) -> Conditions:
    """Make conditions of the right shapes, only for timing."""
    shape = (1, n_contacts)
    eye = torch.eye(n_contacts).repeat(1, len(LEVEL_SIZES), 1, 1)
    return Conditions(
        mean=torch.randn(*shape, BLOCK * n_seconds),
        mean_std=torch.ones(shape),
        posterior_std=torch.ones(shape),
        static=torch.randn(*shape, N_STATIC),
        relations=torch.rand(*shape, n_contacts, N_RELATIONS),
        half=(torch.arange(n_contacts)[None] % 2).float(),
        root=eye,
        inverse_root=eye,
        gain=torch.ones(1),
    )


def table(rows: list[dict]) -> str:
    """Print rows as a Markdown table, in the order of the variants."""
    order = [variant.question for variant in VARIANTS]
    rows = sorted(rows, key=lambda row: order.index(row["question"]))
    heads = ["question", "choice", "nats/sample"]
    heads += [f"{low}-{high} Hz" for low, high in LEVEL_BANDS]
    heads += ["CRPS ratio", "50 %", "90 %", "parameters", "speed", "training, s"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        lines.append(
            [
                row["question"],
                row["name"],
                f"{row['nll']:.3f}",
                *(f"{loss:.3f}" for loss in row["levels"]),
                f"{row['crps']:.3f}",
                *(f"{100 * share:.1f}" for share in row["coverage"]),
                f"{row['parameters'] / 1000:.0f} k",
                f"{row['speed']:.2f}",
                f"{row['training_s']:.0f}",
            ]
        )
    printed = ["| " + " | ".join(cells) + " |" for cells in lines]
    if rows:
        # Of the shipped wavelet; levels of others hold a little of their neighbours.
        printed.append(
            f"\nSpatial posterior alone: {rows[0]['posterior']:.3f} nats/sample."
        )
    return "\n".join(printed)


if __name__ == "__main__":
    main()
