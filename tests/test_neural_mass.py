"""Neural masses behave as their authors say, and make pairs like the prior's.

Each test names the planted bugs that it was seen to catch.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose
from small_model import one_thread

from mne_neuroflow.contract import SFREQ
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.scores.signals import aperiodic_exponent, power_spectrum
from mne_neuroflow.simulation.events import draw_focus
from mne_neuroflow.simulation.recordings import simulate
from mne_neuroflow.simulation.setups import (
    GeneratorTable,
    build_patient,
    electrode_positions,
)
from mne_neuroflow.simulation.sources import (
    SCENARIOS,
    ActiveSources,
    draw_coupling,
)

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from neural_mass import (
        column_activity,
        column_derivatives,
        draw_columns,
        firing_rate,
        simulate_neural_masses,
    )


@pytest.fixture(scope="module", autouse=True)
def quick():
    with one_thread():
        yield


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(1)


def test_firing_rate():
    """Half of the maximum at the threshold. Catches a maximum of e0."""
    rate = firing_rate(torch.tensor([-1e3, 6.0, 1e3]))
    assert_allclose(rate, [0, 2.5, 5], atol=1e-5)


def _run(pulses, excitation=1.0, pace=1.0, seconds=4, step=1e-3):
    """One column under constant input: its potential after the first two seconds."""
    state = torch.zeros(6, 1)
    potential = []
    for _ in range(int(seconds / step)):
        slope = column_derivatives(state, torch.tensor([pulses]), excitation, pace)
        state = state + step * slope
        potential.append(float(state[1] - state[2]))
    return torch.tensor(potential[int(2 / step) :])


def _frequency(series, step=1e-3):
    power = torch.fft.rfft(series - series.mean()).abs().square()
    return float(power.argmax()) / (len(series) * step)


@pytest.mark.slow
def test_column_is_that_of_jansen_and_rit():
    """Alpha at an input of 220 a second, rest at 60, twice as slow at half the pace.

    Catches the two feedback loops exchanged, inhibition without its sign, and a pace
    that scales rates alone.
    """
    alpha = _run(220.0)
    assert 9 <= _frequency(alpha) <= 12
    assert 3 < alpha.max() - alpha.min() < 15
    rest = _run(60.0)
    assert rest.max() - rest.min() < 0.1
    # Twice the step at half the pace is the same sum.
    slow = _run(220.0, pace=0.5, seconds=8, step=2e-3)
    assert_allclose(_frequency(slow, 2e-3), _frequency(alpha) / 2, atol=0.6)
    assert_allclose(slow.max() - slow.min(), alpha.max() - alpha.min(), rtol=0.02)


def _active(n_batch, structure):
    structure = torch.tensor(structure).expand(n_batch, -1)
    return ActiveSources(structure, torch.zeros_like(structure))


def _scenario(n, *names):
    return torch.tensor([SCENARIOS.index(name) for name in names for _ in range(n)])


@pytest.mark.slow
def test_activity(rng):
    """The amplitude of its columns, 0.5-50 Hz; an excitable focus more so.

    Catches a amplitude that is left out, a band that is not cut, excitability that
    stays as it was, and one that all columns have.
    """
    n = 12
    active = _active(3 * n, [0] * 4 + [6] * 4)
    columns, coupling = draw_columns(active, rng), draw_coupling(active, rng)
    focus = draw_focus(active, coupling.partner, rng)
    focus = replace(focus, home=(active.structure == 0).float())
    scenario = _scenario(n, "rest", "spikes", "ictal")
    series, envelope = column_activity(
        active, coupling, focus, scenario, 4 * SFREQ, rng, columns
    )
    assert series.shape == (3 * n, 8, 4 * SFREQ)
    assert envelope[2 * n :].any() and not envelope[: 2 * n].any()
    assert (series.mean(-1).abs() < 0.5 * series.std(-1)).all()
    frequency = torch.fft.rfftfreq(4 * SFREQ, 1 / SFREQ)
    tapered = series * torch.hann_window(4 * SFREQ)
    power = torch.fft.rfft(tapered).abs().square().mean((0, 1))
    assert power[frequency > 60].sum() < 1e-6 * power.sum()
    amplitude = (series.std(-1) / columns.amplitude).unflatten(0, (3, n))
    assert_allclose(amplitude[0], 1, rtol=1e-3)
    assert_allclose(amplitude[1:, :, 4:], 1, rtol=1e-3)
    assert amplitude[1, :, :4].mean() > 1.3 and amplitude[2, :, :4].mean() > 1.3


def test_columns(rng):
    """Deep rhythms are slower; others have any pace, the slow ones of larger amplitude.

    Catches the pace of the wrong structure, and amplitude the other way round.
    """
    columns = draw_columns(_active(60, [0] * 40 + [6] * 40), rng)
    assert_allclose(columns.amplitude.square().mean(), 1, rtol=0.1)
    assert 0.09 < columns.pace.min() < 0.12 and 4.5 < columns.pace.max() < 5.1
    keeps = columns.amplitude == 1
    assert 0.15 < keeps.float().mean() < 0.35
    deep, occipital = (
        columns.pace[:, half][keeps[:, half]].median()
        for half in (slice(0, 40), slice(40, 80))
    )
    assert deep < 0.7 < 0.9 < occipital
    log_pace, log_amplitude = (
        columns.pace[~keeps].log(),
        columns.amplitude[~keeps].log(),
    )
    assert torch.corrcoef(torch.stack([log_pace, log_amplitude]))[0, 1] < -0.6


@pytest.mark.slow
def test_spectrum_falls(rng):
    """Many columns together have the spectrum of an EEG: a power law, not a line.

    Catches columns that all keep the rhythm, whose sum is a line at 10 Hz.
    """
    active = _active(2, [6] * 60)
    coupling = draw_coupling(active, rng)
    focus = draw_focus(active, coupling.partner, rng)
    rest = _scenario(2, "rest")
    series, _ = column_activity(active, coupling, focus, rest, 6 * SFREQ, rng)
    freqs, power = power_spectrum(series.sum(1).numpy(), SFREQ)
    for spectrum in power:
        assert 0.7 < aperiodic_exponent(freqs, spectrum) < 3.5
        alpha = (freqs > 7) & (freqs < 14)
        assert spectrum[alpha].sum() < 0.4 * spectrum.sum()


def test_drive_follows_the_coupling(rng):
    """A driven column follows its partner, an uncoupled one does not.

    Catches a drive that nobody gets, and the scenario ignored.
    """
    n = 12
    active = _active(2 * n, [0, 3])
    coupling = draw_coupling(active, rng)
    strong = torch.tensor([[3.0, 0.0]]).expand(2 * n, -1)
    coupling = replace(coupling, strength=strong)
    focus = draw_focus(active, coupling.partner, rng)
    scenario = _scenario(n, "rest", "uncoupled")
    # Columns of one pace: others would be too slow or too fast to follow.
    columns = draw_columns(active, rng)
    columns = replace(columns, pace=torch.ones_like(columns.pace))
    series, _ = column_activity(
        active, coupling, focus, scenario, 3 * SFREQ, rng, columns
    )
    series = series / columns.amplitude[..., None]
    product = torch.fft.rfft(series[:, 0]) * torch.fft.rfft(series[:, 1]).conj()
    cross = torch.fft.irfft(product)[:, :20] / series.shape[-1]
    coupled, free = cross.abs().amax(-1).unflatten(0, (2, n)).mean(1)
    assert coupled > 1.5 * free


@pytest.mark.slow
def test_pairs():
    """Same structure, shapes and units as those of the prior; the seed is enough.

    Catches signals of another length, and volts that are none.
    """
    known = electrode_positions()
    electrodes = [known[name] for name in "Fp1 Fp2 C3 C4 T7 T8 O1 O2".split()]
    contacts = [[-0.024, -0.02, -0.018], [-0.05, -0.02, -0.018]]
    setups, worlds = build_patient(electrodes, contacts, 3)
    all_generators = GeneratorTable.from_head(load_head())

    def run(function):
        rng = torch.Generator().manual_seed(4)
        scenario = torch.tensor([SCENARIOS.index("ictal")])
        return function(setups, worlds, all_generators, 1, rng, 24, scenario)

    prior, masses, again = map(
        run, (simulate, simulate_neural_masses, simulate_neural_masses)
    )
    for name in ("scalp", "deep", "spikes", "seizure", "theta"):
        one, two = getattr(prior, name), getattr(masses, name)
        assert one.shape == two.shape, name
    assert torch.equal(masses.deep, again.deep)
    assert 0.2 < masses.deep.std() / prior.deep.std() < 5
    assert 1e-6 < masses.scalp.std() < 1e-3
    assert masses.seizure.max() > 0
