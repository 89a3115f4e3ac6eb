"""The conditioning inputs of the flow: the spatial posterior given the scalp EEG.

The inputs are the posterior mean at each contact and features that the spatial stage
estimates from the recording. The flow itself is therefore independent of the montage.
Cortical virtual sensors as additional inputs did not improve the predictions
(doc/decisions/flow.md).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from .coupling import Mixer, magnitudes
from .slabs import in_slabs
from .wavelet import LEVEL_SIZES, WaveletTransform

#: Number of features of a contact, and of a pair of contacts.
N_STATIC = 28 + 3 * len(LEVEL_SIZES)
N_RELATIONS = 6


@dataclass(frozen=True)
class Conditions:
    """The conditioning inputs of a batch of recordings.

    Attributes
    ----------
    mean : Tensor of shape (batch, contact, time)
        Posterior mean in volts at unit gain.
    mean_std : Tensor of shape (batch, contact)
        Standard deviation of the posterior mean in this recording, volts.
    posterior_std : Tensor of shape (batch, contact)
        Posterior standard deviation of all levels together, volts.
    static : Tensor of shape (batch, contact, N_STATIC)
        Features of each contact and of the recording.
    relations : Tensor of shape (batch, contact, contact, N_RELATIONS)
        Features of each pair of contacts.
    half : Tensor of shape (batch, contact)
        0 or 1: the half of the contacts to which each belongs in a coupling step.
    root, inverse_root : Tensor of shape (batch, level, contact, contact)
        Symmetric square root of each wavelet level's posterior covariance (volts) and
        its inverse.
    gain : Tensor of shape (batch,)
        The recording's gain.
    calibration : Tensor of shape (batch, contact, 2) | None
        Log-scale and tail of contacts whose calibration is known from pairs, added to
        the flow's own; see :mod:`~mne_neuroflow.flow.marginal`.
    amplitude : Tensor of shape (batch, contact, level, 2) | None
        Log-amplitude measured in pairs, and its precision, which is zero where there
        are no pairs; see :mod:`~mne_neuroflow.flow.amplitude`.
    """

    mean: Tensor
    mean_std: Tensor
    posterior_std: Tensor
    static: Tensor
    relations: Tensor
    half: Tensor
    root: Tensor
    inverse_root: Tensor
    gain: Tensor
    calibration: Tensor | None = None
    amplitude: Tensor | None = None

    def to(self, *args, **kwargs) -> "Conditions":
        """Move or cast every tensor."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def repeat(self, times: int) -> "Conditions":
        """Repeat the batch, for several draws from each recording."""
        return self._map(lambda tensor: torch.cat([tensor] * times))

    def _map(self, change) -> "Conditions":
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        changed = {k: change(v) for k, v in tensors.items() if v is not None}
        return replace(self, **changed)


def position_features(positions: Tensor) -> Tensor:
    """Compute Fourier features of positions.

    Parameters
    ----------
    positions : Tensor of shape (..., 3)
        Metres, fsaverage surface RAS.

    Returns
    -------
    features : Tensor of shape (..., 18)
        Sine and cosine at wavelengths of 320, 160 and 80 mm.
    """
    waves = 2 * torch.pi / torch.tensor([0.32, 0.16, 0.08]).to(positions)
    phase = (positions[..., None] * waves).flatten(-2)
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)


def static_features(
    positions: Tensor,
    observability: Tensor,
    prior_std: Tensor,
    posterior_std: Tensor,
    mean_std: Tensor,
    electrode_distance: Tensor,
    n_electrodes: Tensor,
    gain: Tensor,
    spread: Tensor,
    level_features: Tensor,
) -> Tensor:
    """Collect the features that are constant over a recording, scaled to order one.

    Parameters
    ----------
    positions : Tensor of shape (batch, contact, 3)
        Metres.
    observability : Tensor of shape (batch, contact)
        Share of prior variance that the scalp EEG explains.
    prior_std, posterior_std, mean_std : Tensor of shape (batch, contact)
        Volts at unit gain.
    electrode_distance : Tensor of shape (batch, contact)
        Metres to the nearest electrode.
    n_electrodes : Tensor of shape (batch,)
        Electrodes in use.
    gain : Tensor of shape (batch,)
        The recording's gain.
    spread : Tensor of shape (batch,)
        Standard deviation over electrodes of the logarithm of measured to
        expected amplitude: how far the scalp EEG departs from the prior.
    level_features : Tensor of shape (batch, contact, 12)
        Features by level that the spatial stage estimated from this recording, see
        :class:`~mne_neuroflow.head.adaptive.AdaptedPosterior`.

    Returns
    -------
    features : Tensor of shape (batch, contact, N_STATIC)
        For :class:`Conditions`.
    """
    recording = torch.stack(
        [torch.log2(n_electrodes / 32), torch.log(gain), spread], dim=-1
    )
    columns = [
        position_features(positions),
        positions[..., :1].abs() * 20,
        torch.sqrt(observability)[..., None],
        observability[..., None],
        torch.log(prior_std / 5e-5)[..., None],
        torch.log(posterior_std / 5e-5)[..., None],
        torch.log(mean_std / prior_std)[..., None] / 2,
        electrode_distance[..., None] * 30,
        recording[:, None].expand(-1, positions.shape[1], -1),
        level_features,
    ]
    return torch.cat(columns, dim=-1)


