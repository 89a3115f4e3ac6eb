"""Paired recordings from the prior, as MNE objects."""

from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np

from . import __version__
from ._compat import Description, _check_option, _validate_type, set_band, verbose
from .contract import BAND, BLOCK, SFREQ
from .head.contacts import contact_positions, make_contacts
from .predictor import find_seed
from .resampling import Resampler
from .scalp import find_electrodes

# Spikes are annotated at their peaks; other events last this long, in seconds.
_BLINK, _SACCADE, _POP = 0.3, 0.1, 0.5
_SIDES = ("left", "right")
# Seconds simulated before and after, for the filters that change the rate.
_HALO = 1


@verbose
def simulate_pair(
    montage="19",
    contacts="mtl",
    duration=60.0,
    *,
    sfreq=128.0,
    scenario=None,
    artifacts=True,
    session=1,
    random_state=None,
    verbose=None,
) -> tuple[mne.io.BaseRaw, mne.io.BaseRaw]:
    """Simulate scalp EEG and intracranial EEG of a virtual patient.

    Both come from the prior that the shipped weights were trained on: the same
    sources, seen from the scalp and from inside a head whose electrodes and contacts
    are some millimetres from where their positions say.
    Every ``random_state`` is another patient.

    Parameters
    ----------
    montage : str | list of str | DigMontage | Info
        The scalp electrodes: a usual montage by its number of electrodes (``'8'``,
        ``'10'``, ``'19'``, ``'21'``, ``'25'``, ``'32'`` or ``'64'``), names of the
        10-05 system, a montage, or the Info of a recording, whose good EEG channels
        are taken.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts, as for :func:`make_contacts`.
    duration : float
        Seconds. Memory grows in proportion: half an hour of the default pair needs
        2.5 GB.
    sfreq : float
        Sampling rate in hertz, 100 or more. The signals lie within 0.5-50 Hz.
    scenario : str | None
        ``'rest'``; ``'theta'``, bouts of 3-8 Hz in the medial temporal lobes;
        ``'slowing'``, 1-4 Hz over one temporal lobe; ``'spikes'``, interictal spikes
        of a mesial focus; ``'ictal'``, a seizure that builds up there; or
        ``'uncoupled'``, medial temporal lobes that share nothing with the neocortex.
        ``None`` draws one, as in training.
    artifacts : bool
        Whether the scalp shows eyes, muscle, mains, drifts and bad electrodes.
        Without them there is still the noise of the sensors.
    session : int
        Which recording of the patient, from 0 on. Sessions with the same
        ``random_state`` and positions share the true head, the couplings and the
        focus; their signals are new.
    random_state : int | RandomState | Generator | None
        Seed of everything; ``None`` takes a new one and writes it to the log.
    verbose : bool | str | int | None
        Control verbosity of the logging output.

    Returns
    -------
    scalp : Raw
        EEG in volts, average reference.
    ieeg : Raw
        One ``'seeg'`` channel for each contact, in volts against infinity.

    See Also
    --------
    make_contacts
    predict_ieeg

    Notes
    -----
    ``info['description']`` says that the signals are simulated, with the scenario and
    the seed. Annotations tell what happens and when: ``'spike/left/hippocampus'`` at
    the peak of a spike at its focus (the neocortex follows 8 to 39 ms later, or not at
    all), ``'seizure/...'`` from its first cycle to its last, ``'theta/left'`` for a
    bout; and, on the scalp, ``'blink'``, ``'saccade'``, ``'muscle'``, and for single
    channels ``'pop'``, ``'noisy electrode'`` and ``'dead electrode'``. The numbers
    behind the prior and their sources stand in :mod:`mne_neuroflow.simulation`.

    .. versionadded:: 0.1.0

    Examples
    --------
    >>> import mne_neuroflow
    >>> scalp, ieeg = mne_neuroflow.simulate_pair(
    ...     "19", "mtl-core", 10, scenario="rest", random_state=1, verbose=False
    ... )
    >>> len(scalp.ch_names), ieeg.get_channel_types(unique=True), len(ieeg.times)
    (19, ['seeg'], 1280)
    >>> scalp.info["description"][:36]
    'Simulated scalp EEG, not a recording'
    """
    from .simulation.sources import SCENARIOS

    _check_option("scenario", scenario, (*SCENARIOS, None))
    _check_at_least("duration", duration, 1)
    _check_at_least("sfreq", sfreq, 100)
    _validate_type(artifacts, bool, "artifacts")
    _validate_type(session, "int-like", "session")
    _check_at_least("session", session, 0)
    contacts = make_contacts(contacts)
    info = _scalp_info(montage)
    picks, electrodes = find_electrodes(info)
    names, positions = contact_positions(contacts)
    seed = find_seed(random_state)
    pairs = _simulate(
        electrodes, positions, duration, scenario, artifacts, seed, int(session)
    )

    scenario = SCENARIOS[int(pairs.scenario)]
    n_times = int(np.floor(duration * sfreq))
    chosen = [info["ch_names"][pick] for pick in picks]
    places = mne.channels.make_dig_montage(
        dict(zip(chosen, electrodes, strict=True)), coord_frame="mni_tal"
    ).add_mni_fiducials()
    scalp = mne.create_info(chosen, sfreq, "eeg", verbose=False)
    scalp = _raw(pairs.scalp, n_times, scalp, places)
    scalp.set_eeg_reference("average", verbose=False)
    ieeg = mne.create_info(names, sfreq, "seeg", verbose=False)
    ieeg = _raw(pairs.deep, n_times, ieeg, contacts)
    events = _annotate_events(pairs)
    for raw, what, found in (
        (scalp, "scalp EEG", events + _annotate_artifacts(pairs, scalp.ch_names)),
        (ieeg, "iEEG", events),
    ):
        raw.set_annotations(found, emit_warning=False)  # of those beyond either end
        raw.info["description"] = Description(
            f"Simulated {what}, not a recording. mne_neuroflow {__version__}, "
            f"session {session}, scenario {scenario}, seed {seed}."
        )
    return scalp, ieeg


