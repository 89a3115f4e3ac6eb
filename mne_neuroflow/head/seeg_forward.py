"""An MNE forward solution for intracranial contacts."""

from __future__ import annotations

from pathlib import Path

import mne
import numpy as np
from mne.io.constants import FIFF

from .._compat import _validate_type, logger, verbose
from .._docs import fill_doc
from .._text import listed
from .contacts import get_head_to_mri
from .geometry import Surface, encloses
from .leadfield import (
    CONTACT_MINIMUM_DISTANCE,
    infinite_medium_potential,
    surface_weights,
)

# Number of sources computed at once: 3 x 100 dipoles times the 7700 nodes of the usual
# three ico-4 surfaces are 18 MB.
_N_SOURCES = 100

# A sphere that contains every head, for the forward solution used as a template.
_DUMMY_RADIUS = 1.0


@verbose
@fill_doc
def make_seeg_forward(
    info, trans, src, bem, *, mindist=CONTACT_MINIMUM_DISTANCE, verbose=None
) -> mne.Forward:
    """Compute a forward solution for SEEG and ECoG contacts.

    :func:`mne.make_forward_solution` supports MEG and EEG sensors only.

    Parameters
    ----------
    info : mne.Info
        A measurement info with ``'seeg'`` or ``'ecog'`` channels that have positions.
        Bad channels are computed as well.
    trans : str | path-like | mne.transforms.Transform
        The transform between head and MRI, or the file of one. ``'fsaverage'`` is that
        of the template.
    src : mne.SourceSpaces | path-like
        Surface, volume, discrete or mixed source spaces. Points outside the inner
        skull are left out, as :func:`mne.make_forward_solution` does.
    bem : mne.bem.ConductorModel | path-like
        Solution of a one-layer or three-layer boundary-element model, from
        :func:`mne.make_bem_solution` with ``solver='mne'``.
    mindist : float
        The distance in metres below which a dipole acts on a contact as if its moment
        were spread over a ball of this radius. The default is the size of a contact.
        The ``mindist`` of :func:`mne.make_forward_solution` is different: it leaves out
        sources near the skull.
    %(verbose)s

    Returns
    -------
    fwd : mne.Forward
        The forward solution with free orientations in the head frame, in volts per
        ampere metre against a reference at infinity, with channels in the order of
        ``info``. :func:`mne.convert_forward_solution` makes one with fixed orientations
        from it.

    See Also
    --------
    mne.make_forward_solution : The same for MEG and EEG.

    Notes
    -----
    The potential inside the brain follows from the potentials on the surfaces
    [1]_, which follow from the boundary-element solution [2]_.

    :func:`mne.write_forward_solution` puts only MEG and EEG rows into FIF files;
    ``-fwd.h5`` files, which need the h5io package, hold contacts as well.

    References
    ----------
    .. [1] Geselowitz (1967). On bioelectric potentials in an inhomogeneous volume
       conductor. Biophysical Journal 7, 1-11.
    .. [2] Hämäläinen & Sarvas (1989). Realistic conductivity geometry model of the
       human head for interpretation of neuromagnetic data. IEEE Transactions on
       Biomedical Engineering 36, 165-171.

    Examples
    --------
    A source in either hippocampus of the template. With surfaces of your own, ``bem``
    is ``mne.make_bem_solution(mne.make_bem_model(subject))``; here it has one layer.

    >>> import mne
    >>> from mne_neuroflow import make_contacts, make_seeg_forward
    >>> from mne_neuroflow.head.geometry import load_head
    >>> skull = load_head().inner_skull
    >>> surface = dict(rr=skull.rr.astype(float), tris=skull.tris, np=len(skull.rr))
    >>> surface.update(id=1, coord_frame=5, sigma=0.3, ntri=len(skull.tris))  # in MRI
    >>> surface = mne.surface.complete_surface_info(surface)
    >>> bem = mne.make_bem_solution([surface])
    >>> places = [[-0.027, -0.02, -0.018], [0.027, -0.02, -0.018]]  # metres
    >>> places = {"rr": np.array(places), "nn": np.array([[0, 0, 1.0], [0, 0, 1]])}
    >>> src = mne.setup_volume_source_space(pos=places)
    >>> montage = make_contacts("mtl-core")
    >>> info = mne.create_info(montage.ch_names, 128, "seeg").set_montage(montage)
    >>> fwd = make_seeg_forward(info, "fsaverage", src, bem)
    >>> fwd["sol"]["data"].shape  # three orientations
    (30, 6)
    """
    _validate_type(info, mne.Info, "info")
    _validate_type(mindist, "numeric", "mindist")
    if not mindist > 0:
        raise ValueError(
            "Invalid value for the 'mindist' parameter. Allowed values are distances "
            f"in metres above 0, but got {mindist}."
        )
    bem = _check_bem(bem)
    surfaces = [Surface(surf["rr"], surf["tris"]) for surf in bem["surfs"]]
    head_to_mri = mne.transforms.Transform("head", "mri", get_head_to_mri(trans))
    info = _pick_contacts(info)
    contacts = _contacts_in_mri(info, head_to_mri, surfaces[-1])
    src = _drop_outside(_check_src(src), head_to_mri, surfaces[-1])
    fwd = _empty_forward(info, head_to_mri, src)
    sources = mne.transforms.apply_trans(head_to_mri, fwd["source_rr"])
    lead_field = _lead_field(contacts, sources, head_to_mri, bem, surfaces, mindist)
    fwd["sol"]["data"] = lead_field
    fwd["_orig_sol"] = lead_field.copy()
    logger.info(
        "Computed the potential of %d sources at %d contacts.",
        fwd["nsource"],
        fwd["nchan"],
    )
    return fwd


