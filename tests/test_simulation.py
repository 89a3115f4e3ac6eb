"""The generative prior: each ingredient has the property that it claims.

Each test names the planted bugs that it was seen to catch. Tolerances of random
quantities are a few standard errors; seeds are fixed.
"""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from mne_neuroflow.contract import SFREQ
from mne_neuroflow.head.geometry import STRUCTURES, inside_brain, load_head
from mne_neuroflow.simulation import recordings as recordings_module
from mne_neuroflow.simulation import setups as setups_module
from mne_neuroflow.simulation.artifacts import (
    against_reference,
    bad_electrodes,
    blinks,
    drift,
    eye_topography,
    mains,
    muscle,
    saccades,
    sensor_noise,
)
from mne_neuroflow.simulation.events import (
    add_events,
    draw_focus,
    seizure,
    spike_train,
    spike_waveform,
)
from mne_neuroflow.simulation.recordings import (
    amplitudes,
    choose_generators,
    contact_amplitudes,
    contact_noise,
    draw_traits,
    electrode_rms,
    simulate,
)
from mne_neuroflow.simulation.setups import (
    HELD_OUT,
    MONTAGES,
    GeneratorTable,
    Worlds,
    build_setups,
    build_sites,
    build_worlds,
    electrode_positions,
    random_implant,
    random_montage,
    random_shaft,
    real_implants,
)
from mne_neuroflow.simulation.sources import (
    MESIAL,
    SCENARIO_SHARE,
    SCENARIOS,
    ActiveSources,
    aperiodic_power,
    background,
    band_response,
    bouts,
    bump_power,
    coloured,
    convolved,
    couple,
    delayed,
    draw_coupling,
    draw_scenarios,
    draw_spectra,
    log_normal,
)

LATERAL = STRUCTURES.index("temporal-lateral")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Small products are slower on several threads."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(1)


def _scenario(name, n):
    return torch.full((n,), SCENARIOS.index(name))


def _active(n_batch, structure, hemisphere=None):
    """The same generators in every recording."""
    structure = torch.as_tensor(structure).expand(n_batch, -1)
    hemisphere = torch.zeros_like(structure) if hemisphere is None else hemisphere
    return ActiveSources(structure, torch.as_tensor(hemisphere).expand(n_batch, -1))


def _background(active, name, n_times, rng):
    """Ongoing activity of new patients, whose left side slows."""
    n = len(active)
    side = torch.zeros(n, dtype=torch.int64)
    scenario = _scenario(name, n)
    return background(active, draw_spectra(active, rng), side, scenario, n_times, rng)[
        0
    ]


def _spectrum(series):
    """Mean power spectrum over all leading axes, with its frequencies."""
    power = torch.fft.rfft(series).abs().square().flatten(0, -2).mean(0)
    return torch.fft.rfftfreq(series.shape[-1], 1 / SFREQ), power


# ------------------------------------------------------------------ spectra


@pytest.mark.parametrize("n_times", [256, 1280])
def test_coloured_noise(n_times, rng):
    """Unit variance and the spectrum that was asked for, between 0 and 64 Hz.

    8000 series leave 0.2 % for the variance and 1.1 % for each power. Catches
    a missing factor of two and amplitudes used as powers.
    """
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ)
    shape = torch.exp(-0.5 * ((frequency - 10) / 3) ** 2) + 0.01 * frequency
    shape[[0, -1]] = 0
    noise = coloured(shape.expand(8000, -1), n_times, rng)
    assert noise.shape == (8000, n_times)
    assert abs(float(noise.square().mean()) - 1) < 0.01
    _, power = _spectrum(noise)
    ratio = (power / power.sum()) / (shape / shape.sum())
    assert_allclose(ratio[1:-1], 1, atol=0.06)


def test_coloured_noise_of_few_frequencies(rng):
    """Unit variance also where the first and the last frequency hold most of it.

    White noise of eight samples has no correlation between samples. Catches ends
    that count as much as frequencies with a negative twin, and half as much as that.
    """
    noise = coloured(torch.ones(200_000, 5), 8, rng)
    assert_allclose(noise.T @ noise / 200_000, np.eye(8), atol=0.015)
    slow = torch.tensor([1.0, 0.1, 0, 0, 0]).expand(200_000, -1)
    assert_allclose(coloured(slow, 8, rng).square().mean(), 1, atol=0.02)


def test_band_is_the_contract():
    """0.5-50 Hz: whole inside, half at 0.5 and 56 Hz, nothing at 0 and 62 Hz.

    Catches flanks in other places.
    """
    response = band_response(SFREQ * 16, "cpu")
    frequency = torch.fft.rfftfreq(SFREQ * 16, 1 / SFREQ)
    inside = (frequency >= 0.75) & (frequency <= 50)
    assert_allclose(response[inside], 1, atol=1e-6)
    assert_allclose(response[(frequency == 0.5) | (frequency == 56)], 0.5, atol=1e-6)
    assert_allclose(response[(frequency < 0.25) | (frequency >= 62)], 0, atol=1e-6)


@pytest.mark.parametrize("exponent", [0.8, 1.5, 2.5])
def test_aperiodic_slope(exponent, rng):
    """Slope of the log-log spectrum of what is drawn, 2 to 40 Hz.

    Catches an exponent that is applied to amplitudes.
    """
    n_times = 4 * SFREQ
    frequency = torch.fft.rfftfreq(n_times, 1 / SFREQ)
    power = aperiodic_power(frequency, torch.tensor(exponent), torch.tensor(0.0))
    frequency, found = _spectrum(coloured(power.expand(2000, -1), n_times, rng))
    fit = (frequency >= 2) & (frequency <= 40)
    slope = np.polyfit(frequency[fit].log(), found[fit].log(), 1)[0]
    assert_allclose(slope, -exponent, atol=0.02)


