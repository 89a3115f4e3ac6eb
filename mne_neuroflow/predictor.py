"""The predictor: a recording, its contacts and the flow, which are loaded once.

The predictor reads and checks the recording when it is made. It then combines scalp
EEG, spatial stage, flow and virtual contacts, whose computations are in other modules.
It contains everything that a prediction needs. It does not depend on its callers or on
the training of models.
"""

from functools import partial

import numpy as np

from ._compat import ProgressBar, logger
from .arguments import check_batch_size, find_device, find_seed, find_span
from .contract import BLOCK, MODEL
from .flow_inputs import FlowInputs
from .head.adaptive import without_scalp
from .head.contact_table import ABSTAIN, observability_table
from .head.contacts import contact_positions, contact_structures, make_contacts
from .moments import mirrored, running_mean, running_std
from .recording import reflected
from .scalp.fields import check_fields
from .scalp.likeness import (
    check_gain,
    check_independent,
    check_likeness,
    check_spectrum,
)
from .spatial import (
    HALO,
    AdaptedStage,
    check_as_fitted,
    compare_with_head,
    find_stage,
)
from .virtual import RawVirtual, describe, make_virtual_epochs, make_virtual_info

# Seconds times contacts times draws that are computed at once with batch_size="auto".
# Slabs on a CPU are smaller than this anyway, and more draws make slabs too short.
_CPU_TOKENS, _GPU_TOKENS = 10_000, 40_000
_ORDINARY = 10  # seconds of good time that the prior is shown


