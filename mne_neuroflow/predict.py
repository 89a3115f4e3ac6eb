"""The conductor: scalp in, spatial posterior, flow, virtual contacts out.

Nothing is computed here that another room does not know how to compute.
"""

from dataclasses import asdict
from functools import partial
from numbers import Real

import numpy as np

from ._compat import (
    ProgressBar,
    _check_option,
    _validate_type,
    logger,
    verbose,
)
from ._text import listed
from .contract import BLOCK, TRAINED
from .head.contacts import (
    contact_positions,
    contact_structures,
    make_contacts,
)
from .head.geometry import load_head
from .head.posterior import contact_halves, spatial_posterior
from .head.ridge import N_LAGS
from .head.wiener import N_HALO
from .ieeg import check_ieeg
from .scalp import find_electrodes, reference_operator, say_unlike
from .scalp_as_expected import (
    check_as_fitted,
    filter_as_expected,
    filter_as_fitted,
)
from .virtual import RawVirtual, describe, make_virtual_epochs, make_virtual_info

# A contact of whose variance the scalp explains less than this rests on the
# prior alone: the best linear guess would correlate below 0.22 with the truth.
ABSTAIN = 0.05
# Where the contacts are around which the weights were trained.
_TRAINED = ("hippocampus", "amygdala", "parahippocampal", "temporal-lateral", "insula")
# Seconds times contacts times draws that are computed at once with batch_size="auto".
# A CPU works in slabs smaller than this anyway, and more draws make slabs too short.
_CPU_TOKENS, _GPU_TOKENS = 10_000, 40_000
_MODEL = "mtl-v1"


