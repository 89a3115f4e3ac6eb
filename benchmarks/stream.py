"""Measure live prediction: the effect of a short future, and the speed.

Run ``python benchmarks/stream.py skill`` (held-out simulation, each latency and
offline), ``future`` (extrapolations of the future), ``speed`` (computing time),
``delay`` (LSL, from receiving to publishing samples) or ``faults`` (LSL with gaps,
restarts and dead channels). ``skill`` takes ten minutes per recording on one core. The
hour with faults of the decision page needs ``faults --seconds 3600``.
"""

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

import mne
import numpy as np
from figures import record
from machine import print_machine

from mne_neuroflow import make_contacts, simulate_pair
from mne_neuroflow.contract import SFREQ
from mne_neuroflow.datasets import load_demo
from mne_neuroflow.flow.sampler import sample_blocks
from mne_neuroflow.head.contacts import contact_positions
from mne_neuroflow.predictor import Predictor
from mne_neuroflow.scores.ensemble import coverage, crps
from mne_neuroflow.stream import StreamPredictor
from mne_neuroflow.stream.future import HORIZON, Future
from mne_neuroflow.weights.checkpoint import load_checkpoint
from mne_neuroflow.weights.fetch import fetch_model

LATENCIES = (0.25, 0.5, 1.0, 2.0, 4.0)
MONTAGES = ("19", "32", "64")
FIRST_SEED = 9000  # of patients that were not used for any choice
SECONDS, LEARNED = 50, 20  # of each recording, and before the scored part
N_DRAWS = 19  # minimum and maximum are a 90 % interval
LSL = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {127.0.0.1}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {
        "skill": skill,
        "future": futures,
        "speed": speed,
        "delay": delay,
        "faults": faults,
    }
    parser.add_argument("part", choices=parts)
    parser.add_argument("--recordings", type=int, default=9)
    parser.add_argument("--first", type=int, default=0, help="first recording")
    parser.add_argument("--seconds", type=float, default=600.0, help="of LSL")
    parser.add_argument(
        "--record",
        metavar="SECTION",
        help="section of doc/figures.json for the figures",
    )
    options = parser.parse_args()
    mne.set_log_level("error")
    print_machine()
    figures = parts[options.part](options)
    if options.record and figures:
        _, card = load_checkpoint(fetch_model("mtl-v2"))
        record(options.record, figures, weights=card["sha256"])


# Skill --------------------------------------------------------------------------------


def pairs(options, duration=SECONDS):
    """Yield held-out recordings with scalp EEG and the truth of eight contacts."""
    names, positions = contact_positions(make_contacts("mtl-core"))
    for k in range(options.first, options.first + options.recordings):
        places = positions[np.random.default_rng(k).permutation(len(names))[:8]]
        montage = MONTAGES[k % len(MONTAGES)]
        scalp, ieeg = simulate_pair(
            montage, places, duration, random_state=FIRST_SEED + k
        )
        yield scalp, ieeg.get_data(), places


