"""Figures in running text, from the files that commands have written.

``:card:`coverage 0.90``` gives a figure of the default model's card, so that no page
can say what another model measured, and ``:figure:`eight electrodes: coverage 0.90```
one of a section of ``doc/figures.json``, which benchmarks write (``--record``).
"""

import inspect
import json
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxRole

import mne_neuroflow
import mne_neuroflow.weights

CARDS = Path(mne_neuroflow.weights.__file__).parent / "data"
_FIGURES = Path(__file__).parents[1] / "figures.json"


def setup(app):
    """Register the roles."""
    app.add_role("card", _Role(of_card))
    app.add_role("figure", _Role(of_benchmark))
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
    return written(text, default_card()["calibration"])


def of_benchmark(text):
    """Write a figure of a section of ``doc/figures.json``, see :func:`written`."""
    section, _, name = text.partition(": ")
    figures = read_sections()[section]["figures"]
    return written(name, {key: each["value"] for key, each in figures.items()})


def read_sections():
    """Read ``doc/figures.json``."""
    return json.loads(_FIGURES.read_text(encoding="utf-8"))


def written(name, figures):
    """Write a figure, or by how much one is smaller than another.

    ``coverage 0.90`` gives 88.8 %, ``r mean`` 0.26, and ``crps flow < crps prior`` by
    how many percent the first is below the second.
    """
    smaller, _, larger = name.partition(" < ")
    if larger:
        return f"{100 * (1 - figures[smaller] / figures[larger]):.1f} %"
    if smaller.startswith("coverage"):
        return f"{100 * figures[smaller]:.1f} %"
    return f"{figures[smaller]:.2f}".replace("-", "\N{MINUS SIGN}")


class _Role(SphinxRole):
    def __init__(self, write):
        super().__init__()
        self._write = write

    def run(self):
        text = self._write(self.text).replace(" ", "\N{NO-BREAK SPACE}")
        return [nodes.Text(text)], []
