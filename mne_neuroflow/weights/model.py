"""A model and what it was fitted to, from a name or a file."""

import copy
from functools import lru_cache
from pathlib import Path

import numpy as np

from .._compat import _check_option, _validate_type, warn
from .._text import listed
from ..head.ridge import Implant
from . import fetch


class Model:
    """Weights, what pairs have taught about patients, and the model card.

    Parameters
    ----------
    model : str | path-like
        Name of the weights, as for :func:`mne_neuroflow.fetch_model`, or a
        ``.safetensors`` file that :meth:`save` has written.

    Attributes
    ----------
    name : str
        Of the weights.
    flow : ConditionalFlow
        The weights, on the CPU.
    card : dict
        The model card: what it was trained on, and what it was fitted to.
    implants : list of Implant
        What pairs have taught about patients; empty where there were none.
    """

    def __init__(self, model="mtl-v2"):
        from .checkpoint import load_checkpoint, load_implants

        fname = _find_file(model)
        self.name = fname.stem if _is_file(model) else str(model)
        self.flow, self.card = load_checkpoint(fname)
        self.implants, self._sha256 = load_implants(fname), self.card["sha256"]

    def __repr__(self):
        fitted = [len(implant.ch_names) for implant in self.implants]
        told = f", fitted to implants of {fitted} contacts" if fitted else ""
        return f"<{type(self).__name__} | {self.name}{told}>"

    @classmethod
    def load(cls, model="mtl-v2"):
        """Load a model.

        Parameters
        ----------
        model : str | path-like
            Name of the weights, as for :func:`mne_neuroflow.fetch_model`, or the
            ``.safetensors`` file that :meth:`save` has written.

        Returns
        -------
        model : NeuroFlow
            The model.
        """
        return cls(model)

    @classmethod
    def untrained(cls, random_state=0):
        """Make a model that has learned nothing: the spatial posterior alone.

        Parameters
        ----------
        random_state : int
            Seed of the layers that do not start at zero.

        Returns
        -------
        model : NeuroFlow
            A model to train from scratch on one's own pairs.
        """
        import torch

        from ..flow.model import ConditionalFlow
        from .checkpoint import untrained_card

        model = cls.__new__(cls)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_state)
            model.flow = ConditionalFlow().eval()
        model.name, model.card = "untrained", untrained_card()
        model.implants, model._sha256 = [], None
        return model

    def save(self, fname):
        """Save the weights, what was fitted, and the model card.

        Parameters
        ----------
        fname : path-like
            A name ending with ``.safetensors``; the card gets the same name with
            ``.json``.

        Returns
        -------
        fname : pathlib.Path
            The weights file.
        """
        from .checkpoint import save_checkpoint

        fname = save_checkpoint(fname, self.flow, self.card, implants=self.implants)
        self.name = fname.stem
        return fname

    @property
    def sha256(self):
        """Hash of the weights file, which may be one that :meth:`save` is yet to write.

        Returns
        -------
        sha256 : str
            64 hexadecimal digits.
        """
        from .checkpoint import fingerprint

        if self._sha256 is None:
            self._sha256 = fingerprint(self.flow, self.implants)
        return self._sha256

    def flow_on(self, device):
        """Return the flow on a device.

        Parameters
        ----------
        device : torch.device
            Where it shall be.

        Returns
        -------
        flow : ConditionalFlow
            The flow itself on the CPU, a copy elsewhere.
        """
        if device.type == "cpu":
            return self.flow
        return copy.deepcopy(self.flow).to(device)

    def implant_at(self, positions, ch_names):
        """Find what is known of contacts from pairs.

        Parameters
        ----------
        positions : array of shape (n_contacts, 3)
            Metres, fsaverage surface RAS.
        ch_names : list of str
            Their names, to speak of them.

        Returns
        -------
        implant : Implant
            Of these contacts in this order; what it says changes no prediction where
            pairs have said nothing.
        """
        fitted = [each for each in self.implants if each.lagged is not None]
        # What was learned last counts.
        for implant in reversed(fitted):
            index = implant.find(positions)
            if index is not None:
                return implant.pick(index)
        if fitted:
            known = [listed(implant.ch_names) for implant in fitted]
            raise ValueError(
                "The model was fitted to other contacts than these. It can predict "
                f"those of one patient, all or some: {'; or '.join(known)}. For others "
                "use the weights that it was fitted from, or fit with "
                "spatial='physics'."
            )
        known = nothing_known(ch_names, positions)
        unknown = np.ones(len(positions), bool)
        for implant in self.implants:
            index = implant.match(positions)
            here = np.flatnonzero(index >= 0)
            if len(here):
                known = known.updated(here, implant.pick(index[here]))
                unknown[here] = False
        if unknown.any() and not unknown.all():
            warn(
                f"The model was not recalibrated for {unknown.sum()} of these "
                f"contacts: {listed(np.array(ch_names)[unknown])}. Their intervals are "
                "those of the weights."
            )
        return known


def nothing_known(ch_names, positions):
    """Make an implant of which pairs have not taught anything yet.

    Parameters
    ----------
    ch_names : list of str
        Names of the contacts.
    positions : array of shape (n_contacts, 3)
        Metres, fsaverage surface RAS.

    Returns
    -------
    implant : Implant
        What it says changes no prediction.
    """
    from ..flow.wavelet import LEVEL_SIZES

    amplitude = np.zeros((len(ch_names), len(LEVEL_SIZES), 2))
    return Implant(
        ch_names, positions, [], None, np.zeros((len(ch_names), 2)), amplitude
    )


def find_model(model):
    """Return a model that is only looked at: the last one that was loaded is kept.

    Parameters
    ----------
    model : str | path-like | Model
        As for :class:`Model`, or a model.

    Returns
    -------
    model : Model
        The same object as before where its files have not changed.
    """
    if isinstance(model, Model):
        return model
    fname = _find_file(model)
    files = (fname, fname.with_suffix(".json"))
    stats = [file.stat() for file in files if file.is_file()]
    stamp = tuple((stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats)
    return _keep(str(model), str(fname.absolute()), stamp)


@lru_cache(maxsize=1)
def _keep(model, fname, stamp):
    return Model(model)


def _is_file(model):
    return Path(model).suffix == ".safetensors"


def _find_file(model):
    """Return the weights file of a name or a path."""
    _validate_type(model, ("path-like",), "model")
    if _is_file(model):
        return Path(model)
    _check_option("model", str(model), [*fetch.model_names(), "*.safetensors"])
    return fetch.fetch_model(model)
