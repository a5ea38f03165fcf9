"""Over HTTP: thresholds by error rate, the gallery's size, ambiguity, explanations, and a gallery's own calibration."""

from __future__ import annotations

import json

import pytest

from model.artifact import read_manifest
from testing.factories import draw_character, png_bytes
from testing.served import Running, assert_problem

N_CLASSES = 14
N_SHOTS = 6


def pair(images: list[bytes]) -> dict[str, tuple[str, bytes]]:
    return {"image1": ("a", images[0]), "image2": ("b", images[1])}


def test_verify_tells_its_threshold_and_the_errors_to_expect(served: Running, images: list[bytes], artifact):
    calibration = read_manifest(artifact).calibration
    for query, fmr in (({}, 0.01), ({"fmr": 0.1}, 0.1)):
        body = served.client.post("/verify", params=query, files=pair(images)).json()
        assert body["fmr"] == pytest.approx(fmr)
        assert body["threshold"] == pytest.approx(calibration.threshold_at_fmr(fmr))
        assert body["fnmr"]["low"] <= body["fnmr"]["value"] <= body["fnmr"]["high"]
        assert body["llr"] == pytest.approx(float(calibration.log_likelihood_ratio(body["distance"])))
    given = served.client.post("/verify", params={"threshold": body["threshold"]}, files=pair(images)).json()
    assert given["fmr"] == pytest.approx(0.1, rel=1e-3)


def test_a_prior_moves_similarity_and_not_the_decision_by_rate(served: Running, images: list[bytes]):
    bodies = [
        served.client.post("/verify", params={"prior": prior}, files=pair(images)).json() for prior in (0.5, 0.01)
    ]
    odds = [body["similarity"] / (1 - body["similarity"]) for body in bodies]
    assert odds[0] / odds[1] == pytest.approx(99, rel=0.01)
    assert bodies[0]["llr"] == pytest.approx(bodies[1]["llr"], abs=1e-4)
    assert bodies[0]["verified"] == bodies[1]["verified"]
    assert [body["prior"] for body in bodies] == [0.5, 0.01]


def test_classify_says_which_size_its_threshold_is_for(served: Running, gallery: str, images: list[bytes]):
    for number in range(4):
        served.enroll(f"c{number}", images[number], gallery=gallery)
    strict = served.classify(images[0], gallery=gallery).json()
    lax = served.classify(images[0], gallery=gallery, fpir=0.1).json()
    assert (strict["gallery_size"], strict["fpir"], lax["fpir"]) == (4, 0.01, 0.1)
    assert strict["threshold"] > lax["threshold"]
    given = served.classify(images[0], gallery=gallery, threshold=lax["threshold"]).json()
    assert given["fpir"] == pytest.approx(0.1, rel=0.1)


def test_two_images_of_one_class_under_two_names_are_ambiguous(served: Running, gallery: str, images: list[bytes]):
    served.enroll("first", images[0], gallery=gallery)
    alone = served.classify(images[0], gallery=gallery).json()
    assert (alone["ambiguous"], alone["margin"]) == (False, None)
    served.enroll("second", images[0], gallery=gallery)
    for k in (1, 5):
        body = served.classify(images[0], gallery=gallery, k=k).json()
        assert body["ambiguous"] is True
        assert body["margin"] == pytest.approx(0, abs=1e-6)
        assert len(body["candidates"]) == min(k, 2)


def test_an_explanation_leads_to_the_image(served: Running, gallery: str, images: list[bytes]):
    served.enroll("a/b", images[0], gallery=gallery)
    served.enroll("c", images[1], gallery=gallery)
    assert served.classify(images[0], gallery=gallery).json()["explanation"] is None
    why = served.classify(images[0], gallery=gallery, explain=True).json()["explanation"]
    assert served.client.get(why["support_image"]).content == images[0]
    assert 0 <= why["impostor_rank"] <= why["stranger_rank"] <= 1
    assert why["runner_up"]["label"] == "c"


