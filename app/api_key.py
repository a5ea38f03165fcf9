"""API keys: their format, and what they allow. A key is ``osk_<id>_<secret>``; the id is not secret.

The secret has 256 random bits. It can't be guessed, so a plain SHA-256 of it is safe to store.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

_PREFIX = "osk"
_SHAPE = re.compile(rf"{_PREFIX}_([0-9a-f]{{12}})_([A-Za-z0-9_-]{{43}})", re.ASCII)


class Scope(StrEnum):
    """What a key may do: READ looks and recognises, ENROL changes classes, ADMIN does everything."""

    READ = "read"
    ENROL = "enrol"
    ADMIN = "admin"


@dataclass(frozen=True)
class Key:
    """A key without its secret. None means: all `galleries`, the service's own `rate` and `concurrency`."""

    id: str
    name: str
    secret_sha256: str
    scopes: frozenset[Scope]
    galleries: frozenset[str] | None
    created_at: datetime
    rate: str | None = None
    concurrency: int | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None

    def valid(self, now: datetime | None = None) -> bool:
        """Whether the key is accepted at this time."""
        now = now or datetime.now(UTC)
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def may(self, scope: Scope) -> bool:
        """Whether the key has the scope. ADMIN includes all others."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def opens(self, gallery: str) -> bool:
        """Whether the key is for the gallery."""
        return self.galleries is None or gallery in self.galleries


def make_key(
    name: str,
    scopes: frozenset[Scope],
    galleries: frozenset[str] | None = None,
    *,
    rate: str | None = None,
    concurrency: int | None = None,
    expires_at: datetime | None = None,
) -> tuple[Key, str]:
    """Create a key. Return it and its text, which is stored nowhere."""
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    key = Key(key_id, name, _digest(secret), scopes, galleries, datetime.now(UTC), rate, concurrency, expires_at)
    return key, f"{_PREFIX}_{key_id}_{secret}"


def id_of(text: str) -> str | None:
    """The id in a key's text, or None when the text is not a key."""
    match = _SHAPE.fullmatch(text)
    return match[1] if match else None


def fits(key: Key | None, text: str) -> bool:
    """Whether the text is that of the key. Constant-time; a missing key takes as long as a wrong text."""
    match = _SHAPE.fullmatch(text)
    digest = _digest(match[2] if match else text)
    return hmac.compare_digest(digest, key.secret_sha256 if key else "0" * len(digest)) and key is not None


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
