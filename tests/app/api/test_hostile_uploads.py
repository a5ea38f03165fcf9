"""Hostile images: each is answered quickly with a result or a problem, and other requests are unaffected."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import httpx
import numpy as np
import pytest

from testing.growth import look
from testing.hostile import drawing, encoded, mutations, odd_images
from testing.proofs import Proof, record
from testing.served import Running, make_settings, running

# Pillow warns about odd files. The service ignores that, but pytest turns warnings into errors.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

GOOD = encoded(drawing(), "PNG")
RAW = {"Content-Type": "application/octet-stream"}
#: Allowed statuses for a hostile image: recognised after all, or refused because of the file.
FINE = {200, 413, 415, 422}
SLOWEST_SECONDS = 10.0


def try_all(server: Running, cases: Iterable[tuple[str, bytes]]) -> Counter[int]:
    statuses: Counter[int] = Counter()
    for name, data in cases:
        began = time.monotonic()
        answer = server.client.post("/classify", content=data, headers=RAW)
        assert answer.status_code in FINE, (name, answer.text)
        assert time.monotonic() - began < SLOWEST_SECONDS, name
        if answer.status_code != 200:
            problem = answer.json()
            assert problem["type"].startswith("urn:oneshot:problem:"), name
            assert problem["type"] != "urn:oneshot:problem:internal-error"
        statuses[answer.status_code] += 1
    return statuses


class Neighbour:
    """Embeds one valid image repeatedly while the test runs."""

    def __init__(self, url: str) -> None:
        self.vectors: list[list[float]] = []
        self.bad: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        with httpx.Client(base_url=self._url, timeout=30, trust_env=False) as client:
            while not self._stop.is_set():
                answer = client.post("/embed", files={"image": ("x.png", GOOD)})
                if answer.status_code == 200:
                    self.vectors += answer.json()["embeddings"]
                else:
                    self.bad.append(answer.text)
                time.sleep(0.01)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        self._thread.join()

    def unharmed(self) -> None:
        assert self.bad == []
        vectors = np.array(self.vectors)
        assert len(vectors) > 10
        assert np.abs(vectors - vectors[0]).max() < 1e-5


def test_odd_images_are_answered(served: Running):
    with Neighbour(served.url) as neighbour:
        statuses = try_all(served, odd_images())
    neighbour.unharmed()
    assert statuses[200] > 20
    assert statuses[422] > 2


def test_some_mutations_of_each_format(served: Running):
    with Neighbour(served.url) as neighbour:
        statuses = try_all(served, mutations(1, 300))
    neighbour.unharmed()
    assert min(statuses[200], statuses[415], statuses[422]) > 5, statuses


def test_hostile_images_among_good_ones_in_one_request(served: Running):
    for number, (_, data) in enumerate(mutations(2, 20)):
        files = [("image", ("x", GOOD)), ("image", ("x", data)), ("image", ("x", GOOD))]
        answer = served.client.post("/embed", files=files)
        assert answer.status_code in FINE, number
        if answer.status_code != 200:
            assert "image[1]" in answer.json()["detail"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thousands_of_mutations_and_nothing_grows(artifact: Path, tmp_path: Path):
    with running(make_settings(model=artifact, home=tmp_path)) as server:
        statuses = try_all(server, itertools.chain(odd_images(), mutations(100, 1000)))
        before = look(os.getpid(), 0)
        with Neighbour(server.url) as neighbour:
            statuses += try_all(server, mutations(101, 4000))
        after = look(os.getpid(), 0)
    neighbour.unharmed()
    grown = after.resident - before.resident
    assert statuses.total() > 5000
    assert grown < 60, f"{grown:.0f} MB more"
    assert after.descriptors < before.descriptors + 10
    record(
        "hostile uploads",
        Proof(
            "Images made to do harm",
            'make test ARGS="-m slow tests/app/api/test_hostile_uploads.py"',
            {"images": statuses.total(), "images of a neighbour": len(neighbour.vectors)},
            {"mutations of 7 formats": 5000, "bombs, polyglots and odd shapes": statuses.total() - 5000},
            0,
            sum(count for status, count in statuses.items() if status >= 500),
            f"memory {grown:+.0f} MB and descriptors {after.descriptors - before.descriptors:+d} over the last 4,000",
            "neighbour's vectors unchanged; answers: "
            + ", ".join(f"{count:,} x {status}" for status, count in sorted(statuses.items())),
        ),
    )
