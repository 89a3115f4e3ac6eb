"""Sides and discharges in words: what draws agree on, and *not clear* for the rest."""

from html import escape

import numpy as np
import pandas as pd

from ..scores.signals import seizure_score
from ._style import sampling_rate, with_epochs
from .lateralization import left_minus_right, sides_of

AGREED = 0.9  # share of draws from which on they agree
_FEWEST = 20  # draws, below which nothing is clear
_SHOWN = 10  # contacts in the list
_SECONDS = 5  # fewest, of which the median second is an ordinary one


def lateralization_table(draws, contacts="mtl"):
    """Tell for each structure and band which side is stronger, if draws agree.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        What :func:`mne_neuroflow.sample_ieeg` returns, in volts: 2 draws of 1 s or
        more.
    contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
        The contacts that were predicted.

    Returns
    -------
    table : DataFrame
        One row a structure and band: ``left``, the share of draws in which the left
        side has more power; ``difference``, ``low`` and ``high``, left minus right in
        decibels, median and central 90 % of draws; ``side``, ``'left'`` or ``'right'``
        where at least 90 % of 20 or more draws agree, otherwise ``'not clear'``.

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
    """Turn the share of draws that say left into a word.

    Parameters
    ----------
    left : float
        The share, 0 to 1.
    n_draws : int
        How many there are.

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
    if n_draws < _FEWEST or max(left, 1 - left) < AGREED - 1e-9:
        return "not clear"
    return "left" if left > 0.5 else "right"


def clear_by_chance(n_draws):
    """Compute how often a side seems clear where both are equal.

    Parameters
    ----------
    n_draws : int
        How many draws there are, all calibrated, so that any number of them, from none
        to all, says left with the same probability.

    Returns
    -------
    share : float
        Of comparisons.

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
    """Rank contacts by their strongest second, draw by draw.

    Parameters
    ----------
    draws : xarray.DataArray, shape (n_draws[, n_epochs], n_channels, n_times)
        What :func:`mne_neuroflow.sample_ieeg` returns, in volts: 5 s or more.

    Returns
    -------
    table : DataFrame
        One row a contact, the first in rank first: ``score``, the line length of its
        strongest second against that of its median second
        (:func:`mne_neuroflow.scores.signals.seizure_score`), ``low`` and ``high`` its
        central 90 % of draws; ``rank``, the median over draws, ``rank_low`` and
        ``rank_high``; ``strongest``, the share of draws in which it is the first.

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
    draws = with_epochs(draws, least=2, seconds=float(_SECONDS))
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
    """Say in one sentence what a table of sides has that is clear.

    Parameters
    ----------
    table : DataFrame
        From :func:`lateralization_table`.
    n_draws : int
        Of how many draws it was made.

    Returns
    -------
    text : str
        Plain words.
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
    """Say on which side the strongest rhythmic discharge is, if draws agree.

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
        Plain words.
    """
    side = pd.Series(sides_of(draws, contacts), draws["channel"].values)
    strongest = table["strongest"]
    left = strongest[side[table.index].to_numpy() < 0].sum()
    structure = pd.Series(draws["structure"].values, draws["channel"].values)
    shares = strongest.groupby(structure[table.index].to_numpy()).sum().sort_values()
    n_draws = draws.sizes["draw"]
    found = verdict(left, n_draws)
    agreed = n_draws >= _FEWEST and shares.iloc[-1] >= AGREED - 1e-9
    where = shares.index[-1] if agreed else "not clear"
    return (
        f"Side of the strongest second: {found} (left in {left:.0%} of draws). "
        f"Structure: {where} (most often {shares.index[-1]}, in {shares.iloc[-1]:.0%})."
    )


def sides_html(table):
    """Write a table of sides.

    Parameters
    ----------
    table : DataFrame
        From :func:`lateralization_table`.

    Returns
    -------
    html : str
        One row a structure, one column a band.
    """
    cells = [
        f"{row['side']}<br><small>left in {row['left']:.0%}, "
        f"{row['difference']:+.1f} dB [{row['low']:+.1f}, {row['high']:+.1f}]</small>"
        for _, row in table.iterrows()
    ]
    shown = pd.Series(cells, table.index).unstack("band", sort=False)
    return _html(shown.rename_axis(index=None, columns=None))


def discharge_html(table, structures):
    """Write the first contacts of a table of discharges.

    Parameters
    ----------
    table : DataFrame
        From :func:`discharge_table`.
    structures : Series
        Structure by contact.

    Returns
    -------
    html : str
        One row a contact.
    """
    first = table.head(_SHOWN)
    shown = pd.DataFrame(
        {
            "Structure": structures[first.index].to_numpy(),
            "Rank [90 % of draws]": [
                f"{r.rank:.0f} [{r.rank_low:.0f}, {r.rank_high:.0f}]"
                for r in first.itertuples()
            ],
            "Strongest second [90 % of draws]": [
                f"{r.score:.1f} [{r.low:.1f}, {r.high:.1f}] times the median second"
                for r in first.itertuples()
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
