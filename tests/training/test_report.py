"""A report is measured once, has n, interval and seed for every figure, and is rendered from its JSON alone."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from model.artifact import load_artifact
from testing.factories import make_artifact
from testing.synthetic import TINY_RECIPE, write_tree
from training.cli import main
from training.data.labelled import DatasetError
from training.episodes import judge_trials
from training.fit import fit
from training.recipe import load_recipe
from training.report.measure import measure, measurements
from training.report.plots import draw_all
from training.report.schema import ReportError, read_report
from training.report.write import render, write_report
from training.subject import open_subject

TRIALS = 400


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with ``data``, and with ``model``, a briefly trained artefact that held out two alphabets."""
    root = tmp_path_factory.mktemp("report")
    write_tree(root / "data")
    recipe = root / "tiny.toml"
    recipe.write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    changes = ("data.held_out=['Beta', 'Gamma']", "optimizer.steps=60", "validate_every=20")
    fit(load_recipe(str(recipe), changes), root / "data", root / "model")
    return root


@pytest.fixture(scope="module")
def report(place):
    artifact = load_artifact(place / "model")
    return measure(artifact, place / "data", command="a command", part="held-out", trials=TRIALS)


def test_every_figure_has_its_n_its_interval_and_its_seed(report):
    assert [figure.key for figure in report.figures] == ["one-shot", "verification", "verification-within"]
    for figure in report.figures:
        assert 0 <= figure.low <= figure.value <= figure.high <= 100
        assert figure.n in {TRIALS, 2 * TRIALS}
        assert figure.seed is not None
        assert figure.over == "2 alphabets"
    assert report.figure("one-shot").value > 15, "better than chance, one in twenty"


def test_where_it_comes_from(report, place):
    origin = report.origin
    manifest = load_artifact(place / "model").manifest
    assert (origin.digest, origin.model_id) == (manifest.digest, manifest.model_id)
    assert origin.command == "a command"
    assert origin.data == "2 held-out Omniglot background alphabets, all drawers"
    assert origin.machine
    assert {"python", "torch", "numpy"} <= set(origin.versions)
    assert origin.training_minutes is not None
    assert [look.step for look in report.history if look.error is not None] == [20, 40, 60]
    assert report.cost.slowest <= report.cost.images_per_second <= report.cost.fastest


def test_curves_are_consistent(report):
    assert [point.n_way for point in report.within_way] == [2, 3, 5, 7, 10, 15, 20]
    assert [point.n_way for point in report.across_way] == [2, 3, 5, 10, 20]
    values = [point.accuracy.value for point in report.across_way]
    assert values[0] > values[-1]
    assert [curve.name for curve in report.verification] == ["within", "across"]
    for curve in report.verification:
        assert curve.eer.low <= curve.eer.value <= curve.eer.high
        assert list(curve.fnmr_at) == ["0.1", "0.01", "0.001"]
        assert list(curve.fmr) == sorted(curve.fmr)
    assert [row.size for row in report.open_set] == [5, 20]
    for row in report.open_set:
        assert row.oscr <= row.auroc <= 1
        assert list(row.curve_fnir) == sorted(row.curve_fnir, reverse=True)


def test_mistakes_are_those_of_the_main_figure_worst_first(report):
    figure = report.figure("one-shot")
    assert report.n_mistakes == round(figure.n * (1 - figure.value / 100))
    behind = [mistake.distance_truth - mistake.distance_chosen for mistake in report.mistakes]
    assert behind == sorted(behind, reverse=True)
    assert min(behind) >= 0
    for mistake in report.mistakes:
        assert mistake.truth != mistake.chosen
        assert mistake.truth.split("/")[0] == mistake.chosen.split("/")[0], "one alphabet"
        assert mistake.query_image != mistake.truth_image, "the query is not its own support"


