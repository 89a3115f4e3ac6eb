"""``python -m mne_neuroflow.training RECIPE --out FOLDER``."""

import argparse
import json
from contextlib import nullcontext

import torch

from .evaluate import evaluate
from .fit import Training, prepare_data
from .recipe import load_recipe


def main(argv=None):
    """Train a recipe, or continue a training that was stopped."""
    parser = argparse.ArgumentParser(prog="python -m mne_neuroflow.training")
    parser.add_argument("recipe", help="name of a shipped recipe, or a TOML file")
    parser.add_argument("--out", required=True, help="folder for checkpoint and log")
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--heads", nargs="*", help="head tables beside the template")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--cache", help="file in which to keep the patients")
    parser.add_argument("--start-from", help="weights with which a new run starts")
    parser.add_argument(
        "--evaluate", type=int, default=0, help="held-out batches of the evaluation"
    )
    parser.add_argument(
        "--devices", type=int, default=1, help="processes that share the run"
    )
    options = parser.parse_args(argv)
    recipe = load_recipe(options.recipe)
    fabric = launch(options.device, options.devices) if options.devices > 1 else None
    training = Training(recipe, options.out, options.device, fabric)
    if not training.resume() and options.start_from:
        training.start_from(options.start_from)
    one_after_the_other = fabric is not None and options.cache
    with fabric.rank_zero_first() if one_after_the_other else nullcontext():
        data, held_out = prepare_data(
            recipe, str(training.device), options.heads, options.jobs, options.cache
        )
    training.run(data, held_out, options.minutes)
    if options.evaluate and (fabric is None or fabric.is_global_zero):
        figures = evaluate(training.averaged(), held_out, options.evaluate)
        (training.out / "evaluation.json").write_text(json.dumps(figures, indent=1))
        print(json.dumps(figures, indent=1))


def launch(device, n_devices):
    """Start the other processes of a run, one for each device."""
    try:
        from lightning_fabric import Fabric
    except ImportError as err:
        raise SystemExit(
            "--devices needs lightning-fabric: pip install 'mne-neuroflow[train]'"
        ) from err
    fabric = Fabric(accelerator=device, devices=n_devices, strategy="ddp")
    fabric.launch()
    return fabric


if __name__ == "__main__":
    main()
