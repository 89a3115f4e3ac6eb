"""The generative prior: scalp and intracranial EEG of virtual patients.

This package depends on the head model and its sources. It does not depend on the flow
that is trained on its recordings, and it does not import MNE-Python.
"""
