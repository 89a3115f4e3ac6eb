"""The model as an object that can be loaded, fitted to recorded pairs, and saved."""

from __future__ import annotations

import copy
import math
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
from ._docs import fill_doc
from ._text import listed
from .arguments import find_seed
from .head.ridge import N_LAGS, fit_lagged_map
from .predict import sample_ieeg, score_ieeg
from .sessions import GAP, MIN_PART, pair_up
from .weights.model import Model

if TYPE_CHECKING:
    import xarray

# Maximum seconds and draws behind a calibration, and every which sample of them.
_MAX_CALIBRATED, _N_DRAWS, _STRIDE = 180, 32, 8
_STEPS = 60
# What the name of weights ends with that were fitted to pairs.
_OWN = "+pairs"
_SPATIAL = ("fitted", "ridge", "physics")


# Its parameters are those that Model takes, which the linter does not see.
class NeuroFlow(Model):  # numpydoc ignore=PR02
    """A model of intracranial EEG given scalp EEG, which can be fitted to pairs.

    Its results are predictions, never recordings.

    Parameters
    ----------
    model : str | path-like
        The name of the weights, see :func:`mne_neuroflow.fetch_model`, or a
        ``.safetensors`` file that :meth:`save` has written.

    Attributes
    ----------
    name : str
        The name of the weights.
    card : dict
        The model card: what the model was trained on, and what it was fitted to.
    contact_fits : list of ContactFit
        What recorded pairs have shown about the contacts of each patient. It is empty
        before :meth:`fit`.

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

    @fill_doc
    def sample(
        self, inst, n_draws=100, *, contacts=None, **options
    ) -> xarray.DataArray:
        """Draw virtual intracranial EEG.

        Parameters
        ----------
        %(inst)s
        n_draws : int
            The number of draws, all of which are kept in memory.
        contacts : str | path-like | DigMontage | Info | array_like | None
            The contacts, see :func:`mne_neuroflow.make_contacts`. ``None`` takes those
            that the model was fitted to.
        **options : dict
            Other parameters of :func:`mne_neuroflow.sample_ieeg`: ``tmin``, ``tmax``,
            ``random_state``, ``device``, ``batch_size``, ``trans``, ``on_mismatch``,
            ``verbose``.

        Returns
        -------
        draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
            The draws in volts, see :func:`mne_neuroflow.sample_ieeg`.
        """
        if contacts is None:
            contacts = self._own_contacts()
        return sample_ieeg(inst, n_draws, contacts=contacts, model=self, **options)

    def log_prob(self, inst, ieeg, **options) -> xarray.DataArray:
        """Compute the log-density of recorded intracranial EEG.

        Parameters
        ----------
        inst, ieeg : Raw | Epochs
            Scalp EEG and intracranial EEG, recorded at the same time.
        **options : dict
            Other parameters of :func:`mne_neuroflow.score_ieeg`: ``device``, ``trans``,
            ``on_mismatch``, ``verbose``.

        Returns
        -------
        score : xarray.DataArray, shape ([n_epochs, ]n_channels, n_windows)
            The log-density in nats per sample, see :func:`mne_neuroflow.score_ieeg`.
        """
        return score_ieeg(inst, ieeg, model=self, **options)

    @verbose
    @fill_doc
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
        """Fit the model to pairs of recordings, starting from its weights.

        Parameters
        ----------
        inst, ieeg : Raw | Epochs | list of Raw | list of Epochs
            Scalp EEG and intracranial EEG, recorded at the same time; one recording or
            a list of sessions. Sessions that share most contact names and positions
            belong to one patient. Of these contacts, those that are good in all
            sessions are used. Seconds of a Raw that are annotated as bad in either
            recording are left out. Drop bad epochs of Epochs beforehand.
        spatial : str
            The spatial stage. ``'fitted'`` corrects the head model by a ridge
            regression from the scalp EEG within 117 ms of each sample, for each contact
            as far as this improves the prediction of held-out data. ``'ridge'`` uses
            this regression without the head model. ``'physics'`` fits only the flow,
            and can then predict other contacts as well.
        n_steps : int
            Maximum number of training steps of the flow. Training stops early when the
            log-density of held-out pairs no longer improves. With 0 the flow is not
            trained.
        random_state : int | RandomState | Generator | None
            The seed of the training.
        %(trans)s
        %(on_mismatch)s
        %(verbose)s

        Returns
        -------
        history : pandas.DataFrame
            One row per evaluation: ``step``, and the negative log-density of whitened
            coefficients of the training data (``train``) and of the held-out data
            (``held_out``), in nats, averaged over frequency bands.

        Notes
        -----
        Data are split before anything is estimated: by session if a patient has
        several, otherwise into six parts of whole trials or of contiguous seconds, 2 s
        apart. Each part is predicted by a map from the other parts. The last part of
        each patient is held out from the training of the flow, for early stopping.

        Earlier contact fits of the model are replaced. After ``'fitted'`` or
        ``'ridge'``, the model predicts only contacts that it was fitted to, from the
        same EEG channels.
        """
        from .training.pairs import fine_tune, follow_draws

        _check_option("spatial", spatial, _SPATIAL)
        _validate_type(n_steps, "int", "n_steps")
        if n_steps < 0:
            raise ValueError(
                "Invalid value for the 'n_steps' parameter. Allowed values are 0 and "
                f"more, but got {n_steps} instead."
            )
        seed = find_seed(random_state)
        start = copy.copy(self)
        start.contact_fits = []
        groups = pair_up(inst, ieeg, start, trans, on_mismatch, same_electrodes=True)
        patients = [_Patient(group, spatial) for group in groups]
        train = [each for patient in patients for each in patient.stretches(False)]
        held_out = [each for patient in patients for each in patient.stretches(True)]
        bar = ProgressBar(n_steps, mesg="Fitting")
        flow, history = fine_tune(
            self.flow,
            train,
            held_out,
            n_steps=n_steps,
            seed=seed,
            located=spatial == "physics",
            on_step=lambda step: bar.update(step + 1),
        )
        contact_fits = []
        for patient in patients if spatial != "physics" else ():
            patient.estimate_amplitudes(flow)
            calibration = _calibrate(_Departures(flow, patient.everything()))
            contact_fits.append(replace(patient.contact_fit, calibration=calibration))
        everything = [each for patient in patients for each in patient.everything()]
        follow_draws(flow, everything, seed=seed)
        # Nothing is changed before everything is done.
        self.flow, self.contact_fits = flow, contact_fits
        self._record("fit", groups, spatial=spatial, seed=seed)
        return pandas.DataFrame(history)

    @verbose
    @fill_doc
    def recalibrate(
        self, inst, ieeg, *, trans="fsaverage", on_mismatch="warn", verbose=None
    ) -> pandas.DataFrame:
        """Correct intervals with a few minutes of pairs, without training.

        The pairs show the amplitude of each contact, which the scalp EEG does not. Then
        the draws are scaled about their mean, with a scale for each contact and one
        change of the tails for all. These minimize the continuous ranked probability
        score. The scales are shrunk towards a common scale, the more the fewer pairs
        there are. If 90-percent intervals then hold less than 90 percent of the pairs,
        those of all contacts are widened. What was known about other contacts is kept.

        Parameters
        ----------
        inst, ieeg : Raw | Epochs | list of Raw | list of Epochs
            Scalp EEG and intracranial EEG, recorded at the same time; one recording or
            a list of sessions, as for :meth:`fit`.
        %(trans)s
        %(on_mismatch)s
        %(verbose)s

        Returns
        -------
        changes : pandas.DataFrame
            One row per contact: ``scale``, by which its intervals were multiplied, and
            the coverage of its 50- and 90-percent intervals in these pairs, ``before``
            and ``after``.

        Notes
        -----
        In another session of twelve simulated patients, 90-percent intervals covered 89
        percent of the samples, and in other trials of three patients 88 percent, see
        :ref:`leaderboard`.
        """
        groups = pair_up(inst, ieeg, self, trans, on_mismatch)
        tables, contact_fits = [], list(self.contact_fits)
        for group in groups:
            predictor = group[0].predictor
            kept, names = predictor.contact_fit, predictor.ch_names
            if kept.gain is None:
                kept = replace(kept, gain=_common_gain(group))

            def stretches(contact_fit, group=group):
                return [
                    each for s in group for each in s.stretches(contact_fit=contact_fit)
                ]

            before = _Departures(self.flow, stretches(kept))
            # Amplitudes first, as if nothing had been calibrated before.
            kept = replace(kept, calibration=np.zeros_like(kept.calibration))
            kept = replace(kept, amplitude=_amplitudes(self.flow, stretches(kept)))
            after = _Departures(self.flow, stretches(kept))
            calibration = _widened(after, _calibrate(after))
            _remember(contact_fits, replace(kept, calibration=calibration))
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
        self.contact_fits = contact_fits
        self._record("recalibration", groups)
        return pandas.concat(tables)

    def _own_contacts(self):
        if len(self.contact_fits) != 1:
            raise ValueError(
                "Invalid value for the 'contacts' parameter. It must be given, because "
                f"the model was fitted to {len(self.contact_fits)} implants."
            )
        (contact_fit,) = self.contact_fits
        montage = mne.channels.make_dig_montage(
            dict(zip(contact_fit.ch_names, contact_fit.positions, strict=True)),
            coord_frame="mni_tal",
        )
        return montage.add_mni_fiducials(verbose=False)

    def _record(self, what, groups, **options):
        """Add an entry to the card about a fit or recalibration."""
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
            self._parts = [(session, session.pieces()) for session in sessions]
        else:
            self._parts = [(sessions[0], pieces) for pieces in sessions[0].cut()]
        self._keep_long_parts(sessions[0].ch_names)
        predictor = sessions[0].predictor
        self.contact_fit = predictor.contact_fit
        self._views = [self.contact_fit] * len(self._parts)
        if spatial != "physics":
            self._fit_map(predictor, spatial)

    def _keep_long_parts(self, contacts):
        """Leave out parts that are too short for training or for early stopping."""
        lengths = [sum(piece[-1] for piece in pieces) for _, pieces in self._parts]
        parts = zip(self._parts, lengths, strict=True)
        self._parts = [part for part, length in parts if length >= MIN_PART]
        if len(self._parts) < 2:
            raise ValueError(
                "The pairs of a patient are cut into parts (sessions, whole trials or "
                f"contiguous seconds), two of which must have {MIN_PART} good "
                f"seconds; those with {listed(contacts)} last {lengths} s. One session "
                f"needs {2 * (MIN_PART + GAP)} s."
            )

    def _fit_map(self, predictor, spatial):
        gain = _common_gain({id(s): s for s, _ in self._parts}.values())
        blocks = [
            [[x / gain for x in s.read(*piece, halo=N_LAGS)] for piece in pieces]
            for s, pieces in self._parts
        ]
        physics = predictor.adapted.posterior
        operator = physics.wideband_operator * (spatial == "fitted")
        lagged, others = fit_lagged_map(blocks, operator, physics.covariance)
        logger.info(
            "The scalp explains %.0f %% of the contacts' variance in data that the "
            "spatial stage has not seen (%.0f to %.0f %%).",
            *(100 * np.percentile(lagged.explained, [50, 0, 100])),
        )
        self.contact_fit = replace(
            self.contact_fit,
            electrodes=predictor.scalp.ch_names,
            lagged=lagged,
            gain=gain,
        )
        self._views = [
            replace(self.contact_fit, lagged=replace(lagged, weights=weights))
            for weights in others
        ]

    def estimate_amplitudes(self, flow):
        """Estimate the amplitudes of the contacts from data that no map was fitted to.

        Then correct them once, so that draws have the amplitudes of the pairs in every
        band.
        """
        from .training.pairs import level_errors

        self._keep(_amplitudes(flow, self.everything()))
        amplitude = self.contact_fit.amplitude.copy()
        amplitude[..., 0] -= level_errors(flow, _some(self.everything())).numpy()
        self._keep(amplitude)

    def _keep(self, amplitude):
        self.contact_fit = replace(self.contact_fit, amplitude=amplitude)
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
            for (session, pieces), view in parts
            for stretch in session.stretches(pieces, view)
        ]


def _remember(contact_fits, known):
    """Add a new contact fit to a list in place, or merge it with those present."""
    if known.lagged is None:
        # What the new one says of all of its contacts is not needed any more.
        contact_fits[:] = [
            each for each in contact_fits if known.find(each.positions) is None
        ]
        contact_fits.append(known)
        return
    # It is some of the contacts of the last one that has them all, as for a prediction.
    for place in reversed(range(len(contact_fits))):
        index = contact_fits[place].find(known.positions)
        if contact_fits[place].lagged is not None and index is not None:
            contact_fits[place] = contact_fits[place].updated(index, known)
            return


def _common_gain(sessions):
    """Return one gain for all sessions of a patient.

    The amplitudes of contacts stay the same in the next session, even if those of the
    scalp EEG change.
    """
    return float(np.exp(np.mean([np.log(session.gain) for session in sessions])))


def _amplitudes(flow, stretches):
    """Estimate the amplitude of each contact, (n_contacts, level, 2)."""
    from .training.pairs import estimate_amplitudes

    return estimate_amplitudes(flow, stretches).numpy()


def _calibrate(departures):
    """Fit scale and tail of each contact, beside the flow's own: (n_contacts, 2)."""
    import torch

    from .flow.marginal import fit_marginal

    start, truth = departures.start, departures.truth
    one = torch.ones_like(truth[:, :1])
    # What exceeds chance, for all contacts or in their differences, is real.
    chance = departures.chance
    common = fit_marginal(departures.draws, truth, start, one)
    common = common * common.square() / (common.square() + chance)
    change = common.expand(len(truth), 2).clone()
    spread = departures.calibrated(change).abs().mean((0, -1))
    excess = torch.log(truth.abs().mean(-1) / spread)
    real = (excess.square().mean() - chance).clamp_min(0)
    change[:, 0] += excess * real / (real + chance)
    return change.double().numpy()


