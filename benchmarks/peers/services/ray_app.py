"""Ray Serve, with batching and several replicas."""

from __future__ import annotations

import signal
from typing import Any

from ray import serve
from starlette.requests import Request

from benchmarks.peers.services.core import MAX_BATCH, PORT, WAIT, WORKERS, Recogniser


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.5})
class Classify:
    """Classifies raw bodies."""

    def __init__(self) -> None:
        self.recogniser = Recogniser()

    @serve.batch(max_batch_size=MAX_BATCH, batch_wait_timeout_s=WAIT)
    async def classify(self, batch: list[bytes]) -> list[dict[str, Any]]:
        """Classify a batch."""
        return self.recogniser.batch([self.recogniser.prepare(data) for data in batch])

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Classify one image."""
        answer: dict[str, Any] = await self.classify(await request.body())
        return answer


if __name__ == "__main__":
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Classify.bind(), route_prefix="/classify")
    signal.pause()
