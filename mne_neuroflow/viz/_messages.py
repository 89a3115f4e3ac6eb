"""Texts of pages beside their figures: the caution, and what checks have found."""

import warnings
from contextlib import contextmanager
from importlib.metadata import version

from mne.utils import catch_logging

from .._compat import logger, warn

CAUTION = "This is a prediction for research, not a recording, and not for diagnosis."
_REASONS = (
    "No electrode was in this brain where this page shows one. The signals were "
    "computed from scalp EEG by a model that was trained on simulations{fitted}. Most "
    "of the activity of deep structures leaves no trace on the scalp; there, the model "
    "shows what is plausible, not what was. Nothing here may be used for diagnosis, "
    "for planning an operation or for any other decision about a patient."
)


def reasons(model):
    """Say why the page must not be taken for a recording.

    Parameters
    ----------
    model : Model
        What predicted.

    Returns
    -------
    text : str
        What follows :data:`CAUTION`.
    """
    pairs = model.card.get("pairs")
    return _REASONS.format(fitted=" and fitted to recordings" if pairs else " alone")


@contextmanager
def kept_messages():
    """Keep what is logged and warned of, and say it to the user too afterwards.

    Yields
    ------
    messages : dict of str -> list of str
        ``'log'`` and ``'warnings'``, filled when the context ends.
    """
    messages = {"log": [], "warnings": []}
    with warnings.catch_warnings(record=True) as caught, catch_logging(True) as log:
        warnings.simplefilter("always")
        yield messages
    messages["log"] += log.getvalue().splitlines()
    for line in messages["log"]:
        logger.info(line)
    said = {str(one.message): one.category for one in caught}  # each of them once
    messages["warnings"] += said
    for text, category in said.items():
        warn(text, category)


def provenance_rows(description, draws, model):
    """Describe how a page was made.

    Parameters
    ----------
    description : str
        Of what was predicted, as draws and virtual recordings carry it.
    draws : str
        How many, and of which seconds.
    model : Model
        What predicted.

    Returns
    -------
    rows : dict of str -> str
        A text for each heading.
    """
    card = model.card
    return {
        "What": description,
        "Draws": draws,
        "Model": f"{card['name']}, version {card['version']}",
        "Trained on": card["prior"],
        "Training": ", ".join(
            filter(None, [card.get("date"), card["training_budget"]])
        ),
        "Fitted to": "; ".join(map(_as_text, card.get("pairs", []))) or "no recordings",
        "Model's licence": card["licence"],
        "Software": ", ".join(
            f"{name} {version(name)}" for name in ("mne-neuroflow", "mne", "torch")
        ),
    }


def _as_text(entry):
    """Write an entry of the model card: what was fitted to pairs, and how."""
    return ", ".join(f"{key}: {value}" for key, value in entry.items())
