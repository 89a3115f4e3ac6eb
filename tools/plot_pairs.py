"""Plot twelve simulated pairs and a real scalp recording for visual comparison.

Run ``python tools/plot_pairs.py OUT.png``. Three stretches of the bundled recording are
in the first row, and simulated pairs are below, with scalp EEG above contacts. The tool
also prints a comparison of simulated and real spectra.
"""

import argparse

import matplotlib.pyplot as plt
import mne
import numpy as np
from scipy.signal import welch

from mne_neuroflow import simulate_pair
from mne_neuroflow.datasets import load_demo

SCALP = "Fp1 Fp2 F7 F8 T7 T8 C3 C4 P7 P8 O1 O2".split()
SECONDS, START = 10, 20
SCALP_STEP = 80e-6  # volts between neighbouring lines
IEEG_STEP = 4  # the same for contacts, times the largest standard deviation
SCENARIOS = ("rest", "theta", "slowing", "spikes", "ictal", "uncoupled")
FREQUENCIES = (1, 2, 4, 6, 8, 10, 12, 16, 20, 25, 30, 40)
REGIONS = {"frontopolar": "Fp1 Fp2", "temporal": "T7 T8", "central": "C3 C4"}
REGIONS |= {"occipital": "O1 O2"}


def read_real():
    """Load the bundled recording in the band and reference of the simulated."""
    raw = load_demo(verbose=False).load_data(verbose=False)
    raw.filter(0.5, 50, verbose=False).set_eeg_reference("average", verbose=False)
    return raw.resample(128, verbose=False)


def simulate(number):
    """Simulate pair ``number`` with the electrodes of the real recording."""
    return simulate_pair(
        "64",
        "mtl",
        duration=60,
        scenario=SCENARIOS[number % len(SCENARIOS)],
        random_state=number,
        verbose=False,
    )


