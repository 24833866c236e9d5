"""The commands on a real Kafka: what goes wrong is said in one line, and what passes by itself is waited for."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from deploy.kafka.broker import Broker, take_free_port
from deploy.kafka.certificates import Authority
from deploy.kafka.settings import Security
from discover_stream.app.demo_log import borrowed, remove_topics
from discover_stream.codec.any_packet import parse_any
from discover_stream.config import load_config
from discover_stream.video.sink import open_sink
from discover_stream.video.source import open_source
from topics import open_log
from topics.catalogue import ARCHIVE, FRAMES, task_topic
from topics.log import LogError
from topics.reading import read_all

PASSWORD = "open-sesame-1"


def configuration(path: Path, kafka: dict[str, object], source: str = "sim://road?width=64&height=48", **more) -> Path:
    """A configuration of one small camera and one task on brokers."""
    content = {
        "log": {"kafka": kafka, "partitions": 1},
        "cameras": [{"name": "gate", "source": source, "realtime": True, **more}],
        "tasks": ["vehicles"],
        "quality": 1,
    }
    path.write_text(yaml.safe_dump(content))
    return path


# ---- refused at the start ----


def test_nobody_listens(tmp_path: Path, refused) -> None:
    address = f"127.0.0.1:{take_free_port(set())}"
    line = refused("run", "-c", configuration(tmp_path / "c.yaml", {"brokers": [address]}))
    assert f"kafka:{address}" in line
    assert "check the address and that the broker runs" in line


def test_a_demo_that_lost_its_broker_says_how_to_clean_up(tmp_path: Path) -> None:
    address = f"127.0.0.1:{take_free_port(set())}"
    log = load_config(configuration(tmp_path / "c.yaml", {"brokers": [address], "prefix": "demo-x."})).log
    told: list[str] = []
    with pytest.raises(LogError, match="away"), borrowed(log, False, told.append):
        raise LogError("the log is away")
    said, clean = told
    assert said == f"log kafka:{address}?prefix=demo-x."
    assert "could not be deleted" in clean
    assert clean.endswith(rf"kafka-topics.sh --bootstrap-server {address} --delete --topic 'demo-x\..*'")


@pytest.fixture(scope="module")
def guarded(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Broker, Authority]]:
    """A broker that wants TLS and a password, with a listener whose certificate has expired."""
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder)
    server, expired = authority.sign("server"), authority.sign("expired", expired=True)
    security = Security(
        authority.certificate,
        server.certificate,
        server.key,
        (expired.certificate, expired.key),
        {"fleet": PASSWORD},
    )
    with Broker(folder / "kafka", security=security) as broker:
        yield broker, authority


def secured(guarded: tuple[Broker, Authority], **more) -> dict[str, object]:
    broker, authority = guarded
    return {
        "brokers": [broker.secure],
        "prefix": "secured.",
        "tls": {"ca": str(authority.certificate)},
        "sasl": {"mechanism": "scram-sha-512", "user": "fleet", "password_env": "FLEET_PASSWORD"},
        **more,
    }


def test_a_wrong_password(tmp_path: Path, refused, guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    path = configuration(tmp_path / "c.yaml", secured(guarded))
    monkeypatch.delenv("FLEET_PASSWORD", raising=False)
    assert "set the environment variable FLEET_PASSWORD" in refused("run", "-c", path)
    monkeypatch.setenv("FLEET_PASSWORD", "not-this-one")
    line = refused("run", "-c", path)
    assert "refused user fleet" in line
    assert "FLEET_PASSWORD" in line
    assert "not-this-one" not in line


def test_an_expired_certificate(tmp_path: Path, refused, guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_PASSWORD", PASSWORD)
    path = configuration(tmp_path / "c.yaml", secured(guarded, brokers=[guarded[0].expired]))
    assert "expired" in refused("run", "-c", path)


def test_readers_find_topics_that_are_missing(
    tmp_path: Path, refused, guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the right password, so the broker is reached; nothing has run there yet."""
    monkeypatch.setenv("FLEET_PASSWORD", PASSWORD)
    path = configuration(tmp_path / "c.yaml", secured(guarded, prefix="empty."))
    assert "'vehicles' is not in this log; it has: none yet" in refused("subscribe", "vehicles", "-c", path)
    line = refused("replay", "gate", "-c", path, "-o", tmp_path / "x.mp4")
    assert "no archive yet; start `discover run`" in line


