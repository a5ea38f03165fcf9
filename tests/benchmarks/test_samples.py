"""The sample answers in the guides are those of the service with default settings."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from benchmarks.samples import API, README, answers, draw, with_model, with_samples
from testing.docs import pages

_NUMBER = re.compile(r"-?\d+\.\d+")
_TIME = re.compile(r'"\d{4}-\d\d-\d\dT[\d:.]+Z"')


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return asyncio.run(answers(draw(tmp_path_factory.mktemp("images"))))


def numbers(text: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(_TIME.sub("", text))]


def words(text: str) -> str:
    return _NUMBER.sub("#", _TIME.sub("", text))


def test_the_readme_shows_what_the_service_answers(found: dict[str, Any]):
    pytest.importorskip("openvino", reason="the samples are those of the int8 form, which OpenVINO runs")
    shown = README.read_text("utf-8")
    made = with_samples(shown, found)
    assert words(made) == words(shown), "run: python -m benchmarks.samples"
    # CPUs differ in rounding
    assert numbers(made) == pytest.approx(numbers(shown), rel=0.02, abs=0.02)
    page = API.read_text("utf-8")
    assert with_model(page, found) == page, "run: python -m benchmarks.samples"


def test_no_guide_shows_the_answer_of_another_model(found: dict[str, Any]):
    for page in pages():
        for model in re.findall(r'"model": ?"([^"]+)"', page.read_text("utf-8")):
            assert model == found["house"]["model"], page
