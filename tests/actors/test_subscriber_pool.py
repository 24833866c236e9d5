"""What a pool does with packets whatever its processes do; those are in the tests of running pools."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any, cast

import pytest

from actors.local_ray import ray
from actors.pool_policy import PoolRules
from actors.subscriber_pool import SubscriberPool, WorkerOptions, _Task, _Worker
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.decoded import DecodedFrame
from discover_stream.sdk import TaskFrame
from discover_stream.types import DiscoverError, InputError

OPTIONS = DecodeOptions()


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[SubscriberPool]:
    """One whose thread has ended: what it does, a test does."""
    monkeypatch.setattr(ray, "kill", lambda handle: None)
    found = SubscriberPool(PoolRules())
    found._stop.set()
    found._thread.join()
    yield found
    found.close()


def waiting(since_s: float = 0.0) -> _Task:
    job = cast(Any, SimpleNamespace(camera="gate", since_s=since_s))
    return _Task(job, OPTIONS, Future[DecodedFrame](), since_s)


def worker(asked: list[object]) -> _Worker:
    """A process that was given what is then in `asked`."""

    def remote(jobs: list[object], options: DecodeOptions) -> object:
        asked.extend(jobs)
        return object()

    return _Worker(SimpleNamespace(decode=SimpleNamespace(remote=remote)), None)


def test_a_packet_that_nobody_waits_for_any_more_is_not_decoded(pool: SubscriberPool) -> None:
    asked: list[object] = []
    pool._workers.append(worker(asked))
    gone, wanted = waiting(), waiting()
    pool._new.extend([gone, wanted])
    assert gone.result.cancel()
    pool._hand_out()
    assert asked == [wanted.job]
    assert not wanted.result.cancel()  # it is being decoded, and its result may be set


def test_what_a_process_had_goes_to_another_in_the_same_order(pool: SubscriberPool) -> None:
    died, asked = worker([]), list[object]()
    pool._workers.append(died)
    first, second = waiting(1.0), waiting(2.0)
    pool._new.extend([first, second])
    pool._hand_out()
    reference = next(iter(died.in_hand))
    died.in_hand[reference] = died.in_hand.pop(reference)  # as when the answer to the first one is an error
    pool._lose(died)
    pool._workers.append(worker(asked))
    pool._hand_out()
    assert asked == [first.job, second.job]


def test_whoever_waits_is_told_also_where_processes_cannot_be_ended(
    pool: SubscriberPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(handle: object) -> None:
        raise ray.exceptions.RaySystemError("Ray has gone")

    monkeypatch.setattr(ray, "kill", kill)
    pool._workers.extend([worker([]), worker([])])
    tasks = [waiting() for _ in range(5)]
    pool._new.extend(tasks)
    pool._hand_out()
    pool._end_all(DiscoverError("it has failed"))
    for task in tasks:
        with pytest.raises(DiscoverError, match="it has failed"):
            task.result.result(timeout=0)
    assert not pool._workers


def test_a_pool_that_is_closed_takes_no_packet(pool: SubscriberPool) -> None:
    pool.close()
    with pytest.raises(DiscoverError, match="it is closed"):
        pool.start(cast(TaskFrame, None), OPTIONS)


def test_a_process_that_stays_after_all_is_no_cold_start(pool: SubscriberPool) -> None:
    stays = worker([])
    stays.ending = True
    pool._workers.append(stays)
    pool._new.append(waiting())
    pool._arrivals.append(float("inf"))
    pool._decide()
    assert not stays.ending
    assert (pool.figures.starts, pool.figures.cold_starts) == (0, 0)


@pytest.mark.parametrize("rules", [PoolRules(gpu_share=0.25), PoolRules(price=2.0, budget=1.0)])
def test_rules_that_allow_no_process_are_refused(rules: PoolRules) -> None:
    with pytest.raises(InputError, match=r"not one process may be started \(capped: (gpus|budget)\); raise"):
        SubscriberPool(rules)


def test_pictures_are_decoded_as_the_configuration_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[DecodeOptions] = []

    def start(frame: TaskFrame, options: DecodeOptions) -> Future[DecodedFrame]:
        asked.append(options)
        done = Future[DecodedFrame]()
        done.set_result(cast(DecodedFrame, None))
        return done

    how = DecodingConfig(harmonise=("human",), reuse=False, inventions=False)
    with SubscriberPool(PoolRules(), WorkerOptions(decoding=how)) as pool:
        monkeypatch.setattr(pool, "start", start)
        pool.decoded(cast(TaskFrame, None), "human", 2, True)
    assert asked == [DecodeOptions("human", 2, inventions=False, reuse=False, harmonise=True)]
