"""All scores of one method on one patient, as rows of a table."""

import numpy as np
import pandas as pd

from ..contract import SFREQ
from ..scores import ensemble, signals
from ..scores.tensors import LEVELS

# Draws of which spectra, connectivity and lateralization are taken.
_N_SINGLE = 4
# Intervals are looked at in every fourth sample, which are alike anyway; the joint
# scores, which take more time, at so many moments.
_EVERY, _N_MOMENTS = 4, 200
_CONNECTIVITY_BANDS = ("theta", "alpha", "beta")
# Events can be asked for where a detector finds them in the recorded iEEG itself.
_VISIBLE = 0.8
_SIDES = (-1, 1)
_MICROVOLTS = 1e6  # in a volt


def score(draws, recordings, log_densities=None):
    """Compare draws with recorded signals.

    Parameters
    ----------
    draws : list of array, shape (n_draws, n_contacts, n_times)
        The draws in volts, one array for each recording.
    recordings : list of PairedRecording
        The truth: recordings of one patient with the same contacts.
    log_densities : list of float | None
        The log-density of each recording, see :mod:`~mne_neuroflow.evaluation.pairs`.
        NaN or None if the method has none.

    Returns
    -------
    rows : pandas.DataFrame
        One row for each contact and band, and one for each band over all contacts
        (``contact`` is ``'all'``), or over those of a structure whose sides are
        compared.

        Scores that are relative to a truth without signal are NaN.

        Columns of a contact in a band: ``r``, ``nrmse`` and ``cosine`` of the mean
        over draws, ``mae`` (volts) of their median; ``std`` of the truth (volts);
        ``crps`` (volts) and ``crps_relative`` (in standard deviations of the truth);
        ``coverage_50``, ``width_50`` (volts), ``interval_50`` (the score, volts) and
        so on at 50, 80, 90 and 95 %; ``pit_distance``; ``spread`` over the error of
        the mean (1 is calibrated, 0 is collapsed); ``log_power_r``, the correlation
        of log power in windows of two seconds with its mean over draws;
        ``band_power_error`` (decibels, of single draws); in the broad band also
        ``lsd``, ``lsd_shape`` (decibels) and ``exponent_error`` of single draws;
        ``spike_auc``, ``spike_sensitivity`` and ``spike_false_alarms`` (per minute)
        where spikes are known and show in the truth, and the same of seizures.

        Columns of differences of near contacts (see
        :func:`~mne_neuroflow.scores.signals.near_contacts`), in rows of their own:
        ``bipolar_r``, ``bipolar_crps_relative``, ``bipolar_coverage_90`` and
        ``bipolar_log_power_r``.

        Columns over all contacts: ``nll``, the negative log-density of the recorded
        potentials in microvolts, all contacts and samples between 0.5 and 50 Hz at
        128 Hz together, in nats per sample and contact (broad band only; only
        differences between methods mean something, lower is better; Gaussian methods
        allow for 1 µV of white noise, see
        :meth:`~mne_neuroflow.evaluation.baselines.ResidualNoise.log_density`);
        ``energy`` and ``variogram`` in standard deviations of the truth; for
        correlation,
        coherence, imaginary coherence and phase-locking of single draws
        ``correlation_error`` (relative Frobenius) and ``correlation_similarity``, and
        so on. Over the sides of a structure: ``lateralization_error``.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import PairedRecording, ScalpData
    >>> rng = np.random.default_rng(0)
    >>> draws = 5e-5 * rng.standard_normal((20, 2, 1280))
    >>> scalp = ScalpData(np.zeros((8, 1280)), np.zeros((8, 3)))
    >>> names, structures = ("HL1", "HR1"), ("hippocampus", "hippocampus")
    >>> contacts = np.array([[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]])
    >>> truth = PairedRecording("1", "2", scalp, contacts, names, structures, draws[0])
    >>> rows = score([draws[1:]], [truth])
    >>> broad = rows[(rows["band"] == "broad") & (rows["contact"] == "HL1")]
    >>> bool(broad["coverage_90"].iloc[0] > 0.8)
    True
    """
    first = recordings[0]
    if any(recording.ch_names != first.ch_names for recording in recordings):
        raise ValueError(
            f"The tested recordings of patient {first.patient} have different "
            "contacts. Keep those that all of its sessions have."
        )
    labels = {"contact": first.ch_names, "structure": first.structures}
    rows = []
    for band in signals.BANDS:
        true = [signals.in_band(r.ieeg, SFREQ, band) for r in recordings]
        drawn = [signals.in_band(d, SFREQ, band) for d in draws]
        columns = _contact_scores(drawn, true)
        if band == "broad":
            columns |= _spectral_scores(draws, recordings)
            columns |= _spike_scores(draws, recordings)
            columns |= _seizure_scores(draws, recordings)
        rows.append(pd.DataFrame({**labels, "band": band, **columns}))
        rows.append(_bipolar_rows(drawn, true, first, band))
        rows.append(_joint_rows(drawn, true, band))
        rows.append(_lateralization_rows(drawn, true, first, band))
    if log_densities is not None:
        rows.append(_density_row(log_densities, recordings))
    if len(first.contacts) > 1:
        rows.append(_connectivity_rows(draws, recordings))
    return pd.concat(rows, ignore_index=True)


