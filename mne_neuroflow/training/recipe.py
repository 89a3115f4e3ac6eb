"""Recipes of trainings: TOML files, checked before anything is computed.

A recipe has the seed, the shape of the flow, the patients, and the settings of the
optimizer. This module knows which fields a recipe has and what they may be. It must
never know what a training does with them.
"""

import math
import tomllib
from pathlib import Path

RECIPES = Path(__file__).parent / "recipes"
_N_LEVELS = 4  # wavelet levels of the flow


def _integer(least):
    return (
        f"an integer from {least}",
        lambda value: type(value) is int and least <= value < 2**63,
    )


def _number(text, check):
    return (
        text,
        lambda value: (
            type(value) in (int, float) and math.isfinite(value) and check(value)
        ),
    )


_POSITIVE = _number("a number above 0", lambda value: value > 0)
_FROM_ZERO = _number("a number from 0", lambda value: value >= 0)
_STEPS = (
    f"{_N_LEVELS} texts of the letters s, c and f",
    lambda value: (
        isinstance(value, list)
        and len(value) == _N_LEVELS
        and all(isinstance(text, str) and set(text) <= set("scf") for text in value)
    ),
)
_SIZES = (
    "pairs of integers from 1: contacts, patients",
    lambda value: (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(pair, list)
            and len(pair) == 2
            and all(type(n) is int and 1 <= n < 2**31 for n in pair)
            for pair in value
        )
    ),
)
_PRECISION = (
    "'highest', 'high' or 'medium'",
    lambda value: value in ("highest", "high", "medium"),
)
_FACTORS = (
    "a table of numbers from 0",
    lambda value: isinstance(value, dict) and all(map(_FROM_ZERO[1], value.values())),
)
_PATIENTS = {
    "seed": _integer(0),
    "sizes": _SIZES,
    "n_worlds": _integer(1),
    "n_shafts": _integer(1),
}
# What each field may be, as a text and a check. Tables have fields of their own.
_FIELDS = {
    "seed": _integer(0),
    "flow": {"width": _integer(1), "n_heads": _integer(1), "steps": _STEPS},
    "data": {
        "seconds": _integer(1),
        "contacts_a_batch": _integer(1),
        "patients": _PATIENTS,
        "held_out": _PATIENTS,
    },
    "training": {
        "steps": _integer(0),
        "learning_rate": _POSITIVE,
        "weight_decay": _FROM_ZERO,
        "warm_up": _integer(0),
        "clip": _POSITIVE,
        "average": _number("a number from 0, below 1", lambda value: 0 <= value < 1),
        "precision": _PRECISION,
        "evaluate_every": _integer(1),
        "evaluate_batches": _integer(1),
    },
}
_OPTIONAL = {
    "flow": {"n_moments": _integer(1)},
    "training": {"amplitude_spread": _FROM_ZERO, "eager": _FACTORS},
}


def load_recipe(name: str) -> dict:
    """Read a recipe by name or path, and check it.

    Parameters
    ----------
    name : str
        Name of a shipped recipe, or a TOML file.

    Returns
    -------
    recipe : dict
        Tables and values of the recipe.
    """
    fname = Path(name)
    if not fname.is_file():
        fname = RECIPES / f"{name}.toml"
    if not fname.is_file():
        known = sorted(path.stem for path in RECIPES.glob("*.toml"))
        raise ValueError(
            f"Invalid value for the 'recipe' parameter. Allowed values are a path or "
            f"one of {known}, but got {name!r} instead."
        )
    try:
        recipe = tomllib.loads(fname.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as err:
        raise ValueError(f"The recipe {fname} is not a TOML file: {err}.") from err
    _check_table(recipe, _FIELDS, _OPTIONAL, f"The recipe {fname}", "")
    flow = recipe["flow"]
    if flow["width"] % flow["n_heads"]:
        raise ValueError(
            f"The recipe {fname}: flow.width must be a multiple of flow.n_heads, but "
            f"got {flow['width']} and {flow['n_heads']}."
        )
    return recipe


def _check_table(table, required, optional, recipe, path):
    """Refuse unknown and missing fields, and values of another kind."""
    known = {**required, **{k: v for k, v in optional.items() if k not in required}}
    for key in table:
        if key not in known:
            raise ValueError(
                f"{recipe} has an unknown field: {path}{key}. Allowed are "
                f"{', '.join(f'{path}{name}' for name in known)}."
            )
    for key in required:
        if key not in table:
            raise ValueError(f"{recipe} lacks the field {path}{key}.")
    for key, value in table.items():
        if not isinstance(known[key], dict):
            text, is_right = known[key]
            if not is_right(value):
                raise ValueError(
                    f"{recipe}: {path}{key} must be {text}, but got {value!r}."
                )
        elif isinstance(value, dict):
            more = optional.get(key, {}) if not path else {}
            _check_table(value, known[key], more, recipe, f"{path}{key}.")
        else:
            raise ValueError(
                f"{recipe}: {path}{key} must be a table, but got {value!r}."
            )
