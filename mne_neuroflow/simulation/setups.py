"""Who is recorded: head, montage and implant of each virtual patient.

A setup holds the truth (a head that is not the template, electrodes that are
not where they should be) as generator gains, and beside it what the package
will believe: the template's spatial posterior for the nominal positions.
"""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..head.geometry import inside_brain, load_head, project_to_scalp
from ..head.leadfield import contact_lead_field, scalp_lead_field
from ..head.posterior import (
    average_reference,
    farthest_points,
    posterior_from_fields,
    roi_gains,
    source_generators,
)
from .sources import STRUCTURES

_DATA = Path(__file__).parent / "data"
_IMPLANTS = Path(__file__).parents[1] / "head" / "implants"
#: Montages that laboratories use, beside random ones.
MONTAGES = {
    "8": "F3 F4 C3 C4 O1 O2 T7 T8",
    "10": "Fp1 Fp2 F3 F4 C3 C4 O1 O2 T7 T8",
    "19": "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2",
    "21": "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2 FT9 FT10",
    "25": (
        "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2 "
        "F9 F10 T9 T10 P9 P10"
    ),
    "32": (
        "Fp1 Fp2 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 TP9 CP5 CP1 CP2 "
        "CP6 TP10 P7 P3 Pz P4 P8 PO9 O1 Oz O2 PO10"
    ),
    "64": (
        "FC5 FC3 FC1 FCz FC2 FC4 FC6 C5 C3 C1 Cz C2 C4 C6 CP5 CP3 CP1 CPz CP2 CP4 "
        "CP6 Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FT8 "
        "T7 T8 T9 T10 TP7 TP8 P7 P5 P3 P1 Pz P2 P4 P6 P8 PO7 PO3 POz PO4 PO8 O1 "
        "Oz O2 Iz"
    ),
}
#: Patients whose implants the training never sees.
HELD_OUT = ("sub-01", "sub-06", "sub-09")


