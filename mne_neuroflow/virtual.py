"""Virtual recordings as ordinary MNE objects.

A virtual recording is a Raw or Epochs of ``'seeg'`` channels. It has the times, events,
annotations and metadata of the scalp recording, and ``info['description']`` says that
it is a prediction.
"""

import re
from pathlib import Path

import mne
import numpy as np

from ._compat import ProgressBar, sign
from ._docs import fill_doc
from .head.contacts import contact_positions, get_info_to_mri

# Size of a chunk of a virtual recording, volts in float64: 32 MB, or two minutes if
# that is less.
_CHUNK_SAMPLES = 2**22
_CHUNK_SECONDS = 120.0
_LONG = 3  # chunks, above which a progress bar shows
_PLACEHOLDER = "scalp placeholder"
#: A part of the description of every virtual recording.
SAYS_SO = "predicted, not recorded"


class RawVirtual(mne.io.BaseRaw):
    """A virtual recording that is computed when it is read.

    It works like the Raw of a file that is not preloaded. ``crop``, ``copy``, ``pick``,
    ``load_data``, ``save``, ``plot`` and ``compute_psd`` read the samples that they
    need, in chunks. The last chunk is cached. Copies share the computation.

    Parameters
    ----------
    template : Raw
        The scalp recording, for length, first sample and annotations.
    info : Info
        The result of :func:`make_virtual_info`.
    compute : callable
        ``compute(start, stop)`` returns an array of shape
        ``(n_contacts, stop - start)`` in volts. Samples count from the first one of
        ``template``. The result must not depend on the chunks.
    preload : bool
        Whether to compute all samples now and keep them in memory.

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

    @fill_doc
    def load_data(self, *, verbose=None, **kwargs):
        """Compute all samples now and keep them in memory.

        Parameters
        ----------
        %(verbose)s
        **kwargs : dict
            As for :meth:`mne.io.Raw.load_data`.

        Returns
        -------
        raw : RawVirtual
            The same object.
        """
        super().load_data(verbose=verbose, **kwargs)
        for extra in self._raw_extras:
            extra.pop("source", None)  # release the scalp recording and the model
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
            self.load_data()  # MNE does not keep the range of remaining samples
        return super().crop(*args, **kwargs)

    def save(self, fname, *args, **kwargs):
        """Save the recording, which is computed in chunks if it is not in memory.

        Parameters
        ----------
        fname : path-like
            The file to write. It must not be a file of the scalp recording, unless
            :meth:`load_data` was called before.
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

    def export(self, fname, *args, **kwargs):
        """Export to another format, with one more annotation.

        Parameters
        ----------
        fname : path-like
            The file to write.
        *args, **kwargs : tuple, dict
            As for :meth:`mne.io.Raw.export`.

        Notes
        -----
        BrainVision and EEGLAB files do not store ``info['description']``. An annotation
        at the first sample therefore marks the recording as predicted.
        """
        signed = self.copy()
        # Commas part the fields of a BrainVision marker.
        text = provenance(self).replace(",", ";")
        signed.annotations.append(signed.first_time, 0.0, text)
        super(RawVirtual, signed).export(fname, *args, **kwargs)

    def _read_segment_file(self, data, idx, fi, start, stop, cals, mult):
        extra = self._raw_extras[fi]
        offset = extra["first"]
        done = 0
        for block in extra["source"].blocks(int(start - offset), int(stop - offset)):
            picked = block[idx]
            out = data[:, done : done + picked.shape[1]]
            out[:] = picked * cals if mult is None else mult @ picked
            done += picked.shape[1]


