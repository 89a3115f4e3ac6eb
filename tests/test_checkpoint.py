"""Checkpoints: the same model comes back, and nothing else is taken for one."""

import ast
import copy
import hashlib
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.training.fit import prepare_data
from mne_neuroflow.weights import checkpoint
from mne_neuroflow.weights.checkpoint import (
    file_hash,
    load_checkpoint,
    save_checkpoint,
)
from mne_neuroflow.weights.model import Model, find_model

CARD = {
    "name": "tiny",
    "version": "1",
    "prior": "none",
    "training_budget": "none",
    "calibration": None,
    "licence": "BSD-3-Clause",
    "provenance": "a test",
}
CONFIG = FlowConfig(width=8, n_heads=2, steps=("s", "c", "f", "c"))


@pytest.fixture
def model():
    """A small flow, away from where it starts."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ConditionalFlow(CONFIG)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture
def fname(tmp_path, model):
    """The model, saved."""
    return save_checkpoint(tmp_path / "tiny.safetensors", model, CARD)


def _header(fname):
    return json.loads(checkpoint.safe_open(fname, "pt").metadata()["mne_neuroflow"])


def _rewrite(fname, **changes):
    """Save a checkpoint again with other entries in its header and a matching card."""
    header = {**_header(fname), **changes}
    save_file(load_file(fname), fname, {"mne_neuroflow": json.dumps(header)})
    _renew_card(fname)


def _emptied(model):
    model = copy.deepcopy(model)
    for tensor in model.state_dict().values():
        tensor.zero_()
    return model


def _renew_card(fname):
    card = json.loads(fname.with_suffix(".json").read_text())
    card["sha256"] = file_hash(fname)
    fname.with_suffix(".json").write_text(json.dumps(card))


def test_round_trip(fname, model):
    """Seen to fail when the weights are not loaded into the new model."""
    loaded, card = load_checkpoint(fname)
    assert not loaded.training
    assert loaded.config == CONFIG
    expected = model.state_dict()
    found = loaded.state_dict()
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name
    assert {key: card[key] for key in CARD} == CARD
    assert card["rate_hz"] == 128
    assert card["band_hz"] == [0.5, 50]
    assert card["sha256"] == file_hash(fname)
    assert "not a recording" in card["warning"]
    assert not [f for f in fname.parent.iterdir() if f.name.endswith("part")]


def test_half_precision(fname, model, tmp_path, monkeypatch):
    """Half the file; float32 again once loaded, to float16's 11 significant bits.

    Buffers keep every digit. Seen to fail when they are stored as float16, and (2**-11)
    when the weights are stored as bfloat16.
    """
    model.register_buffer("third", torch.tensor(1 / 3))
    monkeypatch.setattr(checkpoint, "_build_model", lambda _: _emptied(model))
    small = save_checkpoint(tmp_path / "half.safetensors", model, CARD, half=True)
    assert small.stat().st_size < 0.7 * fname.stat().st_size
    loaded, _ = load_checkpoint(small)
    for name, tensor in model.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == tensor.dtype
        rtol = 0 if name == "third" else 2**-11
        torch.testing.assert_close(found, tensor, rtol=rtol, atol=rtol / 1e4)


def test_half_precision_refuses_what_it_cannot_hold(model, tmp_path):
    next(model.parameters()).data.fill_(1e5)
    with pytest.raises(ValueError, match="beyond the range of float16"):
        save_checkpoint(tmp_path / "half.safetensors", model, CARD, half=True)
    assert list(tmp_path.iterdir()) == []


def test_same_model_same_file(fname, model, tmp_path):
    again = save_checkpoint(tmp_path / "again.safetensors", model, CARD)
    assert file_hash(again) == file_hash(fname)


def test_files_in_the_home_folder(model, tmp_path, monkeypatch):
    """Seen to fail where ~ was taken for the name of a folder."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    saved = save_checkpoint("~/mine.safetensors", model, CARD)
    assert saved == tmp_path / "mine.safetensors" and saved.is_file()
    assert Model("~/mine.safetensors").card == load_checkpoint(saved)[1]


def test_loading_leaves_the_random_state(fname):
    """Seen to fail without fork_rng around the making of the model."""
    before = torch.random.get_rng_state()
    load_checkpoint(fname)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_number_of_levels():
    """Weights of five levels say what is wrong.

    Seen to fail without the check: such weights end with an index out of range, or
    are read in part.
    """
    for steps in (("s",) * 3, ("s",) * 5):
        with pytest.raises(ValueError, match=r"each of the 4 wavelet levels, but got"):
            ConditionalFlow(replace(CONFIG, steps=steps))