def skill(options):
    """Score each latency, the whole recording and the prior."""
    rows = {}
    scored = slice(LEARNED * SFREQ, (SECONDS - 5) * SFREQ)
    for scalp, truth, places in pairs(options):
        common = dict(contacts=places, random_state=0)
        predictor = Predictor(scalp, **common)
        predicted = {"offline": predictor.sample(N_DRAWS).to_numpy()}
        predicted["prior"] = prior_draws(predictor)
        for latency in LATENCIES:
            live = StreamPredictor(
                scalp.info, latency=latency, output="draws", n_draws=N_DRAWS, **common
            )
            first, _ = live.push(scalp.get_data(live.ch_names))
            predicted[f"{latency:g} s"] = np.concatenate([first, live.finish()[0]], -1)
        for name, draws in predicted.items():
            row = scores(draws[..., scored], truth[:, scored])
            rows.setdefault(name, []).append(row)
    prior = np.array(rows.pop("prior"))
    print(
        f"{len(prior)} recordings, 8 contacts, {N_DRAWS} draws, mean and standard "
        "error over recordings; share: of the offline gain in CRPS"
    )
    print(
        f"{'':8s}{'r':>16s}{'CRPS below prior':>22s}{'share':>16s}{'90 % cover':>18s}"
    )
    whole = 1 - np.array(rows["offline"])[:, 1] / prior[:, 1]
    figures = {"recordings": len(prior)}
    for name, found in rows.items():
        r, score, inside = np.array(found).T
        gain = 1 - score / prior[:, 1]
        n = len(gain) ** 0.5
        share = gain.mean() / whole.mean()
        spread = (gain - share * whole).std(ddof=1) / whole.mean() / n
        print(
            f"{name:8s}{r.mean():9.3f} ±{r.std(ddof=1) / n:6.3f}"
            f"{gain.mean():12.1%} ±{gain.std(ddof=1) / n:7.1%}"
            f"{share:9.1%} ±{spread:6.1%}"
            f"{inside.mean():10.1%} ±{inside.std(ddof=1) / n:6.1%}"
        )
        columns = {"r": r, "CRPS below prior": gain, "coverage 0.90": inside}
        for what, each in columns.items():
            figures[f"{name}: {what}"] = each.mean(), each.std(ddof=1) / n
        figures[f"{name}: share of the offline gain"] = share, spread
    return figures


def prior_draws(predictor):
    """Draw contacts without scalp EEG."""
    n = -(-predictor.scalp.n_times // SFREQ)
    draws = sample_blocks(
        predictor.flow,
        predictor._nothing_seen,
        predictor.noise,
        0,
        n,
        range(N_DRAWS),
        N_DRAWS,
    )
    return np.stack([draw.numpy() for draw in draws])[..., : predictor.scalp.n_times]


def scores(draws, truth):
    """Compute correlation of the mean, CRPS relative to the truth, and coverage."""
    mean = draws.mean(0)
    r = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(mean, truth, strict=True)])
    scale = truth.std(1)
    score = (crps(draws, truth).mean(-1) / scale).mean()
    return r, score, coverage(draws, truth, 0.9).mean()


# The missing future -------------------------------------------------------------------


class Reflected(Future):
    """Extrapolation by reflection of the past."""

    def extend(self, data, n_times):
        """Continue channels."""
        return np.concatenate([data, data[:, -2 : -2 - n_times : -1]], 1)


class Held(Future):
    """Extrapolation by the last sample."""

    def extend(self, data, n_times):
        """Continue channels."""
        return np.concatenate([data, np.repeat(data[:, -1:], n_times, 1)], 1)


class Level(Future):
    """Extrapolation by the mean over two seconds."""

    def extend(self, data, n_times):
        """Continue channels."""
        level = data[:, -HORIZON:].mean(1, keepdims=True)
        return np.concatenate([data, np.repeat(level, n_times, 1)], 1)


def futures(options):
    """Correlate the mean of the spatial stage with the truth for each future."""
    kinds = dict(known=None, autoregression=Future, level=Level)
    kinds |= dict(reflection=Reflected, held=Held)
    found = {name: [] for name in kinds}
    for scalp, truth, places in pairs(options):
        means = {name: follow(scalp, places, kind) for name, kind in kinds.items()}
        scored = slice(LEARNED * SFREQ, (SECONDS - 5) * SFREQ)
        for name, each in means.items():
            found[name].append(
                [
                    np.mean([np.corrcoef(a[scored], b[scored])[0, 1] for a, b in both])
                    for both in (zip(mean, truth, strict=True) for mean in each)
                ]
            )
    print("r of the mean of the spatial stage, and the standard error of what it loses")
    print(" " * 16 + "".join(f"{latency:>14g} s" for latency in LATENCIES))
    known = np.array(found["known"])
    for name, rows in found.items():
        rows = np.array(rows)
        error = (rows - known).std(0, ddof=1) / len(rows) ** 0.5
        cells = zip(rows.mean(0), error, strict=True)
        print(f"{name:16s}" + "".join(f"{r:9.4f} ±{e:.4f}" for r, e in cells))


