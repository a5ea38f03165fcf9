"""From prepared images to index-form vectors, with the engine and device that are available."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

import numpy as np
from PIL import Image

from model.artifact import Artifact
from model.distances import Vectors
from model.manifest import Manifest, Metric
from model.preprocess import Prepared, Preprocess

if TYPE_CHECKING:  # torch takes seconds to import, and serving with OpenVINO does not need it
    import torch

T = TypeVar("T")

EngineName = Literal["auto", "torch", "torch-half", "openvino", "openvino-int8"]


_SUMMARY = 200
NEEDS_TORCH = "needs PyTorch, which is not installed: pip install 'oneshot[gpu]', or make serve GPU=1"


class DeviceError(Exception):
    """The requested device or engine is not available."""


class Engine(Protocol):
    """Runs forward passes; ``embed`` is not thread-safe."""

    @property
    def name(self) -> str:
        """An ``EngineName`` other than ``auto``."""

    @property
    def device(self) -> str:
        """The device in use."""

    def embed(self, batch: Prepared) -> Vectors:
        """Embed images of shape (n, channels, size, size) as index-form vectors of shape (n, dim)."""


class Preparer:
    """The part of a model that needs no forward pass: its preprocessing, and the form of its vectors."""

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        #: Cached: the manifest recomputes them on each access.
        self.digest, self.model_id = manifest.digest, manifest.model_id
        self._metric = manifest.metric
        self._prepare = Preprocess(manifest.preprocess)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return self.manifest.similarity.dim

    @property
    def metric(self) -> Metric:
        """The metric that compares the vectors."""
        return self._metric

    def prepare(self, image: Image.Image) -> Prepared:
        """Turn a decoded image into the network's input, shape (channels, size, size)."""
        return self._prepare(image)

    def shows_something(self, image: Image.Image, prepared: Prepared) -> bool:
        """Whether the image is not blank; ``prepared`` is what ``prepare`` returned for it."""
        return self._prepare.shows_something(image, prepared)


