"""What is exposed parses with the official parser, and dashboards and alerts name only what is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.metrics import Metrics
from tests.app.conftest import Running

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = ("_seconds", "_bytes", "_images", "_ratio")


def test_metrics_parse_and_follow_the_conventions(served: Running, images: list[bytes]):
    served.enroll("a", images[0])
    served.classify(images[0])
    served.classify(b"")
    families = {family.name: family for family in text_string_to_metric_families(served.client.get("/metrics").text)}
    assert families["oneshot_requests"].type == "counter"
    for name, family in families.items():
        assert family.documentation, name
        assert family.samples, name
        if family.type == "histogram":
            assert name.endswith(UNITS), name
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples), name
    assert families["process_open_fds"].samples[0].value > 0


def test_dashboard_and_alerts_name_only_what_is_exposed():
    known = {family.name for family in Metrics().registry.collect()} | {"oneshot"}
    alerts, dashboard = (DEPLOY / "alerts.yml").read_text("utf-8"), (DEPLOY / "grafana.json").read_text("utf-8")
    panels = json.loads(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) >= 8
    expressions = " ".join([*re.findall(r"expr: (.*)", alerts), *(t["expr"] for p in panels for t in p["targets"])])
    named = set(re.findall(r"\b(?:oneshot|process)_\w+", expressions))
    assert len(named) > 10
    for name in named:
        assert re.sub(r"_(bucket|sum|count|total)$", "", name) in known or name in known, name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on this machine")
def test_promtool_finds_nothing_wrong():
    subprocess.run(["promtool", "check", "rules", DEPLOY / "alerts.yml"], check=True, timeout=60)