def test_knee():
    """Half the power at the knee, and flat below.

    Catches a knee that is not raised to the exponent.
    """
    exponent, knee = torch.tensor(2.0), torch.tensor(6.0)
    power = aperiodic_power(torch.tensor([0.2, 6.0, 60.0]), exponent, knee)
    assert_allclose(power[1] / power[0], 0.5, rtol=2e-3)
    assert_allclose(power[2] / power[0], 1 / 101, rtol=2e-3)


@pytest.mark.slow
def test_rhythms_peak_where_they_should(rng):
    """Alpha at the back, theta in mesial structures, slowing on one side.

    Catches a rhythm of the wrong structure and a scenario that changes nothing.
    """
    frequency = torch.fft.rfftfreq(8 * SFREQ, 1 / SFREQ)
    peak = bump_power(frequency, torch.tensor(10.0), torch.tensor(0.5))
    assert frequency[peak.argmax()] == 10
    assert_allclose(peak[frequency == 10.5], np.exp(-0.5), rtol=1e-6)

    occipital, hippocampus = STRUCTURES.index("occipital"), 0
    active = _active(600, [occipital] * 4 + [hippocampus] * 4)

    def excess(series, low, high):
        """Power in a band against the geometric mean of its flanks, in decibels."""
        frequency, power = _spectrum(series)

        def mean(a, b):
            return float(power[(frequency >= a) & (frequency < b)].mean().log10())

        return 10 * (mean(low, high) - (mean(low / 2, low) + mean(high, 2 * high)) / 2)

    def share(series, low, high):
        frequency, power = _spectrum(series)
        inside = (frequency >= low) & (frequency < high)
        return float(power[inside].sum() / power.sum())

    rest = _background(active, "rest", 6 * SFREQ, rng)
    theta = _background(active, "theta", 6 * SFREQ, rng)
    slowing = _background(active, "slowing", 6 * SFREQ, rng)
    assert excess(rest[:, :4], 8, 12) > 3
    assert excess(rest[:, 4:], 8, 12) < 1
    assert excess(theta[:, 4:], 3, 8) > excess(rest[:, 4:], 3, 8) + 1
    assert share(slowing[:, 4:], 1, 4) > 1.3 * share(rest[:, 4:], 1, 4)
    assert share(slowing[:, :4], 1, 4) < 1.05 * share(rest[:, :4], 1, 4)


@pytest.mark.parametrize("name", ["rest", "theta"])
@pytest.mark.slow
def test_background_has_unit_variance(name, rng):
    """On average over recordings, each generator, whatever its modulation.

    With 1000 recordings the standard error is about 4 %, and slow envelopes in a
    short window lose a few percent, since their mean over the window is drawn with
    a quarter of its variance. Catches an envelope without unit
    mean square, and shares that add amplitudes rather than variances.
    """
    active = _active(1000, [0, LATERAL, 6])
    activity = _background(active, name, 12 * SFREQ, rng)
    variance = activity.square().mean((0, 2))
    assert_allclose(variance, 1, atol=0.11)
    # 0.5-50 Hz, as far as modulation leaves it
    frequency, power = _spectrum(activity)
    assert power[frequency > 62].sum() < 1e-3 * power.sum()


def test_log_normal_has_unit_mean_square(rng):
    """Catches a correction for the mean instead of the mean square."""
    draws = log_normal(0.5, (400_000,), rng)
    assert_allclose(draws.square().mean(), 1, atol=0.015)
    assert_allclose(draws.log().std(), 0.5, rtol=0.01)


def test_scenarios(rng):
    """Catches shares in another order."""
    drawn = draw_scenarios(100_000, rng)
    shares = torch.bincount(drawn, minlength=len(SCENARIOS)) / 100_000
    assert_allclose(shares, SCENARIO_SHARE, atol=0.008)
    assert_allclose(sum(SCENARIO_SHARE), 1)


# ------------------------------------------------------------------ coupling


def test_delay(rng):
    """Catches an advance in place of a delay."""
    series = torch.randn(2, 3, 50, generator=rng)
    samples = torch.tensor([[0, 1, 5], [3, 0, 2]])
    later = delayed(series, samples)
    for b in range(2):
        for g in range(3):
            n = int(samples[b, g])
            assert torch.equal(later[b, g, n:], series[b, g, : 50 - n])


