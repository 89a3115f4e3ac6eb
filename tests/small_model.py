"""A model small enough to test the road with, until one needs the real weights."""

from contextlib import contextmanager

import torch

import mne_neuroflow.weights.fetch as fetch
from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.weights.checkpoint import save_checkpoint

CARD_FIELDS = (
    "name",
    "version",
    "prior",
    "training_budget",
    "calibration",
    "licence",
    "provenance",
)


@contextmanager
def one_thread():
    """Work with one thread: what is this small only waits for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def save_small_model(folder):
    """Save a flow with random weights, which is far from the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = FlowConfig(width=16, n_heads=2, steps=("sc", "c", "c", "c"))
        flow = ConditionalFlow(config)
        torch.manual_seed(1)  # whatever the layers have drawn
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape))
    return save_checkpoint(
        folder / "small.safetensors", flow, dict.fromkeys(CARD_FIELDS, "for tests")
    )


def use_model(monkeypatch, fname):
    """Let ``model='mtl-v2'`` mean this file; other names are looked up as ever."""
    fetch_model = fetch.fetch_model

    def fetch_small(name="mtl-v2", *args, **kwargs):
        if name == "mtl-v2":
            return fname
        return fetch_model(name, *args, **kwargs)

    monkeypatch.setattr(fetch, "fetch_model", fetch_small)
