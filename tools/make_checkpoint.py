"""Turn finished training runs into a checkpoint with its model card.

    python tools/make_checkpoint.py runs/mtl-v2 --recipe mtl-v2 \
        --machine "one CPU core" --after runs/mtl-v1.json \
        --calibration runs/held_out.json --out runs/mtl-v2.safetensors

uses the averaged weights of the last run. The card contains the budget of all runs and
the figures from ``benchmarks/held_out.py --json``. The logs of all runs are copied to
``doc/training``. With ``--after``, budget and logs are added to those of the weights
with which the runs started.
"""

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file

from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.training.fit import averaged_weights
from mne_neuroflow.training.recipe import load_recipe
from mne_neuroflow.weights.checkpoint import save_checkpoint

PRIOR = (
    "Simulated pairs only, no recording of any person: head models of skull "
    "conductivity 0.003-0.02 S/m with displaced electrodes and contacts, 8-128 "
    "electrodes, real and random temporal implants, aperiodic activity and rhythms "
    "per region, coupling of random strength, sign and lag between mesial and lateral "
    "temporal lobe, interictal spikes, seizures, slowing, and scalp artifacts."
)


def read_log(run):
    """Read the lines of a run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def main():
    """Write the checkpoint, its card and the log."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--machine", required=True)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--version", default="1")
    parser.add_argument(
        "--weights", type=Path, help="those of the last run, calibrated"
    )
    parser.add_argument(
        "--finish", help="what was done to the weights after the last run, in words"
    )
    parser.add_argument(
        "--after", type=Path, help="card of the weights that the first run started from"
    )
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    flow = ConditionalFlow(FlowConfig.from_dict(recipe["flow"]))
    flow.load_state_dict(
        load_file(options.weights or averaged_weights(options.runs[-1]))
    )
    logs = [read_log(run) for run in options.runs]
    steps = [log[-1]["step"] for log in logs]
    minutes = [f"{log[-1]['seconds'] / 60:.0f}" for log in logs]
    measured = {"measured_with": "", "calibration": None}
    if options.calibration:
        measured = json.loads(options.calibration.read_text())
    before = ""
    if options.after:
        before = json.loads(options.after.read_text())["training_budget"] + "; then "
    card = {
        "name": options.out.stem,
        "version": options.version,
        "prior": PRIOR,
        "training_budget": (
            f"{before}{' + '.join(minutes)} minutes on {options.machine}; "
            f"{' + '.join(map(str, steps))} steps of windows of "
            f"{recipe['data']['seconds']} s, each run from the weights before"
            f"{f'; {options.finish}' if options.finish else ''}"
        ),
        **measured,
        "licence": "BSD-3-Clause",
        "provenance": (
            "Trained by the mne_neuroflow developers with python -m "
            f"mne_neuroflow.training; recipe {options.recipe}; log in doc/training."
        ),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    print(save_checkpoint(options.out, flow, card, half=True))
    folder = Path(__file__).parents[1] / "doc" / "training"
    folder.mkdir(parents=True, exist_ok=True)
    fname = folder / f"{options.out.stem}.jsonl"
    first = 0
    if options.after:
        first = 1 + json.loads(fname.read_text().splitlines()[-1])["run"]
    with fname.open("a" if options.after else "w") as stream:
        for number, log in enumerate(logs, first):
            for line in log:
                stream.write(json.dumps({"run": number, **line}) + "\n")


if __name__ == "__main__":
    main()