def test_unknown_format_version(fname):
    _rewrite(fname, format_version=checkpoint.FORMAT_VERSION - 1)
    with pytest.raises(RuntimeError, match="format version 5.*reads format version 6"):
        load_checkpoint(fname)


def test_other_contract(fname):
    """Seen to fail when the contract is written but never compared."""
    _rewrite(fname, contract={**checkpoint.CONTRACT, "rate_hz": 256.0})
    with pytest.raises(RuntimeError, match="256.*128"):
        load_checkpoint(fname)


def test_weights_of_another_configuration(fname):
    """Seen to fail with strict=False."""
    tensors = load_file(fname)
    tensors["something.else"] = tensors.pop(next(iter(tensors)))
    header = json.dumps(_header(fname))
    save_file(tensors, fname, {"mne_neuroflow": header})
    _renew_card(fname)
    with pytest.raises(RuntimeError, match="something.else"):
        load_checkpoint(fname)


def test_foreign_files(fname):
    save_file({"x": torch.zeros(2)}, fname)
    _renew_card(fname)
    with pytest.raises(RuntimeError, match="none that mne_neuroflow has saved"):
        load_checkpoint(fname)
    fname.write_bytes(b"<html>not found</html>")
    _renew_card(fname)
    with pytest.raises(RuntimeError, match="not a safetensors file"):
        load_checkpoint(fname)


def test_damaged_weights(fname):
    """Seen to fail when the card's hash is not compared: one bit of one weight."""
    body = bytearray(fname.read_bytes())
    body[-1] ^= 1
    fname.write_bytes(body)
    with pytest.raises(RuntimeError, match=r"not the file.*tiny\.json describes"):
        load_checkpoint(fname)


@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_half_of_a_model(fname, ending):
    fname.with_suffix(ending).unlink()
    with pytest.raises(FileNotFoundError, match=f"tiny{ending} does not exist"):
        load_checkpoint(fname)


def test_incomplete_card(model, tmp_path):
    card = {key: value for key, value in CARD.items() if key != "prior"}
    with pytest.raises(ValueError, match=r"lacks the fields \['prior'\]"):
        save_checkpoint(tmp_path / "tiny.safetensors", model, card)


def test_other_ending(model, tmp_path):
    with pytest.raises(ValueError, match="'fname' parameter.*safetensors"):
        save_checkpoint(tmp_path / "tiny.pt", model, CARD)


def test_failed_save_keeps_the_earlier(fname, model, monkeypatch):
    """Seen to fail when the checkpoint is written under its final name."""
    before = fname.read_bytes(), fname.with_suffix(".json").read_bytes()
    card = {**CARD, "calibration": float("nan")}  # JSON has no such number
    next(model.parameters()).data.fill_(1.0)
    with pytest.raises(ValueError, match="JSON"):
        save_checkpoint(fname, model, card)
    assert (fname.read_bytes(), fname.with_suffix(".json").read_bytes()) == before
    assert len(list(fname.parent.iterdir())) == 2


def test_the_last_model_is_kept_until_its_files_change(fname, model):
    """Seen to fail without the files' stamp in the key of what is kept."""
    first = find_model(fname)
    assert find_model(str(fname)) is first
    assert find_model(first) is first
    assert Model.load(fname).flow is not first.flow
    with torch.no_grad():
        next(model.parameters()).add_(1)
    save_checkpoint(fname, model, CARD)
    second = find_model(fname)
    assert second.sha256 == file_hash(fname) != first.sha256
    fname.with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match="A model is two files"):
        find_model(fname)


def test_weights_are_hashed_once(fname, monkeypatch):
    """Until the file changes. Seen to fail without the memory of hashes."""
    read = []
    digest = hashlib.file_digest

    def counted(fid, kind):
        read.append(fid.name)
        return digest(fid, kind)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    os.utime(fname, (1, 1))
    for _ in range(3):
        Model.load(fname)
    assert len(read) == 1
    os.utime(fname, (2, 2))
    Model.load(fname)
    assert len(read) == 2


# Weights and models from others -------------------------------------------------------


def _with(fname, change):
    """Save with other tensors and a card that fits."""
    tensors, header = load_file(fname), _header(fname)
    change(tensors)
    save_file(tensors, fname, {"mne_neuroflow": json.dumps(header)})
    _renew_card(fname)


