"""The head, montage and implant of each virtual patient.

A setup refers to the true gains, in a head that differs from the template and with
displaced electrodes. It also has what the package assumes: the expected amplitudes in
the template head at the nominal positions.

Examples
--------
A depth electrode of eight contacts or fewer, in metres:

>>> contacts = random_shaft(load_head(), np.random.default_rng(0))
>>> contacts.shape[1], bool(np.abs(contacts).max() < 0.1)
(3, True)
"""

import csv
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..head.geometry import (
    STRUCTURES,
    inside_brain,
    load_head,
    project_to_scalp,
)
from ..head.leadfield import contact_lead_field, scalp_lead_field
from ..head.posterior import (
    average_reference,
    contact_halves,
    farthest_points,
    prior_spreads,
    source_generators,
)
from .sources import Batched

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
_MANY = 50  # attempts per random depth electrode
#: Patients whose implants the training never sees.
HELD_OUT = ("sub-01", "sub-06", "sub-09")


@dataclass(frozen=True)
class Setups(Batched):
    """Virtual patients with one number of contacts, as tensors.

    Attributes
    ----------
    scalp_rows : Tensor of int, shape (setup, electrode)
        Rows of :attr:`Worlds.scalp`; the last one, zeros, pads the montage.
    deep_rows : Tensor of int, shape (setup, contact)
        Rows of :attr:`Worlds.deep`.
    used : Tensor of shape (setup, electrode)
        1 for electrodes, 0 for padding.
    electrodes : Tensor of shape (setup, electrode, 3)
        Nominal positions, metres.
    contacts : Tensor of shape (setup, contact, 3)
        Nominal positions, metres.
    prior_std : Tensor of shape (setup, contact)
        Standard deviation of the contact potential in the template head, volts.
    scalp_std : Tensor of shape (setup, electrode)
        Standard deviation of average-referenced electrodes with their noise, volts.
    electrode_distance : Tensor of shape (setup, contact)
        Metres to the nearest electrode.
    half : Tensor of shape (setup, contact)
        The two halves of the contacts for coupling.
    """

    scalp_rows: Tensor
    deep_rows: Tensor
    used: Tensor
    electrodes: Tensor
    contacts: Tensor
    prior_std: Tensor
    scalp_std: Tensor
    electrode_distance: Tensor
    half: Tensor


@dataclass(frozen=True)
class Worlds:
    """True gains of every site in several virtual heads.

    Attributes
    ----------
    scalp : Tensor of shape (n_worlds * n_electrodes + 1, generator)
        Volts at infinity's reference; the last row is zero.
    deep : Tensor of shape (n_worlds * n_contacts, generator)
        Volts.
    """

    scalp: Tensor
    deep: Tensor

    @property
    def n_electrodes(self) -> int:
        """Number of rows of the scalp gains, without the last."""
        return len(self.scalp) - 1

    def to(self, device) -> "Worlds":
        """Move to a device."""
        return Worlds(self.scalp.to(device), self.deep.to(device))

    def of(self, setups: Setups) -> tuple[Tensor, Tensor]:
        """Return gains: (setup, electrode, generator), (setup, contact, generator)."""
        return self.scalp[setups.scalp_rows], self.deep[setups.deep_rows]


@dataclass(frozen=True)
class Sites:
    """The possible electrodes and contacts, with their gains in the template head.

    Attributes
    ----------
    names : list of str
        10-05 names of the electrodes.
    electrodes : array of shape (n_electrodes, 3)
        Nominal positions on the template's scalp, metres.
    contacts : array of shape (n_contacts, 3)
        Nominal positions, metres.
    shafts, implants : list of array of int
        Contacts of each random depth electrode and of each real implant.
    held_out : bool
        Whether these sites are held out from training. Their montages are random.
    scalp, deep : array of shape (n_electrodes | n_contacts, generator)
        The template's gains, volts.
    """

    names: list
    electrodes: np.ndarray
    contacts: np.ndarray
    shafts: list
    implants: list
    held_out: bool
    scalp: np.ndarray
    deep: np.ndarray


