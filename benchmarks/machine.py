"""What every benchmark prints with its figures."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def machine():
    """Tell the command, the machine and the versions.

    Returns
    -------
    told : dict
        ``command``, ``machine`` and ``versions``, each a line of text.
    """
    command = ["benchmarks/" + Path(sys.argv[0]).name, *sys.argv[1:]]
    python = f"Python {platform.python_version()}"
    names = ("mne_neuroflow", "mne", "torch", "numpy", "scipy")
    return {
        "command": " ".join(["python", *command]),
        "machine": f"{_processor()}, {os.cpu_count()} cores; {python}",
        "versions": ", ".join(f"{name} {version(name)}" for name in names),
    }


def print_machine():
    """Print the command, the machine and the versions."""
    told = machine()
    print(f"$ {told['command']}", told["machine"], told["versions"], sep="\n")


def _processor():
    """Name of the processor, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
