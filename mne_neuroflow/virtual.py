"""The virtual side: from numbers to ordinary MNE objects.

What leaves the package is a Raw or Epochs of ``'seeg'`` channels that shares the
time axis, events, annotations and metadata of the scalp recording that it was
predicted from, and says in ``info['description']`` that it is a prediction.
"""

from pathlib import Path

import mne
import numpy as np

from ._compat import ProgressBar, sign
from .head.contacts import contact_positions, get_head_to_mri

# Work that is done at once when somebody reads from a virtual recording, volts
# in float64: 32 MB, or two minutes if that is less.
_CHUNK_SAMPLES = 2**22
_CHUNK_SECONDS = 120.0
_LONG = 3  # chunks, above which a progress bar shows
_PLACEHOLDER = "scalp placeholder"
#: What every virtual recording says of itself.
SAYS_SO = "predicted, not recorded"


class RawVirtual(mne.io.BaseRaw):
    """A virtual recording that is computed when it is read.

    Works like the Raw of a file that is not preloaded: ``crop``, ``copy``,
    ``pick``, ``load_data``, ``save``, ``plot`` and ``compute_psd`` read what they
    need, in chunks, and the last chunk is kept. Copies share the computation.

    Parameters
    ----------
    template : Raw
        The scalp recording, for length, first sample and annotations.
    info : Info
        From :func:`make_virtual_info`.
    compute : callable
        ``compute(start, stop)`` returns an array of shape
        ``(n_contacts, stop - start)`` in volts. Samples count from the first one
        of ``template``, and the answer must not depend on how they are chunked.
    preload : bool
        Compute everything now and keep it in memory.

    Examples
    --------
    >>> from mne_neuroflow.virtual import RawVirtual, make_virtual_info
    >>> info = make_virtual_info(raw, montage, "virtual")  # doctest: +SKIP
    >>> virtual = RawVirtual(raw, info, compute, preload=False)  # doctest: +SKIP
    """

    def __init__(self, template, info, compute, preload):
        super().__init__(
            info,
            preload=False,
            first_samps=[template.first_samp],
            last_samps=[template.last_samp],
            raw_extras=[
                dict(source=_Source(compute, info, template), first=template.first_samp)
            ],
            # What is written at a time when saved without being loaded.
            buffer_size_sec=10.0,
            verbose=False,
        )
        self.set_annotations(
            _annotations_of(template), emit_warning=False, on_missing="ignore"
        )
        if preload:
            self.load_data(verbose=False)

    def load_data(self, *, verbose=None, **kwargs):
        """Compute everything now and keep it in memory.

        Parameters
        ----------
        verbose : bool | str | int | None
            Control verbosity of the logging output.
        **kwargs : dict
            As for :meth:`mne.io.Raw.load_data`.

        Returns
        -------
        raw : RawVirtual
            The same object.
        """
        super().load_data(verbose=verbose, **kwargs)
        for extra in self._raw_extras:
            extra.pop("source", None)  # lets go of the scalp recording and the model
        return self

    def crop(self, *args, **kwargs):
        """Crop in place.

        Parameters
        ----------
        *args, **kwargs : tuple, dict
            As for :meth:`mne.io.Raw.crop`.

        Returns
        -------
        raw : RawVirtual
            The same object.
        """
        if kwargs.get("reset_first_samp"):
            self.load_data()  # afterwards MNE forgets which samples are left
        return super().crop(*args, **kwargs)

    def save(self, fname, *args, **kwargs):
        """Save, computing what is not in memory chunk by chunk.

        Parameters
        ----------
        fname : path-like
            The file to write. Unless everything was computed with
            :meth:`load_data`, it cannot be a file of the scalp recording.
        *args, **kwargs : tuple, dict
            As for :meth:`mne.io.Raw.save`.

        Returns
        -------
        fnames : list of Path
            The files written.
        """
        sources = [extra["source"] for extra in self._raw_extras if "source" in extra]
        for source in sources:
            source.check_not_read(Path(fname).expanduser())
        for source in sources:
            source.start_progress()
        try:
            return super().save(fname, *args, **kwargs)
        finally:
            for source in sources:
                source.stop_progress()

    def _read_segment_file(self, data, idx, fi, start, stop, cals, mult):
        extra = self._raw_extras[fi]
        offset = extra["first"]
        done = 0
        for block in extra["source"].blocks(int(start - offset), int(stop - offset)):
            picked = block[idx]
            out = data[:, done : done + picked.shape[1]]
            out[:] = picked * cals if mult is None else mult @ picked
            done += picked.shape[1]


