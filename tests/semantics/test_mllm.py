"""The inquiry against a real HTTP server that speaks the chat-completions interface."""

from __future__ import annotations

import json
import socket
from email.utils import formatdate

import pytest
from chat_server import GOOD_LABELS, KEY, ChatServer, Reply, labelled, refusing, saying

from discover_stream.semantics.labels import MIN_LABELS
from discover_stream.semantics.mllm import InquiryError, LabelAnswer, UnusableAnswer, ask_labels
from discover_stream.semantics.mllm_endpoint import Endpoint, Patience

WORDS = "count delivery vans blocking the bus lane"
QUICK = Patience(request_s=5.0, total_s=20.0, tries=3)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def ask(server: ChatServer, patience: Patience = QUICK, key: str = KEY) -> LabelAnswer:
    return ask_labels(WORDS, Endpoint("test-model", server.url, key), patience)


def told(server: ChatServer, pattern: str, patience: Patience = QUICK) -> InquiryError:
    """What an inquiry that fails says."""
    with pytest.raises(InquiryError, match=pattern) as caught:
        ask(server, patience)
    return caught.value


def test_a_good_answer_takes_one_request() -> None:
    with ChatServer([labelled()]) as server:
        answer = ask(server)
    assert answer.labels == GOOD_LABELS
    assert answer.refused == ()
    (request,) = server.requests
    assert server.paths == ["/v1/chat/completions"]
    assert request["model"] == "test-model"
    assert request["response_format"]["type"] == "json_schema"
    assert request["response_format"]["json_schema"]["strict"] is True
    assert WORDS in request["messages"][-1]["content"]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_what_it_took_is_told() -> None:
    with ChatServer([labelled(GOOD_LABELS[:37]), refusing(503), labelled()]) as server:
        inquiry = ask(server).inquiry
        place = server.url
    assert (inquiry.requests, inquiry.tries) == (2, 3)
    assert (inquiry.tokens_in, inquiry.tokens_out) == (800, 1200)  # those that were answered, summed
    assert (inquiry.model, inquiry.place) == ("test-model-0711", place)
    assert 0 < inquiry.seconds < 3600


def test_an_endpoint_that_tells_no_tokens() -> None:
    with ChatServer([labelled(usage=None, model=None)]) as server:
        inquiry = ask(server).inquiry
    assert (inquiry.tokens_in, inquiry.tokens_out, inquiry.model) == (None, None, "test-model")


def test_37_labels_are_repaired_once() -> None:
    with ChatServer([labelled(GOOD_LABELS[:37]), labelled(GOOD_LABELS[30:])]) as server:
        assert set(ask(server).labels) == set(GOOD_LABELS)
    first, second = server.requests
    assert second["messages"][: len(first["messages"])] == first["messages"]
    *_, said, repair = second["messages"]
    assert json.loads(said["content"])["labels"] == list(GOOD_LABELS[:37])
    assert "has 37 distinct labels" in repair["content"]
    assert f"{MIN_LABELS} are needed" in repair["content"]


def test_37_labels_twice_are_refused_after_two_requests() -> None:
    with ChatServer([labelled(GOOD_LABELS[:37])]) as server, pytest.raises(UnusableAnswer) as caught:
        ask(server)
    assert len(server.requests) == 2
    assert "37 labels of use" in str(caught.value)
    assert "--labels FILE" in str(caught.value)
    assert caught.value.inquiry.requests == 2


def test_duplicates_do_not_count_and_are_named() -> None:
    plurals = [f"{label}s" for label in GOOD_LABELS[:60] if label[-1] not in "shy"][:30]
    doubled = [*GOOD_LABELS[:60], *plurals, *(label.upper() for label in GOOD_LABELS[:30])]
    with ChatServer([labelled(doubled), labelled()]) as server:
        assert ask(server).labels == GOOD_LABELS
    repair = server.requests[1]["messages"][-1]["content"]
    assert "has 60 distinct labels" in repair
    assert "- red cars: the same as 'red car'" in repair
    assert "more" in repair.splitlines()[-2]  # 60 were refused; not all are repeated


