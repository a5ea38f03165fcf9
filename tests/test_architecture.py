"""Architecture rules, checked on the source: allowed imports, and size limits of files and functions."""

import ast
import graphlib
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PACKAGES = ("app", "client/oneshot_client", "model", "training")
EVERYTHING = (*PACKAGES, "benchmarks", "testing", "tests")
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50

FORBIDDEN_PACKAGES = {
    "app": {"training", "benchmarks", "testing", "tests"},
    "client/oneshot_client": {"app", "model", "training", "benchmarks", "testing", "tests"},
    "model": {"app", "oneshot_client", "training", "benchmarks", "testing", "tests"},
    "training": {"app", "oneshot_client", "benchmarks", "testing", "tests"},
    "benchmarks": {"tests"},
    "testing": {"benchmarks", "tests"},
    "tests": {"benchmarks"},  # except the tests of the benchmarks
}

_BASE = {"ground", "telemetry"}
_PARTS = {*_BASE, "concurrency", "store", "home", "gallery", "inference", "access", "recognition"}
#: The rooms of app/, bottom up, with the rooms that each may import from. Modules directly in app/ are the ground,
#: except the command.
ROOMS = {
    "ground": set[str](),
    "telemetry": {"ground"},
    "concurrency": _BASE,
    "store": _BASE,
    "home": {"ground", "store"},
    "gallery": {*_BASE, "concurrency", "store"},
    "inference": {*_BASE, "concurrency"},
    "access": {*_BASE, "concurrency", "store"},
    "recognition": {*_BASE, "concurrency", "store", "home", "gallery", "inference"},
    "service": _PARTS,
    "api": {*_PARTS, "service"},
    "on_ray": {*_PARTS, "service", "api"},
    "server": {*_PARTS, "service", "api", "on_ray"},
    "commands": {*_PARTS, "service", "api", "on_ray"},
    "cli": {"ground", "server", "commands"},
}
MAX_GROUND_MODULES = 12
# These can run code chosen by the loaded file.
UNSAFE_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"torch.load", "torch.save", "torch.jit.load"}
# Packages of the extras: a service installed without them must start.
EXTRAS = {
    "hypothesis",
    "matplotlib",
    "nncf",
    "onnx",
    "playwright",
    "psycopg",
    "pyarrow",
    "pytest",
    "pytorch_metric_learning",
    "ray",
    "sklearn",
    "tensorboard",
    "torch",
}
# Modules that need torch and are imported on demand: the networks, the torch engine, the graph export.
WITH_TORCH = {"model/focus.py", "model/gradients.py", "model/graph.py", "model/networks.py", "model/similarity.py"}
WITH_TORCH |= {"model/torch_engine.py"}


# How often tests still access private names, by file. These numbers may only go down.
REACHES_INSIDE: dict[str, int] = {
    "tests/app/gallery/test_index.py": 2,
    "tests/benchmarks/test_domains.py": 1,
    "tests/benchmarks/test_footprint.py": 2,
    "tests/benchmarks/test_gallery_page.py": 2,
    "tests/benchmarks/test_nodes.py": 3,
    "tests/benchmarks/test_peers.py": 3,
    "tests/model/test_apart.py": 1,
    "tests/model/test_calibration.py": 1,
    "tests/training/test_camera.py": 4,
}