@dataclass(frozen=True)
class GeneratorTable:
    """Properties of all sources, as tensors.

    Attributes
    ----------
    structure : Tensor of int, shape (generator,)
        Index into :data:`~mne_neuroflow.head.geometry.STRUCTURES`.
    hemisphere : Tensor of int, shape (generator,)
        0 left, 1 right.
    group : Tensor of int, shape (generator,)
        Length scale.
    """

    structure: Tensor
    hemisphere: Tensor
    group: Tensor

    @classmethod
    def from_head(cls, head, device="cpu") -> "GeneratorTable":
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
    """Read the 10-05 positions by name, in metres, fsaverage surface RAS."""
    rows, places = _read_positions(_DATA / "positions_1005.csv")
    return {row["name"]: place for row, place in zip(rows, places, strict=True)}


def random_montage(sites: Sites, rng: np.random.Generator) -> np.ndarray:
    """Draw a montage: a standard one, or a random one of 8 to 128 electrodes.

    Parameters
    ----------
    sites : Sites
        The possible electrodes.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    electrodes : array of int, shape (n_electrodes,)
        Indices of the sites.
    """
    if rng.random() < 0.6 and not sites.held_out:
        usual = [names.split() for names in MONTAGES.values()]
        names = usual[rng.integers(len(usual))]
        # In every second recording, one or two electrodes are missing.
        lost = rng.integers(0, 3) if len(names) > 10 else 0
        kept = list(rng.permutation(names)[lost:])
        return np.array([sites.names.index(name) for name in kept])
    n_electrodes = int(np.exp(rng.uniform(np.log(8), np.log(128))))
    chosen = rng.permutation(len(sites.names))[: 3 * n_electrodes]
    return chosen[farthest_points(sites.electrodes[chosen], n_electrodes)]


@cache
def real_implants() -> dict:
    """Read the implants of patients: positions (n_contacts, 3) in metres by subject."""
    rows, places = _read_positions(
        _IMPLANTS / "contacts.csv", lambda row: row["implant"].startswith("ds004752")
    )
    names = np.array([row["implant"][-6:] for row in rows])
    return {str(name): places[names == name] * 1e-3 for name in np.unique(names)}


def random_shaft(head, rng: np.random.Generator) -> np.ndarray:
    """Draw a depth electrode that enters the temporal lobe from the side.

    It has eight contacts, 3.5 to 6 mm apart. The first is near a mesial or lateral
    temporal source.

    Parameters
    ----------
    head : Head
        The head.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    contacts : array of shape (n_contacts, 3)
        The contacts inside the brain, in metres.
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
    sites: Sites, n_contacts: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw contacts from implants of patients and from random depth electrodes.

    Parameters
    ----------
    sites : Sites
        The possible contacts.
    n_contacts : int
        The number of contacts.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    contacts : array of int, shape (n_contacts,)
        Indices of the sites, no two closer than 2 mm.
    """
    pool = np.empty(0, int)
    if rng.random() < 0.45:
        pool = sites.implants[rng.integers(len(sites.implants))]
        first = sites.contacts[pool[rng.integers(len(pool))]]
        distance = np.linalg.norm(sites.contacts[pool] - first, axis=1)
        pool = pool[np.argsort(distance)]
    for _ in range(_MANY * len(sites.shafts)):
        pool = pool[_apart(sites.contacts[pool], 2e-3)]
        if len(pool) >= n_contacts:
            return pool[:n_contacts]
        pool = np.append(pool, sites.shafts[rng.integers(len(sites.shafts))])
    raise ValueError(
        f"{len(sites.shafts)} random depth electrodes do not hold {n_contacts} "
        "contacts that are 2 mm apart: build more of them with 'n_shafts'."
    )


def _apart(points, distance):
    """Return indices of the points that are not close to an earlier one."""
    kept = []
    for k, point in enumerate(points):
        if not kept or np.linalg.norm(points[kept] - point, axis=1).min() > distance:
            kept.append(k)
    return np.array(kept, int)


