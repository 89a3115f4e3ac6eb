"""What is new: towncrier's draft of the fragments in doc/changes, and past releases."""

import subprocess
import sys
from pathlib import Path


def setup(app):
    """Put the page together before anything is read."""
    app.connect("config-inited", _write)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _write(app, config):
    changes = Path(app.confdir) / "changes"
    parts = []
    if list(changes.glob("dev/*.rst")):  # there are none just after a release
        parts.append(_draft(Path(app.confdir).parent, config.release))
    released = sorted(changes.glob("v*.rst"), key=_version, reverse=True)
    parts += [fname.read_text(encoding="utf-8") for fname in released]
    folder = Path(app.confdir) / "_generated"
    folder.mkdir(exist_ok=True)
    (folder / "news.rst").write_text("\n\n".join(parts), encoding="utf-8")


def _draft(root, release):
    command = [sys.executable, "-m", "towncrier", "build", "--draft"]
    command += ["--dir", root, "--config", root / "doc/changes/towncrier.toml"]
    command += ["--version", release, "--date", "not released yet"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _version(fname):
    """Numbers of a version, to sort by: v0.10.0.rst comes after v0.9.1.rst."""
    return [int(number) for number in fname.stem.removeprefix("v").split(".")]
