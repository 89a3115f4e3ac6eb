"""Equations as MathML, which browsers draw without any script."""

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def setup(app):
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def _inline(translator, node):
    translator.body.append(str(tex2mathml(node.astext())))
    raise nodes.SkipNode


def _block(translator, node):
    translator.body.append('<div class="math">')
    translator.body.append(str(tex2mathml(node.astext(), as_block=True)))
    translator.body.append("</div>\n")
    raise nodes.SkipNode