def _lead_field(contacts, sources, head_to_mri, bem, surfaces, mindist):
    """Lead field of three head-frame dipoles at each source, ``(C, 3 S)``."""
    conductivity = bem["sigma"]
    nodes = np.vstack([surface.rr for surface in surfaces])
    source_mult = np.repeat(bem["source_mult"], [len(s.rr) for s in surfaces])
    # map infinite-medium potentials at the nodes, at 1 S/m, directly to contacts
    weights = surface_weights(contacts, surfaces, conductivity) @ bem["solution"]
    weights *= source_mult
    axes = head_to_mri["trans"][:3, :3].T
    lead_field = np.empty((len(contacts), 3 * len(sources)))
    for start in range(0, len(sources), _N_SOURCES):
        some = sources[start : start + _N_SOURCES]
        dipoles, moments = np.repeat(some, 3, axis=0), np.tile(axes, (len(some), 1))
        at_nodes = infinite_medium_potential(nodes, dipoles, moments, conductivity=1.0)
        at_contacts = infinite_medium_potential(
            contacts,
            dipoles,
            moments,
            conductivity=conductivity[-1],
            minimum_distance=mindist,
        )
        columns = slice(3 * start, 3 * (start + len(some)))
        lead_field[:, columns] = weights @ at_nodes + at_contacts
    return lead_field


def _check_bem(bem):
    """Read and check a boundary-element model that MNE has solved."""
    _validate_type(bem, ("path-like", mne.bem.ConductorModel), "bem")
    if not isinstance(bem, mne.bem.ConductorModel):
        bem = mne.read_bem_solution(bem)
    if bem["is_sphere"]:
        found = "a sphere model"
    elif "solution" not in bem:
        found = "surfaces without a solution"
    elif bem.get("solver", "mne") != "mne":
        found = f"a solution by {bem['solver']}"
    elif bem["surfs"][0]["coord_frame"] != FIFF.FIFFV_COORD_MRI:
        found = "surfaces that are not in the MRI frame"
    else:
        return bem
    raise ValueError(
        "Invalid value for the 'bem' parameter. Allowed values are boundary-element "
        "models in the MRI frame, solved by mne.make_bem_solution(..., "
        f"solver='mne'), but got {found}."
    )


def _pick_contacts(info):
    picks = mne.pick_types(info, seeg=True, ecog=True, exclude=[])
    if not len(picks):
        kinds = ", ".join(sorted(set(info.get_channel_types()))) or "none"
        raise ValueError(
            "Invalid value for the 'info' parameter. Allowed values are Infos with "
            f"'seeg' or 'ecog' channels, but got channels of type {kinds}. "
            "raw.set_channel_types() changes types."
        )
    return mne.pick_info(info, picks)


