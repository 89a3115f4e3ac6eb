"""The predictor: a recording, its contacts and the flow between them, held once.

It reads and checks the recording when it is made, and conducts from then on: scalp,
spatial stage, flow, virtual contacts. Nothing is computed here that another room does
not know how to compute. It knows all that a prediction needs; it never knows who asks,
nor how a model is trained.
"""

from functools import partial
from numbers import Real

import numpy as np
from scipy.spatial.distance import cdist

from ._compat import (
    ProgressBar,
    _check_option,
    _validate_type,
    logger,
)
from ._text import listed
from .contract import BLOCK, TRAINED
from .head.adaptive import POSTERIOR_FIELDS, without_scalp
from .head.contacts import (
    contact_labels,
    contact_positions,
    contact_structures,
    make_contacts,
)
from .head.geometry import load_head
from .head.posterior import contact_halves
from .moments import mirrored, running_mean, running_std
from .scalp import tell_mismatch
from .spatial import HALO, AdaptedStage, check_as_fitted, find_stage
from .virtual import RawVirtual, describe, make_virtual_epochs, make_virtual_info

# A contact of whose variance the scalp explains less than this rests on the
# prior alone: the best linear guess would correlate below 0.22 with the truth.
ABSTAIN = 0.05
# Where the contacts are around which the weights were trained.
_TRAINED = ("hippocampus", "amygdala", "parahippocampal", "temporal-lateral", "insula")
# Seconds times contacts times draws that are computed at once with batch_size="auto".
# A CPU works in slabs smaller than this anyway, and more draws make slabs too short.
_CPU_TOKENS, _GPU_TOKENS = 10_000, 40_000
#: Weights that are used unless others are asked for.
MODEL = "mtl-v2"


