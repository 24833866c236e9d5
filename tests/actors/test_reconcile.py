"""The steps from what is to what is to be, and that repeating them ends there."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from actors.decisions import StagePlan
from actors.reconcile import Actual, Begin, Configure, Create, Desired, Remove, Step, Stop, desired, reconcile
from discover_stream.config import CameraConfig, Config, LogConfig
from topics.partitioner import partition_for

NAMES = ("a", "b", "c", "d")


def wish(*names: str, fps: float | None = None, partitions: int = 2, backlog: tuple[int, ...] = ()) -> Desired:
    cameras = tuple(CameraConfig(name=name, source="rtsp://x", fps=fps) for name in names)
    return desired(Config(log=LogConfig(partitions=partitions), cameras=cameras), cameras, backlog)


def made(wanted: Desired) -> list[Actual]:
    return [
        Actual(
            plan,
            "running",
            wanted.cameras.get(plan.camera or ""),
            wanted.encoding if plan.kind == "encode" else None,
        )
        for plan in wanted.plans
    ]


def done(wanted: Desired, found: list[Actual], steps: tuple[Step, ...]) -> list[Actual]:
    """What a supervisor makes of steps when every process does as it is told."""
    after = {item.plan: item for item in found}
    for step in steps:
        here = after.get(step.plan)
        if isinstance(step, Create):
            assert here is None
            (after[step.plan],) = [item for item in made(wanted) if item.plan == step.plan]
        elif here is not None and isinstance(step, Configure):
            after[step.plan] = replace(here, encoding=wanted.encoding)
        elif here is not None and isinstance(step, Begin):
            after[step.plan] = replace(here, phase="running", again_s=None)
        elif here is not None and isinstance(step, Stop):
            after[step.plan] = replace(here, phase="stopped")
        elif isinstance(step, Remove):
            del after[step.plan]
    return list(after.values())


def test_nothing_is_done_where_all_is_as_it_is_to_be() -> None:
    assert reconcile(wish("a", "b"), made(wish("a", "b")), 0.0) == ()


def test_a_camera_is_added_after_its_encoder_knows_of_it() -> None:
    home = partition_for("a", 1)
    before, after = wish("a", partitions=1), wish("a", "b", partitions=1)
    assert reconcile(after, made(before), 0.0) == (
        Configure(StagePlan("encode", home)),
        Create(StagePlan("ingest", home, "b")),
    )


def test_a_camera_that_goes_is_stopped_and_then_removed_and_its_partition_is_finished() -> None:
    plan = StagePlan("ingest", partition_for("b", 2), "b")
    before, after = wish("a", "b", backlog=(0, 1)), wish("a", backlog=(0, 1))
    found = [replace(item, encoding=after.encoding) if item.encoding else item for item in made(before)]
    assert reconcile(after, found, 0.0) == (Stop(plan),)
    stopping = [replace(item, phase="stopping") if item.plan == plan else item for item in found]
    assert reconcile(after, stopping, 0.0) == ()
    stopped = [replace(item, phase="stopped") if item.plan == plan else item for item in found]
    assert reconcile(after, stopped, 0.0) == (Remove(plan),)


def test_a_camera_with_other_settings_is_never_read_twice_at_once() -> None:
    plan = StagePlan("ingest", 0, "a")
    wanted = wish("a", fps=2, partitions=1)
    found = made(wish("a", partitions=1))
    steps = reconcile(wanted, found, 0.0)
    assert Stop(plan) in steps
    assert Create(plan) not in steps
    found = done(wanted, found, steps)
    assert reconcile(wanted, found, 0.0) == (Remove(plan),)
    found = done(wanted, found, (Remove(plan),))
    assert reconcile(wanted, found, 0.0) == (Create(plan),)


def test_what_waits_begins_again_when_its_time_has_come() -> None:
    wanted = wish("a", partitions=1)
    found = [replace(item, phase="waiting", again_s=5.0) for item in made(wanted)]
    assert reconcile(wanted, found, 4.9) == ()
    assert set(reconcile(wanted, found, 5.0)) == {Begin(plan) for plan in wanted.plans}


def test_a_camera_that_was_given_up_rests_until_it_is_wanted_otherwise() -> None:
    plan = StagePlan("ingest", 0, "a")
    wanted = wish("a", partitions=1)
    found = [replace(item, phase="resting") if item.plan == plan else item for item in made(wanted)]
    assert reconcile(wanted, found, 0.0) == ()
    assert Remove(plan) in reconcile(wish("a", fps=3, partitions=1), found, 0.0)


@given(st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), st.sampled_from([None, 1.0, 5.0])), min_size=1, max_size=6))
def test_whatever_is_wanted_in_turn_the_last_wish_comes_true(wishes) -> None:
    found: list[Actual] = []
    for names, fps in wishes:
        wanted = wish(*sorted(names), fps=fps, backlog=(0, 1))
        found = done(wanted, found, reconcile(wanted, found, 0.0))  # once: the next wish comes before it is done
    for _ in range(5):
        steps = reconcile(wanted, found, 0.0)
        found = done(wanted, found, steps)
    assert steps == ()
    assert {item.plan for item in found} == set(wanted.plans)
    assert all(item.camera == wanted.cameras.get(item.plan.camera or "") for item in found)


def test_an_edge_forwards_and_a_core_routes_whatever_comes() -> None:
    config = Config(log=LogConfig(partitions=3), cameras=(CameraConfig(name="a", source="rtsp://x"),))
    home = partition_for("a", 3)
    edge = desired(config, config.cameras, (), "edge")
    assert edge.plans == (
        StagePlan("ingest", home, "a"), StagePlan("encode", home), StagePlan("forward", home)
    )  # fmt: skip
    core = desired(config, config.cameras, (), "core")
    assert core.plans == tuple(StagePlan("route", partition) for partition in range(3))
    assert (core.ground, edge.ground) == (0, 1)
