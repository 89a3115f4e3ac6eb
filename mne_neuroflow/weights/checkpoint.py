"""Checkpoints: weights in a safetensors file, and a model card beside it.

The weights file is sufficient to rebuild the model. Its safetensors metadata contain
the format version, the configuration and the contract. They are one JSON text under one
key, because safetensors writes several keys in arbitrary order, and the same model must
always give the same file and hash.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import fields
from datetime import date
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file

from .._files import draft_folder, file_hash, locked
from .._text import listed
from ..contract import CONTRACT
from ..head.ridge import ContactFit, LaggedMap

FORMAT_VERSION = 6
WARNING = "Research use; a prediction, not a recording; not for diagnosis."

_CARD_FIELDS = (
    "name",
    "version",
    "prior",
    "training_budget",
    "calibration",
    "licence",
    "provenance",
)
# Of a configuration, far beyond what any model has.
_LARGEST, _LARGEST_STEPS = 4096, 32
_METADATA_KEY = "mne_neuroflow"
# In a card, while weights are replaced: the card of the weights that were there.
_REPLACES = "replaces"
_FIT = "fit.{}."
_PER_CONTACT = ("positions", "calibration", "amplitude")
_LAGGED = tuple(field.name for field in fields(LaggedMap))


def save_checkpoint(fname, model, card, *, half=False, contact_fits=()):
    """Write a model's weights and its model card.

    An existing checkpoint of the same name is replaced. Both files are written into a
    temporary folder first, and whoever reads them finds the old or the new checkpoint,
    also after an interruption.

    Parameters
    ----------
    fname : path-like
        The weights file, whose name ends with ``.safetensors``. The card has the same
        name with ``.json``.
    model : ConditionalFlow
        The model, on any device.
    card : dict
        The model card: ``name``, ``version``, ``prior``, ``training_budget``,
        ``calibration`` (the measured figures, or ``None``), ``licence``,
        ``provenance``, and any other JSON values. The contract, the warning, the sha256
        of the weights and, if missing, today's date are added.
    half : bool
        Whether to store the weights as float16, which halves the size of the file. They
        are float32 after loading.
    contact_fits : sequence of ContactFit
        The contact fits, which are stored in the weights file.

    Returns
    -------
    fname : pathlib.Path
        The weights file.

    Examples
    --------
    >>> save_checkpoint("runs/mtl.safetensors", model, card)  # doctest: +SKIP
    """
    fname = _checked_name(fname)
    missing = [field for field in _CARD_FIELDS if field not in card]
    if missing:
        raise ValueError(
            f"The model card lacks the fields {missing}. It must have "
            f"{list(_CARD_FIELDS)}."
        )
    tensors, metadata = _contents(model, half, contact_fits)
    with draft_folder(fname.parent) as draft:
        part = draft / fname.name
        save_file(tensors, part, metadata)
        card = {
            **{key: value for key, value in card.items() if key != _REPLACES},
            **CONTRACT,
            "date": card.get("date", date.today().isoformat()),
            "warning": WARNING,
            "sha256": file_hash(part),
        }
        _put_in_place(fname, part, card)
    return fname


def _put_in_place(fname, part, card):
    """Replace weights and card, such that the two fit at every moment."""
    card_name, card_part = (name.with_suffix(".json") for name in (fname, part))

    def put_card(text):
        card_part.write_text(text, encoding="utf-8")
        card_part.replace(card_name)

    text = _card_text(card)
    with locked(fname.parent):
        if fname.is_file() and card_name.is_file():
            with suppress(RuntimeError):  # of two that did not fit before
                put_card(_card_text({**card, _REPLACES: _read_card(fname)}))
        part.replace(fname)
        put_card(text)


def _card_text(card):
    return json.dumps(card, indent=2, allow_nan=False) + "\n"


def load_checkpoint(fname, device="cpu"):
    """Read a model and its card.

    Parameters
    ----------
    fname : path-like
        The weights file, which ends with ``.safetensors``. Its card is beside it.
    device : str | torch.device
        The device of the model.

    Returns
    -------
    model : ConditionalFlow
        The model in evaluation mode, float32.
    card : dict
        The model card.

    Examples
    --------
    >>> model, card = load_checkpoint("runs/mtl.safetensors")  # doctest: +SKIP
    """
    fname = _checked_name(fname)
    card = _read_card(fname)
    header = _read_header(fname)
    _check_shapes(fname, header["config"])
    tensors = {
        name: tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in load_file(fname).items()
        if not name.startswith("fit.")
    }
    _check_numbers(fname, tensors)
    model = _build_model(header["config"])
    model.load_state_dict(tensors, strict=True)
    # Not the caller's default dtype, in which it was built.
    return model.to(device, torch.float32).eval(), card


def load_contact_fits(fname):
    """Read the contact fits of a weights file.

    Parameters
    ----------
    fname : path-like
        The weights file.

    Returns
    -------
    contact_fits : list of ContactFit
        The contact fits. The list is empty if the model was not fitted.
    """
    fname = _checked_name(fname)
    header, contact_fits = _read_header(fname), []
    known = header.get("contact_fits", [])
    tensors = load_file(fname) if known else {}
    _check_fits(fname, known, tensors)
    for number, names in enumerate(known):
        prefix = _FIT.format(number)
        arrays = {
            name.removeprefix(prefix): tensor.numpy()
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
        positions, calibration, amplitude = (arrays.pop(key) for key in _PER_CONTACT)
        lagged = LaggedMap(**arrays) if arrays else None
        contact_fits.append(
            ContactFit(
                names["ch_names"],
                positions,
                names["electrodes"],
                lagged,
                calibration,
                amplitude,
                names["gain"],
            )
        )
    return contact_fits


def untrained_card():
    """Make the card of an untrained model.

    Returns
    -------
    card : dict
        A card with all required fields.
    """
    return {
        **dict.fromkeys(_CARD_FIELDS, "none"),
        "name": "untrained",
        "version": "0",
        "calibration": None,
    }


def fingerprint(model, contact_fits=()):
    """Compute the sha256 of the weights file of a model before it is saved.

    Parameters
    ----------
    model : ConditionalFlow
        The model.
    contact_fits : sequence of ContactFit
        Its contact fits.

    Returns
    -------
    sha256 : str
        The hash as 64 hexadecimal digits.
    """
    return hashlib.sha256(save(*_contents(model, False, contact_fits))).hexdigest()


def _contents(model, half, contact_fits):
    """Return the tensors and metadata of a weights file."""
    # Only trained weights may lose digits, because buffers contain exact constants.
    learned = dict(model.named_parameters())
    tensors = {
        name: _stored(name, tensor, half and name in learned)
        for name, tensor in model.state_dict().items()
    }
    header = {
        "format_version": FORMAT_VERSION,
        "config": model.config.to_dict(),
        "contract": CONTRACT,
    }
    if contact_fits:
        names = ("ch_names", "electrodes", "gain")
        header["contact_fits"] = [
            {name: getattr(contact_fit, name) for name in names}
            for contact_fit in contact_fits
        ]
    for number, contact_fit in enumerate(contact_fits):
        arrays = {name: getattr(contact_fit, name) for name in _PER_CONTACT}
        if contact_fit.lagged is not None:
            arrays |= {name: getattr(contact_fit.lagged, name) for name in _LAGGED}
        for name, array in arrays.items():
            tensor = torch.as_tensor(np.array(array, np.float64, order="C"))
            tensors[_FIT.format(number) + name] = tensor
    return tensors, {_METADATA_KEY: json.dumps(header, sort_keys=True)}


def _checked_name(fname):
    fname = Path(fname).expanduser()
    if fname.suffix != ".safetensors":
        raise ValueError(
            "Invalid value for the 'fname' parameter. The name of a weights file ends "
            f"with '.safetensors', but got {str(fname)!r}."
        )
    return fname


def _stored(name, tensor, half):
    # Make a copy, because safetensors refuses tensors that share memory.
    tensor = tensor.detach().cpu().contiguous().clone()
    if not half:
        return tensor
    stored = tensor.half()
    if torch.isinf(stored).any() and not torch.isinf(tensor).any():
        raise ValueError(
            f"The weights {name!r} reach {tensor.abs().max():.3g}, beyond the range of "
            "float16 (65504). Use half=False."
        )
    return stored


def _read_card(fname):
    card_name = fname.with_suffix(".json")
    for needed in (fname, card_name):
        if not needed.is_file():
            raise FileNotFoundError(
                f"{needed} does not exist. A model is two files, {fname.name} and "
                f"{card_name.name}, in one folder."
            )
    try:
        card = json.loads(card_name.read_text(encoding="utf-8"))
        expected = card["sha256"]
    except (ValueError, KeyError, TypeError) as err:
        raise RuntimeError(
            f"{card_name} is no model card: it must be JSON with the entry 'sha256', "
            "beside others. Fetch or save the model again."
        ) from err
    found = file_hash(fname)
    replaced = card.get(_REPLACES)
    if isinstance(replaced, dict) and replaced.get("sha256") == found:
        return replaced
    if expected != found:
        raise RuntimeError(
            f"{fname} is not the file that its model card {card_name.name} describes: "
            f"its sha256 is {found}, the card says {expected}. One of the two is "
            "damaged or of another version; fetch or save both again."
        )
    return card


def _read_header(fname):
    try:
        with safe_open(fname, "pt") as fid:
            metadata = fid.metadata() or {}
    except SafetensorError as err:
        raise RuntimeError(
            f"{fname} is not a safetensors file ({err}). Fetch or save it again."
        ) from err
    if _METADATA_KEY not in metadata:
        raise RuntimeError(
            f"{fname} holds weights, but none that mne_neuroflow has saved: its "
            f"metadata lacks {_METADATA_KEY!r}."
        )
    try:
        header = json.loads(metadata[_METADATA_KEY])
        lacking = {"format_version", "contract", "config"}.difference(header.keys())
    except (ValueError, AttributeError) as err:
        raise RuntimeError(
            f"The header of {fname} is damaged. Fetch or save it again."
        ) from err
    if lacking:
        raise RuntimeError(f"The header of {fname} lacks {sorted(lacking)}.")
    if header["format_version"] != FORMAT_VERSION:
        raise RuntimeError(
            f"{fname} has the format version {header['format_version']}, but this "
            f"version of mne_neuroflow reads format version {FORMAT_VERSION}. Install "
            "the version of mne_neuroflow that the model card names, or fetch a model "
            "that this version lists."
        )
    if header["contract"] != CONTRACT:
        raise RuntimeError(
            f"{fname} was built for {header['contract']}, but this version of "
            f"mne_neuroflow prepares data as {CONTRACT}. Fetch a model that this "
            "version lists."
        )
    return header


def _check_shapes(fname, config):
    """Compare the shapes of a file's tensors with those of its model."""
    expected = _expected_shapes(fname, config)
    with safe_open(fname, "pt") as fid:
        found = {
            name: tuple(fid.get_slice(name).get_shape())
            for name in fid.keys()  # noqa: SIM118
            if not name.startswith("fit.")
        }
    wrong = [
        *(f"{name} is missing" for name in expected if name not in found),
        *(f"{name} is unknown" for name in found if name not in expected),
        *(
            f"{name} has the shape {found[name]} instead of {shape}"
            for name, shape in expected.items()
            if found.get(name, shape) != shape
        ),
    ]
    if wrong:
        raise RuntimeError(
            f"The weights in {fname} do not fit the model that its header describes: "
            f"{listed(wrong)}. Fetch or save it again."
        )


