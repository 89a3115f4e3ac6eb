"""Description of command, machine and versions, which all benchmarks print."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path


def machine():
    """Describe the command, the machine and the versions.

    Returns
    -------
    facts : dict
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
    facts = machine()
    print(f"$ {facts['command']}", facts["machine"], facts["versions"], sep="\n")


def _processor():
    """Return the name of the processor, if the system has it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":")[1].strip()
    return platform.processor() or platform.machine()
