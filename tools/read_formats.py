"""Make the table of the page "Will it read my recording?".

    python tools/read_formats.py doc/explanations/formats.csv --packages FOLDER

Writes ten seconds of the bundled recording in every format that the installed packages
can write, or that is simple enough to be written here, opens each file as a user would,
and predicts from it. FOLDER contains unpacked source packages with recordings that
others have made: ``epilepsy2bids`` has two seconds each of four clinical datasets,
``eeglabio`` has a recording of MEG and EEG (``pip download --no-deps --no-binary :all:
NAME``). Formats that nobody can write are not in the table.
"""

import argparse
import collections
import csv
import re
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path

import mne
import numpy as np

import mne_neuroflow
from mne_neuroflow.datasets import load_demo

POINTS = [[-0.025, -0.02, -0.018], [0.025, -0.02, -0.018]]


def bare(raw):
    """Keep only names and samples, as formats without positions do."""
    info = mne.create_info(raw.ch_names, raw.info["sfreq"], "eeg")
    return mne.io.RawArray(raw.get_data(), info, verbose=False)


def write_all(raw, folder):
    """Yield what was written: format, file and reader."""
    read = mne.io.read_raw
    for ending, name in (("edf", "EDF+"), ("bdf", "BDF+")):
        file = folder / f"a.{ending}"
        mne.export.export_raw(file, bare(raw), verbose="error")
        yield name, file, read
    file = folder / "a.vhdr"
    mne.export.export_raw(file, bare(raw), verbose="error")
    yield "BrainVision", file, read
    file = folder / "a.set"
    mne.export.export_raw(file, raw, verbose="error")
    yield "EEGLAB, continuous", file, read
    file = folder / "b.set"
    mne.export.export_raw(file, bare(raw), verbose="error")
    yield "EEGLAB, without positions", file, read
    epochs = mne.make_fixed_length_epochs(raw, 2.0, preload=True, verbose="error")
    epochs.export(folder / "c.set", verbose="error")
    yield "EEGLAB, epochs", folder / "c.set", mne.read_epochs_eeglab
    raw.save(folder / "a_raw.fif", verbose="error")
    yield "FIF", folder / "a_raw.fif", read
    raw.save(folder / "b_raw.fif", split_size="2MB", verbose="error")
    yield "FIF, split", folder / "b_raw.fif", read
    epochs.save(folder / "a-epo.fif", verbose="error")
    yield "FIF, epochs", folder / "a-epo.fif", mne.read_epochs
    yield "EDF+D, with a gap of a minute", write_with_gap(folder / "a.edf"), read
    yield "eXimia", write_eximia(raw, folder / "a.nxe"), read
    yield "Persyst", write_persyst(raw, folder / "a.lay"), read
    yield "GDF 1", write_gdf(raw, folder / "a.gdf"), read
    yield "Neuroscan .cnt", write_cnt(raw, folder / "a.cnt"), read_cnt
    yield (
        "Neuroscan .cnt, template positions",
        folder / "a.cnt",
        lambda file, verbose: read_cnt(file, verbose).set_montage("fsaverage_1005"),
    )
    yield "Nicolet", write_nicolet(raw, folder / "a.data"), read_nicolet
    yield "EGI simple binary", write_egi(raw, folder / "a.raw"), mne.io.read_raw_egi


def read_cnt(file, verbose):
    """Read without a date, as most files have it."""
    return mne.io.read_raw_cnt(file, data_format="int32", verbose=verbose)


def read_nicolet(file, verbose):
    """Read all channels as EEG."""
    return mne.io.read_raw_nicolet(file, "eeg", verbose=verbose)