class Embedder(Preparer):
    """Embeds batches of images with one artefact on one device.

    ``prepare`` is thread-safe; ``embed`` is not. An image's vector does not depend on the rest of its batch.

    Args:
        artifact: the model.
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: threads of one forward pass; None leaves the choice to the engine.
        engine: ``auto`` is OpenVINO on a CPU if it is installed and the artefact has a graph, otherwise torch.

    Raises:
        DeviceError: the requested device or engine is not available, or can't run this artefact.
    """

    def __init__(
        self, artifact: Artifact, device: str = "auto", threads: int | None = None, engine: EngineName = "auto"
    ) -> None:
        super().__init__(artifact.manifest)
        self._engine = _engine(artifact, device, threads, engine)

    @property
    def device(self) -> str:
        """The device in use, such as ``cpu`` or ``cuda:0``."""
        return self._engine.device

    @property
    def engine(self) -> str:
        """The engine in use, such as ``torch`` or ``openvino-int8``."""
        return self._engine.name

    def embed(self, batch: Prepared) -> Vectors:
        """Embed prepared images of shape (n, channels, size, size) as index-form vectors of shape (n, dim)."""
        return self._engine.embed(batch)

    def warm_up(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Run a forward pass of each size, so that one-time work does not delay the first request."""
        spec = self.manifest.preprocess
        for size in batch_sizes:
            self.embed(np.zeros((size, spec.channels, spec.size, spec.size), np.float32))


def _engine(artifact: Artifact, device: str, threads: int | None, engine: EngineName) -> Engine:
    gpu = _gpu(device)
    int8 = artifact.manifest.quantised is not None
    if int8 and (gpu is not None or engine not in {"auto", "openvino-int8"}):
        raise DeviceError("an int8 form runs by OpenVINO on a CPU only; use the artefact that it was made from")
    if not int8 and engine == "openvino-int8":
        raise DeviceError("this artefact is no int8 form; 'oneshot-train quantise' makes one")
    if engine == "torch-half" and gpu is None:
        raise DeviceError("half precision is for GPUs")
    if engine.startswith("openvino") and gpu is not None:
        raise DeviceError(f"OpenVINO runs on the CPU here, and device {gpu} was asked for")
    whole = int8 or artifact.manifest.graph is not None
    if int8 or engine == "openvino" or (engine == "auto" and gpu is None and whole and has_openvino()):
        return _openvino(artifact, threads)
    return _torch(artifact, gpu, threads, half=engine == "torch-half")


def _openvino(artifact: Artifact, threads: int | None) -> Engine:
    if not has_openvino():
        raise DeviceError("OpenVINO is not installed here")
    if artifact.int8 is None and artifact.manifest.graph is None:
        raise DeviceError(f"{artifact.path} has no graph for OpenVINO; 'oneshot-train graph {artifact.path}' writes it")
    from model.openvino_engine import OpenVinoEngine  # noqa: PLC0415 - only where it is installed

    try:
        return OpenVinoEngine(artifact, threads)
    except RuntimeError as error:
        summary = " ".join(str(error).split())[:_SUMMARY]
        raise DeviceError(f"OpenVINO can't run the model in {artifact.path}: {summary}") from error


def _torch(artifact: Artifact, gpu: torch.device | None, threads: int | None, *, half: bool) -> Engine:
    if not has_torch():
        raise DeviceError(f"the engine torch {NEEDS_TORCH}")
    from model.torch_engine import CudaEngine, TorchEngine  # noqa: PLC0415 - torch

    kind = CudaEngine if gpu is not None and gpu.type == "cuda" else TorchEngine
    return kind(artifact, gpu or pick_device("cpu"), threads, half=half)


def has_openvino() -> bool:
    """Whether OpenVINO is installed."""
    return importlib.util.find_spec("openvino") is not None


def has_torch() -> bool:
    """Whether PyTorch is installed."""
    return importlib.util.find_spec("torch") is not None


def choose_form(base: T | None, int8: T | None, *, device: str, engine: EngineName, present: T | None = None) -> T:
    """Choose the form of an artefact to run: ``base`` or ``int8``. Either may be None, but not both.

    ``auto`` keeps the ``present`` form while it can run, because another form is another model. Otherwise it picks
    int8 on a CPU with OpenVINO installed. Every other engine runs one form only.

    Raises:
        DeviceError: the requested engine or device can't run any of the forms.
    """
    able = engine in {"auto", "openvino-int8"} and has_openvino() and _gpu(device) is None
    if engine == "auto" and present is not None and (able or present == base):
        return present
    if int8 is not None and able:
        return int8
    if base is not None and engine != "openvino-int8":
        return base
    if base is not None and int8 is None:
        raise DeviceError("this artefact carries no int8 form; 'oneshot-train quantise' makes one")
    raise DeviceError("an int8 form needs OpenVINO, a CPU, and the engine auto or openvino-int8")


def _gpu(name: str) -> torch.device | None:
    """The GPU that ``name`` stands for, None for the CPU. ``auto`` imports torch only if there is a GPU driver."""
    if name == "cpu" or (name == "auto" and not (_may_have_gpu() and has_torch())):
        return None
    device = pick_device(name)
    return None if device.type == "cpu" else device


def _may_have_gpu() -> bool:
    # NVIDIA's device file on Linux, and the one that WSL passes through from Windows
    return sys.platform != "linux" or any(Path(file).exists() for file in ("/dev/nvidiactl", "/dev/dxg"))


def pick_device(name: str) -> torch.device:
    """Return the device for ``name``; ``auto`` is the best available one.

    Raises:
        DeviceError: the name is unknown, this machine has no such device, or torch is not installed.
    """
    if not has_torch():
        raise DeviceError(f"the device {name!r} {NEEDS_TORCH}")
    import torch  # noqa: PLC0415 - see above

    if name == "auto":
        best = "cuda:0" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        return torch.device(best)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"{name!r} is no device; use auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"device {name!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices here"
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' was asked for, but it is not available here")
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} is not supported; use auto, cpu, cuda, cuda:N or mps")
    return torch.device("cuda:0") if name == "cuda" else device
