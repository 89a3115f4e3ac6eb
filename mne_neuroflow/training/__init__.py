"""Training of the flow on simulated or real pairs.

This package uses the flow and the simulation. It does not import MNE-Python, and it
does not depend on how the trained weights are used.
"""
