"""Intervals and timeouts of the running service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Times in seconds that are not settings, and the size of a step. Tests may pass shorter ones."""

    #: How long a revoked key may still be accepted.
    key_freshness: float = 0.5
    #: How long the result of a store probe is reused. A probe is a durable write, and any client can request one.
    probe_freshness: float = 2.0
    #: How long an answer waits for the probe. If the store is only busy, a later answer gets the result.
    probe_patience: float = 2.0
    #: A store silent for this long counts as failed, not as busy. Longer than the wait for any other writer.
    store_silence: float = 15.0
    #: Interval between checks for a change of the model.
    model_look: float = 0.5
    #: First pause after a failed step of a gallery's model change; doubled each time.
    model_pause: float = 1.0
    #: Images embedded between two commits of a model change.
    model_chunk: int = 32
    #: Time from start to the first inspection of the store, and between inspections.
    inspection_first: float = 60.0
    inspection_every: float = 24 * 3600.0


PACE = Pace()
