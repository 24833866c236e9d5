"""One inquiry to a multimodal language model: the label set of a task from its description.

Any endpoint that speaks the chat-completions interface serves, through the `openai` client and its standard
environment variables. An answer that does not make a label set gets one repair request. What passes by itself
(429, 5xx, time-outs, no connection) is tried again, with waits that grow and vary, as long as there is time.

Errors and figures never hold a key: what an endpoint says is quoted in part, and scrubbed.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from discover_stream.semantics.mllm_endpoint import (
    Endpoint,
    Failure,
    Patience,
    retry_after,
    wait_before_retry,
)
from discover_stream.semantics.mllm_prompt import (
    SCHEMA,
    AnswerError,
    SortedLabels,
    join_labels,
    question,
    read_answer,
    repair_request,
    shortage,
    sort_labels,
)
from discover_stream.types import InputError

MAX_REPLY_BYTES = 4 * 2**20
"""Bytes of a reply: a bound on memory, far above what labels need."""
_QUOTED = 200

ResponseFormat = Literal["json_schema", "json_object", "text"]
FORMATS: tuple[ResponseFormat, ...] = ("json_schema", "json_object", "text")
"""Ways to ask for JSON, the strictest first: an endpoint that refuses one is asked in the next."""


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What an inquiry took. Tokens are as reported by the endpoint, summed, None where it reported none.

    `requests` were answered by the model (2 after a repair request), `tries` includes those that failed.
    """

    model: str
    place: str
    requests: int
    tries: int
    tokens_in: int | None
    tokens_out: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class LabelAnswer:
    """The labels of a task, at least `MIN_LABELS`, distinct and normalised; what was refused, and why."""

    labels: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    inquiry: Inquiry


class InquiryError(InputError):
    """An inquiry gave no labels for a reason beside the answer: network, key, quota, settings. It may be repeated."""

    def __init__(self, message: str, inquiry: Inquiry) -> None:
        super().__init__(message)
        self.inquiry = inquiry


