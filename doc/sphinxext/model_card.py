"""Model cards, from the files that ship with the weights.

``.. model-cards::`` writes a section for each shipped model.
"""

import re

from figures import CARDS, read_card
from sphinx.util.docutils import SphinxDirective

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
    ("crps over the prior", "CRPS over that of the prior (below 1 is better)"),
    ("crps", "CRPS in units of each contact's prior s.d. (lower is better)"),
    ("nll", "Negative log-density, nats per whitened sample (lower is better)"),
    ("", "Other figures"),
)


def setup(app):
    """Register the directive."""
    app.add_directive("model-cards", _ModelCards)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


class _ModelCards(SphinxDirective):
    """A section for each shipped model."""

    def run(self):
        text = "\n\n".join(
            _write_card(read_card(fname.stem)) for fname in sorted(CARDS.glob("*.json"))
        )
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def _write_card(card):
    lines = [card["name"], "-" * len(card["name"]), ""]
    low, high = card["band_hz"]
    signals = f"{card['units']}, {card['rate_hz']:g} Hz, {low:g}–{high:g} Hz"
    rows = [(label, card[key]) for key, label in _TEXTS]
    rows += [("Signals", signals), ("Reference", card["reference"])]
    command, _, conditions = card["measured_with"].partition("; ")
    rows += [("Figures below", f"``{command}``; {conditions}")]
    lines += _table(rows, (25, 75))
    left = dict(card["calibration"])
    for prefix, title in _FIGURES:
        some = {name: left.pop(name) for name in list(left) if name.startswith(prefix)}
        if some:
            lines += ["", f".. rubric:: {title}", ""]
            some = sorted(some.items(), key=lambda figure: _natural(figure[0]))
            lines += _table([(name, _written(each)) for name, each in some], (60, 40))
    return "\n".join(lines)


def _written(figure):
    value, error = figure["value"], figure["standard error"]
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def _natural(name):
    """Sort by words first, then by the numbers among them."""
    numbers = [float(number) for number in re.findall(r"[\d.]*\d", name)]
    return re.sub(r"[\d.]*\d", "", name), numbers


def _table(rows, widths):
    lines = [".. list-table::", f"   :widths: {widths[0]} {widths[1]}", ""]
    for name, value in rows:
        lines += [f"   * - {name}", f"     - {value}"]
    return [*lines, ""]
