"""One page about a benchmark's run: it opens offline and says what it cannot prove."""

import base64
import html
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..scores.ensemble import risk_coverage
from ..scores.tables import summarize
from ..scores.tensors import LEVELS
from .benchmark import LEADERBOARD, leaderboard, read_rows
from .protocols import PROTOCOLS

# Okabe & Ito's colours, told apart by the colour-blind, and marks for each group.
_COLOURS = {
    "ours": "#d55e00",
    "physics": "#0072b2",
    "regression": "#009e73",
    "generative": "#cc79a7",
    "control": "#666666",
    "other": "#e69f00",
}
_DASHES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 3)))
_STRATA = (
    ("structure", "broad", "crps_relative", "CRPS by structure (lower is better)"),
    ("structure", "broad", "coverage_90", "Coverage of 90 % intervals by structure"),
    ("band", None, "crps_relative", "CRPS by band (lower is better)"),
    ("band", None, "coverage_90", "Coverage of 90 % intervals by band"),
    (
        "band",
        None,
        "log_power_r",
        "Correlation of log power by band (higher is better)",
    ),
    ("patient", "broad", "crps_relative", "CRPS by patient (lower is better)"),
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em;
  padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-size: 13px; margin: 0.5em 0 1.5em; }
th, td { padding: 3px 9px; text-align: right; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; white-space: nowrap; }
td small { color: #666; white-space: nowrap; }
td.best { font-weight: bold; }
p.note { background: #fff4e0; padding: 0.7em 1em; }
figure { margin: 1em 0; } img { max-width: 100%; }
div.wide { overflow-x: auto; }
"""


def write_report(out):
    """Write a run's page.

    Parameters
    ----------
    out : path-like
        Folder of the run, see :mod:`~mne_neuroflow.evaluation.benchmark`.

    Returns
    -------
    fname : Path
        ``report.html`` in the folder.

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.evaluation.benchmark import Settings, run_benchmark
    >>> from mne_neuroflow.evaluation.protocols import Dataset
    >>> def load(patient, session):
    ...     contacts = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]  # metres
    ...     return mne_neuroflow.simulate_pair(
    ...         "10", contacts, duration=10, session=int(session), random_state=1
    ...     )
    >>> dataset = Dataset("mine", {"1": ["1", "2"]}, load)
    >>> settings = Settings(n_draws=4, test_seconds=8.0)
    >>> rows, failures = run_benchmark(dataset, ["prior"], "run", settings)
    >>> write_report("run").name
    'report.html'
    """
    out = Path(out)
    rows = read_rows(out)
    groups = rows.drop_duplicates("method").set_index("method")["group"]
    styles = _styles(groups)
    first = rows.iloc[0]
    parts = [
        "<h1>Virtual iEEG: comparison of methods</h1>",
        _what(rows, first),
        "<h2>Leaderboard</h2>",
        _leaderboard(rows),
        "<h2>Calibration</h2>",
        _image(plot_calibration(rows, styles)),
        "<h2>Risk and coverage</h2>",
        "<p>Mean absolute error of the contacts that are kept when those with the "
        "widest 90 % intervals are left out, relative to all. A line that rises to the "
        "right belongs to a method that knows what it does not know; part of it is "
        "that loud contacts have large errors and wide intervals, as the prior "
        "shows.</p>",
        _image(plot_risk(rows, styles)),
        "<h2>Strata</h2>",
        *[_stratum(rows, *stratum) for stratum in _STRATA],
        "<h2>Examples</h2>",
        "<p>Band: 90 % interval of the prediction; thin line: one draw; black: what "
        "was recorded. Predictions are no recordings.</p>",
        *_examples(out / "examples", first["patient"], groups),
        "<h2>Provenance</h2>",
        _provenance(rows),
    ]
    page = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        f"<title>Virtual iEEG benchmark</title><style>{_STYLE}</style></head><body>"
        + "\n".join(parts)
        + "</body></html>"
    )
    fname = out / "report.html"
    fname.write_text(page, encoding="utf-8")
    return fname


def _what(rows, first):
    # Rows of all contacts together, and of the sides of a structure, have no CRPS.
    contacts = rows.dropna(subset=["crps"])
    n_contacts = len(contacts.drop_duplicates(["patient", "contact"]))
    text = (
        f"<p>Data: {html.escape(str(first['dataset']))}. Protocol "
        f"<b>{first['protocol']}</b>: {PROTOCOLS[first['protocol']]}. "
        f"Patients: {rows['patient'].nunique()}; contacts: {n_contacts}, all of them "
        f"counted; {first['n_draws']} draws. Intervals in brackets: 95 %, bootstrap "
        "over patients.</p>"
    )
    patients = rows.groupby("method", sort=False)["patient"].nunique()
    few = patients[patients < rows["patient"].nunique()]
    if len(few):
        text += (
            "<p class='note'>Not every method has results of every patient, so that "
            "their means are not comparable: "
            + ", ".join(f"{html.escape(name)} has {n}" for name, n in few.items())
            + ".</p>"
        )
    if first["leaky"]:
        text += (
            "<p class='note'>This split is leaky: trials next to tested ones were "
            "trained on. It is here for comparison with the literature only.</p>"
        )
    if str(first["dataset"]) == "simulated":
        text += (
            "<p class='note'>Simulation shows what a method does where the "
            "simulation's assumptions hold. It can show that a method is "
            "miscalibrated or ignores the scalp. It cannot show that a method works "
            "in patients. The shipped weights were trained on many other simulations "
            "of this family; the other methods know at most the pairs of this run, "
            "and the spatial posterior and the source estimates the template "
            "head.</p>"
        )
    return text


def _leaderboard(rows):
    mean, low, high = leaderboard(rows)
    directions = {name: direction for _, _, name, direction in LEADERBOARD}
    head = "".join(
        f"<th>{name}<br><small>{directions[name]}</small></th>" for name in mean
    )
    lines = [f"<tr><th>method</th>{head}</tr>"]
    best = {name: _best(mean[name], directions[name]) for name in mean}
    for method in mean.index:
        cells = [f"<td>{html.escape(method)}</td>"]
        for name in mean:
            values = (table.loc[method, name] for table in (mean, low, high))
            mark = " class='best'" if method == best[name] else ""
            cells.append(f"<td{mark}>{_cell(*values)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<div class='wide'><table>{''.join(lines)}</table></div><p>CRPS and variogram "
        "in standard deviations of the recorded contact. CRPS skill against the prior, "
        "which does not see the scalp. Spread over error: 1 is calibrated, 0 means "
        "draws that are all alike. NLL: negative log-density of all recorded contacts "
        "together, nats per sample and contact for potentials in microvolts; only "
        "differences count, and methods without a density have none. r: of the mean "
        "over draws. LSD, exponent and connectivity: of single draws, which a method "
        "can win without looking at the scalp; compare with the controls.</p>"
    )


def _best(column, direction):
    column = column.dropna()
    if not len(column):
        return None
    if direction in ("lower", "higher"):
        return column.idxmin() if direction == "lower" else column.idxmax()
    return (column - float(direction)).abs().idxmin()


def _cell(mean, low, high):
    if np.isnan(mean):
        return "–"
    spread = "" if np.isnan(low) else f"<br><small>[{low:.2f}, {high:.2f}]</small>"
    return f"{mean:.3f}{spread}"


def _stratum(rows, column, band, measure, title):
    some = rows.dropna(subset=[measure])
    if band:
        some = some[some["band"] == band]
    if not len(some):
        return ""
    # Patients count alike, whatever their number of contacts.
    keys = list(dict.fromkeys(["method", column, "patient"]))
    each = some.groupby(keys, sort=False)[measure].mean()
    wide = each.groupby(["method", column], sort=False).mean().unstack()
    body = wide.to_html(float_format="%.3f", border=0, na_rep="–", escape=True)
    return f"<h3>{title}</h3><div class='wide'>{body}</div>"


def _styles(groups):
    """Choose a colour for each group and a dash for each method in it."""
    styles, seen = {}, {}
    for method, group in groups.items():
        number = seen.get(group, 0)
        seen[group] = number + 1
        dash = _DASHES[number % len(_DASHES)]
        styles[method] = {"color": _COLOURS[group], "linestyle": dash}
    return styles


def plot_calibration(rows, styles):
    """Plot coverage of intervals against their nominal level.

    Parameters
    ----------
    rows : pandas.DataFrame
        From :func:`~mne_neuroflow.evaluation.benchmark.read_rows`.
    styles : dict
        Colour and dash of each method.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The figure.
    """
    fig = Figure(figsize=(8, 4.6), layout="constrained")
    ax = fig.subplots()
    some = rows[(rows["band"] == "broad") & rows["coverage_90"].notna()]
    names = [f"coverage_{100 * level:.0f}" for level in LEVELS]
    nominal = 100 * np.array(LEVELS)
    for method, style in styles.items():
        table = summarize(some[some["method"] == method], ["method"], names)
        ax.plot(nominal, 100 * table["mean"], marker=".", label=method, **style)
    ax.plot([45, 100], [45, 100], color="black", lw=1)
    ax.annotate("calibrated", (97, 97), (88, 99.5), fontsize=8)
    ax.set(xlabel="Nominal coverage (%)", ylabel="Share of recorded samples inside (%)")
    ax.set(xlim=(47, 98), ylim=(0, 103))
    fig.legend(loc="outside right upper", fontsize=8, frameon=False)
    return fig


def plot_risk(rows, styles):
    """Plot the error of contacts that are kept against their share.

    Parameters
    ----------
    rows : pandas.DataFrame
        From :func:`~mne_neuroflow.evaluation.benchmark.read_rows`.
    styles : dict
        Colour and dash of each method.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The figure.
    """
    fig = Figure(figsize=(8, 4.6), layout="constrained")
    ax = fig.subplots()
    grid = np.linspace(0.1, 1, 19)
    some = rows[(rows["band"] == "broad") & rows["mae"].notna()]
    for method, style in styles.items():
        curves = []
        for _, part in some[some["method"] == method].groupby("patient"):
            kept, risk, _ = risk_coverage(part["width_90"], part["mae"])
            curves.append(np.interp(grid, kept, risk / risk[-1]))
        ax.plot(100 * grid, np.mean(curves, axis=0), label=method, **style)
    ax.axhline(1, color="black", lw=0.7)
    ax.set(xlabel="Contacts kept, narrowest intervals first (%)")
    ax.set(ylabel="Mean absolute error relative to all")
    fig.legend(loc="outside right upper", fontsize=8, frameon=False)
    return fig


def _examples(folder, patient, groups):
    """One figure for each method, of the first patient there is."""
    figures = []
    for method, group in groups.items():
        fname = folder / f"{patient}__{method}.npz"
        if fname.exists():
            fig = plot_example(fname, f"{method}, {patient}", _COLOURS[group])
            figures.append(_image(fig))
    return figures


def plot_example(fname, title, colour):
    """Plot what a method predicts at a few contacts, beside what was recorded.

    Parameters
    ----------
    fname : Path
        Written by :func:`~mne_neuroflow.evaluation.benchmark.save_example`.
    title : str
        Title of the figure.
    colour : str
        Of the prediction.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The figure.
    """
    with np.load(fname) as stored:
        stored = dict(stored)
    truth = 1e6 * stored["truth"]
    times = np.arange(truth.shape[1]) / 128
    fig = Figure(figsize=(8, 1.1 * len(truth) + 0.7), layout="constrained")
    axes = fig.subplots(len(truth), 1, sharex=True, squeeze=False)[:, 0]
    for k, ax in enumerate(axes):
        low, _, high = 1e6 * stored["quantiles"][:, k]
        ax.fill_between(times, low, high, color=colour, alpha=0.25, lw=0)
        ax.plot(times, 1e6 * stored["draw"][k], color=colour, lw=0.7)
        ax.plot(times, truth[k], color="black", lw=0.9)
        label = f"{stored['ch_names'][k]}\n{stored['structures'][k]}\n(µV)"
        ax.set_ylabel(label, fontsize=8)
        # A method that runs away must not flatten what was recorded.
        most = min(np.abs([low, high]).max(), 4 * np.abs(truth[k]).max())
        most = 1.1 * max(most, np.abs(truth[k]).max())
        ax.set(ylim=(-most, most), xlim=(0, times[-1]))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_title(title, fontsize=10)
    axes[-1].set_xlabel("Time (s)")
    return fig


def _image(fig):
    buffer = BytesIO()
    fig.savefig(buffer, format="png", dpi=90)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<figure><img alt='' src='data:image/png;base64,{data}'></figure>"


def _provenance(rows):
    start = list(rows.columns).index("dataset")
    stop = list(rows.columns).index("mne_connectivity") + 1
    cells = [
        # A run made in pieces has several.
        f"<tr><td>{name}</td><td>"
        f"{html.escape(', '.join(map(str, rows[name].unique())))}</td></tr>"
        for name in rows.columns[start:stop]
    ]
    times = rows.drop_duplicates(["method", "patient"])
    times = times.groupby("method", sort=False)[["fit_time", "sample_time"]].mean()
    times.columns = ["fit (s per patient)", "draws (s per patient)"]
    return f"<table>{''.join(cells)}</table>" + times.to_html(
        float_format="%.1f", border=0
    )
