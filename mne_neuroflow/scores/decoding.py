"""Decoding of trials from features."""

import numpy as np

_SHRINKAGE = 0.1  # of the covariance within classes, towards a multiple of one


def decoding_auc(features, labels, n_folds=5):
    """Compute how well features separate two kinds of trials, by cross-validation.

    Parameters
    ----------
    features : array_like, shape (n_trials[, n_features])
        Finite numbers, with trials in the order of time.
    labels : array_like of bool, shape (n_trials,)
        The kind of each trial. Both must occur in the training trials of every fold.
    n_folds : int
        The number of folds. They consist of consecutive trials, because neighbouring
        trials are similar.

    Returns
    -------
    auc : float
        The area under the ROC curve of held-out trials: the share of pairs of a true
        and a false trial of the same fold that are ranked correctly. A tie counts half.

    Notes
    -----
    The classifier is a linear discriminant, with the covariance within
    classes shrunk by a tenth. Decode a **control** in the same way, and the features
    together with it. An effect of the control alone is no evidence about the signals.
    In the task of :mod:`mne_neuroflow.datasets.verbal_wm` an error is followed by a
    trial of low load, so that ``previous_correct`` decodes load without any recording.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.scores.decoding import decoding_auc
    >>> rng = np.random.default_rng(0)
    >>> labels = rng.random(200) < 0.5
    >>> feature = labels + rng.standard_normal(200)
    >>> bool(0.7 < decoding_auc(feature, labels) < 0.85)
    True
    """
    labels = np.asarray(labels, bool)
    features = np.asarray(features, float).reshape(len(labels), -1)
    if not np.isfinite(features).all():
        raise ValueError("features must be finite numbers: leave out trials with nan.")
    folds = np.array_split(np.arange(len(labels)), n_folds)
    right = n_pairs = 0.0
    for fold in folds:
        known = np.setdiff1d(np.arange(len(labels)), fold)
        if not 0 < labels[known].sum() < len(known):
            raise ValueError(
                "The training trials of a fold are all alike: give more trials, or "
                "fewer folds."
            )
        score = features[fold] @ _discriminant(features[known], labels[known])
        true, false = score[labels[fold]], score[~labels[fold]]
        difference = true[:, np.newaxis] - false
        right += np.sum((np.sign(difference) + 1) / 2)
        n_pairs += difference.size
    if not n_pairs:
        raise ValueError("No fold has trials of both labels: give fewer folds.")
    return float(right / n_pairs)


def _discriminant(features, labels):
    """Return the direction that separates two classes best."""
    means = [features[labels == label].mean(axis=0) for label in (True, False)]
    left = features - np.where(labels[:, np.newaxis], *means)
    covariance = left.T @ left / len(left)
    shrunk = (1 - _SHRINKAGE) * covariance
    shrunk += _SHRINKAGE * np.diag(np.diag(covariance) + 1e-300)
    return np.linalg.lstsq(shrunk, means[0] - means[1], rcond=None)[0]
