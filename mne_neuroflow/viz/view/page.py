"""Making of the page: draw, summarize, pack, and fill the template."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from pathlib import Path

import mne
import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from scipy.spatial.distance import cdist

from ..._compat import ProgressBar, _validate_type, logger, verbose
from ..._docs import fill_doc
from ..._files import written_whole
from ...arguments import check_n_draws
from ...bipolar import make_bipolar
from ...contract import BLOCK, MODEL, SFREQ
from ...good_time import notes_of_raw
from ...head.contacts import contact_positions, contact_structures
from ...head.geometry import load_head
from ...predictor import Predictor
from ...scores.signals import BANDS
from ...weights.model import find_model
from .._messages import CAUTION, kept_messages, provenance_rows, reasons
from .._style import STRUCTURES, VIRTUAL
from ..sides import AGREED, FEWEST
from .packing import Pack
from .summary import POOL, SHARP, SHOWN, summarize

_SECONDS = 600  # maximum of a Raw that are shown by default
_SHORTEST = 5  # seconds: minimum for a median second and a spectrum
_STRETCH = 60  # seconds that are computed at once
_ELECTRODES = 64  # maximum number of scalp electrodes
_DEEP = ("hippocampus", "amygdala")
_PARTS = ("view.html", "view.css", "view.js")


class View:
    """A page that shows scalp and virtual traces and opens without a network.

    Parameters
    ----------
    html : str
        The page.

    Attributes
    ----------
    html : str
        The page.
    """

    def __init__(self, html):
        self.html = html

    def save(self, fname, *, overwrite=False) -> Path:
        """Write the page.

        Parameters
        ----------
        fname : path-like
            The file, ``*.html``.
        overwrite : bool
            Replace the file if it exists.

        Returns
        -------
        fname : pathlib.Path
            The file.

        Examples
        --------
        >>> from mne_neuroflow.viz import make_view
        >>> view = make_view(raw)  # doctest: +SKIP
        >>> view.save("view.html")  # doctest: +SKIP
        """
        fname = Path(fname).expanduser()
        if fname.suffix != ".html":
            raise ValueError(
                "Invalid value for the 'fname' parameter. Allowed values end with "
                f".html, but got {fname.name!r}."
            )
        if fname.exists() and not overwrite:
            raise FileExistsError(f"{fname} exists. Use overwrite=True to replace it.")
        with written_whole(fname) as part:
            part.write_text(self.html, encoding="utf-8")
        return fname


@verbose
@fill_doc
def make_view(
    raw,
    *,
    contacts="mtl",
    model=MODEL,
    n_draws=20,
    tmin=None,
    tmax=None,
    random_state=None,
    device="auto",
    trans="fsaverage",
    on_mismatch="warn",
    verbose=None,
) -> View:
    """Make an interactive page of a recording and its virtual contacts.

    Parameters
    ----------
    raw : Raw
        The scalp EEG, 5 s or more.
    %(contacts)s
    %(model)s
    n_draws : int
        The number of draws. 90-percent intervals need at least 19, and sides 20.
    tmin, tmax : float | None
        First and last time that is shown, in seconds, rounded to whole seconds.
        ``None`` takes the whole recording, or ten minutes from the middle of a longer
        one. Time and memory grow with the duration, because all draws are kept at 128
        Hz.
    %(random_state)s
    %(device)s
    %(trans)s
    %(on_mismatch)s
    %(verbose)s

    Returns
    -------
    view : View
        ``view.save("view.html")`` writes one file that opens offline in any browser of
        2023 or later. Scalp traces and virtual traces with their intervals scroll and
        zoom together, as contacts or as bipolar derivations. A glass brain shows the
        contacts, coloured by observability, or by power, side or spike likelihood at
        the chosen time. A click on a contact shows its traces, spectrum and label.

    See Also
    --------
    mne_neuroflow.make_report
    plot_contacts_3d

    Notes
    -----
    The line is the first draw, one of many signals that fit the scalp EEG.
    The shaded interval contains the central nine tenths of draws, and its widest extent
    within 1/32 s is shown. Scalp traces are the input of the model: 128 Hz, 0.5-50 Hz,
    average reference. If there are more than 64 electrodes, 64 that are evenly spread
    are shown. Power, side and spikes are computed for each second. The likelihood of a
    spike is the share of draws with a sharp transient in that second, four times the
    median envelope between 4 and 25 Hz. It is not zero in ordinary background.

    Examples
    --------
    >>> from mne_neuroflow.datasets import load_demo
    >>> from mne_neuroflow.viz import make_view
    >>> raw = load_demo(verbose=False).crop(0, 6)
    >>> view = make_view(
    ...     raw, contacts="mtl-core", n_draws=3, random_state=0, verbose=False
    ... )
    >>> fname = view.save("view.html")
    """
    _validate_type(raw, mne.io.BaseRaw, "raw", "Raw (make_report() takes Epochs too)")
    n_draws = check_n_draws(n_draws, 2)
    first, n_seconds = _stretch(raw, tmin, tmax)
    model = find_model(model)
    with kept_messages() as messages:
        predictor = Predictor(
            raw,
            contacts=contacts,
            model=model,
            random_state=random_state,
            device=device,
            trans=trans,
            on_mismatch=on_mismatch,
        )
    draws = _draw(predictor, first, n_seconds, n_draws)
    pack = Pack()
    content = {
        "caution": CAUTION,
        "reasons": reasons(model),
        "found": messages["warnings"],
        "provenance": provenance_rows(
            draws.attrs["description"],
            f"{n_draws} of {first} to {first + n_seconds} s",
            model,
        ),
        "start": first,
        "seconds": n_seconds,
        "sfreq": SFREQ,
        "pool": POOL,
        "sharp": SHARP,
        "bands": {name: BANDS[name] for name in SHOWN},
        "colors": {**STRUCTURES, "virtual": VIRTUAL},
        "maps": {name: _stops(name) for name in ("viridis", "RdBu_r")},
        "agreed": AGREED if n_draws >= FEWEST else None,
        "scalp": _pack_scalp(pack, predictor.scalp, first, n_seconds),
        "spans": _spans(raw, predictor.scalp, first, n_seconds),
        "sets": _pack_sets(pack, predictor, draws),
    }
    _pack_brain(pack)
    content["arrays"] = pack.index
    view = View(_fill(content, pack.text()))
    logger.info("Page of %.1f MB.", len(view.html.encode()) / 1e6)
    return view


def _stops(name):
    """Return colours of a map from its lower to its upper end."""
    return [to_hex(color) for color in colormaps[name](np.linspace(0, 1, 17))]


def _stretch(raw, tmin, tmax):
    """Return the first second and the number of seconds that are shown."""
    whole = int(raw.n_times / raw.info["sfreq"] + 1e-6)
    if tmin is None and tmax is None:
        n_seconds = min(whole, _SECONDS)
        first, last = (whole - n_seconds) // 2, (whole + n_seconds) // 2
    else:
        first = 0 if tmin is None else round(tmin)
        last = whole if tmax is None else round(tmax)
    if not 0 <= first <= last - _SHORTEST <= whole - _SHORTEST:
        raise ValueError(
            "Invalid value for the 'tmin' and 'tmax' parameters. Allowed values are "
            f"{_SHORTEST} s or more between 0 and {whole} s, but got {first} to {last} "
            "s."
        )
    return first, last - first


def _draw(predictor, first, n_seconds, n_draws):
    """Draw whole seconds at the model's rate, shape (n_draws, n_channels, n_times)."""
    import xarray

    shape = (n_draws, len(predictor.ch_names), n_seconds * BLOCK)
    data = np.empty(shape, np.float32)
    stretches = range(0, n_seconds, _STRETCH)
    for start in ProgressBar(list(stretches), mesg="Predicting"):
        length = min(_STRETCH, n_seconds - start)
        parts = predictor.block_draws(first + start, length, range(n_draws))
        for draw, part in enumerate(parts):
            data[draw, :, start * BLOCK : (start + length) * BLOCK] = part
    coords = {
        "channel": predictor.ch_names,
        "time": first + np.arange(shape[2]) / SFREQ,
        "structure": ("channel", contact_structures(predictor.montage)[0].astype(str)),
    }
    attributes = {"units": "V", "description": predictor.describe("draws")}
    dims = ("draw", "channel", "time")
    return xarray.DataArray(data, coords, dims, "virtual iEEG", attributes)


