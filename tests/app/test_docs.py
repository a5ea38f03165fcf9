"""All settings, routes and errors are documented, and the documents name nothing that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.api.application import create_app
from app.errors import OneshotError
from app.settings import READ_ELSEWHERE, Settings, allowed, variable
from app.telemetry.metrics import Metrics
from testing.served import make_settings

#: The modules of the service's own errors.
MODULES = {"app.errors", "app.request_errors"}
DOCS = Path(__file__).parents[2] / "docs"


def rows(name: str) -> dict[str, list[str]]:
    """The rows of all tables in a document, by the code in the first cell."""
    lines = (DOCS / name).read_text("utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    return {row[0].strip("`"): row for row in cells}


def errors(root: type[OneshotError] = OneshotError) -> Iterator[type[OneshotError]]:
    for error in (root, *root.__subclasses__()):
        if error is root:
            yield error
        else:
            yield from errors(error)


def test_every_setting_is_documented_with_its_default_and_range():
    documented = rows("settings.md")
    assert set(documented) == {variable(name) for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        _, default, range_, meaning = documented[variable(name)]
        if field.default is not None:
            shown = str(field.default).removesuffix(".0")
            assert default.strip("`").removeprefix("./") == shown, name
        assert range_.replace("`", "").startswith(allowed(field)), name
        assert meaning, name


def test_variables_that_the_service_only_tolerates_are_documented():
    text = (DOCS / "settings.md").read_text("utf-8")
    for name in READ_ELSEWHERE:
        assert f"`{name}`" in text


def test_every_endpoint_is_documented():
    paths = create_app(make_settings()).openapi()["paths"]
    offered = {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations}
    documented = {name for name in rows("api.md") if re.match("[A-Z]+ /", name)}
    assert documented == offered


def test_every_query_parameter_and_form_field_is_documented():
    text = (DOCS / "api.md").read_text("utf-8")
    for path, operations in create_app(make_settings()).openapi()["paths"].items():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                name = parameter["name"]
                assert re.search(rf"`{name}[`=]|[?&]{name}=|{{{name}}}", text), (path, name)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for field in content["schema"].get("properties", {}):
                    assert f"`{field}`" in text, (path, field)


def test_every_error_is_documented_with_its_status():
    text, documented = (DOCS / "errors.md").read_text("utf-8"), rows("errors.md")
    slugs = {error.slug: error.status for error in errors()}
    for slug, status in slugs.items():
        if slug in {"startup-failed", "schema-too-new"}:  # never sent
            assert f"`{slug}`" in text
        else:
            assert documented.pop(slug)[1] == str(status), slug
    assert documented == {}, "documented, but not in app/errors.py"


def test_the_tree_in_errors_py_is_the_tree():
    drawn = re.findall(r"(\w+Error)\s+(\d+)\s+([a-z-]+)", __import__("app.errors").errors.__doc__)
    assert {(name, int(status), slug) for name, status, slug in drawn} == {
        (error.__name__, error.status, error.slug) for error in errors() if error.__module__ in MODULES
    }


def test_slugs_are_unique():
    own = [error for error in errors() if error.__module__ in MODULES]
    assert len({error.slug for error in own}) == len(own)


@pytest.mark.parametrize("name", [family.name for family in Metrics().registry.collect()])
def test_every_metric_is_documented(name: str):
    text = (DOCS / "api.md").read_text("utf-8")
    assert name.startswith("process_") or re.search(rf"`{name}(_total|_info)?[{{`]", text)