def _joined(parts):
    return np.concatenate(parts, axis=-1)


def _contact_scores(drawn, true):
    draws, truth = _joined(drawn), _joined(true)
    mean = draws.mean(0)
    columns = {
        "r": signals.pearson_r(mean, truth),
        "nrmse": signals.nrmse(mean, truth),
        "cosine": signals.cosine_similarity(mean, truth),
        "std": truth.std(1),
        "spread": _spread(draws, truth),
        **_interval_scores(draws[..., ::_EVERY], truth[:, ::_EVERY]),
    }
    columns["crps_relative"] = signals.relative(columns["crps"], columns["std"])
    columns["log_power_r"] = _log_power_r(drawn, true)
    level = signals.decibels(np.square(draws).mean(-1))
    level = level - signals.decibels(np.square(truth).mean(-1))
    columns["band_power_error"] = np.abs(level).mean(0)
    return columns


def _bipolar_rows(drawn, true, recording, band):
    """Score differences of near contacts, which show local signals."""
    couples = signals.near_contacts(recording.contacts)
    one, other = couples.T
    names = [f"{recording.ch_names[a]}-{recording.ch_names[b]}" for a, b in couples]
    structures = [recording.structures[a] for a in one]
    columns = {"contact": names, "structure": structures, "band": band}
    if names:
        drawn, true = (
            [x[..., one, :] - x[..., other, :] for x in parts]
            for parts in (drawn, true)
        )
        draws, truth = _joined(drawn), _joined(true)
        thin = draws[..., ::_EVERY], truth[:, ::_EVERY]
        crps = ensemble.crps(*thin).mean(1)
        columns |= {
            "bipolar_r": signals.pearson_r(draws.mean(0), truth),
            "bipolar_crps_relative": signals.relative(crps, truth.std(1)),
            "bipolar_coverage_90": ensemble.coverage(*thin, 0.9).mean(1),
            "bipolar_log_power_r": _log_power_r(drawn, true),
        }
    return pd.DataFrame(columns)


def _interval_scores(draws, truth):
    columns = {
        "mae": np.abs(np.median(draws, axis=0) - truth).mean(1),
        "crps": ensemble.crps(draws, truth).mean(1),
    }
    for level in LEVELS:
        name = f"{100 * level:.0f}"
        covered = ensemble.coverage(draws, truth, level)
        width = ensemble.interval_width(draws, level)
        interval = ensemble.interval_score(draws, truth, level)
        columns[f"coverage_{name}"] = covered.mean(1)
        columns[f"width_{name}"] = width.mean(1)
        columns[f"interval_{name}"] = interval.mean(1)
    columns["pit_distance"] = [
        ensemble.pit_distance(draws[:, k], truth[k]) for k in range(len(truth))
    ]
    return columns


def _spread(draws, truth):
    """Compute the ratio of root-mean-square spread to the error of the mean.

    It is one for draws that are exchangeable with the truth, for any number of draws
    (Fortin et al. 2014, J. Hydrometeorol. 15:1708, eq. 15).
    """
    n_draws = len(draws)
    if n_draws == 1:
        return np.zeros(len(truth))
    error = np.square(draws.mean(0) - truth).mean(1)
    spread = draws.var(0, ddof=1).mean(1) * (n_draws + 1) / n_draws
    return signals.relative(np.sqrt(spread), np.sqrt(error))


def _log_power_r(drawn, true):
    """Correlate log power in windows of two seconds with its mean over draws."""
    power, truth = (
        _joined([signals.log_band_power(p, SFREQ) for p in x]) for x in (drawn, true)
    )
    if truth.shape[-1] < 3:
        return np.full(len(truth), np.nan)
    return signals.pearson_r(power.mean(0), truth)


def _spectral_scores(draws, recordings):
    """Score the spectra of single draws."""
    freqs, true = _mean_spectrum([recording.ieeg for recording in recordings])
    _, drawn = _mean_spectrum([d[:_N_SINGLE] for d in draws])
    exponents = [signals.aperiodic_exponent(freqs, x) for x in (drawn, true)]
    return {
        "lsd": signals.log_spectral_distance(drawn, true).mean(0),
        "lsd_shape": signals.log_spectral_distance(drawn, true, level=False).mean(0),
        "exponent_error": np.abs(exponents[0] - exponents[1]).mean(0),
    }


