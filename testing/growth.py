"""Whether a process grows: samples of its memory and descriptors, and the slope of the memory with its uncertainty.

    python -m testing.growth PID [--minutes 10]

The slope is that of a straight line through the means of equal blocks of time after the warm-up (what the allocators
and caches take once is no leak). Means of blocks, because one sample after the other is far from independent; the
interval is Student's, over the blocks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import linregress, t

BLOCKS = 12


@dataclass(frozen=True)
class Sample:
    """One sample of a process: seconds since the start, megabytes (resident, and the anonymous part), and counts."""

    seconds: float
    resident: float
    anonymous: float
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Slope:
    """Megabytes an hour, with the 95 % interval and the p-value against no growth."""

    per_hour: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.per_hour:+.1f} MB/h (95 % {self.low:+.1f} to {self.high:+.1f}, p = {self.p:.2g})"


def look(pid: int, seconds: float) -> Sample:
    """Take a sample of a running process (Linux)."""
    process = Path(f"/proc/{pid}")
    status = dict(
        line.split(":\t", 1) for line in (process / "status").read_text("ascii").splitlines() if ":\t" in line
    )
    resident, anonymous = (int(status[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "RssAnon"))
    descriptors = sum(1 for _ in (process / "fd").iterdir())
    return Sample(seconds, resident, anonymous, descriptors, int(status["Threads"]))


def peak(pid: int) -> float:
    """Peak resident megabytes of a running process since the last call (Linux)."""
    process = Path(f"/proc/{pid}")
    lines = (process / "status").read_text("ascii").splitlines()
    (process / "clear_refs").write_text("5", "ascii")
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def watch(
    pid: int, minutes: float, samples: int, seen: Callable[[Sample], None] = lambda _sample: None
) -> list[Sample]:
    """Take `samples` samples, evenly spaced over `minutes`; `seen` is called with each."""
    found: list[Sample] = []
    began = time.monotonic()
    for number in range(samples):
        time.sleep(max(0.0, began + 60 * minutes * number / samples - time.monotonic()))
        found.append(look(pid, time.monotonic() - began))
        seen(found[-1])
    time.sleep(max(0.0, began + 60 * minutes - time.monotonic()))
    return found


def slope(samples: Sequence[Sample], warm_up: float = 1 / 3, what: str = "resident") -> Slope:
    """The growth after the first `warm_up` (a share) of the samples.

    Raises ValueError for fewer than two samples a block.
    """
    settled = np.array([(each.seconds / 3600, getattr(each, what)) for each in samples[int(len(samples) * warm_up) :]])
    if len(settled) < 2 * BLOCKS:
        raise ValueError(f"{len(settled)} samples are too few for {BLOCKS} blocks")
    hours, megabytes = np.array([block.mean(axis=0) for block in np.array_split(settled, BLOCKS)]).T
    line = linregress(hours, megabytes)
    margin = float(t.ppf(0.975, BLOCKS - 2)) * float(line.stderr)
    return Slope(float(line.slope), float(line.slope) - margin, float(line.slope) + margin, float(line.pvalue))


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pid", type=int)
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    samples = watch(options.pid, options.minutes, 240, tell)
    print(slope(samples))


def tell(sample: Sample) -> None:
    """Print a sample."""
    values: dict[str, Any] = asdict(sample)
    print(" ".join(f"{name}={value:.1f}" for name, value in values.items()), flush=True)


if __name__ == "__main__":
    main()
