"""Sides and discharges in words, with *not clear* where draws do not agree."""

from html import escape

import numpy as np
import pandas as pd

from ..scores.signals import seizure_score
from ._style import sampling_rate, with_epochs
from .lateralization import left_minus_right, sides_of

AGREED = 0.9  # share of draws from which on they agree
FEWEST = 20  # draws, below which nothing is clear
_SHOWN = 10  # contacts in the list
_SECONDS = 5  # fewest, of which the median second is an ordinary one


def lateralization_table(draws, contacts="mtl"):
    """Find the side with more power in each structure and band, if draws agree.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts, with at least 2 draws
        and 1 s.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts that were predicted.

    Returns
    -------
    table : DataFrame
        One row per structure and band. ``left`` is the share of draws in which the left
        side has more power. ``difference``, ``low`` and ``high`` are left minus right
        in decibels: the median and the central 90 % of draws. ``side`` is ``'left'`` or
        ``'right'`` if at least 90 % of 20 or more draws agree, otherwise
        ``'not clear'``.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz.sides import lateralization_table
    >>> raw = load_demo(verbose=False).crop(0, 2)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 4, contacts="mtl-core", random_state=0)
    >>> table = lateralization_table(draws, "mtl-core")
    >>> set(table["side"])  # four draws cannot agree
    {'not clear'}
    """
    difference = left_minus_right(draws, contacts)
    low, middle, high = np.quantile(difference, [0.05, 0.5, 0.95], axis=0)
    left = (difference.values > 0).mean(axis=0)
    index = pd.MultiIndex.from_product(
        [difference["structure"].values, difference["band"].values],
        names=["structure", "band"],
    )
    table = pd.DataFrame(
        dict(
            left=left.ravel(),
            difference=middle.ravel(),
            low=low.ravel(),
            high=high.ravel(),
        ),
        index=index,
    )
    return table.assign(
        side=[verdict(share, len(difference)) for share in left.ravel()]
    )


def verdict(left, n_draws):
    """Name the side that a share of draws indicates.

    Parameters
    ----------
    left : float
        The share of draws with more power on the left side, 0 to 1.
    n_draws : int
        The number of draws.

    Returns
    -------
    side : str
        ``'left'``, ``'right'`` or ``'not clear'``.

    Examples
    --------
    >>> from mne_neuroflow.viz.sides import verdict
    >>> verdict(0.95, 40), verdict(0.1, 40), verdict(0.85, 40), verdict(1.0, 4)
    ('left', 'right', 'not clear', 'not clear')
    """
    if n_draws < FEWEST or max(left, 1 - left) < AGREED - 1e-9:
        return "not clear"
    return "left" if left > 0.5 else "right"


def clear_by_chance(n_draws):
    """Compute how often a side is named although both are equal.

    Parameters
    ----------
    n_draws : int
        The number of draws. They are assumed to be calibrated, so that all numbers of
        draws that indicate left, from none to all, have the same probability.

    Returns
    -------
    share : float
        The share of such comparisons, 0 to 1.

    Examples
    --------
    >>> from mne_neuroflow.viz.sides import clear_by_chance
    >>> round(clear_by_chance(40), 3)  # at most 4 or at least 36 of 40: 10 out of 41
    0.244
    """
    counts = np.arange(n_draws + 1)
    clear = [verdict(count / n_draws, n_draws) != "not clear" for count in counts]
    return float(np.mean(clear))


def discharge_table(draws):
    """Rank contacts by their strongest second, in each draw.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        The result of :func:`mne_neuroflow.sample_ieeg` in volts, with at least 5 s.

    Returns
    -------
    table : DataFrame
        One row per contact, sorted by rank. ``score`` is the ratio of the line length
        of its strongest second to that of its median second
        (:func:`mne_neuroflow.scores.signals.seizure_score`); ``low`` and ``high`` are
        its central 90 % of draws. ``rank`` is the median over draws, with ``rank_low``
        and ``rank_high``. ``strongest`` is the share of draws in which the contact is
        the first.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz.sides import discharge_table
    >>> raw = load_demo(verbose=False).crop(0, 6)
    >>> draws = mne_neuroflow.sample_ieeg(raw, 4, contacts="mtl-core", random_state=0)
    >>> bool(discharge_table(draws)["rank"].is_monotonic_increasing)
    True
    """
    draws = with_epochs(draws, n_min=2, seconds=float(_SECONDS))
    score = seizure_score(draws.values, sampling_rate(draws)).max(axis=(1, -1))
    ranks = 1 + np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1)
    low, middle, high = np.quantile(score, [0.05, 0.5, 0.95], axis=0)
    first, rank, last = np.quantile(ranks, [0.05, 0.5, 0.95], axis=0)
    table = pd.DataFrame(
        dict(
            score=middle,
            low=low,
            high=high,
            rank=rank,
            rank_low=first,
            rank_high=last,
            strongest=(ranks == 1).mean(axis=0),
        ),
        index=pd.Index(draws["channel"].values, name="channel"),
    )
    return table.sort_values(["rank", "score"], ascending=[True, False], kind="stable")


