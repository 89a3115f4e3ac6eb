"""The conditioning inputs of the flow, from the arrays of a recording and its contacts.

Here NumPy arrays become tensors. This module does not know recordings, nor how the
spatial stage is computed.
"""

import numpy as np

from .head.adaptive import POSTERIOR_FIELDS
from .head.geometry import nearest_distance
from .head.posterior import contact_halves


class FlowInputs:
    """The conditioning inputs of contacts and electrodes.

    Parameters
    ----------
    positions : ndarray, shape (n_contacts, 3)
        Metres, fsaverage surface RAS.
    electrodes : ndarray, shape (n_electrodes, 3)
        The same for the electrodes.
    device : torch.device
        Device of the flow.
    """

    def __init__(self, positions, electrodes, device):
        self.device, self.n_electrodes = device, len(electrodes)
        distance = nearest_distance(positions, electrodes)
        half = contact_halves(positions)
        self._geometry = [
            self.tensor(each)[None] for each in (positions, distance, half)
        ]
        self._known = {}

    def use(self, contact_fit):
        """Use calibration and amplitudes of a contact fit."""
        self._known = {
            "calibration": self.tensor(contact_fit.calibration)[None],
            "amplitude": self.tensor(contact_fit.amplitude)[None],
        }

    def tensor(self, array):
        """Convert numbers to single precision on the flow's device."""
        import torch

        return torch.as_tensor(
            np.asarray(array), dtype=torch.float32, device=self.device
        )

    def of(self, posterior):
        """Convert the fields of a posterior that the flow uses."""
        return {
            name: self.tensor(getattr(posterior, name))[None]
            for name in POSTERIOR_FIELDS
        }

    def conditions(self, mean, posterior, gain, spread):
        """Make the flow's conditioning inputs.

        Parameters
        ----------
        mean : ndarray, shape (n_contacts, n_times)
            Mean of the spatial stage, volts at 128 Hz, whole seconds.
        posterior : dict of Tensor
            Result of :meth:`of`.
        gain, spread : float
            The ratio of the recording's amplitude to the expected one, and how far the
            scalp EEG departs from the prior.

        Returns
        -------
        conditions : Conditions
            A batch of one.
        """
        from .flow.context import make_conditions

        recording = (self.n_electrodes, gain, spread)
        return make_conditions(
            self.tensor(mean)[None],
            posterior,
            *self._geometry,
            *(self.tensor([value]) for value in recording),
            **self._known,
        )
