"""What is new, put together by towncrier from the fragments in doc/changes."""

import subprocess
import sys
from pathlib import Path


def setup(app):
    """Put the fragments together before anything is read."""
    app.connect("config-inited", _draft)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _draft(app, config):
    root = Path(app.confdir).parent
    command = [sys.executable, "-m", "towncrier", "build", "--draft"]
    command += ["--dir", root, "--config", root / "doc/changes/towncrier.toml"]
    command += ["--version", config.release, "--date", "not released yet"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    folder = Path(app.confdir) / "_generated"
    folder.mkdir(exist_ok=True)
    (folder / "unreleased.rst").write_text(text, encoding="utf-8")