def relation_features(positions: Tensor, covariance: Tensor) -> Tensor:
    """Describe each pair of contacts.

    Parameters
    ----------
    positions : Tensor of shape (batch, contact, 3)
        Metres.
    covariance : Tensor of shape (batch, contact, contact)
        Posterior covariance.

    Returns
    -------
    features : Tensor of shape (batch, contact, contact, N_RELATIONS)
        Posterior correlation, nearness on three scales, same side, identity.
    """
    std = torch.sqrt(covariance.diagonal(dim1=-2, dim2=-1))
    correlation = covariance / (std[..., :, None] * std[..., None, :])
    # Torch computes distances of 26 points or more by matrix products. In single
    # precision, a contact would then be up to a millimetre away from itself.
    distance = torch.cdist(
        positions, positions, compute_mode="donot_use_mm_for_euclid_dist"
    )
    same_side = (positions[..., :, None, 0] * positions[..., None, :, 0]) > 0
    eye = torch.eye(positions.shape[1]).to(distance).expand_as(distance)
    return torch.stack(
        [
            correlation,
            torch.exp(-distance / 0.005),
            torch.exp(-distance / 0.015),
            torch.exp(-distance / 0.05),
            same_side.to(distance),
            eye,
        ],
        dim=-1,
    )


def make_conditions(
    mean: Tensor,
    posterior: dict,
    contacts: Tensor,
    electrode_distance: Tensor,
    half: Tensor,
    n_electrodes: Tensor,
    gain: Tensor,
    spread: Tensor,
    calibration: Tensor | None = None,
    amplitude: Tensor | None = None,
) -> Conditions:
    """Collect the conditioning inputs of a batch of recordings.

    Parameters
    ----------
    mean : Tensor of shape (batch, contact, time)
        Posterior mean in volts at 128 Hz.
    posterior : dict of Tensor
        ``covariance``, ``root``, ``inverse_root``, ``mean_std``, ``prior_std``,
        ``observability`` and ``level_features`` of
        :class:`~mne_neuroflow.head.adaptive.AdaptedPosterior`, each with a leading
        batch axis.
    contacts : Tensor of shape (batch, contact, 3)
        Metres, fsaverage surface RAS.
    electrode_distance : Tensor of shape (batch, contact)
        Metres to the nearest electrode.
    half : Tensor of shape (batch, contact)
        0 or 1, see :class:`Conditions`.
    n_electrodes, gain, spread : Tensor of shape (batch,)
        Electrodes in use, the recording's gain, and how far the scalp EEG departs from
        the prior; see :func:`static_features`.
    calibration : Tensor of shape (batch, contact, 2) | None
        See :class:`Conditions`.
    amplitude : Tensor of shape (batch, contact, level, 2) | None
        See :class:`Conditions`.

    Returns
    -------
    conditions : Conditions
        The flow's input.
    """
    covariance = posterior["covariance"]
    posterior_std = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    if calibration is None:
        calibration = mean.new_zeros(*contacts.shape[:2], 2)
    if amplitude is None:
        n_levels = posterior["root"].shape[1]
        amplitude = mean.new_zeros(*contacts.shape[:2], n_levels, 2)
    return Conditions(
        mean=mean / gain[:, None, None],
        mean_std=posterior["mean_std"],
        posterior_std=posterior_std,
        static=static_features(
            contacts,
            posterior["observability"],
            posterior["prior_std"],
            posterior_std,
            posterior["mean_std"],
            electrode_distance,
            n_electrodes,
            gain,
            spread,
            posterior["level_features"],
        ),
        relations=relation_features(contacts, covariance),
        half=half,
        root=posterior["root"],
        inverse_root=posterior["inverse_root"],
        gain=gain,
        calibration=calibration,
        amplitude=amplitude,
    )


class ScalpContext(nn.Module):
    """Encode the conditioning inputs into one state per contact and second.

    Parameters
    ----------
    width, n_heads : int
        Channels of a token and attention heads.
    wavelet : WaveletTransform
        The transform that the flow uses.
    n_mixers : int
        Number of mixers over contacts and seconds.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        wavelet: WaveletTransform,
        n_mixers: int = 2,
    ):
        super().__init__()
        self.wavelet = wavelet
        self.contact_read = nn.Linear(256, width)
        self.static = nn.Sequential(
            nn.Linear(N_STATIC, width), nn.GELU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(
            Mixer(width, n_heads, N_RELATIONS, seconds=True) for _ in range(n_mixers)
        )
        self.reach = n_mixers + wavelet.reach

    def _tokens(self, signals: Tensor, read: nn.Linear) -> Tensor:
        levels = torch.cat(self.wavelet(signals), dim=-1)
        return in_slabs(lambda _, part: read(magnitudes(part)), (levels,), 0)

    def forward(self, conditions: Conditions) -> Tensor:
        """Return the state, (batch, contact, block, width)."""
        own = conditions.mean / conditions.mean_std[..., None]
        state = self._tokens(own, self.contact_read)
        state = state + self.static(conditions.static)[:, :, None]
        for mixer in self.blocks:

            def mix(_, state, mixer=mixer):
                return mixer(state, conditions.relations)

            state = in_slabs(mix, (state,), mixer.reach)
        return state
