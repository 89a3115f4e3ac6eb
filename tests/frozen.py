"""A fixed input through the shipped weights, stage by stage.

``python tests/frozen.py`` writes the file that the test compares with. Do that only
when new weights are embedded on purpose.
"""

from pathlib import Path

import numpy as np
import torch

from mne_neuroflow.flow.context import make_conditions
from mne_neuroflow.flow.sampler import Noise, contact_keys
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.posterior import contact_halves, spatial_posterior
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

FNAME = Path(__file__).parent / "data" / "mtl-v1-frozen.npz"
N_BLOCKS = 6
CONTACTS = np.array(
    [[-0.024, -0.02, -0.018], [-0.034, -0.02, -0.018], [-0.052, -0.02, -0.018]]
    + [[0.022, -0.004, -0.02], [0.05, -0.004, -0.024]]
)


def stages():
    """Run the fixed input; returns named arrays, coarse stages first."""
    flow, _ = load_checkpoint(fetch_model("mtl-v1"))
    electrodes = load_head().scalp.rr[::25]
    posterior = spatial_posterior(electrodes, CONTACTS)
    noise = Noise(20260, contact_keys(CONTACTS))
    scalp = Noise(7, np.arange(len(electrodes)))([0], 0, N_BLOCKS)
    scalp = 1e-5 * scalp[0].flatten(1)[None]
    scalp = scalp - scalp.mean(1, keepdim=True)

    def tensor(array):
        return torch.as_tensor(np.asarray(array), dtype=torch.float32)[None]

    distance = np.linalg.norm(CONTACTS[:, None] - electrodes, axis=-1).min(1)
    with torch.inference_mode():
        conditions = make_conditions(
            scalp,
            scalp.unflatten(-1, (-1, 128)).square().mean(-1).sqrt().median(-1).values,
            {name: tensor(value) for name, value in vars(posterior).items()},
            tensor(CONTACTS),
            tensor(distance),
            tensor(contact_halves(CONTACTS)),
        )
        conditioned = flow.condition(conditions)
        draw = noise([0], 0, N_BLOCKS), noise.amplitude([0])
        sample = conditioned.sample(*draw)
        log_prob = conditioned.log_prob(sample)
        context = flow.context(conditions)
    return {
        "static": conditions.static.numpy(),
        "mean": conditions.mean.numpy(),
        "context": context.numpy(),
        "sample": sample.numpy(),
        "log_prob": log_prob.numpy(),
    }


if __name__ == "__main__":
    FNAME.parent.mkdir(exist_ok=True)
    np.savez_compressed(FNAME, **stages())
    print(FNAME, FNAME.stat().st_size)