def follow(scalp, places, kind):
    """Return the mean at each latency, (n_latencies, n_contacts, n_times)."""
    live = StreamPredictor(scalp.info, contacts=places, random_state=0)
    reach = 4 * SFREQ + SFREQ
    listener, data = live._listener, scalp.get_data(live.ch_names)
    ahead = live._make_listener(live._make_learner(), live._rate, 0, data.shape[1])
    ahead.intake.add(data)
    ahead.intake.advance(data.shape[1])
    out = np.zeros((len(LATENCIES), len(places), data.shape[1]))
    hop = round(live.hop * SFREQ)
    for due in range(hop, data.shape[1] + 1, hop):
        listener.intake.add(data[:, due - hop : due])
        listener.advance(due)
        if due < SFREQ:
            continue
        live._learn(due)
        if due < reach:
            continue
        source = ahead
        if kind is not None:
            source = listener
            listener.future = kind(listener.learner.future().correlation)
        wide, _ = source.scalp(due - reach, due + SFREQ)
        mean = live._stage().mean(wide)
        for k, latency in enumerate(LATENCIES):
            first = 4 * SFREQ - round(latency * SFREQ)
            start = due - round(latency * SFREQ)
            out[k, :, start : start + hop] = mean[:, first : first + hop]
    return out


# Pace ---------------------------------------------------------------------------------


def speed(options):
    """Time one and twenty draws of 30 contacts from 64 electrodes."""
    raw, figures = load_demo().load_data().crop(0, 16), {}
    for draws in (1, 20):
        output = dict(output="sample") if draws == 1 else dict(output="std")
        live = StreamPredictor(
            raw.info, contacts="mtl-core", n_draws=20, random_state=0, **output
        )
        data, hop = raw.get_data(live.ch_names), 40
        live.push(data[:, :640])
        taken = []
        cpu = time.process_time()
        for first in range(640, data.shape[1], hop):
            start = time.perf_counter()
            live.push(data[:, first : first + hop])
            taken.append(time.perf_counter() - start)
        cpu = time.process_time() - cpu
        seconds = (data.shape[1] - 640) / raw.info["sfreq"]
        print(
            f"{draws:2d} draws: {cpu / seconds:.2f} s of processor time and "
            f"{np.sum(taken) / seconds:.2f} s by the clock a second of signal; a step: "
            f"median {1e3 * np.median(taken):.0f} ms, 99th percentile "
            f"{1e3 * np.percentile(taken, 99):.0f} ms"
        )
        name = f"{draws} draws: seconds a second of signal"
        figures[f"{name}, processor"] = cpu / seconds
        figures[f"{name}, clock"] = np.sum(taken) / seconds
    return figures


# LSL ----------------------------------------------------------------------------------


def confine_lsl():
    """Restrict LSL to this machine, before it is loaded."""
    fname = Path(tempfile.mkdtemp()) / "lsl_api.cfg"
    fname.write_text(LSL)
    os.environ["LSLAPICFG"] = str(fname)