def test_coupling(rng):
    """Mesial generators share activity with a lateral one on their side.

    Variance stays, correlations lie between 0 and 0.9 with either sign, lags
    between 0 and 39 ms, lateral generators stay as they are. Catches a mixture
    that adds variance, a sign that is always positive, and partners on the
    other side.
    """
    n = 1500
    structure = [0, 1, 2, LATERAL, LATERAL, 0, LATERAL, 4]
    side = [0, 0, 0, 0, 0, 1, 1, 0]
    active = _active(n, structure, torch.tensor(side))
    n_times = 4 * SFREQ
    flat = torch.ones(n, len(structure), n_times // 2 + 1)
    activity = coloured(flat, n_times, rng)
    coupling = draw_coupling(active, rng)
    partner = coupling.partner
    coupled = couple(activity, coupling, _scenario("rest", n))
    assert_allclose(coupled.var(-1).mean(0), 1, atol=0.01)
    assert torch.equal(coupled[:, 3:5], activity[:, 3:5])
    assert torch.equal(coupled[:, 6:], activity[:, 6:])
    lateral = {0: {3, 4}, 1: {6}}
    for generator in (0, 1, 2, 5):
        assert set(partner[:, generator].tolist()) == lateral[side[generator]]

    # Correlation with the partner at the best lag, for one generator.
    with_partner = activity.gather(1, partner[:, :1, None].expand(-1, 1, n_times))
    with_partner = with_partner / with_partner.norm(dim=-1, keepdim=True)
    follower = coupled[:, 0] / coupled[:, 0].norm(dim=-1, keepdim=True)
    lags = range(-2, 9)
    correlations = torch.stack(
        [(follower * torch.roll(with_partner[:, 0], lag, -1)).sum(-1) for lag in lags]
    )
    best = correlations.abs().argmax(0)
    peak = correlations.gather(0, best[None])[0]
    strong = peak.abs() > 0.3
    assert 0.15 < strong.float().mean() < 0.6
    assert {lags[k] for k in best[strong].tolist()} == set(range(6))
    assert abs(float((peak[strong] > 0).float().mean()) - 0.5) < 0.1
    assert 0.75 < peak.abs().max() < 0.97

    uncoupled = couple(activity, coupling, _scenario("uncoupled", n))
    assert torch.equal(uncoupled, activity)


# ------------------------------------------------------------------ events


@pytest.mark.parametrize("sharp", [0.012, 0.035])
def test_spike_waveform(sharp):
    """Peak at zero, half width as drawn, an after-wave at 200 ms.

    Spikes last under 70 ms and sharp waves under 200 ms. Catches a width that is
    not the deviation.
    """
    time = torch.arange(-0.5, 0.8, 1e-4)
    wave = spike_waveform(time, torch.tensor(sharp), torch.tensor(-0.5))
    top = int(wave.argmax())
    assert abs(float(time[top])) < 0.2 * sharp
    assert 0.9 < wave.max() <= 1
    above = time[wave > wave.max() / 2]
    # A Gaussian's half width is 2.355 of its deviations; the rebound takes a little.
    assert 0.85 * 2.355 * sharp < above[-1] - above[0] < 2.36 * sharp
    assert_allclose(wave[(time - 0.2).abs().argmin()], -0.5, atol=0.03)
    assert abs(float(wave[-1])) < 1e-3


def test_spikes_propagate(rng):
    """Spikes are at the focus; partners follow after 8 to 39 ms or not at all.

    Catches partners that lead, and spikes without a focus.
    """
    n, n_times = 600, 8 * SFREQ
    regions = [(s, h) for h in (0, 1) for s in range(MESIAL)]
    structure = [s for s, _ in regions] + [LATERAL] * 2
    side = [h for _, h in regions] + [0, 1]
    active = _active(n, structure, torch.tensor(side))
    partner = torch.tensor([6 + h for h in side]).expand(n, -1)
    silence = torch.zeros(n, len(structure), n_times)
    focus = draw_focus(active, partner, rng)
    activity, events, _ = add_events(silence, focus, _scenario("spikes", n), rng)
    strong = activity.abs().amax(-1) > 0
    hit = events.sum(-1) > 0
    assert 0.5 < hit.float().mean() < 0.98
    # One mesial region each, equally often.
    assert torch.all(strong[:, :6].sum(1) == hit)
    assert_allclose(strong[hit, :6].float().mean(0), 1 / 6, atol=0.06)
    follows = strong[:, 6:].any(1)
    assert_allclose(follows[hit].float().mean(), 0.6, atol=0.08)
    lags, strengths = [], []
    for b in torch.nonzero(follows & hit).flatten().tolist():
        home = activity[b, :6].abs().sum(0)
        away = activity[b, 6:].abs().sum(0)
        both = torch.fft.irfft(torch.fft.rfft(away) * torch.fft.rfft(home).conj())
        lag = int(both.argmax())
        lags.append(lag - n_times if lag > n_times // 2 else lag)
        strengths.append(float(home.max()))
    assert set(lags) == set(range(1, 6))
    assert 0.5 < min(strengths) and 6 < max(strengths) < 25
    # Events mark the peaks.
    b = int(torch.nonzero(hit)[0])
    first = int(events[b].argmax())
    series = activity[b, int(strong[b, :6].int().argmax())]
    near = series.abs()[max(0, first - 8) : first + 9]
    assert near.max() > 0.5 * series.abs().max()


def test_seizure_builds_up(rng):
    """2 to 8 Hz, growing within 5 to 26 s, over within two minutes.

    Catches an envelope that falls, one in units of the recording's length, and a
    pace that is not slowed.
    """
    n = 300
    rhythm, envelope = seizure(_scenario("ictal", n), 200 * SFREQ, rng)
    assert envelope.min() == 0 and envelope.max() == 1
    assert_allclose(rhythm.abs().amax() / 0.7, 1.6, atol=0.1)
    full = (envelope >= 1).sum(-1) / SFREQ
    running = (envelope > 0).sum(-1) / SFREQ
    inside = (envelope[:, 0] == 0) & (envelope[:, -1] == 0)
    assert inside.float().mean() > 0.5
    length, growing = running[inside], (running - full)[inside]
    assert 30 <= length.min() and 100 < length.max() <= 120.1
    assert 5 < growing.min() < 7 and 24 < growing.max() <= 26.6
    # In a short window mostly the growth is seen.
    rhythm, envelope = seizure(_scenario("ictal", n), 10 * SFREQ, rng)
    early, late = rhythm[:, : 3 * SFREQ], rhythm[:, -3 * SFREQ :]
    assert late.square().mean() > 2 * early.square().mean()
    frequency, power = _spectrum(late)
    inside = (frequency >= 1.5) & (frequency <= 17)
    assert power[inside].sum() > 0.9 * power.sum()
    assert 1.5 < float(frequency[power.argmax()]) < 8.5
    assert not seizure(_scenario("rest", n), 10 * SFREQ, rng)[0].any()


def test_seizure_is_at_the_focus(rng):
    """Catches a seizure of all mesial regions."""
    active = _active(50, [0, 1, 2] * 2, torch.tensor([0] * 3 + [1] * 3))
    partner = torch.zeros(50, 6, dtype=torch.int64)
    focus = draw_focus(active, partner, rng)
    silence = torch.zeros(50, 6, 30 * SFREQ)
    activity, _, envelope = add_events(silence, focus, _scenario("ictal", 50), rng)
    at_focus = focus.structure + 3 * focus.side
    strong = activity.abs().amax(-1) > 0
    assert torch.equal(strong.sum(-1) > 0, envelope.amax(-1) > 0)
    assert strong.sum(-1).max() == 1
    assert torch.equal(
        strong.int().argmax(-1)[strong.any(-1)], at_focus[strong.any(-1)]
    )


def test_rate_of_spikes(rng):
    """3 to 75 a minute. Catches a rate per sample."""
    train = spike_train(_scenario("spikes", 400), 60 * SFREQ, rng)
    count = (train > 0).sum(-1).float()
    expected = 60 * (10**0.1 - 10**-1.3) / np.log(10**1.4)
    assert_allclose(count.mean(), expected, rtol=0.12)
    assert count.min() <= 4 and 60 < count.max() < 105
    heights = train[train > 0]
    assert 0.6 <= heights.min() and heights.max() <= 1.4
    assert not spike_train(_scenario("theta", 400), SFREQ, rng).any()


@pytest.mark.parametrize("name", ["rest", "theta", "slowing", "uncoupled"])
def test_no_events_elsewhere(name, rng):
    """Catches events in every scenario."""
    active = _active(50, [0, 1, 2] * 2, torch.tensor([0] * 3 + [1] * 3))
    silence = torch.zeros(50, 6, 256)
    partner = torch.zeros(50, 6, dtype=torch.int64)
    focus = draw_focus(active, partner, rng)
    for events in add_events(silence, focus, _scenario(name, 50), rng):
        assert not events.any()


# ------------------------------------------------------------------ artifacts


@pytest.fixture
def electrodes():
    """Many recordings with the 25-electrode montage."""
    known = electrode_positions()
    names = MONTAGES["25"].split()
    places = torch.tensor(np.array([known[name] for name in names])).float()
    return names, places.expand(400, -1, -1)


def _rms(series):
    return series.square().mean((0, 2)).sqrt()


def _of(names, topography):
    return dict(zip(names, topography.tolist(), strict=True))


def test_blinks_are_frontal(electrodes, rng):
    """A blink is that of the bundled recording, and as frequent as in people at rest.

    Of its mean blink there (against Oz, over Fp1): F7 0.45, F3 0.37, Fz 0.36, T7
    0.20, Cz 0.14, Pz 0.05. Catches eyes at the back of the head, dipoles that look
    ahead, and pulses that are twice as long.
    """
    names, places = electrodes
    wave, train = blinks(places, 60 * SFREQ, rng)
    present = train.sum(-1) > 0
    assert 0.42 < present.float().mean() < 0.55
    count = (train[present] > 0).sum(-1).float()
    assert 10 < count.mean() < 20 and count.max() < 55
    up = torch.tensor([[0.0, 0.0, 1.0]])
    found = _of(names, eye_topography(places[:1], up, [-0.028, 0.082, 0.003])[0])
    real = dict(F7=0.45, F3=0.37, Fz=0.36, T7=0.2, Cz=0.14, Pz=0.05)
    for name, value in real.items():
        relative = (found[name] - found["O1"]) / (found["Fp1"] - found["O1"])
        assert_allclose(relative, value, atol=0.13)
    fp1 = wave[present][:, names.index("Fp1")]
    peak = fp1.amax(-1)
    assert 40e-6 < peak.min() and 100e-6 < peak.median() < 300e-6
    frequency, power = _spectrum(wave[present])
    assert power[frequency < 6].sum() > 0.9 * power.sum()
    # Width at half height of single blinks.
    alone = (train > 0).sum(-1) == 1
    widths = (wave[alone, 0] > 0.5 * wave[alone, 0].amax(-1, keepdim=True)).sum(-1)
    assert 0.08 < widths.min() / SFREQ and widths.max() / SFREQ < 0.26


def test_saccades_are_lateral(electrodes, rng):
    """Opposite at the two temples, little in the middle.

    Catches vertical movements.
    """
    names, places = electrodes
    wave, train = saccades(places, 60 * SFREQ, rng)
    present = train.sum(-1) > 0
    assert 0.42 < present.float().mean() < 0.55
    assert not wave[~present].any()
    rms = _of(names, _rms(wave[present]))
    assert min(rms["F7"], rms["F8"]) > 3 * max(rms["Cz"], rms["Pz"], rms["O1"])
    left, right = (wave[present][:, names.index(n)] for n in ("F7", "F8"))
    assert ((left * right).mean(-1) < 0).float().mean() > 0.9
    assert 5e-6 < right.abs().amax(-1).median() < 100e-6


@pytest.mark.slow
def test_drift_is_slow(electrodes, rng):
    """Below 1.5 Hz, alike at neighbours. Catches a width in centimetres."""
    names, places = electrodes
    wave = drift(places, 30 * SFREQ, rng)
    present = wave.abs().amax((1, 2)) > 0
    assert 0.27 < present.float().mean() < 0.43
    frequency, power = _spectrum(wave[present])
    assert power[frequency > 1.5].sum() < 0.02 * power.sum()
    rms = wave[present].std(-1)
    assert 0.5e-6 < rms.median() < 10e-6 and rms.max() < 40e-6

    def alike(one, two):
        one, two = (wave[present][:, names.index(n)] for n in (one, two))
        return float(((one * two).mean(-1) / (one.std(-1) * two.std(-1))).mean())

    assert alike("F3", "Fz") > 0.3 > 0.1 > abs(alike("Fp1", "O2"))


def test_bouts(rng):
    """Share of time and mean length are those that were asked for.

    Catches a corner in radians, and a threshold at the wrong tail.
    """
    share, seconds = torch.tensor([0.15, 0.5]), torch.tensor([0.6, 2.5])
    gate = bouts(120 * SFREQ, share.expand(200, -1), seconds.expand(200, -1), rng)
    on = gate > 0.5
    assert_allclose(on.float().mean((0, 2)), share, rtol=0.05)
    starts = (on[..., 1:] & ~on[..., :-1]).float().sum(-1).mean(0)
    assert_allclose(on.float().sum(-1).mean(0) / SFREQ / starts, seconds, rtol=0.05)


def test_theta_comes_in_bouts(rng):
    """In the scenario of that name, in mesial structures, where the gate says.

    Catches gates of the other hemisphere, and bouts everywhere.
    """
    n = 200
    active = _active(n, [0, 0, 6, 6], torch.tensor([0, 1, 0, 1]))
    side = torch.zeros(n, dtype=torch.int64)
    for name in ("theta", "rest"):
        activity, gate = background(
            active, draw_spectra(active, rng), side, _scenario(name, n), 20 * SFREQ, rng
        )
        assert gate.shape == (n, 2, 20 * SFREQ)
        if name == "rest":
            assert not gate.any()
            continue
        power = activity.square()
        for generator, hemisphere in ((0, 0), (1, 1)):
            on = gate[:, hemisphere] > 0.5
            here = power[:, generator]
            assert here[on].mean() > 1.5 * here[~on].mean()
            there = power[:, generator + 2]
            assert abs(float(there[on].mean() / there[~on].mean()) - 1) < 0.25


def test_convolution(rng):
    """The middle of the waveform is at the event. Catches a delay of one sample."""
    train = torch.zeros(64)
    train[20] = 2.0
    waveform = torch.zeros(64)
    waveform[[32, 33]] = torch.tensor([1.0, 0.5])
    series = convolved(train, waveform)
    expected = torch.zeros(64)
    expected[[20, 21]] = torch.tensor([2.0, 1.0])
    assert_allclose(series, expected, atol=1e-6)


def test_muscle_is_fast_and_temporal(electrodes, rng):
    """Above some 20 Hz, a floor everywhere and bursts, mostly at one temple.

    Catches a flank that is turned round, a temple in the middle, and bursts that are
    not where the gate says.
    """
    names, places = electrodes
    noise, gate = muscle(places, 8 * SFREQ, rng)
    frequency, power = _spectrum(noise)
    assert power[frequency > 20].sum() > 0.8 * power.sum()
    present = noise.abs().amax((1, 2)) > 0
    assert 0.78 < present.float().mean() < 0.92
    on = gate > 0.5
    strong = noise.square().mean(1)
    assert 0.05 < on.float().mean() < 0.15
    assert strong[on].mean() > 1.1 * strong[~on].mean()
    tense = noise.mT[on].square().mean(0) - noise.mT[~on].square().mean(0)
    tense = _of(names, tense)
    temporal = min(tense[name] for name in ("T7", "T8", "F7", "F8"))
    assert temporal > 2 * max(tense[name] for name in ("Cz", "Pz"))


def test_mains_is_a_line(electrodes, rng):
    """At 50 or 60 Hz, up to 5 µV, nearly nothing of 60 Hz.

    Catches a pitch in radians.
    """
    line = mains(electrodes[1], 8 * SFREQ, rng)
    present = line.abs().amax((1, 2)) > 0
    assert 0.2 < present.float().mean() < 0.4
    power = torch.fft.rfft(line[present]).abs().square().mean(1)
    frequency = torch.fft.rfftfreq(8 * SFREQ, 1 / SFREQ)
    peaks = frequency[power.argmax(-1)]
    fifty, sixty = (peaks - 50).abs() < 0.3, (peaks - 60).abs() < 0.3
    assert torch.all(fifty | sixty) and fifty.any() and sixty.any()
    height = line[present].abs().amax((1, 2))
    assert 3e-6 < height[fifty].max() <= 5e-6
    assert height[sixty].max() < 0.2e-6


def test_sensor_noise(electrodes, rng):
    """0.5 to 5 µV at each electrode, independent.

    Catches noise that is ten times too strong.
    """
    noise = sensor_noise(electrodes[1], 8 * SFREQ, rng)
    rms = noise.square().mean(-1).sqrt()
    low, high = torch.quantile(rms, torch.tensor([0.02, 0.98]))
    assert 0.5e-6 < low < 1.5e-6 and 3e-6 < high < 8e-6
    unit = (noise / noise.std(-1, keepdim=True))[0]
    correlation = unit @ unit.T / unit.shape[-1]
    assert (correlation - torch.eye(25)).abs().max() < 0.5


def test_bad_electrodes_are_few(rng):
    """One in twenty, and the truth says which.

    Catches everyone being noisy, electrodes that are dead to the last bit, and a
    spread that is taken over padding too.
    """
    scalp = 1e-5 * torch.randn(600, 25, 512, generator=rng)
    used = torch.ones(600, 25)
    used[:, 10:] = 0
    scalp = scalp * used[..., None]
    after, pops, noisy, dead = bad_electrodes(scalp, used, rng)
    change = (after - scalp).square().mean(-1).sqrt() / 1e-5
    touched = change > 0.01
    assert not touched[:, 10:].any()
    assert 0.02 < touched[:, :10].float().mean() < 0.07
    assert torch.equal(touched, (noisy + dead + pops.sum(-1)) > 0)
    silent = (after.std(-1) < 0.1e-5)[:, :10]
    assert torch.equal(silent, ((dead > 0) & (noisy == 0) & ~pops.any(-1))[:, :10])
    assert 0.003 < silent.float().mean() < 0.02
    assert after[:, :10].std(-1).min() > 0
    assert 0.4 < change[noisy > 0].min() < 1 and 3.5 < change[noisy > 0].max() < 6
    assert torch.equal(after[~touched], scalp[~touched])
    # A pop is some eight deviations high, steep, and gone after half a second.
    alone = (pops.sum(-1) == 1) & (noisy == 0) & (dead == 0)
    when = pops.argmax(-1)
    alone &= (when > 64) & (when < 384)
    assert alone.sum() >= 5
    for added, start in zip((after - scalp)[alone] / 1e-5, when[alone], strict=True):
        assert 5 < added.max() < 9 and 0 <= int(added.argmax()) - int(start) <= 1
        assert added[start + 64] < 1 and abs(float(added[start - 3])) < 2


def test_reference_cancels(electrodes, rng):
    """What is not spoilt afterwards is the same against the average.

    Catches a reference that is another one in every electrode.
    """
    scalp = torch.randn(20, 25, 64, generator=rng)
    used = torch.ones(20, 25)
    used[:, 8:] = 0
    against = against_reference(scalp, used, rng)
    reference = (against.abs().amax(-1) == 0) & (used > 0)
    assert torch.all(reference.sum(-1) == 1)
    one, two = (
        part[:, :8] - part[:, :8].mean(1, keepdim=True) for part in (scalp, against)
    )
    assert_allclose(one, two, atol=1e-5)


def test_contact_noise(rng):
    """10 µV beside the patches, as the spatial posterior says.

    Catches a local part that is twice as strong.
    """
    exponent = torch.linspace(0.6, 2, 4)[:, None].expand(3000, -1, -1)
    noise = contact_noise(exponent, torch.tensor(9.8e-6), 2 * SFREQ, rng)
    assert_allclose(noise.square().mean().sqrt(), np.hypot(9.8e-6, 1.5e-6), rtol=0.03)


# ------------------------------------------------------------------ recordings


@pytest.fixture(scope="module")
def patients():
    """Three patients with eight contacts, their heads and the generators."""
    sites = build_sites(4, seed=5, held_out=True)
    worlds = build_worlds(sites, 2, seed=5)
    setups = build_setups(sites, 2, 3, 8, seed=5)
    return sites, worlds, setups, GeneratorTable.from_head(load_head())


# Contacts far apart, where tissue couples to each on its own.
_PLACES = torch.tensor([[0.03, 0.0, 0.0], [-0.03, 0.0, 0.0], [0.03, -0.06, 0.0]])


def _few_generators(n_batch, n_generators=12, n_electrodes=5):
    """Setups of a handful of generators, the same for every recording."""
    rng = torch.Generator().manual_seed(3)

    def gains(n, scale):
        unit = torch.randn(n, n_generators, generator=rng)
        return scale * unit * torch.linspace(0.2, 2, n_generators)

    worlds = Worlds(gains(n_electrodes, 5e-6), gains(len(_PLACES), 1e-5))
    values = {field.name: None for field in fields(setups_module.Setups)}
    values |= {
        "deep_rows": torch.arange(len(_PLACES)).expand(n_batch, -1),
        "scalp_rows": torch.arange(n_electrodes).expand(n_batch, -1),
        "used": torch.ones(n_batch, n_electrodes),
        "electrodes": 0.05 * torch.randn(n_batch, n_electrodes, 3, generator=rng),
        "contacts": _PLACES.expand(n_batch, -1, -1),
    }
    all_generators = GeneratorTable(
        torch.arange(n_generators) % len(STRUCTURES),
        torch.arange(n_generators) % 2,
        torch.arange(n_generators) % 5,
    )
    return setups_module.Setups(**values), worlds, all_generators


def test_choice_of_generators_is_made_up_for(rng):
    """Amplitudes are those that leave the mean covariance as it is.

    Probabilities, read off the amplitudes, add up to one and are those with which
    generators are chosen, so that the sum over choices of squared amplitude times
    gains is exact in expectation. Catches an amplitude that is not a root, and one
    without the number of generators.
    """
    n_batch, n_players = 4000, 7
    setups, worlds, _ = _few_generators(n_batch)
    index, amplitude = choose_generators(worlds.of(setups), n_players, rng)
    assert index.shape == amplitude.shape == (n_batch, n_players)
    implied = 1 / (n_players * amplitude.square())
    probability = torch.zeros(12)
    probability[index.flatten()] = implied.flatten()
    assert_allclose(probability.sum(), 1, rtol=1e-5)
    assert_allclose(implied, probability[index], rtol=1e-4)
    found = torch.bincount(index.flatten(), minlength=12) / index.numel()
    error = (probability * (1 - probability) / index.numel()).sqrt()
    assert ((found - probability) / error).abs().max() < 4
    assert probability.max() > 2 * probability.min()


def test_tissue_couples_smoothly(rng):
    """Unit mean square at each contact, alike within millimetres.

    Catches a factor with unit mean, and a field without its length.
    """
    line = torch.tensor([0.0, 0.002, 0.012, 0.1])[:, None] * torch.tensor([1.0, 0, 0])
    drawn = contact_amplitudes(line.expand(60_000, -1, -1), rng)[..., 0]
    assert_allclose(drawn.square().mean(0), 1, atol=0.04)
    found = torch.corrcoef(drawn.log().T)[0]
    # Of 0.5² + 0.25², the field's share falls as a Gaussian of 12 mm.
    distance = line[:, 0] / 0.012
    expected = 0.8 * torch.exp(-0.5 * distance**2)
    assert_allclose(found[1:], expected[1:], atol=0.02)


def test_amplitudes_have_unit_mean_square(rng):
    """Catches a mesial ratio whose mean square is not one."""
    active = _active(40_000, list(range(8)))
    group = (torch.arange(8) % 5).expand(40_000, -1)
    drawn = amplitudes(active, group, rng)
    assert_allclose(drawn.square().mean(0), 1, atol=0.12)
    assert 0.7 < drawn[:, 0].log().std() < 1.1


@pytest.mark.slow
def test_cohort_has_the_prior_covariance(rng, monkeypatch):
    """Second moments at the contacts over 1500 recordings are the prior's.

    Amplitudes, of unit mean square by tests of their own, are taken as one here,
    which leaves a standard error of 3 %. A recording's own gain has a mean square
    of exp(2 · 0.4²). Catches a choice of generators that is not made up for,
    a forgotten gain, and contacts without their noise.
    """
    ones = {
        "amplitudes": lambda active, group, rng: torch.ones(group.shape),
        "contact_amplitudes": lambda contacts, rng: torch.ones(*contacts.shape[:2], 1),
    }
    for name, function in ones.items():
        monkeypatch.setattr(recordings_module, name, function)
    n_batch = 1500
    setups, worlds, all_generators = _few_generators(n_batch)
    scenario = _scenario("uncoupled", n_batch)
    pairs = simulate(setups, worlds, all_generators, 6, rng, 8, scenario)
    products = (pairs.deep @ pairs.deep.mT).double() / pairs.deep.shape[-1]
    deep = worlds.deep.double()
    local = torch.eye(3, dtype=torch.float64) * (9.8e-6**2 + 1.5e-6**2)
    expected = np.exp(2 * 0.4**2) * (deep @ deep.T + local)
    error = products.std(0) / np.sqrt(n_batch)
    assert (error / expected).diagonal().max() < 0.05
    z = (products.mean(0) - expected) / error
    assert z.abs().max() < 4


def test_pairs(patients):
    """Shapes, reference, padding, and volts that look like recordings.

    Catches padded rows that keep their noise and a scalp without its reference.
    """
    _, worlds, setups, all_generators = patients
    rng = torch.Generator().manual_seed(2)
    pairs = simulate(setups, worlds, all_generators, 6, rng)
    assert pairs.scalp.shape == (3, 128, 6 * SFREQ)
    assert pairs.deep.shape == (3, 8, 6 * SFREQ)
    assert pairs.scenario.shape == (3,)
    shown = pairs.artifacts
    for truth in (pairs.spikes, pairs.seizure, shown.blinks, shown.muscle):
        assert truth.shape == (3, 6 * SFREQ)
    assert pairs.theta.shape == (3, 2, 6 * SFREQ)
    assert shown.pops.shape == pairs.scalp.shape
    unused = setups.used == 0
    assert unused.any() and not pairs.scalp[unused].any()
    peak = float(pairs.scalp.abs().max())
    assert pairs.scalp.sum(1).abs().max() < 1e-4 * peak
    assert 3e-6 < electrode_rms(pairs.scalp)[~unused].median() < 60e-6
    assert 15e-6 < pairs.deep.std(-1).median() < 300e-6


def test_same_seed_same_pairs(patients):
    """Catches random numbers from torch's own generator."""
    _, worlds, setups, all_generators = patients
    pairs = [
        simulate(setups, worlds, all_generators, 3, torch.Generator().manual_seed(seed))
        for seed in (4, 4, 5)
    ]
    for field in fields(pairs[0]):
        one, same = (getattr(pair, field.name) for pair in pairs[:2])
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, same)
    assert not torch.equal(pairs[0].deep, pairs[2].deep)


def test_a_patient_comes_back():
    """Sessions share what a patient keeps, and no signal.

    Over a session each contact's amplitude is the patient's, and so is the covariance
    of scalp and contacts; between patients both differ. Catches traits that
    ``simulate`` draws anew, and a session that repeats the signal.
    """
    n = 24
    setups, worlds, all_generators = _few_generators(n)
    rng = torch.Generator().manual_seed(8)
    traits = draw_traits(setups, worlds, all_generators, rng, 8)
    scenario = _scenario("spikes", n)
    first, second = (
        simulate(
            setups, worlds, all_generators, 60, rng, scenario=scenario, traits=traits
        )
        for _ in range(2)
    )

    def likeness(one, two):
        one, two = one.flatten(1), two.flatten(1)
        return (one * two).sum(1) / (one.norm(dim=1) * two.norm(dim=1))

    assert likeness(first.deep, second.deep).abs().max() < 0.2
    one, two = (pair.deep.std(-1).log() for pair in (first, second))
    assert (one - two).abs().mean() < 0.25 * (one - two.roll(1, 0)).abs().mean()
    one, two = (pair.scalp @ pair.deep.mT for pair in (first, second))
    assert likeness(one, two).median() > 0.9
    assert likeness(one, two.roll(1, 0)).median() < 0.8


def test_traits_of_one_patient(rng):
    """Picked rows are that patient's, in whatever part of the traits they lie.

    Catches parts that are left as they were.
    """
    setups, worlds, all_generators = _few_generators(4)
    traits = draw_traits(setups, worlds, all_generators, rng, 8)
    twice = traits.pick(torch.tensor([2, 2]))
    assert len(twice) == 2
    for one, all_ in (
        (twice.index, traits.index),
        (twice.active.structure, traits.active.structure),
        (twice.coupling.strength, traits.coupling.strength),
        (twice.focus.side, traits.focus.side),
        (twice.gain, traits.gain),
    ):
        assert torch.equal(one, all_[[2, 2]])


def test_scalp_tells_of_contacts():
    """Scalp and contacts go together as their gains say.

    Catches contacts and scalp that play different generators.
    """
    setups, worlds, all_generators = _few_generators(512)
    worlds = replace(worlds, scalp=worlds.deep[[0, 0, 1, 2, 2]])
    rng = torch.Generator().manual_seed(6)
    scenario = _scenario("uncoupled", 512)
    pairs = simulate(setups, worlds, all_generators, 2, rng, 8, scenario)
    referenced = worlds.scalp - worlds.scalp.mean(0)
    expected = (referenced @ worlds.deep.T).flatten()
    found = (pairs.scalp @ pairs.deep.mT).mean(0).flatten()
    assert np.corrcoef(found, expected)[0, 1] > 0.95


def test_electrode_rms():
    """A burst in one second does not count. Catches a mean over seconds."""
    series = torch.ones(1, 1, 5 * SFREQ)
    series[..., :SFREQ] = 100
    assert_allclose(electrode_rms(series), 1)


# ------------------------------------------------------------------ setups


def test_setups(patients):
    """Padding, halves, positions and spreads of the right patient.

    Catches padding with an electrode's row, and true gains of other contacts.
    """
    _, worlds, setups, _ = patients
    assert len(setups) == 3
    unused = setups.used == 0
    assert set(setups.used.unique().tolist()) == {0.0, 1.0}
    scalp, deep = worlds.of(setups)
    for array in (scalp, setups.electrodes, setups.scalp_std):
        assert not array[unused].any()
    assert torch.all(scalp[~unused].any(-1))
    assert torch.all(setups.half.sum(1) == 4)
    gap = torch.cdist(setups.contacts, setups.contacts) + torch.eye(8)
    assert gap.min() > 2e-3
    for contacts in setups.contacts:
        assert inside_brain(load_head(), contacts.numpy()).all()
    # The truth is near what is believed, but not the same.
    ratio = deep.square().sum(-1).sqrt() / setups.prior_std
    assert torch.all((ratio > 0.5) & (ratio < 2)) and ratio.std() > 0.01


def test_worlds_differ_from_the_template(patients):
    """A patient's gains resemble the template's at the same sites.

    Catches rows of another site, and electrodes where they should be.
    """
    sites, worlds, _, _ = patients
    n = len(sites.electrodes)
    assert not worlds.scalp[-1].any()
    for world in range(2):
        pairs = (
            (worlds.scalp[world * n : (world + 1) * n].numpy(), sites.scalp),
            (worlds.deep[world * len(sites.contacts) :].numpy(), sites.deep),
        )
        for true, believed in pairs:
            true = true[: len(believed)]
            norms = np.linalg.norm(true, axis=1) * np.linalg.norm(believed, axis=1)
            likeness = (true * believed).sum(1) / norms
            assert 0.9 < np.median(likeness) < 0.9999


def test_setups_follow_from_the_seed(patients):
    """With any number of threads. Catches random numbers shared by patients."""
    sites, _, setups, _ = patients
    again = build_setups(sites, 2, 3, 8, seed=5, n_jobs=2)
    other = build_setups(sites, 2, 3, 8, seed=6)
    for field in fields(again):
        one, same = getattr(setups, field.name), getattr(again, field.name)
        scale = float(one.abs().max())
        assert_allclose(one, same, rtol=1e-5, atol=1e-6 * scale)
    assert not torch.equal(setups.contacts, other.contacts)
    more = build_setups(sites, 2, 5, 8, seed=5)
    assert torch.equal(more.deep_rows[:3], setups.deep_rows)


def test_montages(patients):
    """Usual ones and random ones, of known names.

    Catches a usual montage with a misspelt electrode, and too large a cap.
    """
    known = electrode_positions()
    for name, labels in MONTAGES.items():
        assert len(set(labels.split())) == len(labels.split())
        assert set(labels.split()) <= set(known)
        assert abs(len(labels.split()) - int(name)) <= 1
    rng = np.random.default_rng(0)
    sites = replace(patients[0], held_out=False)
    montages = [random_montage(sites, rng) for _ in range(200)]
    assert all(len(set(montage)) == len(montage) for montage in montages)
    counts = [len(montage) for montage in montages]
    assert min(counts) >= 8 and 90 < max(counts) <= 128
    assert max(np.concatenate(montages)) < len(known)


def test_shafts():
    """Contacts on a line, 3.5 to 6 mm apart, in one temporal lobe.

    Catches a spacing in centimetres.
    """
    head, rng = load_head(), np.random.default_rng(1)
    n_contacts = []
    for _ in range(30):
        contacts = random_shaft(head, rng)
        n_contacts.append(len(contacts))
        if len(contacts) < 3:
            continue
        steps = np.diff(contacts, axis=0)
        assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-9)
        assert 3.5e-3 <= np.linalg.norm(steps[0]) <= 6e-3
        assert inside_brain(head, contacts).all()
        assert len(set(np.sign(contacts[:, 0]))) == 1
    assert np.median(n_contacts) >= 5


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_implants_stay_out(held_out, monkeypatch):
    """Training draws from the other patients only, evaluation from those held out.

    The name of a site says whose implant it is. Catches a comparison that lets
    everyone in.
    """
    names = set(real_implants())
    assert len(names) == 15 and set(HELD_OUT) < names
    # Where things are matters here, and not what they see.
    for name in ("scalp_lead_field", "contact_lead_field"):
        monkeypatch.setattr(setups_module, name, lambda head, places: places)
    monkeypatch.setattr(setups_module, "_of_generators", lambda field, device: field)
    sites = build_sites(3, 1, held_out)
    owner = {
        tuple(place): name
        for name, places in real_implants().items()
        for place in places
    }
    expected = set(HELD_OUT) if held_out else names - set(HELD_OUT)
    shafts = set(np.concatenate(sites.shafts).tolist())
    assert len(sites.implants) == len(expected)
    rng = np.random.default_rng(2)
    drawn = set()
    for _ in range(200):
        contacts = random_implant(sites, 8, rng)
        assert len(set(contacts)) == 8
        drawn |= {
            owner[tuple(sites.contacts[k])] for k in contacts if int(k) not in shafts
        }
    assert drawn == expected
    assert {owner.get(tuple(place)) for place in sites.contacts} == expected | {None}


def test_generator_table():
    """Catches hemispheres the wrong way round."""
    head = load_head()
    all_generators = GeneratorTable.from_head(head)
    assert set(all_generators.hemisphere.tolist()) == {0, 1}
    assert set(all_generators.group.tolist()) == set(range(5))
    generators = setups_module.source_generators(head)
    assert_array_equal(all_generators.hemisphere == 1, generators.hemisphere > 0)
    assert [STRUCTURES[k] for k in all_generators.structure[:50]] == list(
        generators.structure[:50]
    )
    off_middle = np.abs(generators.centre[:, 0]) > 5e-3
    right = generators.centre[off_middle, 0] > 0
    assert_array_equal((all_generators.hemisphere == 1).numpy()[off_middle], right)
