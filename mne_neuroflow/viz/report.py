"""A report on the virtual contacts of a recording."""

from __future__ import annotations

from html import escape
from pathlib import Path

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd

from .._compat import verbose
from .._docs import fill_doc
from ..arguments import check_n_draws
from ..contract import MODEL
from ..head.contacts import make_contacts
from ..predictor import Predictor
from ..weights.model import find_model
from ._messages import CAUTION, kept_messages, provenance_rows, reasons
from .connectivity import plot_connectivity
from .contacts import plot_contacts
from .lateralization import plot_lateralization
from .sides import (
    discharge_html,
    discharge_in_words,
    discharge_table,
    lateralization_table,
    sides_html,
    sides_in_words,
)
from .spectra import plot_spectra
from .traces import plot_virtual

_SECONDS = 30.0  # that draws are made of unless the user says how many
_TRACES = 5.0  # seconds of traces that can be read on a page
_EACH = 2  # contacts of a structure whose traces are shown
_WARNING = """
<div class="alert alert-danger" role="alert"><strong>{caution}</strong> {reasons}</div>
"""


@verbose
@fill_doc
def make_report(
    inst,
    *,
    contacts="mtl",
    model=MODEL,
    n_draws=40,
    tmin=None,
    tmax=None,
    random_state=None,
    device="auto",
    trans="fsaverage",
    on_mismatch="warn",
    verbose=None,
) -> mne.Report:
    """Make a report on the virtual contacts of a recording.

    Parameters
    ----------
    %(inst)s
    %(contacts)s
    %(model)s
    n_draws : int
        The number of draws. 90-percent intervals need at least 19, and sides in words
        20.
    tmin, tmax : float | None
        First and last time of the draws, in seconds, of the recording or of each epoch.
        ``None`` takes the whole of an epoch, or 30 s from the middle of a Raw. Time and
        memory grow with the duration.
    %(random_state)s
    %(device)s
    %(trans)s
    %(on_mismatch)s
    %(verbose)s

    Returns
    -------
    report : mne.Report
        A report with the properties and problems of the recording, the observability of
        each contact, virtual traces, spectra, connectivity and lateralization with
        intervals, sides and rhythmic discharges in words (*not clear* where fewer than
        nine in ten draws agree), and the provenance. ``report.save("report.html")``
        writes it to a file.

    See Also
    --------
    sample_ieeg
    observability

    Examples
    --------
    >>> import mne_neuroflow
    >>> from mne_neuroflow.datasets import load_demo
    >>> raw = load_demo(verbose=False).crop(0, 4)
    >>> report = mne_neuroflow.make_report(
    ...     raw, contacts="mtl-core", n_draws=4, random_state=0, verbose=False
    ... )
    >>> fname = report.save("report.html", open_browser=False, verbose=False)
    """
    n_draws = check_n_draws(n_draws, 1)
    tmin, tmax = _stretch(inst, tmin, tmax)
    model = find_model(model)
    with kept_messages() as messages:
        montage = make_contacts(contacts, trans=trans)
        predictor = Predictor(
            inst,
            contacts=montage,
            model=model,
            random_state=random_state,
            device=device,
            trans=trans,
            on_mismatch=on_mismatch,
        )
        draws = predictor.sample(n_draws, tmin, tmax)
    used, table = predictor.scalp.ch_names, predictor.table()
    report = mne.Report(
        title="Virtual intracranial EEG: a prediction, not a recording", verbose=False
    )
    warning = _WARNING.format(caution=CAUTION, reasons=reasons(model))
    report.add_html(warning, "Read this first")
    _add_recording(report, inst, used, messages)
    _add_contacts(report, montage, table)
    _add_traces(report, draws)
    _add_figure(
        report,
        plot_spectra(draws, show=False),
        "Spectra",
        "Mean of a structure's contacts. Shaded: the central 50 and 90 % of draws.",
    )
    _add_connectivity(report, draws)
    _add_lateralization(report, draws, montage)
    _add_discharge(report, draws, montage)
    _add_table(report, table)
    _add_provenance(report, draws, model)
    return report


def _stretch(inst, tmin, tmax):
    """Return the part of the recording that is drawn, in seconds."""
    if isinstance(inst, mne.io.BaseRaw) and tmin is None and tmax is None:
        first, last = inst.times[[0, -1]]
        middle = (first + last) / 2
        return max(first, middle - _SECONDS / 2), min(last, middle + _SECONDS / 2)
    return tmin, tmax


def _add_recording(report, inst, used, messages):
    info = inst.info
    eeg = mne.pick_types(info, eeg=True, exclude=())
    bads = [name for name in info["bads"] if info["ch_names"].index(name) in eeg]
    rows = {
        "File": _file_name(inst),
        "Duration": _duration(inst),
        "Sampling rate": f"{info['sfreq']:g} Hz",
        "Filtered": f"{info['highpass']:g} to {info['lowpass']:g} Hz",
        "Scalp EEG channels": f"{len(eeg)}, of which {len(bads)} bad "
        f"{bads or ''} and {len(used)} used",
    }
    said = "".join(f"<li>{escape(line)}</li>" for line in messages["log"])
    html = _table(rows) + f"<p>What was found and decided:</p><ul>{said}</ul>"
    for line in messages["warnings"]:
        html += f'<div class="alert alert-warning">{escape(line)}</div>'
    if not messages["warnings"]:
        html += (
            "<p>No check found the recording unlike what the model was built for.</p>"
        )
    report.add_html(html, "The scalp recording and its checks")
    spectrum = inst.compute_psd(
        method="welch",
        n_fft=min(int(2 * info["sfreq"]), len(inst.times)),
        fmax=min(60, info["sfreq"] / 2),
        picks=used,
        verbose=False,
    )
    _add_figure(
        report,
        spectrum.plot(spatial_colors=inst.get_montage() is not None, show=False),
        "Spectra of the scalp EEG",
        "Recorded. The model reads 0.5 to 50 Hz.",
    )


