"""One word for one thing: what the page for contributors says not to write."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
WHERE = ("mne_neuroflow", "tests", "benchmarks", "tools", "examples", "doc")
BUILT = {"_build", "_generated", "generated", "auto_examples"}  # ignored by git
ENDINGS = (".py", ".rst", ".md", ".js", ".html", ".toml")
PAGE = ROOT / "doc" / "explanations" / "contributing.rst"
# Of the column "and not", what has no other meaning that we need.
OLD = re.compile(
    r"\b(loud(er|est|ness)?|judged?|judges|judging|came true|the top off|leaning|"
    r"strange|company)\b",
    re.IGNORECASE,
)


def test_old_words_are_gone():
    """Seen to fail with "loudest" in a docstring, and where the page lacks a word."""
    assert len(set(OLD.findall(PAGE.read_text("utf-8")))) == 7
    lines = [
        f"{fname.relative_to(ROOT)}:{number}: {line.strip()}"
        for where in WHERE
        for fname in sorted((ROOT / where).rglob("*"))
        if fname.suffix in ENDINGS
        and fname not in (PAGE, Path(__file__))
        and BUILT.isdisjoint(fname.relative_to(ROOT).parts)
        for number, line in enumerate(fname.read_text("utf-8").splitlines(), 1)
        if OLD.search(line)
    ]
    assert not lines, "\n".join(lines)
