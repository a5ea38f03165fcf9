"""Settings that must be the same on every node: paths, and the form of the model."""

from __future__ import annotations

from app.settings import Settings
from model import artifact_folder
from model.embedder import EngineName


def absolute(settings: Settings) -> Settings:
    """The settings with absolute paths: processes on Ray have their own working folders."""
    model = None if settings.model is None else artifact_folder(settings.model).resolve()
    return settings.model_copy(update={"home": settings.home.resolve(), "model": model})


def form(settings: Settings) -> tuple[str, EngineName]:
    """The device and the engine that decide the model's form, whatever a single node has."""
    return "cpu", "torch" if settings.embedder_gpus else "auto"


def network_device(settings: Settings) -> str:
    """The device of a process that runs the network. Without a GPU of its own it must not take another's."""
    return settings.device if settings.embedder_gpus else "cpu"
