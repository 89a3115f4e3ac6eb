"""Figures: what is drawn is what the numbers say."""

from unittest import mock

import matplotlib.pyplot as plt
import mne
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.colors import to_rgba
from mne.transforms import apply_trans

from mne_neuroflow import NeuroFlow, cli, make_contacts, sample_ieeg
from mne_neuroflow.head.contacts import get_head_to_mri
from mne_neuroflow.viz import (
    make_report,
    plot_calibration,
    plot_connectivity,
    plot_contacts,
    plot_contacts_3d,
    plot_lateralization,
    plot_spectra,
    plot_virtual,
)
from mne_neuroflow.viz._style import WIDTH, central_intervals
from mne_neuroflow.viz.lateralization import left_minus_right

SFREQ = 128.0
CONTACTS = ["vHL1", "vAL1", "vHR1", "vAR1"]
STRUCTURES = ["hippocampus", "amygdala", "hippocampus", "amygdala"]
POINTS = np.array([[-0.027, -0.02, -0.018], [-0.023, -0.004, -0.022]] * 2) * np.array(
    [[1, 1, 1]] * 2 + [[-1, 1, 1]] * 2
)
STD = 5e-5  # volts


def _montage():
    positions = dict(zip(CONTACTS, POINTS, strict=True))
    montage = mne.channels.make_dig_montage(positions, coord_frame="mni_tal")
    return montage.add_mni_fiducials()


def _draws(data, start=0.0):
    """Label draws of shape (n_draws, n_channels, n_times)."""
    coords = {
        "channel": CONTACTS,
        "time": start + np.arange(data.shape[-1]) / SFREQ,
        "structure": ("channel", STRUCTURES),
        "observability": ("channel", [0.1, 0.2, 0.3, 0.4]),
    }
    return xr.DataArray(data, coords, ("draw", "channel", "time"))


@pytest.fixture
def white():
    """Twenty draws of 8 s of white noise, from 2 s on."""
    rng = np.random.default_rng(0)
    return _draws(STD * rng.standard_normal((20, 4, int(8 * SFREQ))), start=2.0)


def _raw(data, sfreq=SFREQ, names=CONTACTS):
    info = mne.create_info(list(names), sfreq, "seeg")
    return mne.io.RawArray(data, info, verbose=False)


# Traces -------------------------------------------------------------------------------


def test_traces(white):
    """Rows by structure, microvolts, the first draw, intervals that hold their share.

    Seen to catch: volts; the last draw; rows in the order of the draws; an interval
    of 70 for 90 %.
    """
    fig = plot_virtual(white, show=False)
    assert "predicted from scalp EEG, not recorded" in fig.get_suptitle()
    titles = [ax.get_title(loc="left") for ax in fig.axes]
    assert titles == ["hippocampus", "", "amygdala", ""]
    labels = [ax.texts[0].get_text() for ax in fig.axes]
    assert labels[0] == "vHL1\nobservability 0.10"
    assert [label.split("\n")[0] for label in labels] == [
        CONTACTS[k] for k in (0, 2, 1, 3)
    ]
    (line,) = fig.axes[1].lines
    np.testing.assert_allclose(line.get_ydata(), 1e6 * white.values[0, 2])
    np.testing.assert_allclose(line.get_xdata(), white["time"])
    for band, share in zip(fig.axes[1].collections, (0.9, 0.5), strict=True):
        low, high = (end[0] for end in _ends(band))
        first = 1e6 * white.values[:, 2, 0]
        inside = ((first > low) & (first < high)).mean()
        assert inside == pytest.approx(share, abs=0.1)


def _ends(band):
    """Lower and upper curve of what fill_between has drawn."""
    x, y = band.get_paths()[0].vertices.T
    curves = pd.DataFrame({"x": x, "y": y}).groupby("x")["y"]
    return curves.min().values, curves.max().values


