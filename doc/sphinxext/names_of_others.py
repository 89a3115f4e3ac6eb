"""Links into the documentation of other projects, from a list that ships here.

Sphinx would download each project's inventory, but a build must not need the network.
"""

import zlib
from pathlib import Path

_HEADER = """\
# Sphinx inventory version 2
# Project: {project}
# Version:
# The remainder of this file is compressed using zlib.
"""


def setup(app):
    """Write the inventories before intersphinx looks at its configuration."""
    app.connect("config-inited", _write_inventories, priority=100)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _write_inventories(app, config):
    folder = Path(app.confdir) / "_generated"
    folder.mkdir(exist_ok=True)
    mapping = {}
    listed = Path(app.confdir) / "names_of_others.txt"
    for block in listed.read_text(encoding="utf-8").strip().split("\n\n"):
        (project, address), *names = (line.split() for line in block.splitlines())
        # '$' at the end of a place stands for the name, also in Sphinx's own format.
        entries = [f"{name} {kind} 1 {place} -\n" for kind, name, place in names]
        text = _HEADER.format(project=project).encode()
        inventory = folder / f"{project}.inv"
        inventory.write_bytes(text + zlib.compress("".join(entries).encode()))
        mapping[project] = (address, str(inventory))
    config.intersphinx_mapping = mapping