def build_sites(n_shafts: int, seed: int, held_out: bool = False, device="cpu"):
    """Make the possible electrodes and contacts.

    Parameters
    ----------
    n_shafts : int
        The number of random depth electrodes, beside the implants of patients.
    seed : int
        The seed.
    held_out : bool
        Whether to use only the implants that are held out from training.
    device : str | torch.device
        The device for large matrix products.

    Returns
    -------
    sites : Sites
        The sites, with the template's gains.
    """
    rng = np.random.default_rng(seed)
    template = load_head()
    known = electrode_positions()
    electrodes = project_to_scalp(template, np.array(list(known.values())))[2]
    parts = [random_shaft(template, rng) for _ in range(n_shafts)]
    for name, implant in real_implants().items():
        if (name in HELD_OUT) == held_out:
            parts.append(implant[inside_brain(template, implant)])
    ends = np.cumsum([len(part) for part in parts])
    index = np.split(np.arange(ends[-1]), ends[:-1])
    contacts = np.concatenate(parts)
    return Sites(
        names=list(known),
        electrodes=electrodes,
        contacts=contacts,
        shafts=index[:n_shafts],
        implants=index[n_shafts:],
        held_out=held_out,
        **_template_gains(electrodes, contacts, device),
    )


def _template_gains(electrodes, contacts, device):
    template = load_head()
    return {
        "scalp": _of_generators(scalp_lead_field(template, electrodes), device),
        "deep": _of_generators(contact_lead_field(template, contacts), device),
    }


def build_patient(electrodes, contacts, seed: int) -> tuple[Setups, Worlds]:
    """Build one patient with these electrodes and contacts.

    Parameters
    ----------
    electrodes : array of shape (n_electrodes, 3)
        Nominal positions, metres, fsaverage surface RAS.
    contacts : array of shape (n_contacts, 3)
        Nominal positions.
    seed : int
        The seed of the true positions, see :func:`build_worlds`.

    Returns
    -------
    setups : Setups
        The patient.
    worlds : Worlds
        The true gains.
    """
    electrodes = project_to_scalp(load_head(), electrodes)[2]
    sites = Sites(
        names=[],
        electrodes=electrodes,
        contacts=np.asarray(contacts, float),
        shafts=[],
        implants=[],
        held_out=False,
        **_template_gains(electrodes, contacts, "cpu"),
    )
    everything = (np.arange(len(electrodes)), np.arange(len(contacts)))
    setup = make_setup(sites, 0, *everything)
    setups = stack_setups([setup], len(electrodes), len(electrodes))
    return setups, build_worlds(sites, 1, seed)


def build_worlds(
    sites: Sites, n_worlds: int, seed: int, heads=None, n_jobs: int = 1, device="cpu"
) -> Worlds:
    """Compute the true gains of all sites in heads that differ from the template.

    Electrodes are displaced by some millimetres. Contacts have the error of a
    normalization to the template: a scaling of up to 4 % and a shift.

    Parameters
    ----------
    sites : Sites
        The nominal sites.
    n_worlds : int
        The number of heads. Head tables are used in turn.
    seed : int
        The seed.
    heads : list of str | None
        Head tables beside the template.
    n_jobs : int
        The number of threads.
    device : str | torch.device
        The device for large matrix products.

    Returns
    -------
    worlds : Worlds
        On the CPU.
    """
    tables = [load_head(fname) for fname in [None, *(heads or [])]]

    def build(number):
        rng = np.random.default_rng([seed, number])
        head = tables[number % len(tables)]
        off = rng.normal(0, rng.uniform(0, 3.5e-3), sites.electrodes.shape)
        scalp = scalp_lead_field(head, sites.electrodes + off)
        moved = sites.contacts * rng.uniform(0.96, 1.04, 3)
        moved = moved + rng.normal(0, 1.5e-3, 3) + rng.normal(0, 5e-4, moved.shape)
        inside = inside_brain(head, moved)[:, None]
        deep = contact_lead_field(head, np.where(inside, moved, sites.contacts))
        return [_of_generators(field, device) for field in (scalp, deep)]

    # Large matrix products release Python's global lock, so threads are sufficient.
    with ThreadPoolExecutor(n_jobs) as pool:
        scalp, deep = zip(*pool.map(build, range(n_worlds)), strict=True)
    nothing = np.zeros((1, scalp[0].shape[1]), np.float32)
    return Worlds(
        torch.from_numpy(np.concatenate([*scalp, nothing])),
        torch.from_numpy(np.concatenate(deep)),
    )


