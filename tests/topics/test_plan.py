"""What has to change in a log's topics, and changing it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from log_backends import SPECS

from discover_stream.types import InputError
from topics.catalogue import ARCHIVE, CatalogueSettings, catalogue
from topics.log import Log, Retention, TopicSpec
from topics.plan import Change, Plan, age_text, apply_plan, plan_topics, retention_text, size_text
from topics.sqlite import SqliteLog

DAY_NS = 24 * 3600 * 10**9
KEPT = Retention(7 * DAY_NS, 20 * 2**30)
SPEC = TopicSpec("archive", 4, guarded=True, retention=KEPT, purpose="packets")


def test_nothing_to_do_is_an_empty_plan() -> None:
    assert plan_topics(catalogue(["a"]), reversed(catalogue(["a"]))) == Plan()


def test_missing_topics_are_created_and_described() -> None:
    assert plan_topics([SPEC], []).changes == (Change("create", "archive", "4 partitions, 7 d, 20 GiB: packets"),)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"retention": Retention(DAY_NS, 20 * 2**30)}, "age: 1 d -> 7 d"),
        ({"retention": Retention(None, None)}, "age: for ever -> 7 d; size of a partition: any size -> 20 GiB"),
        ({"guarded": False}, "guarded: no -> yes"),
        ({"purpose": ""}, "purpose: '' -> 'packets'"),
    ],
)
def test_settings_that_differ_are_altered(found: dict[str, object], words: str) -> None:
    assert plan_topics([SPEC], [replace(SPEC, **found)]).changes == (Change("alter", "archive", words),)


def test_a_difference_too_small_to_be_told_is_still_one() -> None:
    (change,) = plan_topics([SPEC], [replace(SPEC, retention=Retention(7 * DAY_NS + 1, 20 * 2**30))]).changes
    assert change.kind == "alter"


@pytest.mark.parametrize(("partitions", "word"), [(8, "adding"), (2, "removing")])
def test_partitions_are_never_changed(partitions: int, word: str) -> None:
    (change,) = plan_topics([replace(SPEC, partitions=partitions)], [SPEC]).changes
    assert change.kind == "refuse"
    for part in (
        f"has 4 partitions, wanted {partitions}; {word} partitions",
        "keep log.partitions at 4",
        "ingest again",
    ):
        assert part in change.why


@pytest.mark.parametrize("field", ["keyed", "compacted"])
def test_what_decides_where_records_are_is_never_changed(field: str) -> None:
    (change,) = plan_topics([replace(SPEC, **{field: not getattr(SPEC, field)})], [SPEC]).changes
    assert change.kind == "refuse"
    assert field in change.why
    assert "ingest again" in change.why


def test_changes_come_in_the_order_of_doing() -> None:
    found = [TopicSpec("zoo", 1), TopicSpec("b", 1), TopicSpec("ant", 1), TopicSpec("p", 2)]
    wanted = [TopicSpec("p", 1), TopicSpec("new", 1), TopicSpec("b", 1, guarded=True)]
    changes = plan_topics(wanted, found).changes
    assert [(c.kind, c.topic) for c in changes] == [
        ("create", "new"),
        ("alter", "b"),
        ("refuse", "p"),
        ("delete", "ant"),
        ("delete", "zoo"),
    ]


def test_applying_leaves_nothing_to_plan(log: Log) -> None:
    """On every backend: what a broker tells about its topics is what was asked for."""
    wanted = [spec for spec in (*SPECS, *catalogue(["a"])) if spec.name != "out"]
    wanted = list({spec.name: spec for spec in reversed(wanted)}.values())  # `state` as it is here
    plan = plan_topics(wanted, log.topics())
    assert [change.topic for change in plan.of("delete")] == ["out"]
    apply_plan(log, wanted, plan, delete=False)
    assert [(c.kind, c.topic) for c in plan_topics(wanted, log.topics()).changes] == [("delete", "out")]
    apply_plan(log, wanted, plan, delete=True)
    assert plan_topics(wanted, log.topics()) == Plan()
    log.create_topics([TopicSpec(ARCHIVE, 4, retention=Retention(DAY_NS, 2**30), purpose="changed by somebody")])
    (drift,) = plan_topics(wanted, log.topics()).changes
    assert (drift.kind, drift.topic) == ("alter", ARCHIVE)
    assert "age: 1 d -> 7 d; size of a partition: 1 GiB -> 20 GiB; guarded: no -> yes" in drift.why


def apply(log: Log, tasks: list[str], partitions: int = 2, active: tuple[str, ...] = ()) -> None:
    wanted = catalogue(tasks, CatalogueSettings(partitions=partitions))
    apply_plan(log, wanted, plan_topics(wanted, log.topics()), delete=True, active=active)


def test_what_is_refused_stops_everything(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        apply(log, ["a"])
        before = log.topics()
        with pytest.raises(InputError, match=r"topic archive: has 2 partitions, wanted 3.*nothing was changed"):
            apply(log, ["b"], partitions=3)
        assert log.topics() == before


def test_topics_of_tasks_go_only_when_nothing_is_on_its_way_to_them(tmp_path: Path) -> None:
    with SqliteLog(tmp_path / "log.db") as log:
        apply(log, ["a", "b"])
        before = log.topics()
        with pytest.raises(InputError, match=r"topic task\.b: task b is still on"):
            apply(log, ["a"], active=("a", "b"))
        log.append(ARCHIVE, "gate", b"packet", partition=1)
        with pytest.raises(InputError, match=r"topic task\.b: 1 archived packets of partition 1 wait to be routed"):
            apply(log, ["a"], active=("a",))
        assert log.topics() == before
        with log.stage("route", 1, "test").transaction() as transaction:
            transaction.commit_offset(ARCHIVE, 1, 1)
        apply(log, ["a"], active=("a",))
        assert {spec.name for spec in before} - {spec.name for spec in log.topics()} == {"task.b"}


def test_words_for_spans_and_sizes() -> None:
    assert [age_text(n * 10**9) for n in (3600, 5400, 90, 169 * 3600, 0)] == ["1 h", "90 min", "90 s", "169 h", "0 s"]
    assert age_text(5 * 10**8) == "0.5 s"
    assert [size_text(n) for n in (0, 2**20, 5 * 2**29)] == ["0 bytes", "1 MiB", "2.5 GiB"]
    assert retention_text(Retention(None, 2**30)) == "1 GiB"
    assert retention_text(Retention()) == "for ever"
