"""How often the running service looks at things, and how long it waits for them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pace:
    """Times in seconds that are no settings: a service has these, a test may have shorter ones."""

    #: How long a revoked key may still open something.
    key_freshness: float = 0.5
    #: How long a probe of the store is good: it is a durable write, and anybody may ask for it.
    probe_freshness: float = 2.0
    #: How long an answer waits for the probe. A store that is only busy gives its result to a later answer.
    probe_patience: float = 2.0
    #: A store that has not answered for so long, longer than any other writer is waited for, is no longer only busy.
    store_silence: float = 15.0
    #: Between two looks for a change of the model.
    model_look: float = 0.5
    #: The first pause after work on a gallery's change has failed; it is doubled each time.
    model_pause: float = 1.0
    #: Images that are embedded between two commits of a change.
    model_chunk: int = 32
    #: From a start to the first inspection of the store, and between two.
    inspection_first: float = 60.0
    inspection_every: float = 24 * 3600.0


PACE = Pace()