class _Source:
    """What a virtual recording and its copies compute from, with the last chunk.

    Chunks lie on a fixed grid, so that scrolling or writing in small buffers
    computes every chunk once.
    """

    def __init__(self, compute, info, template):
        self._compute = compute
        self._n_times = int(template.n_times)
        self._length = int(
            min(_CHUNK_SECONDS * info["sfreq"], _CHUNK_SAMPLES / info["nchan"])
        )
        self._files = () if template.preload else template.filenames
        self._last = (None, None)
        self._bar = None

    def check_not_read(self, fname):
        """Refuse to write a file that the computation still reads."""
        files = [file for file in self._files if file is not None and file.exists()]
        if fname.exists() and any(fname.samefile(file) for file in files):
            raise ValueError(
                "In order to save to a file of the scalp recording, the virtual "
                "recording must be preloaded, because it is computed from that file "
                f"while it is saved: use virtual.load_data() or another name than "
                f"{fname}."
            )

    def start_progress(self):
        """Show from now on how many chunks are done, if they are many."""
        n_chunks = -(-self._n_times // self._length)
        if n_chunks > _LONG:
            self._bar = ProgressBar(n_chunks, mesg="Predicting")

    def stop_progress(self):
        """Show nothing any more."""
        self._bar = None

    def __deepcopy__(self, memo):
        # Raw.copy() must not copy the scalp recording or the weights.
        return self

    def blocks(self, start, stop):
        """Yield samples from start to stop, chunk by chunk."""
        numbers = range(start // self._length, (stop - 1) // self._length + 1)
        if len(numbers) > _LONG and self._bar is None:
            numbers = ProgressBar(numbers, mesg="Predicting")
        for number in numbers:
            first = number * self._length
            chunk = self._chunk(number)
            yield chunk[:, max(start - first, 0) : stop - first]

    def _chunk(self, number):
        kept = self._last  # of which another thread may make another one meanwhile
        if kept[0] != number:
            first = number * self._length
            last = min(first + self._length, self._n_times)
            kept = (number, np.asarray(self._compute(first, last), float))
            self._last = kept
            if self._bar is not None:
                self._bar.update(number + 1)
        return kept[1]


def make_virtual_info(inst, montage, description, trans="fsaverage"):
    """Make the Info of a virtual recording.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp recording; its date, subject, line frequency and the like are
        kept.
    montage : DigMontage
        The contacts, as :func:`mne_neuroflow.make_contacts` makes them.
    description : str
        Provenance, for ``info['description']``: see :func:`describe`.
    trans : str | path-like | Transform
        From the recording's head coordinates to the fsaverage MRI. The contacts are
        placed in the same head coordinates as the electrodes.

    Returns
    -------
    info : Info
        One ``'seeg'`` channel per contact, in the order of the montage, no bads.

    Notes
    -----
    ``info['highpass']`` and ``info['lowpass']`` are those of the input, although the
    prediction holds hardly anything outside 0.5-50 Hz: where they differ, MNE refuses
    ``raw.add_channels([virtual])``.
    """
    info = mne.pick_info(inst.info, [_first_eeg(inst.info)], verbose=False)
    scalp = mne.io.RawArray(np.zeros((1, 1)), info, verbose=False)
    virtual = mne.io.RawArray(
        np.zeros((len(montage.ch_names), 1)),
        _bare_info(montage, inst, trans),
        verbose=False,
    )
    return _adopt(scalp, virtual, montage, description).info


def make_virtual_epochs(inst, data, montage, description, trans="fsaverage"):
    """Make virtual epochs that share everything but the signal with scalp epochs.

    Parameters
    ----------
    inst : Epochs
        The scalp epochs, bad ones dropped.
    data : ndarray, shape (n_epochs, n_contacts, n_times)
        Predicted potentials in volts.
    montage : DigMontage
        The contacts.
    description : str
        Provenance.
    trans : str | path-like | Transform
        As for :func:`make_virtual_info`.

    Returns
    -------
    epochs : Epochs
        Same events, times, metadata, selection, drop log and annotations.

    Notes
    -----
    ``epochs.baseline`` is that of the input. Nothing was subtracted from the
    prediction, which holds hardly anything outside 0.5-50 Hz.
    """
    first = inst.ch_names[_first_eeg(inst.info)]
    scalp = inst.copy().load_data().pick([first], verbose=False)
    virtual = mne.EpochsArray(
        data,
        _bare_info(montage, inst, trans),
        # Those of the scalp stay: any events, also repeated ones or out of order.
        events=np.column_stack([np.arange(len(data)), *np.ones((2, len(data)), int)]),
        tmin=inst.tmin,
        verbose=False,
    )
    return _adopt(scalp, virtual, montage, description)


def describe(model, model_hash, seed, output):
    """Write the provenance that every virtual recording carries.

    Parameters
    ----------
    model : str
        Name of the weights.
    model_hash : str
        SHA-256 of the weights.
    seed : int | None
        Seed of the draws; ``None`` where the output does not depend on one.
    output : str
        What was asked for.

    Returns
    -------
    description : str
        One line for ``info['description']``.

    Examples
    --------
    >>> from mne_neuroflow.virtual import describe
    >>> describe("mtl-v2", "0123456789abcdef", 7, "sample")
    'Virtual iEEG: predicted, not recorded. mne_neuroflow 0.1.0, model mtl-v2 \
(sha256 0123456789ab), output sample, seed 7.'
    """
    from . import __version__

    drawn = "" if seed is None else f", seed {seed}"
    return (
        f"Virtual iEEG: {SAYS_SO}. mne_neuroflow {__version__}, model "
        f"{model} (sha256 {model_hash[:12]}), output {output}{drawn}."
    )


def provenance(info):
    """Find what says that a recording is virtual.

    Parameters
    ----------
    info : Info
        Of any recording.

    Returns
    -------
    text : str
        What :func:`describe` wrote, or as much of it as is left; empty for recordings
        that nothing says it of.
    """
    records = [record.get("creator") for record in info["proc_history"]]
    device = (info["device_info"] or {}).get("type")
    for text in (info["description"], *records, device):
        if SAYS_SO in (text or ""):
            return str(text)
    return ""


def _first_eeg(info):
    return mne.pick_types(info, meg=False, eeg=True, exclude=())[0]


def _bare_info(montage, inst, trans):
    """Return an Info with the contacts in the recording's head coordinates."""
    names, rr = contact_positions(montage)
    rr = mne.transforms.apply_trans(np.linalg.inv(get_head_to_mri(trans)), rr)
    info = mne.create_info(names, inst.info["sfreq"], "seeg", verbose=False)
    return info.set_montage(
        mne.channels.make_dig_montage(
            dict(zip(names, rr, strict=True)), coord_frame="head"
        ),
        verbose=False,
    )


def _adopt(scalp, virtual, montage, description):
    """Let the virtual channels take the place of the one channel of ``scalp``."""
    # The projectors of the scalp mean nothing for the contacts. MNE deletes only
    # those that are not active, because it cannot undo them; here nothing needs to.
    for projector in scalp.info["projs"]:
        projector["active"] = False
    scalp.del_proj()
    # A patient's own contacts may be called like a scalp channel.
    scalp.rename_channels({scalp.ch_names[0]: _PLACEHOLDER}, verbose=False)
    scalp.add_channels([virtual], force_update_info=True)
    scalp.pick(montage.ch_names, verbose=False)
    if not scalp.info["dig"]:
        # Otherwise the recording's own fiducials and electrodes stay, without which
        # MNE would refuse to put the two recordings together.
        scalp.set_montage(montage, verbose=False)
    sign(scalp.info, description, f"virtual iEEG, {SAYS_SO}")
    return scalp


def _annotations_of(raw):
    annotations = raw.annotations.copy()
    if raw.info["meas_date"] is None:
        # Then MNE counts them from the first sample when they are set.
        annotations.onset -= raw.first_time
    return annotations