def test_a_few_bad_labels_in_a_good_answer_are_left_out() -> None:
    bad = ["traffic safety", "The van is blocking the bus lane.", 7, "", "red car"]
    with ChatServer([labelled([*GOOD_LABELS, *bad])]) as server:
        answer = ask(server)
    assert answer.labels == GOOD_LABELS
    assert [label for label, _ in answer.refused] == [
        "traffic safety", "the van is blocking the bus lane.", "7", "", "red car"
    ]  # fmt: skip
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (saying("Sure! Here are some labels: car, van"), "no JSON object"),
        (saying('{"labels": "car"}'), "no JSON object"),
        (saying('{"things": ["car"]}'), "no JSON object"),
        (saying(None), "empty"),
        (saying('{"labels": ["car", "va', choice={"finish_reason": "length"}), "cut off"),
        (saying(None, choice={"message": {"content": None, "refusal": "I cannot help."}}), "declined"),
    ],
)
def test_an_answer_that_cannot_be_read_is_repaired(first: Reply, told: str) -> None:
    with ChatServer([first, labelled()]) as server:
        assert ask(server).labels == GOOD_LABELS
    assert told in server.requests[1]["messages"][-1]["content"]


def test_wrong_json_twice_is_refused() -> None:
    with ChatServer([saying("no JSON")]) as server, pytest.raises(UnusableAnswer, match="no JSON object"):
        ask(server)
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "wrapped", ["```json\n{}\n```", "<think>{{labels}} perhaps</think>\n{}", "The labels:\n{}\nDone."]
)
def test_a_wrapped_answer_is_read(wrapped: str) -> None:
    text = wrapped.replace("{}", json.dumps({"labels": GOOD_LABELS}))
    with ChatServer([saying(text)]) as server:
        assert ask(server).labels == GOOD_LABELS
    assert len(server.requests) == 1


def test_an_endpoint_without_structured_output_is_asked_in_another_way() -> None:
    def plain_only(request: dict[str, object]) -> Reply:
        if "response_format" in request:
            return refusing(400, "response_format is not supported")
        return labelled(GOOD_LABELS[:90] if len(request["messages"]) == 2 else GOOD_LABELS)  # type: ignore[arg-type]

    with ChatServer([plain_only]) as server:
        assert ask(server).labels == GOOD_LABELS
    formats = [request.get("response_format", {}).get("type") for request in server.requests]
    assert formats == ["json_schema", "json_object", None, None]  # the repair does not try them again


def test_a_request_that_is_wrong_in_any_format_is_told() -> None:
    with ChatServer([refusing(400, "the prompt is too long")]) as server:
        error = told(server, r"answered 400 \(the prompt is too long\)")
    assert not isinstance(error, UnusableAnswer)
    assert len(server.requests) == 3


def test_429_waits_for_as_long_as_it_is_asked_to() -> None:
    with ChatServer([refusing(429, "slow down", Retry_After="1"), labelled()]) as server:
        assert ask(server).labels == GOOD_LABELS
    assert server.times[1] - server.times[0] >= 1.0


def test_429_that_asks_for_more_time_than_there_is() -> None:
    with ChatServer([refusing(429, "slow down", Retry_After="3600")]) as server:
        told(server, r"answered 429 \(slow down\), and asks to wait 3600 s.*try again later")
    assert len(server.requests) == 1


def test_429_with_a_date_in_the_past_is_tried_again_at_once() -> None:
    with ChatServer([refusing(429, Retry_After=formatdate(0, usegmt=True)), labelled()]) as server:
        assert ask(server).labels == GOOD_LABELS


