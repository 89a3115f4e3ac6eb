"""Measure what tells potentials on a head from recordings that were changed.

Ten to sixty seconds of recordings are compared with potentials on one head
(``mne_neuroflow/scalp/fields.py``), as they are and after each change::

    python benchmarks/fields.py --patients 3 --files other_raw.fif

The bundled recording is divided into two, with 64, 32, 19 and 8 channels and five
references. Simulated patients have all montages and scenarios, with artifacts and bad
electrodes. Other recordings can be named.
"""

import argparse
import itertools
import warnings
from collections import defaultdict

import mne
import numpy as np
from machine import print_machine
from scipy.spatial.distance import cdist

import mne_neuroflow
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.scalp.check import check_scalp
from mne_neuroflow.scalp.fields import check_fields
from mne_neuroflow.simulation.sources import SCENARIOS
from mne_neuroflow.spatial import compare_with_head

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]
MONTAGES = ("8", "10", "19", "21", "25", "32", "64", "GSN-HydroCel-128")
FEWER = {
    8: "Fp1 Fp2 C3 C4 O1 O2 T7 T8".split(),
    19: "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2".split(),
}
FEWER[32] = FEWER[19] + "FC5 FC1 FC2 FC6 CP5 CP1 CP2 CP6 AF3 AF4 PO3 PO4 Oz".split()


def real(files):
    """Yield the bundled recording and those of files."""
    whole = load_demo(verbose="error").load_data(verbose="error")
    for start in (0, 27):
        raw = whole.copy().crop(start, start + 26)
        yield raw
        for names in FEWER.values():
            yield raw.copy().pick(names)
        for reference in (["Cz"], ["TP7", "TP8"], ["Fp1"], ["O1"], "average"):
            yield raw.copy().set_eeg_reference(reference, verbose="error")
        for band in ((4, None), (8, 13), (None, 15)):
            yield raw.copy().filter(*band, verbose="error")
    for file in files:
        raw = mne.io.read_raw(file, preload=True, verbose="error")
        if "eeg" in raw:
            yield raw.pick("eeg", exclude="bads")


def simulated(n_patients, n_seconds):
    """Yield simulated recordings."""
    seeds = itertools.count(1000)
    for montage, scenario in itertools.product(MONTAGES, SCENARIOS):
        if not montage.isdigit():
            montage = mne.channels.make_standard_montage(montage)
        for _ in range(n_patients):
            yield mne_neuroflow.simulate_pair(
                montage, POINTS, n_seconds, scenario=scenario, random_state=next(seeds)
            )[0]


def current_source_density(raw, rng):
    """Apply MNE-Python's, and hide that it was applied."""
    csd = mne.preprocessing.compute_current_source_density(
        raw, sphere=(0, 0, 0.04, 0.095), verbose="error"
    )
    return _with(raw, 1e-3 * csd.get_data())


def laplacian(raw, rng):
    """Subtract the mean of the four nearest channels."""
    places = np.array([ch["loc"][:3] for ch in raw.info["chs"]])
    nearest = np.argsort(cdist(places, places), axis=1)[:, 1:5]
    data = raw.get_data()
    return _with(raw, data - data[nearest].mean(axis=1))


def noise(raw, rng):
    """Put white noise in the place of the EEG."""
    return _with(raw, 1e-5 * rng.standard_normal((len(raw.ch_names), raw.n_times)))


def one_reversed(raw, rng):
    """Reverse one channel."""
    return _changed(raw, rng.permutation(len(raw.ch_names))[:1], lambda x: -x)


