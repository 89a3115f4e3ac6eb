"""The public functions that predict: each makes one predictor and asks it once.

They check what the user gave and say in full what comes back; how it is made, only
:mod:`mne_neuroflow.predictor` knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mne import Info

from ._compat import _check_option, verbose
from .head.contacts import contact_positions, make_contacts
from .head.posterior import spatial_posterior
from .ieeg import check_ieeg
from .predictor import (
    MODEL,
    Predictor,
    check_n_draws,
    check_output,
    observability_table,
)
from .scalp import check_scalp, find_electrodes, reference_operator
from .spatial import AdaptedStage

if TYPE_CHECKING:
    import mne
    import pandas
    import xarray


@verbose
def predict_ieeg(
    inst,
    *,
    contacts="mtl",
    model=MODEL,
    output="sample",
    n_draws=100,
    random_state=None,
    device="auto",
    batch_size="auto",
    trans="fsaverage",
    bad_time="prior",
    on_mismatch="warn",
    verbose=None,
) -> mne.io.BaseRaw | mne.BaseEpochs:
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
    bad_time : str
        What to give where the scalp is bad, that is, annotated as ``BAD`` or without a
        signal: ``'prior'``, draws as if no scalp were known, or ``'nan'``.
    on_mismatch : str
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
    lobes: ``on_mismatch`` says what happens outside of that.

    The recording is read at 128 Hz between 0.5 and 50 Hz, and the result holds hardly
    anything outside this band. Potentials are against infinity, as the head model
    gives them, whatever the reference of the scalp; recorded iEEG has a reference of
    its own. Epochs are predicted apart from each other, but for the recording's gain,
    the typical amplitude of the scalp over all of them. An epoch's draws belong to its
    place in ``inst.selection``, so that dropping others does not change its noise.

    Gain, filter and units are measured in good time alone. Bad is what annotations call
    ``BAD``, NaN inside them, and where no channel changes for a tenth of a second; the
    prior takes over within a quarter of a second.

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
    output = check_output(output)
    n_draws = check_n_draws(n_draws, 2)
    _check_option("bad_time", bad_time, ("prior", "nan"))
    predictor = Predictor(
        inst,
        contacts=contacts,
        model=model,
        random_state=random_state,
        device=device,
        batch_size=batch_size,
        trans=trans,
        on_mismatch=on_mismatch,
    )
    return predictor.predict(output, n_draws, bad_time)


@verbose
def sample_ieeg(
    inst,
    n_draws=100,
    *,
    tmin=None,
    tmax=None,
    contacts="mtl",
    model=MODEL,
    random_state=None,
    device="auto",
    batch_size="auto",
    trans="fsaverage",
    on_mismatch="warn",
    verbose=None,
) -> xarray.DataArray:
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
    on_mismatch : str
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
    n_draws = check_n_draws(n_draws, 1)
    predictor = Predictor(
        inst,
        contacts=contacts,
        model=model,
        random_state=random_state,
        device=device,
        batch_size=batch_size,
        trans=trans,
        on_mismatch=on_mismatch,
    )
    return predictor.sample(n_draws, tmin, tmax)


@verbose
def score_ieeg(
    inst,
    ieeg,
    *,
    model=MODEL,
    device="auto",
    trans="fsaverage",
    on_mismatch="warn",
    verbose=None,
) -> xarray.DataArray:
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
    on_mismatch : str
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
    ...     "10", contacts, duration=10, random_state=1, verbose=False
    ... )
    >>> score = mne_neuroflow.score_ieeg(
    ...     scalp, ieeg, on_mismatch="ignore", verbose=False
    ... )
    >>> score.mean("time").sizes
    Frozen({'channel': 2})
    """
    truth = check_ieeg(ieeg)
    predictor = Predictor(
        inst,
        contacts=truth.info,
        model=model,
        random_state=0,
        device=device,
        batch_size=1,
        trans=trans,
        on_mismatch=on_mismatch,
    )
    return predictor.score(truth)


@verbose
def observability(
    inst, contacts="mtl", *, trans="fsaverage", verbose=None
) -> pandas.DataFrame:
    """Tell how much a scalp recording or montage can say about contacts.

    Parameters
    ----------
    inst : Raw | Epochs | Info
        The scalp EEG, for what this recording explains with its own sources, or the
        ``Info`` of one, for what its montage explains of typical sources. Channels in
        ``info['bads']`` are left out.
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
        source; ``labels_3mm`` and ``labels_5mm``, all structures within 3 and 5 mm of
        the contact with their shares, as in ``'hippocampus 0.83, amygdala 0.17'``;
        ``observability``, the share of the contact's variance that the scalp explains
        in the spatial model, 0 to 1; ``prior_std`` and ``posterior_std``, the standard
        deviation in volts before and after the scalp is seen, in this recording or,
        for an ``Info``, in one of ordinary amplitude; ``electrode_distance`` in metres
        to the nearest electrode; ``abstain``, true where the observability is below
        0.05 and the prediction rests on the prior alone.

    See Also
    --------
    predict_ieeg

    Notes
    -----
    The observability is one minus the ratio of posterior to prior variance of the
    spatial posterior, see :ref:`method`. That of a recording is what
    :func:`predict_ieeg` logs. It counts on the recording's sources being as estimated,
    and is no measure of the error that was made: a contact may be explained well by
    the model and wrongly all the same.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo().crop(0, 10)
    >>> table = mne_neuroflow.observability(raw)
    >>> bool(table["observability"].between(0, 1).all())
    True
    >>> montage = mne_neuroflow.observability(raw.info)
    >>> bool((montage.index == table.index).all())
    True
    """
    montage = make_contacts(contacts, trans=trans)
    positions = contact_positions(montage)[1]
    if not isinstance(inst, Info):
        scalp = check_scalp(inst, trans=trans)
        posterior = AdaptedStage(scalp, positions).posterior
        return observability_table(montage, scalp.electrodes, posterior, posterior.gain)
    picks, electrodes = find_electrodes(inst, trans=trans)
    reference = reference_operator(inst, [inst["ch_names"][pick] for pick in picks])
    posterior = spatial_posterior(electrodes, positions, reference=reference)
    return observability_table(montage, electrodes, posterior)
