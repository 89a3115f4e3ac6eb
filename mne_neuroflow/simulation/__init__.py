"""The generative prior: scalp and intracranial EEG of virtual patients.

This room knows the head and the sources in it; it never knows the flow that is trained
on what it makes.
"""