# MNE's spectra look for BaseEpochs among the direct bases.
class EpochsVirtual(mne.Epochs, mne.BaseEpochs):
    """Virtual epochs, which :func:`make_virtual_epochs` makes.

    Examples
    --------
    >>> from mne_neuroflow.virtual import make_virtual_epochs
    >>> epochs = make_virtual_epochs(epochs, data, montage, "")  # doctest: +SKIP
    >>> epochs.export("virtual.set")  # doctest: +SKIP
    """

    def export(self, fname, *args, **kwargs):
        """Export to another format, with names of events that mark them as predicted.

        Parameters
        ----------
        fname : path-like
            The file to write.
        *args, **kwargs : tuple, dict
            As for :meth:`mne.Epochs.export`.

        Notes
        -----
        EEGLAB files of epochs store neither ``info['description']`` nor other text.
        The event ``'go'`` becomes ``'go/predicted; not recorded'`` in the file, and
        ``epochs['go']`` still finds it.
        """
        signed = self.copy()
        tag = SAYS_SO.replace(",", ";")
        signed.event_id = {f"{k}/{tag}": code for k, code in self.event_id.items()}
        super(EpochsVirtual, signed).export(fname, *args, **kwargs)


class _Source:
    """The computation of a virtual recording and its copies, with the last chunk.

    Chunks are on a fixed grid, so that scrolling and writing in small buffers compute
    each chunk once.
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
        """Refuse to overwrite a file that the computation still reads."""
        files = [file for file in self._files if file is not None and file.exists()]
        if fname.exists() and any(fname.samefile(file) for file in files):
            raise ValueError(
                "In order to save to a file of the scalp recording, the virtual "
                "recording must be preloaded, because it is computed from that file "
                f"while it is saved: use virtual.load_data() or another name than "
                f"{fname}."
            )

    def start_progress(self):
        """Show a progress bar of chunks, if there are many."""
        n_chunks = -(-self._n_times // self._length)
        if n_chunks > _LONG:
            self._bar = ProgressBar(n_chunks, mesg="Predicting")

    def stop_progress(self):
        """Close the progress bar."""
        self._bar = None

    def __deepcopy__(self, memo):
        # Raw.copy() must not copy the scalp recording or the weights.
        return self

    def __reduce__(self):
        # Send the samples to another process, not the computation.
        data = np.concatenate([*self.blocks(0, self._n_times)], axis=1)
        return _computed, (data, self._length)

    def blocks(self, start, stop):
        """Yield samples from start to stop in chunks."""
        numbers = range(start // self._length, (stop - 1) // self._length + 1)
        if len(numbers) > _LONG and self._bar is None:
            numbers = ProgressBar(numbers, mesg="Predicting")
        for number in numbers:
            first = number * self._length
            chunk = self._chunk(number)
            yield chunk[:, max(start - first, 0) : stop - first]

    def _chunk(self, number):
        kept = self._last  # another thread may replace it in the meantime
        if kept[0] != number:
            first = number * self._length
            last = min(first + self._length, self._n_times)
            kept = (number, np.asarray(self._compute(first, last), float))
            self._last = kept
            if self._bar is not None:
                self._bar.update(number + 1)
        return kept[1]


def _computed(data, length):
    """Make a source of samples that another process has computed."""
    source = _Source.__new__(_Source)
    source._n_times, source._length = data.shape[1], length
    source._files, source._last, source._bar = (), (None, None), None
    source._compute = lambda start, stop: data[:, start:stop]
    return source


def make_virtual_info(inst, montage, description, trans="fsaverage"):
    """Make the Info of a virtual recording.

    Parameters
    ----------
    inst : Raw | Epochs
        The scalp recording. Its date, subject, line frequency and similar entries are
        kept.
    montage : DigMontage
        The contacts from :func:`mne_neuroflow.make_contacts`.
    description : str
        The provenance from :func:`describe`, for ``info['description']``.
    trans : str | path-like | Transform
        The transform from the recording's head coordinates to the MRI of fsaverage.
        Contacts are in the same head coordinates as the electrodes.

    Returns
    -------
    info : Info
        An Info with one ``'seeg'`` channel per contact, in the order of the montage,
        and without bad channels.

    Notes
    -----
    ``info['highpass']`` and ``info['lowpass']`` are those of the input, although the
    prediction has almost no power outside 0.5-50 Hz. If they differed, MNE-Python would
    refuse ``raw.add_channels([virtual])``.
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
    """Make virtual epochs with all properties of scalp epochs except the signal.

    Parameters
    ----------
    inst : Epochs
        The scalp epochs, without bad ones.
    data : ndarray, shape (n_epochs, n_contacts, n_times)
        Predicted potentials in volts.
    montage : DigMontage
        The contacts.
    description : str
        The provenance.
    trans : str | path-like | Transform
        As for :func:`make_virtual_info`.

    Returns
    -------
    epochs : Epochs
        Epochs with the same events, times, metadata, selection, drop log and
        annotations.

    Notes
    -----
    ``epochs.baseline`` is that of the input. No baseline was subtracted from the
    prediction, which has almost no power outside 0.5-50 Hz.
    """
    first = inst.ch_names[_first_eeg(inst.info)]
    scalp = inst.copy().load_data().pick([first], verbose=False)
    virtual = mne.EpochsArray(
        data,
        _bare_info(montage, inst, trans),
        # Keep the events of the scalp epochs, even repeated or unsorted ones.
        events=np.column_stack([np.arange(len(data)), *np.ones((2, len(data)), int)]),
        tmin=inst.tmin,
        verbose=False,
    )
    epochs = _adopt(scalp, virtual, montage, description)
    # Loaded epochs of any class have the same attributes. This class marks exports.
    epochs.__class__ = EpochsVirtual
    return epochs


