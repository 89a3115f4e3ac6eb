"""Baselines: controls, the spatial posterior alone and lagged ridge regression.

:mod:`~mne_neuroflow.evaluation.pairs` describes their interface.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy import signal

from .._docs import fill_doc
from ..contract import SAME_PLACE
from ..head.geometry import load_head
from ..head.leadfield import contact_lead_field
from ..head.posterior import (
    LOCAL_STD,
    source_generators,
    spatial_posterior,
    symmetric_roots,
)

# Positions nearer than this (metres) are the same.
# Independent signals of a montage that are kept, those of most variance first, and
# what is added to their variance, relative to the mean: an electrode that was dead in
# the training must not be amplified a thousand times when it is not.
_N_COMPONENTS, _FLOOR = 32, 0.01
# Relative to what it was in the training: electrodes whose typical amplitude is more
# than this are taken for bad and silenced; components are clipped.
_BAD_RMS, _MAX_COMPONENT = 3.0, 6.0
# Seconds of a window for the spectrum of residuals.
_SPECTRUM_WINDOW = 2.0
# Volts, r.m.s. of white noise that is added in densities. Recordings have almost no
# power between 50 and 64 Hz, and densities must not depend on how little.
_FLOOR_OF_DENSITY = 1e-6


class ResidualNoise:
    """Gaussian noise of given covariance and spectra.

    Parameters
    ----------
    covariance : array of shape (n_channels, n_channels)
        The covariance of the channels, in square units.
    freqs : array of shape (n_freqs,)
        The frequencies of the spectra in hertz.
    density : array of shape (n_freqs,) | array of shape (n_channels, n_freqs)
        The shape of the power spectrum of every channel.
    sfreq : float
        The sampling rate in hertz.
    """

    def __init__(self, covariance, freqs, density, sfreq):
        self.std = np.sqrt(np.diag(covariance))
        unit = np.maximum(self.std, 1e-30)
        correlation = covariance / np.outer(unit, unit)
        correlation = correlation + 1e-6 * np.eye(len(unit))
        self._root, self._inverse_root = symmetric_roots(correlation)
        self._freqs, self._sfreq = freqs, sfreq
        self._density = np.broadcast_to(density, (len(unit), len(freqs)))

    @classmethod
    def like(cls, examples, sfreq):
        """Make noise with the covariance and the spectra of examples.

        Parameters
        ----------
        examples : list of array, shape (n_channels, n_times)
            Signals with mean zero, in any unit.
        sfreq : float
            The sampling rate in hertz.

        Returns
        -------
        noise : ResidualNoise
            The noise, in the unit of the examples.
        """
        n_times = sum(example.shape[1] for example in examples)
        covariance = sum(example @ example.T for example in examples) / n_times
        freqs, density = mean_spectrum(examples, sfreq)
        return cls(covariance, freqs, density, sfreq)

    def draw(self, n_draws, n_times, rng):
        """Draw noise.

        Parameters
        ----------
        n_draws, n_times : int
            The number of draws and of samples.
        rng : numpy.random.Generator
            The random numbers.

        Returns
        -------
        noise : array of float32, shape (n_draws, n_channels, n_times)
            The noise, with the standard deviation of each channel. Channels with
            different spectra are correlated as far as their spectra overlap.
        """
        freqs = np.fft.rfftfreq(n_times, 1 / self._sfreq)
        power = np.array([np.interp(freqs, self._freqs, d) for d in self._density])
        # The spectrum of a real signal contains each frequency twice, except the ends.
        times = np.full(len(freqs), 2.0)
        times[0], times[-1] = 1, 1 + n_times % 2
        power *= n_times / np.maximum(power @ times, 1e-300)[:, None]
        response = self.std[:, None] * np.sqrt(power)
        noise = np.empty((n_draws, len(self.std), n_times), np.float32)
        for draw in noise:
            white = self._root @ rng.standard_normal((len(self.std), n_times))
            draw[:] = np.fft.irfft(response * np.fft.rfft(white), n_times)
        return noise

    def log_density(self, series, floor=_FLOOR_OF_DENSITY):
        """Compute the log-density of a signal under this noise.

        Parameters
        ----------
        series : array of shape (n_channels, n_times)
            The signals, in the unit of the noise.
        floor : float | array of shape (n_channels,)
            The root mean square of additional white noise, in the same unit.

        Returns
        -------
        log_density : float
            The log-density of all channels and samples, divided by their number, in
            nats.

        Notes
        -----
        Each channel is an autoregressive process with its variance and spectrum, whose
        innovations have the correlation of the noise. If channels have the same
        spectrum, this is the density of the noise from :meth:`draw`, except for the
        additional white noise and for the periodicity of the draws.
        """
        autocorrelation = np.fft.irfft(self._density)[:, : len(self._freqs)]
        autocorrelation /= autocorrelation[:, :1]
        std = np.maximum(self.std, 1e-30)
        autocorrelation[:, 0] += (floor / std) ** 2
        series = series / std[:, None]
        innovations, variance = _innovations(series, autocorrelation)
        white = self._inverse_root @ (innovations / np.sqrt(variance))
        volume = 0.5 * np.log(variance).mean() + np.log(std).mean()
        volume -= np.linalg.slogdet(self._inverse_root)[1] / len(white)
        return -0.5 * (np.square(white).mean() + np.log(2 * np.pi)) - volume


def _innovations(series, autocorrelation):
    """Subtract from every sample its best linear prediction from earlier samples.

    This is the Levinson-Durbin recursion (Brockwell & Davis 1991, Time Series: Theory
    and Methods, proposition 5.2.1). The number of lags is its order.

    Parameters
    ----------
    series : array of shape (n_channels, n_times)
        Signals.
    autocorrelation : array of shape (n_channels, n_lags)
        The autocorrelation, beginning with lag zero.

    Returns
    -------
    innovations, variance : array of shape (n_channels, n_times)
        The errors of the best linear prediction, and their expected squares.
    """
    n_first = min(autocorrelation.shape[1] - 1, series.shape[1])
    innovations, variance = series.astype(float), np.empty(series.shape)
    weights, left = np.empty((len(series), 0)), autocorrelation[:, 0].copy()
    for k in range(n_first):
        innovations[:, k] -= np.sum(weights * series[:, :k][:, ::-1], axis=1)
        variance[:, k] = left
        predicted = np.sum(weights * autocorrelation[:, k:0:-1], axis=1)
        last = ((autocorrelation[:, k + 1] - predicted) / left)[:, None]
        weights = np.hstack([weights - last * weights[:, ::-1], last])
        left = left * (1 - last[:, 0] ** 2)
    for channel, (w, x) in enumerate(zip(weights, series, strict=True)):
        error = signal.lfilter(np.append(1, -w), 1, x)
        innovations[channel, n_first:] = error[n_first:]
    variance[:, n_first:] = left[:, None]
    return innovations, variance


class GaussianMethod:
    """A base class of methods that predict a mean with Gaussian noise.

    Subclasses have a method ``predict(scalp, contacts)``, which returns the mean, an
    array of shape (n_contacts, n_times) in volts, and the :class:`ResidualNoise`.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.evaluation.pairs import ScalpData
    >>> class White(GaussianMethod):
    ...     def predict(self, scalp, contacts):
    ...         mean = np.zeros((len(contacts), scalp.data.shape[1]))
    ...         covariance = 5e-5**2 * np.eye(len(contacts))
    ...         return mean, ResidualNoise(covariance, [0, 64], [1, 1], scalp.sfreq)
    >>> scalp = ScalpData(np.zeros((8, 256)), np.zeros((8, 3)))
    >>> White().sample(scalp, np.zeros((2, 3)), n_draws=5).shape
    (5, 2, 256)
    """

    @fill_doc
    def sample(self, scalp, contacts, n_draws, random_state=0):
        """Draw contact potentials.

        Parameters
        ----------
        %(scalp_data)s
        %(positions)s
        n_draws : int
            The number of draws.
        random_state : int
            The seed of the noise.

        Returns
        -------
        draws : array of float32, shape (n_draws, n_contacts, n_times)
            Volts.
        """
        mean, noise = self.predict(scalp, contacts)
        rng = np.random.default_rng(random_state)
        return mean.astype(np.float32) + noise.draw(n_draws, mean.shape[1], rng)

    @fill_doc
    def log_density(self, scalp, contacts, ieeg):
        """Compute the log-density of recorded contacts.

        Parameters
        ----------
        %(scalp_data)s
        %(positions)s
        ieeg : array of shape (n_contacts, n_times)
            The recorded potentials in volts.

        Returns
        -------
        log_density : float
            Nats per sample and contact.
        """
        mean, noise = self.predict(scalp, contacts)
        return noise.log_density(ieeg - mean)


def mean_spectrum(examples, sfreq):
    """Average the power spectra of recordings of the same channels.

    Parameters
    ----------
    examples : list of array, shape (n_channels, n_times)
        Signals with mean zero.
    sfreq : float
        The sampling rate in hertz.

    Returns
    -------
    freqs : array of shape (n_freqs,)
        The frequencies in hertz.
    density : array of shape (n_channels, n_freqs)
        The power spectral density in square units per hertz.
    """
    n_times = [example.shape[1] for example in examples]
    size = int(min(_SPECTRUM_WINDOW * sfreq, *n_times))
    parts = [signal.welch(e, sfreq, nperseg=size, detrend=False) for e in examples]
    return parts[0][0], np.average([d for _, d in parts], axis=0, weights=n_times)


@lru_cache(maxsize=32)
def _posterior(electrodes, contacts):
    places = (np.frombuffer(array).reshape(-1, 3) for array in (electrodes, contacts))
    return spatial_posterior(*places)


def posterior_of(scalp, contacts):
    """Compute the spatial posterior of a recording, or return the cached one.

    Parameters
    ----------
    scalp : ScalpData
        The recording.
    contacts : array of shape (n_contacts, 3)
        Positions in metres.

    Returns
    -------
    posterior : SpatialPosterior
        The posterior at unit gain.
    gain : float
        The gain of the recording: the median over electrodes of the ratio of measured
        to expected amplitude.
    """
    arrays = (np.ascontiguousarray(a, float) for a in (scalp.electrodes, contacts))
    posterior = _posterior(*(array.tobytes() for array in arrays))
    return posterior, float(np.median(scalp.robust_rms() / posterior.scalp_std))


class HeadModel(GaussianMethod):
    """The linear-Gaussian spatial stage of the package, without anything learned.

    Its mean is a source estimate with the package's prior. Noise has the posterior
    covariance, and the average spectrum of the scalp recording. The equations are those
    of :func:`~mne_neuroflow.head.posterior.spatial_posterior`.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=2)
    >>> method = HeadModel().fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=5).shape
    (5, 2, 256)
    """

    def fit(self, pairs):
        """Do nothing, as this method is not trained."""
        return self

    def predict(self, scalp, contacts):
        """Return the mean in volts and the noise."""
        posterior, gain = posterior_of(scalp, contacts)
        noise = _physical_noise(gain**2 * posterior.covariance, scalp)
        return posterior.operator @ scalp.data, noise


class Prior(GaussianMethod):
    """The prior of the contacts, a control without scalp EEG.

    Contacts of the training pairs have the covariance and the spectra of these pairs.
    Other contacts have the covariance of the package's spatial prior, with the
    amplitude and the average spectrum of the scalp recording.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=2)
    >>> method = Prior().fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=5).shape
    (5, 2, 256)
    """

    def __init__(self):
        self._known = None

    def fit(self, pairs):
        """Estimate covariance and spectra of the contacts that all pairs have."""
        contacts = pairs[0][1]
        if all(same_places(contacts, other) for _, other, _ in pairs):
            examples = [ieeg - ieeg.mean(1, keepdims=True) for _, _, ieeg in pairs]
            self._known = contacts, ResidualNoise.like(examples, pairs[0][0].sfreq)
        return self

    def predict(self, scalp, contacts):
        """Return a mean of zeros in volts, and the noise."""
        nothing = np.zeros((len(contacts), scalp.data.shape[1]))
        if self._known and same_places(self._known[0], contacts):
            return nothing, self._known[1]
        _, gain = posterior_of(scalp, contacts)
        return nothing, _physical_noise(gain**2 * _prior_covariance(contacts), scalp)


def _physical_noise(covariance, scalp):
    """Return noise with a covariance and the average spectrum of the scalp EEG."""
    freqs, density = mean_spectrum([scalp.data], scalp.sfreq)
    density = (density / density.sum(1, keepdims=True)).mean(0)
    return ResidualNoise(covariance, freqs, density, scalp.sfreq)


def _prior_covariance(contacts):
    """Return the prior covariance of contact potentials at unit gain, V²."""
    head = load_head()
    field = contact_lead_field(head, np.asarray(contacts, float)).astype(np.float32)
    field = (field @ source_generators(head).factor).astype(float)
    return field @ field.T + LOCAL_STD**2 * np.eye(len(field))


def same_places(first, second):
    """Return whether two arrays of positions (metres) are the same."""
    return len(first) == len(second) and bool(
        np.abs(np.asarray(first) - second).max() < SAME_PLACE
    )


class OtherScalp:
    """A control: a method with mismatched scalp EEG.

    Its skill must disappear. What remains does not come from the scalp EEG.

    Parameters
    ----------
    method : object
        The method.
    how : str
        ``'shifted'`` uses the scalp EEG of the same recording, shifted by half of its
        duration. ``'shuffled'`` uses that of another time or patient, with its
        electrodes: the longest of the pairs that were given to :meth:`fit`.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=2)
    >>> method = OtherScalp(HeadModel(), "shifted")
    >>> method = method.fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=5).shape
    (5, 2, 256)
    """

    def __init__(self, method, how):
        if how not in ("shifted", "shuffled"):
            raise ValueError(
                "Invalid value for the 'how' parameter. Allowed values are 'shifted' "
                f"and 'shuffled', but got {how!r}."
            )
        self.method, self.how, self._other = method, how, None

    def fit(self, pairs):
        """Fit the method to pairs that belong together."""
        self.method.fit(pairs)
        self._other = max((pair[0] for pair in pairs), key=lambda s: s.data.shape[1])
        return self

    def sample(self, scalp, contacts, n_draws, random_state=0):
        """Draw contact potentials, (n_draws, n_contacts, n_times) in volts."""
        other = self._scalp_for(scalp)
        return self.method.sample(other, contacts, n_draws, random_state)

    def log_density(self, scalp, contacts, ieeg):
        """Return the log-density with the mismatched scalp EEG, or NaN."""
        if not hasattr(self.method, "log_density"):
            return np.nan
        return self.method.log_density(self._scalp_for(scalp), contacts, ieeg)

    def _scalp_for(self, scalp):
        n_times = scalp.data.shape[1]
        if self.how == "shifted":
            return replace(scalp, data=np.roll(scalp.data, n_times // 2, axis=1))
        # A shorter one is repeated.
        times = np.arange(n_times) % self._other.data.shape[1]
        return replace(self._other, data=self._other.data[:, times])


class Encoding:
    """The inputs and outputs of a regression from scalp EEG to contacts.

    If all pairs have the same electrodes and contacts, the inputs are the principal
    components of the scalp EEG, and the outputs are the contacts. Otherwise contacts
    are predicted one by one with common weights. The inputs of a contact are then the
    mean of the spatial posterior there, its cortical virtual sensors and the position.

    Parameters
    ----------
    pairs : list of tuple
        Training pairs.
    """

    def __init__(self, pairs):
        scalp, self._contacts, _ = pairs[0]
        self._electrodes = scalp.electrodes
        self.fixed = all(self._is_same(s, c) for s, c, _ in pairs)
        if self.fixed:
            self._rms = np.median([s.robust_rms() for s, _, _ in pairs], axis=0)
            data = np.concatenate([self._good_scalp(s) for s, _, _ in pairs], axis=1)
            values, vectors = np.linalg.eigh(data @ data.T / data.shape[1])
            kept = slice(-_N_COMPONENTS, None)
            scale = np.sqrt(values[kept] + _FLOOR * values.mean())
            self._components = (vectors[:, kept] / scale).T
            ieeg = np.concatenate([ieeg for _, _, ieeg in pairs], axis=1)
            self._unit = np.sqrt(np.square(ieeg).mean(1))

    def _is_same(self, scalp, contacts):
        return same_places(scalp.electrodes, self._electrodes) and same_places(
            contacts, self._contacts
        )

    def _good_scalp(self, scalp):
        """Return the scalp EEG with zeros for bad electrodes."""
        good = scalp.robust_rms() < _BAD_RMS * self._rms
        return np.where(good[:, None], scalp.data, 0)

    def check(self, scalp, contacts):
        """Refuse electrodes and contacts that differ from those of the pairs."""
        if self.fixed and not self._is_same(scalp, contacts):
            raise ValueError(
                "The method was fitted to one patient's electrodes and contacts and "
                "cannot predict others. Fit it to pairs of several patients."
            )

    def inputs(self, scalp, contacts):
        """Encode scalp EEG, (n_items, n_inputs, n_times) of order one."""
        self.check(scalp, contacts)
        if self.fixed:
            components = self._components @ self._good_scalp(scalp)
            return np.clip(components, -_MAX_COMPONENT, _MAX_COMPONENT)[None].astype(
                np.float32
            )
        posterior, gain = posterior_of(scalp, contacts)
        mean = posterior.operator @ scalp.data / posterior.mean_std[:, None] / gain
        rois = posterior.roi_operator @ scalp.data / gain
        places = np.asarray(contacts) / 0.05
        n_contacts, n_times = mean.shape
        parts = [
            mean[:, None],
            np.broadcast_to(rois, (n_contacts, *rois.shape)),
            np.broadcast_to(places[:, :, None], (n_contacts, 3, n_times)),
        ]
        return np.concatenate(parts, axis=1, dtype=np.float32)

    def unit(self, scalp, contacts):
        """Return the unit of the outputs at each contact, (n_contacts,) volts."""
        if self.fixed:
            return self._unit
        posterior, gain = posterior_of(scalp, contacts)
        return gain * posterior.prior_std

    def outputs(self, scalp, contacts, ieeg):
        """Encode contacts, (n_items, n_outputs, n_times) of order one."""
        unit = ieeg / self.unit(scalp, contacts)[:, None]
        return (unit[None] if self.fixed else unit[:, None]).astype(np.float32)

    def log_density(self, noise, residuals, scalp, contacts):
        """Return the log-density of residuals in nats per sample and contact.

        Parameters
        ----------
        noise : ResidualNoise
            The noise, in the unit of the outputs.
        residuals : array of shape (n_items, n_outputs, n_times)
            Outputs minus their prediction. Items are independent.
        scalp, contacts
            As for :meth:`unit`.

        Returns
        -------
        log_density : float
            The log-density of all contacts together, divided by the number of values.
        """
        unit = self.unit(scalp, contacts)
        floors = (_FLOOR_OF_DENSITY / unit).reshape(len(residuals), -1)
        parts = [
            noise.log_density(*item) for item in zip(residuals, floors, strict=True)
        ]
        return np.mean(parts) - np.log(unit).mean()

    def decode(self, outputs, scalp, contacts):
        """Convert outputs, (n_draws, n_items, n_outputs, n_times), to volts."""
        volts = outputs.reshape(len(outputs), -1, outputs.shape[-1])
        return volts * self.unit(scalp, contacts)[:, None].astype(np.float32)


class LaggedRidge:
    """Ridge regression of each contact on the scalp EEG within 120 ms.

    Cross-validation over blocks of time chooses the penalty for every contact.
    Intervals are Gaussian, with the covariance and the spectra of the residuals of the
    cross-validation. For contacts of several patients, the regressor is the mean of the
    spatial posterior, see :class:`Encoding`. Ridge regression: Hoerl & Kennard 1970,
    Technometrics 12:55.

    Parameters
    ----------
    reach : float
        The largest lag before and after a sample, in seconds.
    n_blocks : int
        The number of blocks of the cross-validation.

    Examples
    --------
    >>> from mne_neuroflow.evaluation.pairs import toy_pair
    >>> scalp, contacts, ieeg = toy_pair(seconds=5)
    >>> method = LaggedRidge(reach=0.03).fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=5).shape
    (5, 2, 640)
    """

    def __init__(self, reach=0.12, n_blocks=5):
        self.reach, self.n_blocks = reach, n_blocks

    def fit(self, pairs):
        """Fit the weights and the residuals' covariance to pairs."""
        self.encoding, sfreq = Encoding(pairs), pairs[0][0].sfreq
        self._lag = round(self.reach * sfreq)
        blocks = self._blocks(pairs)
        moments = [self._moments(block) for block in blocks]
        xx, xy = (sum(parts) for parts in zip(*moments, strict=True))
        folds = [_Ridge(xx - part[0], xy - part[1]) for part in moments]
        explained = sum(
            fold.gain(*part) for fold, part in zip(folds, moments, strict=True)
        )
        best = explained.argmax(0)
        self._weights = _Ridge(xx, xy).weights(best)
        residuals = [
            targets - fold.weights(best).T @ self._lagged(inputs, span)
            for fold, block in zip(folds, blocks, strict=True)
            for inputs, targets, span in block
        ]
        self._noise = ResidualNoise.like(residuals, sfreq)
        return self

    def _blocks(self, pairs):
        """Return parts as (inputs, targets, span), distributed over the blocks."""
        blocks = [[] for _ in range(self.n_blocks)]
        # A few long recordings are cut, many short ones dealt whole.
        n_parts = self.n_blocks if len(pairs) < self.n_blocks else 1
        turn = 0
        for scalp, contacts, ieeg in pairs:
            inputs = self._regressors(scalp, contacts)
            targets = self.encoding.outputs(scalp, contacts, ieeg)
            ends = np.linspace(0, ieeg.shape[1], n_parts + 1).astype(int)
            for start, stop in zip(ends[:-1], ends[1:], strict=True):
                block = blocks[turn % self.n_blocks]
                for x, y in zip(inputs, targets, strict=True):
                    block.append((x, y[:, start:stop], (start, stop)))
                turn += 1
        return blocks

    def _regressors(self, scalp, contacts):
        inputs = self.encoding.inputs(scalp, contacts)
        return inputs if self.encoding.fixed else inputs[:, :1]

    def _lagged(self, inputs, span):
        """Return every input at every lag, (n_inputs * n_lags, n_times)."""
        start, stop = span
        padded = np.pad(inputs, ((0, 0), (self._lag, self._lag)))
        lags = range(2 * self._lag + 1)
        return np.concatenate([padded[:, start + k : stop + k] for k in lags])

    def _moments(self, block):
        xx = xy = 0.0
        for inputs, targets, span in block:
            x = self._lagged(inputs, span).astype(float)
            xx, xy = xx + x @ x.T, xy + x @ targets.T
        return xx, xy

    def sample(self, scalp, contacts, n_draws, random_state=0):
        """Draw contact potentials, (n_draws, n_contacts, n_times) in volts."""
        mean = self._predict(scalp, contacts)
        rng = np.random.default_rng(random_state)
        noise = self._noise.draw(n_draws * len(mean), mean.shape[-1], rng)
        draws = mean + noise.reshape(n_draws, *mean.shape)
        return self.encoding.decode(draws, scalp, contacts).astype(np.float32)

    def log_density(self, scalp, contacts, ieeg):
        """Log-density of recorded contacts, nats per sample and contact for volts."""
        outputs = self.encoding.outputs(scalp, contacts, ieeg)
        residuals = outputs - self._predict(scalp, contacts)
        return self.encoding.log_density(self._noise, residuals, scalp, contacts)

    def _predict(self, scalp, contacts):
        span = (0, scalp.data.shape[1])
        return np.stack(
            [
                self._weights.T @ self._lagged(inputs, span)
                for inputs in self._regressors(scalp, contacts)
            ]
        )


class _Ridge:
    """Ridge solutions for all penalties from one eigendecomposition."""

    # Relative to the mean eigenvalue of the regressors' second moment.
    penalties = 10.0 ** np.arange(-4, 4)

    def __init__(self, xx, xy):
        self._values, self._vectors = np.linalg.eigh(xx)
        self._turned = self._vectors.T @ xy
        self._penalties = self.penalties * np.trace(xx) / len(xx)

    def weights(self, choice):
        """Return weights with a separate penalty for each target, (n, n_targets)."""
        shrunk = self._turned / (self._values[:, None] + self._penalties[choice])
        return self._vectors @ shrunk

    def gain(self, xx, xy):
        """Return the held-out squared error explained, (penalty, target)."""
        gains = []
        for k in range(len(self._penalties)):
            weights = self.weights(np.full(xy.shape[1], k))
            gains.append((weights * (2 * xy - xx @ weights)).sum(0))
        return np.array(gains)
