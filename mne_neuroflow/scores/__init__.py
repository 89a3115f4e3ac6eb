"""Scores of draws and signals.

Training, figures, comparisons and the benchmark share these formulas. Their arguments
are arrays, tensors and tables. They do not depend on the flow or on MNE-Python objects.
"""
