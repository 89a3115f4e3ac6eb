"""Small neural networks with one training loop: regression, VAE, GAN and flows.

All are trained on the same pairs, with the same number of steps and windows of the same
length. Each keeps the weights whose draws had the lowest CRPS on a held-out part of the
training pairs.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from .._docs import fill_doc
from ..contract import BLOCK
from ..scores.tensors import crps_ensemble
from .baselines import Encoding, ResidualNoise

# Seconds of a training window, and share of the pairs' time that is held out.
_WINDOW, _HELD_OUT = 4.0, 0.2
_BATCH, _LEARNING_RATE, _CHECK_EVERY, _CHECK_DRAWS = 16, 2e-3, 100, 5
# Windows of the held-out part that are looked at.
_CHECK_WINDOWS = 12
# Draws × items × samples that are computed at once.
_AT_ONCE = 200_000
# Channels of latent noise.
_N_LATENT = 8


class _Network:
    """Training and sampling that all networks share.

    Parameters
    ----------
    n_steps : int
        The number of training steps.
    width : int
        The number of channels of the networks.
    random_state : int
        The seed of weights, batches and noise of the training.
    """

    window = _WINDOW
    # Samples that a network takes in one piece.
    _multiple = 8

    def __init__(self, n_steps=600, width=32, random_state=0):
        self.n_steps, self.width = n_steps, width
        self.random_state = random_state

    def fit(self, pairs):
        """Train on pairs."""
        self.encoding, self._sfreq = Encoding(pairs), pairs[0][0].sfreq
        pairs = [
            (self._inputs(s, c), torch.from_numpy(self.encoding.outputs(s, c, x)))
            for s, c, x in pairs
        ]
        size = int(self.window * self._sfreq)
        train, held_out = _split(pairs, size)
        rng = torch.Generator().manual_seed(self.random_state)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state)
            self._build(pairs[0][0].shape[1], pairs[0][1].shape[1])
        checks = _windows(held_out, size, _CHECK_WINDOWS, rng)
        self._train(train, checks, size, rng)
        self._after(held_out)
        return self

    def _inputs(self, scalp, contacts):
        return torch.from_numpy(self.encoding.inputs(scalp, contacts))

    def _train(self, train, checks, size, rng):
        optimizers = self._optimizers()
        best, kept = np.inf, None
        for step in range(self.n_steps):
            rate = 0.5 * (1 + np.cos(np.pi * step / self.n_steps))
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = rate * _LEARNING_RATE
            self.nets.train()
            self._step(*_windows(train, size, _BATCH, rng), optimizers, rng)
            if (step + 1) % _CHECK_EVERY == 0 or step + 1 == self.n_steps:
                score = self._check(*checks)
                if score < best:
                    best = score
                    kept = {k: v.clone() for k, v in self.nets.state_dict().items()}
        self.nets.load_state_dict(kept)
        self.nets.eval()

    def _optimizers(self):
        return [torch.optim.Adam(self.nets.parameters(), lr=_LEARNING_RATE)]

    def _step(self, inputs, targets, optimizers, rng):
        (optimizer,) = optimizers
        optimizer.zero_grad()
        self._loss(inputs, targets, rng).backward()
        nn.utils.clip_grad_norm_(self.nets.parameters(), 1.0)
        optimizer.step()

    @torch.no_grad()
    def _check(self, inputs, targets):
        """Return the CRPS of the held-out windows with the present weights."""
        self.nets.eval()
        rng = torch.Generator().manual_seed(self.random_state)
        draws = torch.stack([self._draw(inputs, rng) for _ in range(_CHECK_DRAWS)])
        return float(crps_ensemble(draws, targets).mean())

    def _after(self, held_out):
        """Estimate what depends on the trained weights."""

    @torch.no_grad()
    def sample(self, scalp, contacts, n_draws, random_state=0):
        """Draw contact potentials, (n_draws, n_contacts, n_times) in volts."""
        inputs = self._inputs(scalp, contacts)
        n_items, _, n_times = inputs.shape
        missing = -n_times % self._multiple
        inputs = functional.pad(inputs, (0, missing), mode="reflect")
        rng = torch.Generator().manual_seed(random_state)
        at_once = max(1, _AT_ONCE // (n_items * inputs.shape[-1]))
        draws = []
        for first in range(0, n_draws, at_once):
            n = min(at_once, n_draws - first)
            some = self._draw(inputs.repeat(n, 1, 1), rng)[..., :n_times]
            draws.append(some.unflatten(0, (n, n_items)))
        draws = self._finish(torch.cat(draws).numpy(), random_state)
        return self.encoding.decode(draws, scalp, contacts)

    def _finish(self, draws, random_state):
        return draws


def _split(pairs, size):
    """Hold out the last part of the pairs, or whole pairs if there are many."""
    n_held_out = round(_HELD_OUT * len(pairs))
    if n_held_out:
        return pairs[:-n_held_out], pairs[-n_held_out:]
    train, held_out = [], []
    for inputs, targets in pairs:
        n_times = targets.shape[-1]
        cut = min(int((1 - _HELD_OUT) * n_times), n_times - size)
        train.append((inputs[..., :cut], targets[..., :cut]))
        held_out.append((inputs[..., cut:], targets[..., cut:]))
    return train, held_out


def _windows(pairs, size, n_windows, rng):
    """Cut random windows: (n_windows, n_inputs, size), (n_windows, n_outputs, size)."""
    chosen = []
    for k in torch.randint(len(pairs), (n_windows,), generator=rng).tolist():
        inputs, targets = pairs[k]
        item = int(torch.randint(len(targets), (1,), generator=rng))
        last = max(targets.shape[-1] - size, 0)
        start = int(torch.randint(last + 1, (1,), generator=rng))
        span = slice(start, start + size)
        chosen.append((inputs[item, :, span], targets[item, :, span]))
    return tuple(torch.stack(part) for part in zip(*chosen, strict=True))


def _normal(shape, rng):
    return torch.randn(shape, generator=rng)


class _Block(nn.Sequential):
    """Convolution, normalization over channels, non-linearity."""

    def __init__(self, n_in, n_out, stride=1):
        super().__init__(
            nn.Conv1d(n_in, n_out, 5, stride, padding=2),
            nn.GroupNorm(4, n_out),
            nn.GELU(),
        )


class UNet(nn.Module):
    """One-dimensional U-Net over time (Ronneberger et al. 2015, MICCAI).

    Parameters
    ----------
    n_in, n_out : int
        The number of channels.
    width : int
        The number of channels of the first level. Each of three further levels halves
        the rate.
    """

    def __init__(self, n_in, n_out, width):
        super().__init__()
        sizes = [width, width, 2 * width, 2 * width]
        self.first = _Block(n_in, width)
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        self.down = nn.ModuleList(_Block(a, b, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(_Block(a + b, a) for a, b in pairs[::-1])
        self.last = nn.Conv1d(width, n_out, 1)

    def forward(self, series: Tensor) -> Tensor:
        """Map (batch, n_in, time) to (batch, n_out, time)."""
        state, kept = self.first(series), []
        for block in self.down:
            kept.append(state)
            state = block(state)
        for block in self.up:
            wider = functional.interpolate(state, scale_factor=2.0, mode="nearest")
            state = block(torch.cat([kept.pop(), wider], 1))
        return self.last(state)


@fill_doc
class UNetRegression(_Network):
    """A U-Net that predicts the mean, with Gaussian intervals.

    The network is that of Ronneberger et al. 2015, MICCAI, over time. Intervals have
    the covariance and the spectra of the residuals on the held-out part.

    Parameters
    ----------
    %(training)s

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=10)
    >>> method = UNetRegression(n_steps=1, width=4).fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 1280)
    """

    def _build(self, n_in, n_out):
        self.nets = UNet(n_in, n_out, self.width)

    def _loss(self, inputs, targets, rng):
        return functional.mse_loss(self.nets(inputs), targets)

    def _draw(self, inputs, rng):
        return self.nets(inputs)

    @torch.no_grad()
    def _after(self, held_out):
        residuals = []
        for inputs, targets in held_out:
            n_times = inputs.shape[-1] // self._multiple * self._multiple
            found = self.nets(inputs[..., :n_times])
            residuals += list((targets[..., :n_times] - found).double().numpy())
        self._noise = ResidualNoise.like(residuals, self._sfreq)

    def _finish(self, draws, random_state):
        n_draws, n_items, n_outputs, n_times = draws.shape
        rng = np.random.default_rng(random_state)
        noise = self._noise.draw(n_draws * n_items, n_times, rng)
        return draws + noise.reshape(draws.shape)

    @torch.no_grad()
    def log_density(self, scalp, contacts, ieeg):
        """Log-density of recorded contacts, nats per sample and contact for volts."""
        outputs = self.encoding.outputs(scalp, contacts, ieeg)
        n_times = outputs.shape[-1] // self._multiple * self._multiple
        mean = self._draw(self._inputs(scalp, contacts)[..., :n_times], None)
        residuals = outputs[..., :n_times] - mean.numpy()
        return self.encoding.log_density(self._noise, residuals, scalp, contacts)


@fill_doc
class ConditionalVAE(_Network):
    """Conditional variational autoencoder (Sohn, Lee & Yan 2015, NeurIPS 28).

    It has sixteen latent samples per second. The decoder is Gaussian, and draws contain
    its noise. The weight of the divergence increases over the first third of the
    training.

    Parameters
    ----------
    %(training)s

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=10)
    >>> method = ConditionalVAE(n_steps=1, width=4).fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 1280)
    """

    def _build(self, n_in, n_out):
        width = self.width
        self.nets = nn.ModuleDict(
            {
                "encoder": nn.Sequential(
                    _Block(n_in + n_out, width),
                    _Block(width, width, 2),
                    _Block(width, width, 2),
                    _Block(width, width, 2),
                    nn.Conv1d(width, 2 * _N_LATENT, 1),
                ),
                "decoder": UNet(n_in + _N_LATENT, n_out, width),
            }
        )
        self.nets.log_std = nn.Parameter(torch.zeros(n_out, 1))
        self._done = 0

    def _decode(self, inputs, latent):
        latent = functional.interpolate(latent, scale_factor=8.0, mode="nearest")
        return self.nets["decoder"](torch.cat([inputs, latent], 1))

    def _loss(self, inputs, targets, rng):
        both = self.nets["encoder"](torch.cat([inputs, targets], 1))
        mean, log_std = both.chunk(2, 1)
        latent = mean + log_std.exp() * _normal(mean.shape, rng)
        found, noise = self._decode(inputs, latent), self.nets.log_std
        misfit = 0.5 * ((targets - found) * torch.exp(-noise)).square() + noise
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        self._done += 1
        weight = min(1.0, 3 * self._done / self.n_steps)
        n_batch = len(inputs)
        total = misfit.sum() + weight * divergence.sum()
        return total / (n_batch * targets[0].numel())

    def _draw(self, inputs, rng):
        shape = (len(inputs), _N_LATENT, inputs.shape[-1] // 8)
        mean = self._decode(inputs, _normal(shape, rng))
        return mean + self.nets.log_std.exp() * _normal(mean.shape, rng)


@fill_doc
class ConditionalGAN(_Network):
    """Conditional adversarial network after pix2pix (Isola et al. 2017, CVPR).

    The loss is a hinge loss plus ten times the mean absolute error. Such generators
    learn to ignore their noise, so that draws hardly differ. The spread of the draws
    and the coverage of their intervals show this.

    Parameters
    ----------
    %(training)s

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=10)
    >>> method = ConditionalGAN(n_steps=1, width=4).fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 1280)
    """

    _fidelity = 10.0

    def _build(self, n_in, n_out):
        width = self.width
        self.nets = nn.ModuleDict(
            {
                "generator": UNet(n_in + _N_LATENT, n_out, width),
                "discriminator": nn.Sequential(
                    nn.Conv1d(n_in + n_out, width, 5, 2, 2),
                    nn.LeakyReLU(0.2),
                    _Block(width, 2 * width, 2),
                    _Block(2 * width, 2 * width, 2),
                    nn.Conv1d(2 * width, 1, 5, 1, 2),
                ),
            }
        )

    def _optimizers(self):
        # Momentum as usual where two networks are trained against each other.
        return [
            torch.optim.Adam(net.parameters(), lr=_LEARNING_RATE, betas=(0.5, 0.99))
            for net in self.nets.values()
        ]

    def _draw(self, inputs, rng):
        noise = _normal((len(inputs), _N_LATENT, inputs.shape[-1]), rng)
        return self.nets["generator"](torch.cat([inputs, noise], 1))

    def _step(self, inputs, targets, optimizers, rng):
        discriminator, (generator_step, discriminator_step) = (
            self.nets["discriminator"],
            optimizers,
        )
        made = self._draw(inputs, rng)
        real = discriminator(torch.cat([inputs, targets], 1))
        false = discriminator(torch.cat([inputs, made.detach()], 1))
        discriminator_step.zero_grad()
        (functional.relu(1 - real) + functional.relu(1 + false)).mean().backward()
        discriminator_step.step()
        generator_step.zero_grad()
        verdict = discriminator(torch.cat([inputs, made], 1))
        error = functional.l1_loss(made, targets)
        (self._fidelity * error - verdict.mean()).backward()
        generator_step.step()


@fill_doc
class FlowMatching(_Network):
    """Conditional flow matching along straight lines (Lipman et al. 2023, ICLR).

    Fifty Euler steps lead from white noise to a draw.

    Parameters
    ----------
    %(training)s

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=10)
    >>> method = FlowMatching(n_steps=1, width=4).fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 1280)
    """

    n_flow_steps = 50
    # Fewer while the training looks how well it does.
    _n_check_steps = 10

    def _build(self, n_in, n_out):
        self.nets = UNet(n_in + n_out + 1, n_out, self.width)
        self._n_out, self._n_steps_now = n_out, self._n_check_steps

    def _after(self, held_out):
        self._n_steps_now = self.n_flow_steps

    def _velocity(self, inputs, state, time):
        clock = time.expand(len(inputs), 1, inputs.shape[-1])
        return self.nets(torch.cat([inputs, state, clock], 1))

    def _loss(self, inputs, targets, rng):
        start = _normal(targets.shape, rng)
        time = torch.rand((len(targets), 1, 1), generator=rng)
        found = self._velocity(inputs, (1 - time) * start + time * targets, time)
        return functional.mse_loss(found, targets - start)

    def _draw(self, inputs, rng):
        state = _normal((len(inputs), self._n_out, inputs.shape[-1]), rng)
        for k in range(self._n_steps_now):
            time = torch.tensor([[[k / self._n_steps_now]]])
            state = state + self._velocity(inputs, state, time) / self._n_steps_now
        return state


class _Coupling(nn.Module):
    """A fixed rotation of channels, and an affine map of one half given the other."""

    def __init__(self, n_channels, n_context, width):
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(n_channels, n_channels))[0]
        self.register_buffer("rotation", rotation)
        self._n_first = n_channels // 2
        n_moved = n_channels - self._n_first
        self.net = nn.Sequential(
            nn.Conv1d(self._n_first + n_context, width, 3, padding=1),
            nn.GELU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.GELU(),
            nn.Conv1d(width, 2 * n_moved, 1),
        )
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def _map(self, first, context):
        log_scale, shift = self.net(torch.cat([first, context], 1)).chunk(2, 1)
        return 1.5 * torch.tanh(log_scale), shift

    def forward(self, series, context):
        series = self.rotation @ series
        first, moved = series[:, : self._n_first], series[:, self._n_first :]
        log_scale, shift = self._map(first, context)
        moved = moved * log_scale.exp() + shift
        return torch.cat([first, moved], 1), log_scale.sum((1, 2))

    def inverse(self, series, context):
        first, moved = series[:, : self._n_first], series[:, self._n_first :]
        log_scale, shift = self._map(first, context)
        moved = (moved - shift) * (-log_scale).exp()
        return self.rotation.T @ torch.cat([first, moved], 1)


@fill_doc
class PatientFlow(_Network):
    """A normalizing flow over fixed contacts in windows of one second.

    This is a small version of the published method (NeuroFlowNet, arXiv:2603.03354).
    Every second is drawn separately, so that signals are discontinuous between seconds.

    Parameters
    ----------
    %(training)s
    uses_scalp : bool
        Whether to use the scalp EEG. False is the unconditional control.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=10)
    >>> method = PatientFlow(n_steps=1, width=4).fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=2).shape
    (2, 2, 1280)
    """

    window = 1.0
    _multiple = BLOCK
    # Samples in time that become channels of the flow.
    _squeeze, _n_couplings = 4, 8

    def __init__(self, n_steps=600, width=32, random_state=0, uses_scalp=True):
        super().__init__(n_steps, width, random_state)
        self.uses_scalp = uses_scalp

    def _inputs(self, scalp, contacts):
        inputs = super()._inputs(scalp, contacts)
        return inputs if self.uses_scalp else torch.zeros_like(inputs)

    def _build(self, n_in, n_out):
        self._n_channels = n_out * self._squeeze
        shape = (self._n_channels, n_in * self._squeeze, 2 * self.width)
        self.nets = nn.ModuleList(_Coupling(*shape) for _ in range(self._n_couplings))

    def _fold(self, series):
        """(batch, channel, time) to (batch, channel * 4, time / 4)."""
        parts = series.unflatten(-1, (-1, self._squeeze))
        return parts.transpose(-1, -2).flatten(1, 2)

    def _unfold(self, series):
        parts = series.unflatten(1, (-1, self._squeeze))
        return parts.transpose(-1, -2).flatten(2)

    def log_prob(self, inputs, targets):
        """Return the log-density of windows of one second.

        Parameters
        ----------
        inputs : Tensor of shape (batch, n_inputs, 128)
            The encoded scalp EEG.
        targets : Tensor of shape (batch, n_outputs, 128)
            The encoded contacts.

        Returns
        -------
        log_prob : Tensor of shape (batch,)
            The log-density in nats.
        """
        state, context, total = self._fold(targets), self._fold(inputs), 0.0
        for coupling in self.nets:
            state, change = coupling(state, context)
            total = total + change
        normal = -0.5 * (state.square() + np.log(2 * np.pi))
        return total + normal.sum((1, 2))

    @torch.no_grad()
    def log_density(self, scalp, contacts, ieeg):
        """Log-density of recorded contacts, nats per sample and contact for volts.

        Samples after the last whole second are ignored.
        """
        outputs = torch.from_numpy(self.encoding.outputs(scalp, contacts, ieeg))
        windows, targets = map(self._windows, (self._inputs(scalp, contacts), outputs))
        density = self.log_prob(windows, targets).sum() / targets.numel()
        return float(density) - np.log(self.encoding.unit(scalp, contacts)).mean()

    def _windows(self, series):
        """Cut (n_items, channel, time) into windows of a second, one after another."""
        n_times = series.shape[-1] // self._multiple * self._multiple
        windows = series[..., :n_times].unflatten(-1, (-1, self._multiple))
        return windows.transpose(1, 2).flatten(0, 1)

    def _loss(self, inputs, targets, rng):
        return -self.log_prob(inputs, targets).mean() / targets[0].numel()

    def _draw(self, inputs, rng):
        context = self._fold(self._windows(inputs))
        size = self._multiple // self._squeeze
        state = _normal((len(context), self._n_channels, size), rng)
        for coupling in reversed(self.nets):
            state = coupling.inverse(state, context)
        series = self._unfold(state).unflatten(0, (len(inputs), -1))
        return series.transpose(1, 2).flatten(2)