def delay(options):
    """Play the demo through LSL, and measure the delay of published samples."""
    confine_lsl()
    from mne_lsl.player import PlayerLSL

    from mne_neuroflow.stream.lsl import relay

    demo = load_demo().load_data()
    # One long recording: where a short one begins again, the player sends many seconds
    # at once.
    n_times = int(options.seconds // demo.times[-1]) + 2
    raw = mne.concatenate_raws([demo.copy() for _ in range(n_times)])
    with PlayerLSL(raw, 16, 1, name="bench scalp", annotations=False):
        done = relay(
            "bench scalp",
            "bench virtual",
            seconds=options.seconds,
            contacts="mtl-core",
            random_state=0,
        )
    low, high, worst = np.percentile(done.delays, [50, 99, 100]) * 1e3
    print(
        f"{done.n_received / raw.info['sfreq']:.0f} s: delay from the last sample "
        f"received to the virtual one published: median {low:.0f} ms, 99th percentile "
        f"{high:.0f} ms, worst {worst:.0f} ms; {done.factor:.2f} s of computing a "
        "second at the end"
    )
    names = ("median", "99th percentile", "worst")
    figures = dict(zip(names, (low, high, worst), strict=True))
    return {f"{name}, s": value / 1e3 for name, value in figures.items()}


def faults(options):
    """Send scalp EEG with faults at maximum speed, and count the published samples."""
    confine_lsl()
    import mne_lsl.lsl as lsl

    from mne_neuroflow.stream.lsl import NO_SCALP, Relay

    _, places = contact_positions(make_contacts("mtl-core"))
    scalp, _ = simulate_pair("19", places[:4], 120, random_state=FIRST_SEED)
    data, sfreq = scalp.get_data(), scalp.info["sfreq"]
    start, rng = lsl.local_clock(), np.random.default_rng(0)

    def open_outlet():
        kinds = ("bench faults", "EEG", len(data), sfreq, "float64", "bench faults")
        sinfo = lsl.StreamInfo(*kinds)
        sinfo.set_channel_info(scalp.info)
        return lsl.StreamOutlet(sinfo)

    outlet, number, sent, got, marked = open_outlet(), 0, [], [], []
    counts, memory = {}, []
    with Relay(
        "bench faults", "bench faulty", contacts=places[:4], random_state=0
    ) as r:
        inlet = lsl.StreamInlet(lsl.resolve_streams(10, name="bench faulty")[0])
        inlet.open_stream(10)
        dead, n_sent, n_missing = -1, 0, 0
        while number < options.seconds * sfreq:
            piece = int(rng.integers(10, 200))
            fault = str(
                rng.choice(
                    ["none", "gap", "long gap", "restart", "dead", "back"],
                    p=[0.94, 0.02, 0.003, 0.007, 0.015, 0.015],
                )
            )
            counts[fault] = counts.get(fault, 0) + 1
            if fault == "gap":
                number += int(rng.integers(20, 9 * sfreq))
            if fault == "long gap":
                number += int(rng.integers(11 * sfreq, 60 * sfreq))
            if fault == "restart":
                del outlet
                outlet = open_outlet()
                while not outlet.has_consumers:
                    r.step()
            if fault in ("dead", "back"):
                dead = int(rng.integers(len(data))) if fault == "dead" else -1
            part = data[:, (n_sent + np.arange(piece)) % data.shape[1]].copy()
            if dead >= 0:
                part[dead] = 0.0
            times = start + np.arange(number, number + piece) / sfreq
            outlet.push_chunk(np.ascontiguousarray(part.T), times)
            sent.append(np.arange(number, number + piece))
            number, n_sent = number + piece, n_sent + piece
            stop = time.monotonic() + 20
            while r.n_received + n_missing < n_sent and time.monotonic() < stop:
                if not r.step():
                    time.sleep(0.001)
            n_missing = n_sent - r.n_received
            take(inlet, got, marked)
            memory.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        r.finish()
        while sum(map(len, got)) < r.n_published:
            take(inlet, got, marked)
    got = np.round((np.concatenate(got) - start) * sfreq).astype(int)
    sent, marked = np.concatenate(sent), np.concatenate(marked)
    invented, filled_in = ~np.isin(got, sent), marked.astype(int) & NO_SCALP != 0
    lost = ~np.isin(sent, got[~filled_in])
    half = len(memory) // 2
    print(f"{number / sfreq:.0f} s of signal, {counts}")
    print(f"{lost.sum()} of {len(sent)} samples lost that were sent")
    unmarked = invented & ~filled_in
    print(f"{invented.sum()} filled in, {unmarked.sum()} of them without a mark")
    print(
        f"memory at most {memory[half] / 1024:.0f} MB in the first half, "
        f"{memory[-1] / 1024:.0f} MB in all"
    )
    return {
        "seconds of signal": round(number / sfreq),
        "samples lost that were sent": lost.sum(),
        "samples sent": len(sent),
        "samples filled in": invented.sum(),
        "samples filled in without a mark": unmarked.sum(),
        "memory in the first half, MB": round(memory[half] / 1024),
        "memory in all, MB": round(memory[-1] / 1024),
    }


def take(inlet, got, marked):
    """Receive the published samples, and copy them from the buffer of the inlet."""
    virtual, times = inlet.pull_chunk(timeout=0.05, max_samples=100_000)
    if len(times):
        got.append(times.copy())
        marked.append(virtual[:, -1].copy())


if __name__ == "__main__":
    main()
