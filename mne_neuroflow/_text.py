"""Words for messages. This room knows nothing of what they are about."""


def listed(items, at_most=10):
    """Join names for a message, not more than a reader wants to see.

    Parameters
    ----------
    items : iterable of str
        The names.
    at_most : int
        How many to write out; the rest is counted.

    Returns
    -------
    text : str
        The names, separated by commas.
    """
    items = list(items)
    more = f" and {len(items) - at_most} more" if len(items) > at_most else ""
    return ", ".join(items[:at_most]) + more
