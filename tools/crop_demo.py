"""Crop the bundled demonstration recording from the public recording.

    python tools/crop_demo.py S001R04.edf

``S001R04.edf`` is subject 1, run 4 of the EEG Motor Movement/Imagery dataset of
PhysioNet. EDF stores data in records of one second. The cropped file consists of the
header with another number of records, and of the first records without any change.
"""

import argparse
from pathlib import Path

from mne_neuroflow.datasets.demo import DEMO

N_RECORDS = 54  # where a task period ends, so that no annotation is cut
_N_RECORDS_FIELD = slice(236, 244)
_HEADER_BYTES_FIELD = slice(184, 192)


def crop(edf, n_records):
    """Return the bytes of the first records of an EDF file."""
    header_bytes = int(edf[_HEADER_BYTES_FIELD])
    n_all = int(edf[_N_RECORDS_FIELD])
    record_bytes = (len(edf) - header_bytes) // n_all
    header = bytearray(edf[:header_bytes])
    header[_N_RECORDS_FIELD] = f"{n_records:<8d}".encode()
    return bytes(header) + edf[header_bytes : header_bytes + n_records * record_bytes]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("edf", type=Path)
    DEMO.write_bytes(crop(parser.parse_args().edf.read_bytes(), N_RECORDS))
