"""Numbers in requests with thousands of digits, or that are no numbers: refused with a message, wherever read."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.settings import Settings, SettingsError, load_settings, variable
from oneshot_client.calls import classify
from oneshot_client.retry import retry_after
from oneshot_client.versions import LastWrite
from oneshot_client.wire import MIN_VERSION, VERSION, whole_number
from testing.served import Running

LONG = "9" * 4301  # one digit more than `int` accepts
ODD = [LONG, "-" + LONG, "1" + 400 * "0" + ".5", "1e999999", "nan", "-inf", "٣"]
JSON, LINES = "application/json", "application/x-ndjson"


@pytest.mark.parametrize("number", ODD)
def test_no_number_in_a_request_is_an_error_of_the_server(served: Running, number: str):
    ask, image = served.client.request, {"image": ("x", b"x")}
    raw = number.encode()
    answers = [
        *(
            ask(method, path, headers=[(MIN_VERSION.encode(), raw)])
            for method, path in (("GET", "/classes"), ("POST", "/embed"), ("DELETE", "/classes/x"))
        ),
        *(ask("GET", "/classes", params={name: number}) for name in ("limit",)),
        ask("GET", "/classes/x/image", params={"shot": number}),
        *(ask("POST", "/classify", params={name: number}, files=image) for name in ("k", "prior", "threshold", "fpir")),
        ask("POST", "/verify", params={"fmr": number}, files={"image1": b"x", "image2": b"x"}),
        ask("POST", "/galleries/x/calibrate", params={"prior": number}),
        *(
            ask("PATCH", "/classes/x", content=text.encode(), headers={"Content-Type": JSON})
            for text in (number, f'{{"label": {number}}}', f'{{"label": "a", "x": [{number}]}}')
        ),
    ]
    assert [(each.request.url.path, each.status_code) for each in answers if each.status_code not in {400, 422}] == []
    lines = ask(
        "POST", "/enroll/batch", content=f'{{"label": "a", "image": {number}}}\n', headers={"Content-Type": LINES}
    )
    assert (lines.status_code, lines.json()["failed"]) == (200, 1)


@pytest.mark.parametrize("number", ODD)
def test_no_number_in_the_header_of_a_file_or_a_part_is_an_error_of_the_server(served: Running, number: str):
    raw = number.encode()
    for head in (b"bytes=%s-", b"bytes=-%s", b"bytes=0-%s"):
        assert served.client.get("/docs/assets/favicon.png", headers=[(b"Range", head % raw)]).status_code < 500
    part = (
        b"--a\r\nContent-Disposition: form-data; name=image; filename*%s*=x\r\nContent-Length: %s\r\n\r\nx\r\n--a--\r\n"
    )
    form = [(b"Content-Type", b"multipart/form-data; boundary=a; x*%s*=y" % raw)]
    assert served.client.post("/classify", content=part % (raw, raw), headers=form).status_code in {400, 415, 422}


@pytest.mark.parametrize("text", [LONG, "9" * 20, "", "-1", "+1", "1_0", "1.0", " 1", "٣", "²"])
def test_what_is_no_whole_number_of_a_header(text: str):
    assert whole_number(text) is None


def test_the_client_takes_no_version_that_no_store_has():
    written = LastWrite()
    written.note(httpx.Response(200, headers={VERSION: "7"}))
    written.note(httpx.Response(200, headers={VERSION: LONG}))
    assert written.arguments(classify(b"image", {}))["headers"] == {MIN_VERSION: "7"}


@pytest.mark.parametrize(
    "text",
    [
        "nan",
        "1e5",
        "-5",
        f"Mon, 01 Jan {'9' * 30} 00:00:00 GMT",
        f"Mon, 01 Jan {LONG} 00:00:00 GMT",
        "Mon, 01 Jan 99999",
    ],
)
def test_a_pause_that_can_not_be_understood_is_none(text: str):
    assert retry_after({"retry-after": text}) is None


def test_a_pause_without_end_can_be_waited_for_by_a_program():
    for text in (LONG, format_datetime(datetime(9999, 12, 31, tzinfo=UTC), usegmt=True)):
        pause = retry_after({"retry-after": text})
        assert pause is not None
        assert math.isfinite(pause)
        assert time.time() + pause < 2**63 / 1e9, "what the system's clocks count to"


NUMBERS = [name for name, field in Settings.model_fields.items() if field.annotation in {int, float, int | None}]


@pytest.mark.parametrize("value", [LONG, "9" * 30, "9" * 400, "1e300", "inf", "nan"])
@pytest.mark.parametrize("name", NUMBERS)
def test_a_setting_beyond_all_use_is_one_short_line(name: str, value: str):
    with pytest.raises(SettingsError, match=variable(name)) as caught:
        load_settings(**{name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "value"),
    [("key_rate", f"{LONG}/minute"), ("key_rate", "٣/minute"), ("device", f"cuda:{LONG}")],
)
def test_numbers_within_settings(name: str, value: str):
    with pytest.raises(SettingsError, match=variable(name)):
        load_settings(**{name: value})


@pytest.mark.parametrize(
    "words",
    [
        ("--days", "nan"),
        ("--days", "1e30"),
        ("--days", LONG),
        ("--rate", f"{LONG}/minute"),
        ("--rate", "٣/day"),
        ("--concurrency", LONG),
        ("--concurrency", "9" * 30),
    ],
)
def test_keys_are_not_made_with_such_numbers(words: tuple[str, str], tmp_path: Path):
    done = CliRunner().invoke(cli, ["keys", "create", "x", *words, "--home", str(tmp_path / "home")])
    assert done.exit_code == 2, done.output
    assert words[0] in done.output
    assert not (tmp_path / "home").exists()
