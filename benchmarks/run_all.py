"""Run every benchmark whose figures the package promises, one after the other.

Run ``python benchmarks/run_all.py``, which takes hours, or with ``--quick`` for a look
at the same tables from less data. ``mne-neuroflow benchmark`` and
``ablations.py``, which take longer, are not among them.
"""

import argparse
import subprocess
import sys
from pathlib import Path

# Script, and its options with --quick.
BENCHMARKS = (
    ("start_up.py", ["--repeats", "5", "--predictions", "1"]),
    ("sampling_speed.py", ["--minutes", "1"]),
    ("memory.py", ["--minutes", "2", "4"]),
    ("spatial_stage.py", ["--recordings", "12"]),
    ("held_out.py", ["--batches", "1"]),
    ("calibration.py", ["--batches", "1"]),
    ("fitting.py", ["--patients", "1", "--methods", "pretrained + fit"]),
    ("transfer.py", ["--patients", "3", "--draws", "8"]),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder = Path(__file__).parent
    failed = []
    for name, quick in BENCHMARKS:
        command = [sys.executable, str(folder / name), *(quick * options.quick)]
        if subprocess.run(command).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
