"""The model as an object: load, draw, score, fit to one's own pairs, save."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import date
from typing import TYPE_CHECKING

import mne
import numpy as np
import pandas

from ._compat import (
    ProgressBar,
    _check_option,
    _validate_type,
    logger,
    verbose,
)
from ._text import listed
from .head.ridge import N_LAGS, fit_lagged_map
from .predict import sample_ieeg, score_ieeg
from .predictor import find_seed
from .sessions import GAP, LEAST_PART, pair_up
from .weights.model import Model

if TYPE_CHECKING:
    import xarray

# Maximum seconds and draws behind a calibration, and every which sample of them.
_MOST_CALIBRATED, _N_DRAWS, _STRIDE = 180, 32, 8
_STEPS = 60
# What the name of weights ends with that were fitted to pairs.
_OWN = "+pairs"
_SPATIAL = ("fitted", "ridge", "physics")


# Its parameters are those that Model takes, which the linter does not see.
class NeuroFlow(Model):  # numpydoc ignore=PR02
    """A model of intracranial EEG given scalp EEG, which can be fitted to pairs.

    What it returns is a prediction, never a recording.

    Parameters
    ----------
    model : str | path-like
        Name of the weights, as for :func:`mne_neuroflow.fetch_model`, or the
        ``.safetensors`` file that :meth:`save` has written.

    Attributes
    ----------
    name : str
        Of the weights.
    card : dict
        The model card: what it was trained on, and what it was fitted to.
    implants : list of Implant
        What pairs have taught about patients; empty before :meth:`fit`.

    See Also
    --------
    mne_neuroflow.predict_ieeg
    mne_neuroflow.score_ieeg

    Notes
    -----
    .. versionadded:: 0.1.0

    Examples
    --------
    >>> import mne_neuroflow
    >>> contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
    >>> scalp, ieeg = mne_neuroflow.simulate_pair(
    ...     "10", contacts, duration=31, random_state=1, verbose=False
    ... )
    >>> model = mne_neuroflow.NeuroFlow.load("mtl-v2")
    >>> history = model.fit(scalp, ieeg, n_steps=1, random_state=0, verbose=False)
    >>> draws = model.sample(scalp, 2, tmax=4, random_state=0, verbose=False)
    >>> draws.sizes["channel"]
    2
    """

    def sample(
        self, inst, n_draws=100, *, contacts=None, **options
    ) -> xarray.DataArray:
        """Draw virtual intracranial EEG.

        Parameters
        ----------
        inst : Raw | Epochs
            The scalp EEG.
        n_draws : int
            How many draws.
        contacts : str | path-like | DigMontage | Info | array_like | None
            As for :func:`mne_neuroflow.predict_ieeg`; ``None`` for those that the
            model was fitted to.
        **options : dict
            As for :func:`mne_neuroflow.sample_ieeg`.

        Returns
        -------
        draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
            Volts, as from :func:`mne_neuroflow.sample_ieeg`.
        """
        if contacts is None:
            contacts = self._own_contacts()
        return sample_ieeg(inst, n_draws, contacts=contacts, model=self, **options)

    def log_prob(self, inst, ieeg, **options) -> xarray.DataArray:
        """Compute the log-density of recorded intracranial EEG.

        Parameters
        ----------
        inst, ieeg : Raw | Epochs
            Recordings of the same moments.
        **options : dict
            As for :func:`mne_neuroflow.score_ieeg`.

        Returns
        -------
        score : xarray.DataArray, shape ([n_epochs, ]n_channels, n_windows)
            Nats per sample, as from :func:`mne_neuroflow.score_ieeg`.
        """
        return score_ieeg(inst, ieeg, model=self, **options)

    @verbose
    def fit(
        self,
        inst,
        ieeg,
        *,
        spatial="fitted",
        n_steps=_STEPS,
        random_state=None,
        trans="fsaverage",
        on_mismatch="warn",
        verbose=None,
    ) -> pandas.DataFrame:
        """Fit to pairs of recordings, starting from the weights as they are.

        Parameters
        ----------
        inst, ieeg : Raw | Epochs | list of Raw | list of Epochs
            Scalp and intracranial EEG of the same moments, one or a list of sessions.
            Sessions most of whose contacts have the same names and places are taken
            for one patient, and of these contacts those that are good in all of them.
            Seconds of a Raw that are annotated as bad in either recording are left
            out; of Epochs, drop the bad ones before.
        spatial : str
            The spatial stage: ``'fitted'``, the physics of the head corrected by a
            ridge regression from the scalp within 117 ms, per contact as far as this
            predicts what it has not seen; ``'ridge'``, that regression without
            physics; ``'physics'``, which fits the flow alone and can then predict
            other contacts as well.
        n_steps : int
            Maximum number of training steps of the flow. Training stops early when the
            log-density of held-out pairs no longer improves. With 0 the flow is not
            trained.
        random_state : int | RandomState | Generator | None
            Seed of the training.
        trans : str | path-like | Transform
            As for :func:`mne_neuroflow.predict_ieeg`.
        on_mismatch : str
            As for :func:`mne_neuroflow.predict_ieeg`.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        history : pandas.DataFrame
            One row per judgement: ``step``, ``train`` and ``held_out``, the negative
            log-density of whitened coefficients in nats, averaged over frequency bands.

        Notes
        -----
        Data are cut before anything is estimated: by session where a patient has
        several, else into six parts of whole trials or of contiguous seconds, 2 s
        apart. Each part is predicted by a map from the other parts; the last part of
        each patient is kept from the training of the flow and stops it.

        What the model had learned from other pairs is forgotten, but for its weights.
        A model that was fitted with ``'fitted'`` or ``'ridge'`` predicts the contacts
        that it was fitted to, or some of them, from the same EEG channels.
        """
        from .training.pairs import fine_tune

        _check_option("spatial", spatial, _SPATIAL)
        _validate_type(n_steps, "int", "n_steps")
        if n_steps < 0:
            raise ValueError(
                "Invalid value for the 'n_steps' parameter. Allowed values are 0 and "
                f"more, but got {n_steps} instead."
            )
        seed = find_seed(random_state)
        start = copy.copy(self)
        start.implants = []
        groups = pair_up(inst, ieeg, start, trans, on_mismatch, same_electrodes=True)
        patients = [_Patient(group, spatial) for group in groups]
        train = [each for patient in patients for each in patient.stretches(False)]
        judge = [each for patient in patients for each in patient.stretches(True)]
        bar = ProgressBar(n_steps, mesg="Fitting")
        flow, history = fine_tune(
            self.flow,
            train,
            judge,
            n_steps=n_steps,
            seed=seed,
            located=spatial == "physics",
            tell=lambda step: bar.update(step + 1),
        )
        implants = []
        for patient in patients if spatial != "physics" else ():
            patient.hear(flow)
            calibration = _calibrate(_Departures(flow, patient.everything()))
            implants.append(replace(patient.implant, calibration=calibration))
        # Nothing is changed before everything is done.
        self.flow, self.implants = flow, implants
        self._record("fit", groups, spatial=spatial, seed=seed)
        return pandas.DataFrame(history)

    @verbose
    def recalibrate(
        self, inst, ieeg, *, trans="fsaverage", on_mismatch="warn", verbose=None
    ) -> pandas.DataFrame:
        """Correct intervals by a few minutes of pairs, without training.

        How loud each contact is, which the scalp does not say, becomes known, whatever
        the amplitude of a later scalp. What was known of other contacts stays. Then
        each contact gets a scale, and all of them a tail, with which draws are
        stretched about their mean; both minimize the continuous ranked probability
        score. Scales are shrunk towards a common one as far as their differences are
        what so few pairs leave open.

        Parameters
        ----------
        inst, ieeg : Raw | Epochs | list of Raw | list of Epochs
            As for :meth:`fit`.
        trans : str | path-like | Transform
            As for :func:`mne_neuroflow.predict_ieeg`.
        on_mismatch : str
            As for :func:`mne_neuroflow.predict_ieeg`.
        verbose : bool | str | int | None
            Control verbosity of the logging output.

        Returns
        -------
        changes : pandas.DataFrame
            One row per contact: ``scale``, by which its intervals were multiplied, and
            the share of samples of these pairs inside its central intervals, nominally
            0.5 and 0.9, ``before`` and ``after``.
        """
        groups = pair_up(inst, ieeg, self, trans, on_mismatch)
        tables, implants = [], list(self.implants)
        for group in groups:
            predictor = group[0].predictor
            kept, names = predictor.implant, predictor.ch_names
            if kept.gain is None:
                kept = replace(kept, gain=_common_gain(group))

            def stretches(implant, group=group):
                return [each for s in group for each in s.stretches(implant=implant)]

            before = _Departures(self.flow, stretches(kept))
            # Amplitudes first, as if nothing had been calibrated before.
            kept = replace(kept, calibration=np.zeros_like(kept.calibration))
            kept = replace(kept, amplitude=_heard(self.flow, stretches(kept)))
            after = _Departures(self.flow, stretches(kept))
            calibration = _calibrate(after)
            _remember(implants, replace(kept, calibration=calibration))
            table = _what_changed(before, after, calibration, names)
            logger.info(
                "Intervals of %d contacts multiplied by %.2f to %.2f (median %.2f). Of "
                "these pairs the 90 %% intervals held %.0f %% before, %.0f %% after.",
                len(names),
                *np.percentile(table["scale"], [0, 100, 50]),
                100 * table["before 0.9"].mean(),
                100 * table["after 0.9"].mean(),
            )
            tables.append(table)
        self.implants = implants
        self._record("recalibration", groups)
        return pandas.concat(tables)

    def _own_contacts(self):
        if len(self.implants) != 1:
            raise ValueError(
                "Invalid value for the 'contacts' parameter. It must be given, because "
                f"the model was fitted to {len(self.implants)} implants."
            )
        (implant,) = self.implants
        montage = mne.channels.make_dig_montage(
            dict(zip(implant.ch_names, implant.positions, strict=True)),
            coord_frame="mni_tal",
        )
        return montage.add_mni_fiducials(verbose=False)

    def _record(self, what, groups, **options):
        """Write to the card what was done."""
        sessions = [session for group in groups for session in group]
        entry = {
            "what": what,
            "date": date.today().isoformat(),
            "sessions": len(sessions),
            "seconds": sum(session.n_seconds for session in sessions),
            "contacts": sum(len(group[0].ch_names) for group in groups),
            **options,
        }
        self.card = {**self.card, "pairs": [*self.card.get("pairs", []), entry]}
        self.name = f"{self.name.removesuffix(_OWN)}{_OWN}"
        self._sha256 = None


class _Patient:
    """Sessions with the same contacts, cut into parts, and their spatial stage."""

    def __init__(self, sessions, spatial):
        if len(sessions) > 1:
            self._parts = [[(s, piece) for piece in s.pieces()] for s in sessions]
        else:
            (one,) = sessions
            self._parts = [[(one, piece) for piece in part] for part in one.cut()]
        self._keep_long_parts(sessions[0].ch_names)
        predictor = sessions[0].predictor
        self.implant = predictor.implant
        self._views = [self.implant] * len(self._parts)
        if spatial != "physics":
            self._fit_map(predictor, spatial)

    def _keep_long_parts(self, contacts):
        """Leave out parts that are too short to learn from or to judge by."""
        lengths = [sum(piece[-1] for _, piece in part) for part in self._parts]
        parts = zip(self._parts, lengths, strict=True)
        self._parts = [part for part, length in parts if length >= LEAST_PART]
        if len(self._parts) < 2:
            raise ValueError(
                "The pairs of a patient are cut into parts (sessions, whole trials or "
                f"contiguous seconds), two of which must have {LEAST_PART} good "
                f"seconds; those with {listed(contacts)} last {lengths} s. One session "
                f"needs {2 * (LEAST_PART + GAP)} s."
            )

    def _fit_map(self, predictor, spatial):
        sessions = {id(s): s for part in self._parts for s, _ in part}.values()
        gain = _common_gain(sessions)
        blocks = [
            [[data / gain for data in s.read(*piece, halo=N_LAGS)] for s, piece in part]
            for part in self._parts
        ]
        physics = predictor.adapted.posterior
        operator = physics.wideband_operator * (spatial == "fitted")
        lagged, others = fit_lagged_map(blocks, operator, physics.covariance)
        logger.info(
            "The scalp explains %.0f %% of the contacts' variance in data that the "
            "spatial stage has not seen (%.0f to %.0f %%).",
            *(100 * np.percentile(lagged.explained, [50, 0, 100])),
        )
        self.implant = replace(
            self.implant,
            electrodes=predictor.scalp.ch_names,
            lagged=lagged,
            gain=gain,
        )
        self._views = [
            replace(self.implant, lagged=replace(lagged, weights=weights))
            for weights in others
        ]

    def hear(self, flow):
        """Learn how loud the contacts are, from what each part's map has not seen.

        Then correct it once, so that draws of these amplitudes are as loud as the pairs
        in every band.
        """
        from .training.pairs import level_errors

        self._keep(_heard(flow, self.everything()))
        amplitude = self.implant.amplitude.copy()
        amplitude[..., 0] -= level_errors(flow, _some(self.everything())).numpy()
        self._keep(amplitude)

    def _keep(self, amplitude):
        self.implant = replace(self.implant, amplitude=amplitude)
        self._views = [replace(view, amplitude=amplitude) for view in self._views]

    def everything(self):
        """Return all parts."""
        return self.stretches(False) + self.stretches(True)

    def stretches(self, held_out):
        """Return all parts but the last, or the last."""
        parts = list(zip(self._parts, self._views, strict=True))
        parts = parts[-1:] if held_out else parts[:-1]
        return [
            stretch
            for part, view in parts
            for session, piece in part
            for stretch in session.stretches([piece], view)
        ]


def _remember(implants, known):
    """Put what is newly known of contacts into a list of implants, in place."""
    if known.lagged is None:
        # What the new one says of all of its contacts is not needed any more.
        implants[:] = [each for each in implants if known.find(each.positions) is None]
        implants.append(known)
        return
    # It is some of the contacts of the last one that has them all, as for a prediction.
    for place in reversed(range(len(implants))):
        index = implants[place].find(known.positions)
        if implants[place].lagged is not None and index is not None:
            implants[place] = implants[place].updated(index, known)
            return


def _common_gain(sessions):
    """One gain for all sessions of a patient.

    The contacts are as loud in the next one, even where the scalp is not.
    """
    return float(np.exp(np.mean([np.log(session.gain) for session in sessions])))


def _heard(flow, stretches):
    """How loud each contact is, (n_contacts, level, 2)."""
    from .training.pairs import hear_amplitudes

    return hear_amplitudes(flow, stretches).numpy()


def _calibrate(departures):
    """Fit scale and tail of each contact, beside the flow's own: (n_contacts, 2)."""
    import torch

    from .flow.calibration import fit_marginal

    start, truth = departures.start, departures.truth
    one = torch.ones_like(truth[:, :1])
    # A scale is known to one in the root of twice the seconds: what exceeds this, for
    # all contacts or in their differences, is real.
    chance = 1 / (2 * departures.n_seconds)
    common = fit_marginal(departures.draws, truth, start, one)
    common = common * common.square() / (common.square() + chance)
    change = common.expand(len(truth), 2).clone()
    spread = departures.calibrated(change).abs().mean((0, -1))
    excess = torch.log(truth.abs().mean(-1) / spread)
    real = (excess.square().mean() - chance).clamp_min(0)
    change[:, 0] += excess * real / (real + chance)
    return change.double().numpy()


