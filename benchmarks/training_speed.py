"""Simulated pairs and training steps per second, and who takes the time.

Run ``python benchmarks/training_speed.py [--device cuda] [--contacts 1536]``.
"""

import argparse
import time

import torch

from mne_neuroflow.training.fit import Training, load_recipe, prepare_data


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="mtl-v1")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--contacts", type=int, nargs="+", default=[1536])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--heads", nargs="*")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    tick = time.perf_counter()
    data, _ = prepare_data(
        recipe, options.device, options.heads, options.jobs, options.cache
    )
    print(f"banks built in {time.perf_counter() - tick:.1f} s")
    cuda = options.device == "cuda"
    wait = torch.cuda.synchronize if cuda else (lambda: None)
    name = torch.cuda.get_device_name() if cuda else "CPU"
    print(f"torch {torch.__version__}, {name}")
    for contacts in options.contacts:
        data.n_tokens = contacts
        training = Training(recipe, "runs/speed", options.device)
        shares = {"simulation": 0.0, "flow": 0.0}
        pairs = 0
        for number in range(options.steps + 3):
            wait()
            start = time.perf_counter()
            batch = training.draw_batch(data)
            wait()
            middle = time.perf_counter()
            training.update(batch)
            wait()
            if number >= 3:
                shares["simulation"] += middle - start
                shares["flow"] += time.perf_counter() - middle
                pairs += len(batch.pairs.deep)
        total = sum(shares.values())
        line = f"{contacts} contacts a batch: {options.steps / total:.2f} steps/s, "
        line += f"{pairs / total:.1f} pairs of {data.n_seconds} s per second, "
        line += ", ".join(f"{k} {v / total:.0%}" for k, v in shares.items())
        if cuda:
            line += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        print(line, flush=True)


if __name__ == "__main__":
    main()
