"""Distance between the strongest virtual contact and a source at a known site.

A source has eight pulses in six seconds, which are added to the scalp EEG of a virtual
patient at rest. From a recorded session, only the topography at the peak is used,
because the stimulation artifact lasts a few milliseconds, far above the band of the
model. In simulation the source is one patch of the template, and true positions of
electrodes differ from the nominal ones by 5 mm (r.m.s. in each direction).

Virtual contacts are on a grid over the whole template brain. The response of a contact
is its regression on the known time course, in each draw separately.
"""

from functools import partial
from typing import NamedTuple

import mne
import numpy as np
import pandas as pd

from .._compat import logger
from ..contract import SFREQ, TRAINED_STRUCTURES
from ..head.geometry import (
    inside_brain,
    load_head,
    nearest_structure,
    project_to_scalp,
)
from ..head.leadfield import contact_lead_field, scalp_lead_field
from ..predict import sample_ieeg
from ..scalp.electrodes import find_electrodes
from ..simulate import simulate_pair
from .baselines import HeadModel
from .inverse import INVERSE_METHODS, SourceImaging
from .pairs import ScalpData
from .point_solvers import INVERT_METHODS, invert_moments, sesame_moments

SECONDS, N_PULSES = 6, 8
# Ratio of the r.m.s. of the topography at a pulse's peak to that of the background.
AMPLITUDE = 3.0
MOVED = 5e-3  # metres of displacement of true electrodes, in each direction
NEAR = 8e-3  # maximum distance in metres of contacts of the grid from a source
SAME_DEPTH = SAME_PLACE = 10e-3
SHARE = 0.9  # share of draws, or of sites, in a region
AROUND = 0.2  # seconds before and after a pulse's peak that are averaged
LOBES = {
    **dict.fromkeys(
        ("hippocampus", "amygdala", "parahippocampal", "temporal-lateral"), "temporal"
    ),
    **{name: name for name in ("frontal", "parietal", "occipital", "insula")},
}
OURS, POTENTIALS = "ours", "the site's own potentials"


class Case(NamedTuple):
    """A source at a known site.

    Attributes
    ----------
    name : str
        Name of the case.
    info : Info
        The electrodes, in template coordinates.
    topography : ndarray, shape (n_electrodes,)
        Volts at a pulse's peak.
    site : ndarray, shape (3,)
        Metres, fsaverage surface RAS.
    patch : int | None
        The active patch of the template, in simulation.
    seed : int
        Seed of the virtual patient with the background, and of the pulses.
    """

    name: str
    info: mne.Info
    topography: np.ndarray
    site: np.ndarray
    patch: int | None = None
    seed: int = 0


class Played(NamedTuple):
    """A recording in which one source has pulses.

    Attributes
    ----------
    raw : Raw
        The scalp EEG.
    course : ndarray, shape (n_times,)
        The source's time course, 1 at a pulse's peak.
    peaks : ndarray, shape (n_pulses,)
        Seconds of the peaks.
    """

    raw: mne.io.BaseRaw
    course: np.ndarray
    peaks: np.ndarray

    def scalp(self):
        """Return average-referenced volts, and positions of the electrodes."""
        picks, electrodes = find_electrodes(self.raw.info)
        data = self.raw.get_data(picks=picks)
        return data - data.mean(axis=0), electrodes

    def average(self):
        """Average the pulses, with the peak in the middle."""
        data, electrodes = self.scalp()
        half = round(AROUND * SFREQ)
        middles = np.rint(self.peaks * SFREQ).astype(int)
        return np.mean([data[:, m - half : m + half + 1] for m in middles], 0), (
            electrodes
        )


def make_grid(spacing):
    """Make a grid of contacts in the grey matter of the template.

    Parameters
    ----------
    spacing : float
        Metres between neighbours.

    Returns
    -------
    grid : ndarray, shape (n_contacts, 3)
        Metres, fsaverage surface RAS.
    """
    head = load_head()
    low, high = head.inner_skull.rr.min(axis=0), head.inner_skull.rr.max(axis=0)
    axes = [
        np.arange(a + spacing / 2, b, spacing) for a, b in zip(low, high, strict=True)
    ]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[inside_brain(head, grid)]
    return grid[nearest_structure(head, grid)[1] < NEAR]


def recorded_case(name, session):
    """Take the topography at the peak of a stimulation artifact.

    Parameters
    ----------
    name : str
        Name of the case.
    session : StimulationSession
        A session of :mod:`mne_neuroflow.datasets.localize_mi`, averaged over pulses.

    Returns
    -------
    case : Case
        The case.
    """
    evoked = session.scalp.copy().pick("eeg", exclude="bads", verbose=False)
    data = evoked.data - evoked.data.mean(axis=0)
    peak = np.argmax(np.sum(data**2, axis=0))
    return Case(name, evoked.info, data[:, peak], session.site)