def _widened(departures, calibration):
    """Widen intervals that are narrower than the nominal ones, all contacts alike.

    The score depends little on the limits of wide intervals, so that the best one may
    leave them too narrow. Only what is more than chance changes them.
    """
    import torch
    from scipy.optimize import brentq

    from .scores.tensors import inside

    change = torch.as_tensor(calibration, dtype=departures.draws.dtype)

    def missing(widening):
        draws = departures.calibrated(change + change.new_tensor([widening, 0]))
        return 0.9 - inside(draws, departures.truth, 0.9).double().mean().item()

    # Not even twice the width may be enough if pairs do not belong together.
    widening, most = 0.0, math.log(2)
    if missing(most) > 0:
        widening = most
    elif missing(0) > 0:
        widening = brentq(missing, 0, most, xtol=0.01)
    return calibration + [widening**3 / (widening**2 + departures.chance), 0]


def _what_changed(before, after, calibration, names):
    """Tabulate the intervals before and after recalibration, one row per contact."""
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
    """Take evenly spread parts, as many seconds as a calibration needs."""
    total = sum(stretch.n_blocks for stretch in stretches)
    share = min(1.0, _MAX_CALIBRATED / total)
    if len(stretches) > _MAX_CALIBRATED // MIN_PART:
        step = -(-len(stretches) * MIN_PART // _MAX_CALIBRATED)
        stretches = stretches[::step]
    lengths = [max(MIN_PART, int(share * each.n_blocks)) for each in stretches]
    return [
        replace(each, n_blocks=min(length, each.n_blocks))
        for each, length in zip(stretches, lengths, strict=True)
    ]


class _Departures:
    """Departures of draws and truth from the posterior mean, in posterior s.d.

    Attributes
    ----------
    draws, truth : Tensor of shape ([n_draws, ]n_contacts, n_times)
        The departures of the draws, before any calibration, and of the truth.
    start : Marginal
        The calibration of the flow itself.
    known : Tensor of shape (n_contacts, 2)
        Log-scale and tail of the contacts from earlier pairs.
    chance : float
        Variance of the logarithm of a scale that is estimated from these pairs.
    """

    def __init__(self, flow, stretches):
        import torch

        from .flow.marginal import Marginal

        chosen = _some(stretches)
        parts = [self._of(flow, each, number) for number, each in enumerate(chosen)]
        draws, truth = zip(*parts, strict=True)
        self.draws, self.truth = torch.cat(draws, dim=-1), torch.cat(truth, dim=-1)
        # As if seconds were independent: one in the root of twice their number.
        self.chance = 1 / (2 * sum(each.n_blocks for each in chosen))
        conditions = chosen[0].conditions_of(chosen[0].first_block, 1)
        own = flow.calibration(replace(conditions, calibration=None))
        present = flow.calibration(conditions)
        self.known = torch.cat(
            [present.log_scale - own.log_scale, present.tail - own.tail], dim=-1
        )[0]
        nothing = torch.zeros_like(self.truth[:, :1])
        self.start = Marginal(nothing, nothing + 1, own.log_scale[0], own.tail[0])

    def calibrated(self, change):
        """Return the draws with another log-scale and tail, (n_contacts, 2)."""
        return self.start.changed(change[:, None]).apply(self.draws)

    @staticmethod
    def _of(flow, stretch, number):
        import torch

        from .flow.marginal import Marginal
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
