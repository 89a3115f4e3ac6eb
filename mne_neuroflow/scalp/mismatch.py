"""Recordings that differ from those that the model was built for: warn or raise.

This module knows what a user asked for with ``on_mismatch``. It must never know what
was compared.
"""

from .._compat import warn


def report_mismatch(message, on_mismatch):
    """Warn or raise because a recording differs from what the model was built for.

    Parameters
    ----------
    message : str
        The difference, the expected value, and the remedy.
    on_mismatch : str
        ``'warn'``, ``'raise'`` or ``'ignore'``.
    """
    if on_mismatch == "raise":
        raise ValueError(message)
    if on_mismatch == "warn":
        warn(message)