def simulated_cases(numbers, montage="64", seed=0):
    """Make cases of single patches, with equal numbers from all structures.

    Parameters
    ----------
    numbers : iterable of int
        Numbers of sites. A site does not depend on the other numbers.
    montage : str
        As for :func:`mne_neuroflow.simulate_pair`.
    seed : int
        Seed of sites, electrodes and patients.

    Yields
    ------
    case : Case
        One case.
    """
    head = load_head()
    scalp, _ = simulate_pair(
        contacts="mtl-core",
        montage=montage,
        duration=2,
        scenario="rest",
        random_state=0,
        verbose="error",
    )
    _, electrodes = find_electrodes(scalp.info)
    structures = np.unique(head.patch_structure)
    for k in numbers:
        rng = np.random.default_rng((seed, k))
        ours = np.flatnonzero(head.patch_structure == structures[k % len(structures)])
        patch = rng.choice(ours)
        moved = electrodes + MOVED * rng.standard_normal(electrodes.shape)
        topography = scalp_lead_field(head, moved)[:, patch]
        topography = topography - topography.mean()
        place = head.patch_centres[patch]
        patient = int(rng.integers(2**31))
        yield Case(f"{k}", scalp.info, topography, place, int(patch), patient)


def play(case):
    """Add pulses of a topography to the scalp EEG of a virtual patient at rest.

    Parameters
    ----------
    case : Case
        The source.

    Returns
    -------
    played : Played
        The recording.
    """
    picks, electrodes = find_electrodes(case.info)
    names = [case.info["ch_names"][k] for k in picks]
    montage = mne.channels.make_dig_montage(
        dict(zip(names, electrodes, strict=True)), coord_frame="mni_tal"
    ).add_mni_fiducials(verbose=False)
    raw, _ = simulate_pair(
        contacts="mtl-core",
        montage=montage,
        duration=SECONDS,
        scenario="rest",
        artifacts=False,
        random_state=case.seed,
        verbose="error",
    )
    peaks = pulse_peaks(np.random.default_rng(case.seed))
    course = waves(raw.times, peaks)
    background = np.sqrt(np.mean(raw.get_data() ** 2))
    amplitude = AMPLITUDE * background / np.sqrt(np.mean(case.topography**2))
    data = raw.get_data() + amplitude * np.outer(case.topography, course)
    return Played(mne.io.RawArray(data, raw.info, verbose="error"), course, peaks)


def pulse_peaks(rng):
    """Draw the times of the peaks of pulses.

    Parameters
    ----------
    rng : Generator
        Random numbers.

    Returns
    -------
    peaks : ndarray, shape (n_pulses,)
        Times in seconds.
    """
    step = (SECONDS - 1) / N_PULSES
    return 0.5 + step * (np.arange(N_PULSES) + rng.uniform(0.3, 0.7, N_PULSES))


def waves(times, peaks):
    """Make waves of 8 Hz with a Gaussian envelope of 60 ms.

    Parameters
    ----------
    times : ndarray, shape (n_times,)
        Times in seconds.
    peaks : ndarray, shape (n_pulses,)
        Times of peaks in seconds.

    Returns
    -------
    course : ndarray, shape (n_times,)
        The time course, 1 at a peak.
    """
    away = times[:, np.newaxis] - peaks
    return np.sum(np.exp(-((away / 0.06) ** 2) / 2) * np.cos(16 * np.pi * away), axis=1)


# Methods ------------------------------------------------------------------------------


def methods():
    """Return the methods that draw responses at contacts.

    Returns
    -------
    methods : dict of str -> callable
        Each takes a :class:`Played`, a grid of contacts and a number of draws, and
        returns responses of shape (n_draws, n_contacts). A method without a posterior
        returns one draw.
    """
    own = {OURS: _draw_ours, "unadapted spatial stage": partial(_draw, HeadModel())}
    imaging = {
        name: partial(_draw, SourceImaging(name, snr=3.0)) for name in INVERSE_METHODS
    }
    invert = {name: partial(_invert, name) for name in INVERT_METHODS}
    return {**own, **imaging, "SESAME": _sesame, **invert}


def _draw_ours(played, grid, n_draws):
    draws = sample_ieeg(
        played.raw,
        n_draws,
        contacts=grid,
        random_state=0,
        on_mismatch="ignore",
        verbose="error",
    )
    return responses(draws.values, played.course)


