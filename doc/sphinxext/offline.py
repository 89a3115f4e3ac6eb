"""Pages that a browser can show without a network: a warning where one cannot be."""

import re
from pathlib import Path

from sphinx.util import logging

# What a browser fetches by itself, other than links that a reader may follow.
_FETCHED = re.compile(
    r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"'](?:https?:)?//[^\"']+"
)
_logger = logging.getLogger(__name__)


def setup(app):
    """Look through the pages once they are written."""
    app.connect("build-finished", _look_through)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _look_through(app, exception):
    if exception is not None or app.builder.format != "html":
        return
    for page in sorted(Path(app.outdir).rglob("*.html")):
        for found in _FETCHED.findall(page.read_text(encoding="utf-8")):
            _logger.warning("%s needs the network: %s", page.name, found)
