"""Reports become rows: seeds of one recipe share a row, everything else is separate, and no data images are kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.recipes import collect, grouped, page, spread
from training.report.schema import (
    Cost,
    Figure,
    Mistake,
    Origin,
    Point,
    Reliability,
    Report,
    Verification,
    read_report,
)

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def made(name="omniglot", seed=0, value=98.0, *, width=64, date=NOON):
    point = Point(value=0.05, low=0.04, high=0.06)
    rates = {"0.1": point, "0.01": point, "0.001": point}
    return Report(
        origin=Origin(
            name=name,
            model_id=f"{name}@abc{seed}",
            digest=f"{seed}{width}" + "0" * 60,
            network="residual",
            parameters=1_470_176,
            bytes=5_900_000,
            dim=256,
            similarity="cosine",
            input="40 x 40 grey, crop ink",
            recipe={"name": name, "seed": seed, "network": {"width": width}},
            training_seed=seed,
            training_minutes=20.0,
            data="Omniglot",
            part="evaluation",
            command=f"oneshot-train evaluate {name}",
            date=date,
            machine="a machine",
            threads=1,
            versions={"python": "3.11"},
        ),
        figures=(Figure(key="runs", protocol="20 runs", value=value, low=97, high=99, n=400, over="20 runs"),),
        cost=Cost(engine="torch", images_per_second=500.0, slowest=480, fastest=510, batch=64, rounds=9),
        within_way=(),
        across_way=(),
        verification=(
            Verification(
                name="within", n_genuine=9, n_impostor=9, distances=(1,), fmr=(1,), fnmr=(0,), eer=point, fnmr_at=rates
            ),
        ),
        open_set=(),
        reliability=Reliability(predicted=(0.5,), observed=(0.5,), ece=0.0, log_loss=0.7, n=9),
        mistakes=(
            Mistake(
                truth="a", chosen="b", distance_truth=2, distance_chosen=1, query_image="data:image/png;base64,AAAA"
            ),
        ),
        n_mistakes=1,
        map=None,
        history=(),
    )


def test_seeds_of_one_recipe_are_one_row():
    reports = [made(seed=0, value=98), made(seed=1, value=99), made(width=32, value=90), made(name="koch", value=92)]
    assert [len(group) for group in grouped(reports)] == [2, 1, 1]
    text = page(reports, [], [])
    assert "| omniglot | Omniglot | 0, 1 | 98.50 ± 0.71, n=400 |" in text
    assert "| omniglot | Omniglot | 0 | 90.00 (97.00 to 99.00), n=400 |" in text
    assert "| omniglot | 500 (480 to 510) | 1,470,176 | 5.90 | 256 | 40 x 40 grey, crop ink | 20 |" in text
    assert "| omniglot | one alphabet | 5.00 ± 0.00 |" in text
    assert "| koch | one alphabet | 5.00 (4.00 to 6.00) |" in text
    assert "people 95.5" in text, "what was published stands beside"


def test_a_newer_report_of_the_same_seed_takes_the_place_of_the_older():
    old, new = made(value=90), made(value=91, date=NOON + timedelta(days=1))
    assert grouped([new, old]) == [[new]]


def test_a_model_that_was_joined_says_so_and_each_seed_has_its_command():
    joined = made(name="accurate")
    joined = joined.model_copy(update={"origin": joined.origin.model_copy(update={"recipe": made().origin.recipe})})
    text = page([made(seed=0), made(seed=1), joined], [], [])
    assert "| accurate | Omniglot | several, joined |" in text
    assert "`oneshot-train ensemble ... --out accurate`" in text
    assert "`oneshot-train fit omniglot`, `oneshot-train fit omniglot --set seed=1`, `oneshot-train evaluate" in text


def test_reports_are_taken_in_without_images(tmp_path):
    made().write(tmp_path / "run" / "report.json")
    collect([tmp_path / "run"], tmp_path / "docs" / "reports")
    (file,) = (tmp_path / "docs" / "reports").rglob("*.json")
    assert file.relative_to(tmp_path / "docs" / "reports").as_posix() == "omniglot/evaluation-seed-0-064000000000.json"
    assert "data:image" not in file.read_text()
    assert read_report(file).figures == made().figures


def test_faces_stand_in_a_table_of_their_own():
    figures = [{"name": name, "mean": 1.5, "sd": 0.25} for name in ("equal error rate", "10-way one-shot")]
    row = {"method": "raw pixels", "figures": figures, "command": "c", "minutes": 1, "machine": "m", "date": "d"}
    tried = {"variant": "wider", "changes": ["a=1", "b=2"], "splits": 10, "figures": figures} | {
        "machine": "m",
        "date": "d",
    }
    text = page([made()], [row], [tried])
    assert "| raw pixels | 1.50 ± 0.25 | 1.50 ± 0.25 | `c` | 1 | m | d |" in text
    assert "| wider | `a=1`, `b=2` | 1.50 ± 0.25 | 1.50 ± 0.25 |" in text
    assert "### Tried" not in page([made()], [row], [])


@pytest.mark.parametrize(("values", "text"), [([1.0], "1.00"), ([1.0, 3.0], "2.00 ± 1.41")])
def test_spreads(values, text):
    assert spread(values) == text
