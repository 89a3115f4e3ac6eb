"""Formulas by which draws and signals are judged.

Training, figures, comparisons and the benchmark share them. They take arrays, tensors
and tables of numbers, and never know of the flow or of MNE's objects.
"""
