"""Reading scalp EEG: what a recording says of itself, and whether to believe it.

Names, positions, header, samples and units are checked here, each in a module of its
own, and :func:`mne_neuroflow.scalp.check.check_scalp` combines them. This room knows
MNE-Python's objects and the head's surfaces. It must never know torch, or what will be
computed from the recording.
"""
