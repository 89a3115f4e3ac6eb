"""Pairs of scalp and contacts small enough to train on in a test."""

import numpy as np

from mne_neuroflow.evaluation.pairs import PairedRecording, ScalpData
from mne_neuroflow.head.geometry import load_head

CONTACTS = np.array(
    [
        [-0.027, -0.020, -0.018],
        [-0.050, -0.020, -0.018],
        [0.027, -0.020, -0.018],
        [0.050, -0.020, -0.018],
    ]
)
STRUCTURES = ("hippocampus", "temporal-lateral") * 2


def make_recording(seconds=40, seed=0, patient="p1", session="1", noise=1.0, turn=0):
    """Contacts that follow the scalp by 16 ms, with noise as strong as the signal.

    ``turn`` gives each patient electrodes and mixing of its own.
    """
    n_times = int(seconds * 128)
    rng = np.random.default_rng(seed)
    frequency = np.fft.rfftfreq(n_times, 1 / 128)
    shape = (frequency > 0.5) * (frequency < 45) / np.maximum(frequency, 2)

    def smooth(n):
        white = np.fft.rfft(rng.standard_normal((n, n_times)))
        series = np.fft.irfft(white * shape, n_times)
        return series / series.std(1, keepdims=True)

    electrodes = load_head().scalp.rr[turn + 30 :: 50]
    mixing = np.random.default_rng(turn).standard_normal((len(CONTACTS), 3))
    sources = smooth(3)
    spread = np.random.default_rng(turn + 1).standard_normal((len(electrodes), 3))
    scalp = spread @ sources + 0.2 * smooth(len(electrodes))
    scalp = 1e-5 * (scalp - scalp.mean(0))
    signal = mixing @ np.roll(sources, 2, axis=1)
    signal /= signal.std(1, keepdims=True)
    ieeg = 5e-5 * (signal + noise * smooth(len(CONTACTS)))
    return PairedRecording(
        patient=patient,
        session=session,
        scalp=ScalpData(
            scalp, electrodes, tuple(f"ch{k}" for k in range(len(electrodes)))
        ),
        contacts=CONTACTS,
        ch_names=("HL1", "HL2", "HR1", "HR2"),
        structures=STRUCTURES,
        ieeg=ieeg,
        spikes=np.array([3.0, 11.0, 19.5]),
    )
