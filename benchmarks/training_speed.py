"""Measure simulated pairs and training steps per second, and the time of their parts.

Run ``python benchmarks/training_speed.py [--device cuda] [--contacts 1536]``.
"""

import argparse
import time

import torch

from mne_neuroflow.training.fit import Training, prepare_data
from mne_neuroflow.training.recipe import load_recipe

WARM_UP = 3  # steps that are not counted


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--recipe", default="mtl-v2")
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
    clock = Clock(torch.cuda.synchronize if cuda else (lambda: None))
    data.simulate = clock.timed("simulation", data.simulate)
    data.conditions_of = clock.timed("spatial stage", data.conditions_of)
    name = torch.cuda.get_device_name() if cuda else "CPU"
    print(f"torch {torch.__version__}, {name}")
    for contacts in options.contacts:
        data.n_tokens = contacts
        training = Training(recipe, "runs/speed", options.device)
        update = clock.timed("flow", training.update)
        pairs = 0
        for number in range(-WARM_UP, options.steps):
            if number == 0:
                clock.seconds.clear()
            batch = training.draw_batch(data)
            update(batch)
            pairs += len(batch.pairs.deep) * (number >= 0)
        total = sum(clock.seconds.values())
        line = f"{contacts} contacts a batch: {options.steps / total:.2f} steps/s, "
        line += f"{pairs / total:.1f} pairs of {data.n_seconds} s per second, "
        line += ", ".join(f"{k} {v / total:.0%}" for k, v in clock.seconds.items())
        if cuda:
            line += f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        print(line, flush=True)


class Clock:
    """Measure the seconds of the parts of a step.

    Parameters
    ----------
    wait : callable
        Waits until the device has finished.

    Attributes
    ----------
    seconds : dict
        Total seconds of each part.
    """

    def __init__(self, wait):
        self.wait, self.seconds = wait, {}

    def timed(self, name, work):
        """Wrap a function so that its time counts for a part."""

        def timed_work(*args):
            self.wait()
            start = time.perf_counter()
            result = work(*args)
            self.wait()
            taken = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + taken
            return result

        return timed_work


if __name__ == "__main__":
    main()
