"""BentoML, with adaptive batching behind an endpoint that decodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bentoml

from benchmarks.peers.services.core import MAX_BATCH, WORKERS, Recogniser


@bentoml.service(workers=WORKERS, traffic={"timeout": 60, "max_concurrency": 1024})
class Classify:
    """Classifies uploaded files."""

    def __init__(self) -> None:
        self.recogniser = Recogniser()

    @bentoml.api(route="/classify", batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000)
    def classify(self, image: list[Path]) -> list[dict[str, Any]]:
        """Classify a batch."""
        return self.recogniser.batch([self.recogniser.prepare(each.read_bytes()) for each in image])
