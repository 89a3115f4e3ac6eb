"""The page of a run of the benchmark, which says what the run cannot prove."""

from html import escape
from pathlib import Path

import mne
import numpy as np
from matplotlib.figure import Figure

from .._files import written_whole
from ..contract import SFREQ
from ..scores.ensemble import risk_coverage
from ..scores.tables import summarize
from ..scores.tensors import LEVELS
from .protocols import PROTOCOLS
from .results import LEADERBOARD, leaderboard, read_rows

# Colours of Okabe & Ito, which the colour-blind can distinguish, for each group.
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


_LEGEND = (
    "CRPS and variogram score are in standard deviations of the recorded contact. CRPS "
    "skill is relative to the prior, which ignores the scalp EEG. Spread over error is "
    "1 for calibrated draws, and 0 if all draws are the same. NLL is the negative "
    "log-density of all recorded contacts together, in nats per sample and contact for "
    "potentials in microvolts. Only differences are meaningful, and methods without a "
    "density have none. r is that of the mean over draws. LSD, exponent and "
    "connectivity are those of single draws. A method can do well there without using "
    "the scalp EEG: compare with the controls. Bipolar scores are those of differences "
    "of contacts that are less than 8 mm apart."
)


def write_report(out):
    """Write the page of a run.

    Parameters
    ----------
    out : path-like
        The folder of the run, see :mod:`~mne_neuroflow.evaluation.benchmark`.

    Returns
    -------
    fname : Path
        The file ``report.html`` in this folder, which opens offline.

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
    out = Path(out).expanduser()
    rows = read_rows(out)
    groups = rows.drop_duplicates("method").set_index("method")["group"]
    styles = _styles(groups)
    first = rows.iloc[0]
    title = "Virtual iEEG: comparison of methods"
    report = mne.Report(title=title, image_format="png", verbose=False)
    report.add_html(_what(rows, first), "Data and protocol")
    report.add_html(_leaderboard(rows), "Leaderboard")
    report.add_figure(
        plot_calibration(rows, styles),
        "Calibration",
        caption="Coverage of central intervals against their nominal level.",
    )
    report.add_figure(
        plot_risk(rows, styles),
        "Risk and coverage",
        caption="Mean absolute error of the contacts that remain when those with the "
        "widest 90 % intervals are left out, relative to that of all contacts. For a "
        "method that knows its uncertainty, the line rises to the right. Part of this "
        "comes from amplitudes: contacts with large amplitudes have large errors and "
        "wide intervals, also with the prior.",
    )
    for stratum in _STRATA:
        _add_stratum(report, rows, *stratum)
    _add_examples(report, out / "examples", first["patient"], groups)
    report.add_html(_provenance(rows), "Provenance")
    fname = out / "report.html"
    with written_whole(fname) as part:
        report.save(part, open_browser=False, overwrite=True, verbose=False)
    return fname


def _what(rows, first):
    # Rows of all contacts together, and of the sides of a structure, have no CRPS.
    contacts = rows.dropna(subset=["crps"])
    n_contacts = len(contacts.drop_duplicates(["patient", "contact"]))
    text = (
        f"<p>Data: {escape(str(first['dataset']))}. Protocol "
        f"<b>{first['protocol']}</b>: {PROTOCOLS[first['protocol']]}. "
        f"Patients: {rows['patient'].nunique()}. Contacts: {n_contacts}; none is left "
        f"out. Draws: {first['n_draws']}. Brackets are 95 % intervals of a bootstrap "
        "over patients.</p>"
    )
    patients = rows.groupby("method", sort=False)["patient"].nunique()
    few = patients[patients < rows["patient"].nunique()]
    if len(few):
        named = ", ".join(f"{escape(name)} has {n}" for name, n in few.items())
        text += _note(
            "Some methods lack results of some patients, so that means over patients "
            f"are not comparable: {named}."
        )
    if first["leaky"]:
        text += _note(
            "This split leaks information: methods were trained on trials next to the "
            "tested ones. Use it only to compare with the literature."
        )
    if str(first["dataset"]) == "simulated":
        text += _note(
            "Simulation shows how methods perform when its assumptions hold. It can "
            "show that a method is not calibrated or ignores the scalp EEG. It cannot "
            "show that a method works in patients. The shipped weights were trained on "
            "many other simulations of this family. The other methods know at most the "
            "pairs of this run; the spatial posterior and the source estimates know "
            "the template head."
        )
    return text


def _note(text):
    return f'<div class="alert alert-warning">{text}</div>'


def _leaderboard(rows):
    mean, low, high = leaderboard(rows)
    directions = {name: direction for _, _, name, direction in LEADERBOARD}
    head = "".join(
        f"<th>{name}<br><small>{directions[name]}</small></th>" for name in mean
    )
    lines = [f"<tr><th>method</th>{head}</tr>"]
    best = {name: _best(mean[name], directions[name]) for name in mean}
    for method in mean.index:
        cells = [f"<td>{escape(method)}</td>"]
        for name in mean:
            values = (table.loc[method, name] for table in (mean, low, high))
            mark = ' class="fw-bold"' if method == best[name] else ""
            cells.append(f"<td{mark}>{_cell(*values)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    table = f'<table class="table table-sm">{"".join(lines)}</table>'
    return f'<div class="table-responsive">{table}</div><p>{_LEGEND}</p>'


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


def _add_stratum(report, rows, column, band, measure, title):
    some = rows.dropna(subset=[measure])
    if band:
        some = some[some["band"] == band]
    if not len(some):
        return
    # Patients count alike, whatever their number of contacts.
    keys = list(dict.fromkeys(["method", column, "patient"]))
    each = some.groupby(keys, sort=False)[measure].mean()
    wide = each.groupby(["method", column], sort=False).mean().unstack()
    body = wide.to_html(
        float_format="%.3f", border=0, na_rep="–", classes="table table-sm"
    )
    report.add_html(
        f'<div class="table-responsive">{body}</div>', title, section="Strata"
    )


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
        From :func:`~mne_neuroflow.evaluation.results.read_rows`.
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
    """Plot the error of the most certain contacts against their share.

    Parameters
    ----------
    rows : pandas.DataFrame
        From :func:`~mne_neuroflow.evaluation.results.read_rows`.
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


