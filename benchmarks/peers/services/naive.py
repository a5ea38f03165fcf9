"""A typical FastAPI service: a synchronous endpoint, an uploaded file, one forward pass per request."""

from __future__ import annotations

from functools import cache
from typing import Any

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.peers.services.core import PORT, WORKERS, Recogniser

app = FastAPI()
recogniser = cache(Recogniser)


@app.post("/classify")
def classify(image: UploadFile) -> dict[str, Any]:
    """Classify one image."""
    return recogniser().one(image.file.read())


@app.get("/health")
def health() -> str:
    """Load the model and report readiness."""
    recogniser()
    return "ok"


if __name__ == "__main__":
    uvicorn.run("benchmarks.peers.services.naive:app", port=PORT, workers=WORKERS, access_log=False)
