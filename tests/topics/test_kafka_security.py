"""A real broker that asks who you are: what each mistake says, what each role may do, and that secrets stay secret."""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from kafka_site import Place, grant, site

from deploy.kafka.certificates import Pair
from deploy.kafka.roles import ROLES, role_rights
from topics import open_log
from topics.catalogue import (
    ARCHIVE,
    DEAD,
    FRAMES,
    INDEX,
    LABELS,
    PLATES,
    TASKS,
    CatalogueSettings,
    catalogue,
    task_topic,
)
from topics.kafka import KafkaLog
from topics.log import Log, LogError, Record, TopicSpec, latest_by_key

PASSWORD = "correct-horse-battery-41"
WRONG = "wrong-staple-87"
PREFIX = "site1."
USERS = {name: PASSWORD for name in (*ROLES, "nobody", "prefixed")}
SETTINGS = CatalogueSettings(partitions=2)


@pytest.fixture(scope="module")
def place(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with site(tmp_path_factory.mktemp("site"), USERS) as found:
        for role in ROLES:
            rights = role_rights(role, groups=["readers"], tasks=["vehicles"] if role == "subscriber" else [])
            grant(found.broker, f"User:{role}", rights)
        grant(found.broker, "User:CN=camera", role_rights("subscriber"))
        grant(found.broker, "User:prefixed", role_rights("operator", prefix=PREFIX))
        yield found


@pytest.fixture(scope="module")
def topics(place: Place) -> None:
    """The catalogue, made by the operator."""
    os.environ["SITE_PASSWORD"] = PASSWORD
    with open_log(place.address("operator")) as log:
        log.create_topics(catalogue(["vehicles", "people"], SETTINGS))


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SITE_PASSWORD", PASSWORD)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing answers, and nothing ever will: wait less for it."""
    monkeypatch.setattr("topics.kafka_client.CONNECT_S", 1.0)


def refusal(address: str) -> str:
    """What opening and asking says; one line, and no password of ours in it or in its causes."""
    with pytest.raises(LogError) as caught, open_log(address) as log:
        log.topics()
    said = str(caught.value)
    assert "\n" not in said
    trace = "".join(traceback.format_exception(caught.value))
    assert PASSWORD not in trace
    assert WRONG not in trace
    return said


@pytest.mark.parametrize("sasl", ["plain", "scram-sha-256", "scram-sha-512"])
def test_the_right_password_opens_the_log(place: Place, topics: None, sasl: str) -> None:
    with open_log(place.address("operator", sasl=sasl)) as log:
        assert "frames" in [spec.name for spec in log.topics()]


@pytest.mark.parametrize("sasl", ["plain", "scram-sha-256", "scram-sha-512"])
def test_a_wrong_password_names_the_user_and_where_it_came_from(
    place: Place, topics: None, sasl: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SITE_PASSWORD", WRONG)
    caplog.set_level(logging.DEBUG)
    said = refusal(place.address("operator", sasl=sasl))
    assert "refused user operator" in said
    assert "SITE_PASSWORD" in said
    assert WRONG not in caplog.text


def test_a_password_from_a_file(place: Place, topics: None, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(PASSWORD + "\n")
    address = place.address("operator", password_env="", password_file=str(file))
    assert PASSWORD not in address
    with open_log(address) as log:
        assert log.topics()
    file.write_text(WRONG)
    assert str(file) in refusal(address)
    file.unlink()
    assert "cannot read" in refusal(address)


def test_a_password_that_is_not_set(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SITE_PASSWORD")
    assert "set the environment variable SITE_PASSWORD" in refusal(place.address("operator"))


def test_an_expired_certificate(place: Place) -> None:
    said = refusal(place.address("operator", servers=place.broker.expired))
    assert "certificate of the broker has expired" in said
    assert "renew" in said


def test_an_authority_that_signed_nothing_here(place: Place) -> None:
    said = refusal(place.address("operator", ca=str(place.folder / "stranger.pem")))
    assert "stranger.pem" in said
    assert "set ca=" in said


def test_tls_left_out_or_asked_of_a_plain_port(place: Place, hurried: None) -> None:
    said = refusal(place.address("operator", servers=place.broker.bootstrap))
    assert "does not speak TLS" in said
    said = refusal(f"kafka:{place.broker.secure}")
    assert place.broker.secure in said
    assert "set tls=yes" in said


def test_an_unknown_host(hurried: None) -> None:
    said = refusal("kafka:no-such-host.invalid:9093")
    assert "no-such-host.invalid" in said
    assert "check the address" in said


def test_nobody_listens(place: Place, hurried: None) -> None:
    said = refusal(place.address("operator", servers="127.0.0.1:1"))
    assert "127.0.0.1:1" in said
    assert "check the address" in said


def test_a_client_certificate_instead_of_a_password(place: Place, topics: None) -> None:
    ca = quote(str(place.authority.certificate))

    def address(pair: Pair) -> str:
        ours = f"cert={quote(str(pair.certificate))}&key={quote(str(pair.key))}"
        return f"kafka:{place.broker.mutual}?tls=yes&ca={ca}&{ours}"

    with open_log(address(place.client)) as log:
        assert task_topic("vehicles") in [spec.name for spec in log.topics()]
        with pytest.raises(LogError, match="may not do this to the topic"):
            log.append(FRAMES, "cam", b"x")
    assert "certificate" in refusal(address(place.stranger))
    assert place.broker.mutual in refusal(f"kafka:{place.broker.mutual}?tls=yes&ca={ca}")


def test_a_token_function(
    place: Place, topics: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The broker takes unsigned tokens; `sub` is who it is."""
    (tmp_path / "site_tokens.py").write_text(
        "import base64, json, time\n"
        "def part(body):\n"
        "    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip('=')\n"
        "def token(sub='operator', lasts=300):\n"
        "    now = int(time.time())\n"
        "    return part({'alg': 'none'}) + '.' + part({'sub': sub, 'iat': now - 600, 'exp': now + lasts}) + '.'\n"
        "def stale():\n"
        "    return token(lasts=-60)\n"
        "def other():\n"
        "    return token('nobody')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    caplog.set_level(logging.DEBUG)

    def address(function: str) -> str:
        return place.address("", sasl="oauthbearer", password_env="", token=f"site_tokens:{function}")

    with open_log(address("token")) as log:
        assert FRAMES in [spec.name for spec in log.topics()]
    with open_log(address("other")) as log, pytest.raises(LogError):
        log.append(FRAMES, "cam", b"x")
    said = refusal(address("stale"))
    assert "oauthbearer" in said
    assert "site_tokens:stale" in said
    secret = sys.modules["site_tokens"].token().split(".")[1][:20]
    assert secret not in said + caplog.text


def test_settings_do_not_show_secrets_when_printed(place: Place) -> None:
    log = open_log(place.address("operator"))
    assert isinstance(log, KafkaLog)
    options = log.settings.client_options()
    assert options["sasl_plain_password"] == PASSWORD
    assert PASSWORD not in repr(options) + repr(log.settings) + log.settings.address()
    log.close()


def test_the_brokers_own_log_shows_no_password(place: Place, topics: None) -> None:
    for node in place.broker.nodes:
        assert PASSWORD not in node.log.read_text(errors="replace")


# ---- rights: each role does its work, step by step as its stages do, and nothing of the others' ----


def work_of_ingest(log: Log) -> None:
    stage = log.stage("ingest-road", 0, "test")
    assert log.bounds(FRAMES, 0).end >= 0
    log.committed("stage:encode-0", FRAMES, 0)
    with stage.transaction() as transaction:
        transaction.send(FRAMES, "road", b"frame", partition=0)
        transaction.set_state(b"seq 1")
    stage.close()
    again = log.stage("ingest-road", 0, "test")
    assert again.state == b"seq 1"
    again.close()


def work_of_encode(log: Log) -> None:
    tasks = log.reader(TASKS, [0])
    tasks.poll()
    assert latest_by_key(log, LABELS)
    latest_by_key(log, PLATES, [0])
    stage = log.stage("encode", 0, "test")
    reader = log.reader(FRAMES, [0])
    (frame,) = [item for item in reader.poll(timeout_s=20) if isinstance(item, Record)][:1]
    stage.record_attempt(FRAMES, 0, frame.offset)
    position = log.bounds(ARCHIVE, 0).end
    with stage.transaction() as transaction:
        for topic in (ARCHIVE, INDEX, DEAD):
            transaction.send(topic, "road", b"atoms %d" % position, partition=0)
        transaction.send(PLATES, "road/1", b"plate", partition=0)
        transaction.commit_offset(FRAMES, 0, frame.offset + 1)
        transaction.set_state(b"tracks")
    stage.close()
    again = log.stage("encode", 0, "test")
    assert (again.state, again.offsets[FRAMES, 0]) == (b"tracks", frame.offset + 1)
    again.close()


def work_of_route(log: Log) -> None:
    assert latest_by_key(log, LABELS)
    log.reader(TASKS, [0]).poll()
    stage = log.stage("route", 0, "test")
    (atoms,) = [item for item in log.reader(ARCHIVE, [0]).poll(timeout_s=20) if isinstance(item, Record)][:1]
    stage.record_attempt(ARCHIVE, 0, atoms.offset)
    with stage.transaction() as transaction:
        transaction.send(task_topic("vehicles"), "road", b"packet", partition=0)
        transaction.send(DEAD, "road", b"why", partition=0)
        transaction.commit_offset(ARCHIVE, 0, atoms.offset + 1)
    stage.close()


def work_of_operator(log: Log) -> None:
    log.create_topics(catalogue(["vehicles", "people", "extra"], SETTINGS))
    stage = log.stage("registry", 0, "test")
    with stage.transaction() as transaction:
        transaction.send(LABELS, "vehicles/9", b"x")
        for partition in range(SETTINGS.partitions):
            transaction.send(TASKS, "vehicles", b"start", partition=partition)
        transaction.send(LABELS, "vehicles/9", None)
    stage.close()
    assert log.groups() == tuple(sorted(log.groups()))
    for spec in log.topics():
        log.bounds(spec.name, 0)
    log.maintain(time.time_ns() + 10**9 * 3600 * 24 * 30, {(FRAMES, 0): 0, (ARCHIVE, 0): 0})
    log.trim(FRAMES, 0, 0)
    log.delete_topic(task_topic("extra"))
    assert task_topic("extra") not in [spec.name for spec in log.topics()]


def work_of_subscriber(log: Log) -> None:
    assert {spec.name for spec in log.topics()} >= {task_topic("vehicles"), LABELS, PLATES}
    assert latest_by_key(log, LABELS)
    reader = log.reader(task_topic("vehicles"), group="readers")
    found = [item for item in reader.poll(timeout_s=20) if isinstance(item, Record)]
    assert found
    reader.commit()
    held = log.committed("readers", task_topic("vehicles"), 0)
    assert held is not None
    assert held > found[-1].offset


WORK: dict[str, Callable[[Log], None]] = {
    "ingest": work_of_ingest,
    "encode": work_of_encode,
    "route": work_of_route,
    "subscriber": work_of_subscriber,
    "operator": work_of_operator,
}


def test_each_role_can_do_its_work(place: Place, topics: None) -> None:
    """In the order of the flow, since each reads what the one before has written."""
    with open_log(place.address("operator")) as log:
        stage = log.stage("registry", 0, "test")
        with stage.transaction() as transaction:
            transaction.send(LABELS, "vehicles/1", b"labels")
        stage.close()
    for role, work in WORK.items():
        with open_log(place.address(role)) as log:
            try:
                work(log)
            except LogError as error:
                pytest.fail(f"{role}: {error}")


@pytest.mark.parametrize(
    ("user", "topic"),
    [("ingest", ARCHIVE), ("encode", FRAMES), ("route", ARCHIVE), ("subscriber", task_topic("vehicles"))],
)
def test_no_role_writes_where_another_one_does(place: Place, topics: None, user: str, topic: str) -> None:
    with open_log(place.address(user)) as log, pytest.raises(LogError) as caught:
        log.append(topic, "road", b"forged", partition=0)
    said = str(caught.value)
    assert f"user {user} may not" in said
    assert "docs/kafka.md" in said
    assert topic in said


def test_a_subscriber_sees_only_its_tasks_and_its_groups(
    place: Place, topics: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_log(place.address("subscriber")) as log:
        seen = {spec.name for spec in log.topics()}
        assert not seen & {FRAMES, ARCHIVE, DEAD, task_topic("people")}
        with pytest.raises(LogError, match="may not use the consumer group"):
            log.reader(task_topic("vehicles"), group="somebody-elses").commit({0: 0})
        monkeypatch.setattr("topics.kafka_offsets.ANSWER_S", 3.0)  # the client asks again and again until then
        with pytest.raises(LogError, match="user subscriber may not do this to the topic"):
            log.reader(task_topic("people")).poll()


def test_a_stage_of_another_role_cannot_be_taken_over(place: Place, topics: None) -> None:
    with open_log(place.address("ingest")) as log, pytest.raises(LogError, match="may not use the transactional id"):
        log.stage("encode", 0, "thief")


def test_no_rights_at_all(place: Place, topics: None) -> None:
    with open_log(place.address("nobody")) as log:
        with pytest.raises(LogError) as caught:
            log.create_topics([TopicSpec("mine", 1)])
        assert "user nobody may not" in str(caught.value)
        with pytest.raises(LogError) as caught:
            log.append(FRAMES, "cam", b"x")
        assert "\n" not in str(caught.value)


def test_rights_below_a_prefix_end_there(place: Place, topics: None) -> None:
    with open_log(place.address("prefixed", prefix=PREFIX)) as log:
        log.create_topics(catalogue([], SETTINGS))
        assert FRAMES in [spec.name for spec in log.topics()]
    with open_log(place.address("prefixed")) as log, pytest.raises(LogError):
        log.append(TASKS, "vehicles", b"x", partition=0)