def template_world(sites: Sites) -> Worlds:
    """Return the gains of all nominal sites in the template head.

    Parameters
    ----------
    sites : Sites
        The nominal sites.

    Returns
    -------
    template : Worlds
        One world, on the CPU.
    """
    nothing = np.zeros((1, sites.scalp.shape[1]), np.float32)
    return Worlds(
        torch.from_numpy(np.concatenate([sites.scalp, nothing])),
        torch.from_numpy(sites.deep),
    )


def _of_generators(lead_field, device):
    """Convert a lead field of patches to gains of sources, float32."""
    factor = _factor(torch.device(device))
    lead_field = torch.as_tensor(lead_field, dtype=torch.float32)
    return (lead_field.to(factor.device) @ factor).cpu().numpy()


@cache
def _factor(device):
    return torch.from_numpy(source_generators(load_head()).factor).to(device)


# The axes of each field along which electrodes lie.
_ELECTRODE_AXES = {
    "scalp_rows": (0,),
    "used": (0,),
    "electrodes": (0,),
    "scalp_std": (0,),
}


def make_setup(sites: Sites, world: int, electrodes, contacts) -> dict:
    """Make the arrays of one virtual patient, see :class:`Setups`.

    Parameters
    ----------
    sites : Sites
        The possible electrodes and contacts.
    world : int
        The index of the head.
    electrodes, contacts : array of int
        Indices of the sites.

    Returns
    -------
    setup : dict of array
        The fields of :class:`Setups`, electrodes not padded.
    """
    prior_std, scalp_std = prior_spreads(
        average_reference(sites.scalp[electrodes]), sites.deep[contacts]
    )
    places, points = sites.electrodes[electrodes], sites.contacts[contacts]
    distance = np.linalg.norm(points[:, None] - places[None], axis=-1).min(1)
    return {
        "scalp_rows": electrodes + world * len(sites.electrodes),
        "deep_rows": contacts + world * len(sites.contacts),
        "used": np.ones(len(places)),
        "electrodes": places,
        "contacts": points,
        "electrode_distance": distance,
        "half": contact_halves(points),
        "prior_std": prior_std,
        "scalp_std": scalp_std,
    }


def stack_setups(setups: list, n_electrodes: int, nothing: int) -> Setups:
    """Pad to a number of electrodes and stack.

    Parameters
    ----------
    setups : list of dict
        The results of :func:`make_setup`, all with the same number of contacts.
    n_electrodes : int
        The padded size, at least that of the largest montage.
    nothing : int
        The index of the row of zeros in :attr:`Worlds.scalp`.

    Returns
    -------
    setups : Setups
        On the CPU, float32 and int64.
    """
    columns = {}
    for name in (field.name for field in fields(Setups)):
        rows = name.endswith("_rows")
        arrays = []
        for setup in setups:
            array = np.asarray(setup[name], np.int64 if rows else np.float32)
            width = [(0, 0)] * array.ndim
            for axis in _ELECTRODE_AXES.get(name, ()):
                width[axis] = (0, n_electrodes - array.shape[axis])
            array = np.pad(array, width, constant_values=nothing if rows else 0)
            arrays.append(array)
        columns[name] = torch.from_numpy(np.stack(arrays))
    return Setups(**columns)


def build_setups(
    sites: Sites,
    n_worlds: int,
    n_setups: int,
    n_contacts: int,
    seed: int,
    n_electrodes: int = 128,
    n_jobs: int = 1,
) -> Setups:
    """Draw virtual patients.

    Parameters
    ----------
    sites : Sites
        The possible electrodes and contacts.
    n_worlds : int
        The number of heads to choose from.
    n_setups, n_contacts : int
        The numbers of patients and of contacts.
    seed : int
        The seed.
    n_electrodes : int
        The padded size of the montage.
    n_jobs : int
        The number of threads.

    Returns
    -------
    setups : Setups
        On the CPU.
    """

    def build(number):
        rng = np.random.default_rng([seed, n_contacts, number])
        electrodes = random_montage(sites, rng)
        contacts = random_implant(sites, n_contacts, rng)
        world = int(rng.integers(n_worlds))
        return make_setup(sites, world, electrodes, contacts)

    with ThreadPoolExecutor(n_jobs) as pool:
        built = list(pool.map(build, range(n_setups)))
    return stack_setups(built, n_electrodes, n_worlds * len(sites.electrodes))
