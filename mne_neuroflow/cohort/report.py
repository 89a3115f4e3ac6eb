"""The report on a cohort: distributions, quality, missing recordings and effects."""

from html import escape

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd

from .._files import written_whole
from ..scores.signals import BANDS
from ..viz._style import (
    LARGE,
    MEDIUM,
    OTHERS,
    STRUCTURES,
    VIRTUAL,
    WIDTH,
    add_legend,
    tidy,
)
from .features import FEATURES

_WARNING = """
<div class="alert alert-danger" role="alert">
<strong>These are predictions for research, not recordings, and not for
diagnosis.</strong> No electrode was in these brains. Every value was computed from
scalp EEG by a model. Most of the activity of deep structures is not visible in scalp
EEG, and the model then shows plausible signals, not the true ones. Nothing here may be
used for diagnosis, for planning an operation or for any other decision about a patient.
</div>
"""
_CONTROL = """
<p>The control repeats everything with each scalp channel shifted in time by a different
amount. Channels keep their amplitudes and spectra, and lose the pattern over the scalp.
<strong>An effect that the control shows as well does not come from this pattern. It
comes from the prior, or from the amplitudes of single channels, and is no evidence
about a deep structure.</strong></p>
<p>Effects are those on predicted values. Only about the share of a true effect that the
scalp EEG explains can be found (see the feature observability). If no effect is found,
there may still be one.</p>
"""
_SHOWN = tuple(BANDS)[1:]
_QUALITY = ("channels_used", "channels_left_out", "good_time", "gain", "head_misfit")
_MAX_ROWS = 40  # of a table or a figure of effects


def write_report(fname, files, rows, effects):
    """Write the report on a cohort.

    Parameters
    ----------
    fname : Path
        The file to write.
    files : list of Path
        Tables of the recordings.
    rows : dict of str to dict
        The state of each recording.
    effects : DataFrame
        Result of :func:`mne_neuroflow.analyze_cohort`, which may be empty.
    """
    table = _read(files)
    report = mne.Report(
        title="Virtual intracranial EEG of a cohort: predictions, not recordings",
        verbose=False,
    )
    report.add_html(_WARNING, "Read this first")
    _add_recordings(report, rows)
    _add_quality(report, table)
    _add_distributions(report, table)
    _add_sides(report, table)
    if len(effects):
        _add_effects(report, effects, len(files))
    with written_whole(fname) as part:
        report.save(part, open_browser=False, overwrite=True, verbose=False)


def _read(files):
    """Read all rows but those of contacts and pairs, without draws."""
    from pyarrow import dataset

    field = dataset.field("level")
    columns = "recording scalp structure side feature band median".split()
    tables = dataset.dataset([str(file) for file in files], format="parquet")
    return tables.to_table(
        columns=columns, filter=(field != "contact") & (field != "pair")
    ).to_pandas()


def _add_recordings(report, rows):
    status = pd.DataFrame(rows.values())
    counts = status["state"].value_counts()
    states = ", ".join(f"{number} {state}" for state, number in counts.items())
    done = status[status["state"] == "done"]
    people, hours = done["participant"].nunique(), done["duration"].sum() / 3600
    html = (
        f"<p>Recordings: {states}. People: {people}. Hours of scalp EEG: "
        f"{hours:.2f}.</p>"
    )
    missing = status[status["state"] != "done"]
    if len(missing):
        columns = ["recording", "state", "reason"]
        html += "<p>Missing, and why:</p>" + _html(missing[columns])
    warned = done[done["reason"] != ""]
    if len(warned):
        html += "<p>Differences from what the model was built for:</p>"
        html += _html(warned[["recording", "reason"]])
    report.add_html(html, "Recordings")


