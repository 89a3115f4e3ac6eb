"""Training of the flow on simulated or real pairs.

This room knows the flow and where pairs come from; it never knows MNE, nor who predicts
with the weights.
"""