class _Predictor:
    """A recording, its contacts and the flow between them."""

    def __init__(
        self, inst, contacts, model, random_state, device, batch_size, trans, on_unlike
    ):
        from .flow.sampler import Noise, contact_keys
        from .weights.model import find_model

        # What is quickly checked comes before the recording is read.
        self.montage = make_contacts(contacts, trans=trans)
        self.ch_names, self.positions = contact_positions(self.montage)
        self.device = _find_device(device)
        self.seed = find_seed(random_state)
        self.batch_size = _check_batch_size(batch_size)
        self.model = find_model(model)
        self.flow = self.model.flow_on(self.device)
        implant = self.model.implant_at(self.positions, self.ch_names)
        self.scalp = check_as_fitted(inst, implant, trans, on_unlike)
        self.noise = Noise(self.seed, contact_keys(self.positions), self.device)
        self.physics = spatial_posterior(
            self.scalp.electrodes, self.positions, reference=self.scalp.operator
        )
        self._geometry = self._describe_geometry()
        self._usual = None
        self.use(implant)
        self._tell(self.observability)
        self._check_likeness(on_unlike)

    def use(self, implant):
        """See the scalp as pairs have taught for these contacts, if any have."""
        self.implant, posterior = implant, self.physics
        lagged = None if implant is None else implant.lagged
        usual = posterior if lagged is None else lagged
        # Views of the same patient differ in their maps alone.
        if self._usual is not usual.scalp_covariance:
            self._usual = usual.scalp_covariance
            if lagged is None:
                self._filter = filter_as_expected(self.scalp, self._usual)
            else:
                self._filter = filter_as_fitted(self.scalp, implant)
        if lagged is not None:
            posterior = lagged.update(posterior, self._filter.error(lagged.weights))
        self.observability = posterior.observability
        self._posterior = {
            name: self._tensor(value)[None] for name, value in asdict(posterior).items()
        }

    def _tensor(self, array):
        import torch

        return torch.as_tensor(
            np.asarray(array), dtype=torch.float32, device=self.device
        )

    def _describe_geometry(self):
        distance = _nearest(self.positions, self.scalp.electrodes)
        half = contact_halves(self.positions)
        return [self._tensor(a)[None] for a in (self.positions, distance, half)]

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

    def _check_likeness(self, on_unlike):
        """Name what the weights were not trained on."""
        expected = self._posterior["scalp_std"][0].cpu().numpy()
        self.gain = float(np.median(self.scalp.robust_rms() / expected))
        low, high = TRAINED["gain"]
        if not low < self.gain < high:
            say_unlike(
                f"The scalp's amplitude is {self.gain:.2g} times what the model "
                f"expects; the training recordings lie between {low:g} and {high:g} "
                "times: do not trust the intervals. Check the units, and mark bad "
                "channels in inst.info['bads'].",
                on_unlike,
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
            say_unlike(
                f"The recording has {n_electrodes} usable EEG channels, but the model "
                f"was trained on {low} to {high}. {remedy}",
                on_unlike,
            )
        head = load_head()
        near = head.patch_centres[np.isin(head.patch_structure, _TRAINED)]
        farthest = TRAINED["from_temporal_lobes"][1]
        far = _nearest(self.positions, near) > farthest
        if far.any():
            names = listed(np.array(self.ch_names)[far])
            say_unlike(
                f"{far.sum()} of {len(far)} contacts are more than "
                f"{1e3 * farthest:.0f} mm from the temporal lobes, around which the "
                f"model was trained: {names}. Leave them out with make_contacts(), or "
                "do not trust their intervals.",
                on_unlike,
            )

    def conditions(self, first_block, n_blocks, epoch=None):
        """Tell the flow about a stretch of the recording."""
        from .flow.context import make_conditions

        contacts, distance, half = self._geometry
        known = {}
        if self.implant is not None:
            known["calibration"] = self._tensor(self.implant.calibration)[None]
            known["amplitude"] = self._tensor(self.implant.amplitude)[None]
            if self.implant.gain is not None:
                known["gain"] = self._tensor([self.implant.gain])
        lagged = None if self.implant is None else self.implant.lagged
        halo = N_HALO + (0 if lagged is None else N_LAGS)
        wide = self.scalp.to_model(first_block - 1, n_blocks + 2, epoch)
        wide = wide[:, BLOCK - halo : halo - BLOCK]
        if lagged is None:
            scalp = self._filter(wide)
        else:
            gain = self.implant.gain
            clean = self._filter(wide / gain)
            known["mean"] = self._tensor(gain * lagged.mean(clean))[None]
            scalp = wide[:, halo:-halo]
        return make_conditions(
            self._tensor(scalp)[None],
            self._tensor(self.scalp.robust_rms())[None],
            self._posterior,
            contacts,
            distance,
            half,
            **known,
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
        potentials = sample_blocks(
            self.flow,
            partial(self.conditions, epoch=epoch),
            self.noise,
            block,
            end - block,
            draws,
            auto if self.batch_size == "auto" else self.batch_size,
            0 if epoch is None else int(self.scalp.inst.selection[epoch]),
        )
        for draw in potentials:
            yield block * BLOCK, draw.cpu().numpy()

    def summary(self, start, stop, output, n_draws, epoch=None):
        """Reduce draws of samples [start, stop) to what was asked for, volts."""
        if output == "sample":
            (draw,) = self.draws(start, stop, [0], epoch)
            return draw
        if output == "mean":
            return self._mean(start, stop, n_draws, epoch)
        if output == "std":
            return self._std(start, stop, n_draws, epoch)
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

    def _mean(self, start, stop, n_draws, epoch):
        """Average over half of the draws and their mirror images.

        Most of the noise goes at once: on held-out simulation 20 such draws correlate
        with the truth a little better than 40 without mirror images.
        """
        half = range(n_draws // 2)
        draws = [*half, *(~k for k in half)]
        return sum(self.draws(start, stop, draws, epoch)) / len(draws)

    def _std(self, start, stop, n_draws, epoch):
        """Spread of the draws, by Welford's running sums."""
        mean = spread = 0.0
        for k, draw in enumerate(self.draws(start, stop, range(n_draws), epoch)):
            step = draw.astype(float) - mean
            mean = mean + step / (k + 1)
            spread = spread + step * (draw - mean)
        return np.sqrt(spread / (n_draws - 1))

    def describe(self, output):
        """Write the provenance."""
        if isinstance(output, tuple):
            output = f"quantile {output[1]:g}"
        return describe(self.model.name, self.model.sha256, self.seed, output)


@verbose
def predict_ieeg(
    inst,
    *,
    contacts="mtl",
    model=_MODEL,
    output="sample",
    n_draws=100,
    random_state=None,
    device="auto",
    batch_size="auto",
    trans="fsaverage",
    on_unlike="warn",
    verbose=None,
):
    """Predict virtual intracranial EEG from scalp EEG.

    What comes back is a prediction, not a recording: for most contacts the scalp
    explains little, and the draws say so by differing from each other.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG, of any MNE reader, preloaded or not. It is not changed.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        What to predict, as for :func:`make_contacts`. An ``Info`` with ``'seeg'``
        channels gives virtual channels of the same names in the same order.
    model : str | path-like | NeuroFlow
        Name of the weights, as for :func:`fetch_model`, a file that
        :meth:`NeuroFlow.save` has written, or a model that was fitted to pairs.
    output : str | tuple
        ``'sample'``, one draw from the posterior, which looks like iEEG;
        ``'mean'``, ``'std'`` or ``'median'`` over draws, or ``('quantile', q)`` with
        ``0 < q < 1``, which do not.
    n_draws : int
        Draws behind every output but ``'sample'``, at least 2. The mean takes half of
        them, and as many with the opposite noise, which brings it closer to the
        expected value.
    random_state : int | RandomState | Generator | None
        Seed of the draws. ``None`` draws one; it is logged and written to
        ``info['description']``, so that every result can be made again.
    device : str
        ``'auto'`` takes a GPU when there is one; otherwise ``'cpu'`` or ``'cuda'``.
    batch_size : int | 'auto'
        Draws that are computed at once. It changes memory and speed, not the result.
    trans : str | path-like | Transform
        From the recording's head coordinates to the fsaverage MRI; ``'fsaverage'``
        for template positions.
    on_unlike : str
        ``'warn'``, ``'raise'`` or ``'ignore'`` when the recording is unlike what the
        model was built for.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    virtual : Raw | Epochs
        Same type, rate, length, events, annotations and metadata as ``inst``, with
        one ``'seeg'`` channel in volts per contact, positions set. For a Raw that
        is not preloaded it is computed when it is read, in constant memory.

    See Also
    --------
    sample_ieeg
    observability

    Notes
    -----
    The model was trained on 8 to 128 electrodes, on amplitudes of 0.2 to 3 times what
    the head model expects, and on contacts within 20 mm of sources of the temporal
    lobes: ``on_unlike`` says what happens outside of that.

    The recording is read at 128 Hz between 0.5 and 50 Hz, and the result holds hardly
    anything outside this band. Potentials are against infinity, as the head model
    gives them, whatever the reference of the scalp; recorded iEEG has a reference of
    its own. Epochs are predicted apart from each other, but for the recording's gain,
    the typical amplitude of the scalp over all of them. An epoch's draws belong to its
    place in ``inst.selection``, so that dropping others does not change its noise.

    Recordings and epochs must last for a second or more. Annotations of single scalp
    channels (their ``ch_names``) are left out, since these channels are.

    The method and its sources: :ref:`method`.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo().crop(0, 4)
    >>> virtual = mne_neuroflow.predict_ieeg(raw, contacts="mtl-core", random_state=0)
    >>> len(virtual.times) == len(raw.times)
    True
    """
    output = _check_output(output)
    n_draws = _check_n_draws(n_draws, 2)
    predictor = _Predictor(
        inst, contacts, model, random_state, device, batch_size, trans, on_unlike
    )
    scalp, montage = predictor.scalp, predictor.montage
    description = predictor.describe(output)
    if scalp.kind == "raw":
        compute = partial(predictor.summary, output=output, n_draws=n_draws)
        info = make_virtual_info(inst, montage, description, trans)
        return RawVirtual(scalp.inst, info, compute, preload=inst.preload)
    data = np.empty((scalp.n_epochs, len(predictor.ch_names), scalp.n_times))
    for epoch, start, stop in _progress(_jobs(scalp)):
        data[epoch, :, start:stop] = predictor.summary(
            start, stop, output, n_draws, epoch
        )
    return make_virtual_epochs(scalp.inst, data, montage, description, trans)


@verbose
def sample_ieeg(
    inst,
    n_draws=100,
    *,
    tmin=None,
    tmax=None,
    contacts="mtl",
    model=_MODEL,
    random_state=None,
    device="auto",
    batch_size="auto",
    trans="fsaverage",
    on_unlike="warn",
    verbose=None,
):
    """Draw virtual intracranial EEG many times.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG. All draws are kept in memory.
    n_draws : int
        How many draws. The first ones do not depend on how many follow.
    tmin, tmax : float | None
        What part of the recording, or of each epoch, is drawn, in seconds, both ends
        included; ``None`` for all of it. The draws are those of the whole recording,
        while a cropped one would have edges and a gain of its own.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        As for :func:`predict_ieeg`.
    model : str | path-like | NeuroFlow
        As for :func:`predict_ieeg`.
    random_state : int | RandomState | Generator | None
        As for :func:`predict_ieeg`.
    device : str
        As for :func:`predict_ieeg`.
    batch_size : int | 'auto'
        As for :func:`predict_ieeg`.
    trans : str | path-like | Transform
        As for :func:`predict_ieeg`.
    on_unlike : str
        As for :func:`predict_ieeg`.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        Volts, float32, with the dimensions ``draw``, ``epoch`` (for Epochs),
        ``channel`` and ``time`` in seconds. Intervals are its quantiles over
        ``draw``. Channels have the coordinates ``structure`` and ``observability``,
        as :func:`observability` gives them.

    See Also
    --------
    predict_ieeg

    Notes
    -----
    Each draw is what :func:`predict_ieeg` gives with ``output='sample'``; the sources
    of the method are named at :ref:`method`.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo().crop(0, 2)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 10, contacts="mtl-core", random_state=0)
    >>> low, high = draws.quantile([0.05, 0.95], "draw")
    """
    import xarray

    n_draws = _check_n_draws(n_draws, 1)
    predictor = _Predictor(
        inst, contacts, model, random_state, device, batch_size, trans, on_unlike
    )
    scalp = predictor.scalp
    first, last = _find_span(inst.times, tmin, tmax)
    shape = (n_draws, scalp.n_epochs, len(predictor.ch_names), last - first)
    data = np.empty(shape, np.float32)
    for epoch, start, stop in _progress(_jobs(scalp, first, last)):
        which = None if scalp.kind == "raw" else epoch
        parts = predictor.draws(start, stop, range(n_draws), which)
        for draw, part in enumerate(parts):
            data[draw, epoch, :, start - first : stop - first] = part
    dims = ["draw", "epoch", "channel", "time"]
    if scalp.kind == "raw":
        data, dims = data[:, 0], ["draw", "channel", "time"]
    coords = {
        "channel": predictor.ch_names,
        "time": inst.times[first:last],
        "structure": ("channel", contact_structures(predictor.montage)[0].astype(str)),
        "observability": ("channel", predictor.observability),
    }
    attributes = {"units": "V", "description": predictor.describe("draws")}
    return xarray.DataArray(data, coords, dims, "virtual iEEG", attributes)


@verbose
def score_ieeg(
    inst,
    ieeg,
    *,
    model=_MODEL,
    device="auto",
    trans="fsaverage",
    on_unlike="warn",
    verbose=None,
):
    """Compute the log-density of recorded intracranial EEG under the model.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG.
    ieeg : Raw | Epochs
        The intracranial EEG of the same moments: same type, number of epochs and
        duration, ``'seeg'``, ``'ecog'`` or ``'dbs'`` channels with positions, any
        sampling rate of at least 100 Hz. Bad channels are left out.
    model : str | path-like | NeuroFlow
        As for :func:`predict_ieeg`.
    device : str
        As for :func:`predict_ieeg`.
    trans : str | path-like | Transform
        As for :func:`predict_ieeg`, for both recordings.
    on_unlike : str
        As for :func:`predict_ieeg`.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    score : xarray.DataArray, shape ([n_epochs, ]n_channels, n_windows)
        Nats per sample at 128 Hz, for potentials in volts, in windows of one
        second; ``time`` is where a window starts. Higher is better; times 128 and
        summed over contacts and windows it is the joint log-density.

    See Also
    --------
    sample_ieeg

    Notes
    -----
    The density is exact for the potentials in the model's band, 0.5-50 Hz at 128 Hz. It
    is that of a continuous quantity, so that only differences between models or
    recordings mean something. A window's value is its density given the windows before
    it in the recording or epoch, which tell how loud each contact is. Contacts are
    whitened together: a row is the part of the joint log-density that goes with a
    contact's own residual, not the density of that contact alone. The model's
    potentials are against infinity; recorded ones have a reference, and a reference
    electrode that is active lowers every row.

    Examples
    --------
    >>> import mne_neuroflow
    >>> contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]  # metres
    >>> scalp, ieeg = mne_neuroflow.simulate_pair(
    ...     contacts, "10", duration=10, random_state=1, verbose=False
    ... )
    >>> score = mne_neuroflow.score_ieeg(scalp, ieeg, on_unlike="ignore", verbose=False)
    >>> score.mean("time").sizes
    Frozen({'channel': 2})
    """
    import xarray

    from .flow.sampler import score_blocks

    truth = check_ieeg(ieeg)
    predictor = _Predictor(inst, truth.info, model, 0, device, 1, trans, on_unlike)
    scalp = predictor.scalp
    truth.check_against(scalp)
    n_blocks = max(1, int(scalp.n_times / scalp.sfreq + 1e-6))
    epochs = [None] if scalp.kind == "raw" else range(scalp.n_epochs)
    score = np.empty((len(epochs), len(predictor.ch_names), n_blocks))

    def potentials(first_block, n, epoch):
        return predictor._tensor(truth.to_model(first_block, n, epoch))[None]

    for k, epoch in _progress(list(enumerate(epochs))):
        score[k] = score_blocks(
            predictor.flow,
            partial(predictor.conditions, epoch=epoch),
            partial(potentials, epoch=epoch),
            0,
            n_blocks,
        ).cpu()
    score /= BLOCK
    dims = ["epoch", "channel", "time"]
    if scalp.kind == "raw":
        score, dims = score[0], dims[1:]
    coords = {
        "channel": predictor.ch_names,
        "time": inst.times[0] + np.arange(n_blocks),
    }
    return xarray.DataArray(score, coords, dims, "log-density", {"units": "nat"})


@verbose
def observability(info, contacts="mtl", *, trans="fsaverage", verbose=None):
    """Tell how much a scalp montage can say about intracranial contacts.

    Parameters
    ----------
    info : Info
        Of the scalp recording; channels in ``info['bads']`` are left out.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        As for :func:`predict_ieeg`.
    trans : str | path-like | Transform
        As for :func:`predict_ieeg`.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    table : pandas.DataFrame
        One row per contact, indexed by its name: ``structure`` of the nearest
        source; ``observability``, the share of prior variance that the scalp
        explains in the spatial model, 0 to 1; ``prior_std`` and ``posterior_std`` in
        volts for a recording of ordinary amplitude; ``electrode_distance`` in metres
        to the nearest electrode; ``abstain``, true where the observability is below
        0.05 and the prediction rests on the prior alone.

    See Also
    --------
    predict_ieeg

    Notes
    -----
    The observability is one minus the ratio of posterior to prior variance of the
    spatial posterior, see :ref:`method`. It follows from the electrodes alone:
    :func:`predict_ieeg` also leaves out channels that turn out to carry no signal, and
    then logs a lower one.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> table = mne_neuroflow.observability(load_demo().info)
    >>> bool(table["observability"].between(0, 1).all())
    True
    """
    import pandas

    montage = make_contacts(contacts, trans=trans)
    names, positions = contact_positions(montage)
    picks, electrodes = find_electrodes(info, trans=trans)
    reference = reference_operator(info, [info["ch_names"][pick] for pick in picks])
    posterior = spatial_posterior(electrodes, positions, reference=reference)
    return pandas.DataFrame(
        {
            "structure": contact_structures(montage)[0],
            "observability": posterior.observability,
            "prior_std": posterior.prior_std,
            "posterior_std": np.sqrt(np.diag(posterior.covariance)),
            "electrode_distance": _nearest(positions, electrodes),
            "abstain": posterior.observability < ABSTAIN,
        },
        index=pandas.Index(names, name="channel"),
    )


def _nearest(positions, others):
    """Distance of each position to the nearest of the others, metres."""
    return np.array([np.linalg.norm(others - here, axis=1).min() for here in positions])


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


def _check_n_draws(n_draws, least):
    _validate_type(n_draws, ("int-like",), "n_draws")
    if n_draws < least:
        raise ValueError(
            "Invalid value for the 'n_draws' parameter. Allowed values are integers "
            f"from {least}, but got {n_draws}."
        )
    return int(n_draws)


def _check_output(output):
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
