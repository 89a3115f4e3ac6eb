"""The public functions that predict.

They check the user's parameters and document the results. Each makes one
:class:`~mne_neuroflow.predictor.Predictor`, which computes the prediction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mne import Info

from ._compat import _check_option, verbose
from ._docs import fill_doc
from .arguments import check_n_draws, check_output, check_shares
from .contract import MODEL
from .head.contact_table import observability_table
from .head.contacts import contact_positions, make_contacts
from .head.posterior import spatial_posterior
from .ieeg import check_ieeg
from .predictor import Predictor
from .scalp.check import check_scalp
from .scalp.electrodes import find_electrodes
from .scalp.header import reference_operator
from .spatial import AdaptedStage

if TYPE_CHECKING:
    import mne
    import pandas
    import xarray


@verbose
@fill_doc
def predict_ieeg(
    inst,
    *,
    contacts="mtl",
    model=MODEL,
    output="sample",
    n_draws=None,
    random_state=None,
    device="auto",
    batch_size="auto",
    trans="fsaverage",
    bad_time="prior",
    on_mismatch="warn",
    verbose=None,
) -> mne.io.BaseRaw | mne.BaseEpochs:
    """Predict virtual intracranial EEG from scalp EEG.

    The result is a prediction, not a recording. The scalp EEG explains little of most
    contacts, and the draws differ accordingly.

    Parameters
    ----------
    %(inst)s
    %(contacts)s
    %(model)s
    output : str | tuple
        ``'sample'`` is one draw from the posterior, which looks like iEEG. ``'mean'``,
        ``'std'``, ``'median'`` and ``('quantile', q)`` with ``0 < q < 1`` summarize
        the distribution of each sample, and do not look like iEEG.
    n_draws : int | None
        ``None`` computes every output but ``'sample'`` in one pass, from the
        distribution of each sample that the model gives directly. A number, at least
        2, computes it from so many draws, which takes as many times longer. For the
        mean, half of these draws have the negative noise of the other half, which
        brings it closer to the expected value.
    %(random_state)s
    %(device)s
    %(batch_size)s
    %(trans)s
    %(bad_time)s
    %(on_mismatch)s
    %(verbose)s

    Returns
    -------
    virtual : Raw | Epochs
        An object of the type of ``inst``, with the same rate, length, events,
        annotations and metadata, and with one ``'seeg'`` channel in volts per contact.
        Positions are set. If ``inst`` is a Raw that is not preloaded, the result is
        computed when it is read, in constant memory.

    See Also
    --------
    sample_ieeg
    predict_quantiles
    observability

    Notes
    -----
    The model was trained on 8 to 128 electrodes, on amplitudes of 0.2 to 3 times what
    the head model expects, and on contacts within 20 mm of sources of the temporal
    lobes. It works with EEG of which at least half of the signals are independent; a
    filter over space, removed components and interpolated channels leave fewer.
    ``on_mismatch`` says what happens outside of these limits.

    The recording is resampled to 128 Hz and filtered between 0.5 and 50 Hz. The result
    has almost no power outside this band. Its potentials are against infinity, whatever
    the reference of the scalp EEG; recorded iEEG has a reference of its own. Epochs are
    predicted separately, except for the gain, which is the typical amplitude of the
    scalp EEG over all of them. The noise of an epoch depends on its number in
    ``inst.selection``, so that dropping other epochs does not change it.

    Gain, filter and units are measured in good time alone. Time is bad where an
    annotation begins with ``BAD``, where no channel changes for a tenth of a second,
    and in seconds that are too quiet for EEG beside others that are not. There, the
    prediction changes to the prior within a quarter of a second. If
    only some channels hold one value for a second or more, either they are left out or
    this time is bad, whichever is the smaller share, with a warning.

    Recordings and epochs must last for one second or more. Annotations of single scalp
    channels (with ``ch_names``) are not copied, because the result does not have these
    channels.

    :ref:`method` describes the method and its sources.

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
    if n_draws is not None:
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
@fill_doc
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
    %(inst)s
    n_draws : int
        The number of draws, all of which are kept in memory. The first ones do not
        depend on how many follow.
    tmin, tmax : float | None
        First and last time of the draws, in seconds, of the recording or of each epoch.
        ``None`` takes all of it. The draws are the same as those of the whole
        recording, whereas a cropped recording would have its own edges and gain.
    %(contacts)s
    %(model)s
    %(random_state)s
    %(device)s
    %(batch_size)s
    %(trans)s
    %(on_mismatch)s
    %(verbose)s

    Returns
    -------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        Volts, float32, with the dimensions ``draw``, ``epoch`` (for Epochs),
        ``channel`` and ``time`` in seconds. Quantiles over ``draw`` are intervals.
        Channels have the coordinates ``structure`` and ``observability``, see
        :func:`observability`.

    See Also
    --------
    predict_ieeg

    Notes
    -----
    Each draw is what :func:`predict_ieeg` returns with ``output='sample'``.
    :ref:`method` describes the method and its sources.

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
@fill_doc
def predict_quantiles(
    inst,
    q=(0.05, 0.5, 0.95),
    *,
    tmin=None,
    tmax=None,
    contacts="mtl",
    model=MODEL,
    device="auto",
    trans="fsaverage",
    on_mismatch="warn",
    verbose=None,
) -> xarray.DataArray:
    """Predict quantiles of virtual intracranial EEG, all of them in one pass.

    What comes back is a prediction, not a recording. Quantiles are those of every
    sample by itself, so a curve through them is no signal that a contact could have.

    Parameters
    ----------
    %(inst)s
        The quantiles are kept in memory.
    q : float | array_like of float
        Which quantiles, between 0 and 1. ``(0.05, 0.95)`` bounds the central
        interval of 90 percent.
    tmin, tmax : float | None
        What part of the recording, or of each epoch, is predicted, in seconds, both
        ends included; ``None`` for all of it.
    %(contacts)s
    %(model)s
    %(device)s
    %(trans)s
    %(on_mismatch)s
    %(verbose)s

    Returns
    -------
    quantiles : xarray.DataArray, shape (n_quantiles[, n_epochs], n_channels, n_times)
        Volts, float32, with the dimensions ``quantile``, ``epoch`` (for Epochs),
        ``channel`` and ``time`` in seconds, and the coordinates that
        :func:`sample_ieeg` gives.

    See Also
    --------
    predict_ieeg
    sample_ieeg

    Notes
    -----
    The same numbers as from :func:`predict_ieeg` with ``output=('quantile', q)``. For
    anything that combines samples or contacts, such as power, connectivity or a
    difference of two contacts, take the quantiles of its values over the draws of
    :func:`sample_ieeg` instead.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo().crop(0, 2)
    >>> found = mne_neuroflow.predict_quantiles(raw, contacts="mtl-core")
    >>> bool((found.sel(quantile=0.05) < found.sel(quantile=0.95)).all())
    True
    """
    shares = check_shares(q)
    predictor = Predictor(
        inst,
        contacts=contacts,
        model=model,
        random_state=0,
        device=device,
        trans=trans,
        on_mismatch=on_mismatch,
    )
    return predictor.quantiles(shares, tmin, tmax)


