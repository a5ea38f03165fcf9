"""One route class for every request: what each route declares, and that keys and traces change no answer.

No `from __future__ import annotations`: endpoints defined here use names of the enclosing function.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query, Request
from fastapi import Path as PathParameter
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from app.api import schemas
from app.api.application import create_app
from app.api.door import Door, add_routes, router
from app.api.policy import GalleryIn, needs, open_to_all, with_policies
from app.api.problems import install_handlers, invalid_fields, problem_response
from app.api.routes.bulk import BatchQuery
from app.api_key import Scope, make_key
from app.names import GalleryName
from app.telemetry.tracing import telemetry
from oneshot_client.answers import HealthPublic
from testing.factories import draw_character, png_bytes
from testing.served import Running, make_settings

Serve = Callable[..., AbstractContextManager[Running]]

PNG = {"Content-Type": "image/png"}


def routes() -> list[Door]:
    return [route for route, _ in with_policies(create_app(make_settings()).routes)]


# -- what a route declares -------------------------------------------------------------------------------------------


def test_every_route_of_the_application_is_a_door():
    rest = {getattr(route, "path", "") for route in create_app(make_settings()).routes if not isinstance(route, Door)}
    assert rest == {"/openapi.json", "/docs/assets"}


def test_only_probes_and_pages_need_no_key():
    assert {route.path for route in routes() if route.policy.scope is None} == {
        "/",
        "/web/{name}",
        "/docs",
        "/redoc",
        "/livez",
        "/readyz",
    }


def test_a_route_checks_the_key_for_the_gallery_that_its_request_names():
    app = create_app(make_settings())
    operations = app.openapi()["paths"]
    for route, policy in with_policies(app.routes):
        described = operations.get(route.path_format, {}).get(min(route.methods).lower(), {})
        names = {each["name"] for each in described.get("parameters", []) if each["in"] == "query"}
        if "/galleries/{name}" in route.path:
            assert policy.gallery is GalleryIn.PATH, route.path
        elif "gallery" in names:
            assert policy.gallery in {GalleryIn.QUERY, GalleryIn.BODY}, route.path
        else:
            assert policy.gallery not in {GalleryIn.QUERY, GalleryIn.PATH}, route.path


def test_what_changes_a_gallery_needs_more_than_a_key_to_read():
    for route in routes():
        if route.policy.writes:
            assert route.policy.scope in {Scope.ENROL, Scope.ADMIN}, route.path
            assert not route.policy.viewed


def test_a_route_that_declares_nothing_cannot_be_built():
    async def forgotten() -> None:
        """Answer nothing."""

    with pytest.raises(TypeError, match=r"forgotten must declare what it needs"):
        router().get("/forgotten")(forgotten)
    with pytest.raises(TypeError, match=r"forgotten must declare what it needs"):
        create_app(make_settings()).get("/forgotten")(forgotten)


def test_a_route_that_is_no_door_is_not_served():
    plain = APIRouter()
    plain.get("/plain")(nothing)
    with pytest.raises(TypeError, match="not guarded"):
        add_routes(FastAPI(), plain.routes)


def test_what_a_declaration_leaves_out_is_an_administrators_for_all_galleries():
    policy = Door("/x", needs(Scope.ADMIN)(nothing)).policy
    assert (policy.scope, policy.gallery, policy.quiet) == (Scope.ADMIN, GalleryIn.ALL, False)


async def nothing() -> None:
    """Answer nothing."""


def test_a_door_is_guarded_however_its_router_is_included(serve: Serve):
    @needs(Scope.READ)
    async def secret() -> HealthPublic:
        return HealthPublic(status="alive")

    more = router()
    more.get("/secret")(secret)
    with serve(api_keys="on") as server:
        server.app.include_router(more, prefix="/more")
        assert server.client.get("/more/secret").status_code == 401
        assert server.client.post("/more/secret").status_code == 405
        answer = server.client.get("/more/secret", headers=bearer(server, Scope.READ))
        assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


def test_dependencies_of_a_router_are_refused_because_they_would_not_run():
    guarded = router(dependencies=[schemas])  # any dependency will do
    with pytest.raises(TypeError, match="dependencies"):
        guarded.get("/x")(open_to_all()(nothing))


def test_a_parameter_that_a_door_cannot_read_is_refused_when_it_is_built():
    async def odd(number: int) -> None:
        """Answer nothing."""

    with pytest.raises(TypeError, match="parameter number"):
        Door("/x", open_to_all()(odd))


# -- arguments are parsed as by FastAPI ------------------------------------------------------------------------------

QUERIES = [
    "",
    "gallery=parts",
    "gallery=-",
    "gallery=",
    "k=3",
    "k=0&fpir=2",
    "k=many",
    "k=",
    "k=1&k=3",
    "k=3&k=x",
    "K=3",
    "k=%31",
    "k=1.0",
    "k=9" + "9" * 5000,
    "fpir=0.1&threshold=0.5",
    "fmr=0.1&threshold=0.5",
    "threshold=nan",
    "prior=0.2&explain=yes",
    "explain=perhaps",
    "surprise=1",
    "surprise=1&surprise=2&k=x",
    "limit=1001&after=%00",
    "after=&search=%20",
    "search=%FF",
    "shot=-1",
    "on_conflict=add",
    "on_conflict=perhaps&gallery=%2F",
    "digest=abc",
    "digest=" + "0" * 64,
    "=1&&k",
]
MODELS = [*(each for each in vars(schemas).values() if isinstance(each, type) and each.__name__.endswith("Query"))]


def echoing(model: type[BaseModel]) -> Callable[..., Any]:
    Parameters: Any = Annotated[model, Query()]  # noqa: N806

    async def endpoint(request: Request, name: Annotated[GalleryName, PathParameter()], query: Parameters) -> Any:
        return JSONResponse({"name": name, "query": query.model_dump(mode="json")})

    return endpoint


def frameworks_own(model: type[BaseModel]) -> FastAPI:
    app = FastAPI()
    app.get("/{name}", response_model=None)(echoing(model))

    async def on_invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return problem_response(request.scope, invalid_fields(error.errors()))

    app.add_exception_handler(RequestValidationError, on_invalid)
    return app


def ours(model: type[BaseModel]) -> FastAPI:
    app = FastAPI()
    doors = router()
    doors.get("/{name}", response_model=None)(open_to_all()(echoing(model)))
    add_routes(app, doors.routes)
    install_handlers(app)
    return app


async def answers(app: FastAPI) -> list[tuple[str, int, Any]]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        paths = [f"/{name}?{query}" for query in QUERIES for name in ("parts", "-")]
        return [(path, (answer := await client.get(path)).status_code, answer.json()) for path in paths]


@pytest.mark.parametrize("model", [*MODELS, BatchQuery])
def test_arguments_and_their_errors_are_those_that_the_framework_finds(model: type[BaseModel]):
    found, expected = asyncio.run(answers(ours(model))), asyncio.run(answers(frameworks_own(model)))
    assert found == expected
    assert {200, 422} == {status for _, status, _ in found} or model is schemas.SwitchQuery


def test_all_query_models_were_compared():
    assert {"ClassifyQuery", "VerifyQuery", "PageQuery", "EmptyQuery", "SwitchQuery"} <= {it.__name__ for it in MODELS}


# -- keys and traces change no answer --------------------------------------------------------------------------------


def bearer(server: Running, *scopes: Scope) -> dict[str, str]:
    key, text = make_key("test", frozenset(scopes))
    server.service.store.keys.add(key)
    return {"Authorization": f"Bearer {text}"}


class Servers:
    """The same gallery behind three services: with default settings, with keys, and traced."""

    def __init__(self, plain: Running, keys: Running, traced: Running, spans: InMemorySpanExporter) -> None:
        self.plain, self.keys, self.traced, self.spans = plain, keys, traced, spans
        keys.client.headers.update(bearer(keys, Scope.ADMIN))

    def ask(self, method: str, path: str, **request: Any) -> tuple[int, Any, dict[str, str]]:
        """The common answer of all three; fails if they differ."""
        first, *others = (told(each.client.request(method, path, **request)) for each in self.all)
        assert [first] * 2 == others
        return first

    @property
    def all(self) -> tuple[Running, Running, Running]:
        return self.plain, self.keys, self.traced


@pytest.fixture
def servers(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    spans, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    with serve(home=tmp_path / "plain") as plain, serve(home=tmp_path / "keys", api_keys="on") as keys:
        monkeypatch.setattr(
            "app.api.application.telemetry", lambda quiet: {**telemetry(quiet), "tracer_provider": provider}
        )
        with serve(home=tmp_path / "traced") as traced:
            yield Servers(plain, keys, traced, spans)
    provider.shutdown()


#: Headers that differ between two requests, or between services with and without keys.
DIFFERENT = {"x-request-id", "date", "content-length", "oneshot-version"}


def told(response: httpx.Response) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers, without the parts that differ between requests."""
    headers = {name: value for name, value in response.headers.items() if name not in DIFFERENT}
    body: Any = response.content
    if "json" in headers.get("content-type", "") and response.content:
        body = response.json()
        for part in (body, body.get("class", {}), *body.get("classes", [])):
            for name in ("request_id", "created_at", "updated_at"):
                part.pop(name, None)
    return response.status_code, body, headers


