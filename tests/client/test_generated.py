"""Generated and copied files in the client's folder are up to date."""

from __future__ import annotations

import ast
import inspect
import tomllib
from pathlib import Path

import oneshot_client
from client.generate_sync import PACKAGE, TARGET, generate
from oneshot_client import AsyncClient, Client

ROOT = Path(__file__).parents[2]


def test_the_synchronous_client_is_generated_from_the_asynchronous_one():
    assert (PACKAGE / TARGET).read_text("utf-8") == generate(), "run make client"


def test_nothing_asynchronous_is_left_in_the_synchronous_client():
    tree = ast.parse((PACKAGE / TARGET).read_text("utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert [name for name in names | attributes if "async" in name.lower()] == []
    assert [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)] == []


def test_both_clients_have_the_same_methods():
    def methods(kind: type) -> dict[str, list[str]]:
        found = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(f).parameters) for name, f in found if not name.startswith("_")}

    assert methods(Client) == methods(AsyncClient)
    assert set(oneshot_client.__all__) <= set(vars(oneshot_client))


def test_version_python_and_licence_are_those_of_the_service():
    service, client = (
        tomllib.loads((ROOT / folder / "pyproject.toml").read_text("utf-8"))["project"] for folder in (".", "client")
    )
    for fact in ("version", "requires-python", "license"):
        assert client[fact] == service[fact]
    assert set(client["dependencies"]) <= set(service["dependencies"])
    assert (ROOT / "client/LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