def test_traces_beside_another_recording(white):
    """Its own rate and channels, the same time axis.

    Seen to catch: the other recording shifted to the start of the draws.
    """
    data = np.arange(2 * int(20 * SFREQ)) * np.ones((2, 1)) * 1e-6
    other = _raw(data, 2 * SFREQ, ["vAR1", "vHL1"])
    fig = plot_virtual(white, {"recorded": other}, show=False)
    drawn = [[line.get_label() for line in ax.lines] for ax in fig.axes]
    assert [("recorded" in labels) for labels in drawn] == [True, False, False, True]
    line = fig.axes[0].lines[1]
    np.testing.assert_allclose(line.get_xdata()[[0, -1]], white["time"][[0, -1]])
    np.testing.assert_allclose(line.get_ydata(), line.get_xdata() * 2 * SFREQ)
    assert [text.get_text() for text in fig.legends[0].texts] == [
        "90 % of draws",
        "50 % of draws",
        "one draw",
        "recorded",
    ]


# Contacts -----------------------------------------------------------------------------


def test_contacts_lie_where_they_are():
    """Millimetres on the right axes, lateral views of one side, values by name.

    Seen to catch: metres; a Series taken in its own order; both sides in one view.
    """
    values = pd.Series({"vAR1": 4.0, "vHR1": 3.0, "vAL1": 2.0, "vHL1": 1.0})
    fig = plot_contacts(_montage(), values, label="Spikes per minute", show=False)
    left, behind, right, above, bar = fig.axes
    assert bar.get_xlabel() == "Spikes per minute"
    assert bar.get_xlim() == (1.0, 4.0)
    millimetres = 1e3 * POINTS
    for ax, axes, shown in (
        (left, (1, 2), [0, 1]),
        (behind, (0, 2), [0, 1, 2, 3]),
        (right, (1, 2), [2, 3]),
        (above, (0, 1), [0, 1, 2, 3]),
    ):
        marks = ax.collections[-1]
        got = {tuple(p): tuple(c) for p, c in zip(*_marks(marks), strict=True)}
        wanted = {
            tuple(np.round(millimetres[k][list(axes)], 6)): tuple(
                np.round(plt.get_cmap("viridis")(k / 3), 6)
            )
            for k in shown
        }
        assert got == wanted
        assert len(marks.get_offsets()) == len(shown)
        assert ax.get_xlabel() == f"{'xyz'[axes[0]]} (mm)"
    assert left.get_xlim()[0] > left.get_xlim()[1]  # the front is on the left


def _marks(marks):
    return np.round(marks.get_offsets().data, 6), np.round(marks.get_facecolors(), 6)


def test_differences_are_coloured_around_zero():
    """Seen to catch: a scale from the smallest to the largest value."""
    values = {"vHL1": -1.0, "vAL1": 4.0, "vHR1": np.nan}
    fig = plot_contacts(_montage(), values, show=False)
    assert fig.axes[-1].get_xlim() == (-4.0, 4.0)
    faces = fig.axes[2].collections[-1].get_facecolors()
    np.testing.assert_array_equal(faces[:, 3], 0)  # rings: nan and no value
    edges = fig.axes[2].collections[-1].get_edgecolors()
    np.testing.assert_allclose(edges, [to_rgba("0.4")] * 2)  # seen on the grey below


def test_one_value_has_the_colour_that_the_bar_gives_it():
    """Seen to catch: contacts at the lower end, while their value is in the middle."""
    fig = plot_contacts(_montage(), [2.0] * 4, show=False)
    low, high = fig.axes[-1].get_xlim()
    expected = plt.get_cmap("viridis")((2.0 - low) / (high - low))
    np.testing.assert_allclose(
        fig.axes[1].collections[-1].get_facecolors()[0], expected
    )


def test_contacts_by_structure():
    fig = plot_contacts("mtl-core", show=False)
    (legend,) = fig.legends
    names = {text.get_text() for text in legend.texts}
    assert {"hippocampus", "amygdala"} <= names


