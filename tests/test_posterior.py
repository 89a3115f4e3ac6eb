"""The Gaussian prior and the spatial posterior: exact, calibrated, symmetric.

Each test names the planted bugs that it was seen to catch.
"""

from dataclasses import fields

import flow_cases
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import multivariate_normal, norm

from mne_neuroflow.head import posterior as module
from mne_neuroflow.head.contacts import (
    contact_positions,
    contact_structures,
    make_contacts,
)
from mne_neuroflow.head.geometry import load_head
from mne_neuroflow.head.posterior import (
    LOCAL_STD,
    farthest_points,
    posterior_from_fields,
    source_generators,
    spatial_posterior,
    symmetric_roots,
)
from mne_neuroflow.simulation.setups import MONTAGES, electrode_positions

N_CONTACTS, N_ELECTRODES, N_GENERATORS = 5, 12, 10


@pytest.fixture(scope="module")
def gains():
    """Scalp, contacts and virtual sensors of ten random generators."""
    return flow_cases.make_fields(N_CONTACTS, N_ELECTRODES, N_GENERATORS)


@pytest.fixture(scope="module")
def mtl():
    """Positions of the default implant, and whether each lies in the lobe."""
    montage = make_contacts("mtl")
    return contact_positions(montage)[1], contact_structures(montage)[0]


def _electrodes(name):
    known = electrode_positions()
    return np.array([known[label] for label in MONTAGES[name].split()])


def _noise(scalp):
    return np.sqrt(module.SENSOR_STD**2 + module.HEAD_ERROR**2 * (scalp**2).sum(axis=1))


def _joint_covariance(scalp, contacts):
    """Covariance of electrodes and contacts together, by their definition."""
    both = np.vstack([scalp, contacts])
    own = np.r_[_noise(scalp), np.full(len(contacts), LOCAL_STD)]
    return both @ both.T + np.diag(own**2)


def _simulate_prior(rng, scalp, contacts, n):
    """Draw recordings that follow the prior exactly."""
    sources = rng.standard_normal((scalp.shape[1], n))
    measured = scalp @ sources + _noise(scalp)[:, None] * rng.standard_normal(
        (len(scalp), n)
    )
    local = LOCAL_STD * rng.standard_normal((len(contacts), n))
    return measured, contacts @ sources + local


def test_conditioning_is_exact(gains):
    """Against conditioning the joint Gaussian through its precision matrix.

    Catches contact noise left out of the covariance, and template error left out
    of the scalp's noise.
    """
    scalp, contacts, _ = gains
    posterior = posterior_from_fields(*gains)
    precision = np.linalg.inv(_joint_covariance(scalp, contacts) * 1e12) * 1e12
    deep = slice(N_ELECTRODES, None)
    covariance = np.linalg.inv(precision[deep, deep])
    operator = -covariance @ precision[deep, :N_ELECTRODES]
    assert_allclose(posterior.covariance, covariance, rtol=1e-8, atol=1e-8 * 1e-10)
    assert_allclose(posterior.operator, operator, rtol=1e-8, atol=1e-8)


def test_joint_density_factorizes(gains):
    """p(x, y) = p(x | y) p(y) at random points, against scipy's densities.

    Catches a posterior covariance that adds what it should subtract.
    """
    scalp, contacts, _ = gains
    posterior = posterior_from_fields(*gains)
    joint = _joint_covariance(scalp, contacts)
    rng = np.random.default_rng(1)
    points = np.linalg.cholesky(joint) @ rng.standard_normal((len(joint), 20))
    measured, deep = np.split(points, [N_ELECTRODES])
    # In microvolts, where scipy's check of the rank is at ease.
    whole = multivariate_normal(cov=joint * 1e12).logpdf(points.T * 1e6)
    part = multivariate_normal(cov=joint[:N_ELECTRODES, :N_ELECTRODES] * 1e12).logpdf(
        measured.T * 1e6
    )
    residual = deep - posterior.operator @ measured
    given = multivariate_normal(cov=posterior.covariance * 1e12)
    assert_allclose(given.logpdf(residual.T * 1e6) + part, whole, rtol=1e-9)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_coverage_in_its_own_world(gains, level):
    """Recordings drawn from the prior: nominal intervals cover what they should.

    100 000 recordings leave a standard error of 0.16 % per contact, so that one
    percentage point is six of them. Catches a posterior without its contact noise
    (69 % for 90 % at the worst contact) and one that forgets the template's error
    (85 %).
    """
    posterior = posterior_from_fields(*gains)
    rng = np.random.default_rng(2)
    measured, deep = _simulate_prior(rng, *gains[:2], 100_000)
    std = np.sqrt(np.diag(posterior.covariance))
    z = (deep - posterior.operator @ measured) / std[:, None]
    covered = (np.abs(z) < norm.ppf(0.5 + level / 2)).mean(axis=1)
    assert_allclose(covered, level, atol=0.01)


