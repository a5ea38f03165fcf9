"""From prepared images to index-form vectors, on the device that is really there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from model.artifact import Artifact
from model.manifest import Manifest, Metric
from model.preprocess import Prepared, Preprocess

Vectors = npt.NDArray[np.float32]


class DeviceError(Exception):
    """The device that was asked for is not there."""


class Embedder:
    """Embeds batches of images with one artefact on one device.

    ``prepare`` may be called from many threads; ``embed`` from one at a time.

    Args:
        artifact: the model.
        device: ``auto`` (CUDA, then Apple's MPS, then CPU), ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        threads: torch's threads for one forward pass; None leaves torch's choice.

    Raises:
        DeviceError: the device that was asked for is not there.
    """

    def __init__(self, artifact: Artifact, device: str = "auto", threads: int | None = None) -> None:
        self.manifest: Manifest = artifact.manifest
        self._device = pick_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        self._prepare = Preprocess(artifact.manifest.preprocess)
        # channels_last is the layout that convolutions are fastest in, on CPU and GPU alike.
        self._network = artifact.network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._similarity = artifact.similarity.to(self._device)

    @property
    def device(self) -> str:
        """The device that is really used, such as ``cpu`` or ``cuda:0``."""
        return str(self._device)

    @property
    def dim(self) -> int:
        """How many numbers a vector has."""
        return self.manifest.similarity.dim

    @property
    def metric(self) -> Metric:
        """How the vectors are compared."""
        return self.manifest.metric

    def prepare(self, image: Image.Image) -> Prepared:
        """Turn a decoded image into the network's input, shape (channels, size, size)."""
        return self._prepare(image)

    def embed(self, batch: Prepared) -> Vectors:
        """Embed prepared images of shape (n, channels, size, size) as index-form vectors of shape (n, dim)."""
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(self._device)
            images = images.contiguous(memory_format=torch.channels_last)
            vectors = self._similarity.index_form(self._network(images))
            return np.ascontiguousarray(vectors.float().cpu().numpy())

    def warm_up(self, batch_sizes: Sequence[int] = (1,)) -> None:
        """Run a forward pass of each size, so that the first request pays for no one-time work."""
        spec = self.manifest.preprocess
        for size in batch_sizes:
            self.embed(np.zeros((size, spec.channels, spec.size, spec.size), np.float32))


def pick_device(name: str) -> torch.device:
    """Return the device for ``name``; ``auto`` is the best that is there.

    Raises:
        DeviceError: no such device, or not on this machine.
    """
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