def test_contacts_in_3d(monkeypatch):
    """The scene gets positions in the template's head, and colours by contact.

    Seen to catch: the transform inverted, and contacts without a number left
    transparent, as on paper where a ring remains.
    """
    calls = []
    figure = mock.MagicMock()

    def plot_alignment(info, **options):
        calls.append((info, options))
        return figure

    monkeypatch.setattr(mne.viz, "plot_alignment", plot_alignment)
    monkeypatch.setattr(mne.viz, "set_3d_view", mock.MagicMock())
    monkeypatch.setattr(mne.viz, "set_3d_title", title := mock.MagicMock())
    plot_contacts_3d(_montage(), [1.0, 2.0, np.nan, 4.0], label="Power (µV²)")
    ((info, options),) = calls
    head = np.array([ch["loc"][:3] for ch in info["chs"]])
    np.testing.assert_allclose(
        apply_trans(options["trans"]["trans"], head), POINTS, atol=1e-6
    )
    assert (options["trans"].from_str, options["trans"].to_str) == (
        "head",
        "MRI (surface RAS)",
    )
    wanted = plt.get_cmap("viridis")(np.array([0, 1 / 3, 0, 1]))
    wanted[2] = 0.75, 0.75, 0.75, 1
    np.testing.assert_allclose(options["sensor_colors"]["seeg"], wanted)
    scalp, inner_skull = options["bem"]
    assert np.abs(inner_skull["rr"]).max() < np.abs(scalp["rr"]).max() < 0.2
    np.testing.assert_allclose(
        get_head_to_mri("fsaverage"), options["trans"]["trans"], atol=1e-7
    )
    assert "not recorded" in title.call_args.args[1]
    assert "Power (µV²)" in title.call_args.args[1]
    (labels,) = figure.plotter.add_legend.call_args.args
    assert [name.strip() for name, _ in labels] == ["4", "3.25", "2.5", "1.75", "1"]


