"""The model's description, probes, metrics, request ids, the schema, and the error format."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI

from app.api.policy import open_to_all
from app.api.problems import MEDIA_TYPE
from model.artifact import read_manifest
from testing.served import Running, assert_problem, make_settings, running


def test_the_model_is_described(served: Running, artifact):
    body = served.client.get("/model").json()
    manifest = read_manifest(artifact)
    assert body["digest"] == manifest.digest
    assert body["model"] == manifest.model_id
    assert (body["similarity"], body["metric"], body["device"]) == ("cosine", "cosine", "cpu")
    assert body["manifest"] == manifest.model_dump(mode="json")


def test_probes(served: Running):
    assert served.client.get("/livez").json() == {"status": "alive"}
    assert served.client.get("/readyz").json() == {"status": "ready"}


def test_metrics_count_what_happened(serve, images: list[bytes]):
    with serve() as server:
        server.enroll("a/b", images[0])
        server.classify(images[0], threshold=0)
        server.classify(images[1], threshold=1)
        server.client.get("/classes/a%2Fb")
        server.client.get("/nowhere/at/all")
        server.classify(b"")
        assert server.metric('oneshot_requests_total{method="POST",route="/classify",status="200"}') == 2
        assert server.metric('oneshot_requests_total{method="GET",route="/classes/{label:path}",status="200"}') == 1
        assert server.metric('oneshot_requests_total{method="GET",route="unmatched",status="404"}') == 1
        assert server.metric('oneshot_rejections_total{reason="empty-image"}') == 1
        assert server.metric('oneshot_classifications_total{outcome="known"}') == 1
        assert server.metric('oneshot_classifications_total{outcome="unknown"}') == 1
        assert server.metric("oneshot_gallery_classes") == 1
        assert server.metric("oneshot_inference_seconds_count") == 3
        assert server.metric('oneshot_request_duration_seconds_count{route="/classify"}') == 3


def test_a_sane_request_id_is_kept_and_any_other_replaced(served: Running):
    kept = served.client.get("/livez", headers={"X-Request-ID": "abc-123_4.5:6"})
    assert kept.headers["x-request-id"] == "abc-123_4.5:6"
    for bad in ("", "x" * 129, "a b", "<script>", 'a"b'):
        made = served.client.get("/nowhere", headers={"X-Request-ID": bad})
        assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])
        assert_problem(made, 404, "not-found")


def test_unknown_paths_and_methods(served: Running):
    for path in ("/nowhere", "/classify/", "/enroll/x"):
        assert_problem(served.client.post(path), 404, "not-found")
    wrong = served.client.put("/classify")
    assert_problem(wrong, 405, "method-not-allowed")
    assert wrong.headers["allow"] == "POST"


def test_an_unexpected_error_is_a_problem_without_its_text(artifact, tmp_path, caplog: pytest.LogCaptureFixture):
    def add_a_bug(app: FastAPI) -> None:
        @app.get("/bug")
        @open_to_all()
        async def bug() -> None:
            raise ValueError("the password is swordfish")

    with running(make_settings(model=artifact, home=tmp_path), add_a_bug) as server:
        response = server.client.get("/bug")
        problem = assert_problem(response, 500, "internal-error")
        assert "swordfish" not in response.text
        assert problem["request_id"] in problem["detail"] or "request id" in problem["detail"]
        assert server.metric('oneshot_requests_total{method="GET",route="/bug",status="500"}') == 1
    [entry] = [record for record in caplog.records if "swordfish" in str(record.__dict__)]
    assert entry.__dict__["request_id"] == problem["request_id"]
    assert entry.exc_info is not None


def test_a_store_that_is_gone_is_a_503(serve, images: list[bytes]):
    with serve() as server:
        server.enroll("a", images[0])
        server.service.store.close()
        for response in (server.enroll("b", images[1]), server.client.get("/classes/a"), server.classify(images[0])):
            assert_problem(response, 503, "store-unavailable")
            assert response.headers["retry-after"]


def test_the_docs_page_and_schema_are_served(served: Running):
    assert "/openapi.json" in served.client.get("/docs").text
    assert served.client.get("/redoc").status_code == 200
    schema = served.client.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    assert set(schema["paths"]) >= {
        "/enroll", "/classify", "/verify", "/embed", "/classes", "/classes/{label}", "/classes/{label}/image",
        "/galleries", "/galleries/{name}", "/model", "/livez", "/readyz", "/metrics",
    }  # fmt: skip


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(each) for each in value.values()))
    return set().union(*(references(each) for each in value)) if isinstance(value, list) else set()


def test_the_schema_declares_problems_examples_and_nothing_undefined(served: Running):
    schema = served.client.get("/openapi.json").json()
    defined = {f"#/components/schemas/{name}" for name in schema["components"]["schemas"]}
    assert references(schema) <= defined
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            errors = {status: answer for status, answer in operation["responses"].items() if status >= "400"}
            assert path == "/livez" or "500" in errors, (method, path)
            for answer in errors.values():
                content = answer["content"][MEDIA_TYPE]
                assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                for example in content["examples"].values():
                    assert example["value"]["type"].startswith("urn:oneshot:problem:")
    bodies = {path: set(schema["paths"][path]["post"]["requestBody"]["content"]) for path in ("/enroll", "/classify")}
    assert bodies["/enroll"] == {"multipart/form-data"}
    assert bodies["/classify"] == {"multipart/form-data", "image/*", "application/octet-stream"}
