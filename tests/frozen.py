"""A fixed input through the shipped weights, stage by stage.

``python tests/frozen.py`` writes the file that the test compares with. Do that only
when new weights are embedded on purpose.
"""

from pathlib import Path

import numpy as np
import torch

from mne_neuroflow.flow.context import make_conditions
from mne_neuroflow.flow.sampler import Noise, contact_keys
from mne_neuroflow.head.adaptive import POSTERIOR_FIELDS, adapt
from mne_neuroflow.head.bands import N_HALO, band_covariance
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.leadfield import contact_lead_field, scalp_lead_field
from mne_neuroflow.head.posterior import contact_halves, source_generators
from mne_neuroflow.head.scalp_model import scalp_model
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

FNAME = Path(__file__).parent / "data" / "mtl-v2-frozen.npz"
N_BLOCKS = 6
CONTACTS = np.array(
    [[-0.024, -0.02, -0.018], [-0.034, -0.02, -0.018], [-0.052, -0.02, -0.018]]
    + [[0.022, -0.004, -0.02], [0.05, -0.004, -0.024]]
)


def adapted(scalp, electrodes):
    """Spatial posterior of a window and its mean at the contacts."""
    factor = source_generators(load_head()).factor
    fields = scalp_lead_field(load_head(), electrodes).astype(np.float32) @ factor
    deep = contact_lead_field(load_head(), CONTACTS).astype(np.float32) @ factor
    rms = np.sqrt((scalp**2).mean(1))
    wide = np.pad(scalp, ((0, 0), (N_HALO, N_HALO)), "reflect")
    model = scalp_model(fields, electrodes)
    posterior = adapt(model, deep, band_covariance([wide]), rms)
    return posterior, posterior.apply(wide)


def stages():
    """Run the fixed input; returns named arrays, coarse stages first."""
    flow, _ = load_checkpoint(fetch_model("mtl-v2"))
    electrodes = load_head().scalp.rr[::25]
    noise = Noise(20260, contact_keys(CONTACTS))
    scalp = Noise(7, np.arange(len(electrodes)))([0], 0, N_BLOCKS)
    scalp = 1e-5 * scalp[0].flatten(1).double().numpy()
    scalp = scalp - scalp.mean(0)
    posterior, mean = adapted(scalp, electrodes)

    def tensor(array):
        return torch.as_tensor(np.asarray(array), dtype=torch.float32)[None]

    distance = np.linalg.norm(CONTACTS[:, None] - electrodes, axis=-1).min(1)
    with torch.inference_mode():
        conditions = make_conditions(
            tensor(mean),
            {name: tensor(getattr(posterior, name)) for name in POSTERIOR_FIELDS},
            tensor(CONTACTS),
            tensor(distance),
            tensor(contact_halves(CONTACTS)),
            *map(tensor, (len(electrodes), posterior.gain, posterior.spread)),
        )
        conditioned = flow.condition(conditions)
        draw = noise([0], 0, N_BLOCKS), noise.amplitude([0])
        sample = conditioned.sample(*draw)
        log_prob = conditioned.log_prob(sample)
        context = flow.context(conditions)
    return {
        "powers": np.log(posterior.sources.power),
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
