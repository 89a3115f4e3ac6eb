"""The benchmark: methods, protocols, the runner and its page.

All methods take arrays and return draws. The formulas of scores are in
:mod:`mne_neuroflow.scores`. This package does not use the figures of
:mod:`mne_neuroflow.viz`.
"""
