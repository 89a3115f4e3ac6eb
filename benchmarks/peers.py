"""Compare cost and accuracy of draws with those of other samplers and eLORETA.

Run ``python benchmarks/peers.py``, whose growth up to a day takes most of the time.
``--steps 20 --seconds 10 --growth`` is a quick look without it. Methods are fitted to
the first session of two patients of the simulated cohort and evaluated on the second,
with the same windows and contacts.
Times are CPU times of one thread. The benchmark then measures how the cost grows with
contacts, electrodes, hours (a day has 6 GB of samples) and draws. The coupling flow
needs ``pip install zuko`` and is left out without it.
"""

import argparse
import time
from functools import partial
from importlib.util import find_spec

import matplotlib.pyplot as plt
import mne
import numpy as np
import torch
from machine import machine, print_machine
from matplotlib.ticker import FixedLocator, NullLocator
from torch import nn
from torch.nn import functional

from mne_neuroflow.datasets import simulated_cohort
from mne_neuroflow.evaluation.inverse import SourceImaging, make_template_forward
from mne_neuroflow.evaluation.networks import FlowMatching, PatientFlow
from mne_neuroflow.evaluation.ours import Pretrained, make_scalp_raw
from mne_neuroflow.evaluation.pairs import ScalpData
from mne_neuroflow.evaluation.protocols import Dataset, read_session
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.leadfield import contact_lead_field
from mne_neuroflow.predictor import Predictor
from mne_neuroflow.scores.ensemble import crps

WANTED = 30  # target: speed relative to iterative samplers of equal or worse CRPS
SNR = 1.0
GROWTH = {
    "contacts": (16, 64, 256),
    "electrodes": (8, 32, 128, 256),
    "hours": (0.1, 1, 24),
    "draws": (1, 20, 400),
}
LONG = 30.0  # processor seconds after which a measurement is not repeated


class Diffusion(FlowMatching):
    """Conditional denoising diffusion with fifty deterministic steps.

    The cosine schedule is that of Nichol & Dhariwal 2021 (ICML), and the sampler that
    of Song, Meng & Ermon 2021 (ICLR). The network is that of flow matching, and
    predicts the velocity of Salimans & Ho 2022 (ICLR). Predicted noise would have to be
    divided by the share of the signal, which begins near zero.
    """

    @staticmethod
    def _shares(time):
        """Return the shares of signal and noise from 0 (signal) to 1 (noise)."""
        angle = 0.5 * torch.pi * (0.008 + time) / 1.008
        return torch.cos(angle), torch.sin(angle)

    def _loss(self, inputs, targets, rng):
        noise = torch.randn(targets.shape, generator=rng)
        time_ = torch.rand((len(targets), 1, 1), generator=rng)
        to_signal, to_noise = self._shares(time_)
        state = to_signal * targets + to_noise * noise
        velocity = to_signal * noise - to_noise * targets
        return functional.mse_loss(self._velocity(inputs, state, time_), velocity)

    def _draw(self, inputs, rng):
        shape = (len(inputs), self._n_out, inputs.shape[-1])
        state = torch.randn(shape, generator=rng)
        times = torch.linspace(1, 0, self._n_steps_now + 1)[:, None, None, None]
        for now, then in zip(times[:-1], times[1:], strict=True):
            velocity = self._velocity(inputs, state, now)
            to_signal, to_noise = self._shares(now)
            clean = to_signal * state - to_noise * velocity
            noise = to_noise * state + to_signal * velocity
            to_signal, to_noise = self._shares(then)
            state = to_signal * clean + to_noise * noise
        return state