def test_scene_in_3d():
    """Contacts are seen inside the head, on their own side; where there is a display.

    Seen to catch: contacts mirrored, and the transform of the head inverted.
    """
    pytest.importorskip("pyvistaqt")
    qtpy = pytest.importorskip("qtpy.QtWidgets")
    # Only an empty figure may fail, for want of a display; the scene must not.
    try:
        with mne.viz.use_3d_backend("pyvistaqt"):
            mne.viz.close_3d_figure(mne.viz.create_3d_figure((50, 50)))
    except (ImportError, RuntimeError) as err:
        pytest.skip(f"no 3-D figures here: {err}")
    with mne.viz.use_3d_backend("pyvistaqt"):
        fig = plot_contacts_3d(_montage(), np.sign(POINTS[:, 0]), cmap="bwr")
    # From behind: the right is on the right.
    mne.viz.set_3d_view(fig, azimuth=270, elevation=90, focalpoint=(0, 0, 0))
    for _ in range(20):  # Qt draws when it finds time
        qtpy.QApplication.processEvents()
    picture = fig.plotter.screenshot(return_img=True).astype(int)
    mne.viz.close_3d_figure(fig)
    height, width = picture.shape[:2]
    # A little below the middle of the head, where temporal lobes are.
    red, _, blue = np.moveaxis(picture[height // 2 : 3 * height // 5], -1, 0)
    right = np.flatnonzero((red > blue + 60).any(axis=0))
    left = np.flatnonzero((blue > red + 60).any(axis=0))
    assert left.size and right.size
    assert width * 0.2 < left.min() < left.max() < width / 2
    assert width / 2 < right.min() < right.max() < width * 0.8


# Calibration, spectra, connectivity, lateralization -----------------------------------


def test_calibration():
    """Draws as wide as the truth cover what they promise; half as wide, far less.

    Seen to catch: the level squared; the CRPS in volts; ranks folded at the middle.
    """
    rng = np.random.default_rng(1)
    truth = STD * rng.standard_normal((4, 1280))
    for width, low, high in ((1.0, 88, 92), (0.5, 52, 64)):
        draws = _draws(width * STD * rng.standard_normal((39, 4, 1280)))
        fig = plot_calibration(draws, _raw(truth), show=False)
        coverage, ranks, risk = fig.axes
        share = float(coverage.get_title().split("cover ")[1].split(" ")[0])
        assert low < share < high
        density = ranks.patches[0].get_data().values
        assert density.mean() == pytest.approx(1)
        for edge in density[[0, -1]]:
            assert (edge > 2) if width < 1 else (0.7 < edge < 1.3)
        assert len(coverage.lines) == 2 + len(set(STRUCTURES))
        assert "µV" in risk.get_ylabel()
    # The error of all, in microvolts: below the mean absolute deviation.
    assert 10 < risk.lines[0].get_ydata()[-1] < 0.8 * 1e6 * STD


def test_spectra(white):
    """White noise has 2 σ² / f_s; the mean over contacts is that of decibels.

    To 0.5 dB. Seen to catch: V² for µV²; power averaged before the logarithm, with
    one contact ten times as large as the other.
    """
    white.values[:, 2] *= 10
    other = _raw(white.values[3])
    fig = plot_spectra(white, {"source estimate": other}, show=False)
    level = 10 * np.log10(2 * (1e6 * STD) ** 2 / SFREQ)
    for ax, more in zip(fig.axes, (10, 0), strict=True):
        assert ax.get_title().endswith("(n = 2)")
        one, beside = ax.lines
        assert beside.get_label() == "source estimate"
        for line in (one, beside):
            assert line.get_xdata()[[0, -1]].tolist() == [1, 45]
            assert line.get_ydata().mean() == pytest.approx(level + more, abs=0.5)
    assert fig.get_supylabel() == "Power (dB re 1 µV²/Hz)"


def test_connectivity(white):
    """Contacts that are alike are coherent, at their place in the sorted matrix.

    Seen to catch: the matrix in the order of the draws; two matrices compared in
    different orders.
    """
    white.values[:, 1] = white.values[:, 3]  # both in the amygdala
    fig = plot_connectivity(white, show=False)
    matrix, width = (ax.images[0].get_array() for ax in fig.axes[:2])
    assert matrix[2, 3] == pytest.approx(1)  # after the two in the hippocampus
    assert np.ma.getdata(matrix)[[0, 0, 1], [1, 2, 2]].max() < 0.8
    assert width[2, 3] == pytest.approx(0, abs=1e-6)
    same = white[[5, 5]]
    names = CONTACTS[::-1]
    other = _raw(white.values[5, ::-1], names=names)
    fig = plot_connectivity(same, {"the same": other}, show=False)
    assert fig.axes[2].get_xlabel().endswith("error 0.00")


def test_names_leave_room_for_the_data(white):
    """Seen to catch: names in full, and all names of many contacts."""
    names = [f"Hippocampus antérieur gauche {k}" for k in range(4)]
    fig = plot_connectivity(white.assign_coords(channel=names), show=False)
    fig.draw_without_rendering()
    assert fig.axes[0].get_window_extent().width > 1.5 * fig.dpi  # of 3.5 inches
    assert fig.axes[0].get_yticklabels()[3].get_text() == "Hippoca…gauche 3"
    many = xr.concat([white.isel(channel=[0])] * 20, "channel").isel(draw=[0, 1])
    many = many.drop_vars("structure").assign_coords(
        channel=[f"c{k}" for k in range(20)]
    )
    labels = plot_connectivity(many, show=False).axes[0].get_xticklabels()
    assert [label.get_text() for label in labels] == [f"c{k}" for k in range(0, 20, 2)]


def test_lateralization(white):
    """Twice the amplitude is 6.02 dB, and left is positive.

    To 1 dB. Seen to catch: the sides exchanged; the logarithm of an amplitude.
    """
    white.values[:, 0] *= 2  # left hippocampus
    difference = left_minus_right(white, _montage())
    assert list(difference["structure"].values) == ["hippocampus", "amygdala"]
    median = difference.median("draw").sel(band="broad")
    np.testing.assert_allclose(median, [6.02, 0], atol=1)
    fig = plot_lateralization(white, _montage(), show=False)
    marks = fig.axes[-1].collections[-1]
    faces = marks.get_facecolors()[:, :3]
    assert not np.allclose(faces[0], 1) and np.allclose(faces[1], 1)
    assert marks.get_offsets()[0, 0] == pytest.approx(float(median[0]))


def test_differences_of_sides_are_widened(white):
    """About their median, in every structure and band. Seen to fail without it."""
    wide = left_minus_right(white, _montage())
    with mock.patch("mne_neuroflow.viz.lateralization.widen_sides", lambda x: x):
        plain = left_minus_right(white, _montage())
    np.testing.assert_allclose(wide.std("draw"), 1.5 * plain.std("draw"), rtol=1e-6)
    middle = plain.median("draw")
    np.testing.assert_allclose(wide.median("draw"), middle, atol=1e-9)


def test_intervals_are_those_that_draws_can_give():
    """Of 18 draws the range, which says so; of calibrated ones no false coverage.

    To 4 %, of 11520 samples. Seen to catch: 90 % intervals of whatever there is, which
    of nine draws cover 80 %.
    """
    rng = np.random.default_rng(2)
    values = rng.standard_normal((19, 5))
    (low, high, label), (_, _, narrow) = central_intervals(values)
    assert (label, narrow) == ("90 % of draws", "50 % of draws")
    np.testing.assert_allclose([low, high], [values.min(0), values.max(0)])
    assert central_intervals(values[:18])[0][2] == "range of 18 draws"
    assert [label for *_, label in central_intervals(values[:2])] == [
        "range of 2 draws"
    ]
    assert not central_intervals(values[:1])
    draws = _draws(STD * rng.standard_normal((9, 4, 2880)))
    fig = plot_calibration(draws, STD * rng.standard_normal((4, 2880)), show=False)
    level, share = fig.axes[0].get_title().split(" % intervals cover ")
    assert level == "80" and float(share[:-2]) == pytest.approx(80, abs=4)
    assert fig.axes[0].lines[-1].get_xdata().max() == pytest.approx(80)
    sides = plot_lateralization(draws * [[[9], [9], [1], [1]]], _montage(), show=False)
    faces = sides.axes[-1].collections[-1].get_facecolors()
    np.testing.assert_allclose(faces[:, :3], 1)  # none of them is sure


@pytest.mark.slow
def test_legible_on_paper(white):
    """No wider than a page, no letter below 7 points, nothing beyond the edge.

    Seen to catch: a figure of 9 inches; letters of 6 points; a legend cut off.
    """
    other = {"another one": _raw(white.values[3])}
    long = {"recorded iEEG in a bipolar montage": other["another one"]}
    figures = [
        plot_virtual(white, other, show=False),
        plot_contacts("mtl", show=False),
        plot_contacts(_montage(), [-1, 2, 3, 4], label="Difference (dB)", show=False),
        plot_calibration(white, white.values[3], show=False),
        plot_spectra(white, other, show=False),
        plot_spectra(white[:, :1], long, show=False),  # a narrow figure
        plot_lateralization(white, _montage(), show=False),
        plot_connectivity(white, show=False),
        plot_connectivity(white, other, show=False),
    ]
    for fig in figures:
        width, height = fig.get_size_inches()
        assert width <= WIDTH == 7.1
        fig.draw_without_rendering()
        needs = fig.get_tightbbox()
        assert needs.x0 > -0.02 and needs.x1 < width + 0.02, fig.get_suptitle()
        assert needs.y0 > -0.02 and needs.y1 < height + 0.02, fig.get_suptitle()
        for text in fig.findobj(plt.Text):
            if text.get_text() and text.get_visible():
                assert text.get_fontsize() >= 7, text.get_text()


def test_structures_keep_their_colours(white):
    """Seen to catch: colours in the order of the implant."""
    legend = plot_contacts(_montage(), show=False).legends[0]
    lines = plot_calibration(white, white.values[3], show=False).axes[0].lines
    colours = {line.get_label(): line.get_color() for line in lines}
    others = plot_contacts(POINTS[1:2], show=False).legends[0]
    for key in (legend, others):
        for handle, text in zip(key.legend_handles, key.texts, strict=True):
            assert to_rgba(handle.get_color()) == to_rgba(colours[text.get_text()])


# Errors -------------------------------------------------------------------------------


def test_errors(white):
    epochs = white.expand_dims("epoch", 1)
    one_side = make_contacts(POINTS)
    hole = white.values[0].copy()
    hole[1, 300] = np.nan  # which would make its connectivity zero
    for call, error, said in (
        (lambda: plot_virtual(white.values), TypeError, "draws must be an instance"),
        (lambda: plot_virtual(epochs), ValueError, "isel\\(epoch=0\\)"),
        (lambda: plot_virtual(white[:, 0]), ValueError, "sel\\(channel="),
        (lambda: plot_virtual(white[:, :0]), ValueError, "at least 1 .*'channel': 0"),
        (lambda: plot_virtual(white[..., :1]), ValueError, "2 .time., but got"),
        (lambda: plot_virtual(white.drop_vars("time")), ValueError, "'time', as"),
        (lambda: plot_spectra(white * np.nan), ValueError, "without NaN"),
        (lambda: plot_spectra(white[..., :99]), ValueError, "1 s or more, .* 0.773 s"),
        (lambda: plot_connectivity(white[:, :1]), ValueError, "two contacts"),
        (lambda: plot_connectivity(white[:1]), ValueError, "at least 2 .draw."),
        (lambda: plot_calibration(white[:2], white[0]), ValueError, "at least 3"),
        (lambda: plot_contacts(_montage(), ["a"] * 4), ValueError, "are numbers"),
        (
            lambda: plot_contacts(_montage(), [1, 2, 3, 4], vlim=(4, 1)),
            ValueError,
            "'vlim' parameter",
        ),
        (lambda: plot_virtual(white, [1]), TypeError, "others must be"),
        (lambda: plot_virtual(white, {"x": 1}), TypeError, "an instance of Raw, got"),
        (
            lambda: plot_spectra(
                white, {"x": _raw(white.values[0], names=["a", "b", "c", "d"])}
            ),
            ValueError,
            "none of the channels",
        ),
        (
            lambda: plot_spectra(white, {"x": _raw(hole)}),
            ValueError,
            "'x'. has some in vAL1",
        ),
        (lambda: plot_connectivity(white, {"x": _raw(hole)}), ValueError, "in vAL1"),
        (
            lambda: plot_spectra(white, {"x": _raw(hole[:, :99])}),
            ValueError,
            "of 1 s or more, but others.'x'. has 0.773 s",
        ),
        (lambda: plot_connectivity(white, band="mu"), ValueError, "'band' parameter"),
        (lambda: plot_connectivity(white[..., :200]), ValueError, "two windows"),
        (lambda: plot_calibration(white, white.values[0, :3]), ValueError, "shape"),
        (
            lambda: plot_calibration(white, np.nan * white.values[0]),
            ValueError,
            "finite",
        ),
        (lambda: plot_contacts(_montage(), [1, 2]), ValueError, "4 numbers"),
        (lambda: plot_contacts(_montage(), {"x": 1}), ValueError, "none of them"),
        (lambda: plot_lateralization(white, one_side), ValueError, "vHL1"),
        (
            lambda: plot_lateralization(white[:, :2], _montage()),
            ValueError,
            "both sides",
        ),
    ):
        with pytest.raises(error, match=said):
            call()


# The report ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("small_model")
def test_report(raw, epochs, model_file, tmp_path, monkeypatch):
    """Every part is there, and warnings reach both the reader and the user.

    Seen to catch: warnings that are kept from the user; a figure left open; the
    provenance of the shipped weights for that of a fitted model; observability with
    the channels that the checks have left out; contacts brought to the template
    without the recording's transform; epochs from a file called "in memory".
    """
    raw.crop(0, 5).info["bads"] = ["Fp1"]
    options = dict(contacts=_montage(), n_draws=3, random_state=0)
    raw._data[3] *= 30
    raw._data[10:] = 0
    with pytest.warns(RuntimeWarning, match="times as large as the others"):
        report = make_report(raw, **options)
    assert plt.get_fignums() == []
    html = _written(report, tmp_path)
    with pytest.warns(RuntimeWarning, match="zero or constant"):
        draws = sample_ieeg(raw, 1, contacts=_montage(), tmax=0.1, random_state=0)
    for share in draws["observability"].values:
        assert f"<td>{share:.3f}</td>" in html
    for said in (
        "for research, not a recording, and not for",
        "trained on simulations alone",
        "times as large as the others",
        "Lateralization",
        "Not clear in any structure and band",  # of three draws nothing is
        "Side of the strongest second: not clear",
        "output draws, seed 0",
        "1 bad",
        "Virtual traces",
        "Connectivity",
        "Spectra",
        "Provenance",
        "vHL1",
    ):
        assert said in html, said
    assert html.count("<img") + html.count("<svg") >= 6
    _leave_out_pictures(monkeypatch)
    fitted = NeuroFlow.load(model_file)
    fitted.card = {**fitted.card, "pairs": [{"what": "recalibrated", "sessions": 2}]}
    options["trans"] = _elsewhere()
    options["contacts"] = _in_head(options["trans"])
    epochs.save(tmp_path / "some-epo.fif", verbose=False)
    epochs = mne.read_epochs(tmp_path / "some-epo.fif", verbose=False)
    _move_electrodes(epochs, options["trans"])
    html = _written(make_report(epochs, model=fitted, **options), tmp_path)
    assert "some-epo.fif" in html and "comparisons are clear" in html
    assert "simulations and fitted to recordings" in html
    assert "what: recalibrated, sessions: 2" in html and "model small" in html
    assert f"{len(epochs)} epochs" in html and "-0.500 to 1.500 s" in html


def _elsewhere():
    """Return a transform that is not that of the template."""
    shifted = get_head_to_mri().copy()
    shifted[2, 3] += 0.05  # metres
    return mne.transforms.Transform("head", "mri", shifted)


def _move_electrodes(inst, trans):
    """Put electrodes where the transform brings them to the template again."""
    to_head = np.linalg.inv(trans["trans"]) @ get_head_to_mri()
    for ch in inst.info["chs"]:
        ch["loc"][:3] = apply_trans(to_head, ch["loc"][:3])


def _in_head(trans):
    """Return the contacts in the head coordinates of a recording."""
    points = apply_trans(np.linalg.inv(trans["trans"]), POINTS)
    positions = dict(zip(CONTACTS, points, strict=True))
    return mne.channels.make_dig_montage(positions, coord_frame="head")


def _leave_out_pictures(monkeypatch):
    """Do not draw what has been drawn before: it takes seconds."""

    def add_title(report, fig, title, *, caption):
        report.add_html(caption, title)

    monkeypatch.setattr(mne.Report, "add_figure", add_title)


def _written(report, tmp_path):
    fname = tmp_path / "report.html"
    report.save(fname, open_browser=False, overwrite=True, verbose=False)
    return fname.read_text(encoding="utf-8")


@pytest.mark.usefixtures("small_model")
@pytest.mark.slow
def test_report_from_the_command_line(raw, tmp_path, capsys, monkeypatch):
    """The file says which part was drawn; a second run refuses to replace it."""
    _leave_out_pictures(monkeypatch)
    scalp, out = tmp_path / "scalp_raw.fif", tmp_path / "report.html"
    raw.crop(0, 5).save(scalp, verbose=False)
    argv = ["report", scalp, out, "--contacts", "mtl-core", "--draws", 3]
    argv = [str(arg) for arg in [*argv, "--tmin", 1, "--tmax", 2, "--seed", 4]]
    (tmp_path / "report-1.html").touch()  # another one, not a part of this one
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == f"Page: {out}\n"
    html = out.read_text(encoding="utf-8")
    assert "3 of 1.000 to 2.000 s" in html and "seed 4" in html
    assert "Connectivity needs two windows" in html
    assert cli.main(argv) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert cli.main(["report", str(scalp), str(tmp_path / "report.pdf")]) == 2
    assert "must end with .html" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 3
    monkeypatch.chdir(tmp_path)
    del argv[2]
    assert cli.main(argv) == 0
    assert (tmp_path / "scalp_raw_report.html").stat().st_size > 1000
