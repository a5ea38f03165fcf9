"""The decisions benchmark measures, prints and plots a small data set; the page has its figures."""

from __future__ import annotations

import json

import pytest

from benchmarks import decisions
from model import DEFAULT_ARTIFACT
from model.artifact import INT8_FOLDER, load_artifact, read_manifest
from testing.factories import make_artifact
from testing.synthetic import write_tree
from training.data.omniglot import read_omniglot


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    root = write_tree(tmp_path_factory.mktemp("data"), "evaluation", {"Alpha": 12, "Beta": 10})
    artifact = load_artifact(make_artifact(root / "model"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(decisions.SIZES, "Omniglot", (2, 5))
        yield artifact, decisions.measure("Omniglot", artifact, read_omniglot(root, "evaluation"))


def test_what_is_measured(report):
    _, found = report
    assert [row.size for row in found.identification] == [2, 5]
    for row in found.identification:
        assert 0 <= row.fpir.low <= row.fpir.measured <= row.fpir.high <= 1
        assert row.fpir_fixed.measured >= row.fpir.measured, "knowing N never lets more strangers in"
        assert 0 <= row.oscr <= row.auroc <= 1
    assert [rate.target for rate in found.fmr] == list(decisions.FMRS)
    assert 0 <= found.ece <= 1


def test_the_page_says_what_was_measured(report):
    artifact, found = report
    text = decisions.page(artifact, [found])
    assert artifact.manifest.model_id in text
    assert f"ECE {100 * found.ece:.2f} %" in text
    assert sum(line.startswith(("| 2 |", "| 5 |")) for line in text.splitlines()) == 2


def test_the_plots_are_drawn(report, tmp_path):
    decisions.plot([report[1]], tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"fpir.png", "reliability.png"}
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in tmp_path.iterdir())


def test_the_committed_page_is_of_the_shipped_model():
    content = json.loads((decisions.DOCS / "decisions.json").read_text())
    assert content["model"] == read_manifest(DEFAULT_ARTIFACT / INT8_FOLDER).model_id, "the form that CPUs run"
    by_data = {report["data"]: report for report in content["reports"]}
    assert by_data["Omniglot"]["ece"] <= 0.02
    for row in by_data["Omniglot"]["identification"]:
        assert 1 / 1.5 <= row["fpir"]["measured"] / row["fpir"]["target"] <= 1.5, row["size"]