class UnusableAnswer(InquiryError):
    """The model answered, twice, and its answers do not make a label set."""


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(BaseModel):
    """What is read of a chat completion; endpoints differ in the rest."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None
    model: str | None = None


def ask_labels(description: str, endpoint: Endpoint, patience: Patience | None = None) -> LabelAnswer:
    """Ask a model for the labels of a task; one answer, and where it is of no use one repair.

    Args:
        description: the task in words.
        endpoint: who is asked.
        patience: bounds of time and tries.

    Raises:
        UnusableAnswer: both answers together do not make a label set.
        InquiryError: there was no answer; the message names the endpoint, the cause and what to do.
    """
    session = _Session(endpoint, patience or Patience())
    try:
        messages = question(description)
        text, found, problem = session.answer(messages)
        if not found.enough:
            messages += [
                {"role": "assistant", "content": text or "(nothing)"},
                {"role": "user", "content": repair_request(found, problem)},
            ]
            _, second, problem = session.answer(messages)
            found = join_labels(found, second)
    finally:
        session.close()
    if not found.enough:
        raise UnusableAnswer(
            f"model {endpoint.model} at {endpoint.place}: no label set, also after a repair request: "
            f"{session.scrub(shortage(found, problem))}; describe the task differently, use another model, or give "
            "--labels FILE",
            session.inquiry(),
        )
    return LabelAnswer(found.labels, found.refused, session.inquiry())


class _Session:
    """The requests of one inquiry: what is left of its time, and what it has cost."""

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        import openai

        self._endpoint, self._patience = endpoint, patience
        self._began_s = time.monotonic()
        self._format = 0
        self._requests = self._tries = 0
        self._tokens: tuple[int, int] | None = None
        self._model = endpoint.model
        # Retries are ours: the client's do not know how much time is left. It insists on a key.
        self._client = openai.OpenAI(api_key=endpoint.api_key or "none", base_url=endpoint.base_url, max_retries=0)

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def inquiry(self) -> Inquiry:
        """What it took so far."""
        tokens_in, tokens_out = self._tokens or (None, None)
        seconds = time.monotonic() - self._began_s
        return Inquiry(self._model, self._endpoint.place, self._requests, self._tries, tokens_in, tokens_out, seconds)

    def answer(self, messages: list[dict[str, str]]) -> tuple[str, SortedLabels, str | None]:
        """A model's answer: its text, the labels in it, and why it cannot be read, if it cannot.

        Raises InquiryError.
        """
        choice = self._complete(messages)
        text = choice.message.content or ""
        if choice.message.refusal:
            return choice.message.refusal, SortedLabels(), "the model declined to answer"
        try:
            return text, sort_labels(read_answer(text)), None
        except AnswerError as error:
            cut = choice.finish_reason == "length"
            return text, SortedLabels(), "the answer was cut off, it was too long" if cut else str(error)

    def scrub(self, text: str) -> str:
        """A text without line breaks, and without anything that is or looks like a key."""
        plain = " ".join(text.split())
        for secret in {self._endpoint.api_key, urlsplit(self._endpoint.base_url).password or ""} - {""}:
            plain = plain.replace(secret, "***")
        return re.sub(r"\b(sk|key|pk|Bearer)[-_ ][^\s'\",;]{4,}", "***", plain)

    def _complete(self, messages: list[dict[str, str]]) -> _Choice:
        tries = 0
        while True:
            tries += 1
            try:
                reply = self._request(messages)
            except _Failed as failed:
                failure = failed.failure
            else:
                return self._count(reply)
            if failure.status in (400, 422, 501) and self._format + 1 < len(FORMATS):
                self._format += 1  # many endpoints know no structured output; whatever it was, this settles it
                tries -= 1
                continue
            wait = wait_before_retry(failure, tries, self._left_s(), random.random(), self._patience)
            if wait is None:
                raise InquiryError(self._told(failure, tries), self.inquiry()) from None
            time.sleep(wait)

    def _count(self, reply: _Reply) -> _Choice:
        self._requests += 1
        self._model = reply.model or self._model
        if reply.usage is not None and reply.usage.prompt_tokens is not None:
            before = self._tokens or (0, 0)
            self._tokens = before[0] + reply.usage.prompt_tokens, before[1] + (reply.usage.completion_tokens or 0)
        return reply.choices[0]

    def _left_s(self) -> float:
        return self._began_s + self._patience.total_s - time.monotonic()

    def _request(self, messages: list[dict[str, str]]) -> _Reply:
        """One request. Raises _Failed."""
        import openai

        left_s = self._left_s()
        if left_s <= 0:
            raise _Failed(Failure(None, "the time for the whole inquiry is over", lasting=True))
        self._tries += 1
        create: Callable[..., Any] = self._client.chat.completions.with_streaming_response.create
        asked: dict[str, Any] = {"model": self._endpoint.model, "messages": messages}
        chosen = FORMATS[self._format]
        if chosen == "json_schema":
            asked["response_format"] = {
                "type": chosen,
                "json_schema": {"name": "labels", "strict": True, "schema": SCHEMA},
            }
        elif chosen == "json_object":
            asked["response_format"] = {"type": chosen}
        request_s = min(self._patience.request_s, left_s)
        try:
            with create(**asked, timeout=request_s) as response:
                return self._read(response.iter_bytes(), time.monotonic() + request_s)
        except openai.APIStatusError as error:
            raise _Failed(self._status_failure(error)) from None
        except openai.APITimeoutError:
            raise _Failed(Failure(None, f"no answer within {request_s:.3g} s")) from None
        except openai.APIConnectionError as error:
            raise _Failed(self._broken(error.__cause__ or error)) from None

    def _read(self, chunks: Iterator[bytes], deadline_s: float) -> _Reply:
        """Read a reply with bounds on its size and time, whichever way it trickles. Raises _Failed."""
        body = bytearray()
        while True:
            try:
                chunk = next(chunks, b"")
            except Exception as error:  # of the HTTP library beneath, which the client does not translate here
                raise _Failed(self._broken(error)) from None
            if not chunk:
                break
            body += chunk
            if len(body) > MAX_REPLY_BYTES:
                raise _Failed(Failure(200, f"its answer is larger than {MAX_REPLY_BYTES} bytes", lasting=True))
            if time.monotonic() > deadline_s:
                raise _Failed(Failure(None, "its answer took too long"))
        try:
            return _Reply.model_validate_json(bytes(body))
        except ValidationError:
            raise _Failed(Failure(200, "its answer is no chat completion", lasting=True)) from None

    def _broken(self, cause: BaseException) -> Failure:
        return Failure(None, f"no connection ({self.scrub(str(cause)) or type(cause).__name__})")

    def _status_failure(self, error: Any) -> Failure:
        status = int(error.status_code)
        code = str(error.code or "")
        said = self.scrub(str((error.body or {}).get("message", "") if isinstance(error.body, dict) else ""))[:_QUOTED]
        wait = retry_after(error.response.headers, time.time())
        if status in (401, 403):  # endpoints like to repeat the key here
            return Failure(status, f"refused the key ({status})", lasting=True)
        if code == "insufficient_quota":
            return Failure(status, f"the account has no quota left ({status})", lasting=True)
        return Failure(status, f"answered {status}" + (f" ({said})" if said else ""), wait)

    def _told(self, failure: Failure, tries: int) -> str:
        """The one line that people get."""
        place = f"model {self._endpoint.model} at {self._endpoint.place}"
        again = f" after {tries} tries" if tries > 1 else ""
        wait = f", and asks to wait {failure.retry_after_s:.0f} s" if failure.retry_after_s else ""
        remedies = {
            200: "check OPENAI_BASE_URL (most end in /v1)",
            401: "check OPENAI_API_KEY",
            403: "check OPENAI_API_KEY and what it may use",
            404: "check the model's name and OPENAI_BASE_URL (most end in /v1)",
            429: "try again later, or use another endpoint",
        }
        remedy = remedies.get(failure.status or 0, "check the endpoint, then try again, or give --labels FILE")
        return f"{place}: {failure.reason}{wait}{again}; {remedy}"
