"""The page of training variants: the variants are valid recipes, and the table shows the differences."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.tried import BASE, FIRST, VARIANTS, Row, folder_of, page
from training.recipe import load_recipe


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_is_a_recipe_that_differs_from_the_first(name: str):
    first, other = (load_recipe("omniglot", (*BASE, *VARIANTS[each])) for each in (FIRST, name))
    assert (first == other) == (name == FIRST)


def test_each_variant_has_a_folder_of_its_own(tmp_path: Path):
    assert len({folder_of(name, tmp_path) for name in VARIANTS}) == len(VARIANTS)


def test_the_page_tells_differences_from_the_first():
    rows = [Row(FIRST, (), 85.0, 0.0, 0.0, 0.0, 3.0), Row("softmax alone", ("a=1",), 84.1, -0.9, -1.4, -0.3, 2.5)]
    text = page(rows)
    assert f"| {FIRST} |  | 85.00 |  |  | 3.0 |" in text
    assert "| softmax alone | `a=1` | 84.10 | -0.90 | -1.40 to -0.30 | 2.5 |" in text