def _contacts_in_mri(info, head_to_mri, inner_skull):
    """Return contact positions in the MRI frame, or refuse unknown or outlying ones."""
    rr = np.array([ch["loc"][:3] for ch in info["chs"]], float)
    in_head = [ch["coord_frame"] == FIFF.FIFFV_COORD_HEAD for ch in info["chs"]]
    known = np.isfinite(rr).all(axis=1) & rr.any(axis=1) & in_head
    if not known.all():
        raise ValueError(
            "Invalid value for the 'info' parameter. Allowed values are Infos whose "
            "contacts all have positions in the head frame, but got none for "
            f"{_listed(info, ~known)}. raw.set_montage() sets positions."
        )
    rr = mne.transforms.apply_trans(head_to_mri, rr)
    inside = encloses(inner_skull, rr)
    if not inside.all():
        raise ValueError(
            "Invalid value for the 'info' parameter. Allowed values are Infos whose "
            "contacts all lie inside the inner skull of 'bem', but got contacts "
            f"outside: {_listed(info, ~inside)}. Check 'trans' and the units, or "
            "leave these contacts out with raw.pick()."
        )
    return rr


def _listed(info, mask):
    return listed(np.array(info["ch_names"])[mask])


def _check_src(src):
    _validate_type(src, ("path-like", mne.SourceSpaces), "src")
    if not isinstance(src, mne.SourceSpaces):
        src = mne.read_source_spaces(Path(src))
    frames = {int(space["coord_frame"]) for space in src}
    if len(frames) != 1 or not frames <= {FIFF.FIFFV_COORD_MRI, FIFF.FIFFV_COORD_HEAD}:
        raise ValueError(
            "Invalid value for the 'src' parameter. Allowed values are source spaces "
            "that are all in the MRI frame or all in the head frame, but got "
            f"coordinate frames {sorted(frames)} (see mne.io.constants.FIFF)."
        )
    return src.copy()


def _drop_outside(src, head_to_mri, inner_skull):
    """Leave out the source points that the inner skull does not enclose."""
    n_dropped = 0
    for space in src:
        rr = space["rr"][space["vertno"]]
        if space["coord_frame"] == FIFF.FIFFV_COORD_HEAD:
            rr = mne.transforms.apply_trans(head_to_mri, rr)
        inside = encloses(inner_skull, rr)
        space["inuse"][space["vertno"][~inside]] = 0
        space["vertno"] = space["vertno"][inside]
        space["nuse"] = len(space["vertno"])
        n_dropped += np.sum(~inside)
    if not sum(space["nuse"] for space in src):
        raise ValueError(
            "Invalid value for the 'src' parameter. Allowed values are source spaces "
            "with points inside the inner skull of 'bem', but got none there."
        )
    if n_dropped:
        logger.info("Left out %d source points outside the inner skull.", n_dropped)
    return src


def _empty_forward(info, head_to_mri, src):
    """Make a forward solution of the right form, in which to replace the lead field.

    MNE-Python makes forward solutions only for EEG and MEG and has no public
    constructor. The contacts are therefore passed as EEG electrodes with a spherical
    model, which is the cheapest.
    """
    disguised = info.copy()
    disguised.set_channel_types(
        dict.fromkeys(info["ch_names"], "eeg"), on_unit_change="ignore", verbose="error"
    )
    for ch in disguised["chs"]:
        ch["loc"][:6] = [0, 0, _DUMMY_RADIUS, 0, 0, 0]
    sphere = mne.make_sphere_model(
        r0=(0.0, 0.0, 0.0),
        head_radius=_DUMMY_RADIUS,
        relative_radii=(0.9, 1.0),
        sigmas=(1.0, 1.0),
        verbose="error",
    )
    fwd = mne.make_forward_solution(
        disguised, head_to_mri, src, sphere, meg=False, verbose="error"
    )
    for ch, contact in zip(fwd["info"]["chs"], info.copy()["chs"], strict=True):
        ch.update(contact)
    return fwd
