"""What users get: a source distribution, and a wheel that is built from it."""

import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mne_neuroflow import __version__

ROOT = Path(__file__).parents[1]
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("needs the files of the repository", allow_module_level=True)
pytest.importorskip("build")
pytest.importorskip("setuptools", "77")
# What the build reads beside the package itself.
NEEDED = ("pyproject.toml", "README.rst", "LICENSE", "MANIFEST.in")


def files_of(folder):
    """Name the files in a folder, but for what Python writes there by itself."""
    return {
        fname.relative_to(folder).as_posix()
        for fname in folder.rglob("*")
        if fname.is_file() and "__pycache__" not in fname.parts
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build both from a copy of the clone, without a network."""
    folder = tmp_path_factory.mktemp("source")
    for name in NEEDED:
        shutil.copy(ROOT / name, folder)
    leave = shutil.ignore_patterns("__pycache__")
    for name in ("mne_neuroflow", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    command = [sys.executable, "-m", "build", "--no-isolation", str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_sdist_has_the_package_and_what_builds_it(built):
    """Seen to fail without MANIFEST.in, when some of the tests come along."""
    with tarfile.open(built[0]) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    names = {name for name in names if ".egg-info/" not in name}
    package = {f"mne_neuroflow/{name}" for name in files_of(ROOT / "mne_neuroflow")}
    assert names == package | {*NEEDED, "PKG-INFO", "setup.cfg"}


@pytest.mark.slow
def test_wheel_in_an_empty_environment(built, tmp_path):
    """Every file of the package, its metadata and its command, and nothing else.

    Seen to fail without ``**/*.npz`` among the package's data, and without the command.
    """
    command = "-m pip install --quiet --no-deps --no-index --no-compile --target"
    command = [sys.executable, *command.split(), str(tmp_path), str(built[1])]
    subprocess.run(command, check=True, capture_output=True)
    installed = files_of(tmp_path / "mne_neuroflow")
    assert installed == files_of(ROOT / "mne_neuroflow")
    for needed in ("py.typed", "__init__.pyi", "weights/data/mtl-v2.safetensors"):
        assert needed in installed
    others = {fname.name for fname in tmp_path.iterdir()} - {"mne_neuroflow", "bin"}
    assert [name.partition("-")[2] for name in others] == [f"{__version__}.dist-info"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (script,) = (tmp_path / "bin").iterdir()
    assert script.stem == "mne-neuroflow"
    done = subprocess.run(
        [sys.executable, script, "--help"],
        env=environment,
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert "predict" in done.stdout
