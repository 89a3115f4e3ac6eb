"""Neural masses behave as their authors say, and make pairs like the prior's.

Each test names the planted bugs that it was seen to catch.
"""

import pytest
import torch
from numpy.testing import assert_allclose
from small_model import one_thread

from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.simulation.events import draw_focus
from mne_neuroflow.simulation.neural_mass import (
    column_activity,
    column_derivatives,
    firing_rate,
    simulate_neural_masses,
)
from mne_neuroflow.simulation.recordings import simulate
from mne_neuroflow.simulation.setups import Company, build_patient, electrode_positions
from mne_neuroflow.simulation.sources import (
    SCENARIOS,
    SFREQ,
    Cast,
    draw_coupling,
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


def _cast(n_batch, structure):
    structure = torch.tensor(structure).expand(n_batch, -1)
    return Cast(structure, torch.zeros_like(structure))


def test_activity(rng):
    """Unit variance, 0.5-50 Hz, slower in deep structures, coupled to the partner.

    Catches a pace of the wrong structure, and a drive that nobody gets.
    """
    n = 16
    cast = _cast(n, [0, 0, 3, 6])
    coupling = draw_coupling(cast, rng)
    focus = draw_focus(cast, coupling.partner, rng)
    scenario = torch.full((n,), SCENARIOS.index("rest"))
    series, envelope = column_activity(cast, coupling, focus, scenario, 6 * SFREQ, rng)
    assert series.shape == (n, 4, 6 * SFREQ) and not envelope.any()
    assert_allclose(series.var(-1), 1, rtol=1e-3)
    frequency = torch.fft.rfftfreq(6 * SFREQ, 1 / SFREQ)
    power = torch.fft.rfft(series).abs().square().mean(0)
    assert power[:, (frequency < 0.25) | (frequency > 62)].sum() < 1e-6 * power.sum()
    middle = (power * frequency).sum(-1) / power.sum(-1)
    assert middle[0] < 0.85 * middle[3]


def test_drive_follows_the_coupling():
    """A driven column follows its partner, an uncoupled one does not.

    Catches a lag in samples of the wrong rate, and the scenario ignored.
    """
    n = 12
    cast = _cast(n, [0, 3])
    likeness = {}
    for name in ("rest", "uncoupled"):
        rng = torch.Generator().manual_seed(2)
        coupling = draw_coupling(cast, rng)
        strong = torch.tensor([[3.0, 0.0]]).expand(n, -1)
        coupling = type(coupling)(coupling.partner, strong, coupling.lag)
        focus = draw_focus(cast, coupling.partner, rng)
        scenario = torch.full((n,), SCENARIOS.index(name))
        series, _ = column_activity(cast, coupling, focus, scenario, 4 * SFREQ, rng)
        product = torch.fft.rfft(series[:, 0]) * torch.fft.rfft(series[:, 1]).conj()
        cross = torch.fft.irfft(product)[:, :20] / series.shape[-1]
        likeness[name] = float(cross.abs().amax(-1).mean())
    assert likeness["rest"] > 1.5 * likeness["uncoupled"]


def test_pairs():
    """Same structure, shapes and units as those of the prior; the seed is enough.

    Catches signals of another length, and volts that are none.
    """
    known = electrode_positions()
    electrodes = [known[name] for name in "Fp1 Fp2 C3 C4 T7 T8 O1 O2".split()]
    contacts = [[-0.024, -0.02, -0.018], [-0.05, -0.02, -0.018]]
    setups, worlds = build_patient(electrodes, contacts, 3)
    company = Company.from_head(load_head())

    def run(function):
        rng = torch.Generator().manual_seed(4)
        scenario = torch.tensor([SCENARIOS.index("ictal")])
        return function(setups, worlds, company, 2, rng, 24, scenario)

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