def _pack_scalp(pack, scalp, first, n_seconds):
    """Pack the scalp EEG at the model's rate, and name the electrodes."""
    shown = _evenly(scalp.electrodes, _ELECTRODES)
    pieces = [
        scalp.to_model(first + start, min(_STRETCH, n_seconds - start))[shown]
        for start in range(0, n_seconds, _STRETCH)
    ]
    pack.add_traces("scalp", 1e6 * np.concatenate(pieces, axis=1), BLOCK)
    names = [scalp.ch_names[k] for k in shown]
    return {"names": names, "used": len(scalp.ch_names)}


def _evenly(positions, most):
    """Select electrodes by farthest-point sampling, in their original order."""
    if len(positions) <= most:
        return np.arange(len(positions))
    apart = cdist(positions, positions)
    chosen = [int(positions[:, 2].argmax())]
    while len(chosen) < most:
        chosen.append(int(apart[:, chosen].min(axis=1).argmax()))
    return np.sort(chosen)


def _spans(raw, scalp, first, n_seconds):
    """List annotations, and times in which the prediction is only the prior."""
    spans = []
    for onset, duration, text, _ in notes_of_raw(raw):
        if onset < first + n_seconds and onset + duration >= first:
            spans.append((float(onset), float(duration), str(text), False))
    bad = scalp.is_bad(first, n_seconds) > 0.5
    edges = np.flatnonzero(np.diff(np.r_[0, bad.astype(int), 0])).reshape(-1, 2)
    for start, stop in edges / SFREQ:
        spans.append((first + start, stop - start, "no scalp: prior alone", True))
    return sorted(spans)


