"""Methods to beat: controls, the spatial posterior alone and lagged ridge regression.

All have the interface that :mod:`~mne_neuroflow.evaluation.pairs` describes.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from scipy import signal

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
# the training must not be heard a thousand times as loud once it is not.
_N_COMPONENTS, _FLOOR = 32, 0.01
# Relative to what it was in the training: electrodes whose typical amplitude is more
# than this are taken for bad and silenced; components are clipped.
_BAD, _LOUDEST = 3.0, 6.0
# Seconds of a window for the spectrum of residuals.
_SPECTRUM_WINDOW = 2.0
# Volts, r.m.s. of white noise that densities allow for. Recordings hold next to nothing
# between 50 and 64 Hz, and how much less than nothing must not decide.
_FLOOR_OF_DENSITY = 1e-6


class ResidualNoise:
    """Gaussian noise of given covariance and spectra.

    Parameters
    ----------
    covariance : array of shape (n_channels, n_channels)
        Of channels, square units.
    freqs : array of shape (n_freqs,)
        Hz.
    density : array of shape (n_freqs,) | array of shape (n_channels, n_freqs)
        Shape of the power spectrum of every channel.
    sfreq : float
        Samples a second.
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
            Samples a second.

        Returns
        -------
        noise : ResidualNoise
            In the examples' unit.
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
            How many, how long.
        rng : numpy.random.Generator
            Random numbers.

        Returns
        -------
        noise : array of float32, shape (n_draws, n_channels, n_times)
            Each channel with its standard deviation. Channels whose spectra differ
            are correlated as far as their spectra overlap.
        """
        freqs = np.fft.rfftfreq(n_times, 1 / self._sfreq)
        power = np.array([np.interp(freqs, self._freqs, d) for d in self._density])
        # The spectrum of a real signal holds each frequency but the ends twice.
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
            In the noise's unit.
        floor : float | array of shape (n_channels,)
            Root mean square of white noise that is allowed for, in the noise's unit.

        Returns
        -------
        log_density : float
            Of all channels and samples together, divided by their number: nats.

        Notes
        -----
        Each channel is an autoregressive process with its variance and spectrum; its
        innovations have the noise's correlation. Where channels have the same
        spectrum this is the density of what :meth:`draw` draws, but for the floor and
        for the draws' being periodic.
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
    """Take from every sample what those before it tell.

    Recursion of Levinson and Durbin (Brockwell & Davis 1991, Time Series: Theory and
    Methods, proposition 5.2.1), of the order for which there are lags.

    Parameters
    ----------
    series : array of shape (n_channels, n_times)
        Signals.
    autocorrelation : array of shape (n_channels, n_lags)
        From lag zero on.

    Returns
    -------
    innovations, variance : array of shape (n_channels, n_times)
        Errors of the best linear prediction, and their expected squares.
    """
    n_first = min(autocorrelation.shape[1] - 1, series.shape[1])
    innovations, variance = series.astype(float), np.empty(series.shape)
    weights, left = np.empty((len(series), 0)), autocorrelation[:, 0].copy()
    for k in range(n_first):
        innovations[:, k] -= np.sum(weights * series[:, :k][:, ::-1], axis=1)
        variance[:, k] = left
        told = np.sum(weights * autocorrelation[:, k:0:-1], axis=1)
        last = ((autocorrelation[:, k + 1] - told) / left)[:, None]
        weights = np.hstack([weights - last * weights[:, ::-1], last])
        left = left * (1 - last[:, 0] ** 2)
    for channel, (w, x) in enumerate(zip(weights, series, strict=True)):
        error = signal.lfilter(np.append(1, -w), 1, x)
        innovations[channel, n_first:] = error[n_first:]
    variance[:, n_first:] = left[:, None]
    return innovations, variance


class GaussianMethod:
    """Methods that predict a mean and Gaussian noise around it.

    They have a function ``predict(scalp, contacts)`` that returns the mean, an array of
    shape (n_contacts, n_times) in volts, and the :class:`ResidualNoise`.

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

    def sample(self, scalp, contacts, n_draws, random_state=0):
        """Draw contact potentials.

        Parameters
        ----------
        scalp : ScalpData
            A recording, see :mod:`~mne_neuroflow.evaluation.pairs`.
        contacts : array of shape (n_contacts, 3)
            Positions in metres, fsaverage surface RAS.
        n_draws : int
            How many.
        random_state : int
            Seed of the noise.

        Returns
        -------
        draws : array of float32, shape (n_draws, n_contacts, n_times)
            Volts.
        """
        mean, noise = self.predict(scalp, contacts)
        rng = np.random.default_rng(random_state)
        return mean.astype(np.float32) + noise.draw(n_draws, mean.shape[1], rng)

    def log_density(self, scalp, contacts, ieeg):
        """Compute the log-density of recorded contacts.

        Parameters
        ----------
        scalp : ScalpData
            As for :meth:`sample`.
        contacts : array of shape (n_contacts, 3)
            As for :meth:`sample`.
        ieeg : array of shape (n_contacts, n_times)
            What was recorded, in volts.

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
        Samples a second.

    Returns
    -------
    freqs : array of shape (n_freqs,)
        Hz.
    density : array of shape (n_channels, n_freqs)
        Square units per Hz.
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
    """Compute the spatial posterior of a recording, kept for the next time.

    Parameters
    ----------
    scalp : ScalpData
        The recording.
    contacts : array of shape (n_contacts, 3)
        Positions in metres.

    Returns
    -------
    posterior : SpatialPosterior
        At unit gain.
    gain : float
        Of the recording: the median over electrodes of measured to expected amplitude.
    """
    arrays = (np.ascontiguousarray(a, float) for a in (scalp.electrodes, contacts))
    posterior = _posterior(*(array.tobytes() for array in arrays))
    return posterior, float(np.median(scalp.robust_rms() / posterior.scalp_std))


class HeadModel(GaussianMethod):
    """The package's linear-Gaussian stage alone: physics, and nothing learned.

    Its mean is a source estimate with the package's prior, its covariance what the
    scalp cannot say, drawn with the average spectrum of the scalp recording. The
    equations are those of :func:`~mne_neuroflow.head.posterior.spatial_posterior`.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.evaluation.pairs import ScalpData
    >>> from mne_neuroflow.head.geometry import load_head
    >>> rng = np.random.default_rng(0)
    >>> data = 1e-5 * rng.standard_normal((20, 256))
    >>> scalp = ScalpData(data - data.mean(axis=0), load_head().scalp.rr[::33])
    >>> contacts = np.array([[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]])
    >>> ieeg = 5e-5 * rng.standard_normal((2, 256))
    >>> method = HeadModel().fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=5).shape
    (5, 2, 256)
    """

    def fit(self, pairs):
        """Learn nothing."""
        return self

    def predict(self, scalp, contacts):
        """Predict the mean in volts and the noise around it."""
        posterior, gain = posterior_of(scalp, contacts)
        noise = _physical_noise(gain**2 * posterior.covariance, scalp)
        return posterior.operator @ scalp.data, noise


class Prior(GaussianMethod):
    """What is known of contacts before the scalp is seen: the control to beat.

    Contacts that occur in the training pairs have the covariance and the spectra
    that they had there. Others have those of the package's spatial prior, at the
    amplitude and with the average spectrum of the scalp recording.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.evaluation.pairs import ScalpData
    >>> from mne_neuroflow.head.geometry import load_head
    >>> rng = np.random.default_rng(0)
    >>> data = 1e-5 * rng.standard_normal((20, 256))
    >>> scalp = ScalpData(data - data.mean(axis=0), load_head().scalp.rr[::33])
    >>> contacts = np.array([[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]])
    >>> ieeg = 5e-5 * rng.standard_normal((2, 256))
    >>> method = Prior().fit([(scalp, contacts, ieeg)])
    >>> method.sample(scalp, contacts, n_draws=5).shape
    (5, 2, 256)
    """

    def __init__(self):
        self._known = None

    def fit(self, pairs):
        """Take the covariance and the spectra of contacts that are always there."""
        contacts = pairs[0][1]
        if all(same_places(contacts, other) for _, other, _ in pairs):
            examples = [ieeg - ieeg.mean(1, keepdims=True) for _, _, ieeg in pairs]
            self._known = contacts, ResidualNoise.like(examples, pairs[0][0].sfreq)
        return self

    def predict(self, scalp, contacts):
        """Predict nothing, in volts, and the noise around it."""
        nothing = np.zeros((len(contacts), scalp.data.shape[1]))
        if self._known and same_places(self._known[0], contacts):
            return nothing, self._known[1]
        _, gain = posterior_of(scalp, contacts)
        return nothing, _physical_noise(gain**2 * _prior_covariance(contacts), scalp)


def _physical_noise(covariance, scalp):
    """Noise of a covariance with the average spectrum of the scalp."""
    freqs, density = mean_spectrum([scalp.data], scalp.sfreq)
    density = (density / density.sum(1, keepdims=True)).mean(0)
    return ResidualNoise(covariance, freqs, density, scalp.sfreq)


def _prior_covariance(contacts):
    """Covariance of contact potentials under the spatial prior at unit gain, V²."""
    head = load_head()
    field = contact_lead_field(head, np.asarray(contacts, float)).astype(np.float32)
    field = (field @ source_generators(head).factor).astype(float)
    return field @ field.T + LOCAL_STD**2 * np.eye(len(field))


def same_places(first, second):
    """Tell whether two sets of positions (metres) are the same in the same order."""
    return len(first) == len(second) and bool(
        np.abs(np.asarray(first) - second).max() < SAME_PLACE
    )


class OtherScalp:
    """A control: a method that is shown a scalp that does not belong to the time.

    Its skill must be gone. What is left is what it knows without the scalp.

    Parameters
    ----------
    method : object
        The method.
    how : str
        ``'shifted'`` shows the scalp of the same recording half of its length later;
        ``'shuffled'`` that of another time or patient, the longest of the pairs that
        were given to :meth:`fit`, with the electrodes of that recording.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.evaluation.pairs import ScalpData
    >>> from mne_neuroflow.head.geometry import load_head
    >>> rng = np.random.default_rng(0)
    >>> data = 1e-5 * rng.standard_normal((20, 256))
    >>> scalp = ScalpData(data - data.mean(axis=0), load_head().scalp.rr[::33])
    >>> contacts = np.array([[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]])
    >>> ieeg = 5e-5 * rng.standard_normal((2, 256))
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
        """Fit the method to true pairs."""
        self.method.fit(pairs)
        self._other = max((pair[0] for pair in pairs), key=lambda s: s.data.shape[1])
        return self

    def sample(self, scalp, contacts, n_draws, random_state=0):
        """Draw contact potentials, (n_draws, n_contacts, n_times) in volts."""
        other = self._scalp_for(scalp)
        return self.method.sample(other, contacts, n_draws, random_state)

    def log_density(self, scalp, contacts, ieeg):
        """Log-density that the method has with the other scalp, or else NaN."""
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
    """How scalp and contacts become the channels of a regression.

    Where all pairs have the same electrodes and contacts, the inputs are the
    montage's principal components and the outputs the contacts. Otherwise nothing
    but anatomy is common: the inputs of each contact are the spatial posterior's mean
    there, its cortical virtual sensors and the contact's position, and contacts are
    predicted one by one with common weights.

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
            data = np.concatenate([self._heard(s) for s, _, _ in pairs], axis=1)
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

    def _heard(self, scalp):
        """Scalp without bad electrodes."""
        good = scalp.robust_rms() < _BAD * self._rms
        return np.where(good[:, None], scalp.data, 0)

    def check(self, scalp, contacts):
        """Refuse what is not that which the pairs were."""
        if self.fixed and not self._is_same(scalp, contacts):
            raise ValueError(
                "The method was fitted to one patient's electrodes and contacts and "
                "cannot predict others. Fit it to pairs of several patients."
            )

    def inputs(self, scalp, contacts):
        """Encode a scalp, (n_items, n_inputs, n_times) of order one."""
        self.check(scalp, contacts)
        if self.fixed:
            components = self._components @ self._heard(scalp)
            return np.clip(components, -_LOUDEST, _LOUDEST)[None].astype(np.float32)
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
        """Return what an output of one means at each contact, (n_contacts,) volts."""
        if self.fixed:
            return self._unit
        posterior, gain = posterior_of(scalp, contacts)
        return gain * posterior.prior_std

    def outputs(self, scalp, contacts, ieeg):
        """Encode contacts, (n_items, n_outputs, n_times) of order one."""
        unit = ieeg / self.unit(scalp, contacts)[:, None]
        return (unit[None] if self.fixed else unit[:, None]).astype(np.float32)

    def log_density(self, noise, residuals, scalp, contacts):
        """Log-density of residuals in volts: nats per sample and contact.

        Parameters
        ----------
        noise : ResidualNoise
            In the unit of outputs.
        residuals : array of shape (n_items, n_outputs, n_times)
            Outputs less their prediction; items are independent.
        scalp, contacts
            As for :meth:`unit`.

        Returns
        -------
        log_density : float
            Of all contacts together, divided by the number of values.
        """
        unit = self.unit(scalp, contacts)
        floors = (_FLOOR_OF_DENSITY / unit).reshape(len(residuals), -1)
        parts = [
            noise.log_density(*item) for item in zip(residuals, floors, strict=True)
        ]
        return np.mean(parts) - np.log(unit).mean()

    def decode(self, outputs, scalp, contacts):
        """Turn (n_draws, n_items, n_outputs, n_times) into volts."""
        volts = outputs.reshape(len(outputs), -1, outputs.shape[-1])
        return volts * self.unit(scalp, contacts)[:, None].astype(np.float32)


class LaggedRidge:
    """Linear regression of each contact on the scalp 120 ms before and after.

    The penalty is chosen for every contact by cross-validation over blocks of time;
    intervals are Gaussian with the covariance and the spectra of the residuals that
    the cross-validation leaves. For contacts of several patients the regressor is the
    spatial posterior's mean at the contact, see :class:`Encoding`. Ridge regression:
    Hoerl & Kennard 1970, Technometrics 12:55.

    Parameters
    ----------
    reach : float
        Seconds before and after.
    n_blocks : int
        Blocks of the cross-validation.

    Examples
    --------
    >>> import numpy as np
    >>> from mne_neuroflow.evaluation.pairs import ScalpData
    >>> from mne_neuroflow.head.geometry import load_head
    >>> rng = np.random.default_rng(0)
    >>> data = 1e-5 * rng.standard_normal((20, 640))
    >>> scalp = ScalpData(data - data.mean(axis=0), load_head().scalp.rr[::33])
    >>> contacts = np.array([[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]])
    >>> ieeg = 5e-5 * rng.standard_normal((2, 640))
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
        """Stretches of time as (inputs, targets, span), dealt to the blocks."""
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
        """Every input at every lag, (n_inputs * n_lags, n_times)."""
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
    """Solutions for all penalties from one eigendecomposition."""

    # Relative to the mean eigenvalue of the regressors' second moment.
    penalties = 10.0 ** np.arange(-4, 4)

    def __init__(self, xx, xy):
        self._values, self._vectors = np.linalg.eigh(xx)
        self._turned = self._vectors.T @ xy
        self._penalties = self.penalties * np.trace(xx) / len(xx)

    def weights(self, choice):
        """Weights with a penalty of its own for each target, (n, n_targets)."""
        shrunk = self._turned / (self._values[:, None] + self._penalties[choice])
        return self._vectors @ shrunk

    def gain(self, xx, xy):
        """Squared error that each penalty explains elsewhere, (penalty, target)."""
        gains = []
        for k in range(len(self._penalties)):
            weights = self.weights(np.full(xy.shape[1], k))
            gains.append((weights * (2 * xy - xx @ weights)).sum(0))
        return np.array(gains)
