"""Measure the parts of the time of a prediction, and the time of its matrix products.

Run ``python benchmarks/sampling_profile.py``, which takes a minute: 64 contacts, 64
electrodes, 2 minutes at 512 Hz, one CPU thread. Times are CPU times of the process,
which a busy machine affects least. The matrix products of the flow are computed again
by themselves, as ``torch.mm`` and ``torch.bmm`` of the same shapes. They should take at
least 35 % of the time of the flow.
"""

import argparse
import time
from collections import Counter, defaultdict
from functools import partial

import mne
import numpy as np
import torch
from machine import print_machine
from sampling_speed import CONTACTS, make_recording
from torch.profiler import ProfilerActivity, profile

from mne_neuroflow.flow.sampler import sample_blocks
from mne_neuroflow.predictor import Predictor

WANTED = 0.35
PRODUCTS = ("aten::addmm", "aten::addmm_", "aten::mm")
BATCHED = ("aten::bmm", "aten::baddbmm")
# Kinds of the flow's operations, by the beginning of their names.
KINDS = {
    "matrix products": PRODUCTS,
    "attention": (*BATCHED, "aten::_softmax", "aten::_scaled_dot", "aten::_log_sum"),
    "wavelet": ("aten::mkldnn_conv", "aten::_conv", "aten::conv"),
    "normalization, GELU": ("aten::native_layer_norm", "aten::gelu"),
    "copies": ("aten::copy_", "aten::cat", "aten::clone", "aten::index_select"),
    "noise": ("aten::bitwise", "aten::__rshift", "aten::cos", "aten::sin"),
    "element by element": ("aten::",),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    mne.set_log_level("error")
    print_machine()
    raw = make_recording(options.seconds / 60)
    measure = partial(cpu_seconds, repeats=options.repeats)
    start = partial(Predictor, raw, contacts=CONTACTS, random_state=0)
    predictor = start()
    halo, n = predictor.flow.reach, options.seconds
    window = (-halo, n + 2 * halo)
    conditions = predictor.conditions(*window)
    draw = partial(draw_once, predictor, conditions, 0, n)
    bare = partial(draw_once, predictor, conditions, -halo, n, 0)
    coarse = draw().numpy()
    whole = measure(draw)
    rows = {
        "start (checks, spatial stage)": measure(start),
        "scalp to the flow's conditions": measure(
            partial(predictor.conditions, *window)
        ),
        "flow": whole,
        "  of it the halo": whole - measure(bare),
        "draw to the recording's rate": measure(
            partial(to_recording, predictor, coarse, raw.n_times)
        ),
    }
    total = sum(value for name, value in rows.items() if name[0] != " ")
    print(
        f"{n} s of {len(coarse)} contacts, one thread: {n / total:.0f} times real time"
    )
    for name, value in rows.items():
        print(f"{name:36s}{value:8.3f} s{value / total:7.0%}")
    report_flow(draw, whole, options.repeats)


def draw_once(predictor, conditions, first, n_blocks, halo=None):
    """Sample one draw from given conditions."""
    flow, noise = predictor.flow, predictor.noise
    if halo is None:
        arguments = (flow, lambda *window: conditions, noise, first, n_blocks, [0], 1)
        return next(iter(sample_blocks(*arguments)))
    with torch.inference_mode():
        cut = conditions.mean[..., : n_blocks * 128].contiguous()
        conditioned = flow.condition(
            conditions.__class__(**{**vars(conditions), "mean": cut}), first
        )
        return conditioned.sample(noise([0], first, n_blocks), noise.amplitude([0]))


def to_recording(predictor, coarse, n_times):
    """Resample from the model's rate to the recording's."""
    resampler = predictor.scalp.resampler
    first, last = resampler.model_range(0, n_times)
    wide = np.pad(coarse, ((0, 0), (-first, max(last - coarse.shape[1], 0))))
    return resampler.from_model(wide, first, 0, n_times)


def report_flow(draw, whole, repeats):
    """Print the time of the flow's operations, and of its products by themselves."""
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        draw()
    taken, shapes = defaultdict(float), Counter()
    for event in found.events():
        kind = next((k for k, v in KINDS.items() if event.name.startswith(v)), "other")
        taken[kind] += event.self_cpu_time_total
        if event.name in (*PRODUCTS, *BATCHED):
            shapes[shape_of(event)] += 1
    total = sum(taken.values())
    print("of the flow, by operation (shares of a profile, which slows all of them):")
    for kind, value in sorted(taken.items(), key=lambda item: -item[1]):
        print(f"  {kind:34s}{value / total:9.0%}")
    seconds, flops = plain_products(shapes, repeats)
    print(
        f"the flow's {sum(shapes.values())} matrix products by themselves: "
        f"{flops / 1e9:.1f} GFLOP in {seconds:.3f} s,"
    )
    print(
        f"{seconds / whole:.0%} of the flow's {whole:.3f} s (wanted {WANTED:.0%}); "
        f"{flops / seconds / 1e9:.0f} and {flops / whole / 1e9:.0f} GFLOP a second"
    )


def shape_of(event):
    """Return the shapes of the two factors of a product."""
    factors = [tuple(s) for s in event.input_shapes if s and len(s) >= 2]
    return tuple(factors[-2:])


def plain_products(shapes, repeats):
    """Time products of these shapes, and count their operations."""
    seconds = flops = 0
    for (one, other), count in shapes.items():
        a, b = torch.randn(one), torch.randn(other[:-2] + other[:-3:-1])
        work = partial(torch.matmul, a, b.transpose(-1, -2))
        seconds += count * cpu_seconds(work, repeats, 20)
        flops += count * 2 * a.numel() * other[-1]
    return seconds, flops


def cpu_seconds(work, repeats, at_once=1):
    """Return the CPU time of a call: the minimum over repetitions."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        for _ in range(at_once):
            work()
        taken.append((time.process_time() - start) / at_once)
    return min(taken)


if __name__ == "__main__":
    main()