def test_a_full_disk_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("cameras: [{name: a, source: x}]\nlog: {path: log.db}\ntasks: [vehicles]\n")

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    command = [sys.executable, "-m", "discover_stream.app.cli", "run", "-c", "c.yaml"]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, preexec_fn=small_disk, env=quiet()
    )
    assert ran.returncode == 2, ran.stdout + ran.stderr
    (line,) = ran.stderr.strip().splitlines()
    assert line.startswith("error: log log.db") or "/log.db: " in line
    assert re.search("disk is full|disk reports an error", line)


# ---- while it runs ----


def quiet() -> dict[str, str]:
    return {**os.environ, "PYTHONWARNINGS": "ignore"}


class Program:
    """A `discover` command in a process of its own; what it says goes to files."""

    def __init__(self, out: Path, *arguments: object) -> None:
        self.out, self.errors = out, out.with_suffix(".err")
        command = [sys.executable, "-m", "discover_stream.app.cli", *map(str, arguments)]
        with out.open("wb") as stream, self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                command, stdout=stream, stderr=errors, cwd=out.parent, start_new_session=True, env=quiet()
            )

    @property
    def said(self) -> str:
        return self.out.read_text(errors="replace")

    @property
    def complaint(self) -> str:
        return self.errors.read_text(errors="replace")

    def until(self, condition: Callable[[], object], what: str) -> None:
        while not condition():
            assert self.process.poll() is None, f"ended before {what}:\n{self.said}\n{self.complaint}"
            time.sleep(0.1)

    def count(self, name: str) -> int:
        """The last figure of this name in the lines of progress."""
        found = re.findall(rf" {name} (\d+) ", self.said)
        return int(found[-1]) if found else 0


@contextmanager
def running(out: Path, *arguments: object) -> Iterator[Program]:
    program = Program(out, *arguments)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


@dataclass(frozen=True)
class Story:
    """What two runs said: one that outlived its broker and then lost a topic, one that was stopped meanwhile; and
    numbers of frames in the archive before the topic was lost, in the archive at the end, and in the task's topic."""

    first: Program
    second: Program
    replayed: str
    before: list[int]
    archived: list[int]
    routed: list[int]


def numbers(url: str, topic: str) -> list[int]:
    with open_log(url) as log:
        return [parse_any(record.value or b"", camera="gate").seq for record in read_all(log, topic)]


