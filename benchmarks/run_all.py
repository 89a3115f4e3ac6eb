"""Run all benchmarks whose figures the package promises.

Run ``python benchmarks/run_all.py``, which takes hours. ``--quick`` computes the same
tables from less data. ``mne-neuroflow benchmark`` and ``ablations.py`` take longer and
are not included.
"""

import argparse
import subprocess
import sys
from pathlib import Path

# Script, and its options with --quick. Those with None take long and are then left out.
BENCHMARKS = (
    ("start_up.py", ["--repeats", "5", "--predictions", "1"]),
    ("sampling_speed.py", ["--minutes", "1"]),
    ("memory.py", ["--minutes", "2", "4"]),
    ("spatial_stage.py", ["--recordings", "12"]),
    ("changes.py", ["--patients", "2"]),
    ("oracles.py", ["--recordings", "12"]),
    ("held_out.py", ["--batches", "1"]),
    ("calibration.py", ["--batches", "1"]),
    ("fitting.py", ["--patients", "1", "--methods", "pretrained + fit"]),
    ("transfer.py", ["--patients", "3", "--draws", "8"]),
    ("stream.py speed", []),
    ("stream.py delay", ["--seconds", "30"]),
    ("stream.py faults", ["--seconds", "120"]),
    ("stream.py skill", None),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    folder = Path(__file__).parent
    failed = []
    for name, quick in BENCHMARKS:
        if options.quick and quick is None:
            continue
        script, *part = name.split()
        more = quick if options.quick else []
        command = [sys.executable, str(folder / script), *part, *more]
        if subprocess.run(command).returncode:
            failed.append(name)
        print(flush=True)
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
