"""A model with its contact fits, loaded by name or from a file."""

import copy
from functools import lru_cache
from pathlib import Path

import numpy as np

from .._compat import _check_option, _validate_type, warn
from .._text import listed
from ..contract import MODEL
from ..head.ridge import ContactFit
from . import fetch


class Model:
    """Weights, contact fits and the model card.

    Parameters
    ----------
    model : str | path-like
        The name of the weights, see :func:`mne_neuroflow.fetch_model`, or a
        ``.safetensors`` file that :meth:`save` has written.

    Attributes
    ----------
    name : str
        The name of the weights.
    flow : ConditionalFlow
        The weights, on the CPU.
    card : dict
        The model card: what the model was trained on, and what it was fitted to.
    contact_fits : list of ContactFit
        What recorded pairs have shown about the contacts of each patient.
    """

    def __init__(self, model=MODEL):
        from .checkpoint import load_checkpoint, load_contact_fits

        fname = _find_file(model)
        self.name = fname.stem if _is_file(model) else str(model)
        self.flow, self.card = load_checkpoint(fname)
        self.contact_fits, self._sha256 = load_contact_fits(fname), self.card["sha256"]

    def __repr__(self):
        fitted = [len(contact_fit.ch_names) for contact_fit in self.contact_fits]
        described = f", fitted to implants of {fitted} contacts" if fitted else ""
        return f"<{type(self).__name__} | {self.name}{described}>"

    @classmethod
    def load(cls, model=MODEL):
        """Load a model.

        Parameters
        ----------
        model : str | path-like
            The name of the weights, see :func:`mne_neuroflow.fetch_model`, or a
            ``.safetensors`` file that :meth:`save` has written.

        Returns
        -------
        model : NeuroFlow
            The model.
        """
        return cls(model)

    @classmethod
    def untrained(cls, random_state=0):
        """Make an untrained model, which equals the spatial posterior.

        Parameters
        ----------
        random_state : int
            The seed of the layers that are not initialized with zeros.

        Returns
        -------
        model : NeuroFlow
            A model that can be fitted to pairs without any earlier training.
        """
        import torch

        from ..flow.model import ConditionalFlow
        from .checkpoint import untrained_card

        model = cls.__new__(cls)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(random_state)
            model.flow = ConditionalFlow().eval()
        model.name, model.card = "untrained", untrained_card()
        model.contact_fits, model._sha256 = [], None
        return model

    def save(self, fname):
        """Save the weights, the contact fits and the model card.

        Parameters
        ----------
        fname : path-like
            A file name that ends with ``.safetensors``. The card is written beside it,
            with the ending ``.json``.

        Returns
        -------
        fname : pathlib.Path
            The file of the weights.
        """
        from .checkpoint import save_checkpoint

        fname = save_checkpoint(
            fname, self.flow, self.card, contact_fits=self.contact_fits
        )
        self.name = fname.stem
        return fname

    @property
    def sha256(self):
        """Return the hash of the weights file, also before :meth:`save` has written it.

        Returns
        -------
        sha256 : str
            64 hexadecimal digits.
        """
        from .checkpoint import fingerprint

        if self._sha256 is None:
            self._sha256 = fingerprint(self.flow, self.contact_fits)
        return self._sha256

    def flow_on(self, device):
        """Return the flow on a device.

        Parameters
        ----------
        device : torch.device
            The device.

        Returns
        -------
        flow : ConditionalFlow
            The flow itself on the CPU, a copy elsewhere.
        """
        if device.type == "cpu":
            return self.flow
        return copy.deepcopy(self.flow).to(device)

    def contact_fit_at(self, positions, ch_names):
        """Find the contact fit of the given contacts.

        Parameters
        ----------
        positions : array of shape (n_contacts, 3)
            Metres, fsaverage surface RAS.
        ch_names : list of str
            The names of the contacts, for messages.

        Returns
        -------
        contact_fit : ContactFit
            The fit of these contacts in this order. It is neutral for contacts without
            recorded pairs.
        """
        fitted = [each for each in self.contact_fits if each.lagged is not None]
        # What was learned last counts.
        for contact_fit in reversed(fitted):
            index = contact_fit.find(positions)
            if index is not None:
                return contact_fit.pick(index)
        if fitted:
            known = [listed(contact_fit.ch_names) for contact_fit in fitted]
            raise ValueError(
                "The model was fitted to other contacts than these. It can predict "
                f"those of one patient, all or some: {'; or '.join(known)}. For others "
                "use the weights that it was fitted from, or fit with "
                "spatial='physics'."
            )
        known = empty_contact_fit(ch_names, positions)
        unknown = np.ones(len(positions), bool)
        for contact_fit in self.contact_fits:
            index = contact_fit.match(positions)
            here = np.flatnonzero(index >= 0)
            if len(here):
                known = known.updated(here, contact_fit.pick(index[here]))
                unknown[here] = False
        if unknown.any() and not unknown.all():
            warn(
                f"The model was not recalibrated for {unknown.sum()} of these "
                f"contacts: {listed(np.array(ch_names)[unknown])}. Their intervals are "
                "those of the weights."
            )
        return known


def empty_contact_fit(ch_names, positions):
    """Make the contact fit of contacts for which no pairs were recorded.

    Parameters
    ----------
    ch_names : list of str
        Names of the contacts.
    positions : array of shape (n_contacts, 3)
        Metres, fsaverage surface RAS.

    Returns
    -------
    contact_fit : ContactFit
        A neutral fit, which does not change predictions.
    """
    from ..flow.wavelet import LEVEL_SIZES

    amplitude = np.zeros((len(ch_names), len(LEVEL_SIZES), 2))
    return ContactFit(
        ch_names, positions, [], None, np.zeros((len(ch_names), 2)), amplitude
    )


def find_model(model):
    """Return a model that must not be changed. The last one that was loaded is kept.

    Parameters
    ----------
    model : str | path-like | Model
        As for :class:`Model`, or a model itself.

    Returns
    -------
    model : Model
        The same object as before if its files have not changed.
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
        return Path(model).expanduser()
    _check_option("model", str(model), [*fetch.model_names(), "*.safetensors"])
    return fetch.fetch_model(model)
