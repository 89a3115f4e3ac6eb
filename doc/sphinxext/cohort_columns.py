"""Directive ``cohort-columns``: the columns and features of a cohort's tables."""

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from mne_neuroflow.cohort.features import COLUMNS, FEATURES


class CohortColumns(SphinxDirective):
    """Two tables, from what the package writes into its own results."""

    def run(self):
        """Make the tables."""
        columns = [(f"``{name}``", what) for name, what in COLUMNS.items()]
        features = [
            (f"``{name}``", f"{what}; unit: {unit}")
            for name, (what, unit) in FEATURES.items()
        ]
        lines = _table("Column", columns) + ["", "", *_table("Feature", features)]
        return self.parse_text_to_nodes(StringList(lines, "cohort-columns"))


def _table(title, rows):
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 25 75", ""]
    for name, what in [(title, "What it is"), *rows]:
        lines += [f"   * - {name}", f"     - {what}"]
    return lines


def setup(app):
    """Add the directive."""
    app.add_directive("cohort-columns", CohortColumns)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
