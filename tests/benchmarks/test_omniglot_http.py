"""The benchmark's own reading and arithmetic, without the data set; and a whole run against a real service."""

import json
import zipfile
from pathlib import Path

import httpx
import pytest

from benchmarks.omniglot_http import (
    Answer,
    BenchmarkError,
    archive_from_settings,
    main,
    measure,
    parse_class_labels,
    read_runs,
    render,
    report,
    wilson_interval,
)

LABELS = "run01/test/item01.png run01/training/class02.png\nrun01/test/item02.png run01/training/class01.png\n"


def write_archive(path: Path, labels: str = LABELS, without: str = "") -> Path:
    names = [f"run01/{kind}.png" for kind in ("test/item01", "test/item02", "training/class01", "training/class02")]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("run01/class_labels.txt", labels)
        for name in names:
            if name != without:
                archive.writestr(name, f"bytes of {name}")
    return path


def test_labels_are_pairs_in_order():
    assert parse_class_labels(LABELS) == [
        ("run01/test/item01.png", "run01/training/class02.png"),
        ("run01/test/item02.png", "run01/training/class01.png"),
    ]


def test_blank_lines_and_windows_line_ends_are_fine():
    assert parse_class_labels("\r\na/b.png c/d.png\r\n\r\n") == [("a/b.png", "c/d.png")]


def test_a_line_that_is_no_pair_is_named():
    with pytest.raises(BenchmarkError, match="line 2"):
        parse_class_labels("a.png b.png\na.png\n")


def test_a_run_ties_test_images_to_their_class(tmp_path: Path):
    (run,) = read_runs(write_archive(tmp_path / "all_runs.zip"))
    assert run.name == "run01"
    assert run.training == {
        "class01": b"bytes of run01/training/class01.png",
        "class02": b"bytes of run01/training/class02.png",
    }
    assert run.test == (
        ("item01", b"bytes of run01/test/item01.png", "class02"),
        ("item02", b"bytes of run01/test/item02.png", "class01"),
    )


def test_an_archive_that_lacks_an_image_is_damaged(tmp_path: Path):
    with pytest.raises(BenchmarkError, match="damaged"):
        read_runs(write_archive(tmp_path / "all_runs.zip", without="run01/test/item02.png"))


def test_no_archive_and_no_setting_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ONESHOT_DATASETS", raising=False)
    with pytest.raises(BenchmarkError, match="set ONESHOT_DATASETS"):
        archive_from_settings()
    (tmp_path / ".env").write_text("ONESHOT_DATASETS=elsewhere\n")
    assert archive_from_settings() == Path("elsewhere/omniglot/all_runs.zip")
    with pytest.raises(BenchmarkError, match="is not there"):
        read_runs(archive_from_settings())


# Worked values of Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_matches_published_values(hits: int, total: int, low: float, high: float):
    assert wilson_interval(hits, total) == pytest.approx((low, high), abs=5e-5)


def test_the_report_counts_closed_and_open_set_apart():
    answers = [
        Answer("item01", "class01", "class01", 0.9, "class01"),
        Answer("item02", "class02", "class02", 0.4, None),
        Answer("item03", "class03", "class01", 0.8, "class01"),
        Answer("item04", "class04", "class01", 0.2, None),
    ]
    result = report({"run01": answers}, {"model": "m@1", "device": "cpu"}, 1.25)
    assert (result["correct"], result["total"], result["error"]) == (2, 4, 0.5)
    assert (result["right_and_accepted"], result["wrong_and_accepted"]) == (1, 1)
    assert [mistake["item"] for mistake in result["mistakes"]] == ["item03", "item04"]
    assert json.loads(json.dumps(result))["per_run"] == {"run01": 2}
    assert "correct    2/4" in render(result)


def test_a_service_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    archive = write_archive(tmp_path / "all_runs.zip")
    assert main(["--runs", str(archive), "--base-url", "http://127.0.0.1:9"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("omniglot_http: ")
    assert error.count("\n") == 1


def test_galleries_of_others_are_left_alone(tmp_path: Path):
    runs = read_runs(write_archive(tmp_path / "all_runs.zip"))
    seen: list[str] = []

    def service(request: httpx.Request) -> httpx.Response:
        seen.append(request.method)
        return httpx.Response(200, json={"galleries": [{"name": "run01"}]})

    client = httpx.Client(base_url="http://service", transport=httpx.MockTransport(service))
    with client, pytest.raises(BenchmarkError, match="run01"):
        measure(client, runs)
    assert seen == ["GET"]
