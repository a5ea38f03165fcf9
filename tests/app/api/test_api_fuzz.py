"""Fuzz the API from its published schema: every answer, errors included, must be one that the schema declares."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from testing.processes import Server
from testing.proofs import Proof, record

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)
SCHEMATHESIS = shutil.which("st")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.skipif(SCHEMATHESIS is None, reason="no schemathesis on this machine (.ci/tools.txt)")
def test_every_answer_is_one_that_the_schema_declares(tmp_path: Path, artifact: Path):
    with Server(tmp_path / "home", artifact) as server:
        command = [str(SCHEMATHESIS), "run", f"{server.ready().url}/openapi.json", "--checks", ",".join(CHECKS)]
        command += ["--phases", "examples,coverage,fuzzing", "--max-examples", "10", "--seed", "1", "--no-shrink"]
        command += ["--continue-on-failure", "--warnings", "off", "--max-time", "100"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=360, check=False)
        assert done.returncode == 0, done.stdout[-8000:]
        match = re.search(r"([\d,]+) generated, ([\d,]+) passed", done.stdout)
        assert match, done.stdout[-2000:]
        assert match[1] == match[2]
        tried = int(match[1].replace(",", ""))
        assert tried > 300
    record(
        "API fuzzing",
        Proof(
            "API fuzzing by schemathesis, from the published schema",
            'make test ARGS="-m slow tests/app/api/test_api_fuzz.py"',
            {"requests": tried},
            {},
            0,
            0,
            ended="each answer as the schema declares it",
        ),
    )