def _first(tensors):
    return next(name for name, t in tensors.items() if t.is_floating_point() and t.ndim)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda t: t.pop(_first(t)), "is missing"),
        (lambda t: t.update(extra=torch.zeros(3)), "extra is unknown"),
        (lambda t: t.update({_first(t): torch.zeros(7, 7, 7)}), "has the shape .7, 7"),
        (lambda t: t[_first(t)].fill_(torch.nan), "NaN or infinite"),
        (lambda t: t[_first(t)].view(-1)[:1].fill_(torch.inf), "NaN or infinite"),
    ],
)
def test_tensors_that_do_not_fit(fname, change, match, monkeypatch):
    """Refused before anything is computed; seen to fail without each check."""
    _with(fname, change)
    monkeypatch.setattr(ConditionalFlow, "condition", None)
    with pytest.raises(RuntimeError, match=match):
        load_checkpoint(fname)


@pytest.mark.parametrize(
    "config",
    [
        {},
        None,
        {"width": 10**9},
        {"width": -8},
        {"width": "8"},
        {"n_heads": 3},
        {"steps": ["s" * 10**6]},
        {"steps": ["x"]},
        {"unknown": 1},
        {"n_moments": 10**6},
    ],
)
def test_configurations_of_anybody(fname, config):
    """A billion of weights is refused before a byte of memory is taken for them."""
    if config:
        config = {**CONFIG.to_dict(), **config}
    _rewrite(fname, config=config)
    with pytest.raises(RuntimeError, match="configuration|do not fit"):
        load_checkpoint(fname)


def test_a_billion_of_elements(fname):
    """As the header of a file says that holds none of them."""
    body = fname.read_bytes()
    length = int.from_bytes(body[:8], "little")
    header = json.loads(body[8 : 8 + length])
    name = _first(load_file(fname))
    header[name]["shape"] = [10**5, 10**4]
    text = json.dumps(header).encode()
    fname.write_bytes(len(text).to_bytes(8, "little") + text + body[8 + length :])
    _renew_card(fname)
    with pytest.raises(RuntimeError, match="not a safetensors file"):
        load_checkpoint(fname)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "null", '{"sha256": 3}', "\x00", '{"sha256": "0"}']
)
def test_cards_of_anybody(fname, text):
    fname.with_suffix(".json").write_text(text)
    with pytest.raises(RuntimeError, match="card"):
        load_checkpoint(fname)


@pytest.mark.parametrize("header", ["", "[]", "{}", "null", "{", "3"])
def test_headers_of_anybody(fname, header):
    save_file(load_file(fname), fname, {"mne_neuroflow": header})
    _renew_card(fname)
    with pytest.raises(RuntimeError, match="header"):
        load_checkpoint(fname)


class _Payload:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("unpickled",))


def _unpickles(source):
    """Return the lines that read what can run code, or leave it open."""
    found = []
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        names, options, called = [], {}, ""
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
        wrong = bool(_CODE_RUNNERS.intersection(name.split(".")[0] for name in names))
        wrong |= called.endswith(("read_pickle", "jit.load"))
        wrong |= called == "torch.load" and options.get("weights_only") != "True"
        wrong |= options.get("allow_pickle", "False") != "False"
        if wrong:
            found.append(f"{source.name}:{node.lineno}")
    return found


_CODE_RUNNERS = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def test_nothing_is_unpickled(fname, tmp_path, monkeypatch):
    """Seen to fail with torch.load in a module of the package, and in a benchmark."""
    package = Path(checkpoint.__file__).parents[1]
    folders = [package, *(package.parent / name for name in ("benchmarks", "tools"))]
    sources = [source for folder in folders for source in folder.rglob("*.py")]
    assert len(sources) > 100
    assert not [line for source in sources for line in _unpickles(source)]
    monkeypatch.chdir(tmp_path)
    for save in (
        lambda: torch.save(_Payload(), fname),
        lambda: fname.write_bytes(pickle.dumps(_Payload())),
    ):
        save()
        _renew_card(fname)
        with pytest.raises(RuntimeError, match="not a safetensors file"):
            load_checkpoint(fname)
    # A file of patients, which a training keeps for itself.
    recipe, cache = {"data": {}, "seed": 0}, fname.with_suffix(".pt")
    torch.save([_Payload()], cache)
    with pytest.raises(pickle.UnpicklingError, match="Weights only"):
        prepare_data(recipe, "cpu", cache=cache)
    assert not (tmp_path / "unpickled").exists()