def _mean_spectrum(parts):
    spectra = [signals.power_spectrum(part, SFREQ) for part in parts]
    weights = [part.shape[-1] for part in parts]
    return spectra[0][0], np.average([s for _, s in spectra], axis=0, weights=weights)


def _spike_scores(draws, recordings):
    def detect(score, recording):
        return signals.spike_detection(score, recording.spikes, SFREQ)

    known = [r.spikes is not None and len(r.spikes) > 0 for r in recordings]
    return _event_scores("spike", signals.spike_score, detect, known, draws, recordings)


def _seizure_scores(draws, recordings):
    def detect(score, recording):
        return signals.seizure_detection(score, recording.seizures)

    known = [r.seizures is not None and len(r.seizures) > 0 for r in recordings]
    sharp = signals.seizure_score
    return _event_scores("seizure", sharp, detect, known, draws, recordings)


def _event_scores(name, sharpness, detect, known, draws, recordings):
    """Score the detection of known events in the mean score over draws."""
    if not any(known):
        return {}
    found = []
    for contact in range(len(recordings[0].contacts)):
        values = []
        for drawn, recording, yes in zip(draws, recordings, known, strict=True):
            if not yes:
                continue
            seen = detect(sharpness(recording.ieeg[contact], SFREQ), recording)
            if seen[2] > _VISIBLE:
                score = sharpness(drawn[:, contact], SFREQ).mean(0)
                values.append(detect(score, recording))
        found.append(np.nanmean(values, axis=0) if values else [np.nan] * 3)
    names = [f"{name}_{what}" for what in ("sensitivity", "false_alarms", "auc")]
    return dict(zip(names, np.transpose(found), strict=True))


def _joint_rows(drawn, true, band):
    draws, truth = _joined(drawn), _joined(true)
    std = truth.std(1)[:, None]
    step = max(1, truth.shape[1] // _N_MOMENTS)
    draws, truth = (signals.relative(x[..., ::step], std) for x in (draws, truth))
    picks = np.isfinite(truth).all(1)  # a contact without signal has no scale
    draws, truth = draws[:, picks], truth[picks]
    row = {"contact": "all", "structure": "all", "band": band}
    if len(truth) > 1 and len(draws) > 1:
        row["energy"] = ensemble.energy_score(draws, truth).mean()
        row["variogram"] = ensemble.variogram_score(draws, truth).mean()
    return pd.DataFrame([row])


def _density_row(log_densities, recordings):
    seconds = [recording.seconds for recording in recordings]
    per_volt = np.average(log_densities, weights=seconds)
    row = {"contact": "all", "structure": "all", "band": "broad"}
    return pd.DataFrame([row | {"nll": np.log(_MICROVOLTS) - per_volt}])


def _lateralization_rows(drawn, true, recording, band):
    """Score the lateralization of structures with contacts on both sides."""
    power = [np.mean([np.square(p).mean(-1) for p in x], axis=0) for x in (drawn, true)]
    structures = np.array(recording.structures)
    side = np.sign(recording.contacts[:, 0])
    rows = []
    for structure in dict.fromkeys(recording.structures):
        picks = [(structures == structure) & (side == one) for one in _SIDES]
        if not all(pick.any() for pick in picks):
            continue
        index = [
            signals.lateralization(*(p[..., pick].mean(-1) for pick in picks))
            for p in power
        ]
        error = abs(np.median(index[0]) - index[1])
        row = {"contact": "sides", "structure": structure, "band": band}
        rows.append(row | {"lateralization_error": error})
    return pd.DataFrame(rows)


def _connectivity_rows(draws, recordings):
    true = _connectivity([recording.ieeg for recording in recordings])
    found = [
        _connectivity([drawn[k] for drawn in draws])
        for k in range(min(_N_SINGLE, len(draws[0])))
    ]
    rows = []
    for number, band in enumerate(_CONNECTIVITY_BANDS):
        row = {"contact": "all", "structure": "all", "band": band}
        for name, matrices in true.items():
            single = np.array([one[name][number] for one in found])
            error = signals.relative_frobenius(single, matrices[number])
            alike = signals.matrix_similarity(single, matrices[number])
            row[f"{name}_error"] = error.mean()
            row[f"{name}_similarity"] = alike.mean()
        rows.append(row)
    return pd.DataFrame(rows)


def _connectivity(parts):
    series = _joined(parts)
    bands = list(_CONNECTIVITY_BANDS)
    found = signals.spectral_connectivity(series, SFREQ, bands)
    filtered = [_joined([signals.in_band(p, SFREQ, b) for p in parts]) for b in bands]
    correlation = np.array([signals.correlation_matrix(f) for f in filtered])
    return {
        "correlation": correlation,
        "coherence": found["coh"],
        "imaginary_coherence": found["imcoh"],
        "phase_locking": found["plv"],
    }
