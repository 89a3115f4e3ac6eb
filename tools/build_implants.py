"""Build the shipped implants, ``mne_neuroflow/head/implants/contacts.csv``.

    python tools/build_implants.py DS004752

where ``DS004752`` is the folder of OpenNeuro dataset ds004752 (CC0). Only the
``electrodes.tsv`` files are read. The head table must exist.

The implants of patients are copied. The virtual implant ``mtl`` is designed from them.
Each electrode family has the median direction of the real electrodes of its kind, both
sides together, and a target in the middle of its structure. Implants that were added to
the table by hand are kept, after these.
"""

import argparse
import csv
import re
from pathlib import Path

import numpy as np

from mne_neuroflow.head.contacts import IMPLANTS
from mne_neuroflow.head.geometry import inside_brain, load_head, nearest_structure

# Contact 1 on the right side, MNI mm, and the real electrodes whose direction is used.
# Targets are about 2 mm or less from a source of their structure in the template head.
# No real electrode has its target in the posterior parahippocampal gyrus, so the
# direction of its neighbour is used.
FAMILIES = {
    "A": ((21.0, -4.5, -20.0), "A"),
    "AH": ((25.5, -13.0, -20.0), "AH"),
    "PH": ((28.0, -28.0, -9.0), "PH"),
    "EC": ((24.0, -9.0, -35.0), "EC"),
    "PHG": ((22.5, -30.0, -21.0), "PH"),
}
SPACING = 5.0  # mm, centre to centre, as common depth electrodes have
N_CONTACTS = 8
CORE = ("amygdala", "hippocampus", "parahippocampal")
CORE_DISTANCE = 3e-3  # from the nearest source, half the mean spacing of real contacts


def read_real(folder):
    """Return implant -> {contact name: position in mm}."""
    implants = {}
    for subject in sorted(folder.glob("sub-*")):
        sessions = sorted(subject.glob("ses-*/ieeg/*_electrodes.tsv"))
        contents = {path.read_text() for path in sessions}
        if len(contents) != 1:
            raise RuntimeError(f"{subject.name}: electrodes differ between sessions.")
        rows = csv.DictReader(contents.pop().splitlines(), delimiter="\t")
        implants[f"ds004752-{subject.name}"] = {
            row["name"]: np.array([float(row[axis]) for axis in "xyz"])
            for row in rows
            if row["x"] != "n/a"
        }
    return implants


def median_direction(real, family):
    """Return the median unit vector from contact 1 to contact 8, on the right."""
    directions = []
    for contacts in real.values():
        for name, target in contacts.items():
            # _AHL1, mAHL1, AHL1: contact 1 of the family, left or right
            if re.fullmatch(rf"[m_]?{family}[LR]1", name) is None:
                continue
            entry = contacts.get(name[:-1] + str(N_CONTACTS))
            if entry is None:
                continue
            along = (entry - target) * [np.sign(target[0]), 1, 1]
            directions.append(along / np.linalg.norm(along))
    median = np.median(directions, axis=0)
    return median / np.linalg.norm(median), len(directions)


def design(real):
    """Return the contacts of the virtual implant."""
    contacts = {}
    for side, sign in (("L", -1), ("R", 1)):
        for family, (target, model) in FAMILIES.items():
            direction, _ = median_direction(real, model)
            for k in range(N_CONTACTS):
                position = np.array(target) + k * SPACING * direction
                contacts[f"v{family}{side}{k + 1}"] = position * [sign, 1, 1]
    return contacts


def core(contacts):
    """Return the contacts in the medial temporal lobe, the same ones on both sides."""
    positions = 1e-3 * np.array(list(contacts.values()))
    structures, distances = nearest_structure(load_head(), positions)
    inside = np.isin(structures, CORE) & (distances <= CORE_DISTANCE)
    # left contacts come first; the template is not quite symmetric
    inside = np.tile(inside.reshape(2, -1).any(axis=0), 2)
    return {
        name: contacts[name] for name, ok in zip(contacts, inside, strict=True) if ok
    }


def read_table(fname):
    """Return implant -> {contact name: position in mm}."""
    implants = {}
    with open(fname, newline="", encoding="utf-8") as fid:
        for row in csv.DictReader(fid):
            position = np.array([float(row[axis]) for axis in "xyz"])
            implants.setdefault(row["implant"], {})[row["name"]] = position
    return implants


def write_table(implants, fname):
    """Write one row per contact; 10 um is finer than any localisation."""
    with open(fname, "w", newline="", encoding="utf-8") as fid:
        writer = csv.writer(fid, lineterminator="\n")
        writer.writerow(["implant", "name", "x", "y", "z"])
        for implant, contacts in implants.items():
            for name, position in contacts.items():
                writer.writerow([implant, name, *(f"{v:.2f}" for v in position)])


def main():
    """Write the table, and print the contacts outside the inner skull."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", type=Path)
    real = read_real(parser.parse_args().dataset)
    virtual = design(real)
    implants = {"mtl": virtual, "mtl-core": core(virtual), **real}
    by_hand = {k: v for k, v in read_table(IMPLANTS).items() if k not in implants}
    implants |= by_hand
    write_table(implants, IMPLANTS)
    for family, (_, model) in FAMILIES.items():
        print(family, "direction", *median_direction(real, model))
    for implant, contacts in implants.items():
        inside = inside_brain(load_head(), 1e-3 * np.array(list(contacts.values())))
        outside = [n for n, ok in zip(contacts, inside, strict=True) if not ok]
        print(implant, len(contacts), "contacts, outside the inner skull:", outside)


if __name__ == "__main__":
    main()
