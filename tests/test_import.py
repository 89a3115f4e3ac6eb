"""What imports what: a light package, and rooms that keep to themselves."""

import ast
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import mne_neuroflow

PACKAGE = Path(mne_neuroflow.__file__).parent

# Ground floor first. A module may import from its own room and from lower ones.
ROOMS = [
    [
        "_compat",
        "_docs",
        "_files",
        "_text",
        "_threads",
        "contract",
        "moments",
    ],
    ["arguments", "good_time", "resampling", "scores"],
    ["_download"],
    ["head"],
    ["flow"],
    ["weights"],
    ["simulation"],
    ["training"],
    ["recording"],
    ["virtual"],
    ["scalp"],
    ["bipolar"],
    ["spatial"],
    ["ieeg"],
    ["flow_inputs"],
    ["predictor"],
    ["predict"],
    ["simulate", "sessions"],
    ["estimator"],
    ["evaluation"],
    ["compare", "export"],
    ["datasets", "viz", "stream", "_sys_info"],
    ["cohort"],
    ["cli"],
]
# What must not be imported, not even by way of another module of this package.
# Training and its needs run where MNE-Python is not installed.
FREE_OF_MNE = [
    "head.geometry",
    "head.leadfield",
    "head.posterior",
    "head.wiener",
    "flow",
    "simulation",
    "training",
    "weights.checkpoint",
    "scores.tensors",
    "good_time",
    "scalp.names",
    "scalp.positions",
]
FREE_OF_TORCH = [
    "head",
    "scalp",
    "spatial",
    "resampling",
    "recording",
    "virtual",
    "bipolar",
]
NEVER = {
    **dict.fromkeys(FREE_OF_MNE, {"mne", "nilearn"}),
    **dict.fromkeys(FREE_OF_TORCH, {"torch"}),
}
NEVER["simulation"] = NEVER["simulation"] | {"mne_neuroflow.flow"}
NEVER["scores"] = {"mne", "mne_neuroflow.flow"}


def _module_name(fname):
    parts = fname.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module_name(fname): fname for fname in sorted(PACKAGE.rglob("*.py"))}


