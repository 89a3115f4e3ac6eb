"""The figures that the pages quote: one section of ``doc/figures.json`` a benchmark.

Pages write ``:figure:`eight electrodes: coverage 0.90``` and get what was measured.
Every benchmark on held-out simulation has ``--record SECTION``; any other calls
:func:`record`::

    record("two electrodes", {"coverage 0.90": (0.912, 0.011), "seconds": 3.2})
"""

import json
import math
from datetime import date
from pathlib import Path

from machine import machine

FIGURES = Path(__file__).parents[1] / "doc" / "figures.json"


def record(section, figures, fname=FIGURES, **facts):
    """Replace a section, and leave the others as they are.

    Parameters
    ----------
    section : str
        Its name.
    figures : dict
        By name, a value, or a value and its standard error.
    fname : Path
        The file.
    **facts
        What else belongs to the measurement, as ``weights`` and their hash.
    """
    sections = json.loads(fname.read_text("utf-8")) if fname.is_file() else {}
    pairs = {
        name: figure if isinstance(figure, tuple) else (figure, None)
        for name, figure in figures.items()
    }
    sections[section] = {
        **machine(),
        "date": date.today().isoformat(),
        **facts,
        "figures": {
            name: {"value": _rounded(value), "standard error": _rounded(error)}
            for name, (value, error) in pairs.items()
        },
    }
    text = json.dumps(dict(sorted(sections.items())), indent=1, ensure_ascii=False)
    fname.write_text(text + "\n", "utf-8")


def _rounded(number):
    # Of one recording there is no standard error.
    return None if number is None or math.isnan(number) else round(float(number), 4)
