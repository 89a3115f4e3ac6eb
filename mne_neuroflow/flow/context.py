"""What the flow is told: the spatial posterior's view of the scalp.

The scalp enters through the posterior mean at each contact and through a fixed
set of cortical virtual sensors. Both are linear maps of whatever electrodes
there are, so that the flow itself never sees a montage.
"""

from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import Tensor, nn

from .coupling import Mixer, magnitudes
from .slabs import in_slabs
from .wavelet import LEVEL_SIZES, WaveletTransform

#: Features of a contact and of a pair of contacts, in order.
N_STATIC = 28
N_RELATIONS = 6


@dataclass(frozen=True)
class Conditions:
    """One batch of recordings as the flow sees them.

    Attributes
    ----------
    mean : Tensor of shape (batch, contact, time)
        Posterior mean in volts at unit gain.
    mean_std : Tensor of shape (batch, contact)
        Its spread over recordings, volts.
    rois : Tensor of shape (batch, roi, time)
        Cortical virtual sensors in units of their spread.
    static : Tensor of shape (batch, contact, N_STATIC)
        Features of each contact and of the recording.
    relations : Tensor of shape (batch, contact, contact, N_RELATIONS)
        Features of each pair of contacts.
    half : Tensor of shape (batch, contact)
        0 or 1: which half of the contacts each belongs to in a coupling step.
    root, inverse_root : Tensor of shape (batch, contact, contact)
        Symmetric square root of the posterior covariance (volts) and inverse.
    gain : Tensor of shape (batch,)
        The recording's gain.
    calibration : Tensor of shape (batch, contact, 2) | None
        Log-scale and tail of contacts whose calibration is known from pairs, beside
        the flow's own; see :mod:`~mne_neuroflow.flow.calibration`.
    amplitude : Tensor of shape (batch, contact, level, 2) | None
        Log-amplitude that pairs have shown and its precision, zero where they have
        not; see :mod:`~mne_neuroflow.flow.amplitude`.
    """

    mean: Tensor
    mean_std: Tensor
    rois: Tensor
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
        """Tile the batch, so that each scalp is drawn from several times."""
        return self._map(lambda tensor: torch.cat([tensor] * times))

    def _map(self, change) -> "Conditions":
        tensors = {name: getattr(self, name) for name in self.__dataclass_fields__}
        changed = {k: change(v) for k, v in tensors.items() if v is not None}
        return replace(self, **changed)


def position_features(positions: Tensor) -> Tensor:
    """Fourier features of positions.

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
) -> Tensor:
    """Collect what is constant over a recording, scaled to order one.

    Parameters
    ----------
    positions : Tensor of shape (batch, contact, 3)
        Metres.
    observability : Tensor of shape (batch, contact)
        Share of prior variance that the scalp explains.
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
        expected amplitude: how unlike the prior the scalp is.

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
    # By way of products, the default from 26 points on, single precision would put
    # a contact up to a millimetre away from itself.
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
    scalp: Tensor,
    rms: Tensor,
    posterior: dict,
    contacts: Tensor,
    electrode_distance: Tensor,
    half: Tensor,
    used: Tensor | None = None,
    mean: Tensor | None = None,
    calibration: Tensor | None = None,
    amplitude: Tensor | None = None,
    gain: Tensor | None = None,
) -> Conditions:
    """Turn scalps and their spatial posteriors into what the flow is told.

    Parameters
    ----------
    scalp : Tensor of shape (batch, electrode, time)
        Average-referenced volts at 128 Hz; rows of zeros where a montage is padded.
    rms : Tensor of shape (batch, electrode)
        Robust r.m.s. of each electrode over the recording, volts.
    posterior : dict of Tensor
        Fields of :class:`~mne_neuroflow.head.posterior.SpatialPosterior`, each
        with a leading batch axis.
    contacts : Tensor of shape (batch, contact, 3)
        Metres, fsaverage surface RAS.
    electrode_distance : Tensor of shape (batch, contact)
        Metres to the nearest electrode.
    half : Tensor of shape (batch, contact)
        0 or 1, see :class:`Conditions`.
    used : Tensor of shape (batch, electrode) | None
        0 where a montage is padded; None means no padding.
    mean : Tensor of shape (batch, contact, time) | None
        Posterior mean in volts; None is the posterior's operator on the scalp.
    calibration : Tensor of shape (batch, contact, 2) | None
        See :class:`Conditions`.
    amplitude : Tensor of shape (batch, contact, level, 2) | None
        See :class:`Conditions`.
    gain : Tensor of shape (batch,) | None
        The recording's gain; None is the median over electrodes of measured to
        expected amplitude, so that half of the electrodes may be bad.

    Returns
    -------
    conditions : Conditions
        The flow's input.
    """
    used = torch.ones_like(rms) if used is None else used
    ratio = rms / posterior["scalp_std"].clamp_min(1e-12)
    ratio = torch.where(used > 0, ratio, torch.full_like(ratio, torch.nan))
    typical = ratio.nanmedian(-1).values.clamp_min(1e-3)
    deviation = torch.log((ratio / typical[:, None]).clamp_min(1e-3))
    gain = typical if gain is None else gain
    spread = deviation.square().nanmean(-1).sqrt()
    unit = scalp / gain[:, None, None]
    covariance = posterior["covariance"]
    if mean is None:
        mean = posterior["operator"] @ scalp
    if calibration is None:
        calibration = mean.new_zeros(*contacts.shape[:2], 2)
    if amplitude is None:
        amplitude = mean.new_zeros(*contacts.shape[:2], len(LEVEL_SIZES), 2)
    return Conditions(
        mean=mean / gain[:, None, None],
        mean_std=posterior["mean_std"],
        rois=posterior["roi_operator"] @ unit,
        static=static_features(
            contacts,
            posterior["observability"],
            posterior["prior_std"],
            covariance.diagonal(dim1=-2, dim2=-1).sqrt(),
            posterior["mean_std"],
            electrode_distance,
            used.sum(-1),
            gain,
            spread,
        ),
        relations=relation_features(contacts, covariance),
        half=half,
        root=posterior["root"],
        inverse_root=posterior["inverse_root"],
        gain=gain,
        calibration=calibration,
        amplitude=amplitude,
    )


