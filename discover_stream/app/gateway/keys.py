"""Keys that let a player into one replay for some hours: players of films send no headers.

A key names the token it was made for, so it ends with the token; it opens nothing but its replay or export.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

LIFETIME_S = 12 * 3600


def make_key(secret: bytes, token: str, thing: str, now_s: float) -> str:
    """A key for a thing (the id of a replay), made for the holder of a token."""
    until = int(now_s) + LIFETIME_S
    return f"{token}.{until}.{_proof(secret, token, thing, until)}"


def key_holder(secret: bytes, key: str, thing: str, now_s: float) -> str | None:
    """The token that a key was made for; None where it does not open the thing, or not any more."""
    token, _, rest = key.partition(".")
    until, _, proof = rest.partition(".")
    if not (key.isascii() and until.isdigit() and len(until) <= 12 and now_s < int(until)):
        return None
    return token if hmac.compare_digest(proof, _proof(secret, token, thing, int(until))) else None


def _proof(secret: bytes, token: str, thing: str, until: int) -> str:
    digest = hmac.new(secret, f"{token}\n{thing}\n{until}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest[:18]).decode()
