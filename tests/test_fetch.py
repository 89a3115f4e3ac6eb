"""Weights by name, over a real HTTP server on the loopback interface."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from mne_neuroflow import _download
from mne_neuroflow.weights import fetch
from mne_neuroflow.weights.fetch import fetch_model

CONTENT = {
    "tiny.safetensors": bytes(range(256)) * 1024,  # four chunks of a download
    "tiny.json": b'{"name": "tiny"}\n',
}
# What went wrong, for the server to play.
TRUNCATED, MISSING, OTHER, LONGER = "truncated", "missing", "other", "longer"


class _Handler(BaseHTTPRequestHandler):
    """Serves CONTENT, with the fault that the server is set to have."""

    def do_GET(self):  # the name that http.server looks for
        server = self.server
        name = self.path.lstrip("/")
        server.requests.append(name)
        body = CONTENT[name]
        if server.fault == MISSING:
            self.send_error(404)
            return
        if server.fault == OTHER:
            body = bytes(len(body))
        self.send_response(200)
        if server.fault != LONGER:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.fault == TRUNCATED:
            body = body[: len(body) // 2]
        if server.fault == LONGER:
            body += b"more"
        if server.meeting is not None:
            server.meeting.wait(timeout=20)
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    """A server on a free port, and what it was asked for."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.fault, server.requests, server.meeting = None, [], None
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """A registry with the model 'tiny', which does not ship with the package."""
    fname = tmp_path / "registry.txt"
    lines = [
        f"tiny {name} {hashlib.sha256(body).hexdigest()} {len(body)}"
        for name, body in CONTENT.items()
    ]
    fname.write_text("# a comment\n\n" + "\n".join(lines) + "\n")
    monkeypatch.setattr(fetch, "_REGISTRY", fname)
    monkeypatch.delenv(fetch.BASE_URL_KEY, raising=False)
    return fname


@pytest.fixture
def folder(tmp_path, registry):
    """The folder that receives the model."""
    return tmp_path / "data" / "mne_neuroflow"


def _assert_whole(folder):
    found = {fname.name: fname.read_bytes() for fname in folder.iterdir()}
    assert found == CONTENT


def _put(folder):
    folder.mkdir(parents=True)
    for name, body in CONTENT.items():
        (folder / name).write_bytes(body)


def test_downloads_once(server, folder):
    """Seen to fail when a good file on disk is downloaded again."""
    fname = fetch_model("tiny", folder.parent, server.url + "/")
    assert fname == folder / "tiny.safetensors"
    _assert_whole(folder)
    assert sorted(server.requests) == sorted(CONTENT)
    assert fetch_model("tiny", folder.parent, server.url) == fname
    assert len(server.requests) == 2
    fetch_model("tiny", folder.parent, server.url, force=True)
    assert len(server.requests) == 4
    _assert_whole(folder)


def test_downloaded_file_may_be_read_by_others(server, folder):
    """Seen to fail with names from tempfile, which only their owner may read."""
    umask = os.umask(0o022)
    try:
        fname = fetch_model("tiny", folder.parent, server.url)
    finally:
        os.umask(umask)
    assert fname.stat().st_mode & 0o777 == 0o644


def test_embedded_comes_first(server, folder, tmp_path, monkeypatch):
    """Seen to fail when the data folder is searched before the package."""
    embedded = tmp_path / "embedded"
    _put(embedded)
    _put(folder)
    monkeypatch.setattr(fetch, "_EMBEDDED", embedded)
    fname = fetch_model("tiny", folder.parent, server.url)
    assert fname == embedded / "tiny.safetensors"
    assert server.requests == []
    fname = fetch_model("tiny", folder.parent, server.url, force=True)
    assert fname == folder / "tiny.safetensors"
    assert len(server.requests) == 2


def test_damaged_embedded_file_is_named(folder, tmp_path, monkeypatch):
    embedded = tmp_path / "embedded"
    _put(embedded)
    monkeypatch.setattr(fetch, "_EMBEDDED", embedded)
    (embedded / "tiny.json").write_bytes(b"{}")
    with pytest.raises(RuntimeError, match=r"tiny\.json.*2 bytes.*Install .* again"):
        fetch_model("tiny", folder.parent)


def test_data_folder_from_config(server, folder, monkeypatch):
    """A copy in the MNE data folder needs no network and no address."""
    _put(folder)
    monkeypatch.setenv("MNE_DATA", str(folder.parent))
    assert fetch_model("tiny") == folder / "tiny.safetensors"


def test_base_url_from_config(server, folder, monkeypatch):
    monkeypatch.setenv(fetch.BASE_URL_KEY, server.url)
    fetch_model("tiny", folder.parent)
    _assert_whole(folder)