def choose_contacts(ieeg, n_contacts=5):
    """Take the contact of some shafts that has most power, and first that of the focus.

    The focus is where most happens at the times of annotations.
    """
    std = ieeg.get_data().std(1)
    focus = []
    inside = ieeg.annotations.onset > 0.1  # an event from before has no beginning
    if inside.any():
        events = mne.events_from_annotations(ieeg, verbose=False)[0][inside]
        options = dict(tmin=-0.1, tmax=0.1, baseline=None, verbose=False)
        epochs = mne.Epochs(ieeg, events, **options, event_repeated="drop")
        average = epochs.average("seeg").data
        focus = [ieeg.ch_names[np.abs(average).max(1).argmax()]]
    shafts = {}
    for name, value in zip(ieeg.ch_names, std, strict=True):
        shaft = name.rstrip("0123456789")
        shafts.setdefault(shaft, []).append((value, name))
    largest = [max(of_shaft)[1] for of_shaft in shafts.values()]
    others = [name for name in largest if name not in focus]
    return (focus + others[:: max(1, len(others) // n_contacts)])[:n_contacts]


def draw(ax, raw, names, step, top, colour, start):
    """Draw channels below each other, and return the height of the next one."""
    data = raw.get_data(names, tmin=start, tmax=start + SECONDS)
    times = np.arange(data.shape[1]) / raw.info["sfreq"]
    for k, (name, series) in enumerate(zip(names, data, strict=True)):
        ax.plot(times, top - k - series / step, colour, lw=0.5)
        ax.text(-0.1, top - k, name, ha="right", va="center", fontsize=5)
    return top - len(names)


def mark_events(ax, raw):
    """Draw a line at the beginning of events."""
    for onset in raw.annotations.onset - START:
        if 0 <= onset <= SECONDS:
            ax.axvline(onset, color="0.6", lw=0.5, ls=":")


def plot(real, pairs, fname):
    """Plot everything; scalp is plotted negative up, as clinicians do."""
    fig, axes = plt.subplots(5, 3, figsize=(16, 24), layout="constrained")
    for ax, start in zip(axes[0], (2, 18, 40), strict=True):
        draw(ax, real, SCALP, SCALP_STEP, 0, "k", start)
        ax.set_title(f"real scalp EEG, from {start} s", fontsize=8)
    for number, (ax, (scalp, ieeg)) in enumerate(
        zip(axes[1:].flat, pairs, strict=True)
    ):
        top = draw(ax, scalp, SCALP, SCALP_STEP, 0, "C0", START)
        contacts = choose_contacts(ieeg)
        step = IEEG_STEP * ieeg.get_data(contacts).std(1).max()
        draw(ax, ieeg, contacts, step, top - 2, "C3", START)
        mark_events(ax, ieeg)
        ax.set_title(
            f"simulated, not recorded: {SCENARIOS[number % len(SCENARIOS)]}, contacts "
            f"{step * 1e6:.0f} µV apart",
            fontsize=8,
        )
    for ax in axes.flat:
        ax.set(xlim=(-1, SECONDS), yticks=[])
        ax.set_xlabel("time (s)", fontsize=6)
        ax.tick_params(labelsize=6)
        ax.spines[["left", "right", "top"]].set_visible(False)
    fig.suptitle(
        f"Scalp lines {SCALP_STEP * 1e6:.0f} µV apart, the focus first among the "
        "contacts, negative up; dotted: a spike, or where a burst or seizure begins",
        fontsize=9,
    )
    fig.savefig(fname, dpi=110)


def spectrum(raw, names):
    """Return the median spectrum over channels in dB of µV²/Hz at FREQUENCIES."""
    data = raw.get_data(names)
    f, power = welch(1e6 * data, raw.info["sfreq"], nperseg=256, average="median")
    decibels = 10 * np.log10(power)
    at = [decibels[:, np.abs(f - f0) < 0.6].mean(1) for f0 in FREQUENCIES]
    return np.median(at, axis=1)


def slope(raw, low=2, high=40):
    """Return the median aperiodic exponent over channels, without alpha."""
    f, power = welch(raw.get_data("eeg"), raw.info["sfreq"], nperseg=256)
    fit = (f >= low) & (f <= high) & ~((f > 7) & (f < 14))
    lines = np.polyfit(np.log10(f[fit]), np.log10(power[:, fit]).T, 1)
    return float(np.median(-lines[0]))


def report(real, scalps):
    """Print the real spectrum and the 10th, 50th, 90th percentile of simulated."""
    print("dB µV²/Hz at Hz".ljust(24), *(f"{f:6d}" for f in FREQUENCIES))
    for region, names in REGIONS.items():
        names = names.split()
        simulated = [spectrum(raw, names) for raw in scalps]
        print(
            f"{region}, real".ljust(24), *(f"{v:6.1f}" for v in spectrum(real, names))
        )
        for q in (10, 50, 90):
            row = np.percentile(simulated, q, axis=0)
            print(f"  simulated, {q} %".ljust(24), *(f"{v:6.1f}" for v in row))
    rms = [1e6 * np.median(raw.get_data("eeg").std(1)) for raw in scalps]
    slopes = [slope(raw) for raw in scalps]
    for name, value, many in (
        ("rms (µV)", 1e6 * np.median(real.get_data("eeg").std(1)), rms),
        ("exponent 2-40 Hz", slope(real), slopes),
    ):
        low, middle, high = np.percentile(many, (10, 50, 90))
        print(f"{name}: real {value:.2f}, simulated {low:.2f} {middle:.2f} {high:.2f}")


def main():
    """Make the figure and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fname", help="image to write")
    parser.add_argument("--spectra", type=int, default=12, help="pairs in the spectra")
    options = parser.parse_args()
    mne.set_log_level("ERROR")
    real = read_real()
    pairs = [simulate(number) for number in range(max(12, options.spectra))]
    plot(real, pairs[:12], options.fname)
    report(real, [scalp for scalp, _ in pairs])


if __name__ == "__main__":
    main()
