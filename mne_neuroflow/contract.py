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
#: What a weights file and its card say of the data that the model was built for.
CONTRACT = {
    "rate_hz": float(SFREQ),
    "band_hz": list(BAND),
    "reference": "average over the scalp channels used",
    "units": "V",
}
