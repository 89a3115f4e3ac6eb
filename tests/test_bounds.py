"""What the package says it works with: versions of its dependencies and of Python."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
if not (ROOT / "pyproject.toml").is_file():
    pytest.skip("needs the files of the repository", allow_module_level=True)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
# Of these no other version could be tried.
NOT_TRIED = {"torch"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def release(version):
    """Drop trailing zeros: 2 is 2.0.0."""
    numbers = [int(part) for part in version.split(".")]
    while numbers[-1] == 0:
        numbers.pop()
    return numbers


def bounds():
    """Return the lower bounds of everything that has one."""
    extras = PROJECT["optional-dependencies"]
    tools = {"doc", "test"}  # not the package's own
    lists = [PROJECT["dependencies"]]
    lists += [each for extra, each in extras.items() if extra not in tools]
    found = {}
    for requirement in (one for each in lists for one in each):
        match = re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement)
        assert match, f"{requirement} has no lower bound"
        name, version = normal(match[1]), release(match[2])
        assert found.setdefault(name, version) == version, f"two bounds for {name}"
    return found


def pins(fname):
    lines = (ROOT / fname).read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {normal(name): version for name, version in pairs}


def test_oldest_versions_are_the_bounds():
    """So that a run on them says that the bounds are true.

    Seen to fail with scipy's bound at 1.11, and with a dependency without one.
    """
    oldest = {
        n: release(version) for n, version in pins("constraints-oldest.txt").items()
    }
    assert set(oldest) == set(bounds())
    for name, bound in bounds().items():
        if name not in NOT_TRIED:
            assert oldest[name] == bound, name


def test_versions_of_the_tests_are_within_the_bounds():
    """Seen to fail with a bound above the pinned version, and with a pin missing."""
    newest = pins("constraints.txt")
    for name, bound in bounds().items():
        assert release(newest[name]) >= bound, name