@dataclass(frozen=True)
class Setups:
    """A bank of virtual patients with one number of contacts, as tensors.

    Attributes
    ----------
    scalp : Tensor of shape (setup, electrode, generator)
        True scalp gains, volts; rows of zeros pad the montage.
    deep : Tensor of shape (setup, contact, generator)
        True contact gains, volts.
    used : Tensor of shape (setup, electrode)
        1 for electrodes, 0 for padding.
    electrodes : Tensor of shape (setup, electrode, 3)
        Nominal positions, metres.
    contacts : Tensor of shape (setup, contact, 3)
        Nominal positions, metres.
    operator, covariance, root, inverse_root, mean_std, prior_std, observability,
    roi_operator, scalp_std : Tensor
        The template's spatial posterior, padded to the montage.
    electrode_distance : Tensor of shape (setup, contact)
        Metres to the nearest electrode.
    half : Tensor of shape (setup, contact)
        The two halves of the contacts for coupling.
    """

    scalp: Tensor
    deep: Tensor
    used: Tensor
    electrodes: Tensor
    contacts: Tensor
    operator: Tensor
    covariance: Tensor
    root: Tensor
    inverse_root: Tensor
    mean_std: Tensor
    prior_std: Tensor
    observability: Tensor
    roi_operator: Tensor
    scalp_std: Tensor
    electrode_distance: Tensor
    half: Tensor

    def __len__(self):
        return len(self.scalp)

    def to(self, device) -> "Setups":
        """Move to a device."""
        return self._map(lambda tensor: tensor.to(device))

    def pick(self, index) -> "Setups":
        """Take some of the setups."""
        return self._map(lambda tensor: tensor[index])

    def _map(self, change) -> "Setups":
        return Setups(**{f.name: change(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class Company:
    """What is known of every generator, as tensors.

    Attributes
    ----------
    structure : Tensor of int, shape (generator,)
        Index into :data:`~.sources.STRUCTURES`.
    hemisphere : Tensor of int, shape (generator,)
        0 left, 1 right.
    group : Tensor of int, shape (generator,)
        Length scale.
    """

    structure: Tensor
    hemisphere: Tensor
    group: Tensor

    @classmethod
    def from_head(cls, head, device="cpu") -> "Company":
        """Read the generators of a head."""
        generators = source_generators(head)
        index = {name: k for k, name in enumerate(STRUCTURES)}
        structure = [index[str(name)] for name in generators.structure]
        return cls(
            torch.tensor(structure, device=device),
            torch.tensor((generators.hemisphere > 0).astype(int), device=device),
            torch.tensor(generators.group, device=device),
        )


def _read_positions(fname, keep=lambda row: True):
    with Path(fname).open() as stream:
        rows = [row for row in csv.DictReader(stream) if keep(row)]
    return rows, np.array([[float(row[axis]) for axis in "xyz"] for row in rows])


@cache
def electrode_positions() -> dict:
    """Read the 10-05 positions: name to (3,) in metres, fsaverage surface RAS."""
    rows, places = _read_positions(_DATA / "positions_1005.csv")
    return {row["name"]: place for row, place in zip(rows, places, strict=True)}


def random_montage(rng: np.random.Generator, n_most: int = 128) -> np.ndarray:
    """Draw electrode positions: a usual montage or a random one.

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    n_most : int
        Most electrodes.

    Returns
    -------
    electrodes : array of shape (n_electrodes, 3)
        Metres.
    """
    known = electrode_positions()
    usual = [names.split() for names in MONTAGES.values()]
    if rng.random() < 0.6:
        names = usual[rng.integers(len(usual))]
        # Every second laboratory has lost an electrode or two.
        lost = rng.integers(0, 3) if len(names) > 10 else 0
        names = list(rng.permutation(names)[lost:])
    else:
        n_electrodes = int(np.exp(rng.uniform(np.log(8), np.log(n_most))))
        cloud = np.array(list(known.values()))
        chosen = rng.permutation(len(cloud))[: min(len(cloud), 3 * n_electrodes)]
        even = farthest_points(cloud[chosen], n_electrodes)
        names = [list(known)[k] for k in chosen[even]]
    return np.array([known[name] for name in names])


@cache
def real_implants() -> dict:
    """Read the real implants: subject to (n_contacts, 3) in metres."""
    rows, places = _read_positions(
        _IMPLANTS / "contacts.csv", lambda row: row["implant"].startswith("ds004752")
    )
    names = np.array([row["implant"][-6:] for row in rows])
    return {str(name): places[names == name] * 1e-3 for name in np.unique(names)}


def random_shaft(head, rng: np.random.Generator) -> np.ndarray:
    """Draw a depth electrode that enters the temporal lobe from its side.

    Eight contacts, 3.5 to 6 mm apart, the first near a mesial or lateral
    temporal source.

    Parameters
    ----------
    head : Head
        Where it goes.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    contacts : array of shape (n_contacts, 3)
        Those inside the brain, metres.
    """
    mesial = np.isin(head.patch_structure, STRUCTURES[:3])
    lateral = head.patch_structure == STRUCTURES[3]
    targets = np.flatnonzero(mesial if rng.random() < 0.8 else lateral)
    target = head.patch_centres[rng.choice(targets)] + rng.normal(0, 2e-3, 3)
    outward = np.array([np.sign(target[0]), 0.25 * rng.normal(), 0.25 * rng.normal()])
    outward /= np.linalg.norm(outward)
    spacing = rng.uniform(3.5e-3, 6e-3)
    contacts = target + spacing * np.arange(8)[:, None] * outward
    return contacts[inside_brain(head, contacts)]


def random_implant(
    head, n_contacts: int, rng: np.random.Generator, held_out: bool
) -> np.ndarray:
    """Draw contacts: whole electrodes, real ones or random ones.

    Parameters
    ----------
    head : Head
        Where they go.
    n_contacts : int
        How many contacts to keep.
    rng : numpy.random.Generator
        Random numbers.
    held_out : bool
        Take the real implants that training never sees, and those only.

    Returns
    -------
    contacts : array of shape (n_contacts, 3)
        Metres, no two closer than 2 mm.
    """
    known = real_implants()
    names = [name for name in known if (name in HELD_OUT) == held_out]
    pool = np.empty((0, 3))
    if names and rng.random() < 0.45:
        pool = known[names[rng.integers(len(names))]]
        pool = pool + rng.normal(0, 1e-3, pool.shape)
        pool = pool[inside_brain(head, pool)]
        first = pool[rng.integers(len(pool))]
        pool = pool[np.argsort(np.linalg.norm(pool - first, axis=1))]
    while True:
        pool = _apart(pool, 2e-3)
        if len(pool) >= n_contacts:
            return pool[:n_contacts]
        pool = np.concatenate([pool, random_shaft(head, rng)])


def _apart(points, distance):
    """Drop points that come close to an earlier one."""
    kept = []
    for point in points:
        if all(np.linalg.norm(point - other) > distance for other in kept):
            kept.append(point)
    return np.array(kept).reshape(-1, 3)


def build_setup(
    template,
    truth,
    n_contacts: int,
    seed: int,
    held_out: bool = False,
    montage=None,
    device="cpu",
) -> dict:
    """Build one virtual patient as arrays; see :class:`Setups`.

    Parameters
    ----------
    template, truth : Head
        The head that the package believes in and the patient's own.
    n_contacts : int
        Contacts.
    seed : int
        Everything follows from it.
    held_out : bool
        See :func:`random_implant`.
    montage : array of shape (n_electrodes, 3) | None
        Nominal electrodes in metres; None draws them.
    device : str | torch.device
        Where the large products are taken.

    Returns
    -------
    setup : dict of array
        The fields of :class:`Setups`, electrodes not padded.
    """
    rng = np.random.default_rng(seed)
    electrodes = random_montage(rng) if montage is None else montage
    contacts = random_implant(template, n_contacts, rng, held_out)
    electrodes = project_to_scalp(template, electrodes)[2]
    # The patient's head: electrodes up to some 6 mm off, contacts off by what
    # normalization to the template leaves, smoothly over the head.
    placed = electrodes + rng.normal(0, rng.uniform(0, 3.5e-3), electrodes.shape)
    stretch = np.diag(rng.uniform(0.96, 1.04, 3))
    moved = (contacts - contacts.mean(0)) @ stretch + contacts.mean(0)
    moved = moved + rng.normal(0, 1.5e-3, 3)
    moved = np.where(inside_brain(truth, moved)[:, None], moved, contacts)

    factor = _factor(template, torch.device(device))

    def of_generators(lead_field):
        lead_field = torch.as_tensor(lead_field, dtype=torch.float32)
        return (lead_field.to(factor.device) @ factor).cpu().numpy()

    scalp_true = of_generators(average_reference(scalp_lead_field(truth, placed)))
    deep_true = of_generators(contact_lead_field(truth, moved))
    scalp = of_generators(average_reference(scalp_lead_field(template, electrodes)))
    deep = of_generators(contact_lead_field(template, contacts))
    posterior = posterior_from_fields(scalp, deep, roi_gains(template))
    half = np.ones(n_contacts)
    half[farthest_points(contacts, (n_contacts + 1) // 2)] = 0
    distance = np.linalg.norm(contacts[:, None] - electrodes[None], axis=-1).min(1)
    return {
        "scalp": scalp_true,
        "deep": deep_true,
        "used": np.ones(len(electrodes)),
        "electrodes": electrodes,
        "contacts": contacts,
        "electrode_distance": distance,
        "half": half,
        **{name: getattr(posterior, name) for name in _POSTERIOR},
    }


@cache
def _factor(head, device):
    return torch.from_numpy(source_generators(head).factor).to(device)


_POSTERIOR = (
    "operator",
    "covariance",
    "root",
    "inverse_root",
    "mean_std",
    "prior_std",
    "observability",
    "roi_operator",
    "scalp_std",
)
# The axis of each field along which electrodes lie.
_ELECTRODE_AXIS = {
    "scalp": 0,
    "used": 0,
    "electrodes": 0,
    "operator": 1,
    "roi_operator": 1,
    "scalp_std": 0,
}


def stack_setups(setups: list, n_electrodes: int) -> Setups:
    """Pad to a number of electrodes and stack.

    Parameters
    ----------
    setups : list of dict
        From :func:`build_setup`, all with the same number of contacts.
    n_electrodes : int
        At least the largest montage.

    Returns
    -------
    setups : Setups
        On the CPU, float32.
    """
    columns = {}
    for name in (field.name for field in fields(Setups)):
        arrays = []
        for setup in setups:
            array = np.asarray(setup[name], np.float32)
            if name in _ELECTRODE_AXIS:
                axis = _ELECTRODE_AXIS[name]
                width = [(0, 0)] * array.ndim
                width[axis] = (0, n_electrodes - array.shape[axis])
                array = np.pad(array, width)
            arrays.append(array)
        columns[name] = torch.from_numpy(np.stack(arrays))
    return Setups(**columns)


def build_setups(
    n_setups: int,
    n_contacts: int,
    seed: int,
    heads=None,
    held_out: bool = False,
    n_electrodes: int = 128,
    n_jobs: int = 1,
    device="cpu",
) -> Setups:
    """Build a bank of virtual patients.

    Parameters
    ----------
    n_setups, n_contacts : int
        Size of the bank.
    seed : int
        Everything follows from it.
    heads : list of str | None
        Head tables to draw the patients' heads from, beside the template.
    held_out : bool
        See :func:`random_implant`.
    n_electrodes : int
        Padded size of the montage.
    n_jobs : int
        Threads.
    device : str | torch.device
        Where the large products are taken.

    Returns
    -------
    setups : Setups
        On the CPU.
    """
    heads = [None, *(heads or [])]
    for fname in heads:  # read once, before the threads ask for them
        load_head(fname)
    roi_gains(load_head())
    tasks = [
        (heads[k % len(heads)], n_contacts, int(s), held_out, device)
        for k, s in enumerate(np.random.SeedSequence(seed).generate_state(n_setups))
    ]
    # Products of large matrices let go of the interpreter: threads are enough.
    with ThreadPoolExecutor(n_jobs) as pool:
        built = list(pool.map(_build, tasks))
    return stack_setups(built, n_electrodes)


def _build(task):
    fname, n_contacts, seed, held_out, device = task
    template = load_head()
    truth = template if fname is None else load_head(fname)
    return build_setup(template, truth, n_contacts, seed, held_out, device=device)
