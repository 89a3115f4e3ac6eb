"""The tool that builds the shipped implants."""

import importlib.util
import shutil
import sys
import tarfile
from pathlib import Path

import pytest

from mne_neuroflow.head.contacts import IMPLANTS

ROOT = Path(__file__).parents[1]
TOOL = ROOT / "tools" / "build_implants.py"
if not TOOL.is_file():
    pytest.skip("needs the files of the repository", allow_module_level=True)


def test_table_is_built_and_keeps_what_was_added(tmp_path, monkeypatch, capsys):
    """The same bytes again, and then an implant that was added by hand.

    Seen to fail when the tool writes its own implants alone.
    """
    with tarfile.open(ROOT / "tests" / "data" / "ds004752-side-cars.tar.xz") as archive:
        archive.extractall(tmp_path / "ds004752", filter="data")
    spec = importlib.util.spec_from_file_location("build_implants", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    table = Path(shutil.copy(IMPLANTS, tmp_path))
    mine = b"mine,A1,30.00,-20.00,-15.00\nmine,A2,35.00,-20.00,-15.00\n"
    with table.open("ab") as fid:
        fid.write(mine)
    monkeypatch.setattr(tool, "IMPLANTS", table)
    monkeypatch.setattr(sys, "argv", ["build_implants.py", str(tmp_path / "ds004752")])
    tool.main()
    assert table.read_bytes() == IMPLANTS.read_bytes() + mine
    assert "mine 2 contacts, outside the inner skull: []" in capsys.readouterr().out