class SecondsAttention(nn.Module):
    """Self-attention over a few seconds before and after, per token stream.

    Parameters
    ----------
    width, n_heads : int
        Channels and heads.
    reach : int
        Blocks to either side.
    """

    def __init__(self, width: int, n_heads: int, reach: int):
        super().__init__()
        self.reach, self.n_heads = reach, n_heads
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.place = nn.Parameter(torch.zeros(n_heads, 2 * reach + 1))
        self.out = nn.Linear(width, width)

    def _windows(self, series: Tensor) -> Tensor:
        """Each block with those around it, (..., block, window, channels)."""
        padded = nn.functional.pad(series, (0, 0, self.reach, self.reach))
        return padded.unfold(-2, 2 * self.reach + 1, 1).transpose(-1, -2)

    def forward(self, tokens: Tensor) -> Tensor:
        """Add to (batch, stream, block, width) what other seconds say."""
        query, key, value = self.project(self.norm(tokens)).chunk(3, dim=-1)
        inside = self._windows(torch.ones_like(tokens[:1, :1, :, :1]))[..., 0]
        split = (self.n_heads, -1)
        query = query.unflatten(-1, split)[..., None, :]
        key, value = (
            self._windows(series).unflatten(-1, split).transpose(-2, -3)
            for series in (key, value)
        )
        logits = (query * key).sum(-1) / sqrt(key.shape[-1]) + self.place
        logits = logits - 1e4 * (1 - inside[..., None, :])
        weights = torch.softmax(logits, dim=-1)
        mixed = (weights[..., None] * value).sum(-2).flatten(-2)
        return tokens + self.out(mixed)


class ScalpContext(nn.Module):
    """Encode conditions into one state per contact and second.

    Parameters
    ----------
    width, n_heads : int
        Channels and heads.
    n_rois : int
        Cortical virtual sensors.
    wavelet : WaveletTransform
        The transform that the flow uses.
    n_mixers : int
        Mixers over contacts and seconds.
    """

    def __init__(
        self,
        width: int,
        n_heads: int,
        n_rois: int,
        wavelet: WaveletTransform,
        n_mixers: int = 2,
    ):
        super().__init__()
        self.wavelet = wavelet
        self.roi_read = nn.Linear(256, width)
        self.roi_place = nn.Parameter(0.1 * torch.randn(n_rois, 1, width))
        self.roi_seconds = SecondsAttention(width, n_heads, reach=2)
        self.roi_value = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.roi_query = nn.Linear(N_STATIC, n_heads * n_rois)
        self.contact_read = nn.Linear(256, width)
        self.static = nn.Sequential(
            nn.Linear(N_STATIC, width), nn.GELU(), nn.Linear(width, width)
        )
        self.blocks = nn.ModuleList(
            Mixer(width, n_heads, N_RELATIONS, seconds=True) for _ in range(n_mixers)
        )
        self.n_heads = n_heads
        self.reach = self.roi_seconds.reach + n_mixers + wavelet.reach

    def _tokens(self, signals: Tensor, read: nn.Linear) -> Tensor:
        levels = torch.cat(self.wavelet(signals), dim=-1)
        return in_slabs(lambda _, part: read(magnitudes(part)), (levels,), 0)

    def forward(self, conditions: Conditions) -> Tensor:
        """Return the state, (batch, contact, block, width)."""
        rois = self._tokens(conditions.rois, self.roi_read) + self.roi_place
        rois = self.roi_value(self.roi_seconds(rois))
        # Each contact weighs the virtual sensors by where it lies.
        weights = self.roi_query(conditions.static).unflatten(-1, (self.n_heads, -1))
        weights = torch.softmax(weights, dim=-1)
        value = rois.unflatten(-1, (self.n_heads, -1))
        from_rois = torch.einsum("bchr,brnhw->bcnhw", weights, value).flatten(-2)
        own = conditions.mean / conditions.mean_std[..., None]
        state = self._tokens(own, self.contact_read) + from_rois
        state = state + self.static(conditions.static)[:, :, None]
        for mixer in self.blocks:

            def mix(_, state, mixer=mixer):
                return mixer(state, conditions.relations)[0]

            state = in_slabs(mix, (state,), mixer.reach)
        return state