def describe(model, model_hash, seed, output):
    """Write the provenance of a virtual recording.

    Parameters
    ----------
    model : str
        The name of the weights.
    model_hash : str
        The SHA-256 of the weights.
    seed : int | None
        The seed of the draws, or ``None`` if the output does not depend on one.
    output : str
        The kind of output.

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


def provenance(inst):
    """Find the text that says that a recording is virtual.

    Parameters
    ----------
    inst : Raw | Epochs | Evoked | Info
        Any recording, or its Info.

    Returns
    -------
    text : str
        The text of :func:`describe`, or the remaining part of it. It is empty if the
        recording is not marked as virtual.
    """
    info = getattr(inst, "info", inst)
    records = [record.get("creator") for record in info["proc_history"]]
    device = (info["device_info"] or {}).get("type") or ""
    annotations = getattr(inst, "annotations", None)
    notes = [] if annotations is None else annotations.description
    events = getattr(inst, "event_id", None) or ()
    for text in (info["description"], *records, device, *notes, *events):
        if _letters(SAYS_SO) in _letters(text or ""):
            return str(text)
    return ""


def _letters(text):
    """Return only the words, because other formats replace blanks and commas."""
    return " ".join(re.findall("[a-z]+", text.lower()))


def _first_eeg(info):
    return mne.pick_types(info, meg=False, eeg=True, exclude=())[0]


def _bare_info(montage, inst, trans):
    """Return an Info with the contacts in the recording's head coordinates."""
    names, rr = contact_positions(montage)
    rr = mne.transforms.apply_trans(
        np.linalg.inv(get_info_to_mri(inst.info, trans)), rr
    )
    info = mne.create_info(names, inst.info["sfreq"], "seeg", verbose=False)
    return info.set_montage(
        mne.channels.make_dig_montage(
            dict(zip(names, rr, strict=True)), coord_frame="head"
        ),
        verbose=False,
    )


def _adopt(scalp, virtual, montage, description):
    """Replace the channel of ``scalp`` by the virtual channels."""
    # Projectors of the scalp EEG do not apply to the contacts. MNE deletes only
    # inactive ones, because it cannot undo active ones. Here they need not be undone.
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
    # Without blanks, which MNE's export to EDF refuses in the name of a device.
    sign(scalp.info, description, f"virtual iEEG, {SAYS_SO}".replace(" ", "_"))
    return scalp


def _annotations_of(raw):
    annotations = raw.annotations.copy()
    if raw.info["meas_date"] is None:
        # Then MNE counts them from the first sample when they are set.
        annotations.onset -= raw.first_time
    return annotations