def sides_in_words(table, n_draws):
    """Summarize the clear results of a table of sides in a sentence.

    Parameters
    ----------
    table : DataFrame
        From :func:`lateralization_table`.
    n_draws : int
        The number of draws behind the table.

    Returns
    -------
    text : str
        One or more sentences.
    """
    clear = table[table["side"] != "not clear"]
    parts = [
        f"{structure}, {band}: {row['side']} "
        f"({max(row['left'], 1 - row['left']):.0%} of draws)"
        for (structure, band), row in clear.iterrows()
    ]
    said = "; ".join(parts) if parts else "Not clear in any structure and band"
    return (
        f"{said}. {len(clear)} of {len(table)} comparisons are clear; if both sides "
        f"were equal, about {len(table) * clear_by_chance(n_draws):.0f} would seem so "
        "by chance."
    )


def discharge_in_words(table, draws, contacts="mtl"):
    """Name the side of the strongest rhythmic discharge, if draws agree.

    Parameters
    ----------
    table : DataFrame
        From :func:`discharge_table`.
    draws : xarray.DataArray
        The same draws.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts that were predicted.

    Returns
    -------
    text : str
        One or more sentences.
    """
    side = pd.Series(sides_of(draws, contacts), draws["channel"].values)
    structure = pd.Series(draws["structure"].values, draws["channel"].values)
    strongest, n_draws = table["strongest"], draws.sizes["draw"]
    return (
        f"{_side_of_strongest(strongest, side[table.index], n_draws)} "
        f"{_structure_of_strongest(strongest, structure[table.index], n_draws)}"
    )


def _side_of_strongest(strongest, side, n_draws):
    present = set(side) - {0.0}
    if len(present) < 2:
        return "Side of the strongest second: unknown, as no contacts are opposite."
    left, right = (strongest[side == sign].sum() for sign in (-1, 1))
    # Contacts in the midline are on neither side.
    found = verdict(left, n_draws) if max(left, right) >= AGREED - 1e-9 else "not clear"
    return f"Side of the strongest second: {found} (left in {left:.0%} of draws)."


def _structure_of_strongest(strongest, structure, n_draws):
    shares = strongest.groupby(structure).sum().sort_values()
    most, share = shares.index[-1], shares.iloc[-1]
    if len(shares) < 2:
        return f"Structure: unknown, as all contacts are in one ({most})."
    agreed = n_draws >= FEWEST and share >= AGREED - 1e-9
    found = most if agreed else "not clear"
    return f"Structure: {found} (most often {most}, in {share:.0%})."


def sides_html(table):
    """Format a table of sides as HTML.

    Parameters
    ----------
    table : DataFrame
        From :func:`lateralization_table`.

    Returns
    -------
    html : str
        A table with a row per structure and a column per band.
    """
    cells = [
        f"{row['side']}<br><small>left in {row['left']:.0%}, "
        f"{row['difference']:+.1f} dB [{row['low']:+.1f}, {row['high']:+.1f}]</small>"
        for _, row in table.iterrows()
    ]
    shown = pd.Series(cells, table.index).unstack("band", sort=False)
    return _html(shown.rename_axis(index=None, columns=None))


def discharge_html(table, structures):
    """Format the first contacts of a table of discharges as HTML.

    Parameters
    ----------
    table : DataFrame
        From :func:`discharge_table`.
    structures : Series
        The structure of each contact.

    Returns
    -------
    html : str
        A table with a row per contact.
    """
    first = table.head(_SHOWN)
    shown = pd.DataFrame(
        {
            "Structure": structures[first.index].to_numpy(),
            "Rank [90 % of draws]": [
                f"{r.rank:.0f} [{r.rank_low:.0f}, {r.rank_high:.0f}]"
                for r in first.itertuples()
            ],
            "Strongest over median second [90 % of draws]": [
                f"{r.score:.1f} [{r.low:.1f}, {r.high:.1f}]" for r in first.itertuples()
            ],
            "First in": [f"{share:.0%} of draws" for share in first["strongest"]],
        },
        index=first.index.map(escape),
    )
    return _html(shown.rename_axis(index=None))


def _html(table):
    return table.to_html(
        classes="table table-sm", border=0, justify="left", escape=False
    )
