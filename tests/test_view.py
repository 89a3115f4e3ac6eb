"""The page to look at: it shows what the draws hold, and needs no network."""

import base64
import json
import re
import zlib
from pathlib import Path

import mne
import numpy as np
import pytest
import xarray

from mne_neuroflow import cli, make_contacts
from mne_neuroflow.head.contacts import contact_positions
from mne_neuroflow.viz import make_view
from mne_neuroflow.viz.view import page as view_page
from mne_neuroflow.viz.view.packing import Pack
from mne_neuroflow.viz.view.summary import SHOWN, summarize

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from chromium import Page, find_chromium

N_DRAWS, SECONDS = 20, 10
NAMES = ["vHL1", "vHL2", "vHR1", "vHR2", "vAL1"]
POINTS = 1e-3 * np.array(
    [[-26, -20, -18], [-31, -20, -18], [26, -20, -18], [31, -20, -18], [-20, -4, -20]]
)


@pytest.fixture
def montage():
    return mne.channels.make_dig_montage(
        dict(zip(NAMES, POINTS, strict=True)), coord_frame="mni_tal"
    )


@pytest.fixture
def draws():
    """More power on the left in all draws; spikes in the eighth second of 15 of 20.

    The first contact has 20 µV at 10 Hz, of another phase in each draw, beside noise
    of 1 µV.
    """
    rng = np.random.default_rng(0)
    times = np.arange(SECONDS * 128) / 128
    values = rng.standard_normal((N_DRAWS, len(NAMES), len(times)))
    phases = rng.uniform(0, 2 * np.pi, (N_DRAWS, 1))
    values[:, 0] += 20 * np.sin(20 * np.pi * times + phases)
    values[:15, 4] += 60 * np.exp(-(((times - 7.3) / 0.02) ** 2))
    structures = ["hippocampus"] * 4 + ["amygdala"]
    coords = dict(channel=NAMES, time=times, structure=("channel", structures))
    return xarray.DataArray(
        (1e-6 * values).astype(np.float32),
        coords,
        ("draw", "channel", "time"),
        attrs={"description": "for tests"},
    )


@pytest.fixture
def known_view(raw, montage, draws, small_model, monkeypatch):
    """A page of these draws."""
    monkeypatch.setattr(view_page, "_draw", lambda *args: draws)
    raw.set_annotations(mne.Annotations([2.0], [1.0], ["<i>eyes</i></script>"]))
    return make_view(
        raw, contacts=montage, n_draws=N_DRAWS, tmin=0, tmax=SECONDS, random_state=0
    )