def test_spreads_are_those_of_recordings(gains):
    """Spread of mean, prior, scalp and virtual sensors over many recordings.

    Catches virtual sensors in units of the sources rather than of their own
    spread, and a prior spread without contact noise.
    """
    posterior = posterior_from_fields(*gains)
    rng = np.random.default_rng(3)
    measured, deep = _simulate_prior(rng, *gains[:2], 100_000)
    # the standard error of a standard deviation is 0.22 %
    common = dict(rtol=0.012)
    assert_allclose(
        (posterior.operator @ measured).std(1), posterior.mean_std, **common
    )
    assert_allclose(deep.std(1), posterior.prior_std, **common)
    assert_allclose(measured.std(1), posterior.scalp_std, **common)
    assert_allclose((posterior.roi_operator @ measured).std(1), 1, **common)


def test_variance_is_shared_out(gains):
    """What the scalp explains and what it leaves add up to the prior.

    Catches an observability that is a share of standard deviations.
    """
    posterior = posterior_from_fields(*gains)
    left = np.diag(posterior.covariance)
    assert_allclose(posterior.mean_std**2 + left, posterior.prior_std**2, rtol=1e-10)
    assert_allclose(
        posterior.observability, 1 - left / posterior.prior_std**2, rtol=1e-10
    )
    assert np.all((posterior.observability > 0) & (posterior.observability < 1))


def test_more_noise_tells_less(gains):
    """Catches a noise that is not squared when it is added."""
    before = posterior_from_fields(*gains, noise=np.full(N_ELECTRODES, 1e-6))
    after = posterior_from_fields(*gains, noise=np.full(N_ELECTRODES, 2e-6))
    assert np.all(after.observability < before.observability)
    deaf = posterior_from_fields(*gains, noise=np.full(N_ELECTRODES, 1.0))
    assert np.all(deaf.observability < 1e-6)
    assert_allclose(np.sqrt(np.diag(deaf.covariance)), deaf.prior_std, rtol=1e-6)


def test_fewer_electrodes_tell_less(gains):
    """With electrodes taken away and nothing else changed, contact by contact.

    Catches a cross-covariance with the electrodes in another order.
    """
    scalp, contacts, rois = gains
    shares = [
        posterior_from_fields(scalp[:n], contacts, rois).observability
        for n in range(N_ELECTRODES, 1, -1)
    ]
    assert np.all(np.diff(shares, axis=0) < 0)


def test_symmetric_roots():
    """Catches the Cholesky factor in place of the symmetric root."""
    rng = np.random.default_rng(4)
    mixing = rng.standard_normal((7, 7))
    covariance = mixing @ mixing.T + 0.1 * np.eye(7)
    root, inverse_root = symmetric_roots(covariance)
    assert_allclose(root, root.T, atol=1e-12)
    assert_allclose(inverse_root, inverse_root.T, atol=1e-12)
    assert_allclose(root @ root, covariance, rtol=1e-10, atol=1e-10)
    assert_allclose(root @ inverse_root, np.eye(7), atol=1e-10)
    assert np.linalg.eigvalsh(root).min() > 0
    with pytest.raises(ValueError, match="positive definite"):
        symmetric_roots(covariance - 10 * np.eye(7))


def test_farthest_points():
    """Indices go with their points, and points spread out.

    Catches a first pick that is whichever point comes first.
    """
    rng = np.random.default_rng(5)
    cloud = rng.standard_normal((60, 3))
    picks = farthest_points(cloud, 9)
    assert len(set(picks)) == 9
    order = rng.permutation(60)
    assert_array_equal(order[farthest_points(cloud[order], 9)], picks)
    centre_distance = np.linalg.norm(cloud - cloud.mean(0), axis=1)
    assert picks[0] == centre_distance.argmin()
    # Each pick is the point that is farthest from those picked before.
    for n in range(1, 9):
        gaps = np.linalg.norm(cloud[:, None] - cloud[picks[:n]], axis=-1).min(1)
        assert picks[n] == gaps.argmax()
    assert len(farthest_points(cloud[:3], 9)) == 3


def test_prior_follows_the_implant(mtl):
    """30 to 150 µV in the temporal lobe before the scalp is seen.

    Measured: 30.8 µV at the outermost contact of a depth electrode to 100.5 µV in
    the parahippocampal gyrus. Catches volume sources ten times too strong.
    """
    positions, structures = mtl
    posterior = spatial_posterior(_electrodes("19"), positions)
    inside = structures != "white matter/other"
    assert inside.sum() >= 60
    std = posterior.prior_std[inside]
    assert 30e-6 < std.min()
    assert std.max() < 150e-6
    # An ordinary scalp: 10 to 25 µV r.m.s. between 0.5 and 50 Hz.
    assert np.all((posterior.scalp_std > 10e-6) & (posterior.scalp_std < 25e-6))


