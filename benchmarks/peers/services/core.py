"""Shared by all peers: bytes to a prepared image, a batch of images to vectors, a vector to an answer.

The gallery is a matrix in memory: no store, no validation, no metrics, no open-set decision.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from model.artifact import load_artifact
from model.distances import Vectors
from model.embedder import Embedder
from model.images import decode_image
from model.preprocess import Prepared

WORKERS = int(os.environ.get("BENCH_WORKERS", "2"))
MAX_BATCH = 32
#: How long a batch waits for more images, in seconds.
WAIT = 0.005
PORT = int(os.environ.get("BENCH_PORT", "8000"))


class Recogniser:
    """The model on one thread, with torch or with the engine that ``BENCH_ENGINE`` names."""

    def __init__(self) -> None:
        folder = Path(os.environ["BENCH_FOLDER"])
        artifact = load_artifact(Path(os.environ["BENCH_MODEL"]))
        self._embedder = Embedder(artifact, "cpu", 1, os.environ.get("BENCH_ENGINE", "torch"))  # type: ignore[arg-type]
        labels = sorted(folder.glob("gallery/*.png"))
        self._labels = [path.stem for path in labels]
        self._gallery = self.embed(np.stack([self.prepare(path.read_bytes()) for path in labels]))
        self._calibration = artifact.manifest.calibration

    def prepare(self, data: bytes) -> Prepared:
        """Decode and prepare one image."""
        return self._embedder.prepare(decode_image(data))

    def embed(self, batch: Prepared) -> Vectors:
        """Embed a batch."""
        return self._embedder.embed(batch)

    def answer(self, vector: Vectors) -> dict[str, Any]:
        """The five nearest classes."""
        found = 1 - self._gallery @ vector
        best = np.argpartition(found, 5)[:5]
        best = best[np.argsort(found[best])]
        similarity = self._calibration.probability(found[best]).tolist()
        return {
            "candidates": [
                {"label": self._labels[place], "distance": float(found[place]), "similarity": each}
                for place, each in zip(best.tolist(), similarity, strict=True)
            ]
        }

    def batch(self, prepared: list[Prepared]) -> list[dict[str, Any]]:
        """The answers for a batch."""
        return [self.answer(vector) for vector in self.embed(np.stack(prepared))]

    def one(self, data: bytes) -> dict[str, Any]:
        """The answer for one image."""
        return self.batch([self.prepare(data)])[0]


def as_json(answer: dict[str, Any]) -> bytes:
    """The answer's body."""
    return json.dumps(answer).encode()
