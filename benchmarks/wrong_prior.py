"""Simulate recordings from outside the prior of the training, and plot some.

``python benchmarks/calibration.py --prior neural-masses`` measures on them. Run
``python benchmarks/wrong_prior.py OUT.png`` to plot some and to compare their
amplitudes with those of the prior in the same patients. ``--heads`` names head tables
of ``tools/build_head.py``. Skulls of the training have 0.003 to 0.02 S/m.
"""

import argparse
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from neural_mass import simulate_neural_masses

from mne_neuroflow.contract import SFREQ
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.posterior import CORTEX_SCALES, VOLUME_SCALES
from mne_neuroflow.scores.signals import aperiodic_exponent, power_spectrum
from mne_neuroflow.simulation.setups import electrode_positions
from mne_neuroflow.simulation.sources import SCENARIOS, draw_scenarios
from mne_neuroflow.training.data import SimulatedData, build_patients

# Scenarios that neural masses can simulate. Others consist of the prior's rhythms.
SHOWN = ("rest", "spikes", "ictal", "uncoupled")
# Twice as many as in the prior, because one length scale in two or three is active.
N_GENERATORS = 512
# Distance between neighbouring lines in volts.
SCALP_STEP, IEEG_STEP = 100e-6, 400e-6


class WrongData(SimulatedData):
    """Batches with dynamics, sources and, with tables, heads outside the prior.

    Generators are columns of Jansen & Rit, see ``benchmarks/neural_mass.py``. Each
    patient has one length scale in cortex and one in deep structures, see
    :func:`one_scale`.
    """

    def simulate(self, setups, rng):
        """Simulate one recording of each of these patients."""
        traits = self.draw_traits(setups, rng, n_generators=N_GENERATORS)
        return simulate_neural_masses(
            setups,
            self.worlds,
            self.all_generators,
            self.n_seconds,
            rng,
            scenario=known_scenarios(len(setups), rng),
            traits=one_scale(traits, self.all_generators, rng),
        )


#: Values of ``--prior``.
PRIORS = {"trained": SimulatedData, "neural-masses": WrongData}


def known_scenarios(n, rng):
    """Draw scenarios, and replace those without neural masses by rest."""
    drawn = draw_scenarios(n, rng)
    known = [name if name in SHOWN else "rest" for name in SCENARIOS]
    index = torch.tensor([SCENARIOS.index(name) for name in known])
    return index.to(drawn.device)[drawn]


def one_scale(traits, all_generators, rng):
    """Set all length scales to zero but one of cortex and one of deep structures.

    The prior mixes all length scales in each patient. Mean variances do not change,
    because the remaining scale gets the shares of the others.
    """
    shares = [share for _, share in (*CORTEX_SCALES, *VOLUME_SCALES)]
    shares, per_patient = torch.tensor(shares), (len(traits), 1)
    n_cortical = len(CORTEX_SCALES)
    picks = [
        torch.randint(low, high, per_patient, generator=rng, device=rng.device)
        for low, high in ((0, n_cortical), (n_cortical, len(shares)))
    ]
    group = all_generators.group[traits.index]
    active = (group == picks[0]) | (group == picks[1])
    rescale = shares.to(group.device)[group].rsqrt()
    return replace(traits, amplitude=traits.amplitude * active * rescale)


def heads_of(setups, heads):
    """Name the true head of each patient by its skull conductivity.

    Parameters
    ----------
    setups : Setups
        Patients of ``build_patients``, which uses the heads in turn.
    heads : list of str | None
        The head tables in addition to the template.

    Returns
    -------
    names : list of str
        One for each patient.
    """
    skulls = [load_head(name).conductivity[1] for name in [None, *(heads or [])]]
    names = [f"skull {skull:g} S/m" for skull in skulls]
    worlds = setups.scalp_rows[:, 0] // len(electrode_positions())
    return [names[world % len(names)] for world in worlds.tolist()]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fname", help="image to write")
    parser.add_argument("--heads", nargs="*")
    parser.add_argument("--patients", type=int, default=12)
    parser.add_argument("--seed", type=int, default=77)
    options = parser.parse_args()
    patients = build_patients(
        [(16, options.patients)], 3, 12, options.seed, options.heads, held_out=True
    )
    found = {}
    for name, kind in PRIORS.items():
        data = kind(patients, 24, 1, options.seed, "cpu")
        pairs = data.simulate(patients.banks[0], data.random_numbers(0))
        found[name] = pairs, patients.banks[0].used > 0
    report(found)
    plot(*found["neural-masses"]).savefig(options.fname, dpi=110)


def report(found):
    """Print amplitudes and aperiodic exponents."""
    print(f"{'10th, 50th and 90th percentile':40s}{'scalp':>22s}{'contacts':>22s}")
    for name, (pairs, used) in found.items():
        parts = pairs.scalp[used].numpy(), pairs.deep.flatten(0, 1).numpy()
        amplitudes = [1e6 * part.std(-1) for part in parts]
        exponents = [aperiodic_exponent(*power_spectrum(x, SFREQ)) for x in parts]
        print(f"{name + ', r.m.s. (µV)':40s}{_percentiles(amplitudes, '7.0f')}")
        print(f"{name + ', exponent':40s}{_percentiles(exponents, '7.2f')}")


def _percentiles(parts, form):
    found = np.ravel([np.percentile(part, (10, 50, 90)) for part in parts])
    return "".join(format(value, form) for value in found)


def plot(pairs, used, n_lines=6, n_seconds=8):
    """Plot traces and spectra of one recording of each scenario."""
    scenario = [SCENARIOS[k] for k in pairs.scenario.tolist()]
    shown = [name for name in SHOWN if name in scenario]
    fig, axes = plt.subplots(
        2, len(shown), figsize=(4 * len(shown), 9), layout="constrained", squeeze=False
    )
    for column, name in zip(axes.T, shown, strict=True):
        k = scenario.index(name)
        parts = pairs.scalp[k][used[k]].numpy(), pairs.deep[k].numpy()
        top = 0
        for series, step, colour in zip(
            parts, (SCALP_STEP, IEEG_STEP), ("k", "C3"), strict=True
        ):
            series = series[np.linspace(0, len(series) - 1, n_lines).astype(int)]
            for line in series[:, : n_seconds * SFREQ]:
                times = np.arange(len(line)) / SFREQ
                column[0].plot(times, top + line / step, colour, lw=0.5)
                top -= 1
            top -= 1
            freqs, density = power_spectrum(series, SFREQ)
            column[1].loglog(freqs, 1e12 * density.T, colour, lw=0.6)
        column[0].set(title=f"{name}, simulated", xlabel="Time (s)", yticks=[])
        column[1].set(xlabel="Frequency (Hz)", ylabel="Power (µV²/Hz)")
    fig.suptitle(
        f"Scalp (black, lines {1e6 * SCALP_STEP:.0f} µV apart) and contacts (red, "
        f"{1e6 * IEEG_STEP:.0f} µV)"
    )
    return fig


if __name__ == "__main__":
    main()
