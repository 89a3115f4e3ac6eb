"""Figures in running text, from the files that commands have written.

``:card:`coverage 0.90``` gives a figure of the default model's card, so that no page
can say what another model measured, and ``:figure:`eight electrodes: coverage 0.90```
one of a section of ``doc/figures.json``, which benchmarks write (``--record``).
``.. recorded-figures:: cohorts,`` makes a table of each section that begins so.
"""

import inspect
import json
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective, SphinxRole

import mne_neuroflow
import mne_neuroflow.weights

CARDS = Path(mne_neuroflow.weights.__file__).parent / "data"
_FIGURES = Path(__file__).parents[1] / "figures.json"


def setup(app):
    """Register the roles."""
    app.add_role("card", _Role(of_card))
    app.add_role("figure", _Role(of_benchmark))
    app.add_directive("recorded-figures", RecordedFigures)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def read_card(name):
    """Read the card of a shipped model."""
    return json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8"))


def default_card():
    """Read the default model's card."""
    options = inspect.signature(mne_neuroflow.predict_ieeg).parameters
    return read_card(options["model"].default)


def of_card(text):
    """Write a figure of the default model's card, see :func:`written`."""
    return written(text, values(default_card()["calibration"]))


def of_benchmark(text):
    """Write a figure of a section of ``doc/figures.json``, see :func:`written`."""
    section, _, name = text.partition(": ")
    return written(name, values(read_sections()[section]["figures"]))


def values(figures):
    """Leave the standard errors out."""
    return {name: figure["value"] for name, figure in figures.items()}


def read_sections():
    """Read ``doc/figures.json``."""
    return json.loads(_FIGURES.read_text(encoding="utf-8"))


def written(name, figures):
    """Write a figure, or by how much one is smaller than another.

    ``coverage 0.90`` gives 88.8 %, ``r mean`` 0.26, a count no decimals, and ``crps
    flow < crps prior`` by how many percent the first is below the second.
    """
    smaller, _, larger = name.partition(" < ")
    if larger:
        return f"{100 * (1 - figures[smaller] / figures[larger]):.1f} %"
    if smaller.startswith("coverage"):
        return f"{100 * figures[smaller]:.1f} %"
    if smaller.endswith(", %"):
        return f"{figures[smaller]:.1f} %"
    digits = 0 if float(figures[smaller]).is_integer() else 2
    return f"{figures[smaller]:.{digits}f}".replace("-", "\N{MINUS SIGN}")


class _Role(SphinxRole):
    def __init__(self, write):
        super().__init__()
        self._write = write

    def run(self):
        text = self._write(self.text).replace(" ", "\N{NO-BREAK SPACE}")
        return [nodes.Text(text)], []


class RecordedFigures(SphinxDirective):
    """Tables of all figures in the sections whose names begin with the argument."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        """Make a table for each section."""
        lines = []
        for name, section in read_sections().items():
            if name.startswith(self.arguments[0]):
                lines += [*_table(name, section), ""]
        return self.parse_text_to_nodes(StringList(lines, "recorded-figures"))


def _table(name, section):
    yield f".. list-table:: {name}: ``{section['command']}``; {section['machine']}"
    yield from ("   :widths: 70 30", "")
    for title, figure in section["figures"].items():
        known = [figure[which] for which in ("value", "standard error")]
        known = [written(title, {title: each}) for each in known if each is not None]
        yield f"   * - {title.removesuffix(', %')}"
        yield "     - " + " \N{PLUS-MINUS SIGN} ".join(known)