def test_missing_data_folder_is_not_made(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("MNE_DATA", str(tmp_path / "unmounted"))
    with pytest.raises(FileNotFoundError, match="unmounted.*MNE_DATA"):
        fetch_model("tiny")
    assert not (tmp_path / "unmounted").exists()


def test_damaged_copy_is_replaced(server, folder, caplog):
    """Seen to fail when only a file's existence is checked."""
    _put(folder)
    weights = folder / "tiny.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    fetch_model("tiny", folder.parent, server.url)
    _assert_whole(folder)
    assert server.requests == ["tiny.safetensors"]


@pytest.mark.parametrize(
    ("fault", "error", "cause"),
    [
        (OTHER, RuntimeError, "sha256 is .* instead of"),
        (LONGER, RuntimeError, "has 262148 bytes instead of 262144"),
        (TRUNCATED, ConnectionError, "broke before the file was whole"),
        (MISSING, ConnectionError, "answered 404"),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_failed_download(server, folder, fault, error, cause, earlier):
    """The error names file, cause and remedy; what was there stays as it was.

    Seen to fail when the download is written under the final name, and (OTHER) when
    the hash is not compared.
    """
    if earlier:
        _put(folder)
    server.fault = fault
    with pytest.raises(error, match=cause) as caught:
        fetch_model("tiny", folder.parent, server.url, force=True)
    for said in ("tiny.safetensors", server.url, "try again later"):
        assert said in str(caught.value)
    if earlier:
        _assert_whole(folder)
    else:
        assert list(folder.iterdir()) == []


def test_failure_after_the_first_file(server, folder):
    """The model is not taken for whole while its card is missing."""
    _put(folder)
    (folder / "tiny.json").unlink()
    server.fault = TRUNCATED
    with pytest.raises(ConnectionError, match=r"tiny\.json"):
        fetch_model("tiny", folder.parent, server.url)
    server.fault = None
    fetch_model("tiny", folder.parent, server.url)
    _assert_whole(folder)


def test_server_down(server, folder):
    server.shutdown()
    server.server_close()
    with pytest.raises(ConnectionError, match="cannot be reached.*MNE_NEUROFLOW_BASE"):
        fetch_model("tiny", folder.parent, server.url)
    assert list(folder.iterdir()) == []


def test_silent_server(server, folder, monkeypatch):
    monkeypatch.setattr(_download, "TIMEOUT", 0.2)
    server.meeting = threading.Barrier(2)  # the second party never comes
    with pytest.raises(ConnectionError, match="silent"):
        fetch_model("tiny", folder.parent, server.url)
    server.meeting.abort()
    assert list(folder.iterdir()) == []


def test_no_address(folder):
    with pytest.raises(RuntimeError, match=r"tiny\.safetensors and tiny\.json") as got:
        fetch_model("tiny", folder.parent)
    assert "MNE_NEUROFLOW_BASE_URL" in str(got.value)
    assert not folder.exists()


@pytest.mark.parametrize("base_url", ["ftp://example.org", "example.org/models", ""])
def test_bad_address(folder, base_url):
    error = RuntimeError if base_url == "" else ValueError
    with pytest.raises(error, match="base_url"):
        fetch_model("tiny", folder.parent, base_url)


def test_unknown_name_lists_the_known(registry):
    with pytest.raises(ValueError, match="'name' parameter.*'tiny'.*got 'mtl-v9'"):
        fetch_model("mtl-v9")


class _FullDisk(pooch.HTTPDownloader):
    """A downloader that meets a full disk half way."""

    def __call__(self, url, output_file, pooch):
        Path(output_file).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk(server, folder, monkeypatch):
    monkeypatch.setattr(pooch, "HTTPDownloader", _FullDisk)
    with pytest.raises(OSError, match="No space left on device.*free some space") as e:
        fetch_model("tiny", folder.parent, server.url)
    assert str(folder / "tiny.safetensors") in str(e.value)
    assert list(folder.iterdir()) == []


@contextmanager
def _ordinary_user():
    """Give up the rights that let the superuser write anywhere."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.skipif(sys.platform == "win32", reason="folders have POSIX permissions")
def test_read_only_folder(server, registry, monkeypatch):
    # Not tmp_path, which other users may not even enter.
    with tempfile.TemporaryDirectory() as top:
        os.chmod(top, 0o755)
        monkeypatch.setattr(fetch, "_REGISTRY", shutil.copy(registry, top))
        monkeypatch.setattr(fetch, "_EMBEDDED", Path(top) / "embedded")
        folder = Path(top) / "mne_neuroflow"
        folder.mkdir()
        folder.chmod(0o555)
        with (
            _ordinary_user(),
            pytest.raises(PermissionError, match="Permission denied.*path") as caught,
        ):
            fetch_model("tiny", top, server.url)
        assert str(folder / "tiny.safetensors") in str(caught.value)
        assert list(folder.iterdir()) == []


_FETCH = """
import sys
from pathlib import Path
from mne_neuroflow.weights import fetch
fetch._REGISTRY = Path(sys.argv[1])
fetch.fetch_model("tiny", sys.argv[2], sys.argv[3], verbose="error")
"""


def test_two_processes_at_once(server, folder, registry):
    """Both are made to download at the same time; both end with a good file.

    Seen to fail when both write under one temporary name.
    """
    server.meeting = threading.Barrier(2)
    command = [sys.executable, "-c", _FETCH, registry, folder.parent, server.url]
    processes = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert sorted(server.requests) == sorted([*CONTENT, *CONTENT])
    _assert_whole(folder)


def test_interruption_leaves_nothing(server, folder, monkeypatch):
    def interrupted(self, url, output_file, pooch):
        Path(output_file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_model("tiny", folder.parent, server.url)
    assert list(folder.iterdir()) == []


def test_progress_bar_follows_verbose(server, folder, capsys):
    fetch_model("tiny", folder.parent, server.url, verbose="error")
    assert capsys.readouterr().err == ""
    fetch_model("tiny", folder.parent, server.url, force=True, verbose="info")
    assert "100%" in capsys.readouterr().err


def test_default_model_ships_whole():
    """Seen to fail with one changed byte in the shipped card."""
    files = fetch._read_registry(fetch._REGISTRY)["mtl-v2"]
    assert fetch._is_embedded(files)
    assert fetch_model().parent == fetch._EMBEDDED
