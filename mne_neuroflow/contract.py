"""What every model of this package is built for, and nothing else.

The rate, the band and the reference of what enters the flow, the block that recordings
are worked through by, and how near two contacts are one. Every room may read this one;
it reads none.
"""

#: Rate of the model in hertz.
SFREQ = 128
#: Samples of a block, which is one second at the model's rate.
BLOCK = SFREQ
#: Passband in hertz.
BAND = (0.5, 50.0)
#: Contacts nearer to each other than this, in metres, are at the same place.
SAME_PLACE = 1e-4
#: What the shipped weights were trained on, both bounds of each.
TRAINED = {
    # Amplitude against what the head model expects; 0.27 to 2.05 are the 1st and the
    # 99th percentile of simulated recordings.
    "gain": (0.2, 3.0),
    # Electrodes on the scalp.
    "electrodes": (8, 128),
    # Metres of a contact from the nearest source around the temporal lobes.
    "from_temporal_lobes": (0.0, 0.02),
}
#: What a weights file and its card say of the data that the model was built for.
CONTRACT = {
    "rate_hz": float(SFREQ),
    "band_hz": list(BAND),
    "reference": "average over the scalp channels used",
    "units": "V",
}
