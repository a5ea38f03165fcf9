"""The benchmark's parsing and arithmetic, and complete runs against a real service, without the data set."""

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
    parse_class_labels,
    read_runs,
    render,
    report,
    served,
    wilson_interval,
)
from testing.factories import draw_character, make_artifact, png_bytes

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


def test_a_class_without_an_image_is_named(tmp_path: Path):
    with pytest.raises(BenchmarkError, match=r"run01/training/class01\.png"):
        read_runs(write_archive(tmp_path / "all_runs.zip", without="run01/training/class01.png"))


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


def write_drawn_archive(path: Path) -> Path:
    """Two runs of three classes; test images equal the training images, and run02 has one wrong label."""
    with zipfile.ZipFile(path, "w") as archive:
        for run, truth in (("run01", (1, 2, 3)), ("run02", (1, 2, 1))):
            lines = [
                f"{run}/test/item{n:02}.png {run}/training/class{c:02}.png"
                for n, c in zip((1, 2, 3), truth, strict=True)
            ]
            archive.writestr(f"{run}/class_labels.txt", "\n".join(lines))
            for n in (1, 2, 3):
                for name in (f"test/item{n:02}", f"training/class{n:02}"):
                    archive.writestr(f"{run}/{name}.png", png_bytes(draw_character(n)))
    return path


def test_a_whole_benchmark_against_a_real_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    archive = write_drawn_archive(tmp_path / "all_runs.zip")
    monkeypatch.setenv("ONESHOT_MODEL", str(make_artifact(tmp_path / "artefact")))
    with served() as base_url, httpx.Client(base_url=base_url, trust_env=False) as client:
        arguments = ["--runs", str(archive), "--base-url", base_url, "--json", str(tmp_path / "out" / "report.json")]
        assert main([*arguments, "--at-least", "5"]) == 0
        assert main([*arguments, "--at-least", "6"]) == 1
        found = json.loads((tmp_path / "out" / "report.json").read_text())
        assert found["per_run"] == {"run01": 3, "run02": 2}
        assert [(mistake["run"], mistake["item"], mistake["named"]) for mistake in found["mistakes"]] == [
            ("run02", "item03", "class03")
        ]
        assert client.get("/galleries").json()["galleries"] == []

        form = {"label": "mine", "gallery": "run02"}
        client.post("/enroll", data=form, files={"image": png_bytes(draw_character(9))}).raise_for_status()
        assert main(arguments) == 2
        assert "run02" in capsys.readouterr().err
        assert client.get("/classes/mine", params={"gallery": "run02"}).is_success


def test_a_service_that_cannot_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("ONESHOT_MODEL", str(tmp_path / "nothing"))
    assert main(["--runs", str(write_drawn_archive(tmp_path / "all_runs.zip")), "--start"]) == 2
    assert "before it was ready" in capsys.readouterr().err
