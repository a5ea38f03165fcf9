"""Commands that need Ray, where it is not installed, end with one line that says how to install it."""

import importlib.util
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from testing.factories import draw_character, png_bytes
from training import cli as training


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str, package: str | None = None) -> object:
        return None if name == "ray" else importlib.util.find_spec(name, package)

    monkeypatch.setattr("model.extras.find_spec", find)


def test_serving(tmp_path: Path):
    done = CliRunner().invoke(cli, ["serve", "--engine", "ray", "--port", "0", "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr == (
        "oneshot: ONESHOT_ENGINE=ray needs Ray, which is not installed: pip install 'oneshot[ray]'\n"
    )


def test_enrolling(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png_bytes(draw_character(1)))
    done = CliRunner().invoke(cli, ["enroll", "--engine", "ray", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr == "oneshot: --engine ray needs Ray, which is not installed: pip install 'oneshot[ray]'\n"


def test_training(tmp_path: Path):
    done = CliRunner().invoke(training.app, ["fit", "omniglot", "--engine", "ray", "--out", str(tmp_path)])
    assert done.exit_code == 1
    assert isinstance(done.exception, ValueError)
    assert str(done.exception) == ("--engine ray needs Ray, which is not installed: pip install 'oneshot[ray,train]'")
