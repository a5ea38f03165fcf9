"""The origin of a report: artefact, data, machine, versions and date."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from training.history import read_history
from training.report.schema import Origin
from training.subject import Subject

PACKAGES = ("oneshot", "torch", "numpy", "scipy", "scikit-learn", "pillow")


def origin_of(subject: Subject, command: str) -> Origin:
    """Describe the artefact, the data and this machine, with the current time."""
    manifest, spec = subject.manifest, subject.manifest.preprocess
    history = read_history(subject.artifact.path)
    seed = manifest.recipe.get("seed")
    return Origin(
        name=manifest.name,
        model_id=manifest.model_id,
        digest=manifest.digest,
        network=manifest.network.kind,
        parameters=manifest.weights.parameters,
        bytes=manifest.weights.bytes,
        dim=manifest.similarity.dim,
        similarity=manifest.similarity.kind,
        input=f"{spec.size} x {spec.size} {'grey' if spec.channels == 1 else 'colour'}, crop {spec.crop}",
        recipe=manifest.recipe,
        training_seed=seed if isinstance(seed, int) else None,
        training_minutes=history[-1].seconds / 60 if history else None,
        data=subject.data_name,
        part=subject.part,
        group=subject.group,
        command=command,
        date=datetime.now(UTC).replace(microsecond=0),
        machine=machine(),
        threads=torch.get_num_threads(),
        versions=versions(),
    )


def machine() -> str:
    """Return processor, architecture and system, such as ``AMD EPYC 7B13, x86_64, Linux``."""
    return ", ".join(part for part in (_processor(), platform.machine(), platform.system()) if part)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect results."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # oneshot run from its source folder
            found[package] = "not installed"
    return found