@pytest.fixture(scope="module")
def story(kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("story")
    with Broker(folder / "kafka") as broker:
        path = configuration(
            folder / "fleet.yaml",
            {"brokers": [broker.bootstrap], "prefix": "story."},
            "sim://road?width=64&height=48&fps=2",
        )
        url = load_config(path).log.url
        run = ("run", "-c", path, "--every", "0.5")
        with running(folder / "first.txt", *run) as first:
            first.until(lambda: first.count("archived") >= 3, "it archived something")
            broker.stop_node(0, hard=True)
            first.until(lambda: "log unavailable" in first.said, "it said that the log is away")
            first.until(lambda: "camera gate: log unavailable since" in first.said, "the camera's line")
            broker.start_node(0)
            first.until(lambda: "ingest-gate-0: goes on, the log is back" in first.said, "frames were written again")
            first.until(lambda: "the log answers again" in first.said, "it said that the log is back")
            before = first.count("archived")
            first.until(lambda: first.count("archived") >= before + 5, "it archived more")
            with running(
                folder / "replay.txt", "replay", "gate", "-c", path, "-o", "r.mkv", "--no-generate", "--to", "+1s"
            ) as film:
                film.process.wait()
            held = numbers(url, ARCHIVE)
            with open_log(url) as log:
                log.delete_topic(FRAMES)
            first.process.wait()
        with running(folder / "second.txt", *run) as second:
            second.until(lambda: second.count("archived") >= 1, "it began again")
            broker.stop_node(0, hard=True)
            second.until(lambda: "camera gate: log unavailable since" in second.said, "the camera's line")
            os.killpg(second.process.pid, signal.SIGINT)
            second.process.wait()
            broker.start_node(0)
        yield Story(
            first,
            second,
            film.said + film.complaint,
            held,
            numbers(url, ARCHIVE),
            numbers(url, task_topic("vehicles")),
        )


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_broker_that_comes_back_is_waited_for_and_nothing_is_lost_or_doubled(story: Story) -> None:
    said = story.first.said
    assert "Traceback" not in said + story.first.complaint
    line = next(line for line in said.splitlines() if "camera gate: log unavailable since" in line)
    assert re.search(r"since \S+Z, \d+ frames buffered, 0 dropped: log kafka:", line)
    assert int(re.findall(r"restarts (\d+)", said)[-1]) == 0  # waiting is not dying
    assert story.before == list(range(len(story.before)))
    assert story.archived[: len(story.before)] == story.before
    assert story.archived == sorted(set(story.archived))
    assert story.routed == story.archived[: len(story.routed)]
    assert len(story.routed) > len(story.before) - 10


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_replay_reads_from_brokers(story: Story) -> None:
    assert re.search(r"r\.mkv: [23] frames", story.replayed), story.replayed


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_topic_that_is_deleted_under_it_ends_a_run(story: Story) -> None:
    assert story.first.process.returncode == 2, story.first.said
    last = story.first.complaint.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "frames" in last
    assert "create" in last  # what starting again does


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_run_that_is_stopped_while_the_broker_is_away_says_so(story: Story) -> None:
    assert story.second.process.returncode == 2, story.second.said
    assert "Traceback" not in story.second.said + story.second.complaint
    last = story.second.complaint.strip().splitlines()[-1]
    assert last.startswith("error: camera gate: stopped while frames could not be written: log unavailable since")


# ---- the demo ----


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("keep", [False, True])
def test_the_demo_on_brokers(kafka_broker: Broker, tmp_path: Path, keep: bool) -> None:
    path = configuration(tmp_path / "fleet.yaml", {"brokers": [kafka_broker.bootstrap], "prefix": "lab."})
    clip = tmp_path / "clip.mkv"
    with (
        open_sink(clip, fps=2) as sink,
        open_source("sim://road?seed=5&width=96&height=64&fps=2", camera="c") as source,
    ):
        for _, frame in zip(range(2), source, strict=False):
            sink.write(frame.image)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "discover_stream.app.cli", "demo", "--config", str(path), "--video", str(clip)]
    command += ["--seconds", "1", "--fps", "2", "--out", str(out), *(["--keep-topics"] if keep else [])]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=quiet())
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    log = load_config(out / "demo.yaml").log
    assert log.kafka is not None
    assert log.kafka.prefix.startswith("lab.demo-")
    assert re.search(r"^\s*vehicles\s+4\s", ran.stdout, re.MULTILINE), ran.stdout
    assert (out / "report.html").exists()
    with open_log(log.url) as opened:
        names = {spec.name for spec in opened.topics()}
        if keep:
            assert len(list(read_all(opened, task_topic("vehicles")))) == 4
    assert bool(names) == keep
    if keep:
        assert "to delete them: kafka-topics.sh" in ran.stdout
        told: list[str] = []
        remove_topics(log, told.append)
        assert told == [f"deleted the demo's {len(names)} topics from the brokers"]
    else:
        assert "deleted the demo's" in ran.stdout