def _what_changed(before, after, calibration, names):
    """Tell what a calibration did to the intervals, one row per contact."""
    import torch

    from .scores.tensors import inside

    change = torch.as_tensor(calibration, dtype=after.draws.dtype)
    sets = {
        "before": (before.calibrated(before.known), before.truth),
        "after": (after.calibrated(change), after.truth),
    }
    width = {when: draws.std(0).mean(-1) for when, (draws, _) in sets.items()}
    table = {"scale": width["after"] / width["before"]}
    for level in (0.5, 0.9):
        for when, (draws, truth) in sets.items():
            table[f"{when} {level}"] = inside(draws, truth, level).mean(-1)
    table = {name: values.numpy() for name, values in table.items()}
    return pandas.DataFrame(table, pandas.Index(names, name="channel"))


def _some(stretches):
    """Take as many seconds from everywhere as a calibration needs."""
    total = sum(stretch.n_blocks for stretch in stretches)
    share = min(1.0, _MOST_CALIBRATED / total)
    if len(stretches) > _MOST_CALIBRATED // LEAST_PART:
        step = -(-len(stretches) * LEAST_PART // _MOST_CALIBRATED)
        stretches = stretches[::step]
    lengths = [max(LEAST_PART, int(share * each.n_blocks)) for each in stretches]
    return [
        replace(each, n_blocks=min(length, each.n_blocks))
        for each, length in zip(stretches, lengths, strict=True)
    ]


class _Departures:
    """Draws and truth of some stretches, in s.d. of the posterior about its mean.

    Attributes
    ----------
    draws, truth : Tensor of shape ([n_draws, ]n_contacts, n_times)
        Draws before any calibration.
    start : Marginal
        The calibration that the flow gives by itself.
    known : Tensor of shape (n_contacts, 2)
        Log-scale and tail that were known of the contacts beside it.
    n_seconds : int
        Seconds of pairs that were looked at.
    """

    def __init__(self, flow, stretches):
        import torch

        from .flow.calibration import Marginal

        chosen = _some(stretches)
        parts = [self._of(flow, each, number) for number, each in enumerate(chosen)]
        draws, truth = zip(*parts, strict=True)
        self.draws, self.truth = torch.cat(draws, dim=-1), torch.cat(truth, dim=-1)
        self.n_seconds = sum(each.n_blocks for each in chosen)
        conditions = chosen[0].conditions_of(chosen[0].first_block, 1)
        own = flow.calibration(replace(conditions, calibration=None))
        present = flow.calibration(conditions)
        self.known = torch.cat(
            [present.log_scale - own.log_scale, present.tail - own.tail], dim=-1
        )[0]
        nothing = torch.zeros_like(self.truth[:, :1])
        self.start = Marginal(nothing, nothing + 1, own.log_scale[0], own.tail[0])

    def calibrated(self, change):
        """Draws with another log-scale and tail, (n_contacts, 2)."""
        return self.start.changed(change[:, None]).apply(self.draws)

    @staticmethod
    def _of(flow, stretch, number):
        import torch

        from .flow.calibration import Marginal
        from .flow.sampler import Noise, sample_blocks

        where = stretch.first_block, stretch.n_blocks
        present = flow.calibration(stretch.conditions_of(*where))
        thin = Marginal(
            present.centre[..., ::_STRIDE],
            present.unit,
            present.log_scale,
            present.tail,
        )

        def depart(potentials):
            return ((potentials - thin.centre) / thin.unit)[0]

        noise = Noise(0, np.arange(present.centre.shape[1]))
        drawn = sample_blocks(
            flow, stretch.conditions_of, noise, *where, range(_N_DRAWS), 4, number
        )
        draws = [depart(thin.undo(draw[None, :, ::_STRIDE])[0]) for draw in drawn]
        truth = depart(stretch.potentials_of(*where)[..., ::_STRIDE])
        return torch.stack(draws), truth