class Predictor:
    """A recording, its contacts and the flow between them.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        What to predict, as for :func:`mne_neuroflow.make_contacts`.
    model : str | path-like | Model
        As for :func:`mne_neuroflow.predict_ieeg`, as are all that follow.
    random_state : int | RandomState | Generator | None
        Seed of the draws.
    device : str
        Where the flow is computed.
    batch_size : int | 'auto'
        Draws that are computed at once.
    trans : str | path-like | Transform
        From the recording's head coordinates to the fsaverage MRI.
    on_mismatch : str
        What to do when the recording is unlike what the model was built for.

    Attributes
    ----------
    montage : DigMontage
        The contacts.
    ch_names : list of str
        Their names.
    positions : ndarray, shape (n_contacts, 3)
        Metres, fsaverage surface RAS.
    scalp : Scalp
        The recording, read and checked once.
    adapted : AdaptedStage
        What the head model says of the contacts with the recording's own sources.
    implant : Implant
        What pairs have taught of the contacts.
    stage : object
        The spatial stage, see :mod:`mne_neuroflow.spatial`.
    gain : float
        The scalp's typical amplitude over what the stage expects.
    """

    def __init__(
        self,
        inst,
        *,
        contacts,
        model=MODEL,
        random_state=None,
        device="auto",
        batch_size="auto",
        trans="fsaverage",
        on_mismatch="warn",
    ):
        from .flow.sampler import Noise, contact_keys
        from .weights.model import find_model

        # What is quickly checked comes before the recording is read.
        self.montage = make_contacts(contacts, trans=trans)
        self.ch_names, self.positions = contact_positions(self.montage)
        self.device = _find_device(device)
        self.seed = find_seed(random_state)
        self.batch_size = _check_batch_size(batch_size)
        self.trans = trans
        self.model = find_model(model)
        self.flow = self.model.flow_on(self.device)
        implant = self.model.implant_at(self.positions, self.ch_names)
        self.scalp = check_as_fitted(inst, implant, trans, on_mismatch)
        self.noise = Noise(self.seed, contact_keys(self.positions), self.device)
        self.adapted = AdaptedStage(self.scalp, self.positions)
        distance = _nearest(self.positions, self.scalp.electrodes)
        half = contact_halves(self.positions)
        self._geometry = [
            self.tensor(each)[None] for each in (self.positions, distance, half)
        ]
        self.stage = None
        self.use(implant)
        self._tell(self.observability)
        self._check_likeness(on_mismatch)

    def use(self, implant):
        """Switch to the spatial stage, calibration and amplitudes of an implant."""
        self.implant = implant
        self.stage = find_stage(self.scalp, self.adapted, implant, self.stage)
        self._posterior = self._tensors_of(self.stage.posterior)
        self._known = {
            "calibration": self.tensor(implant.calibration)[None],
            "amplitude": self.tensor(implant.amplitude)[None],
        }
        adapted = self.adapted.posterior
        #: The recording's amplitude over the expected one, or that of its pairs.
        self.gain = adapted.gain if implant.gain is None else implant.gain
        recording = (len(self.scalp.electrodes), self.gain, adapted.spread)
        self._recording = [self.tensor([value]) for value in recording]

    def _tensors_of(self, posterior):
        """Bring what the flow reads of a posterior to its device."""
        return {
            name: self.tensor(getattr(posterior, name))[None]
            for name in POSTERIOR_FIELDS
        }

    def tensor(self, array):
        """Bring numbers to the flow's device, in single precision."""
        import torch

        return torch.as_tensor(
            np.asarray(array), dtype=torch.float32, device=self.device
        )

    @property
    def observability(self):
        """Share of each contact's variance that the recording explains."""
        return self.stage.posterior.observability

    def _tell(self, observability):
        low, middle, high = np.percentile(observability, [0, 50, 100])
        logger.info(
            "Virtual contacts: %d. The scalp explains %.0f to %.0f %% of their prior "
            "variance (median %.0f %%); %d of them rest on the prior alone (below "
            "%.0f %%).",
            len(observability),
            100 * low,
            100 * high,
            100 * middle,
            (observability < ABSTAIN).sum(),
            100 * ABSTAIN,
        )

    def _check_likeness(self, on_mismatch):
        """Name what the weights were not trained on."""
        gain = self.adapted.posterior.gain
        low, high = TRAINED["gain"]
        if not low < gain < high:
            tell_mismatch(
                f"The scalp's amplitude is {gain:.2g} times what the model "
                f"expects; the training recordings lie between {low:g} and {high:g} "
                "times: do not trust the intervals. Check the units, and mark bad "
                "channels in inst.info['bads'].",
                on_mismatch,
            )
        n_electrodes = len(self.scalp.ch_names)
        low, high = TRAINED["electrodes"]
        if not low <= n_electrodes <= high:
            remedy = (
                "Interpolate or rename channels, or expect wide intervals to be too "
                "narrow."
                if n_electrodes < low
                else f"Use inst.pick() to keep {high} or fewer that cover the head, or "
                "do not trust the intervals."
            )
            tell_mismatch(
                f"The recording has {n_electrodes} usable EEG channels, but the model "
                f"was trained on {low} to {high}. {remedy}",
                on_mismatch,
            )
        head = load_head()
        near = head.patch_centres[np.isin(head.patch_structure, _TRAINED)]
        farthest = TRAINED["from_temporal_lobes"][1]
        far = _nearest(self.positions, near) > farthest
        if far.any():
            names = listed(np.array(self.ch_names)[far])
            tell_mismatch(
                f"{far.sum()} of {len(far)} contacts are more than "
                f"{1e3 * farthest:.0f} mm from the temporal lobes, around which the "
                f"model was trained: {names}. Leave them out with make_contacts(), or "
                "do not trust their intervals.",
                on_mismatch,
            )

    def _nothing_seen(self, first_block, n_blocks):
        """Make the conditioning inputs of the prior: a scalp that says nothing."""
        from .flow.context import make_conditions

        return make_conditions(
            self.tensor(np.zeros((len(self.ch_names), n_blocks * BLOCK)))[None],
            self._tensors_of(without_scalp(self.stage.posterior)),
            *self._geometry,
            *self._recording,
            **self._known,
        )

    def conditions(self, first_block, n_blocks, epoch=None):
        """Make the flow's conditioning inputs for a stretch of the recording."""
        from .flow.context import make_conditions

        cut = BLOCK - HALO
        wide = self.scalp.to_model(first_block - 1, n_blocks + 2, epoch)
        return make_conditions(
            self.tensor(self.stage.mean(wide[:, cut : wide.shape[1] - cut]))[None],
            self._posterior,
            *self._geometry,
            *self._recording,
            **self._known,
        )

    def draws(self, start, stop, draws, epoch=None):
        """Yield draws of samples [start, stop) at the recording's rate, volts."""
        for first_sample, draw in self._model_draws(start, stop, draws, epoch):
            yield self.scalp.resampler.from_model(draw, first_sample, start, stop)

    def _model_draws(self, start, stop, draws, epoch):
        """Yield draws at the model's rate with the index of their first sample."""
        from .flow.sampler import sample_blocks

        first, last = self.scalp.resampler.model_range(start, stop)
        block, end = first // BLOCK, -(-last // BLOCK)
        tokens = (end - block + 2 * self.flow.reach) * len(self.positions)
        at_once = _CPU_TOKENS if self.device.type == "cpu" else _GPU_TOKENS
        auto = max(1, at_once // tokens)
        draws = list(draws)

        def sample(conditions):
            return sample_blocks(
                self.flow,
                conditions,
                self.noise,
                block,
                end - block,
                draws,
                auto if self.batch_size == "auto" else self.batch_size,
                0 if epoch is None else int(self.scalp.inst.selection[epoch]),
            )

        bad = self.scalp.is_bad(block, end - block, epoch)
        seen = sample(partial(self.conditions, epoch=epoch))
        if not bad.any():
            for draw in seen:
                yield block * BLOCK, draw.cpu().numpy()
            return
        # In bad time the scalp says nothing, and draws are those of the prior.
        share = bad.astype(np.float32)
        for one, other in zip(seen, sample(self._nothing_seen), strict=True):
            one, other = one.cpu().numpy(), other.cpu().numpy()
            yield block * BLOCK, one + share * (other - one)

    def summary(self, start, stop, output, n_draws, epoch=None):
        """Reduce draws of samples [start, stop) to what was asked for, volts."""
        if output == "sample":
            (draw,) = self.draws(start, stop, [0], epoch)
            return draw
        if output == "mean":
            return running_mean(self.draws(start, stop, mirrored(n_draws), epoch))
        if output == "std":
            return running_std(self.draws(start, stop, range(n_draws), epoch))
        share = 0.5 if output == "median" else output[1]
        # At the model's rate all draws fit in memory; contacts are brought to the
        # recording's rate one by one.
        kept = list(self._model_draws(start, stop, range(n_draws), epoch))
        first_sample, draws = kept[0][0], np.stack([draw for _, draw in kept])
        out = np.empty((draws.shape[1], stop - start))
        for contact in range(draws.shape[1]):
            fine = self.scalp.resampler.from_model(
                np.ascontiguousarray(draws[:, contact]), first_sample, start, stop
            )
            out[contact] = np.quantile(fine, share, axis=0, overwrite_input=True)
        return out

    def predict(self, output="sample", n_draws=100, bad_time="prior"):
        """Predict the recording, as :func:`mne_neuroflow.predict_ieeg` returns it."""
        scalp, description = self.scalp, self.describe(output)

        def compute(start, stop, epoch=None):
            data = self.summary(start, stop, output, n_draws, epoch)
            if bad_time == "nan":
                data[:, scalp.bad_samples(start, stop, epoch)] = np.nan
            return data

        if scalp.kind == "raw":
            info = make_virtual_info(scalp.inst, self.montage, description, self.trans)
            return RawVirtual(scalp.inst, info, compute, preload=scalp.inst.preload)
        data = np.empty((scalp.n_epochs, len(self.ch_names), scalp.n_times))
        for epoch, start, stop in _progress(_jobs(scalp)):
            data[epoch, :, start:stop] = compute(start, stop, epoch)
        return make_virtual_epochs(
            scalp.inst, data, self.montage, description, self.trans
        )

    def sample(self, n_draws=100, tmin=None, tmax=None):
        """Draw many times, as :func:`mne_neuroflow.sample_ieeg` returns it."""
        import xarray

        scalp, times = self.scalp, self.scalp.inst.times
        first, last = _find_span(times, tmin, tmax)
        shape = (n_draws, scalp.n_epochs, len(self.ch_names), last - first)
        data = np.empty(shape, np.float32)
        for epoch, start, stop in _progress(_jobs(scalp, first, last)):
            which = None if scalp.kind == "raw" else epoch
            parts = self.draws(start, stop, range(n_draws), which)
            for draw, part in enumerate(parts):
                data[draw, epoch, :, start - first : stop - first] = part
        dims = ["draw", "epoch", "channel", "time"]
        if scalp.kind == "raw":
            data, dims = data[:, 0], ["draw", "channel", "time"]
        structures = contact_structures(self.montage)[0].astype(str)
        coords = {
            "channel": self.ch_names,
            "time": times[first:last],
            "structure": ("channel", structures),
            "observability": ("channel", self.observability),
        }
        attributes = {"units": "V", "description": self.describe("draws")}
        return xarray.DataArray(data, coords, dims, "virtual iEEG", attributes)

    def score(self, truth):
        """Score a checked iEEG, as :func:`mne_neuroflow.score_ieeg` returns it."""
        import xarray

        from .flow.sampler import score_blocks

        scalp = self.scalp
        truth.check_against(scalp)
        n_blocks = max(1, int(scalp.n_times / scalp.sfreq + 1e-6))
        epochs = [None] if scalp.kind == "raw" else range(scalp.n_epochs)
        score = np.empty((len(epochs), len(self.ch_names), n_blocks))
        for k, epoch in _progress(list(enumerate(epochs))):
            score[k] = score_blocks(
                self.flow,
                partial(self.conditions, epoch=epoch),
                partial(self.recorded, truth, epoch=epoch),
                0,
                n_blocks,
            ).cpu()
        score /= BLOCK
        dims = ["epoch", "channel", "time"]
        if scalp.kind == "raw":
            score, dims = score[0], dims[1:]
        coords = {
            "channel": self.ch_names,
            "time": scalp.inst.times[0] + np.arange(n_blocks),
        }
        return xarray.DataArray(score, coords, dims, "log-density", {"units": "nat"})

    def recorded(self, truth, first_block, n_blocks, epoch=None):
        """Read the recorded contacts of a stretch as the flow's output has them."""
        return self.tensor(truth.to_model(first_block, n_blocks, epoch))[None]

    def table(self):
        """Tell what the recording says of each contact.

        As :func:`mne_neuroflow.observability`, with the shares of the spatial stage.
        """
        return observability_table(
            self.montage, self.scalp.electrodes, self.stage.posterior, self.gain
        )

    def describe(self, output):
        """Write the provenance."""
        if isinstance(output, tuple):
            output = f"quantile {output[1]:g}"
        return describe(self.model.name, self.model.sha256, self.seed, output)


def observability_table(montage, electrodes, posterior, gain=1.0):
    """Make the table of contacts that :func:`mne_neuroflow.observability` returns.

    Parameters
    ----------
    montage : DigMontage
        The contacts.
    electrodes : ndarray, shape (n_electrodes, 3)
        Metres, fsaverage surface RAS.
    posterior : SpatialPosterior | AdaptedPosterior
        Of the contacts given these electrodes, or a recording.
    gain : float
        The recording's, by which its spreads are multiplied.

    Returns
    -------
    table : pandas.DataFrame
        One row per contact, indexed by its name.
    """
    import pandas

    names, positions = contact_positions(montage)
    return pandas.DataFrame(
        {
            "structure": contact_structures(montage)[0],
            **contact_labels(positions),
            "observability": posterior.observability,
            "prior_std": gain * posterior.prior_std,
            "posterior_std": gain * np.sqrt(np.diag(posterior.covariance)),
            "electrode_distance": _nearest(positions, electrodes),
            "abstain": posterior.observability < ABSTAIN,
        },
        index=pandas.Index(names, name="channel"),
    )


def _nearest(positions, others):
    """Distance of each position to the nearest of the others, metres."""
    return cdist(positions, others).min(axis=1)


def _find_device(device):
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        if found.type not in ("cpu", "cuda"):
            raise RuntimeError("its arithmetic is not precise enough")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as err:
        raise ValueError(
            "Invalid value for the 'device' parameter. Allowed values are 'auto', "
            f"'cpu' and 'cuda' devices of this machine, but got {device!r}."
        ) from err
    return found


def find_seed(random_state):
    """Turn a random state into the seed that makes the result again.

    Parameters
    ----------
    random_state : int | RandomState | Generator | None
        As for :func:`predict_ieeg`.

    Returns
    -------
    seed : int
        At least 0. Where it was drawn it is logged.
    """
    if random_state is None:
        random_state = np.random.default_rng()
    if isinstance(random_state, np.random.Generator):
        seed = int(random_state.integers(2**31))
    elif isinstance(random_state, np.random.RandomState) or random_state is np.random:
        seed = int(random_state.randint(2**31, dtype=np.int64))
    else:
        return _check_seed(random_state)
    logger.info("Seed of the draws: %d.", seed)
    return seed


def _check_seed(random_state):
    _validate_type(
        random_state,
        ("int-like",),
        "random_state",
        "int, RandomState, Generator or None",
    )
    if not 0 <= random_state < 2**63:
        raise ValueError(
            "Invalid value for the 'random_state' parameter. Allowed values are "
            f"integers from 0 to 2**63 - 1, but got {random_state}."
        )
    return int(random_state)


def _check_batch_size(batch_size):
    if isinstance(batch_size, str):
        _check_option("batch_size", batch_size, ["auto"])
        return batch_size
    _validate_type(batch_size, ("int-like",), "batch_size", "int or 'auto'")
    if batch_size < 1:
        raise ValueError(
            "Invalid value for the 'batch_size' parameter. Allowed values are 'auto' "
            f"and positive integers, but got {batch_size}."
        )
    return int(batch_size)


def check_n_draws(n_draws, least):
    """Return a number of draws, or refuse what is none or below the least."""
    _validate_type(n_draws, ("int-like",), "n_draws")
    if n_draws < least:
        raise ValueError(
            "Invalid value for the 'n_draws' parameter. Allowed values are integers "
            f"from {least}, but got {n_draws}."
        )
    return int(n_draws)


def check_output(output):
    """Return what :func:`mne_neuroflow.predict_ieeg` was asked for, or refuse it."""
    allowed = ("sample", "mean", "std", "median")
    if isinstance(output, str) and output in allowed:
        return output
    if isinstance(output, (tuple, list)) and len(output) == 2:
        name, share = output
        if name == "quantile" and isinstance(share, Real) and 0 < share < 1:
            return ("quantile", float(share))
    raise ValueError(
        "Invalid value for the 'output' parameter. Allowed values are "
        f"{', '.join(map(repr, allowed))} and ('quantile', q) with 0 < q < 1, but got "
        f"{output!r}."
    )


def _find_span(times, tmin, tmax):
    """Return the half-open range of samples between two times, both included."""
    tmin = times[0] if tmin is None else tmin
    tmax = times[-1] if tmax is None else tmax
    half = 0.5 * (times[-1] - times[0]) / (len(times) - 1)
    inside = np.flatnonzero((times > tmin - half) & (times < tmax + half))
    if not len(inside) or tmin < times[0] - half or tmax > times[-1] + half:
        raise ValueError(
            "Invalid value for the 'tmin' and 'tmax' parameters. Allowed values are "
            f"{times[0]:g} <= tmin <= tmax <= {times[-1]:g}, but got {tmin:g} and "
            f"{tmax:g}."
        )
    return int(inside[0]), int(inside[-1]) + 1


def _jobs(scalp, first=0, last=None, seconds=60):
    """Cut samples [first, last) of every epoch into what is computed at once."""
    step = int(seconds * scalp.sfreq)
    last = scalp.n_times if last is None else last
    return [
        (epoch, start, min(start + step, last))
        for epoch in range(scalp.n_epochs)
        for start in range(first, last, step)
    ]


def _progress(jobs):
    return ProgressBar(jobs, mesg="Predicting") if len(jobs) > 3 else jobs
