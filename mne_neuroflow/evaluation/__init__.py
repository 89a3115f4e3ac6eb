"""The benchmark: methods, protocols, the runner and its page.

This room knows all methods alike, as arrays in and draws out; formulas are in
:mod:`mne_neuroflow.scores`, and it never knows the figures of users.
"""