@verbose
@fill_doc
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
    %(inst)s
    ieeg : Raw | Epochs
        The intracranial EEG of the same time, with the type, number of epochs and
        duration of ``inst``, with ``'seeg'``, ``'ecog'`` or ``'dbs'`` channels that
        have positions, and with any sampling rate of at least 100 Hz. Bad channels are
        left out.
    %(model)s
    %(device)s
    %(trans)s
    %(on_mismatch)s
    %(verbose)s

    Returns
    -------
    score : xarray.DataArray, shape ([n_epochs, ]n_channels, n_windows)
        Nats per sample at 128 Hz, for potentials in volts, in windows of one
        second. ``time`` is the start of each window. Higher is better. Multiplied by
        128 and summed over contacts and windows, it is the joint log-density. Windows
        with bad time in either recording are NaN.

    See Also
    --------
    sample_ieeg

    Notes
    -----
    The density is exact for potentials in the model's band, 0.5-50 Hz at
    128 Hz. It is the density of a continuous quantity, so that only differences between
    models or recordings are meaningful. The value of a window is its density given the
    previous windows of the recording or epoch, which show the amplitude of each
    contact. Contacts are whitened together: a row is the part of the joint log-density
    that belongs to the residual of one contact, not the density of this contact alone.
    The model's potentials are against infinity. Recorded ones have a reference
    electrode, and activity at this electrode lowers all rows.

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
    truth = check_ieeg(ieeg, on_mismatch)
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
@fill_doc
def observability(
    inst, contacts="mtl", *, trans="fsaverage", verbose=None
) -> pandas.DataFrame:
    """Compute how much scalp EEG can show of each contact.

    Parameters
    ----------
    inst : Raw | Epochs | Info
        The scalp EEG, or its ``Info``. A recording is used to estimate its sources. For
        an ``Info``, typical sources are assumed, and the result depends on the montage
        alone. Channels in ``info['bads']`` are left out.
    %(contacts)s
    %(trans)s
    %(verbose)s

    Returns
    -------
    table : pandas.DataFrame
        One row per contact, indexed by its name, with the columns

        - ``structure``, that of the nearest source;
        - ``labels_3mm`` and ``labels_5mm``, all structures within 3 and 5 mm of the
          contact with their shares, such as ``'hippocampus 0.83, amygdala 0.17'``;
        - ``observability``, the share of the contact's variance that the scalp EEG
          explains in the spatial model, 0 to 1;
        - ``prior_std`` and ``posterior_std``, the standard deviation in volts without
          and with the scalp EEG, in this recording or, for an ``Info``, in a recording
          of typical amplitude;
        - ``electrode_distance``, in metres, to the nearest electrode;
        - ``abstain``, true where the observability is below 0.05, so that the
          prediction rests on the prior alone.

    See Also
    --------
    predict_ieeg

    Notes
    -----
    The observability is one minus the ratio of posterior to prior variance of the
    spatial posterior, see :ref:`method`. :func:`predict_ieeg` logs that of the
    recording. It assumes that the sources are as estimated, and does not measure the
    error: a prediction can be wrong at a contact with high observability.

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
