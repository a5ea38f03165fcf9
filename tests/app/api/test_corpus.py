"""Public corpora of files on which decoders failed: none makes the service fail."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from testing.factories import draw_character, png_bytes
from testing.growth import peak
from testing.processes import Server, enroll
from testing.proofs import Proof, record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("ONESHOT_CORPUS" not in os.environ, reason="ONESHOT_CORPUS names no folder of images"),
]

RAW = {"Content-Type": "application/octet-stream"}
#: Recognised, or refused because of the file.
FINE = {200, 413, 415, 422}


def files() -> Iterator[Path]:
    """All non-empty files of the folder, in a fixed order."""
    found = (path for path in sorted(Path(os.environ["ONESHOT_CORPUS"]).rglob("*")) if path.is_file())
    return (path for path in found if path.stat().st_size and ".git" not in path.parts)


@pytest.mark.timeout(1200)
def test_every_file_of_a_corpus_is_recognised_or_refused(artifact: Path, tmp_path: Path):
    statuses, problems, bad, slowest = Counter[int](), Counter[str](), list[str](), (0.0, "")
    with Server(tmp_path / "home", artifact) as server:
        good = png_bytes(draw_character(1))
        with httpx.Client(base_url=server.ready().url, timeout=60, trust_env=False) as client:
            enroll(client, "known", good)
            before = peak(server.process.pid)
            for path in files():
                began = time.monotonic()
                answer = client.post("/classify", content=path.read_bytes(), headers=RAW)
                slowest = max(slowest, (time.monotonic() - began, path.name))
                statuses[answer.status_code] += 1
                if answer.status_code not in FINE:
                    bad.append(f"{path}: {answer.text}")
                elif answer.status_code != 200:
                    problems[answer.json()["type"].rpartition(":")[2]] += 1
            assert client.post("/classify", content=good, headers=RAW).json()["label"] == "known"
        grown = peak(server.process.pid) - before
    assert not bad, "\n".join(bad)
    assert statuses[200] > 0
    record(
        "corpus",
        Proof(
            "All files of Pillow's own tests (a checkout's `Tests/images`)",
            'ONESHOT_CORPUS=<folder> make test ARGS="-m slow tests/app/api/test_corpus.py"',
            {"files": statuses.total()},
            dict(sorted(problems.items())),
            0,
            sum(count for status, count in statuses.items() if status >= 500),
            f"memory {grown:+.0f} MB at the peak",
            f"answers: {', '.join(f'{count:,} x {status}' for status, count in sorted(statuses.items()))}; the slowest "
            f"after {slowest[0]:.1f} s",
        ),
    )