def test_a_constant_model_is_never_right(place):
    subject = open_subject(load_artifact(place / "model"), place / "data", "held-out")
    subject.__dict__["vectors"] = np.ones_like(subject.vectors)
    for within in (True, False):
        trials = subject.trials(20, 200, 0, within=within)
        assert judge_trials("cosine", subject.vectors, trials).sum() == 0
        assert (trials.answers == 0).mean() == pytest.approx(1 / 20, abs=0.05)
        assert not (trials.supports == trials.queries[:, None]).any()


def test_what_was_held_out_must_be_known(tmp_path, place):
    with pytest.raises(DatasetError, match="no recipe"):
        open_subject(load_artifact(make_artifact(tmp_path)), place / "data", "held-out")


def test_the_manifest_gets_the_same_figures(report):
    rows = measurements(report)
    assert [row.value for row in rows] == [figure.value for figure in report.figures]
    assert [row.protocol for row in rows] == [figure.protocol for figure in report.figures]


class Outside(HTMLParser):
    """Collects the URLs that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.fetched = []

    def handle_starttag(self, tag, attributes):
        self.fetched += [
            value
            for name, value in attributes
            if name in {"src", "href", "xlink:href", "srcset", "data"} and not value.startswith(("data:", "#"))
        ]


def test_everything_is_drawn_from_the_json_alone(report, tmp_path):
    page = write_report(report, tmp_path / "first")
    first = {file.name: file.read_bytes() for file in page.parent.iterdir()}
    assert {"report.json", "report.md", "report.html", "det.svg", "roc.svg", "ways.svg", "map.svg"} <= set(first)
    assert {"training.svg", "reliability.svg", "open-set.svg"} <= set(first)
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "report.json").write_bytes(first["report.json"])
    render(tmp_path / "second")
    assert {file.name: file.read_bytes() for file in (tmp_path / "second").iterdir()} == first


def test_the_page_needs_nothing_else(report, tmp_path):
    text = write_report(report, tmp_path).read_text("utf-8")
    parser = Outside()
    parser.feed(text)
    assert parser.fetched == []
    assert "url(http" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert f"{report.figure('one-shot').value:.2f}" in text
    assert report.origin.model_id in text
    assert text.count('class="mistake"') == len(report.mistakes)
    assert "#010203" not in text, "stand-in colours are replaced"


def test_names_are_escaped(report, tmp_path):
    mistake = report.mistakes[0].model_copy(update={"truth": "A/<script>alert(1)</script>"})
    text = write_report(report.model_copy(update={"mistakes": (mistake,)}), tmp_path).read_text("utf-8")
    assert "<script" not in text


def test_a_report_without_pictures_is_small_and_still_draws(report, tmp_path):
    bare = report.without_pictures()
    bare.write(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text("utf-8")
    assert "data:image" not in text
    assert len(text) < 100_000
    assert set(draw_all(read_report(tmp_path / "report.json"))) == set(draw_all(report))
    render(tmp_path)


def test_reports_of_earlier_releases_are_read_without_their_views(report, tmp_path):
    report.write(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text("utf-8"))
    content["figures"] = [{**row, "views": views} for row in content["figures"] for views in (1, 3)]
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert [figure.key for figure in read_report(tmp_path / "report.json").figures] == [
        figure.key for figure in report.figures
    ]


def test_what_is_no_report(tmp_path):
    with pytest.raises(ReportError, match="cannot be read"):
        render(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ReportError, match="no report"):
        read_report(tmp_path / "report.json")


def test_the_command_line(place, tmp_path, monkeypatch, capsys):
    command = ["oneshot-train", "evaluate", str(place / "model"), "--data", str(place / "data")]
    command += ["--part", "held-out", "--trials", "200", "--out", str(tmp_path), "--threads", "1", "--write"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["origin"]["command"] == "oneshot-train evaluate model --part held-out --trials 200"
    rows = load_artifact(place / "model").manifest.accuracy
    assert [row.value for row in rows] == [figure["value"] for figure in found["figures"]]
    assert f"{rows[0].value:g} % right" in (place / "model" / "README.md").read_text()
    monkeypatch.setattr(sys, "argv", ["oneshot-train", "report", str(tmp_path)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0
