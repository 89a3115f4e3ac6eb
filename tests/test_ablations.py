"""The comparison of choices: its flows are flows, and it goes on where it stopped.

Each test names the planted bugs that it was seen to catch.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import flow_cases
import pytest
import torch
from small_model import one_thread
from torch.testing import assert_close

from mne_neuroflow.contract import BLOCK
from mne_neuroflow.flow.context import N_RELATIONS
from mne_neuroflow.flow.coupling import ContactAttention
from mne_neuroflow.flow.model import ConditionalFlow, FlowConfig
from mne_neuroflow.flow.wavelet import LEVEL_SIZES
from mne_neuroflow.training.fit import gaussian_losses, level_losses

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import ablation_variants as made
    import ablations

N_CONTACTS, N_SECONDS = 4, 3
NOISE_SHAPE = (1, N_CONTACTS, N_SECONDS, BLOCK)
NAMES = [f"{variant.question}: {variant.name}" for variant in made.VARIANTS]


@pytest.fixture(autouse=True)
def quiet_machine():
    """One thread; flows seed torch's generator, that is their own affair."""
    with torch.random.fork_rng(devices=[]), one_thread():
        yield


@pytest.fixture(scope="module")
def batch():
    """One recording of random generators, as training sees it."""
    conditions = flow_cases.make_conditions_of(N_CONTACTS, N_SECONDS)
    conditions = replace(conditions, gain=torch.full_like(conditions.gain, 2.0))
    rng = torch.Generator().manual_seed(3)
    white = torch.randn(NOISE_SHAPE, generator=rng, dtype=torch.float64)
    posterior = ConditionalFlow().double().condition(conditions)
    with torch.no_grad():
        deep = posterior.colour(list(white.split(LEVEL_SIZES, dim=-1)))
    return SimpleNamespace(
        conditions=conditions,
        pairs=SimpleNamespace(deep=deep),
        prior_std=torch.full((1, N_CONTACTS), 5e-5, dtype=torch.float64),
    )


def _disturbed(flow, scale=0.05):
    """Move a flow away from the untrained one, in float64."""
    flow = flow.double()
    for parameter in flow.parameters():
        parameter.data += scale * torch.randn_like(parameter)
    return flow


def test_spline():
    """A spline is the identity at zero, grows, and has its inverse and derivative.

    Catches slopes that are not one at the ends, a log-determinant of the other
    direction, and a bin that is looked up among the wrong knots.
    """
    torch.manual_seed(0)
    data = torch.linspace(-6, 6, 301, dtype=torch.float64, requires_grad=True)
    n_shape = made.SPLINE.n_shape
    flat = torch.zeros(301, n_shape, dtype=torch.float64)
    noise, log_det = made.spline(data, flat)
    assert_close(noise, data)
    assert_close(log_det, torch.zeros_like(data), atol=1e-12, rtol=0)

    shape = torch.randn(n_shape, dtype=torch.float64).expand(301, -1)
    noise, log_det = made.spline(data, shape)
    assert torch.all(noise.diff() > 0)
    assert (noise - data).abs().max() > 0.5
    slope = torch.autograd.grad(noise.sum(), data)[0]
    assert_close(log_det.exp(), slope)
    # The derivative is continuous at the ends of the interval too.
    ends = torch.tensor([-1.0, 1.0], dtype=torch.float64) * (made.BOUND - 1e-6)
    assert made.spline(ends, shape[:2])[1].abs().max() < 1e-3
    outside = data.abs() > made.BOUND
    assert_close(noise[outside], data[outside], atol=0, rtol=0)
    assert_close(made.inverse_spline(noise, shape), data)