def _raw(series, n_times, info, montage):
    """Bring a simulated signal to its rate, without its first and last second."""
    resampler = Resampler(info["sfreq"])
    data = resampler.from_model(series[0].double().numpy(), -_HALO * BLOCK, 0, n_times)
    set_band(info, *BAND)
    raw = mne.io.RawArray(data, info, verbose=False)
    return raw.set_montage(montage, verbose=False)


def _check_at_least(name, value, least):
    _validate_type(value, "numeric", name)
    if not least <= value < np.inf:
        raise ValueError(
            f"Invalid value for the '{name}' parameter. Allowed values are finite and "
            f"at least {least}, but got {value}."
        )


def _scalp_info(montage):
    """Return an Info with the electrodes that a user asked for."""
    from .simulation.setups import MONTAGES

    if isinstance(montage, mne.Info):
        return montage
    if isinstance(montage, mne.channels.DigMontage):
        info = mne.create_info(montage.ch_names, 1.0, "eeg", verbose=False)
        return info.set_montage(montage, verbose=False)
    if isinstance(montage, str):
        _check_option("montage", montage, list(MONTAGES))
        montage = MONTAGES[montage].split()
    _validate_type(montage, (list, tuple), "montage", "str, list, DigMontage or Info")
    if not montage or len(set(montage)) < len(montage):
        raise ValueError(
            "Invalid value for the 'montage' parameter. Allowed values are lists of "
            f"names that differ from each other, but got {montage}."
        )
    return mne.create_info(list(montage), 1.0, "eeg", verbose=False)


def _simulate(electrodes, contacts, duration, scenario, artifacts, seed, session):
    """Simulate one patient; returns a batch of one."""
    import torch

    from .head.geometry import load_head
    from .simulation.recordings import draw_traits, simulate
    from .simulation.setups import GeneratorTable, build_patient
    from .simulation.sources import SCENARIOS, draw_scenarios

    patient, head = np.random.SeedSequence(seed).generate_state(2)
    rng = torch.Generator().manual_seed(int(patient))
    setups, worlds = build_patient(electrodes, contacts, int(head))
    all_generators = GeneratorTable.from_head(load_head())
    traits = draw_traits(setups, worlds, all_generators, rng)
    # Other than in training, the two sides of a pair always belong together.
    traits = replace(traits, mismatched=torch.zeros_like(traits.mismatched))
    (signals,) = np.random.SeedSequence([seed, session]).generate_state(1)
    rng = torch.Generator().manual_seed(int(signals))
    if scenario is None:
        drawn = draw_scenarios(1, rng)
    else:
        drawn = torch.tensor([SCENARIOS.index(scenario)])
    return simulate(
        setups,
        worlds,
        all_generators,
        int(np.ceil(duration)) + 2 * _HALO,
        rng,
        scenario=drawn,
        traits=traits,
        artifacts=bool(artifacts),
    )


def _annotate_events(pairs):
    """Tell when the brain does what."""
    from .simulation.sources import STRUCTURES

    side = _SIDES[int(pairs.focus.side)]
    focus = f"{side}/{STRUCTURES[int(pairs.focus.structure)]}"
    found = _instants(pairs.spikes[0], 0, 0, f"spike/{focus}")
    found += _spans(pairs.seizure[0] > 0, f"seizure/{focus}")
    for name, gate in zip(_SIDES, pairs.theta[0], strict=True):
        found += _spans(gate > 0.5, f"theta/{name}")
    return found


def _annotate_artifacts(pairs, ch_names):
    """Tell what else the scalp shows."""
    found = mne.Annotations([], [], [])
    shown = pairs.artifacts
    if shown is None:
        return found
    found += _instants(shown.blinks[0], _BLINK / 2, _BLINK, "blink")
    found += _instants(shown.saccades[0], 0, _SACCADE, "saccade")
    found += _spans(shown.muscle[0] > 0.5, "muscle")
    whole = pairs.scalp.new_ones(pairs.scalp.shape[-1])
    for k, name in enumerate(ch_names):
        found += _instants(shown.pops[0, k], 0, _POP, "pop", name)
        for bad, what in ((shown.noisy, "noisy"), (shown.dead, "dead")):
            found += _spans(whole * bad[0, k] > 0, f"{what} electrode", name)
    return found


def _instants(train, before, duration, description, ch_name=None):
    """Annotate every sample that is not zero."""
    onset = np.flatnonzero(train.numpy()) / SFREQ - before
    return _annotations(onset, np.full(len(onset), duration), description, ch_name)


def _spans(mask, description, ch_name=None):
    """Annotate stretches in which a mask is true."""
    edges = np.diff(mask.numpy().astype(int), prepend=0, append=0)
    start, stop = (np.flatnonzero(edges == step) / SFREQ for step in (1, -1))
    return _annotations(start, stop - start, description, ch_name)


def _annotations(onset, duration, description, ch_name):
    ch_names = [() if ch_name is None else (ch_name,)] * len(onset)
    descriptions = [description] * len(onset)
    return mne.Annotations(onset - _HALO, duration, descriptions, None, ch_names)
