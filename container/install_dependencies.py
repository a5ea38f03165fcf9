"""Install the runtime dependencies of pyproject.toml, pinned, into a virtual environment of the image being built.

    install_dependencies.py VENV GPU [EXTRA,... [TORCH_INDEX_URL]]

GPU is 1 where the image is for NVIDIA GPUs, else 0; the URL is that of a package index with another CUDA build.

Runs on the bare standard library, in the build stage of the Dockerfile.
"""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

# Compilers' headers, test programs, and plugins for other hardware and formats that wheels carry and no service opens:
# about a fifth of the installation.
PRUNED = (
    *("torch/include", "torch/test", "torch/bin/test_*", "torch/bin/*Test", "torch/bin/protoc*"),
    *(
        f"openvino/libs/libopenvino_{name}*"
        for name in ("intel_gpu", "intel_npu", "pytorch", "tensorflow", "paddle", "gguf", "jax")
    ),
    *("openvino/libs/cache.json", "openvino/include"),
    *(f"{package}/**/tests" for package in ("networkx", "numpy", "scipy", "sympy")),
)


def cuda_torch(constraints: str) -> str:
    """The requirement of the pinned torch release that its CPU build can't satisfy."""
    pins = [line.strip() for line in constraints.splitlines() if line.startswith("torch==")]
    if len(pins) != 1:
        raise SystemExit(f"constraints.txt has {len(pins)} lines 'torch==...'; one is needed")
    return f"{pins[0]},!={pins[0].removeprefix('torch==')}+cpu"


def pip_install(venv: Path, *arguments: str) -> int:
    """Run the build stage's pip on the environment; returns its exit code."""
    command = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "install", "--quiet", *arguments]
    return subprocess.run(command, check=False).returncode


def prune(packages: Path) -> None:
    """Delete what PRUNED names from a site-packages folder."""
    for path in [path for pattern in PRUNED for path in packages.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def requirements(pyproject: str, extras: str) -> list[str]:
    """What the project needs, and its extras of these names (separated by commas)."""
    project = tomllib.loads(pyproject)["project"]
    names = [name.strip() for name in extras.split(",") if name.strip()]
    if unknown := set(names) - set(project["optional-dependencies"]):
        raise SystemExit(f"EXTRAS: there is no extra {', '.join(sorted(unknown))}")
    return [*project["dependencies"], *(each for name in names for each in project["optional-dependencies"][name])]


def main(venv: str, gpu: str, extras: str = "", torch_index: str = "") -> int:
    """Install torch for a GPU, then the rest, and drop what no service needs; returns the exit code."""
    if gpu not in ("0", "1"):
        raise SystemExit(f"GPU is 1 or 0, not {gpu!r}")
    constraints = ("--constraint", "constraints.txt")
    if gpu == "1":
        torch = cuda_torch(Path("constraints.txt").read_text("utf-8"))
        index = ("--extra-index-url", torch_index) if torch_index else ()
        if failed := pip_install(Path(venv), *constraints, *index, torch):
            return failed
    wanted = requirements(Path("pyproject.toml").read_text("utf-8"), extras)
    failed = pip_install(Path(venv), *constraints, *wanted)
    for packages in Path(venv).glob("lib/python*/site-packages"):
        prune(packages)
    return failed


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
