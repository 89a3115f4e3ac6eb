"""Checks of the parameters that several public functions share.

This module knows names, numbers and devices. It does not know recordings or models.
"""

from numbers import Real

import numpy as np

from ._compat import _check_option, _validate_type, logger


def find_device(device):
    """Return the torch device of a name, or refuse it.

    Parameters
    ----------
    device : str
        ``'auto'``, ``'cpu'`` or a CUDA device.

    Returns
    -------
    device : torch.device
        Where the flow is computed.
    """
    import torch

    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        if found.type not in ("cpu", "cuda"):
            raise RuntimeError("its arithmetic is not precise enough")
        torch.empty(1, device=found)
    except (RuntimeError, AssertionError, TypeError) as err:
        raise ValueError(
            "Invalid value for the 'device' parameter. Allowed values are 'auto', "
            f"'cpu' and 'cuda' devices of this machine, but got {device!r}."
        ) from err
    return found


def find_seed(random_state):
    """Convert a random state to a seed that reproduces the result.

    Parameters
    ----------
    random_state : int | RandomState | Generator | None
        As for :func:`mne_neuroflow.predict_ieeg`.

    Returns
    -------
    seed : int
        At least 0. Where it was drawn it is logged.
    """
    if random_state is None:
        random_state = np.random.default_rng()
    if isinstance(random_state, np.random.Generator):
        seed = int(random_state.integers(2**31))
    elif isinstance(random_state, np.random.RandomState) or random_state is np.random:
        seed = int(random_state.randint(2**31, dtype=np.int64))
    else:
        return _check_seed(random_state)
    logger.info("Seed of the draws: %d.", seed)
    return seed


def _check_seed(random_state):
    _validate_type(
        random_state,
        ("int-like",),
        "random_state",
        "int, RandomState, Generator or None",
    )
    if not 0 <= random_state < 2**63:
        raise ValueError(
            "Invalid value for the 'random_state' parameter. Allowed values are "
            f"integers from 0 to 2**63 - 1, but got {random_state}."
        )
    return int(random_state)


def check_batch_size(batch_size):
    """Check the number of draws that are computed at once and return it."""
    if isinstance(batch_size, str):
        _check_option("batch_size", batch_size, ["auto"])
        return batch_size
    _validate_type(batch_size, ("int-like",), "batch_size", "int or 'auto'")
    if batch_size < 1:
        raise ValueError(
            "Invalid value for the 'batch_size' parameter. Allowed values are 'auto' "
            f"and positive integers, but got {batch_size}."
        )
    return int(batch_size)


def check_n_draws(n_draws, minimum):
    """Check the number of draws and return it."""
    _validate_type(n_draws, ("int-like",), "n_draws")
    if n_draws < minimum:
        raise ValueError(
            "Invalid value for the 'n_draws' parameter. Allowed values are integers "
            f"from {minimum}, but got {n_draws}."
        )
    return int(n_draws)


def check_shares(q):
    """Check levels of quantiles and return them as floats."""
    shares = np.atleast_1d(np.asarray(q, dtype=object))
    if shares.ndim != 1 or not len(shares) or not all(map(_is_share, shares)):
        raise ValueError(
            "Invalid value for the 'q' parameter. Allowed values are numbers between 0 "
            f"and 1, one or several, but got {q!r} instead."
        )
    return [float(share) for share in shares]


def _is_share(value):
    return isinstance(value, Real) and 0 < value < 1


def check_output(output):
    """Check the output of :func:`mne_neuroflow.predict_ieeg` and return it."""
    allowed = ("sample", "mean", "std", "median")
    if isinstance(output, str) and output in allowed:
        return output
    if isinstance(output, (tuple, list)) and len(output) == 2:
        name, share = output
        if name == "quantile" and _is_share(share):
            return ("quantile", float(share))
    raise ValueError(
        "Invalid value for the 'output' parameter. Allowed values are "
        f"{', '.join(map(repr, allowed))} and ('quantile', q) with 0 < q < 1, but got "
        f"{output!r}."
    )


def find_span(times, tmin, tmax):
    """Return the half-open range of samples between two times, both included."""
    tmin = times[0] if tmin is None else tmin
    tmax = times[-1] if tmax is None else tmax
    half = 0.5 * (times[-1] - times[0]) / (len(times) - 1)
    inside = np.flatnonzero((times > tmin - half) & (times < tmax + half))
    if not len(inside) or tmin < times[0] - half or tmax > times[-1] + half:
        raise ValueError(
            "Invalid value for the 'tmin' and 'tmax' parameters. Allowed values are "
            f"{times[0]:g} <= tmin <= tmax <= {times[-1]:g}, but got {tmin:g} and "
            f"{tmax:g}."
        )
    return int(inside[0]), int(inside[-1]) + 1
