"""The SBOM written by `make sbom`: exactly the packages that serving installs, at the tested versions."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
SBOM = ROOT / "sbom.json"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SBOM.exists(), reason="there is no sbom.json: make sbom"),
]


@pytest.fixture(scope="module")
def found() -> dict[str, str]:
    """The versions of the listed packages, by name."""
    bill: dict[str, Any] = json.loads(SBOM.read_text("utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "oneshot"
    return {canonicalize_name(each["name"]): each["version"] for each in bill["components"]}


def declared() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project


def test_everything_that_serving_needs_is_listed_at_its_pin(found: dict[str, str]):
    pins = {
        canonicalize_name(name): version
        for name, version in re.findall(
            r"^([A-Za-z0-9_.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text("utf-8"), re.M
        )
    }
    for line in declared()["dependencies"]:
        wanted = Requirement(line)
        if wanted.marker is None or wanted.marker.evaluate():
            name = canonicalize_name(wanted.name)
            assert found[name].partition("+")[0] == pins[name], name


def test_nothing_of_the_extras_is_listed(found: dict[str, str]):
    extras = {
        canonicalize_name(Requirement(line).name)
        for lines in declared()["optional-dependencies"].values()
        for line in lines
    }
    assert extras & set(found) == set()