@pytest.mark.parametrize(
    ("endpoint", "query", "allowed"),
    [
        ("/verify", {"fmr": 0}, "greater than 0"),
        ("/verify", {"fmr": 1}, "less than 1"),
        ("/verify", {"fmr": 0.01, "threshold": 0.5}, "not both"),
        ("/verify", {"fmr": 1e-12}, "smallest is"),
        ("/verify", {"prior": 1}, "less than 1"),
        ("/verify", {"fpir": 0.01}, "fpir"),
        ("/verify", {"gallery": "nowhere"}, "GET /galleries"),
        ("/classify", {"fpir": 0}, "greater than 0"),
        ("/classify", {"fpir": 1.5}, "less than 1"),
        ("/classify", {"fpir": "many"}, "number"),
        ("/classify", {"fpir": 0.01, "threshold": 0}, "not both"),
        ("/classify", {"fpir": 1e-12}, "smallest is"),
        ("/classify", {"gallery": "nowhere"}, "GET /galleries"),
    ],
)
def test_wrong_inputs_say_what_is_allowed(served: Running, images: list[bytes], endpoint, query, allowed):
    files = pair(images) if endpoint == "/verify" else {"image": ("a", images[0])}
    problem = assert_problem(served.client.post(endpoint, params=query, files=files), 422, "invalid-request")
    assert allowed in json.dumps(problem["errors"])


def test_a_gallery_with_several_shots_gets_its_own_calibration(served: Running, gallery: str):
    def shot(label: int, number: int) -> bytes:
        return png_bytes(draw_character(label, size=40, jitter=0.7, jitter_seed=100 * label + number))

    address = f"/galleries/{gallery}"
    for label in range(N_CLASSES):
        served.enroll(f"c{label}", shot(label, 0), gallery=gallery)
    assert served.client.get(f"{address}/calibration").json()["source"] == "made up for tests"
    problem = assert_problem(served.client.post(f"{address}/calibrate"), 422, "too-little-data")
    assert "at least" in problem["detail"]
    for label in range(N_CLASSES):
        for number in range(1, N_SHOTS):
            served.enroll(f"c{label}", shot(label, number), gallery=gallery, on_conflict="add")
    before = served.classify(shot(0, 9), gallery=gallery).json()
    fitted = served.client.post(f"{address}/calibrate", params={"prior": 0.3}).json()
    assert (fitted["classes"], fitted["genuine_pairs"]) == (N_CLASSES, N_CLASSES * N_SHOTS * (N_SHOTS - 1) // 2)
    assert fitted == served.client.get(f"{address}/calibration").json()
    after = served.classify(shot(0, 9), gallery=gallery).json()
    assert after["fpir"] == pytest.approx(3 / (N_CLASSES * N_SHOTS)), "what so few strangers support"
    assert after["prior"] == 0.3
    assert after["candidates"][0]["distance"] == pytest.approx(before["candidates"][0]["distance"], abs=1e-5)
    assert after["threshold"] != before["threshold"]
    listed = {item["name"]: item["calibrated"] for item in served.client.get("/galleries").json()["galleries"]}
    assert listed[gallery] is True
    verified = served.client.post(
        "/verify", params={"gallery": gallery}, data={"label": "c0"}, files={"image1": ("a", shot(0, 9))}
    ).json()
    similarities = {item["label"]: item["similarity"] for item in after["candidates"]}
    assert verified["similarity"] == pytest.approx(similarities["c0"], abs=1e-5), "one number, here too"
    assert served.client.delete(f"{address}/calibration").status_code == 204
    assert served.classify(shot(0, 9), gallery=gallery).json()["threshold"] == pytest.approx(before["threshold"])


@pytest.mark.parametrize(("method", "end"), [("GET", "calibration"), ("POST", "calibrate"), ("DELETE", "calibration")])
def test_calibrating_a_gallery_that_does_not_exist(served: Running, method: str, end: str):
    assert_problem(served.client.request(method, f"/galleries/nowhere/{end}"), 404, "gallery-not-found")