def test_no_quota_is_not_tried_again() -> None:
    with ChatServer([refusing(429, "pay", code="insufficient_quota")]) as server:
        told(server, "no quota left")
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [500, 502, 503, 408])
def test_what_passes_is_tried_again_a_bounded_number_of_times(status: int) -> None:
    with ChatServer([refusing(status), labelled()]) as server:
        assert ask(server).inquiry.tries == 2
    with ChatServer([refusing(status)]) as server:
        told(server, rf"answered {status}.*after 3 tries")
    assert len(server.requests) == 3


def test_a_time_out_is_tried_again_then_told() -> None:
    patience = Patience(request_s=0.3, total_s=20.0, tries=2)
    with ChatServer([labelled(delay_s=1.0), labelled()]) as server:
        assert ask(server, patience).labels == GOOD_LABELS
    with ChatServer([labelled(delay_s=1.0)]) as server:
        told(server, r"no answer within 0\.3 s after 2 tries", patience)
    assert len(server.requests) == 2


def test_an_answer_that_trickles_is_bounded_too() -> None:
    slow = Reply(body=labelled().body, drip_s=0.05)  # every byte in time, the whole in minutes
    with ChatServer([slow]) as server, pytest.raises(InquiryError, match="took too long"):
        ask(server, Patience(request_s=0.4, total_s=20.0, tries=1))


def test_an_answer_that_breaks_off_is_tried_again() -> None:
    half = Reply(body=labelled().body[:100], cut=True)
    with ChatServer([half, labelled()]) as server:
        assert ask(server).inquiry.tries == 2


def test_an_answer_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discover_stream.semantics.mllm.MAX_REPLY_BYTES", 1000)
    with ChatServer([labelled()]) as server:
        told(server, "larger than 1000 bytes")


def test_the_whole_inquiry_has_a_deadline() -> None:
    with ChatServer([refusing(503)]) as server, pytest.raises(InquiryError, match="answered 503"):
        ask(server, Patience(request_s=5.0, total_s=1.0, tries=1000))
    assert len(server.requests) < 10


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_told_without_the_key(status: int) -> None:
    with ChatServer([refusing(status, f"Incorrect API key provided: {KEY}")]) as server:
        error = told(server, rf"refused the key \({status}\).*check OPENAI_API_KEY")
    assert len(server.requests) == 1
    assert KEY not in str(error)
    assert error.__cause__ is None


def test_no_secret_is_ever_shown() -> None:
    key = "not-like-others-42"
    with ChatServer([refusing(400, f"you sent {key} and sk-other-0123456789 and Bearer abcdefgh\nso no")]) as server:
        secret = server.url.replace("http://", "http://user:geheim@")
        with pytest.raises(InquiryError) as caught:
            ask_labels(WORDS, Endpoint("m", secret, key), QUICK)
        line = str(caught.value)
    for text in (key, "0123456789", "abcdefgh", "geheim", "user", "\n"):
        assert text not in line
    assert key not in repr(Endpoint("m", secret, key))
    assert "geheim" not in caught.value.inquiry.place


def test_a_model_that_says_a_key_is_not_quoted() -> None:
    with ChatServer([labelled([KEY])]) as server, pytest.raises(UnusableAnswer) as caught:
        ask(server)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b'{"error": "x"}', b'{"choices": []}', b"", b"[" * 100_000])
def test_something_that_is_no_endpoint(body: bytes) -> None:
    with ChatServer([Reply(body=body)]) as server:
        told(server, r"no chat completion; check OPENAI_BASE_URL")
    assert len(server.requests) == 1


def test_nobody_answers_there() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(InquiryError, match=r"no connection .* after 2 tries; check the endpoint"):
        ask_labels(WORDS, Endpoint("m", url), Patience(tries=2))


def test_an_unknown_model_is_told() -> None:
    with ChatServer([refusing(404, "model 'x' not found")]) as server:
        told(server, r"answered 404 \(model 'x' not found\); check the model's name")
