"""The front, the knee and the table on given numbers, and a complete run on two small artefacts."""

from __future__ import annotations

from benchmarks import pareto
from benchmarks.pareto import Choice, front, knee, page, plot
from testing.synthetic import TINY_RECIPE, write_tree
from training.fit import fit
from training.recipe import load_recipe


def choice(name, speed, accuracy):
    return Choice(name, f"{name}@0", 1000, 0.1, 40, speed, accuracy, accuracy - 1, accuracy + 1, "made up")


A, B, C, D = choice("a", 1000, 80), choice("b", 500, 92), choice("c", 100, 93), choice("d", 400, 85)


def test_the_front_holds_what_nothing_beats():
    assert front([C, D, A, B]) == [A, B, C]
    assert front([A, choice("same", 1000, 79)]) == [A]


def test_the_knee():
    assert knee([C, D, A, B]) is B
    assert knee([A, C]) is C, "of two the more accurate"
    assert knee([D]) is D


def test_the_page_and_the_plot(tmp_path):
    text = page([A, B, C, D])
    assert "| b | `b@0` | 500 | 92.00 | 91.00 to 93.00 | 40 px | 1,000 | 0.10 | knee |" in text
    assert text.count("| front |") == 2
    plot([A, B, C, D], tmp_path / "images" / "pareto.png")
    assert (tmp_path / "images" / "pareto.png").stat().st_size > 5_000


def test_artefacts_are_measured_on_what_they_held_out(tmp_path):
    tree = write_tree(tmp_path / "data")
    (tmp_path / "tiny.toml").write_text(TINY_RECIPE.format(similarity="cosine", objective="matching"))
    for name, width in (("narrow", 4), ("wide", 16)):
        fit(load_recipe(str(tmp_path / "tiny.toml"), (f"network.width={width}",)), tree, tmp_path / name)
    found = pareto.measure([tmp_path / "narrow", tmp_path / "wide"], tree, rounds=3)
    assert [row.name for row in found] == ["narrow", "wide"]
    assert found[0].parameters < found[1].parameters
    for row in found:
        assert row.images_per_second > 0
        assert row.low <= row.accuracy <= row.high
        assert row.held_out == "1 held-out Omniglot background alphabets, all drawers"
