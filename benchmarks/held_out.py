"""Measure calibration and accuracy of the shipped weights on held-out simulation.

Run ``python benchmarks/held_out.py``, which takes a quarter of an hour on two cores.
``--batches 1`` is a quick look. Seeds, montages, implants and heads differ from those
of the training, and the two sides of each pair belong together. ``--heads`` names head
tables of ``tools/build_head.py`` with other conductivities. Without it, the true heads
are the template with displaced sites. Each batch brings another head.
"""

import argparse
import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch
from figures import as_written, record
from machine import machine, print_machine

from mne_neuroflow.training.data import SimulatedData, build_patients
from mne_neuroflow.training.evaluate import evaluate, evaluate_one_pass
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

CONTACTS = (16, 32, 64)


def main():
    parser = make_parser(__doc__, contacts_a_batch=384)
    parser.add_argument("--json", type=Path, help="file of figures for a card")
    parser.add_argument(
        "--one-pass",
        action="store_true",
        help="only expected values and intervals from one pass, without draws",
    )
    options = parser.parse_args()
    flow, card = load_checkpoint(fetch_model(options.model), options.device)
    data = make_data(options)
    torch.manual_seed(0)
    print_machine()
    if options.one_pass:
        figures = evaluate_one_pass(flow, data, options.batches)
        list_figures(figures)
    else:
        figures = evaluate(flow, data, options.batches, options.draws)
        report(figures)
    if options.record:
        record(options.record, figures, weights=card["sha256"])
    if options.json:
        known = machine()
        n_recordings = figures["recordings"][0]
        about = f"{known['command']}; {n_recordings} recordings; {known['machine']}; "
        about += f"{known['versions']}; {date.today().isoformat()}"
        measured = {"measured_with": about, "calibration": as_written(figures)}
        options.json.write_text(json.dumps(measured, indent=1))


def make_parser(doc, contacts_a_batch):
    """Make the options of benchmarks on held-out simulation."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--model", default="mtl-v2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--heads", nargs="*")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--seconds", type=int, default=24, help="of each recording")
    parser.add_argument("--contacts-a-batch", type=int, default=contacts_a_batch)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument(
        "--record",
        metavar="SECTION",
        help="section of doc/figures.json for the figures that pages quote",
    )
    parser.add_argument(
        "--electrodes",
        type=int,
        nargs=2,
        metavar=("LEAST", "MOST"),
        help="only montages of this size, both ends included",
    )
    return parser


def make_data(options, kind=SimulatedData):
    """Build held-out patients and their batches."""
    # Few montages have the same size: one in 24 has 8 electrodes.
    n_times = 3 if options.electrodes is None else 60
    sizes = [(n, n_times * options.contacts_a_batch // n) for n in CONTACTS]
    patients = build_patients(
        sizes,
        n_worlds=max(3, options.batches, 1 + len(options.heads or [])),
        n_shafts=30,
        seed=options.seed,
        heads=options.heads,
        held_out=True,
        n_jobs=2,
        device=options.device,
    )
    if options.electrodes is not None:
        least, most = options.electrodes
        patients = only_montages(patients, least, most)
    size = (options.seconds, options.contacts_a_batch)
    return kind(patients, *size, options.seed, options.device, mismatched=False)


def only_montages(patients, least, most):
    """Keep the patients whose montages are of this size."""
    banks = []
    for bank in patients.banks:
        n_used = bank.used.sum(-1)
        kept = torch.nonzero((least <= n_used) & (n_used <= most))[:, 0]
        if not len(kept):
            raise SystemExit(f"No patient has {least} to {most} electrodes.")
        banks.append(bank.pick(kept))
    return replace(patients, banks=banks)


def list_figures(figures):
    """Print each figure with its standard error."""
    for name, (value, error) in figures.items():
        print(f"{name:45s} {value:9.4f} ± {error:.4f}")


def report(figures):
    """Print the figures, and the targets of four of them."""
    list_figures(figures)
    figures = {name: value for name, (value, _) in figures.items()}
    gain = 1 - figures["crps flow"] / figures["crps posterior"]
    skill = 1 - figures["crps flow"] / figures["crps prior"]
    shuffled = 1 - figures["crps shuffled"] / figures["crps prior"]
    nats = figures["nll posterior"] - figures["nll flow"]
    print(f"90 % intervals cover {figures['coverage 0.90']:.1%} (87 to 93 % wanted)")
    print(f"CRPS {gain:.1%} below the spatial posterior (5 % wanted)")
    print(f"negative log-density {nats:.2f} nats per sample below it (0.7 wanted)")
    print(
        f"CRPS {skill:+.1%} against the prior; with another recording's scalp "
        f"{shuffled:+.1%} (none wanted)"
    )
    own = {k: figures[f"crps of own draws, {k}"] for k in ("flow", "prior", "shuffled")}
    print(
        "where a draw of the flow is the truth, the same figures are "
        f"{1 - own['flow'] / own['prior']:+.1%} and "
        f"{1 - own['shuffled'] / own['prior']:+.1%}"
    )
    print(
        f"r of the mean of draws {figures['r mean']:.2f}, of any number of them "
        f"{figures['r expected']:.2f}, of one pass "
        f"{figures['r one pass']:.2f}, of the spatial posterior's mean "
        f"{figures['r posterior']:.2f}"
    )


if __name__ == "__main__":
    main()