def _pack_sets(pack, predictor, draws):
    """Pack contacts, and derivations if there are any."""
    names, positions = contact_positions(predictor.montage)
    facts = _facts(predictor.table())
    sets = {"contacts": _pack_set(pack, "contacts", draws, positions, facts)}
    try:
        derived = make_bipolar(draws, verbose="warning")
        places = contact_positions(make_bipolar(predictor.montage, verbose="warning"))
    except ValueError as err:  # names without shafts
        sets["bipolar"] = {"refused": str(err)}
        return sets
    # Draws have no positions, with which distant contacts would not be derived.
    derived = derived.sel(channel=places[0])
    facts = [{"Derivation": "bipolar, at the middle between both contacts"}] * len(
        places[0]
    )
    sets["bipolar"] = _pack_set(pack, "bipolar", derived, places[1], facts)
    return sets


def _facts(table):
    """Describe the properties of each contact."""
    return [
        {
            "Structures within 5 mm": row.labels_5mm or "none",
            "Structures within 3 mm": row.labels_3mm or "none",
            "Observability": f"{row.observability:.3f}"
            + " (rests on the prior alone)" * bool(row.abstain),
            "Prior s.d.": f"{1e6 * row.prior_std:.0f} µV",
            "Given the scalp": f"{1e6 * row.posterior_std:.0f} µV",
            "Nearest electrode": f"{1e3 * row.electrode_distance:.0f} mm",
            "observability": round(float(row.observability), 4),
        }
        for row in table.itertuples()
    ]


def _pack_set(pack, name, draws, positions, facts):
    """Pack one set of channels, and describe them."""
    sides = np.sign(positions[:, 0])
    found = summarize(draws, sides)
    pack.add_traces(f"{name}/draw", found.draw, BLOCK)
    for end in ("low", "high"):
        pack.add_traces(f"{name}/{end}", getattr(found, end), BLOCK // POOL)
    # Half decibels from -63.5 to 63.5; a band without power is at the lower end.
    steps = np.clip(np.rint(2 * found.power), -127, 127).astype(np.int8)
    pack.add(f"{name}/power", steps.reshape(-1, steps.shape[-1]))
    left = np.where(np.isnan(found.left), 255, np.rint(200 * found.left))
    pack.add(f"{name}/left", left.astype(np.uint8).reshape(-1, left.shape[-1]))
    pack.add(f"{name}/spikes", np.rint(200 * found.spikes).astype(np.uint8))
    pack.add(f"{name}/spectrum", found.spectrum.reshape(-1, len(found.freqs)))
    return {
        "freqs": found.freqs.tolist(),
        "channels": [
            {
                "name": str(channel),
                "structure": str(structure),
                "position": np.round(1e3 * place, 1).tolist(),
                "facts": {k: v for k, v in fact.items() if k != "observability"},
                "observability": fact.get("observability"),
            }
            for channel, structure, place, fact in zip(
                draws["channel"].values,
                draws["structure"].values,
                positions,
                facts,
                strict=True,
            )
        ],
    }


def _pack_brain(pack):
    """Pack points of the template's cortex and deep structures, in millimetres."""
    head = load_head()
    deep = np.isin(head.patch_structure[head.vertex_patch], _DEEP)
    for name, chosen in (("cortex", ~deep), ("deep", deep)):
        points = np.rint(1e3 * head.vertices[chosen]).astype(np.int8)
        pack.add(name, np.ascontiguousarray(points.T))


def _fill(content, data):
    """Put styles, script and data into the template."""
    folder = files(__package__)
    page = {name: folder.joinpath(name).read_text("utf-8") for name in _PARTS}
    values = {
        "caution": escape(content["caution"]),
        "style": page["view.css"],
        "script": page["view.js"],
        # The script must not contain its own end tag.
        "content": json.dumps(content, ensure_ascii=False, allow_nan=False).replace(
            "<", "\\u003c"
        ),
        "data": data,
    }
    # Replace all at once, because names of channels may look like placeholders.
    return re.sub("@@([a-z]+)@@", lambda found: values[found[1]], page["view.html"])
