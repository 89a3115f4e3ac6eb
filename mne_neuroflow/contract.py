"""Constants that all models of this package share, and the name of the usual one.

They are the rate, the band and the reference of the model's signals, the block in which
recordings are processed, and the distance below which two contacts are at the same
position. All modules may import this one, and it imports none.
"""

#: Weights that are used unless others are asked for.
MODEL = "mtl-v2"
#: Rate of the model in hertz.
SFREQ = 128
#: Samples of a block, which is one second at the model's rate.
BLOCK = SFREQ
#: Passband in hertz.
BAND = (0.5, 50.0)
#: Contacts closer than this, in metres, are at the same position.
SAME_PLACE = 1e-4
#: Bounds of the data with which the shipped weights were trained.
TRAINED = {
    # Amplitude against what the head model expects; 0.27 to 2.05 are the 1st and the
    # 99th percentile of simulated recordings.
    "gain": (0.2, 3.0),
    # Electrodes on the scalp.
    "electrodes": (8, 128),
    # Share of independent signals. Removed components or projections do not matter if
    # more than half remain (doc/decisions/adaptive-stage.md).
    "independent": (0.5, 1.0),
    # Metres of a contact from the nearest source around the temporal lobes.
    "from_temporal_lobes": (0.0, 0.02),
}
#: Structures of the contacts with which the shipped weights were trained.
TRAINED_STRUCTURES = (
    "hippocampus",
    "amygdala",
    "parahippocampal",
    "temporal-lateral",
    "insula",
)
#: Properties of the model's input in a weights file and its card.
CONTRACT = {
    "rate_hz": float(SFREQ),
    "band_hz": list(BAND),
    "reference": "average over the scalp channels used",
    "units": "V",
}
