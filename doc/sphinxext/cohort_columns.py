"""Directive ``cohort-columns``: the columns and features of a cohort's tables."""

from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from mne_neuroflow.cohort.features import COLUMNS, FEATURES
from mne_neuroflow.cohort.folder import STATUS
from mne_neuroflow.cohort.group import EFFECTS


class CohortColumns(SphinxDirective):
    """Tables of columns, from what the package writes into its own results."""

    def run(self):
        """Make the tables."""
        columns = {name: (what, "") for name, what in COLUMNS.items()}
        lines = []
        for title, described in (
            ("Column", columns),
            ("Feature", FEATURES),
            ("Column of status.tsv", STATUS),
            ("Column of group/effects.tsv", EFFECTS),
        ):
            rows = [
                (f"``{name}``", f"{what}; unit: {unit}" if unit else what)
                for name, (what, unit) in described.items()
            ]
            lines += [*_table(title, rows), "", ""]
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
