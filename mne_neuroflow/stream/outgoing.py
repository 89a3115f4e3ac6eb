"""Finished virtual samples: outputs of the draws, marks, and the wait for the caller.

This module knows arrays of draws. It does not know where they come from.
"""

import json
from collections import deque
from dataclasses import dataclass

import numpy as np

from ..arguments import check_output


@dataclass(frozen=True)
class Mark:
    """A remark on virtual samples whose scalp EEG was not complete.

    Parameters
    ----------
    first_sample, n_samples : int
        First sample and number of samples, counted as the samples of the scalp EEG.
    text : str
        ``'no scalp'`` for draws of the prior, ``'gap'`` for samples that were left out,
        or ``'fewer draws'`` than requested.

    Examples
    --------
    >>> from mne_neuroflow.stream import Mark
    >>> Mark(first_sample=1000, n_samples=40, text="no scalp").n_samples
    40
    """

    first_sample: int
    n_samples: int
    text: str


class Outgoing:
    """The queue of finished samples.

    Parameters
    ----------
    output : str | tuple | list
        As for :class:`~mne_neuroflow.stream.StreamPredictor`.
    n_draws : int
        Number of draws for the output ``'draws'``.
    n_contacts : int
        Number of contacts.
    """

    def __init__(self, output, n_draws, n_contacts):
        self._outputs = _check_outputs(output, n_draws)
        self._has_axis = isinstance(output, list) or output == "draws"
        self._nothing = np.zeros((len(self._outputs), n_contacts, 0), np.float32)
        self._runs, self._marks = deque(), []

    @property
    def names(self):
        """The names of the outputs."""
        return [
            f"{each[0]} {each[1]:.10g}" if isinstance(each, tuple) else each
            for each in self._outputs
        ]

    @property
    def draws_matter(self):
        """Whether the outputs depend on the number of draws."""
        return set(self._outputs) != {"sample"}

    @property
    def only_means(self):
        """Whether means are the only output."""
        return set(self._outputs) == {"mean"}

    def add(self, draws, first_sample):
        """Add finished samples.

        Parameters
        ----------
        draws : ndarray, shape (n_draws, n_contacts, n)
            The draws, which are reduced to the outputs.
        first_sample : int
            Index of the first sample.
        """
        reduced = np.stack([_reduce(draws, output) for output in self._outputs])
        self._runs.append((first_sample, reduced))

    def mark(self, first_sample, n_samples, text):
        """Add a mark, see :class:`Mark`."""
        self._marks.append(Mark(int(first_sample), int(n_samples), text))

    def collect(self, next_sample):
        """Return and remove the first contiguous run of samples.

        Parameters
        ----------
        next_sample : int
            Index of the next sample, for an empty result.

        Returns
        -------
        virtual : ndarray, shape ([n_outputs, ]n_contacts, n)
            The samples.
        first_sample : int
            Index of the first of them.
        marks : list of Mark
            Remarks on them.
        """
        first = stop = self._runs[0][0] if self._runs else next_sample
        parts = [self._nothing]
        while self._runs and self._runs[0][0] == stop:
            parts.append(self._runs.popleft()[1])
            stop += parts[-1].shape[-1]
        data = np.concatenate(parts, axis=-1)
        last = np.inf if not self._runs else self._runs[0][0]
        marks = _joined([mark for mark in self._marks if mark.first_sample < last])
        self._marks = [mark for mark in self._marks if mark.first_sample >= last]
        return (data if self._has_axis else data[0]), first, marks

    def state(self):
        """Return the samples and marks that wait, as arrays."""
        return {
            "starts": np.array([start for start, _ in self._runs], int),
            "marks": np.array(json.dumps([vars(mark) for mark in self._marks])),
            **{f"run_{k}": part for k, (_, part) in enumerate(self._runs)},
        }

    def restore(self, state):
        """Continue from a saved state."""
        starts = map(int, state["starts"])
        self._runs = deque((at, state[f"run_{k}"]) for k, at in enumerate(starts))
        self._marks = [Mark(**mark) for mark in json.loads(str(state["marks"]))]


def _check_outputs(output, n_draws):
    if isinstance(output, str) and output == "draws":
        return [("draw", k) for k in range(n_draws)]
    if isinstance(output, list) and output:
        return [check_output(each) for each in output]
    return [check_output(output)]


def _reduce(draws, output):
    """Reduce draws, the first axis, to one output."""
    if output == "sample":
        return draws[0]
    if output[0] == "draw":
        at = output[1]
        return draws[at] if at < len(draws) else np.full_like(draws[0], np.nan)
    if output == "mean":
        return draws.mean(axis=0)
    if output == "std":
        return draws.std(axis=0, ddof=1)
    share = 0.5 if output == "median" else output[1]
    return np.quantile(draws, share, axis=0).astype(draws.dtype)


def _joined(marks):
    """Merge consecutive marks."""
    out = []
    for mark in sorted(marks, key=lambda mark: (mark.text, mark.first_sample)):
        last = out[-1] if out else None
        if last and last.text == mark.text and _end(last) == mark.first_sample:
            length = last.n_samples + mark.n_samples
            out[-1] = Mark(last.first_sample, length, mark.text)
        else:
            out.append(mark)
    return sorted(out, key=lambda mark: mark.first_sample)


def _end(mark):
    return mark.first_sample + mark.n_samples
