"""Information for bug reports."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

_WEIGHTS = Path(__file__).parent / "weights" / "data"


def sys_info(fid=None) -> None:
    """Print versions, machine and shipped weights.

    Parameters
    ----------
    fid : file-like | None
        The file to print to. ``None`` is the standard output.

    Notes
    -----
    Versions are read from the metadata of installed packages. This is fast, and works
    even if a package cannot be imported.

    Examples
    --------
    >>> import mne_neuroflow
    >>> mne_neuroflow.sys_info()  # doctest: +ELLIPSIS
    mne_neuroflow...
    """
    from . import __version__

    rows = {
        "mne_neuroflow": __version__,
        "Platform": platform.platform(),
        "Python": sys.version.split()[0],
        "Executable": sys.executable,
        "CPU cores": os.cpu_count(),
        "GPU": ", ".join(_gpus()) or "none found",
        **{package: _version(package) for package in _needed()},
        "Weights": ", ".join(_weights()) or "none shipped",
    }
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        print(f"{name + ':':<{width}}{value}", file=fid)


def _needed():
    """Return the names of the packages that this one needs at run time."""
    needed = requires("mne-neuroflow") or []
    return [re.match(r"[\w.-]+", one)[0] for one in needed if "extra ==" not in one]


def _version(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _weights():
    return [
        f"{path.stem} ({path.stat().st_size / 1e6:.1f} MB)"
        for path in sorted(_WEIGHTS.glob("*.safetensors"))
    ]


def _gpus():
    """Return the names of the NVIDIA GPUs, which the flow can use."""
    try:
        return subprocess.run(
            ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
