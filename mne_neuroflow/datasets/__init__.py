"""Recordings that ship with the package, are downloaded, or are simulated.

This package knows the files and layouts of datasets, and returns MNE-Python objects. It
does not know what is predicted from them.
"""

from lazy_loader import attach_stub as _attach_stub

__getattr__, __dir__, __all__ = _attach_stub(__name__, __file__)
