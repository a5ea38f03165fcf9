"""Alerts and dashboard in a real Prometheus that scrapes the real service: every expression is evaluated."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from testing.docs import ROOT
from testing.served import Running

DEPLOY = ROOT / "deploy"
RULES = {
    "OneshotDown",
    "OneshotErrors",
    "OneshotOverloaded",
    "OneshotStoreUnavailable",
    "OneshotMemoryGrows",
    "OneshotSlow",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="no Prometheus on this machine"),
]


class Prometheus:
    """A client for a running Prometheus."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def get(self, path: str, **query: str) -> Any:
        answer = self._client.get(f"/api/v1/{path}", params=query)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["status"] == "success"
        assert not body.get("warnings"), body
        return body["data"]


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Run Prometheus with the project's rules, scraping the target every second."""
    job = {"job_name": "oneshot", "static_configs": [{"targets": [target]}]}
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "alerts.yml")],
        "scrape_configs": [job],
    }
    (folder / "prometheus.yml").write_text(json.dumps(settings), "utf-8")  # JSON is YAML
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with subprocess.Popen([*command, f"--web.listen-address={address}"], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: httpx.get(f"http://{address}/-/ready", trust_env=False).status_code == 200)
            with httpx.Client(base_url=f"http://{address}", timeout=10, trust_env=False) as client:
                yield Prometheus(client)
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_until(condition: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.2)


def use(server: Running, images: list[bytes]) -> None:
    server.enroll("a", images[0])
    server.classify(images[0], threshold=0)
    server.classify(b"")


def test_rules_and_dashboard_in_a_real_prometheus(served: Running, images: list[bytes], tmp_path: Path):
    use(served, images)
    with prometheus(tmp_path, served.url.removeprefix("http://")) as database:
        for _ in range(8):  # rates need several scrapes with new values in each
            use(served, images)
            time.sleep(1)
        wait_until(lambda: database.get("query", query='up{job="oneshot"}')["result"])
        [group] = database.get("rules")["groups"]
        assert {rule["name"] for rule in group["rules"]} == RULES
        for rule in group["rules"]:
            assert (rule["health"], rule.get("lastError", "")) == ("ok", ""), rule
            assert rule["state"] != "firing", "nothing is wrong for as long as a rule asks"
        panels = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))["panels"]
        for panel in panels:
            for target in panel["targets"]:
                expression = target["expr"].replace("$__rate_interval", "8s")
                assert database.get("query", query=expression)["result"], (panel["title"], expression)
                labels = database.get("query", query=expression)["result"][0]["metric"]
                for name in target.get("legendFormat", "").split("{{")[1:]:
                    assert name.split("}}")[0] in labels, (panel["title"], "the legend names a label that is not there")


def test_an_alert_fires_when_the_service_is_away(tmp_path: Path):
    with prometheus(tmp_path, f"127.0.0.1:{free_port()}") as database:
        wait_until(
            lambda: [alert["labels"]["alertname"] for alert in database.get("alerts")["alerts"]] == ["OneshotDown"]
        )
