"""Parameters that several functions have in common, described once.

A docstring names a parameter as ``%(contacts)s`` on a line of its own. :func:`fill_doc`
puts the description there, so that ``help()`` explains every parameter of a function.
"""

import re
from textwrap import dedent, indent

_PLACEHOLDER = re.compile(r"^( *)%\((\w+)\)s$", re.MULTILINE)


def fill_doc(described):
    """Replace the placeholders in a docstring.

    Parameters
    ----------
    described : callable
        A function or class. Its docstring is changed in place; with ``python -OO``
        it has none.

    Returns
    -------
    described : callable
        The same.

    Notes
    -----
    Place it below :func:`mne.utils.verbose`, which refuses unknown placeholders.
    """
    if described.__doc__:
        described.__doc__ = _PLACEHOLDER.sub(
            lambda found: indent(_PARAMETERS[found[2]], found[1]), described.__doc__
        )
    return described


def _entries(text):
    """Split a section of numpydoc into one entry per parameter."""
    entries = re.split(r"\n(?=\S)", dedent(text).strip())
    return {entry.split(" : ")[0].strip("*"): entry for entry in entries}


_PARAMETERS = _entries("""
inst : Raw | Epochs
    The scalp EEG, from any MNE-Python reader, preloaded or not. It is not changed.
contacts : str | path-like | DigMontage | Info | array_like of shape (n_contacts, 3)
    The contacts: the name of a shipped implant such as ``'mtl'``, a BIDS
    ``electrodes.tsv``, a montage, an ``Info`` with ``'seeg'``, ``'ecog'`` or ``'dbs'``
    channels, whose names and order are kept, or positions in metres, fsaverage surface
    RAS. See :func:`mne_neuroflow.make_contacts`.
model : str | path-like | NeuroFlow
    The name of the weights, see :func:`mne_neuroflow.fetch_model`; a file that
    :meth:`mne_neuroflow.NeuroFlow.save` has written; or a model that was fitted to
    pairs.
random_state : int | RandomState | Generator | None
    The seed of the draws. With ``None`` a new seed is taken and logged, so that the
    result can be made again.
device : str
    ``'cpu'``, ``'cuda'``, or ``'auto'``, which uses a GPU if there is one.
batch_size : int | 'auto'
    The number of draws that are computed at once. It changes memory and speed, not
    the result.
trans : str | path-like | Transform
    The transform from head coordinates to the MRI of fsaverage, or the file of one.
    ``'fsaverage'`` is for positions of a template montage, or with the fiducials of
    :meth:`mne.channels.DigMontage.add_mni_fiducials`.
bad_time : str
    What to return where the scalp EEG is bad, that is, annotated as ``BAD`` or without
    a signal: ``'prior'``, draws that do not depend on the scalp, or ``'nan'``.
on_mismatch : str
    What to do when the recording differs from what the model was built for:
    ``'warn'``, ``'raise'`` or ``'ignore'``.
values : array_like of shape (n_contacts,) | Series | dict | None
    A number for each contact, such as its observability, power or spike rate. In a
    Series or dict they are found by the names of the contacts. Contacts without a
    number, or with NaN, are grey. ``None`` colours the contacts by structure.
label : str | None
    What the numbers are, with their unit. It is the title of the colour bar.
cmap : str | Colormap | None
    The colour map. ``None`` takes ``'viridis'``, or ``'RdBu_r'`` centred on zero where
    numbers have both signs.
vlim : tuple of float | None
    The limits of the colour bar. ``None`` takes the smallest and the largest number,
    or limits symmetric about zero where numbers have both signs.
draws : array of shape (n_draws, ...)
    The draws of the prediction.
truth : array of shape (...)
    The recorded value.
level : float
    The nominal coverage, between 0 and 1.
series : array of shape (..., n_times)
    The signals in volts.
sfreq : float
    The sampling rate in hertz.
verbose : bool | str | int | None
    Control the verbosity of the logging output, see :func:`mne.verbose`.
""")

# Parameters of the simulation, which are tensors.
_PARAMETERS |= _entries("""
electrodes : Tensor of shape (batch, electrode, 3)
    The positions of the electrodes in metres.
used : Tensor of shape (batch, electrode)
    1 for electrodes, 0 for padding.
n_times : int
    The number of samples at 128 Hz.
rng : torch.Generator
    The random numbers.
""")
# Parameters of the methods of the benchmark.
_PARAMETERS["training"] = """\
n_steps, width : int
    The number of training steps, and of channels of the networks.
random_state : int
    The seed of weights, batches and noise of the training."""
_PARAMETERS["scalp_data"] = """\
scalp : ScalpData
    The scalp EEG of one recording, see :mod:`mne_neuroflow.evaluation.pairs`."""
_PARAMETERS["positions"] = """\
contacts : array of shape (n_contacts, 3)
    The positions of the contacts in metres, fsaverage surface RAS."""