def _add_quality(report, table):
    fig, axes = plt.subplots(
        1, len(_QUALITY), figsize=(WIDTH, 1.8), layout="constrained"
    )
    for ax, feature in zip(axes, _QUALITY, strict=True):
        values = table.loc[table["feature"] == feature, "median"]
        ax.hist(values, bins=min(20, max(5, len(values) // 5)), color=VIRTUAL)
        ax.set_xlabel(feature.replace("_", " ") + _UNITS.get(feature, ""))
        ax.set_yticks([])
        tidy(ax)
    axes[0].set_ylabel("Recordings")
    caption = "The quality of the scalp recordings."
    _add_figure(report, fig, "Quality of the scalp", caption)


_UNITS = {"head_misfit": " (mm)"}


def _add_distributions(report, table):
    for feature, label in (
        ("power", "Power (dB re 1 µV²)"),
        ("relative_power", "Share of power"),
    ):
        rows = table[(table["feature"] == feature) & table["band"].isin(_SHOWN)]
        _add_figure(
            report,
            _plot_distributions(rows, label),
            feature.replace("_", " ").capitalize(),
            "Medians of recordings, mean of a structure's contacts on both sides. "
            "Boxes: quartiles; whiskers: 5 to 95 %. Grey: the control with shifted "
            "channels.",
        )


def _plot_distributions(rows, label):
    structures = [s for s in STRUCTURES if s in set(rows["structure"])]
    fig, axes = plt.subplots(
        1,
        len(structures),
        figsize=(WIDTH, 2.4),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, structure in zip(axes[0], structures, strict=True):
        here = rows[rows["structure"] == structure]
        for scalp, shift, color in (
            ("recorded", -0.18, STRUCTURES[structure]),
            ("shifted", 0.18, "0.7"),
        ):
            one = here[here["scalp"] == scalp]
            values = [
                one[one["band"] == band].groupby("recording")["median"].mean()
                for band in _SHOWN
            ]
            if len(one):
                _boxes(ax, values, np.arange(len(_SHOWN)) + shift, color)
        ax.set_xticks(range(len(_SHOWN)), _SHOWN, rotation=60)
        ax.set_title(structure, fontsize=MEDIUM)
        tidy(ax)
    axes[0, 0].set_ylabel(label)
    return fig


def _boxes(ax, values, positions, color):
    ax.boxplot(
        values,
        positions=positions,
        widths=0.3,
        whis=(5, 95),
        showfliers=False,
        patch_artist=True,
        boxprops=dict(facecolor=color, linewidth=0.5),
        medianprops=dict(color="black", linewidth=1),
        whiskerprops=dict(linewidth=0.5),
        capprops=dict(linewidth=0.5),
        manage_ticks=False,
    )


def _add_sides(report, table):
    rows = table[(table["feature"] == "lateralization") & table["band"].isin(_SHOWN)]
    if rows.empty:
        return
    fig = _plot_distributions(rows, "← right     left →")
    for ax in fig.axes:
        ax.axhline(0, color="0.5", linewidth=0.8, linestyle="--")
    _add_figure(
        report,
        fig,
        "Sides",
        "(left - right) / (left + right) of power, medians of recordings. Grey: the "
        "control with shifted channels.",
    )


# Effects ------------------------------------------------------------------------------


def _add_effects(report, effects, n_recordings):
    for formula, rows in effects.groupby("formula", sort=False):
        recorded = rows[(rows["scalp"] == "recorded") & (rows["term"] != "Intercept")]
        if recorded.empty:
            recorded = rows[rows["scalp"] == "recorded"]
        recorded = recorded.sort_values("p")
        first = recorded.iloc[0]
        counts = recorded["reading"].value_counts()
        items = "".join(f"<li>{escape(t)}: {n}</li>" for t, n in counts.items())
        n_without = n_recordings - first["n_recordings"]
        left_out = (
            "Left out, because a column of the formula has no value for them: "
            f"{n_without}. "
        )
        html = (
            f"{_CONTROL}<p>{first['n_recordings']} recordings of {first['n_people']} "
            f"people. {left_out if n_without else ''}Of {len(recorded)} effects "
            "(terms, places and bands), at a false discovery rate of 5 %:</p>"
            f"<ul>{items}</ul><p>Missing information is the share of the variance that "
            "comes from the uncertainty of predictions.</p>"
        )
        table = _effect_table(recorded)
        html += _html(table.head(_MAX_ROWS))
        if len(table) > _MAX_ROWS:
            html += f"<p>All {len(table)} effects are in effects.tsv.</p>"
        report.add_html(html, f"Effects: {formula}")
        _add_figure(
            report,
            _plot_effects(rows, recorded),
            f"Effects and their control: {formula}",
            "The effects with the lowest p values for recorded scalp EEG, with 95 % "
            "intervals that include the uncertainty of the predictions.",
        )


def _effect_table(rows):
    return pd.DataFrame(
        {
            "Term": rows["term"],
            "Where": [_place(row) for _, row in rows.iterrows()],
            "Estimate (95 %)": [
                f"{row.estimate:.3g} ({row.low_95:.3g} to {row.high_95:.3g})"
                for row in rows.itertuples()
            ],
            "df": rows["df"].map("{:.1f}".format),
            "p": rows["p"].map("{:.2g}".format),
            "p (FDR)": rows["p_fdr"].map("{:.2g}".format),
            "Missing information": rows["missing_information"].map("{:.0%}".format),
            "Compared with the control": rows["reading"],
        }
    )


def _place(row):
    parts = [row["structure"], row["side"], row["other_structure"], row["other_side"]]
    return " ".join([*filter(None, parts), row["band"]]).strip()


def _plot_effects(rows, recorded):
    chosen = recorded.head(12)
    keys = ["term", "structure", "side", "other_structure", "other_side", "band"]
    fig, ax = plt.subplots(
        figsize=(WIDTH, 1.0 + 0.32 * len(chosen)), layout="constrained"
    )
    for (scalp, label), color, shift in zip(
        {
            "recorded": "recorded scalp",
            "shifted": "control: shifted channels",
            "recorded - shifted": "difference",
        }.items(),
        (VIRTUAL, "0.6", OTHERS[0]),
        (-0.2, 0.0, 0.2),
        strict=True,
    ):
        some = rows[rows["scalp"] == scalp].set_index(keys)
        if some.empty:
            continue
        # Some places may be without a control.
        some = some.reindex([tuple(row) for row in chosen[keys].to_numpy()])
        y = np.arange(len(some)) + shift
        ax.hlines(y, some["low_95"], some["high_95"], color=color, linewidth=1.5)
        ax.plot(some["estimate"], y, "o", color=color, markersize=4, label=label)
    ax.axvline(0, color="0.5", linewidth=0.8, linestyle="--")
    names = [f"{row['term']}: {_place(row)}" for _, row in chosen.iterrows()]
    ax.set_yticks(range(len(chosen)), names)
    ax.invert_yaxis()
    feature = chosen["feature"].iloc[0]
    unit = FEATURES[feature][1]
    name = feature.replace("_", " ")
    ax.set_xlabel(f"Effect on {name}" + (f" ({unit})" if unit != "1" else ""))
    tidy(ax)
    add_legend(fig, [ax])
    fig.suptitle("Virtual iEEG, predicted from scalp EEG, not recorded", fontsize=LARGE)
    return fig


def _html(table):
    return table.to_html(
        classes="table table-sm", border=0, justify="left", index=False, escape=True
    )


def _add_figure(report, fig, title, caption):
    report.add_figure(fig, title, caption=caption)
    plt.close(fig)
