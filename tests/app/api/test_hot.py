"""The short way gives what the long way gives."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

PNG = {"Content-Type": "image/png"}


def told(response: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Status, body and headers, without what differs from request to request."""
    headers = {name: value for name, value in response.headers.items() if name not in {"x-request-id", "date"}}
    body = response.json()
    body.pop("request_id", None)
    headers.pop("content-length")
    return response.status_code, body, headers


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/classify?gallery=hot", "image", PNG),
        ("/classify?gallery=hot&k=2&explain=true&fpir=0.05&prior=0.2", "image", PNG),
        ("/classify?gallery=hot&threshold=0", "image", PNG),
        ("/classify?k=0&fpir=2", "image", PNG),
        ("/classify?fpir=0.1&threshold=0.5", "image", PNG),
        ("/classify?surprise=1", "image", PNG),
        ("/classify?k=many", "image", PNG),
        ("/classify?k=1&k=3&gallery=hot", "image", PNG),
        ("/classify?gallery=nowhere", "image", PNG),
        ("/classify", "", PNG),
        ("/classify", "no image", PNG),
        ("/classify", "image", {"Content-Type": "text/plain"}),
        ("/embed?surprise=1", "image", PNG),
        ("/embed", "image", PNG),
    ],
)
def test_a_request_gets_the_same_answer_either_way(served, images, monkeypatch, path, body, headers):  # noqa: PLR0917
    if served.classify(images[0], gallery="hot").status_code == 422:
        for number in range(3):
            served.enroll(f"c{number}", images[number], gallery="hot")
    content = images[1] if body == "image" else body.encode()
    short = told(served.client.post(path, content=content, headers=headers))
    monkeypatch.setattr("app.api.hot._ANSWERS", {})
    assert short == told(served.client.post(path, content=content, headers=headers))


def test_vectors_are_the_same_either_way(served, images, monkeypatch):
    files = [("image", ("x.png", image)) for image in images[:3]]
    short = told(served.client.post("/embed", files=files))
    monkeypatch.setattr("app.api.hot._ANSWERS", {})
    assert short == told(served.client.post("/embed", files=files))
    assert len(short[1]["embeddings"]) == 3


def test_requests_of_both_ways_are_counted_alike(served, images):
    name = 'oneshot_requests_total{method="POST",route="/classify",status="200"}'
    before = served.metric(name)
    served.classify(images[0])
    assert served.metric(name) == before + 1


def test_a_large_image_is_decoded_too(served):
    from testing.factories import draw_character, png_bytes  # noqa: PLC0415

    assert served.classify(png_bytes(draw_character(1, size=700))).status_code == 200
