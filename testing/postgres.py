"""A private PostgreSQL server for tests, started from the installed binaries."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.store import SqlStore

_START_SECONDS = 60.0


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`, which Debian does not put on the PATH."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


def missing() -> str | None:
    """Why tests on PostgreSQL cannot run here, or None."""
    if find_spec("psycopg") is None:
        return "psycopg is not installed (extra postgres)"
    return None if binaries() else "PostgreSQL's programs are not installed"


def connect(url: str) -> Any:
    """A plain driver connection in autocommit mode."""
    import psycopg  # noqa: PLC0415 - an extra

    return psycopg.connect(url, autocommit=True)


def children(process: int) -> list[int]:
    """The child processes of a process."""
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()]


class Postgres:
    """A server in a temporary folder, reached by a socket in it; its data survive SIGKILL, but not a power cut."""

    def __init__(self) -> None:
        folder = binaries()
        assert folder is not None
        self._binaries = folder
        self._undo = ExitStack()
        self.folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(prefix="oneshot-pg-")))
        self._number = 0
        # the server refuses to run as root
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
        os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._run("initdb", "-D", self._data, "-A", "trust", "-U", "oneshot", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    @property
    def _as_user(self) -> dict[str, Any]:
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []} if not os.geteuid() else {}

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_user)

    def url(self, database: str = "postgres") -> str:
        """The URL of a database."""
        return f"postgresql://oneshot@/{database}?host={self.folder}"

    def start(self) -> None:
        """Start the server on its existing data."""
        options = ["-D", self._data, "-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), *options, "-c", "max_connections=200"],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                **self._as_user,
            )
        give_up = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text("utf-8")
            assert time.monotonic() < give_up, (self.folder / "log").read_text("utf-8")
            time.sleep(0.02)

    def _answers(self) -> bool:
        import psycopg  # noqa: PLC0415

        try:
            connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Shut down in "fast" mode, which closes connections."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Send SIGKILL to all its processes."""
        assert self._process is not None
        for process in (self._process.pid, *children(self._process.pid)):  # each child has a session of its own
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def freeze(self, number: signal.Signals = signal.SIGSTOP) -> None:
        """Suspend all its processes: connections stay open, and nothing answers."""
        assert self._process is not None
        for process in (self._process.pid, *children(self._process.pid)):
            os.kill(process, number)

    def thaw(self) -> None:
        """Resume the processes."""
        self.freeze(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def new_store(self) -> str:
        """The URL of a new database with an empty store in it."""
        with closing(connect(self.url())) as connection:
            if not self._number:
                connection.execute("CREATE DATABASE empty_store")
                SqlStore(self.url("empty_store")).close()
            self._number += 1
            connection.execute(f"CREATE DATABASE store_{self._number} TEMPLATE empty_store")
        return self.url(f"store_{self._number}")

    def new_database(self) -> str:
        """The URL of a new, empty database."""
        self._number += 1
        with closing(connect(self.url())) as connection:
            connection.execute(f"CREATE DATABASE database_{self._number}")
        return self.url(f"database_{self._number}")

    def drop(self, url: str) -> None:
        """Delete a database, even with open connections."""
        name = url.partition("@/")[2].partition("?")[0]
        with closing(connect(self.url())) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(signal.SIGQUIT)
        self._undo.close()
