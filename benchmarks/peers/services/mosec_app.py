"""mosec, with dynamic batching and several workers: raw bodies, decoded in the worker that runs the model."""

from __future__ import annotations

from typing import Any

import mosec

from benchmarks.peers.services.core import MAX_BATCH, WAIT, WORKERS, Recogniser


class Classify(mosec.Worker):
    """Classifies raw bodies."""

    def __init__(self) -> None:
        super().__init__()
        self.recogniser = Recogniser()

    def deserialize(self, data: bytes) -> Any:
        """Decode the image."""
        return self.recogniser.prepare(data)

    def forward(self, data: list[Any]) -> list[Any]:
        """Classify a batch."""
        return self.recogniser.batch(data)


if __name__ == "__main__":
    server = mosec.Server()
    runtime = mosec.Runtime(Classify, num=WORKERS, max_batch_size=MAX_BATCH, max_wait_time=int(1000 * WAIT))
    server.register_runtime({"/classify": [runtime]})
    server.run()
