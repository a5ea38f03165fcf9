from collections.abc import Iterator
from pathlib import Path

import pytest

from app.store import SqlStore
from tests.app.store.helpers import put_new_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqlStore]:
    opened = SqlStore(put_new_store(path))
    yield opened
    opened.close()
