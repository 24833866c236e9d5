"""Where a language model is asked, and what is decided about requests that fail: pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from discover_stream.types import InputError

OPENAI_URL = "https://api.openai.com/v1"
LONGEST_WAIT_S = 20.0
_FIRST_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which model answers, and where. The key is never shown."""

    model: str
    base_url: str = OPENAI_URL
    api_key: str = field(default="", repr=False)

    @property
    def place(self) -> str:
        """The address without what may be secret in it."""
        parts = urlsplit(self.base_url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an inquiry goes on: seconds for one request, for everything, and tries of one request."""

    request_s: float = 120.0
    total_s: float = 300.0
    tries: int = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request gave nothing: HTTP status (None: there was no answer), in words, and what that means.

    `lasting` failures are not tried again, whatever their status.
    """

    status: int | None
    reason: str
    retry_after_s: float | None = None
    lasting: bool = False


def endpoint_from(environment: Mapping[str, str], model: str | None = None) -> Endpoint:
    """The endpoint that environment variables name.

    Args:
        environment: `OPENAI_API_KEY`, `OPENAI_BASE_URL` (default: OpenAI's own) and, where `model` is None,
            `OPENAI_MODEL`. Endpoints on one's own machines need no key.
        model: the model's name at the endpoint.

    Raises:
        InputError: neither key nor address, no model, or an address or key that cannot be used.
    """
    key = environment.get("OPENAI_API_KEY", "").strip()
    url = environment.get("OPENAI_BASE_URL", "").strip()
    if not key and not url:
        raise InputError(
            "no language model is configured: set OPENAI_API_KEY, or OPENAI_BASE_URL for an endpoint of your own "
            "(vLLM, Ollama), or give the labels as a file with --labels"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("OPENAI_API_KEY holds characters that no key has; copy the key again")
    try:
        parts = urlsplit(url or OPENAI_URL)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise InputError("OPENAI_BASE_URL is no http or https address; it looks like http://127.0.0.1:8000/v1")
    name = (model or environment.get("OPENAI_MODEL", "")).strip()
    if not name:
        raise InputError("no model is named: give --model, set OPENAI_MODEL, or mllm.model in the configuration")
    return Endpoint(name, url or OPENAI_URL, key)


def wait_before_retry(failure: Failure, tries: int, left_s: float, chance: float, patience: Patience) -> float | None:
    """Seconds until a failed request is tried again, None where that is of no use or there is no time for it.

    Args:
        failure: of the latest try.
        tries: how many there were so far, 1 or more.
        left_s: of the whole inquiry.
        chance: uniform in 0..1; spreads those that failed together.
        patience: bounds the tries.
    """
    passing = failure.status in (None, 408, 409, 425, 429) or (failure.status >= 500 and failure.status != 501)
    if failure.lasting or not passing or tries >= patience.tries:
        return None
    if failure.retry_after_s is not None:
        wait = failure.retry_after_s + chance * min(1.0, 0.1 * failure.retry_after_s)  # never sooner than asked for
    else:
        wait = min(LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (tries - 1)) * (0.5 + 0.5 * chance)
    return wait if wait < left_s else None


def retry_after(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds that an endpoint asks to wait, from its headers; None where it does not, or not legibly.

    Args:
        headers: with names in lower case, or case-insensitive.
        now_s: seconds since the epoch, for a header that names a time.
    """
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    try:
        wait = float(text)
    except ValueError:
        try:
            wait = parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, OverflowError):
            return None
    return max(0.0, wait) if math.isfinite(wait) else None
