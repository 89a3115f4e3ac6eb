"""Simulated pairs of scalp and intracranial EEG, as MNE objects."""

from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np

from . import __version__
from ._compat import Description, _check_option, _validate_type, set_band, verbose
from ._docs import fill_doc
from .arguments import find_seed
from .contract import BAND, BLOCK, SFREQ
from .head.contacts import contact_positions, make_contacts
from .resampling import Resampler
from .scalp.electrodes import find_electrodes

# Spikes are annotated at their peaks; other events last this long, in seconds.
_BLINK, _SACCADE, _POP = 0.3, 0.1, 0.5
_SIDES = ("left", "right")
# Seconds simulated before and after, for the filters that change the rate.
_HALO = 1


@verbose
@fill_doc
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

    Both come from the prior that the shipped weights were trained on. They have the
    same sources. The true electrodes and contacts are displaced by some millimetres
    from their nominal positions. Every ``random_state`` is another patient.

    Parameters
    ----------
    montage : str | list of str | DigMontage | Info
        The scalp electrodes: the number of electrodes of a standard montage (``'8'``,
        ``'10'``, ``'19'``, ``'21'``, ``'25'``, ``'32'`` or ``'64'``), names of the
        10-05 system, a montage, or the Info of a recording, whose good EEG channels
        are used.
    %(contacts)s
    duration : float
        The duration in seconds. Memory grows in proportion to it: half an hour of the
        default pair needs 2.5 GB.
    sfreq : float
        The sampling rate in hertz, 100 or more. Signals are between 0.5 and 50 Hz.
    scenario : str | None
        ``'rest'``; ``'theta'``, bouts of 3-8 Hz in the medial temporal lobes;
        ``'slowing'``, 1-4 Hz over one temporal lobe; ``'spikes'``, interictal spikes
        of a mesial focus; ``'ictal'``, a seizure of this focus; or ``'uncoupled'``,
        medial temporal lobes that share no activity with the neocortex. ``None`` draws
        one at random, as in training.
    artifacts : bool
        Whether the scalp EEG has artifacts of eyes, muscles, mains, drifts and bad
        electrodes. Sensor noise is always present.
    session : int
        The number of the recording of this patient, from 0 on. Sessions with the same
        ``random_state`` and positions have the same true head, couplings and focus, but
        new signals.
    random_state : int | RandomState | Generator | None
        The seed of everything that is drawn. With ``None`` a new seed is taken and
        logged.
    %(verbose)s

    Returns
    -------
    scalp : Raw
        The scalp EEG in volts, with average reference.
    ieeg : Raw
        One ``'seeg'`` channel for each contact, in volts against infinity.

    See Also
    --------
    make_contacts
    predict_ieeg

    Notes
    -----
    ``info['description']`` says that the signals are simulated, and names the scenario
    and the seed. Annotations mark the events: ``'spike/left/hippocampus'`` at the peak
    of a spike at its focus (the neocortex follows 8 to 39 ms later, or not at all),
    ``'seizure/...'`` from the first to the last cycle, and ``'theta/left'`` for a bout.
    The scalp EEG also has ``'blink'``, ``'saccade'`` and ``'muscle'``, and for single
    channels ``'pop'``, ``'noisy electrode'`` and ``'dead electrode'``.
    :mod:`mne_neuroflow.simulation` has the numbers of the prior and their sources.

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
    """Resample a simulated signal, without its first and last second."""
    resampler = Resampler(info["sfreq"])
    data = resampler.from_model(series[0].double().numpy(), -_HALO * BLOCK, 0, n_times)
    set_band(info, *BAND)
    raw = mne.io.RawArray(data, info, verbose=False)
    return raw.set_montage(montage, verbose=False)


def _check_at_least(name, value, minimum):
    _validate_type(value, "numeric", name)
    if not minimum <= value < np.inf:
        raise ValueError(
            f"Invalid value for the '{name}' parameter. Allowed values are finite and "
            f"at least {minimum}, but got {value}."
        )


def _scalp_info(montage):
    """Return an Info with the requested electrodes."""
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
    """Simulate one patient, as a batch of one."""
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
    """Annotate spikes, seizures and bouts."""
    from .head.geometry import STRUCTURES

    side = _SIDES[int(pairs.focus.side)]
    focus = f"{side}/{STRUCTURES[int(pairs.focus.structure)]}"
    found = _instants(pairs.spikes[0], 0, 0, f"spike/{focus}")
    found += _spans(pairs.seizure[0] > 0, f"seizure/{focus}")
    for name, gate in zip(_SIDES, pairs.theta[0], strict=True):
        found += _spans(gate > 0.5, f"theta/{name}")
    return found


def _annotate_artifacts(pairs, ch_names):
    """Annotate the artifacts of the scalp EEG."""
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