def write_gdf(raw, gdf):
    """Write the header of GDF 1.25 and 16-bit samples of 0.1 microvolts."""
    data, n = np.round(raw.get_data() * 1e7).astype("<i2"), len(raw.ch_names)
    n_record = round(raw.info["sfreq"])
    data = data[:, : data.shape[1] // n_record * n_record]
    records = data.reshape(n, -1, n_record).swapaxes(0, 1)
    fixed = b"GDF 1.25" + b"x x".ljust(80) + b"".ljust(80) + b"2020010110000000"
    fixed += np.array([256 + 256 * n], "<i8").tobytes() + bytes(24 + 20)
    fixed += np.array([len(records)], "<i8").tobytes()
    fixed += np.array([1, 1, n], "<u4").tobytes()
    fields = [b"".join(name.encode().ljust(16) for name in raw.ch_names), bytes(80 * n)]
    fields += [b"uV".ljust(8) * n]
    fields += [np.full(n, value, "<f8").tobytes() for value in (-3276.8, 3276.7)]
    fields += [np.full(n, value, "<i8").tobytes() for value in (-32768, 32767)]
    fields += [b"".ljust(80) * n, np.full(n, n_record, "<i4").tobytes()]
    fields += [np.full(n, 3, "<i4").tobytes(), bytes(32 * n)]
    gdf.write_bytes(fixed + b"".join(fields) + records.tobytes() + bytes(8))
    return gdf


def write_cnt(raw, cnt):
    """Write a header with positions in the plane, and 32-bit samples of 0.01 uV."""
    samples = np.round(raw.get_data().T * 1e8).astype("<i4")
    n_samples, n = samples.shape
    header = bytearray(900 + 75 * n)
    header[0:12] = b"Version 3.0\0"
    header[225:247] = b"01/02/2010:00:00".ljust(22, b"\0")
    header[370:372] = np.array([n], "<u2").tobytes()
    header[376:378] = np.array([raw.info["sfreq"]], "<u2").tobytes()
    header[864:868] = np.array([n_samples], "<u4").tobytes()
    header[886:890] = np.array([len(header) + samples.nbytes], "<i4").tobytes()
    for k, ch in enumerate(raw.info["chs"]):
        at = 900 + 75 * k
        header[at : at + 10] = ch["ch_name"].encode().ljust(10, b"\0")
        plane = ch["loc"][:2] * [1, -1]
        header[at + 19 : at + 27] = plane.astype("<f4").tobytes()
        header[at + 59 : at + 63] = np.array([1], "<f4").tobytes()
        header[at + 71 : at + 75] = np.array([2.048], "<f4").tobytes()
    cnt.write_bytes(bytes(header) + samples.tobytes() + b"\x01" + bytes(8))
    return cnt


def write_nicolet(raw, data):
    """Write a header in text and 16-bit samples of 0.1 microvolts."""
    samples = np.round(raw.get_data().T * 1e7).astype("<i2")
    data.write_bytes(samples.tobytes())
    lines = ["start_ts=2020-01-01 10:00:00.000", f"num_samples={len(samples)}"]
    lines += [f"sample_freq={raw.info['sfreq']:.0f}", "conversion_factor=0.1"]
    lines += [f"num_channels={samples.shape[1]}", "rec_id=1", "adm_id=1", "pat_id=1"]
    lines += [f"elec_names=[{','.join(raw.ch_names)}]", "duration_in_sec=10"]
    data.with_suffix(".head").write_text("\n".join(lines) + "\n")
    return data


def write_egi(raw, file):
    """Write a header and single-precision samples in microvolts, without events."""
    samples = (raw.get_data().T * 1e6).astype(">f4")
    header = np.array([4], ">i4").tobytes()
    header += np.array([2020, 1, 1, 10, 0, 0], ">i2").tobytes() + bytes(4)
    header += np.array([raw.info["sfreq"], samples.shape[1], 1, 0, 0], ">i2").tobytes()
    header += np.array([len(samples)], ">i4").tobytes() + bytes(2)
    file.write_bytes(header + samples.tobytes())
    return file


def write_with_gap(edf):
    """Move the second half of an EDF+ file by a minute: discontinuous EDF+."""
    data = bytearray(edf.read_bytes())
    at = data.index(b"EDF+C", 192)
    data[at : at + 5] = b"EDF+D"
    for second in range(9, 4, -1):
        at = data.rindex(b"+%d\x14\x14" % second)
        later = b"+%d\x14\x14" % (second + 60)
        data[at : at + len(later)] = later
    file = edf.with_name("gap.edf")
    file.write_bytes(data)
    return file


def write_persyst(raw, lay):
    """Write a layout and 16-bit samples of 0.1 microvolts."""
    samples = np.round(raw.get_data().T * 1e7).astype("<i2")
    lay.with_suffix(".dat").write_bytes(samples.tobytes())
    names = [f"{name}-Ref={k}" for k, name in enumerate(raw.ch_names, 1)]
    lines = ["[FileInfo]", f"File={lay.stem}.dat", "FileType=Interleaved"]
    lines += [f"SamplingRate={raw.info['sfreq']:.0f}", "HeaderLength=0"]
    lines += ["Calibration=0.1", f"WaveformCount={len(names)}", "DataType=0"]
    lines += ["[ChannelMap]", *names, "[Comments]", "[Patient]", "TestDate=01/01/2020"]
    lines += [
        "TestTime=10:00:00",
        "BirthDate=01/01/1990",
        "Sex=",
        "Hand=",
        "[SampleTimes]",
        "0=36000.000",
    ]
    lay.write_text("\n".join(lines) + "\n")
    return lay


def write_eximia(raw, nxe):
    """Write 16-bit samples, whose channels, rate and steps are always the same."""
    raw = raw.copy().resample(1450)
    nxe.write_bytes(bytes(2 * 64))
    names = mne.io.read_raw_eximia(nxe).ch_names
    samples = np.zeros((raw.n_times, len(names)), "<i2")
    for k, name in enumerate(names):
        if name in raw.ch_names:
            samples[:, k] = np.round(raw.get_data(name)[0] * 1e6 / 0.07629510948)
    nxe.write_bytes(samples.tobytes())
    return nxe


def write_mff(mff):
    """Write a simulated recording of a net, with mffpy."""
    from mffpy.bin_writer import BinWriter
    from mffpy.writer import Writer

    net = mne.channels.make_standard_montage("GSN-HydroCel-129")
    raw, _ = mne_neuroflow.simulate_pair(net, POINTS, 10, random_state=0)
    samples = raw.get_data() * 1e6
    signals = BinWriter(sampling_rate=int(raw.info["sfreq"]), data_type="EEG")
    signals.add_block(samples.astype("<f4"))
    writer = Writer(str(mff))
    writer.addxml("fileInfo", recordTime=datetime(2020, 1, 1, 10, tzinfo=UTC))
    writer.add_coordinates_and_sensor_layout("HydroCel GSN 128 1.0")
    writer.addbin(signals)
    writer.write()
    return mff


# Files of others in source packages: what they are, and a pattern.
OF_OTHERS = (
    ("EDF, Temple University Hospital", "epilepsy2bids*/tests/aaaaaaac_s001*.edf"),
    ("EDF, Siena", "epilepsy2bids*/tests/PN00*.edf"),
    ("EDF, Leuven", "epilepsy2bids*/tests/P_ID10*.edf"),
    ("EDF, Boston, bipolar", "epilepsy2bids*/tests/chb01*.edf"),
    ("FIF, Neuromag with EEG", "eeglabio*/eeglabio/tests/data/test_raw.fif"),
)


def describe(inst):
    """Say what MNE-Python reads: types, rate, names and positions."""
    types = collections.Counter(inst.get_channel_types())
    counts = ", ".join(f"{n} {ch_type}" for ch_type, n in types.items())
    eeg = mne.pick_types(inst.info, meg=False, eeg=True, exclude=())
    names = ", ".join(inst.ch_names[k] for k in eeg[:3])
    loc = np.array([inst.info["chs"][k]["loc"][:3] for k in eeg]).reshape(-1, 3)
    placed = (np.isfinite(loc).all(axis=1) & loc.any(axis=1)).all() and len(loc)
    where = "with positions" if placed else "without positions"
    return f"{counts}; {inst.info['sfreq']:g} Hz; {names}, ...; {where}"


def try_one(file, read, right=None):
    """Return what was read, outcome, and correlation with the right prediction."""
    inst, likeness = None, ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            inst = read(file, verbose="warning")
            if isinstance(inst, mne.io.BaseRaw):
                inst.crop(0, min(10, inst.times[-1]))
            data = mne_neuroflow.predict_ieeg(
                inst, contacts=POINTS, output="mean", random_state=0
            ).get_data()
            came = "predicted"
        except Exception as err:
            came = f"{type(err).__name__}: {err}"
    came += "".join(f"; warned: {_first(each.message)}" for each in caught)
    if right is not None and came.startswith("predicted"):
        data = np.concatenate(data, axis=-1) if data.ndim == 3 else data
        n = min(data.shape[1], right.shape[1])
        pairs = zip(data, right, strict=True)
        likeness = np.median([np.corrcoef(a[:n], b[:n])[0, 1] for a, b in pairs])
        likeness = f"{likeness:.2f}"
    return "" if inst is None else describe(inst), came, likeness


def _first(message):
    """Return the first sentence of a warning."""
    return re.split(r"(?<=[a-z%)])\. ", str(message))[0]


def main():
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--packages", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    mne.set_log_level("warning")
    raw = load_demo().crop(0, 10, include_tmax=False).load_data()
    right = mne_neuroflow.predict_ieeg(
        raw, contacts=POINTS, output="mean", random_state=0
    ).get_data()
    header = ("Format", "What MNE-Python reads", "What came", "Correlation")
    rows = [header]
    with tempfile.TemporaryDirectory() as folder:
        for name, file, read in write_all(raw, Path(folder)):
            rows.append((name, *try_one(file, read, right)))
            print(rows[-1], flush=True)
        mff = write_mff(Path(folder) / "a.mff")
        rows.append(("EGI .mff, simulated", *try_one(mff, mne.io.read_raw)))
    for name, pattern in OF_OTHERS if options.packages else ():
        file = next(options.packages.glob(pattern))
        rows.append((name, *try_one(file, mne.io.read_raw)))
        print(rows[-1], flush=True)
    with open(options.out, "w", newline="", encoding="utf-8") as fid:
        csv.writer(fid, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