QUESTIONS = [
    ("/classify?gallery=g", "image", PNG, 200),
    ("/classify?gallery=g&k=2&explain=true&fpir=0.05&prior=0.2", "image", PNG, 200),
    ("/classify?gallery=g&threshold=0", "image", PNG, 200),
    ("/classify?k=0&fpir=2", "image", PNG, 422),
    ("/classify?fpir=0.1&threshold=0.5", "image", PNG, 422),
    ("/classify?surprise=1", "image", PNG, 422),
    ("/classify?k=1&k=3&gallery=g", "image", PNG, 200),
    ("/classify?gallery=nowhere", "image", PNG, 422),
    ("/classify", "", PNG, 422),
    ("/classify", "no image", PNG, 415),
    ("/classify", "image", {"Content-Type": "text/plain"}, 415),
    ("/embed?surprise=1", "image", PNG, 422),
    ("/embed", "image", PNG, 415),
]


def test_keys_and_traces_change_no_answer(servers: Servers, images: list[bytes]):
    for number in range(3):
        files = {"image": ("x.png", images[number])}
        answer = servers.ask("POST", "/enroll?gallery=g", data={"label": f"c{number}"}, files=files)
        assert answer[0] == 201
        assert answer[2]["location"] == f"/classes/c{number}?gallery=g"
    for path, body, headers, status in QUESTIONS:
        content = images[1] if body == "image" else body.encode()
        assert servers.ask("POST", path, content=content, headers=headers)[0] == status, path
    several = [("image", ("x.png", image)) for image in images[:3]]
    assert len(servers.ask("POST", "/embed", files=several)[1]["embeddings"]) == 3
    assert servers.ask("GET", "/classes?gallery=g")[0] == 200
    assert servers.ask("GET", "/classes/c0/image?gallery=g")[1] == images[0]
    assert servers.ask("GET", "/classes/none?gallery=g&x=1")[0] == 422
    assert servers.ask("GET", "/classes/%00?x=1")[1]["errors"][0]["loc"] == ["path", "label"]
    assert servers.ask("GET", "/galleries/-/map?x=1")[0] == 422
    assert servers.ask("PUT", "/classify")[0] == 405
    assert servers.ask("DELETE", "/classes/c0?gallery=g")[:2] == (204, b"")
    assert servers.ask("DELETE", "/classes/c0?gallery=g")[0] == 404
    for server in servers.all:
        assert server.metric('oneshot_requests_total{method="POST",route="/embed",status="200"}') == 1
    names = {span.name for span in servers.spans.get_finished_spans()}
    assert {"POST /classify", "POST /embed", "DELETE /classes/{label}"} <= names


def test_a_large_image_is_decoded_too(served: Running):
    assert served.classify(png_bytes(draw_character(1, size=700))).status_code == 200