def _file_name(inst):
    files = getattr(inst, "filenames", None) or [getattr(inst, "filename", None)]
    names = [Path(file).name for file in files if file is not None]
    return ", ".join(names) or "in memory"


def _duration(inst):
    seconds = len(inst.times) / inst.info["sfreq"]
    if isinstance(inst, mne.io.BaseRaw):
        return f"{seconds:.1f} s"
    return f"{len(inst)} epochs of {seconds:.2f} s"


def _add_contacts(report, contacts, table):
    figure = plot_contacts(
        contacts, table["observability"], label="Observability", show=False
    )
    _add_figure(
        report,
        figure,
        "What the scalp can say",
        "Observability is the share of a contact's prior variance that the scalp "
        f"explains. {table['abstain'].sum()} of {len(table)} contacts rest on the "
        "prior alone (below 0.05). Template brain, not the patient's own.",
    )


def _add_traces(report, draws):
    """Show the contacts with the highest observability in each structure."""
    one = draws.isel(epoch=0) if "epoch" in draws.dims else draws
    middle = one["time"].values[[0, -1]].mean()
    one = one.sel(time=slice(middle - _TRACES / 2, middle + _TRACES / 2))
    table = one[0, :, 0].to_dataframe(name="potential").reset_index()
    table = table.sort_values("observability", ascending=False, kind="stable")
    chosen = table.groupby("structure", sort=False).head(_EACH).index
    _add_figure(
        report,
        plot_virtual(one.isel(channel=chosen), show=False),
        "Virtual traces",
        "Predicted, not recorded. The two contacts of each structure of which the "
        "scalp says most. Black: one draw, one of many signals that fit the scalp. "
        "Shaded: the central 50 and 90 % of draws. Each row has its own scale.",
    )


def _add_connectivity(report, draws):
    try:
        figure = plot_connectivity(draws, show=False)
    except ValueError as err:
        report.add_html(f"<p>Left out: {escape(str(err))}</p>", "Connectivity")
        return
    _add_figure(
        report,
        figure,
        "Connectivity",
        "Of each draw apart, then averaged. It includes what volume conduction and the "
        "common reference at infinity make alike.",
    )


def _add_lateralization(report, draws, contacts):
    try:
        table = lateralization_table(draws, contacts)
    except ValueError as err:
        report.add_html(f"<p>Left out: {escape(str(err))}</p>", "Lateralization")
        return
    _add_figure(
        report,
        plot_lateralization(draws, contacts, show=False),
        "Lateralization",
        "Bars: the central 50 and 90 % of draws. Filled where the 90 % interval leaves "
        "out zero, which asks for more than nine in ten draws on one side.",
    )
    said = escape(sides_in_words(table, draws.sizes["draw"]))
    report.add_html(
        f"<p><strong>{said}</strong> Clear is what nine in "
        "ten draws agree on. A side that has more power in this stretch of recording "
        f"is not a side on which something is wrong.</p>{sides_html(table)}",
        "Sides, by structure and band",
    )


def _add_discharge(report, draws, contacts):
    title = "Rhythmic discharge, by contact"
    try:
        table = discharge_table(draws)
    except ValueError as err:
        report.add_html(f"<p>Left out: {escape(str(err))}</p>", title)
        return
    said = escape(discharge_in_words(table, draws, contacts))
    structures = draws["structure"].to_series()
    report.add_html(
        f"<p><strong>{said}</strong> Every recording has a strongest second, also one "
        "without any discharge; the list says where the draws put it, not that there "
        "is one. Strength is the line length, which also grows with activity that is "
        f"not rhythmic.</p>{discharge_html(table, structures)}",
        title,
    )


def _add_table(report, table):
    shown = pd.DataFrame(
        {
            "Structure": table["structure"],
            "Observability": table["observability"].map("{:.3f}".format),
            "Prior s.d. (µV)": (1e6 * table["prior_std"]).map("{:.0f}".format),
            "Nearest electrode (mm)": (1e3 * table["electrode_distance"]).map(
                "{:.0f}".format
            ),
            "": np.where(table["abstain"], "rests on the prior alone", ""),
        },
        index=table.index,
    )
    html = shown.to_html(
        classes="table table-sm", border=0, justify="left", index_names=False
    )
    report.add_html(html, "Contacts, for a recording of ordinary amplitude")


def _add_provenance(report, draws, model):
    time = draws["time"].values
    span = f"{draws.sizes['draw']} of {time[0]:.3f} to {time[-1]:.3f} s"
    rows = provenance_rows(draws.attrs["description"], span, model)
    report.add_html(_table(rows), "Provenance")


def _table(rows):
    cells = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>"
        for name, value in rows.items()
    )
    return f'<table class="table table-sm">{cells}</table>'


def _add_figure(report, fig, title, caption):
    report.add_figure(fig, title, caption=caption)
    plt.close(fig)