class Predictor:
    """A recording, its contacts and the flow between them.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp EEG.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts, as for :func:`mne_neuroflow.make_contacts`.
    model : str | path-like | Model
        As for :func:`mne_neuroflow.predict_ieeg`, like all following parameters.
    random_state : int | RandomState | Generator | None
        Seed of the draws.
    device : str
        Where the flow is computed.
    batch_size : int | 'auto'
        Draws that are computed at once.
    trans : str | path-like | Transform
        From the recording's head coordinates to the fsaverage MRI.
    on_mismatch : str
        What to do if the recording differs from what the model was built for.

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
    inputs : FlowInputs
        The conditioning inputs of contacts and electrodes.
    adapted : AdaptedStage
        The head model with the sources of the recording.
    contact_fit : ContactFit
        The contact fit.
    stage : object
        The spatial stage, see :mod:`mne_neuroflow.spatial`.
    gain : float
        Ratio of the typical amplitude of the scalp EEG to its expected value.
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

        # Make the fast checks before reading the recording.
        self.montage = make_contacts(contacts, trans=trans)
        self.ch_names, self.positions = contact_positions(self.montage)
        self.device = find_device(device)
        self.seed = find_seed(random_state)
        self.batch_size = check_batch_size(batch_size)
        self.trans = trans
        self.model = find_model(model)
        self.flow = self.model.flow_on(self.device)
        contact_fit = self.model.contact_fit_at(self.positions, self.ch_names)
        self.scalp = check_as_fitted(inst, contact_fit, trans, on_mismatch)
        self.noise = Noise(self.seed, contact_keys(self.positions), self.device)
        self.adapted = AdaptedStage(self.scalp, self.positions)
        self.inputs = FlowInputs(self.positions, self.scalp.electrodes, self.device)
        self.stage = None
        self.use(contact_fit)
        self._log_observability()
        check_gain(self.adapted.posterior.gain, on_mismatch)
        check_spectrum(self.adapted.posterior, self.scalp.inst.info, on_mismatch)
        check_independent(
            self.adapted.n_independent, self.adapted.n_possible, on_mismatch
        )
        check_likeness(self.scalp.ch_names, self.ch_names, self.positions, on_mismatch)
        fields = compare_with_head(self.scalp)
        if fields is not None:
            check_fields(fields, self.scalp.ch_names, on_mismatch)

    def use(self, contact_fit):
        """Switch to the spatial stage, calibration and amplitudes of a contact fit."""
        self.contact_fit = contact_fit
        self.stage = find_stage(self.scalp, self.adapted, contact_fit, self.stage)
        self.inputs.use(contact_fit)
        self._posterior = self.inputs.of(self.stage.posterior)
        self._ordinary = None
        adapted = self.adapted.posterior
        #: The recording's amplitude over the expected one, or that of its pairs.
        self.gain = adapted.gain if contact_fit.gain is None else contact_fit.gain
        self._recording = self.gain, adapted.spread

    @property
    def observability(self):
        """Share of each contact's variance that the recording explains."""
        return self.stage.posterior.observability

    def _log_observability(self):
        observability = self.observability
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

    def _nothing_seen(self, first_block, n_blocks):
        """Make the conditioning inputs of the prior, without the recording's EEG.

        With scalp EEG of zero, the flow would predict a low amplitude. Its input is
        therefore ordinary seconds of the recording, whose mean at the contacts is
        subtracted afterwards.
        """
        mean = self._ordinary_mean(first_block, n_blocks)
        nothing = self.inputs.of(without_scalp(self.stage.posterior))
        return self.inputs.conditions(mean, nothing, *self._recording)

    def _ordinary_mean(self, first_block, n_blocks):
        """Return the mean of contacts in good time, repeated forwards and backwards."""
        if self._ordinary is None:
            epoch, first, length = self.scalp.good_stretches(_ORDINARY, 1)[0]
            wide = self.scalp.to_model(first - 1, length + 2, epoch)
            cut = BLOCK - HALO
            self._ordinary = self.stage.mean(wide[:, cut : wide.shape[1] - cut])
        at = np.arange(first_block * BLOCK, (first_block + n_blocks) * BLOCK)
        return self._ordinary[:, reflected(at, self._ordinary.shape[1])]

    def conditions(self, first_block, n_blocks, epoch=None):
        """Make the flow's conditioning inputs for a stretch of the recording."""
        cut = BLOCK - HALO
        wide = self.scalp.to_model(first_block - 1, n_blocks + 2, epoch)
        mean = self.stage.mean(wide[:, cut : wide.shape[1] - cut])
        return self.inputs.conditions(mean, self._posterior, *self._recording)

    def draws(self, start, stop, draws, epoch=None):
        """Yield draws of samples [start, stop) at the recording's rate, volts."""
        for first_sample, draw in self._model_draws(start, stop, draws, epoch):
            yield self.scalp.resampler.from_model(draw, first_sample, start, stop)

    def _model_draws(self, start, stop, draws, epoch):
        """Yield draws at the model's rate with the index of their first sample."""
        block, n_blocks = self._blocks(start, stop)
        for draw in self.block_draws(block, n_blocks, draws, epoch):
            yield block * BLOCK, draw

    def block_draws(self, first_block, n_blocks, draws, epoch=None):
        """Yield draws of one-second blocks at the model's rate, volts."""
        from .flow.sampler import sample_blocks

        tokens = (n_blocks + 2 * self.flow.reach) * len(self.positions)
        at_once = _CPU_TOKENS if self.device.type == "cpu" else _GPU_TOKENS
        auto = max(1, at_once // tokens)
        draws = list(draws)

        def sample(conditions):
            return sample_blocks(
                self.flow,
                conditions,
                self.noise,
                first_block,
                n_blocks,
                draws,
                auto if self.batch_size == "auto" else self.batch_size,
                0 if epoch is None else int(self.scalp.inst.selection[epoch]),
            )

        bad = self.scalp.is_bad(first_block, n_blocks, epoch)
        seen = sample(partial(self.conditions, epoch=epoch))
        if not bad.any():
            for draw in seen:
                yield draw.cpu().numpy()
            return
        # In bad time the scalp says nothing, and draws are those of the prior.
        share = bad.astype(np.float32)
        shown = self._ordinary_mean(first_block, n_blocks)
        for one, other in zip(seen, sample(self._nothing_seen), strict=True):
            one, other = one.cpu().numpy(), other.cpu().numpy() - shown
            yield one + share * (other - one)

    def pointwise(self, start, stop, reduce, epoch=None, located=True):
        """Summarize the distribution of each sample in [start, stop), without draws.

        Parameters
        ----------
        start, stop : int
            Samples at the recording's rate.
        reduce : callable
            As for :func:`~mne_neuroflow.flow.sampler.pointwise_blocks`.
        epoch : int | None
            Which epoch.
        located : bool
            Whether the numbers are potentials and not standard deviations.

        Returns
        -------
        numbers : list of ndarray, shape (n_contacts, stop - start)
            At the recording's rate, volts.
        """
        from .flow.sampler import pointwise_blocks

        block, n_blocks = self._blocks(start, stop)

        def numbers(conditions):
            found = pointwise_blocks(self.flow, conditions, block, n_blocks, reduce)
            return found.cpu().numpy()

        found = numbers(partial(self.conditions, epoch=epoch))
        bad = self.scalp.is_bad(block, n_blocks, epoch)
        if bad.any():
            share = bad.astype(np.float32)
            prior = numbers(self._nothing_seen)
            if located:
                prior = prior - self._ordinary_mean(block, n_blocks)
            found = found + share * (prior - found)
        first_sample = block * BLOCK
        return [
            self.scalp.resampler.from_model(one, first_sample, start, stop)
            for one in found
        ]

    def _blocks(self, start, stop):
        """Return the first second that samples [start, stop) need, and how many."""
        first, last = self.scalp.resampler.model_range(start, stop)
        block = first // BLOCK
        return block, -(-last // BLOCK) - block

    def _reduced(self, start, stop, output, epoch):
        """Return an output from the distribution of each sample, volts."""
        if output in ("mean", "std"):
            which = ("mean", "std").index(output)

            def reduce(distribution):
                return distribution.moments()[which][None]

        else:
            share = 0.5 if output == "median" else output[1]

            def reduce(distribution):
                return distribution.quantiles([share])

        (found,) = self.pointwise(start, stop, reduce, epoch, located=output != "std")
        return found

    def summary(self, start, stop, output, n_draws=None, epoch=None):
        """Return samples [start, stop) of an output, volts."""
        if output == "sample":
            (draw,) = self.draws(start, stop, [0], epoch)
            return draw
        if n_draws is None:
            return self._reduced(start, stop, output, epoch)
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

    def predict(self, output="sample", n_draws=None, bad_time="prior"):
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
        """Return draws, as :func:`mne_neuroflow.sample_ieeg`."""

        def draws(start, stop, epoch):
            return self.draws(start, stop, range(n_draws), epoch)

        return self._collect(draws, n_draws, "draw", tmin, tmax)

    def quantiles(self, shares, tmin=None, tmax=None):
        """Return quantiles, as :func:`mne_neuroflow.predict_quantiles`."""

        def reduce(distribution):
            return distribution.quantiles(shares)

        def found(start, stop, epoch):
            return self.pointwise(start, stop, reduce, epoch)

        array = self._collect(found, len(shares), "quantile", tmin, tmax)
        return array.assign_coords(quantile=list(shares))

    def _collect(self, compute, n_rows, what, tmin, tmax):
        """Compute stretches, and collect them in an array.

        Parameters
        ----------
        compute : callable
            ``compute(start, stop, epoch)`` yields the rows of a stretch.
        n_rows : int
            Number of rows.
        what : str
            Name of a row, and of their dimension.
        tmin, tmax : float | None
            First and last time in seconds, both included.

        Returns
        -------
        array : xarray.DataArray, shape (n_rows[, n_epochs], n_channels, n_times)
            Volts.
        """
        import xarray

        scalp, times = self.scalp, self.scalp.inst.times
        first, last = find_span(times, tmin, tmax)
        shape = (n_rows, scalp.n_epochs, len(self.ch_names), last - first)
        data = np.empty(shape, np.float32)
        for epoch, start, stop in _progress(_jobs(scalp, first, last)):
            which = None if scalp.kind == "raw" else epoch
            for row, part in enumerate(compute(start, stop, which)):
                data[row, epoch, :, start - first : stop - first] = part
        dims = [what, "epoch", "channel", "time"]
        if scalp.kind == "raw":
            data, dims = data[:, 0], [what, "channel", "time"]
        structures = contact_structures(self.montage)[0].astype(str)
        coords = {
            "channel": self.ch_names,
            "time": times[first:last],
            "structure": ("channel", structures),
            "observability": ("channel", self.observability),
        }
        attributes = {"units": "V", "description": self.describe(f"{what}s")}
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
        good = scalp.good[:, :n_blocks] & truth.good[:, :n_blocks]
        for k, epoch in _progress(list(enumerate(epochs))):
            score[k] = score_blocks(
                self.flow,
                partial(self.conditions, epoch=epoch),
                partial(self.recorded, truth, epoch=epoch),
                0,
                n_blocks,
                good=self.inputs.tensor(good[k]).bool(),
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
        """Read the recorded contacts of a stretch in the form of the flow's output."""
        return self.inputs.tensor(truth.to_model(first_block, n_blocks, epoch))[None]

    def table(self):
        """Return the table of contacts given this recording.

        It is that of :func:`mne_neuroflow.observability`, for the spatial stage.
        """
        return observability_table(
            self.montage, self.scalp.electrodes, self.stage.posterior, self.gain
        )

    def describe(self, output):
        """Write the provenance."""
        if isinstance(output, tuple):
            output = f"quantile {output[1]:g}"
        return describe(self.model.name, self.model.sha256, self.seed, output)


def _jobs(scalp, first=0, last=None, seconds=60):
    """Divide samples [first, last) of each epoch into stretches."""
    step = int(seconds * scalp.sfreq)
    last = scalp.n_times if last is None else last
    return [
        (epoch, start, min(start + step, last))
        for epoch in range(scalp.n_epochs)
        for start in range(first, last, step)
    ]


def _progress(jobs):
    return ProgressBar(jobs, mesg="Predicting") if len(jobs) > 3 else jobs
