"""Figures of virtual contacts, with intervals and comparisons.

Figures take draws and virtual recordings. Only the report and the view predict, with
the predictor. This package does not know the flow or how models are trained.
"""

from lazy_loader import attach_stub as _attach_stub

__getattr__, __dir__, __all__ = _attach_stub(__name__, __file__)