def sources(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


def imported_modules(tree: ast.AST, package: tuple[str, ...]) -> set[str]:
    """The absolute dotted names of all modules that the tree imports; `package` resolves relative imports."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found.update(alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = (
                    [*package[: len(package) - level + 1], *([module] if module else [])] if level else [module or ""]
                )
                found.update(".".join([*base, alias.name]) for alias in names)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if _dotted(func).endswith(
                ("import_module", "__import__")
            ):
                found.add(name)
    return found


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@cache
def imports_of(path: Path) -> set[str]:
    return imported_modules(tree_of(path), path.relative_to(ROOT).parent.parts)


def imported_at_once(path: Path) -> set[str]:
    """What the module imports at import time: not in functions, and not under TYPE_CHECKING."""
    body = ast.parse(path.read_text("utf-8")).body
    package = path.relative_to(ROOT).parent.parts
    found = {
        name
        for node in body
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.If)
        for name in imported_modules(node, package)
    }
    return found | {name.rpartition(".")[0] for name in found}


def top_levels(modules: set[str]) -> set[str]:
    return {module.split(".")[0] for module in modules}


def unpickles(call: ast.Call) -> bool:
    """Whether the call may run code from a file: torch's loaders, or numpy's with `allow_pickle`."""
    allows = any(
        keyword.arg == "allow_pickle" and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
        for keyword in call.keywords
    )
    return allows or _dotted(call.func) in UNSAFE_CALLS


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Yield name and length in lines, decorators included, of each function in the file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield node.name, (node.end_lineno or node.lineno) - first + 1


@pytest.mark.parametrize("package", EVERYTHING)
def test_a_package_imports_only_what_it_may(package: str):
    broken = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in sources(package)
        if not path.is_relative_to(ROOT / "tests/benchmarks")
        if (bad := top_levels(imports_of(path)) & FORBIDDEN_PACKAGES[package])
    }
    assert broken == {}


def room_of(parts: Sequence[str]) -> str:
    """The room of a module in app/, from the parts of its name or path after `app`."""
    first = parts[0] if parts else ""
    return first if (ROOT / "app" / first).is_dir() and first else "cli" if first in {"cli", "cli.py"} else "ground"


def test_a_room_imports_only_from_those_that_it_may():
    """Imports in functions and under TYPE_CHECKING count too."""
    broken: dict[str, set[str]] = {}
    for path in sources("app"):
        room = room_of(path.relative_to(ROOT / "app").parts)
        imported = {room_of(name.split(".")[1:]) for name in imports_of(path) if name.split(".")[0] == "app"}
        if bad := imported - ROOMS[room] - {room}:
            broken[str(path.relative_to(ROOT))] = bad
    assert broken == {}


def test_every_folder_of_the_service_is_a_room():
    folders = {path.parent.name for path in (ROOT / "app").glob("*/__init__.py")}
    assert folders == set(ROOMS) - {"ground", "cli"}
    assert len(list((ROOT / "app").glob("*.py"))) <= MAX_GROUND_MODULES


def test_every_folder_of_the_services_tests_is_a_room():
    assert {path.parent.name for path in (ROOT / "tests/app").glob("*/__init__.py")} <= set(ROOMS)


def module_graph() -> dict[str, set[str]]:
    """All modules by name, each with the project's modules that it imports anywhere."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__").removeprefix("client."): path
        for path in sources(*EVERYTHING)
    }

    def module(name: str) -> str | None:
        while name and name not in names:
            name = name.rpartition(".")[0]
        return name or None

    return {
        name: {found for imported in imports_of(path) if (found := module(imported))} - {name}
        for name, path in names.items()
    }


def test_no_modules_import_each_other_in_a_circle():
    try:
        graphlib.TopologicalSorter(module_graph()).prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_client_needs_what_it_declares():
    """Pillow is needed only by callers that pass a Pillow image."""
    project = tomllib.loads((ROOT / "client/pyproject.toml").read_text("utf-8"))["project"]
    declared = {Requirement(line).name for line in project["dependencies"]}
    imported = {name for path in sources("client/oneshot_client") for name in top_levels(imports_of(path))}
    assert imported - sys.stdlib_module_names - {"oneshot_client", "PIL"} == declared == {"httpx", "pydantic"}


def test_only_the_gallery_imports_faiss():
    importers = {path.relative_to(ROOT) for path in sources(*PACKAGES) if "faiss" in top_levels(imports_of(path))}
    assert {importer.parent.as_posix() for importer in importers} == {"app/gallery"}


def test_serving_needs_no_extra():
    """Nor torch; functions may import it, and modules that need it, once they have checked that it is installed."""
    for_torch = {path.removesuffix(".py").replace("/", ".") for path in WITH_TORCH}
    broken = {
        str(path.relative_to(ROOT)): sorted(bad)
        for path in sources("app", "model")
        if "on_ray" not in (path.stem, path.parent.name) and str(path.relative_to(ROOT)) not in WITH_TORCH
        if (bad := top_levels(imports_of(path)) & (EXTRAS - {"torch"}))
        or (bad := {name for name in imported_at_once(path) if name.split(".")[0] == "torch" or name in for_torch})
    }
    assert broken == {}


def test_only_the_model_reaches_torch():
    importers = [str(path.relative_to(ROOT)) for path in sources("app") if "torch" in top_levels(imports_of(path))]
    assert importers == []


