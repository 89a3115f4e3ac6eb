"""Measure the amplitude of simulated spikes on the scalp relative to the contacts.

Run ``python benchmarks/amplitudes.py``, which takes some seconds per virtual patient.
``doc/decisions/prior.md`` compares the results with published values. Spikes of a
mesial focus are averaged at their known peaks. The results are the largest potential of
any scalp electrode (average reference, without artifacts) and of any contact within 50
ms, and the remaining background in such an average.

``--sources`` uses only the head model. For each mesial source, it computes the ratio of
the largest potential at the contacts of the implant, or 4 mm from its centre, to the
largest potential on the scalp. This ratio does not depend on the strength of a source,
but only on the positions of sources and contacts and on the extent of sources.
"""

import argparse

import mne
import numpy as np
import pandas as pd
from machine import print_machine

import mne_neuroflow
from mne_neuroflow.head.contacts import contact_positions
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.leadfield import contact_lead_field, scalp_lead_field
from mne_neuroflow.head.posterior import source_generators
from mne_neuroflow.scalp.electrodes import find_electrodes

AROUND = 0.05  # seconds
SOURCES = 20  # of each structure and length scale
# Of the generators' groups: see source_generators().
SCALES = ("cortex, short", "cortex, long", "cortex, longest", "short", "long")


def main():
    mne.set_log_level("error")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--montage", default="64")
    parser.add_argument("--sources", action="store_true")
    options = parser.parse_args()
    if options.sources:
        report_sources(options.montage)
        return
    rows = []
    for seed in range(options.patients):
        scalp, ieeg = mne_neuroflow.simulate_pair(
            contacts="mtl",
            montage=options.montage,
            duration=60 * options.minutes,
            scenario="spikes",
            artifacts=False,
            random_state=seed,
            verbose="error",
        )
        times = spike_times(ieeg)
        if len(times) >= 5:
            rows.append(measure(scalp, ieeg, times))
    print_machine()
    report(pd.DataFrame(rows))


def spike_times(raw):
    """Return the times of all spikes that are far enough from both ends."""
    annotations = raw.annotations
    spikes = [text.startswith("spike") for text in annotations.description]
    times = annotations.onset[np.array(spikes, bool)] - raw.first_time
    return times[(times > 1) & (times < raw.times[-1] - 1)]


def measure(scalp, ieeg, times):
    """Return the largest averaged potential on the scalp and inside, microvolts."""
    peaks = {}
    for name, raw in (("scalp", scalp), ("inside", ieeg)):
        events = np.c_[raw.time_as_index(times), np.zeros((len(times), 2), int)]
        epochs = mne.Epochs(
            raw,
            events,
            tmin=-0.3,
            tmax=2 * AROUND,
            baseline=(-0.3, -0.15),
            event_repeated="drop",
            preload=True,
            picks="data",
            verbose="error",
        )
        data = epochs.get_data(tmin=-AROUND, tmax=AROUND)
        # With the sign of every other spike reversed, only the background remains.
        signs = (-1.0) ** np.arange(len(data))
        peaks[name] = 1e6 * np.abs(data.mean(axis=0)).max()
        left = np.tensordot(signs, data, 1) / len(data)
        peaks[f"{name} background"] = 1e6 * np.abs(left).max()
    return {"n": len(times), **peaks, "ratio": peaks["inside"] / peaks["scalp"]}


def report(table):
    """Print the 5th, 50th and 95th percentile over patients."""
    print(f"{len(table)} virtual patients, {table['n'].sum()} spikes")
    shares = table.quantile([0.05, 0.5, 0.95])
    print(shares.round(1).to_string())


def report_sources(montage):
    """Print ratios of potentials of single sources inside to those on the scalp."""
    head = load_head()
    generators = source_generators(head)
    scalp, _ = mne_neuroflow.simulate_pair(
        contacts="mtl-core", montage=montage, duration=2, random_state=0
    )
    _, electrodes = find_electrodes(scalp.info)
    implant = contact_positions(mne_neuroflow.make_contacts("mtl"))[1]
    rng = np.random.default_rng(0)
    rows = []
    for structure in ("hippocampus", "amygdala", "parahippocampal"):
        for group in np.unique(generators.group[generators.structure == structure]):
            here = (generators.structure == structure) & (generators.group == group)
            some = rng.permutation(np.flatnonzero(here))[:SOURCES]
            factor = generators.factor[:, some]
            outside = scalp_lead_field(head, electrodes) @ factor
            outside = np.abs(outside - outside.mean(axis=0)).max(axis=0)
            at_implant = np.abs(contact_lead_field(head, implant) @ factor).max(axis=0)
            beside = [
                np.abs(contact_lead_field(head, around(place, rng)) @ each).max()
                for place, each in zip(generators.centre[some], factor.T, strict=True)
            ]
            for where, inside in (("implant", at_implant), ("4 mm", beside)):
                ratio = np.percentile(np.array(inside) / outside, [5, 50, 95])
                rows.append((structure, SCALES[group], len(some), where, *ratio))
    print_machine()
    columns = ["structure", "sources", "n", "contacts", "5 %", "50 %", "95 %"]
    print(pd.DataFrame(rows, columns=columns).round(0).to_string(index=False))


def around(place, rng):
    """Return twelve contacts 4 mm from the centre of a source."""
    directions = rng.standard_normal((12, 3))
    return place + 4e-3 * directions / np.linalg.norm(directions, axis=1)[:, None]


if __name__ == "__main__":
    main()
