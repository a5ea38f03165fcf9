"""The service and the verbs on PostgreSQL: refused starts, and what uses the database instead of the folder."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import cli
from app.errors import StartupError
from app.recognition.model_change import read_change, want_model
from app.settings import SettingsError, load_settings
from app.store import STORE_FILE, SqlStore
from testing.factories import make_artifact
from testing.postgres import missing
from testing.served import make_settings, running
from tests.app.service.test_service import start

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


def test_a_wrong_address_is_told_without_its_password():
    for address in ("mysql://me:secret@host/x", "mysql://me:sec/ret@host/x", "mysql://host/x?password=secret&a=b"):
        with pytest.raises(SettingsError) as caught:
            load_settings(store=address)
        assert "ret" not in str(caught.value)
        assert "ONESHOT_STORE (--store) is 'mysql://host/x" in str(caught.value)


def test_a_database_that_is_away_stops_the_start(tmp_path: Path, artifact: Path):
    with pytest.raises(StartupError, match=r"^Can't open the store postgresql://127\.0\.0\.1:1/x: ") as caught:
        start(model=artifact, home=tmp_path, store="postgresql://me:secret@127.0.0.1:1/x")
    assert "\n" not in caught.value.detail
    assert "secret" not in caught.value.detail


def test_a_server_with_an_empty_folder_does_not_change_the_model_of_all(
    tmp_path: Path, artifact: Path, postgres_url: str
):
    start(model=artifact, home=tmp_path / "first", store=postgres_url)
    with pytest.raises(StartupError, match=r"^ONESHOT_MODEL: the store postgresql://.* has the model ") as caught:
        start(home=tmp_path / "second", store=postgres_url)
    with closing(SqlStore(postgres_url)) as store:
        wanted = store.models.fact("model")
    assert wanted is not None
    assert f"models/{wanted}" in caught.value.detail
    start(home=tmp_path / "first", store=postgres_url)  # this folder has the model
    start(model=artifact, home=tmp_path / "second", store=postgres_url)


def test_nothing_of_the_store_is_in_the_folder(tmp_path: Path, artifact: Path, postgres_url: str, images: list[bytes]):
    home = tmp_path / "home"
    with running(make_settings(model=artifact, home=home, store=postgres_url)) as server:
        assert server.enroll("a", images[0]).status_code == 201
        assert server.classify(images[0]).json()["candidates"][0]["label"] == "a"
    assert not (home / STORE_FILE).exists()
    with running(make_settings(home=home, store=postgres_url)) as server:
        assert server.classify(images[0]).json()["candidates"][0]["label"] == "a"
        assert server.client.get("/classes/a/image").content == images[0]


def test_the_verbs_work_on_the_database(
    tmp_path: Path, artifact: Path, postgres_url: str, images: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    home, run = tmp_path / "home", CliRunner().invoke
    with running(make_settings(model=artifact, home=home, store=postgres_url)) as server:
        server.enroll("a", images[0])
    monkeypatch.setenv("ONESHOT_STORE", postgres_url)
    made = json.loads(run(cli, ["keys", "create", "test", "--home", str(home), "--json"]).output)
    with closing(SqlStore(postgres_url)) as store:
        assert [key.id for key in store.keys.all()] == [made["id"]]
    assert run(cli, ["model", "status", "--home", str(home)]).exit_code == 0
    assert run(cli, ["export", str(tmp_path / "out"), "--home", str(home)]).exit_code == 0
    assert [file.read_bytes() for file in (tmp_path / "out" / "a").iterdir()] == [images[0]]
    for words, instead in (
        (["backup", str(tmp_path / "file")], "pg_dump"),
        (["restore", str(tmp_path / "file")], "pg_restore"),
    ):
        refused = run(cli, [*words, "--home", str(home)])
        assert refused.exit_code == 2
        assert instead in refused.stderr


def test_a_model_change_is_done_once_by_several_servers(
    tmp_path: Path, artifact: Path, postgres_url: str, images: list[bytes], monkeypatch: pytest.MonkeyPatch
):
    added: list[tuple[int, str]] = []
    add = "app.store.models.ModelStore.add_vectors"
    from app.store.models import ModelStore  # noqa: PLC0415

    original = ModelStore.add_vectors

    def counted(store: ModelStore, digest: str, support_ids: list[int], vectors: object) -> None:
        added.extend((support_id, threading.current_thread().name) for support_id in support_ids)
        original(store, digest, support_ids, vectors)  # type: ignore[arg-type]

    monkeypatch.setattr(add, counted)
    other = make_artifact(tmp_path / "other", "euclidean", seed=5)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(running(make_settings(model=artifact, home=tmp_path / f"{number}", store=postgres_url)))
            for number in range(2)
        ]
        for number in range(8):
            servers[0].enroll(f"c{number}", images[number])
        digests = [server.service.models.shelf.put(other) for server in servers]
        want_model(servers[0].service.store.models, digests[0])
        give_up = time.monotonic() + 30
        while read_change(servers[0].service.store.models).pending:
            assert time.monotonic() < give_up
            time.sleep(0.05)
        version = servers[0].enroll("after", images[0]).headers["Oneshot-Version"]
        for server in servers:
            found = server.client.post(
                "/classify", files={"image": ("x", images[3])}, headers={"Oneshot-Min-Version": version}
            ).json()
            assert found["model"].endswith(digests[0][:12])
            assert found["gallery_size"] == 9
            assert {each["label"] for each in found["candidates"]} >= {"c3"}
    assert len(added) == len({support_id for support_id, _ in added}) == 8
