"""The serving part of `benchmarks.gpu`: copies to and from the device, and forward passes in several forms."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from model.artifact import Artifact, load_artifact
from model.distances import Vectors
from model.embedder import Embedder, EngineName
from model.preprocess import Prepared
from model.torch_engine import GRAPH_SIZES

Precision = Literal["float32", "half", "half weights"]
Row: TypeAlias = dict[str, Any]
Measure: TypeAlias = Callable[[Prepared, float], tuple[float, Vectors]]

#: Bytes of one large copy, measured in addition to those of the batches.
LARGE_COPY = 1 << 28
#: Least number of timed groups of calls; a figure is their median.
_GROUPS = 5
_WARM_UP = 3


@dataclass(frozen=True)
class Form:
    """The form of a bare forward pass.

    ``half`` is torch's autocast, which casts the weights in every pass; ``half weights`` casts the network once.
    ``graph`` is a CUDA graph; ``tuned`` lets cuDNN benchmark its kernels and keep the fastest.
    """

    precision: Precision = "float32"
    channels_last: bool = False
    graph: bool = False
    tuned: bool = False

    @property
    def name(self) -> str:
        """A readable name, such as ``half, channels-last, graph``."""
        extras = {"channels-last": self.channels_last, "graph": self.graph, "tuned": self.tuned}
        return ", ".join([self.precision, *(name for name, used in extras.items() if used)])


def forms(device: torch.device) -> list[Form]:
    """The forms that ``device`` can run; graphs, tuning and half precision need CUDA."""
    plain = [Form(), Form(channels_last=True)]
    if device.type != "cuda":
        return plain
    halves: tuple[Precision, ...] = ("half", "half weights")
    eager = plain + [Form(each, layout) for each in halves for layout in (False, True)]
    graphs = [Form(form.precision, form.channels_last, graph=True) for form in eager]
    return [*eager, *graphs, *(Form(each, True, True, True) for each in ("float32", *halves))]


def seconds_of_call(call: Callable[[], object], device: torch.device, budget: float, *, queued: bool = False) -> float:
    """Return the median seconds of a call, measured for about ``budget`` seconds.

    Synchronises after each call; with ``queued``, after a group of several calls.
    """
    for _ in range(_WARM_UP):
        call()
    _wait(device)
    began = time.perf_counter()
    call()
    _wait(device)
    once = max(time.perf_counter() - began, 1e-7)
    calls = max(1, min(200, int(budget / once / _GROUPS))) if queued else 1
    found: list[float] = []
    end = time.perf_counter() + budget
    while len(found) < _GROUPS or time.perf_counter() < end:
        began = time.perf_counter()
        for _ in range(calls):
            call()
        _wait(device)
        found.append((time.perf_counter() - began) / calls)
    return statistics.median(found)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copies(device: torch.device, sizes: list[int], budget: float) -> Iterator[Row]:
    """Measure copies of these sizes (bytes) to and from the device, with pageable and pinned host memory."""
    kinds = ("pageable", "pinned") if device.type == "cuda" else ("pageable",)
    for size in sizes:
        there = torch.zeros(size, dtype=torch.uint8, device=device)
        for memory in kinds:
            here = torch.zeros(size, dtype=torch.uint8, pin_memory=memory == "pinned")
            for way, target, source in (("to the device", there, here), ("from the device", here, there)):
                part = budget / len(sizes) / len(kinds) / 2
                seconds = seconds_of_call(partial(target.copy_, source, non_blocking=True), device, part)
                yield {
                    "bytes": size,
                    "memory": memory,
                    "way": way,
                    "us": 1e6 * seconds,
                    "gb_per_s": size / seconds / 1e9,
                }


def forward(folder: Path, device: torch.device, batches: list[int], budget: float, *, seed: int = 0) -> Iterator[Row]:
    """Measure the artefact in ``folder`` as bare passes, through ``Embedder`` and through the service's batcher.

    The images are random. Bare passes have their input on the device and leave the vectors there; the others map numpy
    images (n, channels, size, size) to numpy vectors. A row's ``differs`` is the largest absolute difference of a
    vector element from float32 on the CPU. A form that fails here has an ``error`` instead of figures.
    """
    shape = _shape(load_artifact(folder))
    reference = Embedder(load_artifact(folder), "cpu", engine="torch")
    images = {batch: np.random.default_rng(seed).random((batch, *shape), np.float32) for batch in batches}
    vectors = {batch: reference.embed(images[batch]) for batch in batches}
    measures = _measures(folder, device)
    end, left = time.perf_counter() + budget, len(measures) * len(batches)
    for way, form, measure in measures:
        for batch in batches:
            row: Row = {"way": way, "form": form, "batch": batch}
            # an even share of the remaining time, which also covers the set-up of a form
            part = max(0.02, (end - time.perf_counter()) / left)
            left -= 1
            try:
                seconds, found = measure(images[batch], part)
            except (ImportError, RuntimeError) as error:  # a failing form must not stop the others
                yield row | {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
                continue
            differs = float(np.abs(found - vectors[batch]).max())
            yield row | {"ms": 1000 * seconds, "images_per_s": batch / seconds, "differs": differs}


def _measures(folder: Path, device: torch.device) -> list[tuple[str, str, Measure]]:
    """The measurements: kind, name, and a function from images and a time budget to seconds and vectors."""
    engines: tuple[EngineName, ...] = ("torch", "torch-half") if device.type == "cuda" else ("torch",)
    return [
        *(("bare", form.name, partial(_bare, folder, form, device)) for form in forms(device)),
        *(("Embedder", engine, partial(_embedder, folder, engine, device)) for engine in engines),
        *(("batcher", engine, partial(_batcher, folder, engine, device)) for engine in engines),
    ]


def _shape(artifact: Artifact) -> tuple[int, int, int]:
    spec = artifact.manifest.preprocess
    return spec.channels, spec.size, spec.size


def _bare(folder: Path, form: Form, device: torch.device, batch: Prepared, budget: float) -> tuple[float, Vectors]:
    run = _pass(load_artifact(folder), form, device)
    layout = torch.channels_last if form.channels_last else torch.contiguous_format
    images = torch.from_numpy(batch).to(device).contiguous(memory_format=layout)
    tuned_before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = form.tuned
    try:
        with torch.inference_mode():
            act = _captured(run, images, device) if form.graph else lambda: run(images)
            seconds = seconds_of_call(act, device, budget, queued=True)
            return seconds, act().cpu().numpy()
    finally:
        torch.backends.cudnn.benchmark = tuned_before


def _pass(artifact: Artifact, form: Form, device: torch.device) -> Callable[[Tensor], Tensor]:
    layout = torch.channels_last if form.channels_last else torch.contiguous_format
    network = artifact.network.to(device, memory_format=layout)  # type: ignore[call-overload]
    similarity = artifact.similarity.to(device)
    if form.precision == "half weights":
        network.half()

    def run(images: Tensor) -> Tensor:
        if form.precision == "half weights":
            images = images.half()
        with torch.autocast(device.type, torch.float16, enabled=form.precision == "half"):
            embeddings = network(images)
        found: Tensor = similarity.index_form(embeddings.float())
        return found.float()

    return run


def _captured(run: Callable[[Tensor], Tensor], images: Tensor, device: torch.device) -> Callable[[], Tensor]:
    """Return a function that replays ``run`` on ``images`` as one CUDA graph; it returns the same tensor each time."""
    torch.cuda.synchronize(device)
    side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    with torch.cuda.stream(side):
        for _ in range(_WARM_UP):  # libraries choose their kernels before the capture
            run(images)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        vectors = run(images)

    def replay() -> Tensor:
        graph.replay()
        return vectors

    return replay


def _embedder(
    folder: Path, engine: EngineName, device: torch.device, batch: Prepared, budget: float
) -> tuple[float, Vectors]:
    embedder = Embedder(load_artifact(folder), str(device), engine=engine)
    return seconds_of_call(lambda: embedder.embed(batch), device, budget), embedder.embed(batch)


def _batcher(
    folder: Path, engine: EngineName, device: torch.device, batch: Prepared, budget: float
) -> tuple[float, Vectors]:
    """Load the batcher with two batches' worth of one-image requests in one event loop; seconds are per batch."""
    from app.inference.batcher import Batcher  # noqa: PLC0415 - its packages may be missing on a training machine

    size = len(batch)
    embedder = Embedder(load_artifact(folder), str(device), engine=engine)
    embedder.warm_up([each for each in GRAPH_SIZES if each <= size])
    batcher = Batcher(embedder.embed, max_batch=size, max_queue=4 * size)
    batcher.start()

    async def ask(image: Prepared, end: float) -> int:
        answered = 0
        while time.perf_counter() < end:
            await batcher.embed([image])
            answered += 1
        return answered

    async def load(seconds: float) -> float:
        began = time.perf_counter()
        answered = await asyncio.gather(*(ask(image, began + seconds) for image in [*batch, *batch]))
        return (time.perf_counter() - began) * size / max(1, sum(answered))

    async def run() -> tuple[float, Vectors]:
        await load(budget / 10)
        seconds = await load(budget)
        return seconds, np.concatenate([await batcher.embed([image]) for image in batch])

    try:
        return asyncio.run(run())
    finally:
        batcher.close()