def _draw(method, played, grid, n_draws):
    draws = method.sample(ScalpData(*played.scalp()), grid, n_draws)
    return responses(draws, played.course)


def _invert(method, played, grid, n_draws):
    moments = invert_moments(method, *played.average())
    return np.abs(contact_lead_field(load_head(), grid) @ moments)[np.newaxis]


def _sesame(played, grid, n_draws):
    moments = sesame_moments(*played.average(), n_draws)
    return np.abs(moments @ contact_lead_field(load_head(), grid).T)


def responses(draws, course):
    """Regress draws on the course of the source.

    Parameters
    ----------
    draws : ndarray, shape (n_draws, n_contacts, n_times)
        Volts.
    course : ndarray, shape (n_times,)
        Time course of the source.

    Returns
    -------
    responses : ndarray, shape (n_draws, n_contacts)
        Signed responses in volts.
    """
    course = course - course.mean()
    return draws @ course / (course @ course)


# Evaluation ---------------------------------------------------------------------------


def evaluate(found, grid, case):
    """Compare the strongest contacts with the site.

    Parameters
    ----------
    found : ndarray, shape (n_draws, n_contacts)
        Responses.
    grid : ndarray, shape (n_contacts, 3)
        The contacts.
    case : Case
        The source.

    Returns
    -------
    scores : dict of str -> float
        Scores, with distances in millimetres. The target is the contact that should be
        the strongest: that with the largest potential of the source if the potential is
        known, and otherwise the nearest.
    """
    head = load_head()
    # The response of the mean of draws, as in a map of a single estimate.
    mean, strongest = np.abs(found.mean(axis=0)), np.abs(found).argmax(axis=1)
    away = np.linalg.norm(grid - case.site, axis=1)
    target = own_potentials(grid, case)[0].argmax() if case.patch is not None else None
    target = away.argmin() if target is None else target
    depth = project_to_scalp(head, np.vstack([grid, case.site]))[3]
    structure, _ = nearest_structure(head, np.vstack([grid, case.site]))
    lobe = np.array([LOBES.get(name, "none") for name in structure])
    region, is_posterior = smallest_region(strongest, SHARE), len(found) > 1
    return {
        "structure": structure[-1],
        "error": 1e3 * away[mean.argmax()],
        "best": 1e3 * away.min(),
        "rank": 1 + int(np.sum(mean > mean[target])),
        "error of draws": 1e3 * away[strongest].mean(),
        "side": np.mean(np.sign(grid[strongest, 0]) == np.sign(case.site[0])),
        "depth": np.mean(np.abs(depth[strongest] - depth[-1]) < SAME_DEPTH),
        "lobe": np.mean(lobe[strongest] == lobe[-1]),
        "region holds": float(target in region) if is_posterior else np.nan,
        "region of draws holds": _left_out(strongest) if is_posterior else np.nan,
        "region size": len(region) if is_posterior else np.nan,
    }


def own_potentials(grid, case):
    """Compute the potentials of the source at contacts, an upper bound for methods.

    Parameters
    ----------
    grid : ndarray, shape (n_contacts, 3)
        The contacts.
    case : Case
        A simulated source.

    Returns
    -------
    responses : ndarray, shape (1, n_contacts)
        Potentials of a unit moment, in volts.
    """
    return np.abs(contact_lead_field(load_head(), grid)[:, [case.patch]].T)


def single_patches(case):
    """Compute how well single patches of the template explain a topography.

    Parameters
    ----------
    case : Case
        The source.

    Returns
    -------
    explained : dict of str -> float
        ``one patch explains``, the share of the topography's power that the best patch
        explains; ``its distance`` from the site in millimetres; ``within 10 mm``, the
        share of the best patch there. If both shares are similar, scalp EEG does not
        distinguish these positions.
    """
    head = load_head()
    _, electrodes = find_electrodes(case.info)
    field = scalp_lead_field(head, electrodes)
    field = field - field.mean(axis=0)
    topography = case.topography - case.topography.mean()
    share = (topography @ field) ** 2
    share /= np.sum(field**2, axis=0) * np.sum(topography**2)
    away = np.linalg.norm(head.patch_centres - case.site, axis=1)
    return {
        "one patch explains": share.max(),
        "its distance": 1e3 * away[share.argmax()],
        "within 10 mm": share[away < SAME_PLACE].max(initial=0.0),
    }


