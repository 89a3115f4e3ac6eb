"""Model cards, and the figures in them, from the files that ship with the weights.

``.. model-cards::`` writes a section for each shipped model, and ``:card:`coverage
0.90``` in running text the default model's figure, so that no page can say what
another model measured.
"""

import inspect
import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective, SphinxRole

import mne_neuroflow
import mne_neuroflow.weights

_FOLDER = Path(mne_neuroflow.weights.__file__).parent / "data"
_TEXTS = (
    ("warning", "Warning"),
    ("version", "Version"),
    ("date", "Date"),
    ("prior", "Trained on"),
    ("training_budget", "Training"),
    ("provenance", "Provenance"),
    ("licence", "Licence"),
    ("sha256", "SHA-256 of the weights"),
)
# How a figure's name begins, and what it is.
_FIGURES = (
    ("coverage", "Share of samples inside central intervals"),
    ("crps ratio", "CRPS over that of the spatial posterior alone (below 1 is better)"),
    ("crps", "CRPS in units of each contact's prior s.d. (lower is better)"),
    ("nll", "Negative log-density, nats per whitened sample (lower is better)"),
    ("", "Other figures"),
)


def setup(app):
    """Register the directive and the role."""
    app.add_directive("model-cards", _ModelCards)
    app.add_role("card", _Figure())
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _read_card(name):
    return json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _default_model():
    return inspect.signature(mne_neuroflow.predict_ieeg).parameters["model"].default


class _Figure(SphinxRole):
    """A figure of the default model's card, or how much less one is than another.

    ``coverage 0.90`` gives 90.9 %, ``r mean`` 0.18, and ``crps flow < crps prior`` by
    how many percent the first is below the second.
    """

    def run(self):
        figures = _read_card(_default_model())["calibration"]
        smaller, _, larger = self.text.partition(" < ")
        if larger:
            text = f"{100 * (1 - figures[smaller] / figures[larger]):.1f} %"
        elif smaller.startswith("coverage"):
            text = f"{100 * figures[smaller]:.1f} %"
        else:
            text = f"{figures[smaller]:.2f}"
        return [nodes.Text(text.replace(" ", "\N{NO-BREAK SPACE}"))], []


class _ModelCards(SphinxDirective):
    """A section for each shipped model."""

    def run(self):
        text = "\n\n".join(
            _write_card(_read_card(fname.stem))
            for fname in sorted(_FOLDER.glob("*.json"))
        )
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _write_card(card):
    lines = [card["name"], "-" * len(card["name"]), ""]
    low, high = card["band_hz"]
    signals = f"{card['units']}, {card['rate_hz']:g} Hz, {low:g}–{high:g} Hz"
    rows = [(label, card[key]) for key, label in _TEXTS]
    rows += [("Signals", signals), ("Reference", card["reference"])]
    lines += _table(rows, (25, 75))
    left = dict(card["calibration"])
    for prefix, title in _FIGURES:
        some = {name: left.pop(name) for name in list(left) if name.startswith(prefix)}
        if some:
            lines += ["", f".. rubric:: {title}", ""]
            some = sorted(some.items(), key=lambda figure: _natural(figure[0]))
            lines += _table([(name, f"{value:.4g}") for name, value in some], (60, 40))
    return "\n".join(lines)


def _natural(name):
    """Sort by words first, then by the numbers among them."""
    numbers = [float(number) for number in re.findall(r"[\d.]*\d", name)]
    return re.sub(r"[\d.]*\d", "", name), numbers


def _table(rows, widths):
    lines = [".. list-table::", f"   :widths: {widths[0]} {widths[1]}", ""]
    for name, value in rows:
        lines += [f"   * - {name}", f"     - {value}"]
    return [*lines, ""]