def eighth_reversed(raw, rng):
    """Reverse an eighth of the channels."""
    n = len(raw.ch_names)
    return _changed(raw, rng.permutation(n)[: max(1, n // 8)], lambda x: -x)


def half_delayed(seconds):
    """Return a change that delays half of the channels."""

    def delay(raw, rng):
        n = round(seconds * raw.info["sfreq"])
        return _changed(raw, _half(raw, rng), lambda x: np.roll(x, n, axis=1))

    return delay


def half_scaled(factor):
    """Return a change that scales half of the channels."""
    return lambda raw, rng: _changed(raw, _half(raw, rng), lambda x: factor * x)


def shifted(raw, rng):
    """Shift all channels by one place."""
    return _with(raw, np.roll(raw.get_data(), 1, axis=0))


def shuffled(raw, rng):
    """Put the channels in a random order."""
    return _with(raw, rng.permutation(raw.get_data()))


def two_exchanged(raw, rng):
    """Exchange two channels."""
    data = raw.get_data()
    pair = rng.permutation(len(data))[:2]
    data[pair] = data[pair[::-1]]
    return _with(raw, data)


def _half(raw, rng):
    n = len(raw.ch_names)
    return rng.permutation(n)[: n // 2]


def _changed(raw, some, change):
    data = raw.get_data()
    data[some] = change(data[some])
    return _with(raw, data)


def _with(raw, data):
    return mne.io.RawArray(data, raw.info, verbose="error")


CHANGES = {
    "as it is": lambda raw, rng: raw,
    "current source density": current_source_density,
    "Laplacian of four neighbours": laplacian,
    "white noise": noise,
    "one channel reversed": one_reversed,
    "an eighth reversed": eighth_reversed,
    "half 16 ms late": half_delayed(0.016),
    "half 31 ms late": half_delayed(0.031),
    "half scaled by 2": half_scaled(2),
    "half scaled by 3": half_scaled(3),
    "shifted by one place": shifted,
    "in a random order": shuffled,
    "two exchanged": two_exchanged,
}
FOUND = {
    "anything in common": "noise",
    "spatial filter": "filter",
    "opposite sign": "sign",
    "apart in time": "delay",
    "Amplitudes of neighbouring": "gain",
    "where their names": "order",
    "when they are exchanged": "exchanged",
}


def measure(raw):
    """Return the statistics of a recording, and what would be said of it."""
    scalp = check_scalp(raw, on_mismatch="ignore", verbose="error")
    fields = compare_with_head(scalp)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_fields(fields, scalp.ch_names, "warn")
    texts = [str(each.message) for each in caught]
    reported = [FOUND[key] for key in FOUND for text in texts if key in text]
    even = len(scalp.ch_names) >= 16
    return {
        "typical agreement": np.median(fields.agreement),
        "smoothness": fields.smoothness,
        "agreement of a reversed one": max(
            fields.agreement[fields.reversed], default=np.nan
        ),
        "delay of groups, ms": 1e3 * fields.late()[1],
        "error of the best shifted order": fields.order.ratio,
        "share of random orders as good": fields.order.by_chance,
        "unevenness": np.median(np.abs(fields.uneven)) if even else np.nan,
    }, reported


def main():
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=2, help="of each kind")
    parser.add_argument("--seconds", type=float, default=20, help="of the simulated")
    parser.add_argument("--files", nargs="*", default=(), help="other recordings")
    options = parser.parse_args()
    mne.set_log_level("warning")
    rng = np.random.default_rng(0)
    print_machine()
    for name, recordings in (
        ("real", real(options.files)),
        ("simulated", simulated(options.patients, options.seconds)),
    ):
        values, reported, count = defaultdict(list), defaultdict(int), defaultdict(int)
        for raw in recordings:
            for what, change in CHANGES.items():
                try:
                    found, said = measure(change(raw.copy(), rng))
                except ValueError:
                    said, found = ["refused"], {}
                count[what] += 1
                for each in said or ["nothing"]:
                    reported[what, each] += 1
                for key, value in found.items():
                    values[what, key].append(value)
        print(
            f"\n{name}: {count['as it is']} recordings; least [5 %, median, 95 %] most"
        )
        for what in CHANGES:
            said = ", ".join(
                f"{each} {n}" for (of, each), n in reported.items() if of == what
            )
            print(f"{what} ({count[what]}): reported {said}")
            for (of, key), some in values.items():
                some = np.array(some)[np.isfinite(some)]
                if of == what and len(some):
                    low, first, middle, last, high = np.percentile(
                        some, [0, 5, 50, 95, 100]
                    )
                    print(
                        f"    {key}: {low:.2f} [{first:.2f} {middle:.2f} {last:.2f}] "
                        f"{high:.2f} (n = {len(some)})",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
