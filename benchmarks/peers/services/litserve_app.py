"""LitServe, with batching and several workers."""

# no "from __future__ import annotations": LitServe needs real types in the annotations, not strings

from typing import Any

import litserve
from fastapi import Request

from benchmarks.peers.services.core import MAX_BATCH, PORT, WAIT, WORKERS, Recogniser


class Classify(litserve.LitAPI):
    """Classifies uploaded files."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe's
        """Load the model."""
        self.recogniser = Recogniser()

    def decode_request(self, request: Request) -> Any:
        """Decode the image."""
        return self.recogniser.prepare(request["image"].file.read())

    def predict(self, batch: Any) -> Any:
        """Classify a batch."""
        return self.recogniser.batch(list(batch))

    def batch(self, inputs: Any) -> Any:
        """Keep the images as they are."""
        return inputs

    def unbatch(self, output: Any) -> Any:
        """Keep the answers as they are."""
        return output

    def encode_response(self, output: Any) -> Any:
        """Answer as JSON."""
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Classify(max_batch_size=MAX_BATCH, batch_timeout=WAIT, api_path="/classify"),
        accelerator="cpu",
        workers_per_device=WORKERS,
    )
    server.run(host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning")
