"""Write the figures that pages quote to ``doc/figures.json``, in sections.

Pages refer to them as ``:figure:`eight electrodes: coverage 0.90```. Each benchmark on
held-out simulation has ``--record SECTION``. Others call :func:`record`::

    record("two electrodes", {"coverage 0.90": (0.912, 0.011), "seconds": 3.2})
"""

import json
import math
from datetime import date
from pathlib import Path

from machine import machine

FIGURES = Path(__file__).parents[1] / "doc" / "figures.json"


def record(section, figures, fname=FIGURES, **facts):
    """Replace a section, and keep the others.

    Parameters
    ----------
    section : str
        Its name.
    figures : dict
        A value, or a value and its standard error, by name.
    fname : Path
        The file.
    **facts
        Further facts about the measurement, such as ``weights`` and their hash (None
        if it does not use any).
    """
    sections = json.loads(fname.read_text("utf-8")) if fname.is_file() else {}
    sections[section] = {
        **machine(),
        "date": date.today().isoformat(),
        **facts,
        "figures": as_written(figures),
    }
    text = json.dumps(dict(sorted(sections.items())), indent=1, ensure_ascii=False)
    fname.write_text(text + "\n", "utf-8")


def as_written(figures):
    """Return values and standard errors by name, as files have them."""
    pairs = {
        name: figure if isinstance(figure, tuple) else (figure, None)
        for name, figure in figures.items()
    }
    return {
        name: {"value": _rounded(value), "standard error": _rounded(error)}
        for name, (value, error) in pairs.items()
    }


def _rounded(number):
    if isinstance(number, int):  # a count
        return number
    # One recording has no standard error.
    return None if number is None or math.isnan(number) else round(float(number), 4)