def test_ray_is_imported_only_where_it_was_asked_for():
    """Modules that need Ray are imported only inside functions."""
    broken = {
        str(path.relative_to(ROOT))
        for path in sources(*PACKAGES)
        for node in tree_of(path).body
        if path.stem != "on_ray" and path.parent.name != "on_ray" and isinstance(node, ast.Import | ast.ImportFrom)
        if any("on_ray" in module.split(".") for module in imported_modules(node, path.relative_to(ROOT).parent.parts))
    }
    assert broken == set()


def test_tracing_needs_no_extra_until_it_is_asked_for():
    modules = {module for path in sources("app", "model") for module in imports_of(path)}
    telemetry = {".".join(module.split(".")[:2]) for module in modules if module.startswith("opentelemetry")}
    assert telemetry == {"opentelemetry.context", "opentelemetry.trace"}


def test_nothing_is_ever_unpickled():
    broken: list[str] = []
    for path in sources(*PACKAGES, "benchmarks"):
        tree = tree_of(path)
        name = path.relative_to(ROOT)
        broken += [f"{name}: imports {module}" for module in sorted(top_levels(imports_of(path)) & UNSAFE_MODULES)]
        broken += [
            f"{name}:{node.lineno}: {_dotted(node.func)}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and unpickles(node)
        ]
    assert broken == []


def test_files_stay_short():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text("utf-8").splitlines()) for path in sources(*PACKAGES)}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_functions_stay_short():
    long = [
        f"{path.relative_to(ROOT)}: {name} has {length} lines"
        for path in sources(*PACKAGES)
        for name, length in functions(path)
        if length > MAX_FUNCTION_LINES
    ]
    assert long == []


def _is_private(name: str) -> bool:
    return re.match(r"_[A-Za-z]", name.rpartition(".")[2]) is not None


def reaches_inside(tree: ast.AST) -> Iterator[str]:
    """Private names that a test reads or replaces: attributes, imported names, targets of setattr."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls" | "super")):
                pass  # the object's own
            case ast.Attribute(attr=name) if _is_private(name):
                yield ast.unparse(node)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names if _is_private(alias.name))
            case ast.Call(func=ast.Attribute(attr="setattr") | ast.Name(id="setattr" | "getattr"), args=arguments):
                texts = [each.value for each in arguments[:2] if isinstance(each, ast.Constant)]
                yield from (text for text in texts if isinstance(text, str) and _is_private(text))


def test_tests_leave_private_state_alone():
    """Tests use the public interface, and pass clocks and intervals as arguments. The exceptions may only shrink."""
    counts = {
        str(path.relative_to(ROOT)): len([*reaches_inside(ast.parse(path.read_text("utf-8")))])
        for path in sources("tests", "testing")
    }
    assert {name: count for name, count in counts.items() if count} == REACHES_INSIDE


@pytest.mark.parametrize(
    ("code", "private"),
    [
        ("store._rows", ["store._rows"]),
        ("monkeypatch.setattr('app.gallery.index._SMALL', 3)", ["app.gallery.index._SMALL"]),
        ("monkeypatch.setattr(index, '_open', None)", ["_open"]),
        ("from app.store.log import _head, read", ["app.store.log._head"]),
        ("self._rows + index.__len__() + settings(_env_file=None)", []),
    ],
)
def test_what_counts_as_reaching_inside(code: str, private: list[str]):
    assert [*reaches_inside(ast.parse(code))] == private


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("import faiss", "faiss"),
        ("import faiss.contrib as f", "faiss.contrib"),
        ("from training.loop import fit", "training.loop.fit"),
        ("def late():\n    from training import loop", "training.loop"),
        ("from .. import errors", "app.errors"),
        ("from .base import Store", "app.store.base.Store"),
        ("importlib.import_module('training.loop')", "training.loop"),
    ],
)
def test_every_form_of_import_is_seen(code: str, module: str):
    assert imported_modules(ast.parse(code), ("app", "store")) == {module}


@pytest.mark.parametrize(
    ("code", "unsafe"),
    [
        ("torch.load(path, weights_only=True)", True),
        ("np.load(path, allow_pickle=True)", True),
        ("np.load(path, allow_pickle=False)", False),
        ("np.load(path)", False),
        ("safetensors.torch.load_file(path)", False),
    ],
)
def test_what_counts_as_unpickling(code: str, unsafe: bool):
    statement = ast.parse(code).body[0]
    assert isinstance(statement, ast.Expr)
    assert isinstance(statement.value, ast.Call)
    assert unpickles(statement.value) is unsafe
