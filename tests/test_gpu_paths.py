"""What is computed otherwise on a GPU, made to run on a CPU.

Tensors say that they are on a GPU. The precision and the speed of its kernels remain
untested without one.
"""

import flow_cases
import torch

from mne_neuroflow.flow import slabs
from mne_neuroflow.flow.sampler import sample_blocks
from mne_neuroflow.flow.wavelet import WaveletTransform


def test_samples_are_those_of_the_cpu(monkeypatch):
    """All seconds at once and torch's own functions: to 1e-5 of the largest sample.

    In float32. Seen to fail with ``cosh`` in place of torch's ``sinh``, and if a GPU
    asks for the size of a slab.
    """
    flow = flow_cases.make_flow(scale=0.1, dtype=torch.float32)
    recording = flow_cases.Recording(4, torch.float32)
    arguments = flow, recording.conditions_of, recording.noise, 0, 30, [0, 1], 2, 0
    monkeypatch.setattr(slabs, "_TOKENS", 48)
    wanted = torch.stack(list(sample_blocks(*arguments)))
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    monkeypatch.setattr(slabs, "_TOKENS", None)
    found = torch.stack(list(sample_blocks(*arguments)))
    assert not torch.equal(found, wanted)  # other functions have run
    limit = 1e-5 * float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=limit)


def test_wavelets_are_float64(monkeypatch):
    """Levels of a float32 signal are those of float64 to half of a last digit, 6e-8.

    Seen to fail with float32 products (1.1e-6 of a signal of unit variance).
    """
    rng = torch.Generator().manual_seed(0)
    signal = torch.randn(2, 128 * 6, generator=rng)
    transform = WaveletTransform()
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    levels = transform(signal)
    assert all(level.dtype == torch.float32 for level in levels)
    exact = transform(signal.double())
    for level, other in zip(levels, exact, strict=True):
        torch.testing.assert_close(level.double(), other, rtol=6e-8, atol=1e-12)
