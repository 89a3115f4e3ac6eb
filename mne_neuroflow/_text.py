"""Text for messages."""


def listed(items, at_most=10):
    """Join names for a message, and count the rest of a long list.

    Parameters
    ----------
    items : iterable of str
        The names.
    at_most : int
        The maximum number of names.

    Returns
    -------
    text : str
        The names, separated by commas.
    """
    items = list(items)
    more = f" and {len(items) - at_most} more" if len(items) > at_most else ""
    return ", ".join(items[:at_most]) + more