@pytest.mark.parametrize("split", ["seconds", "contacts", "frequencies"])
@pytest.mark.parametrize("bend", [made.SINH, made.AFFINE, made.SPLINE])
@pytest.mark.parametrize("attention", [True, False])
def test_log_determinants(split, bend, attention):
    """A step's log-determinant is that of its Jacobian, and its inverse inverts.

    Catches a log-determinant without its scale, and coefficients that move the ones
    they depend on.
    """
    torch.manual_seed(1)
    shape, width, n_heads = (1, 3, 3, 4), 8, 2
    step = made.OtherCoupling(split, 1, 4, width, n_heads, N_RELATIONS, bend, attention)
    step = _disturbed(step, 0.3)
    state = torch.randn(1, 3, 3, width, dtype=torch.float64)
    relations = torch.rand(1, 3, 3, N_RELATIONS, dtype=torch.float64)
    given = (state, relations, 0)
    data = torch.randn(shape, dtype=torch.float64)
    with torch.no_grad():
        noise, log_det = step(data, *given)
        assert_close(step.inverse(noise, *given), data)
    assert (noise - data).abs().max() > 0.1
    jacobian = torch.autograd.functional.jacobian(lambda d: step(d, *given)[0], data)
    expected = torch.linalg.slogdet(jacobian.reshape(36, 36))[1]
    assert_close(log_det.sum(), expected)


def test_composed_flow_is_the_package_s(batch):
    """With the shipped choices, it equals what it stands for.

    Catches a trust in the mean that is scaled, and gates of other contacts that are
    left out.
    """
    variant = made.VARIANTS[0]
    config = FlowConfig(width=16, n_heads=2)
    shipped = _disturbed(ConditionalFlow(config))
    composed = made.OtherFlow(config, variant).double()
    composed.load_state_dict(shipped.state_dict())
    assert type(variant.flow(16, 2)) is ConditionalFlow
    with torch.no_grad():
        one, other = (level_losses(flow, batch) for flow in (shipped, composed))
        assert_close(one, other)
        assert (one - gaussian_losses(shipped, batch)).abs().max() > 0.01
        noise = torch.randn(NOISE_SHAPE, dtype=torch.float64)
        one, other = (
            flow.condition(batch.conditions).sample(noise)
            for flow in (shipped, composed)
        )
    assert_close(one, other)
    assert shipped.reach == composed.reach


