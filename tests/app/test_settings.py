"""Sources of settings, and errors for invalid ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.settings import Settings, SettingsError, allowed, load_settings, option, unknown_variables, variable


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # only the test's own .env


def test_defaults():
    settings = load_settings()
    assert (settings.host, settings.port, settings.home) == ("127.0.0.1", 8000, Path("data"))
    assert (settings.max_upload_bytes, settings.max_batch, settings.max_queue) == (10 * 2**20, 64, 256)
    assert settings.model is None
    assert settings.device == "auto"


def test_options_come_before_the_environment_before_the_file(monkeypatch: pytest.MonkeyPatch):
    Path(".env").write_text("ONESHOT_PORT=1\nONESHOT_MAX_BATCH=2\nONESHOT_THREADS=3\nOTHER=x\n")
    monkeypatch.setenv("ONESHOT_PORT", "4")
    monkeypatch.setenv("ONESHOT_MAX_BATCH", "5")
    settings = load_settings(port="6", max_batch=None)
    assert (settings.port, settings.max_batch, settings.threads) == (6, 5, 3)


def test_an_empty_variable_means_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONESHOT_THREADS", "")
    monkeypatch.setenv("ONESHOT_MODEL", "")
    assert load_settings().threads is None
    assert load_settings().model is None


def test_settings_cant_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().port = 1


WRONG = {
    "port": "abc",
    "max_upload_bytes": "10MB",
    "max_pixels": "0",
    "max_images": "-1",
    "max_batch": "1.5",
    "max_queue": "many",
    "threads": "0",
    "device": "gpu",
    "request_timeout": "0",
    "log_level": "verbose",
    "log_format": "xml",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_line_with_the_variable_and_what_is_allowed(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable(name), WRONG[name])
    with pytest.raises(SettingsError) as caught:
        load_settings()
    line = str(caught.value)
    assert "\n" not in line
    for words in (variable(name), option(name), repr(WRONG[name]), allowed(Settings.model_fields[name])):
        assert words in line


@pytest.mark.parametrize(("name", "value"), [("port", "65536"), ("port", "-1"), ("device", "cuda:x"), ("threads", "x")])
def test_the_edges_of_what_is_allowed(name: str, value: str):
    with pytest.raises(SettingsError, match=variable(name)):
        load_settings(**{name: value})


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
def test_devices(device: str):
    assert load_settings(device=device).device == device


@pytest.mark.parametrize("name", ["max_images", "max_batch"])
def test_a_queue_that_cant_hold_one_request_is_refused(name: str):
    with pytest.raises(SettingsError) as caught:
        load_settings(**{name: "300"})
    assert variable(name) in str(caught.value)
    assert "ONESHOT_MAX_QUEUE=256" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_one_line():
    Path(".env").write_bytes(b"ONESHOT_PORT=\xff\xfe")
    with pytest.raises(SettingsError, match=r"\.env can't be read"):
        load_settings()


def test_typos_are_found_with_the_nearest_name():
    Path(".env").write_text("ONESHOT_MAXBATCH=3\n")
    environ = {"ONESHOT_POTR": "1", "ONESHOT_PORT": "1", "ONESHOT_DATASETS": "/x", "oneshot_host": "x", "PATH": "/bin"}
    assert unknown_variables(environ) == {"ONESHOT_MAXBATCH": "ONESHOT_MAX_BATCH", "ONESHOT_POTR": "ONESHOT_PORT"}
    assert unknown_variables({"ONESHOT_ZZZZZ": ""})["ONESHOT_ZZZZZ"] is None


def test_every_setting_says_what_it_means_and_what_is_allowed():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert allowed(field), name
