from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discover_stream.semantics.mllm_endpoint import (
    OPENAI_URL,
    Endpoint,
    Failure,
    Patience,
    endpoint_from,
    retry_after,
    wait_before_retry,
)
from discover_stream.types import InputError

KEY = "sk-0123456789"


def test_endpoints_from_the_environment() -> None:
    assert endpoint_from({"OPENAI_API_KEY": f" {KEY}\n", "OPENAI_MODEL": "m"}) == Endpoint("m", OPENAI_URL, KEY)
    local = {"OPENAI_BASE_URL": "http://127.0.0.1:11434/v1", "OPENAI_MODEL": "other"}
    assert endpoint_from(local, "llava") == Endpoint("llava", "http://127.0.0.1:11434/v1", "")


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, r"no language model is configured: set OPENAI_API_KEY, or OPENAI_BASE_URL .*--labels"),
        ({"OPENAI_API_KEY": KEY}, "no model is named"),
        ({"OPENAI_API_KEY": f"{KEY} x", "OPENAI_MODEL": "m"}, "characters that no key has"),
        ({"OPENAI_API_KEY": f"{KEY}é", "OPENAI_MODEL": "m"}, "characters that no key has"),
        ({"OPENAI_BASE_URL": "127.0.0.1:8000", "OPENAI_MODEL": "m"}, "no http or https address"),
        ({"OPENAI_BASE_URL": "http://[::1/v1", "OPENAI_MODEL": "m"}, "no http or https address"),
        ({"OPENAI_BASE_URL": "http://host:99999/v1", "OPENAI_MODEL": "m"}, "no http or https address"),
        ({"OPENAI_BASE_URL": "file:///etc/passwd", "OPENAI_MODEL": "m"}, "no http or https address"),
    ],
)
def test_settings_that_cannot_be_used(environment: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        endpoint_from(environment)
    assert KEY not in str(caught.value)


def test_a_place_shows_no_secret() -> None:
    assert Endpoint("m", "https://user:geheim@host:8443/v1?token=geheim", "k").place == "https://host:8443/v1"


@pytest.mark.parametrize("status", [None, 408, 409, 429, 500, 502, 503, 504, 529])
def test_what_passes(status: int | None) -> None:
    assert wait_before_retry(Failure(status, "x"), 1, 100.0, 0.5, Patience()) is not None
    assert wait_before_retry(Failure(status, "x", lasting=True), 1, 100.0, 0.5, Patience()) is None


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 501])
def test_what_does_not(status: int) -> None:
    assert wait_before_retry(Failure(status, "x"), 1, 100.0, 0.5, Patience()) is None


@given(
    tries=st.integers(1, 2000),
    left=st.floats(0, 1000),
    chance=st.floats(0, 1),
    asked=st.none() | st.floats(0, 5000),
)
def test_waits_are_bounded_and_never_shorter_than_asked_for(
    tries: int, left: float, chance: float, asked: float | None
) -> None:
    wait = wait_before_retry(Failure(429, "x", asked), tries, left, chance, Patience(tries=1000))
    if wait is not None:
        assert wait < left
        assert wait >= (asked or 0)
        assert tries < 1000
        assert asked is not None or wait <= 20
    elif tries < 1000:
        assert left <= max(1.1 * (asked or 0) + 1, 20)


def test_waits_grow_and_vary() -> None:
    def wait(tries: int, chance: float) -> float:
        found = wait_before_retry(Failure(503, "x"), tries, 1000.0, chance, Patience(tries=99))
        assert found is not None
        return found

    assert [wait(n, 1.0) for n in range(1, 4)] == [0.5, 1.0, 2.0]
    assert wait(3, 0.0) == wait(3, 1.0) / 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-2", 0.0), ("soon", None), ("", None), ("nan", None), ("inf", None)],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": text}, 0.0) == seconds


def test_retry_after_a_date() -> None:
    assert retry_after({"retry-after": formatdate(1000, usegmt=True)}, 990.0) == 10.0
    assert retry_after({"retry-after": formatdate(1000, usegmt=True)}, 2000.0) == 0.0
    assert retry_after({}, 0.0) is None