def test_template_observability(mtl):
    """More electrodes explain more of the temporal lobe, and less of deep contacts.

    Means over the 80 contacts of the default implant: 13 % with 8 electrodes, 16 %
    with 19, 19 % with 64. Catches electrodes in another order.
    """
    positions, structures = mtl
    means, last = [], None
    for name in ("8", "19", "64"):
        last = spatial_posterior(_electrodes(name), positions).observability
        assert np.all((last > 0) & (last < 1))
        means.append(last.mean())
    assert means[0] < means[1] < means[2]
    lateral = structures == "temporal-lateral"
    mesial = np.isin(structures, ["hippocampus", "amygdala"])
    assert last[mesial].mean() < 0.5 * last[lateral].mean()


def test_order_of_electrodes_and_contacts(mtl):
    """Permuting electrodes changes nothing, permuting contacts permutes.

    Catches sensor noise that differs from electrode to electrode.
    """
    positions = mtl[0][::10]
    electrodes = _electrodes("19")
    rng = np.random.default_rng(6)
    places, names = rng.permutation(len(electrodes)), rng.permutation(len(positions))
    one = spatial_posterior(electrodes, positions)
    other = spatial_posterior(electrodes[places], positions[names])
    electrode_axes = {
        **dict.fromkeys(("operator", "roi_operator"), (1,)),
        "scalp_std": (0,),
        "scalp_covariance": (0, 1),
    }
    contact_axes = {
        "operator": (0,),
        **dict.fromkeys(("covariance", "root", "inverse_root"), (0, 1)),
        **dict.fromkeys(("mean_std", "prior_std", "observability"), (0,)),
    }
    for field in fields(one):
        expected = getattr(one, field.name)
        for axis in electrode_axes.get(field.name, ()):
            expected = np.take(expected, places, axis)
        for axis in contact_axes.get(field.name, ()):
            expected = np.take(expected, names, axis)
        found = getattr(other, field.name)
        # lead fields are multiplied in float32
        assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_reference_does_not_matter():
    """A projector given as the reference is the average reference.

    Catches a reference that is ignored, and a default without one.
    """
    electrodes, contacts = _electrodes("10"), [[-0.025, -0.02, -0.018]]
    n = len(electrodes)
    average = np.eye(n) - 1 / n
    expected = spatial_posterior(electrodes, contacts)
    found = spatial_posterior(electrodes, contacts, reference=average)
    assert_allclose(found.observability, expected.observability, rtol=1e-3)
    projector = average.copy()
    projector -= np.outer(average[0], average[0]) / (average[0] @ average[0])
    less = spatial_posterior(electrodes, contacts, reference=projector)
    assert less.observability[0] < expected.observability[0]


def test_generators_carry_the_density():
    """Every patch has the moment density that the constants state.

    Catches length scales whose shares do not add up to one.
    """
    head = load_head()
    generators = source_generators(head)
    std = np.sqrt((generators.factor.astype(float) ** 2).sum(1))
    volume = module.is_volume(head)
    assert_allclose(
        std[~volume], module.CORTEX_DENSITY * head.patch_area[~volume], rtol=1e-4
    )
    assert_allclose(
        std[volume], module.VOLUME_DENSITY * head.patch_volume[volume], rtol=1e-4
    )
    assert set(generators.hemisphere) == {-1, 1}


def test_generators_are_smooth_and_homotopic():
    """Patches go together within their length scale and with their partners.

    Catches a factor without homotopic partners.
    """
    head = load_head()
    factor = source_generators(head).factor.astype(float)
    unit = factor / np.linalg.norm(factor, axis=1, keepdims=True)
    cortex = ~module.is_volume(head)
    seeds = np.flatnonzero(cortex & (head.patch_hemisphere < 0))[::60]
    correlation = unit[seeds] @ unit[cortex].T
    centres, side = head.patch_centres[cortex], head.patch_hemisphere[cortex]
    for seed, row in zip(seeds, correlation, strict=True):
        place = head.patch_centres[seed]
        near = np.linalg.norm(centres - place, axis=1)
        mirror = np.linalg.norm(centres - place * [-1, 1, 1], axis=1)
        same, across = side < 0, side > 0
        assert row[same & (near < 5e-3)].min() > 0.7
        assert np.abs(row[same & (near > 0.12)]).max(initial=0) < 0.25
        if mirror[across].min() < 5e-3:
            homotopic = row[across][mirror[across].argmin()]
            assert 0.1 < homotopic < 0.6
            assert homotopic > np.median(row[across])