def _expected_shapes(fname, config):
    """Build the model without memory for its weights, and return their shapes."""
    try:
        sizes = [config[key] for key in ("width", "n_heads", "n_moments")]
        steps = [len(step) for step in config["steps"]]
        small = all(isinstance(n, int) and 0 < n <= _LARGEST for n in sizes)
        if not small or len(steps) > _LARGEST_STEPS or max(steps) > _LARGEST_STEPS:
            raise ValueError(f"sizes beyond {_LARGEST}")
        with torch.device("meta"):
            model = _build_model(config)
    except Exception as err:  # whatever a configuration of anybody's can lead to
        raise RuntimeError(
            f"The configuration in {fname} is none of a model: {config} ({err})."
        ) from err
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _check_numbers(fname, tensors):
    """Refuse weights that are not finite."""
    wrong = [name for name, t in tensors.items() if not torch.isfinite(t).all()]
    if wrong:
        raise RuntimeError(
            f"{fname} holds NaN or infinite weights in {listed(wrong)}. Fetch or save "
            "it again."
        )


def _check_fits(fname, known, tensors):
    """Refuse contact fits that do not match the contacts in the header."""
    stored = {k: t for k, t in tensors.items() if k.startswith("fit.")}
    _check_numbers(fname, stored)
    try:
        for number, names in enumerate(known):
            prefix, n = _FIT.format(number), len(names["ch_names"])
            for key in _PER_CONTACT:
                if len(stored[prefix + key]) != n:
                    raise ValueError(f"{prefix}{key} is not of {n} contacts")
            lagged = [key for key in _LAGGED if prefix + key in stored]
            if lagged and len(lagged) != len(_LAGGED):
                raise ValueError(f"{prefix} is half of a map")
            if lagged and not names["electrodes"]:
                raise ValueError(f"{prefix} names no electrodes")
            if names["gain"] is not None and not 0 < names["gain"] < np.inf:
                raise ValueError(f"{prefix} has the gain {names['gain']}")
    except (KeyError, TypeError, ValueError) as err:
        raise RuntimeError(
            f"What {fname} says of patients does not fit its header: {err}. Fit again."
        ) from err


def _build_model(config):
    from ..flow.model import ConditionalFlow, FlowConfig

    # The weights drawn here are overwritten at once: they must not cost the caller
    # a step of the global random state.
    with torch.random.fork_rng(devices=[]):
        return ConditionalFlow(FlowConfig.from_dict(config))