def unpack(html):
    """Undo what packing does, as the page does it."""
    content = json.loads(re.search(r'id="content">(.*?)</script>', html, re.S)[1])
    data = zlib.decompress(
        base64.b64decode(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    )
    return content, unpack_arrays(content["arrays"], data)


def unpack_arrays(index, data):
    arrays = {}
    for name, entry in index.items():
        shape = entry["rows"], entry["columns"]
        if entry["kind"] == "f4":
            array = np.frombuffer(data, "<f4", np.prod(shape), entry["offset"])
            arrays[name] = array.reshape(shape)
            continue
        steps = np.frombuffer(data, np.uint8, np.prod(shape), entry["offset"])
        steps = np.cumsum(steps.reshape(shape), axis=1, dtype=np.uint8)
        arrays[name] = steps.view(np.int8) if entry["kind"] == "i1" else steps
    for name, entry in index.items():
        if "block" in entry:
            scales = np.repeat(arrays[f"{name}/scales"], entry["block"], axis=1)
            arrays[name] = arrays[name] * scales
    return arrays


def test_packed_traces_are_within_a_step():
    """Half of a 63rd of each second's maximum, also beside a 1000 times larger second.

    Seen to fail with one scale for all seconds, and with arrays that are not aligned.
    """
    data = np.random.default_rng(0).standard_normal((3, 1280))
    data[1, 128:256] *= 1000
    data[2, 256:384] = 0
    pack = Pack()
    pack.add("odd", np.zeros((1, 3), np.uint8))  # what follows must be aligned
    pack.add_traces("x", data, 128)
    assert all(entry["offset"] % 4 == 0 for entry in pack.index.values())
    content = zlib.decompress(base64.b64decode(pack.text()))
    found = unpack_arrays(pack.index, content)["x"]
    peak = np.abs(data.reshape(3, -1, 128)).max(axis=2).repeat(128, axis=1)
    assert (np.abs(found - data) <= peak * (0.5 / 63 + 1e-6)).all()


def test_what_a_summary_holds(draws, montage):
    """Against what the draws were made of.

    Power of a sine of 20 µV: 10 log10(200) = 23.0 dB, to 0.2 dB, as noise adds. Seen to
    fail with the power of the mean of draws, with sides exchanged, with the interval
    of each fourth sample, and with spikes counted where any draw has one.
    """
    sides = np.sign(POINTS[:, 0])
    found = summarize(draws, sides)
    alpha = SHOWN.index("alpha")
    middle, low, high = found.power[alpha]
    assert middle[0, 2:-2] == pytest.approx(23.0, abs=0.2)
    assert (low <= middle).all() and (middle <= high).all()
    assert (found.left[alpha, :4] == 1).all() and np.isnan(found.left[:, 4]).all()
    exchanged = summarize(draws, -sides)
    assert (exchanged.left[alpha, :4] == 0).all()
    assert found.spikes[4, 7] == 0.75 and np.delete(found.spikes[4], 7).max() < 0.2
    # Of 20 draws the 5 % quantile is a twentieth of the way from the first to the next.
    ordered = np.sort(1e6 * draws.values.astype(float), axis=0)
    low = 0.95 * ordered[0] + 0.05 * ordered[1]
    high = 0.95 * ordered[-1] + 0.05 * ordered[-2]
    assert found.low == pytest.approx(low.reshape(5, -1, 4).min(axis=2), abs=1e-3)
    assert found.high == pytest.approx(high.reshape(5, -1, 4).max(axis=2), abs=1e-3)
    assert found.freqs[found.spectrum[0, 0].argmax()] == 10


def test_the_page_holds_the_draws(known_view, draws, raw, montage):
    """Traces, intervals, scalp, annotations and what is known of contacts."""
    content, arrays = unpack(known_view.html)
    first = 1e6 * draws.values[0]
    peak = np.abs(first.reshape(5, -1, 128)).max(axis=2).repeat(128, axis=1)
    assert (np.abs(arrays["contacts/draw"] - first) <= 0.01 * peak).all()
    bipolar = first[[0, 2]] - first[[1, 3]]
    peak = np.abs(bipolar.reshape(2, -1, 128)).max(axis=2).repeat(128, axis=1)
    assert (np.abs(arrays["bipolar/draw"] - bipolar) <= 0.01 * peak).all()
    sets = content["sets"]
    assert [c["name"] for c in sets["contacts"]["channels"]] == NAMES
    names = [c["name"] for c in sets["bipolar"]["channels"]]
    assert names == ["vHL1-vHL2", "vHR1-vHR2"]
    assert sets["bipolar"]["channels"][0]["position"][0] == pytest.approx(-28.5, abs=1)
    facts = sets["contacts"]["channels"][0]["facts"]
    assert facts["Structures within 3 mm"].startswith("hippocampus")
    assert content["spans"] == [[2.0, 1.0, "<i>eyes</i></script>", False]]
    good = [name for name in raw.ch_names if name not in raw.info["bads"]]
    assert content["scalp"]["names"] == good
    data = 1e6 * raw.get_data(good)
    data -= data.mean(axis=0)
    r = np.corrcoef(arrays["scalp"][3], data[3, : 2 * 128 * SECONDS : 2])[0, 1]
    assert r > 0.97  # the model's band alone


def test_nothing_is_fetched(known_view):
    """No address, no file beside it, and the page itself forbids both."""
    html = known_view.html
    assert "default-src 'none'" in html
    page = re.sub(r'id="(content|data)">.*?</script>', "", html, flags=re.S)
    for word in ("http://", "https://", "src=", "href=", "@import", "url(", "fetch("):
        assert word not in page, word
    assert html.count("</script>") == 3  # also with a name that ends one
    for said in ("not a recording, and not for diagnosis", "for tests", "small"):
        assert said in html, said


@pytest.mark.usefixtures("small_model")
def test_ten_minutes_of_thirty_contacts(make_raw):
    """At most 15 MB with 64 electrodes, from a minute of noise without structure."""
    names = mne.channels.make_standard_montage("biosemi64").ch_names
    raw = make_raw(60.0, 128.0, names, montage=False)
    raw.set_montage("biosemi64", verbose=False)
    view = make_view(
        raw, contacts="mtl-core", n_draws=2, random_state=0, on_mismatch="ignore"
    )
    content, arrays = unpack(view.html)
    assert len(content["scalp"]["names"]) == 64 and len(arrays["contacts/draw"]) == 30
    assert 10 * len(view.html.encode()) < 15e6


def test_electrodes_are_thinned_out_evenly():
    rng = np.random.default_rng(0)
    places = rng.standard_normal((256, 3))
    places *= 0.09 / np.linalg.norm(places, axis=1, keepdims=True)
    shown = view_page._evenly(places, 64)
    assert len(set(shown)) == 64 and (np.diff(shown) > 0).all()
    apart = np.linalg.norm(places[shown][:, None] - places[shown], axis=2)
    nearest = np.sort(apart, axis=1)[:, 1]
    assert nearest.min() > 0.015  # 64 on this sphere: 25 mm from each other
    assert (view_page._evenly(places[:10], 64) == np.arange(10)).all()


@pytest.mark.usefixtures("small_model")
def test_what_cannot_be_shown(raw, epochs, montage, tmp_path):
    with pytest.raises(TypeError, match="make_report"):
        make_view(epochs, contacts=montage)
    with pytest.raises(ValueError, match="'tmin' and 'tmax'.* 5 s or more .* 2 to 4"):
        make_view(raw, contacts=montage, tmin=2, tmax=4)
    view = view_page.View("<html></html>")
    with pytest.raises(ValueError, match="end with .html"):
        view.save(tmp_path / "view.pdf")
    fname = view.save(tmp_path / "view.html")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        view.save(fname)


@pytest.mark.usefixtures("small_model")
def test_contacts_without_shafts_and_time_without_scalp(raw):
    """Points have no shafts; the middle of a long recording; bad time is marked."""
    raw.set_annotations(mne.Annotations([3.0], [2.0], ["BAD_x"]))
    view = make_view(raw, contacts=POINTS[[0, 2]], n_draws=2, random_state=0)
    content, _ = unpack(view.html)
    assert content["sets"]["bipolar"]["refused"].startswith("No bipolar derivation")
    prior = [span for span in content["spans"] if span[3]]
    assert len(prior) == 1 and prior[0][0] == pytest.approx(3.1, abs=0.15)
    assert content["start"] == 0 and content["seconds"] == 12
    long = mne.io.RawArray(np.zeros((1, 128 * 700)), mne.create_info(1, 128, "eeg"))
    assert view_page._stretch(long, None, None) == (50, 600)
    assert view_page._stretch(long, 600.2, None) == (600, 100)


@pytest.mark.usefixtures("small_model")
def test_view_from_the_command_line(raw, tmp_path, capsys):
    scalp, out = tmp_path / "scalp_raw.fif", tmp_path / "view.html"
    raw.save(scalp, verbose=False)
    argv = ["view", scalp, out, "--contacts", "mtl-core", "--draws", 2, "--tmax", 6]
    argv = [str(arg) for arg in [*argv, "--seed", 4]]
    assert cli.main(argv) == 0
    assert capsys.readouterr().out == f"Page: {out}\n"
    content, _ = unpack(out.read_text("utf-8"))
    assert content["seconds"] == 6 and "seed 4" in content["provenance"]["What"]
    assert cli.main(argv) == 2
    assert "use --overwrite" in capsys.readouterr().err
    assert cli.main([*argv[:2], str(tmp_path / "view.png")]) == 2
    assert "must end with .html" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 2


# In a browser -------------------------------------------------------------------------

in_browser = pytest.mark.skipif(find_chromium() is None, reason="needs Chromium")


def state(page):
    """What the page shows, from its address."""
    text = page.evaluate("location.hash.slice(1)")
    return dict(part.split("=") for part in text.split("&"))


def text_of(page, element):
    page.drawn()
    return page.evaluate(f"document.getElementById({element!r}).textContent")


def middle_of(page, element, share=0.5):
    box = page.evaluate(
        f"(() => {{ const b = document.getElementById({element!r})"
        ".getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
    )
    return box[0] + share * box[2], box[1] + 0.5 * box[3]


def set_to(page, element, value):
    page.evaluate(
        f"(() => {{ const s = document.getElementById({element!r}); s.value = "
        f"{value!r}; s.dispatchEvent(new Event('change')); }})()"
    )
    page.drawn()


@pytest.fixture
def shown(known_view, tmp_path):
    with Page(known_view.save(tmp_path / "view.html")) as page:
        ready = "document.documentElement.dataset"
        page.wait_for(f"{ready}.firstPicture || {ready}.trouble")
        yield page
        assert page.evaluate(f"{ready}.trouble ?? ''") == ""
        assert [url.partition(":")[0] for url in page.requests] == ["file"]


@pytest.mark.slow
@in_browser
def test_traces_scroll_and_zoom_in_step(shown):
    """Wheel, drag, buttons and keys; both panels show the same time.

    Seen to fail with a panel that keeps its own time.
    """
    before = state(shown)
    x, y = middle_of(shown, "virtual")
    shown.mouse("mouseWheel", x, y, deltaX=0, deltaY=-400)
    shown.drawn()
    zoomed = state(shown)
    span = float(zoomed["to"]) - float(zoomed["from"])
    assert span < 0.6 * (float(before["to"]) - float(before["from"]))
    shown.drag(x, y, x - 100, y)
    shown.drawn()
    moved = state(shown)
    assert float(moved["from"]) > float(zoomed["from"])
    assert float(moved["to"]) - float(moved["from"]) == pytest.approx(span, abs=0.01)
    shown.click(x, y)
    shown.drawn()
    columns = [
        shown.evaluate(
            f"(() => {{ const c = document.querySelector('#{panel} canvas'); const w = "
            "c.width, d = c.getContext('2d').getImageData(80, 20, w - 160, 1).data;"
            "for (let k = 0; k < d.length; k += 4) if (d[k] > 140 && d[k + 1] < 110 && "
            "d[k + 2] < 110) return k / 4; return -1; })()"
        )
        for panel in ("scalp", "virtual")
    ]
    assert columns[0] > 0 and abs(columns[0] - columns[1]) <= 1
    shown.evaluate("document.getElementById('wider').click()")
    shown.drawn()
    wider = state(shown)
    assert float(wider["to"]) - float(wider["from"]) == pytest.approx(2 * span, rel=0.1)


@pytest.mark.slow
@in_browser
def test_keys_also_after_a_click_on_a_button(shown):
    """Arrows move in time, with Shift the chosen moment, which stays in view.

    Seen to fail when keys were ignored while a button had the focus.
    """
    shown.evaluate("document.getElementById('narrower').focus()")
    shown.press("+")
    shown.drawn()
    before = state(shown)
    shown.press("ArrowRight")
    shown.drawn()
    moved = state(shown)
    assert float(moved["from"]) > float(before["from"])
    assert moved["t"] == before["t"] == "0"
    for _ in range(9):
        shown.press("ArrowRight", shift=True)
    shown.drawn()
    assert state(shown)["t"] == "9"
    assert float(state(shown)["from"]) < 9 < float(state(shown)["to"])
    assert "At 9.00 s" in text_of(shown, "moment")
    shown.press("ArrowLeft", shift=True)
    shown.drawn()
    assert state(shown)["t"] == "8"
    shown.evaluate("document.getElementById('chosen').focus()")
    shown.press("ArrowRight", shift=True)
    shown.drawn()
    assert state(shown)["t"] == "8"


@pytest.mark.slow
@in_browser
def test_what_the_page_says_of_a_contact(shown):
    """Power, side, spikes and labels of the chosen second, contact and band."""
    set_to(shown, "band", "alpha")
    set_to(shown, "chosen", "vHL1")
    said = text_of(shown, "now")
    assert "alpha power 23 dB" in said, said
    assert "Left stronger in 100 % of draws: left" in said
    assert "hippocampus" in text_of(shown, "structure")
    assert "Structures within 3 mm" in text_of(shown, "facts")
    shown.evaluate("location.hash = 't=7.4&contact=vAL1&colour=spikes'")
    shown.wait_for("document.getElementById('chosen').value === 'vAL1'")
    assert "Sharp transient in 75 % of draws" in text_of(shown, "now")
    assert "No contacts of this structure on the other side" in text_of(shown, "now")
    assert "sharp transient" in text_of(shown, "key")
    set_to(shown, "colour", "side")
    assert "not clear" in text_of(shown, "key")
    set_to(shown, "derivation", "bipolar")
    assert state(shown)["contact"] == "vHL1-vHL2"
    set_to(shown, "colour", "observability")
    assert "single contacts" in text_of(shown, "key")
    assert "eyes" not in text_of(shown, "moment")
    shown.evaluate("location.hash = 't=2.5'")
    shown.wait_for("document.getElementById('moment').textContent.includes('2.50')")
    assert "<i>eyes</i></script>" in text_of(shown, "moment")


@pytest.mark.slow
@in_browser
def test_a_click_on_the_brain_chooses_a_contact(shown):
    """From the left: where the front is on the left, and 190 mm fill the width."""
    shown.evaluate("document.querySelector('[data-view=left]').click()")
    shown.drawn()
    x, y = middle_of(shown, "brain")
    size = shown.evaluate(
        "[document.getElementById('brain').clientWidth, "
        "document.getElementById('brain').clientHeight]"
    )
    scale = min(size[0] / 190, size[1] / 182)
    place = 1e3 * POINTS[4]
    shown.click(x - scale * (place[1] + 18), y - scale * (place[2] - 12))
    shown.drawn()
    assert state(shown)["contact"] == "vAL1"
    shown.drag(x - 100, y - 60, x + 60, y - 90)
    shown.drawn()
    assert float(state(shown)["yaw"]) == pytest.approx(-170, abs=1)
    assert state(shown)["contact"] == "vAL1"


@pytest.mark.slow
@in_browser
@pytest.mark.parametrize("width", [1300, 800])
def test_the_warning_stays(known_view, tmp_path, width):
    """It is at the top of the window wherever the page is scrolled to; nothing is
    wider than the window.
    """
    with Page(known_view.save(tmp_path / "view.html"), width, 700) as page:
        page.wait_for("document.documentElement.dataset.firstPicture")
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.drawn()
        top, height = page.evaluate(
            "(() => { const h = document.querySelector('header'), "
            "b = h.getBoundingClientRect(); return [b.top, b.height]; })()"
        )
        assert page.evaluate("window.scrollY") > 0
        assert top == 0 and height > 20
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_implant_has_thirty_contacts():
    """The screens for which sizes are given."""
    assert len(contact_positions(make_contacts("mtl-core"))[0]) == 30