def smallest_region(strongest, share):
    """Find the smallest set with the strongest contacts of this share of draws.

    Parameters
    ----------
    strongest : ndarray of int, shape (n_draws,)
        The contact with the largest response in each draw.
    share : float
        Share of draws.

    Returns
    -------
    region : set of int
        Indices of contacts.
    """
    contacts, counts = np.unique(strongest, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    enough = np.searchsorted(np.cumsum(counts[order]), share * len(strongest)) + 1
    return set(contacts[order[:enough]].tolist())


def _left_out(strongest):
    """Return how often the region of the other draws has a draw's strongest contact.

    If draws are calibrated, the strongest contact of the truth is in the region equally
    often.
    """
    return np.mean(
        [
            strongest[k] in smallest_region(np.delete(strongest, k), SHARE)
            for k in range(len(strongest))
        ]
    )


def calibrated_region(table):
    """Compute regions with the target in nine of ten sites, calibrated on other sites.

    The method is split conformal prediction (Vovk, Gammerman & Shafer 2005). The region
    consists of the k contacts with the largest mean response, where k comes from every
    other site. The remaining sites are evaluated. Then the two halves are exchanged.

    Parameters
    ----------
    table : DataFrame
        One row per site and method, from :func:`evaluate`.

    Returns
    -------
    regions : DataFrame
        For each method, ``contacts``: k, the mean of both halves, infinite if half of
        the sites are too few for nine in ten; and ``holds``: the share of sites whose
        target is in the region.
    """
    found = {}
    for method, group in table.groupby("method", sort=False):
        ranks = group["rank"].to_numpy()
        sizes, held = [], []
        for half in (0, 1):
            known, others = np.sort(ranks[half::2]), ranks[1 - half :: 2]
            index = int(np.ceil(SHARE * (len(known) + 1))) - 1
            sizes.append(known[index] if index < len(known) else np.inf)
            held += (others <= sizes[-1]).tolist()
        found[method] = {"contacts": np.mean(sizes), "holds": np.mean(held)}
    return pd.DataFrame(found).T


def parts(table):
    """Split cases by whether the site is in the region of the training.

    Parameters
    ----------
    table : DataFrame
        One row per site and method.

    Returns
    -------
    parts : dict of str -> DataFrame
        Tables by title.
    """
    inside = table["structure"].isin(TRAINED_STRUCTURES)
    named = {"All sites": table}
    if inside.any() and not inside.all():
        named["Around the temporal lobes, where the model was trained"] = table[inside]
        named["Elsewhere"] = table[~inside]
    return named


def summarize(table):
    """Average over cases, with standard errors of the distance.

    Parameters
    ----------
    table : DataFrame
        One row per site and method.

    Returns
    -------
    summary : DataFrame
        One row per method, sorted by median error. The standard error of the median is
        from 1000 bootstrap samples of cases.
    """
    groups = table.groupby("method", sort=False)
    columns = [
        *("side", "depth", "lobe"),
        *("region holds", "region of draws holds", "region size"),
    ]
    return pd.DataFrame(
        {
            "n": groups.size(),
            "median error": groups["error"].median().round(1),
            "s.e. of the median": groups["error"].apply(_median_error).round(1),
            "mean error": groups["error"].mean().round(1),
            "standard error": groups["error"].sem().round(1),
            "error of draws": groups["error of draws"].mean().round(1),
            "median rank": groups["rank"].median(),
            **{name: groups[name].mean().round(2) for name in columns},
        }
    ).sort_values("median error")


def _median_error(errors):
    """Bootstrap the standard error of the median; NaN for a single case."""
    if len(errors) < 2:
        return np.nan
    rng = np.random.default_rng(0)
    resampled = rng.choice(errors.to_numpy(), (1000, len(errors)))
    return np.median(resampled, axis=1).std()


def run_cases(cases, chosen, grid, n_draws):
    """Evaluate methods on cases.

    Parameters
    ----------
    cases : iterable of Case
        The sources.
    chosen : dict of str -> callable
        Methods from :func:`methods`.
    grid : ndarray, shape (n_contacts, 3)
        The contacts.
    n_draws : int
        Number of draws of each method with a posterior.

    Yields
    ------
    rows : DataFrame
        One row per method, for one case after the other.
    """
    for case in cases:
        logger.info("Site %s: %s.", case.name, ", ".join(chosen))
        # Each method would tell again where the electrodes are.
        with mne.use_log_level("error"):
            rows = _evaluate_all(case, chosen, grid, n_draws)
        yield pd.DataFrame(rows)


def _evaluate_all(case, chosen, grid, n_draws):
    played = play(case)
    found = {name: draw(played, grid, n_draws) for name, draw in chosen.items()}
    if case.patch is not None:
        found[POTENTIALS] = own_potentials(grid, case)
    about = single_patches(case)
    return [
        dict(case=case.name, method=name, **evaluate(each, grid, case), **about)
        for name, each in found.items()
    ]
