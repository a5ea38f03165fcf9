"""Forward passes with torch, the reference engine, on CPU, CUDA and Apple's MPS."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from model.artifact import Artifact
from model.distances import Vectors
from model.preprocess import Prepared

#: Batches on a GPU are padded to one of these sizes, so that each size is captured once as a CUDA graph.
GRAPH_SIZES = (1, 2, 4, 8, 16, 32, 64)


class TorchEngine:
    """The network run by torch; ``embed`` is not thread-safe.

    With ``half`` the network runs under float16 autocast (mixed precision, Micikevicius et al. 2018). The similarity
    always runs in f32.
    """

    def __init__(self, artifact: Artifact, device: torch.device, threads: int | None, *, half: bool = False) -> None:
        self.name = "torch-half" if half else "torch"
        self._torch_device = device
        self._half = half
        if threads is not None:
            torch.set_num_threads(threads)
        # channels_last is the fastest layout for convolutions, on CPU and GPU.
        self._network = artifact.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._similarity = artifact.similarity.to(device)

    @property
    def device(self) -> str:
        """The device in use, such as ``cpu`` or ``cuda:0``."""
        return str(self._torch_device)

    def embed(self, batch: Prepared) -> Vectors:
        """Embed images of shape (n, channels, size, size) as index-form vectors of shape (n, dim)."""
        with torch.inference_mode():
            vectors = self._forward(torch.from_numpy(batch).to(self._torch_device))
            return np.ascontiguousarray(vectors.cpu().numpy())

    def _forward(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._torch_device.type, torch.float16, enabled=self._half):
            embeddings = self._network(images)
        vectors: Tensor = self._similarity.index_form(embeddings.float())
        return vectors.float()


class CudaEngine(TorchEngine):
    """The network on an NVIDIA GPU: one CUDA graph per batch size, with input from pinned memory.

    Kernel launches dominate a small network's forward pass; a CUDA graph launches all kernels at once.
    """

    def __init__(self, artifact: Artifact, device: torch.device, threads: int | None, *, half: bool = False) -> None:
        super().__init__(artifact, device, threads, half=half)
        spec = artifact.manifest.preprocess
        self._shape = (spec.channels, spec.size, spec.size)
        self._passes: dict[int, _CapturedPass] = {}

    def embed(self, batch: Prepared) -> Vectors:
        """Embed images of shape (n, channels, size, size) as index-form vectors of shape (n, dim)."""
        return np.concatenate([self._embed_part(part) for part in parts_of(batch)])

    def _embed_part(self, part: Prepared) -> Vectors:
        size = padded_size(len(part))
        if size not in self._passes:
            self._passes[size] = _CapturedPass(self._forward, (size, *self._shape), self._torch_device)
        return self._passes[size](part)


class _CapturedPass:
    """The captured forward pass of one batch size, with static input and output tensors."""

    def __init__(self, forward: Callable[[Tensor], Tensor], shape: tuple[int, ...], device: torch.device) -> None:
        self._pinned = torch.zeros(shape, pin_memory=True)
        self._input = torch.zeros(shape, device=device)
        self._graph = torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their kernels before the capture
                forward(self._input)
        torch.cuda.synchronize(device)
        with torch.inference_mode(), torch.cuda.graph(self._graph):
            self._output = forward(self._input)

    def __call__(self, part: Prepared) -> Vectors:
        self._pinned[: len(part)].copy_(torch.from_numpy(part))
        self._input.copy_(self._pinned, non_blocking=True)
        self._graph.replay()
        return self._output[: len(part)].cpu().numpy()


def padded_size(count: int) -> int:
    """The smallest of ``GRAPH_SIZES`` that holds ``count`` images, or the largest if none does."""
    return next((size for size in GRAPH_SIZES if size >= count), GRAPH_SIZES[-1])


def parts_of(batch: Prepared) -> list[Prepared]:
    """Split the batch into parts of at most the largest of ``GRAPH_SIZES`` images."""
    return [batch[start : start + GRAPH_SIZES[-1]] for start in range(0, len(batch), GRAPH_SIZES[-1])]