class ZukoFlow(PatientFlow):
    """Zuko's affine coupling flow over all contacts and samples of a second.

    It has eight couplings, as the repository's :class:`PatientFlow`. The networks of
    the latter are convolutions, and zuko's use the whole second at once.
    """

    def _build(self, n_in, n_out):
        from zuko.flows import NICE

        size = self._multiple
        self._shape, hidden = (n_out, size), (8 * self.width,) * 2
        flow = NICE(
            n_out * size,
            n_in * size,
            transforms=self._n_couplings,
            hidden_features=hidden,
        )
        self.nets = nn.ModuleList([flow])

    def log_prob(self, inputs, targets):
        """Return the log-density of windows of one second, (batch,) in nats."""
        return self.nets[0](inputs.flatten(1)).log_prob(targets.flatten(1))

    def _draw(self, inputs, rng):
        windows = self._windows(inputs).flatten(1)
        noise = torch.randn((len(windows), np.prod(self._shape)), generator=rng)
        drawn = self.nets[0](windows).transform.inv(noise).unflatten(1, self._shape)
        drawn = drawn.unflatten(0, (len(inputs), -1)).transpose(1, 2)
        return drawn.flatten(2)


class ELoreta(SourceImaging):
    """eLORETA with an interval that is fitted to the training pairs."""

    def __init__(self):
        super().__init__("eLORETA", snr=SNR)

    def apply_raw(self, scalp, contacts):
        """Compute contacts by MNE's ``apply_inverse_raw``, as a user would."""
        fwd, info = make_template_forward(scalp.electrodes)
        raw = mne.io.RawArray(scalp.data, info, verbose=False)
        noise = mne.make_ad_hoc_cov(raw.info, verbose=False)
        inverse = mne.minimum_norm.make_inverse_operator(
            raw.info, fwd, noise, loose=0.0, depth=None, fixed=True, verbose=False
        )
        found = mne.minimum_norm.apply_inverse_raw(
            raw, inverse, 1 / SNR**2, "eLORETA", verbose=False
        )
        return contact_lead_field(self.head, contacts) @ found.data


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="of training")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--patients", nargs="*", default=["1", "7"])
    parser.add_argument("--out", default="peers.png")
    parser.add_argument(
        "--growth", nargs="*", choices=list(GROWTH), default=list(GROWTH)
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    mne.set_log_level("error")
    print_machine()
    rows = [row for patient in options.patients for row in compare(patient, options)]
    if rows:
        report(rows, options)
        draw_figure(rows, options.out)
    report_growth(options.growth)


def methods(n_steps):
    """Make the methods by name, with True for those with many steps per draw."""
    made = {
        "this package": (Pretrained(), False),
        "flow matching, 50 steps": (FlowMatching(n_steps), True),
        "diffusion, 50 steps": (Diffusion(n_steps), True),
        "patient flow": (PatientFlow(n_steps), False),
        "eLORETA": (ELoreta(), False),
    }
    if find_spec("zuko"):
        made["coupling flow (zuko)"] = (ZukoFlow(n_steps), False)
    else:
        print("zuko is not installed: its coupling flow is left out")
    return made


def compare(patient, options):
    """Measure all methods on the second session of a patient."""
    cohort = Dataset.of("simulated", simulated_cohort)
    (train,), (test,) = (read_session(cohort, patient, s) for s in ("1", "2"))
    test = test.crop(0, options.seconds)
    unit = test.ieeg.std(1, keepdims=True)
    for name, (method, iterative) in methods(options.steps).items():
        taken, _ = cpu_seconds(partial(method.fit, [train.pair]))
        sample = partial(method.sample, test.scalp, test.contacts, random_state=0)
        sample(1)
        once, _ = cpu_seconds(partial(sample, 1))
        many, draws = cpu_seconds(partial(sample, options.draws))
        if name == "eLORETA":
            once, _ = cpu_seconds(partial(method.apply_raw, test.scalp, test.contacts))
        score = (crps(draws, test.ieeg) / unit).mean(1)
        minutes = options.seconds / 60
        yield dict(
            patient=patient,
            method=name,
            iterative=iterative,
            fit=taken,
            once=once / minutes,
            draw=many / options.draws / minutes,
            crps=score.mean(),
            error=score.std(ddof=1) / np.sqrt(len(score)),
            n_contacts=len(score),
        )


def report(rows, options):
    """Print the table and the comparison with the target."""
    print(
        f"\nCPU seconds per minute of signal: of one prediction, and of each of "
        f"{options.draws} draws; CRPS in s.d. of the truth"
    )
    print(f"{'patient, method':34s}{'one':>9s}{'a draw':>9s}{'fit':>8s}   CRPS (s.e.)")
    for row in rows:
        name = f"{row['patient']}  {row['method']}"
        print(
            f"{name:34s}{row['once']:9.3f}{row['draw']:9.3f}{row['fit']:8.0f}   "
            f"{row['crps']:.3f} ({row['error']:.3f} over {row['n_contacts']} contacts)"
        )
    for patient in options.patients:
        own = [row for row in rows if row["patient"] == patient]
        ours = own[0]
        worse = [r for r in own if r["iterative"] and r["crps"] >= ours["crps"]]
        for row in worse:
            times = row["draw"] / ours["draw"]
            print(
                f"patient {patient}: {row['method']} takes {times:.1f} times as long a "
                f"draw (wanted {WANTED})"
            )
        if not worse:
            print(f"patient {patient}: no iterative sampler has an equal or worse CRPS")


def draw_figure(rows, fname):
    """Plot cost against accuracy."""
    names = list(dict.fromkeys(row["method"] for row in rows))
    fig, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
    marks = dict(zip(dict.fromkeys(r["patient"] for r in rows), "os^v", strict=False))
    for number, name in enumerate(names):
        own = [row for row in rows if row["method"] == name]
        for row in own:
            ax.errorbar(
                row["draw"],
                row["crps"],
                row["error"],
                color=f"C{number}",
                marker=marks[row["patient"]],
                label=name if row is own[0] else None,
            )
    ax.set(
        xscale="log",
        xlabel="CPU time of a draw, seconds per minute of signal",
        ylabel="CRPS (s.d. of the truth), lower is better",
        title="Cost and skill, one thread; a mark for each simulated patient",
    )
    ax.legend(fontsize=8)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(FixedLocator([0.5, 0.6, 0.8, 1, 1.5, 2]))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    fig.supxlabel(machine()["versions"], fontsize=6)
    fig.savefig(fname, dpi=150)
    print(f"wrote {fname}")


def report_growth(which):
    """Print the growth of the cost of a draw, and its exponents."""
    print(f"\n{'CPU seconds as there are more':34s}{'':40s}exponent")
    for what in which:
        values = GROWTH[what]
        taken = [cost(what, value) for value in values]
        for k, value in enumerate(values):
            if taken[k] < LONG:
                taken[k] = min(taken[k], cost(what, value))
        slope = np.polyfit(np.log(values), np.log(taken), 1)[0]
        cells = "".join(
            f"{v:>8g}: {t:6.2f}" for v, t in zip(values, taken, strict=True)
        )
        last = np.log(taken[-1] / taken[-2]) / np.log(values[-1] / values[-2])
        print(f"{what:12s}{cells:62s}{slope:6.2f} (last step {last:.2f})")


def cost(what, value):
    """Return the CPU time of a prediction with 64 contacts and 64 electrodes."""
    numbers = dict(contacts=64, electrodes=64, hours=1 / 120, draws=1) | {what: value}
    rng = np.random.default_rng(0)
    places = load_head().scalp.rr
    places = places[:: len(places) // numbers["electrodes"]][: numbers["electrodes"]]
    data = 1e-5 * rng.standard_normal((len(places), round(numbers["hours"] * 460800)))
    data -= data.mean(0)  # a day of 64 electrodes has 6 GB
    raw = make_scalp_raw(ScalpData(data, places))
    contacts = rng.uniform((0.02, -0.035, -0.03), (0.05, 0.005, 0), (256, 3))
    contacts[::2, 0] *= -1

    def work():
        predictor = Predictor(
            raw,
            contacts=contacts[: numbers["contacts"]],
            random_state=0,
            device="cpu",
            on_mismatch="ignore",
        )
        for first in range(0, raw.n_times, 120 * 128):
            stop = min(first + 120 * 128, raw.n_times)
            for _ in predictor.draws(first, stop, range(numbers["draws"])):
                pass

    return cpu_seconds(work)[0]


def cpu_seconds(work):
    """Return the CPU time of this process for a call, and the result of the call."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


if __name__ == "__main__":
    main()
