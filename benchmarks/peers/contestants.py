"""Start and stop the service and its peers, and measure what their processes use."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from model import DEFAULT_ARTIFACT

ROOT = Path(__file__).parents[2]
PEERS = ROOT / ".venv-peers" / "bin"
START_SECONDS = 180
_MAKE_KEY = [str(Path(sys.executable).with_name("oneshot")), "keys", "create", "benchmark", "--scope", "admin"]
_MAKE_KEY += ["--rate", "999999999/second", "--concurrency", "999999999"]
_TICKS = os.sysconf("SC_CLK_TCK")
_PARENT, _SESSION, _USER, _SYSTEM, _STARTED, _PAGES = 1, 3, 11, 12, 19, 21  # fields of /proc/PID/stat, from the third


@dataclass(frozen=True)
class Contestant:
    """One server: with `form` it takes the image as a form field, otherwise as the raw body.

    With `keys` a oneshot service requires an API key, and the load uses one without limits.
    """

    name: str
    command: list[str]
    form: bool
    variables: dict[str, str] = field(default_factory=dict)
    own: bool = False
    keys: bool = False


def _peer(
    name: str,
    module: str,
    *,
    form: bool,
    command: list[str] | None = None,
    variables: dict[str, str] | None = None,
) -> Contestant:
    started = command or [str(PEERS / "python"), "-m", f"benchmarks.peers.services.{module}"]
    return Contestant(name, started, form, variables or {})


def contestants(port: int, workers: int) -> list[Contestant]:
    """All contestants; peers use torch, and mosec also runs with oneshot's engine."""
    python = Path(sys.executable)
    serve = [
        str(python.with_name("oneshot")),
        "serve",
        "--port",
        str(port),
        "--workers",
        str(workers),
        "--threads",
        "1",
    ]
    bento = [str(PEERS / "bentoml"), "serve", "benchmarks.peers.services.bento_app:Classify", "--port", str(port)]
    int8 = {"BENCH_ENGINE": "openvino-int8", "BENCH_MODEL": str(DEFAULT_ARTIFACT / "int8")}
    return [
        Contestant("oneshot, raw bodies", serve, form=False, own=True),
        Contestant("oneshot, keys on", serve, form=False, own=True, keys=True),
        Contestant("oneshot, forms", serve, form=True, own=True),
        Contestant("oneshot by torch, raw bodies", [*serve, "--engine", "torch"], form=False, own=True),
        _peer("mosec", "mosec_app", form=False),
        _peer("mosec with oneshot's engine", "mosec_app", form=False, variables=int8),
        _peer("naive FastAPI", "naive", form=True),
        _peer("LitServe", "litserve_app", form=True),
        _peer("BentoML", "bento_app", form=True, command=bento),
        _peer("Ray Serve", "ray_app", form=False),
        _peer("reads the body, does nothing", "noop", form=False),
    ]


@dataclass
class Usage:
    """CPU seconds since the start and resident MB, of a process and all its descendants."""

    cpu: float
    memory: float


class Running:
    """A started contestant, and the API key for it, if it needs one."""

    def __init__(
        self, process: subprocess.Popen[bytes], url: str, ready_seconds: float, key: str | None = None
    ) -> None:
        self.url, self.ready_seconds, self.key = url, ready_seconds, key
        self._process = process

    def usage(self) -> Usage:
        """The usage of all its processes (shared pages are counted in each)."""
        cpu = memory = 0.0
        for stat in _processes_of(self._process.pid).values():
            cpu += (int(stat[_USER]) + int(stat[_SYSTEM])) / _TICKS
            memory += int(stat[_PAGES]) * os.sysconf("SC_PAGE_SIZE") / 1e6
        return Usage(cpu, memory)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat, from the third on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _processes_of(root: int) -> dict[int, list[str]]:
    """The processes of the root's session and all their descendants, with the fields of `_stat`.

    Some peers' processes start sessions of their own, and some are orphaned.
    """
    found: dict[int, list[str]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                found[int(folder.name)] = _stat(int(folder.name))
    own = {pid for pid, stat in found.items() if int(stat[_SESSION]) == root}
    while more := {pid for pid, stat in found.items() if int(stat[_PARENT]) in own} - own:
        own |= more
    return {pid: found[pid] for pid in own}


@contextlib.contextmanager
def running(contestant: Contestant, material: Path, port: int, workers: int) -> Iterator[Running]:
    """Start it, wait until it classifies, and stop it with all its processes."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("ONESHOT_")}
    variables |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "BENCH_FOLDER": str(material)}
    variables |= {"BENCH_MODEL": str(DEFAULT_ARTIFACT), "BENCH_WORKERS": str(workers), "BENCH_PORT": str(port)}
    variables |= {"MOSEC_PORT": str(port), "RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "1"}
    variables |= contestant.variables
    command, key = contestant.command, None
    if contestant.own:
        home = ["--home", str(material / f"home-{contestant.name.replace(' ', '-')}")]
        command = [*command, *home]
    if contestant.own and contestant.keys:
        key = subprocess.check_output([*_MAKE_KEY, *home], env=variables, cwd=material, text=True).strip()
        variables["ONESHOT_API_KEYS"] = "on"
    began = time.monotonic()
    with (material / "server.log").open("wb") as log:
        process = subprocess.Popen(command, env=variables, cwd=material, stdout=log, stderr=log, start_new_session=True)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, contestant, url, material)
        yield Running(process, url, time.monotonic() - began, key)
    finally:
        _stop(process)


def _wait(process: subprocess.Popen[bytes], contestant: Contestant, url: str, material: Path) -> None:
    query = next((material / "queries").glob("*.png")).read_bytes()
    end = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < end:
        with (
            contextlib.suppress(httpx.TransportError),
            httpx.Client(base_url=url, timeout=20, trust_env=False) as client,
        ):
            if contestant.own:
                answer = client.get("/readyz")
            elif contestant.form:
                answer = client.post("/classify", files={"image": ("image", query)})
            else:
                answer = client.post("/classify", content=query)
            if answer.status_code == 200:
                return
        time.sleep(0.05)
    raise RuntimeError(f"it did not start: {(material / 'server.log').read_text(errors='replace')[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    everything = _processes_of(process.pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    for pid, stat in (everything | _processes_of(process.pid)).items():
        with contextlib.suppress(OSError):
            if _stat(pid)[_STARTED] == stat[_STARTED]:  # otherwise the PID has been reused
                os.kill(pid, signal.SIGKILL)
    process.wait()


def enrol(url: str, material: Path, key: str | None = None) -> None:
    """Enrol the gallery's images in a oneshot service, unless it already has classes."""
    files = sorted((material / "gallery").glob("*.png"))
    headers = {"X-API-Key": key} if key else {}
    with httpx.Client(base_url=url, timeout=120, trust_env=False, headers=headers) as client:
        if client.get("/classes", params={"limit": 1}).json()["classes"]:
            return
        for start in range(0, len(files), 200):
            part = files[start : start + 200]
            images = [("image", (path.name, path.read_bytes())) for path in part]
            client.post("/enroll/batch", data={"label": [path.stem for path in part]}, files=images).raise_for_status()