def _add_examples(report, folder, patient, groups):
    """Show a figure of each method, for the first patient."""
    for method, group in groups.items():
        fname = folder / f"{patient}__{method}.npz"
        if fname.exists():
            report.add_figure(
                plot_example(fname, f"{method}, {patient}", _COLOURS[group]),
                f"Example: {method}",
                caption="Shaded: the 90 % interval of the prediction. Thin line: one "
                "draw. Black: the recorded signal. A prediction is not a recording.",
                section="Examples",
            )


def plot_example(fname, title, colour):
    """Plot the prediction of a method and the recorded signal at a few contacts.

    Parameters
    ----------
    fname : Path
        A file from :func:`~mne_neuroflow.evaluation.benchmark.save_example`.
    title : str
        The title of the figure.
    colour : str
        The colour of the prediction.

    Returns
    -------
    fig : matplotlib.figure.Figure
        The figure.
    """
    with np.load(fname) as stored:
        stored = dict(stored)
    truth = 1e6 * stored["truth"]
    times = np.arange(truth.shape[1]) / SFREQ
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
        limit = min(np.abs([low, high]).max(), 4 * np.abs(truth[k]).max())
        limit = 1.1 * max(limit, np.abs(truth[k]).max())
        ax.set(ylim=(-limit, limit), xlim=(0, times[-1]))
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_title(title, fontsize=10)
    axes[-1].set_xlabel("Time (s)")
    return fig


def _provenance(rows):
    start = list(rows.columns).index("dataset")
    stop = list(rows.columns).index("mne_connectivity") + 1
    cells = [
        # A run that was made in parts has several.
        f"<tr><td>{name}</td><td>"
        f"{escape(', '.join(map(str, rows[name].unique())))}</td></tr>"
        for name in rows.columns[start:stop]
    ]
    times = rows.drop_duplicates(["method", "patient"])
    times = times.groupby("method", sort=False)[["fit_time", "sample_time"]].mean()
    times.columns = ["fit (s per patient)", "draws (s per patient)"]
    return f'<table class="table table-sm">{"".join(cells)}</table>' + times.to_html(
        float_format="%.1f", border=0, classes="table table-sm"
    )
