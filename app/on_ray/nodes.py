"""What is to be the same on every node: paths, and the form of the model."""

from __future__ import annotations

from app.settings import Settings
from model import artifact_folder
from model.embedder import EngineName


def absolute(settings: Settings) -> Settings:
    """The settings with absolute paths: processes on Ray have working folders of their own."""
    model = None if settings.model is None else artifact_folder(settings.model).resolve()
    return settings.model_copy(update={"home": settings.home.resolve(), "model": model})


def form(settings: Settings) -> tuple[str, EngineName]:
    """The device and the engine that decide on a model's form, whatever a single node has."""
    return "cpu", "torch" if settings.embedder_gpus else "auto"


def network_device(settings: Settings) -> str:
    """Where a process runs the network: one without a GPU of its own must not take another's."""
    return settings.device if settings.embedder_gpus else "cpu"