@pytest.mark.parametrize("variant", made.VARIANTS, ids=NAMES)
def test_variants(variant, batch):
    """Untrained, each is the spatial posterior; drawn noise comes back.

    Catches a spline that does not begin as the identity, and draws whose finer levels
    do not hear of the coarser ones.
    """
    flow = variant.flow(16, 2).double()
    assert variant.weights().sum() == pytest.approx(1)
    assert len(variant.weights()) == len(flow.levels)
    with torch.no_grad():
        assert_close(level_losses(flow, batch), gaussian_losses(flow, batch))
        flow = _disturbed(flow, 0.02)
        conditioned = flow.condition(batch.conditions)
        noise = torch.randn(NOISE_SHAPE, dtype=torch.float64)
        drawn = conditioned.sample(noise)
        parts = [part for part, _ in conditioned.to_noise(drawn)]
    assert_close(torch.cat(parts, dim=-1), noise, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attentive", [0, 2])
def test_contacts_alone(batch, attentive):
    """Without attention a contact's density does not depend on the others' data.

    Catches attention that is left in the trunk of a level, in a step or in the
    context.
    """
    steps = made.WITHOUT_CONTACTS
    if attentive:
        steps = (*made.STEPS[:2], *steps[2:])
    variant = made.Variant("", "", config=dict(steps=steps), attentive=attentive)
    flow = _disturbed(variant.flow(16, 2))
    with torch.no_grad():
        conditioned = flow.condition(batch.conditions)
        levels = conditioned.whiten(batch.pairs.deep)
        for level in levels:
            level[:, 1:] += 0.5 * torch.randn_like(level[:, 1:])
        changed = conditioned.colour(levels)
        before, after = (
            torch.cat(
                [part[:, 0] for pair in conditioned.to_noise(deep) for part in pair], -1
            )
            for deep in (batch.pairs.deep, changed)
        )
    if attentive:
        assert (before - after).abs().max() > 1e-3
    else:
        assert_close(before, after, atol=1e-6, rtol=0)
        del flow.pointwise  # no part of the density
        assert not any(isinstance(part, ContactAttention) for part in flow.modules())


@pytest.mark.parametrize("static", [False, True])
def test_contexts(batch, static):
    """A static context does not see the time course.

    Catches a context that is not handed on.
    """
    context = made.Variant("", "", static=static).flow(16, 2).double().context
    turned = replace(batch.conditions, mean=batch.conditions.mean.flip(-1))
    with torch.no_grad():
        one, other = (context(given) for given in (batch.conditions, turned))
    assert one.shape == other.shape == (*NOISE_SHAPE[:3], 16)
    assert torch.equal(one, other) == static


@pytest.mark.parametrize("long", [None, *made.LAYERS])
def test_contexts_of_all_seconds(long):
    """Only with a layer over all seconds does the 13th of 24 depend on the first.

    Seen to fail with a context without its layer.
    """
    context = made.Variant("", "", long=long).flow(16, 2).context
    context = _disturbed(context, 0.1)
    conditions = flow_cases.make_conditions_of(N_CONTACTS, 24)
    mean = conditions.mean.clone()
    mean[..., :BLOCK] *= 2
    with torch.no_grad():
        one = context(conditions)
        other = context(replace(conditions, mean=mean))
    assert not torch.equal(one[:, :, 0], other[:, :, 0])
    assert torch.equal(one[:, :, 12], other[:, :, 12]) == (long is None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ("seed 1", "static"))
def test_what_a_variant_takes_over(name):
    """All that it has in common with a model. Seen to fail with nothing taken over."""
    known = ablations.load_checkpoint(ablations.fetch_model("mtl-v2"))[0].state_dict()
    (variant,) = (each for each in made.VARIANTS if each.name == name)
    flow = variant.flow(96, 4)
    ablations.take_over(flow, "mtl-v2")
    for key, value in flow.state_dict().items():
        assert torch.equal(value, known[key]), key


def test_run_goes_on(tmp_path, batch, monkeypatch):
    """A finished row is not done again, and the table has them all.

    Catches a run that starts anew, a posterior without its gain, and a density that
    is averaged over levels instead of samples.
    """
    monkeypatch.setitem(ablations.BUDGET, "width", 16)
    monkeypatch.setitem(ablations.BUDGET, "n_heads", 2)
    monkeypatch.setattr(ablations, "speed_ratio", lambda variant: 1.0)
    single = {key: value.float() for key, value in vars(batch.conditions).items()}
    batch = SimpleNamespace(
        conditions=type(batch.conditions)(**single),
        pairs=SimpleNamespace(deep=batch.pairs.deep.float()),
        prior_std=batch.prior_std.float(),
    )
    asked = []

    def simulated(number):
        asked.append(number)
        return batch

    data = SimpleNamespace(batch=simulated)
    options = SimpleNamespace(out=tmp_path, steps=2, batches=1, draws=60, start=None)
    by_name = {variant.name: variant for variant in made.VARIANTS}
    first = [by_name["seed 0"], by_name["affine"]]
    ablations.run(first, data, data, options)
    assert asked == 2 * [0, 1, 0]
    rows = ablations.read_rows(tmp_path)
    ablations.run([*first, by_name["by samples"]], data, data, options)
    assert len(asked) == 9
    rows = ablations.read_rows(tmp_path)
    assert [row["name"] for row in rows] == ["seed 0", "affine", "by samples"]
    for row in rows:
        # Data of the spatial posterior: two steps cannot take it far from there.
        assert row["nll"] == pytest.approx(row["posterior"], abs=0.05)
        assert row["crps"] == pytest.approx(1, abs=0.05)
        assert row["coverage"] == pytest.approx([0.5, 0.9], abs=0.04)
        shares = torch.tensor(LEVEL_SIZES) / BLOCK
        assert row["nll"] == pytest.approx(float(shares @ torch.tensor(row["levels"])))
    lines = ablations.table(rows).splitlines()
    assert len({line.count("|") for line in lines[:5]}) == 1
    assert lines[3].startswith("| couplings | affine |")


def test_batches_are_kept(tmp_path, batch, monkeypatch):
    """What was simulated once is read afterwards.

    Catches batches that are simulated for every variant.
    """
    calls = []

    def simulated(number):
        calls.append(number)
        setups = SimpleNamespace(prior_std=batch.prior_std)
        return SimpleNamespace(
            conditions=batch.conditions, pairs=batch.pairs, setups=setups
        )

    for _ in range(2):
        kept = ablations.Kept(tmp_path, "train")
        kept._data = SimpleNamespace(batch=simulated)
        loaded = kept.batch(7)
    assert calls == [7]
    assert_close(loaded.pairs.deep, batch.pairs.deep)
    for name, value in vars(batch.conditions).items():
        assert_close(getattr(loaded.conditions, name), value)
