"""The exposition parses with the official parser; dashboards and alerts use only existing metrics."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard, Panel
from grafana_foundation_sdk.models.prometheus import Dataquery
from prometheus_client.parser import text_string_to_metric_families

from app.telemetry.metrics import Metrics
from testing.docs import ROOT
from testing.served import Running

DEPLOY = ROOT / "deploy"
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


def test_the_dashboard_is_one_that_grafana_knows():
    """A round trip through Grafana's own models drops and changes nothing."""
    register_default_plugins()
    dashboard = json.loads((DEPLOY / "grafana.json").read_text("utf-8"))
    read = Dashboard.from_json(dashboard)
    assert read.panels is not None
    panels = [panel for panel in read.panels if isinstance(panel, Panel)]
    assert len(panels) == len(read.panels)
    targets = [target for panel in panels for target in panel.targets or []]
    assert {type(target) for target in targets} == {Dataquery}
    assert contains(json.loads(JSONEncoder().encode(read)), dashboard)


def contains(whole: object, part: object) -> bool:
    """Whether `whole` has every value of `part` at the same place."""
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(whole) == len(part) and all(map(contains, whole, part))
    return whole == part


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on this machine")
def test_promtool_finds_nothing_wrong():
    subprocess.run(["promtool", "check", "rules", DEPLOY / "alerts.yml"], check=True, timeout=60)