@cache
def _imports(module):
    """Full names of all that a module imports, at its top or in a function."""
    fname = MODULES[module]
    package = ["mne_neuroflow", *module.split(".")]
    if fname.name != "__init__.py":
        package.pop()
    found = set()
    for node in ast.walk(ast.parse(fname.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
    return found


def _inner(name):
    """The module of this package that an imported name is or lies in, or None."""
    parts = name.split(".")[1:] if name.startswith("mne_neuroflow.") else []
    while parts and ".".join(parts) not in MODULES:
        parts.pop()
    return ".".join(parts) or None


def _reached(module, seen):
    """Everything that a module imports, directly or through this package."""
    seen.add(f"mne_neuroflow.{module}")
    for name in _imports(module):
        inner = _inner(name)
        if inner is None:
            seen.add(name)
        elif f"mne_neuroflow.{inner}" not in seen:
            _reached(inner, seen)
    return seen


def _is_in(name, room):
    return name == room or name.startswith(room + ".")


def _floor(module):
    """The floor of the narrowest room that holds the module."""
    floors = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
    around = [room for room in floors if _is_in(module, room)]
    assert around, f"{module} is in no room of the house"
    return floors[max(around, key=len)]


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_point_down(module):
    """Seen to fail with `from ..predict import predict_ieeg` in weights/fetch.py."""
    room = module.split(".")[0]
    for name in _imports(module):
        inner = _inner(name)
        if inner is not None and inner.split(".")[0] != room:
            assert _floor(inner) < _floor(module), f"{module} imports {inner}"


@pytest.mark.parametrize("room", NEVER)
def test_rooms_that_must_not_know(room):
    """Seen to fail with an MNE import in a function of head/leadfield.py, also for
    training, which reaches it only through others, and with torch in scalp/check.py.
    """
    members = [module for module in MODULES if _is_in(module, room)]
    assert members
    for module in members:
        for name in _reached(module, set()):
            guilty = [banned for banned in NEVER[room] if _is_in(name, banned)]
            assert not guilty, f"{module} reaches {name}"


def test_underscored_mne_names_live_in_compat():
    """Seen to fail with `from mne.utils import _check_option` in weights/fetch.py."""
    for module in set(MODULES) - {"_compat"}:
        for name in _imports(module):
            borrowed = name.startswith("mne.") and "._" in name
            assert not borrowed, f"{module} imports {name}"


def _run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_light():
    """Neither MNE-Python nor torch nor numpy is loaded before it is needed."""
    loaded = _run(
        "import sys, mne_neuroflow; dir(mne_neuroflow); "
        "print({'mne', 'torch', 'numpy', 'matplotlib'} & set(sys.modules))"
    )
    assert loaded == "set()\n"


def test_import_takes_no_longer_than_mne():
    """In one process each, best of three: mne_neuroflow, then MNE-Python."""
    code = (
        "import time; start = time.perf_counter(); import {}; "
        "print(time.perf_counter() - start)"
    )
    seconds = {
        name: min(float(_run(code.format(name))) for _ in range(3))
        for name in ("mne_neuroflow", "mne")
    }
    assert seconds["mne_neuroflow"] < 1.1 * seconds["mne"], seconds


# Finds nothing outside the standard library except what a bare training machine has.
_BARE = """
import importlib, sys

allowed = set("numpy scipy torch safetensors lazy_loader mne_neuroflow".split())
lacking = set("mne nilearn pooch matplotlib xarray pandas requests sklearn".split())

class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in lacking:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Bare())
for name in sys.argv[1].split():
    importlib.import_module(name)
"""


def test_training_needs_no_mne():
    """Everything that trains can be imported where MNE-Python is not installed."""
    rooms = tuple(FREE_OF_MNE)
    names = [
        f"mne_neuroflow.{module}"
        for module in MODULES
        if any(_is_in(module, room) for room in rooms) and "__main__" not in module
    ]
    done = subprocess.run(
        [sys.executable, "-c", _BARE, " ".join(names)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["", ".viz", ".datasets"])
def test_public_names_resolve(package):
    """What the stub of a package names is there, and the stub names it all.

    In a process of its own, so that nothing was imported before. Seen to fail with a
    name in a stub that its module does not have, and without ``datasets`` in
    the package's stub.
    """
    stub = PACKAGE / package.strip(".") / "__init__.pyi"
    names = {
        alias.asname or alias.name
        for node in ast.parse(stub.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = _run(
        f"import mne_neuroflow; package = mne_neuroflow{package}; "
        "[getattr(package, name) for name in dir(package)]; print(*package.__all__)"
    )
    assert set(found.split()) == names
    assert "__version__" in dir(mne_neuroflow)


def test_public_functions_say_what_comes_back():
    """Their annotation, which editors show.

    Seen to fail without that of sys_info.
    """
    for package in (mne_neuroflow, mne_neuroflow.viz):
        for name in package.__all__:
            public = getattr(package, name)
            for function in (
                vars(public).values() if isinstance(public, type) else [public]
            ):
                if inspect.isfunction(function) and function.__name__[0] != "_":
                    assert "return" in function.__annotations__, function


def test_stubs_declare_what_they_import():
    """A type checker takes ``__all__`` of a stub for its public names.

    Seen to fail without ``viz`` in the list of the package's stub.
    """
    for stub in sorted(PACKAGE.rglob("*.pyi")):
        tree = ast.parse(stub.read_text("utf-8"))
        (listed,) = (n.value for n in tree.body if isinstance(n, ast.Assign))
        imported = [
            alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        ]
        assert ast.literal_eval(listed) == sorted(imported), stub
