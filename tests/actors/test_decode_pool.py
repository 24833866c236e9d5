from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from actors.decode_pool import DecodeJob, in_order


@given(st.integers(0, 40), st.integers(1, 5))
def test_results_come_in_order_and_no_worker_is_flooded(count: int, workers: int) -> None:
    running: Counter[int] = Counter()

    def start(worker: int, chunk: list[DecodeJob]) -> tuple[int, list[DecodeJob]]:
        running[worker] += 1
        assert running[worker] <= 2
        assert chunk
        return worker, chunk

    def wait(call: tuple[int, list[DecodeJob]]):
        running[call[0]] -= 1
        return [job.camera for job in call[1]]

    jobs = [DecodeJob(str(number), b"") for number in range(count)]
    assert list(in_order(iter(jobs), start, wait, workers)) == [job.camera for job in jobs]


def test_jobs_are_taken_as_they_are_needed() -> None:
    taken = []

    def jobs():
        for number in range(1000):
            taken.append(number)
            yield DecodeJob(str(number), b"")

    results = in_order(jobs(), lambda worker, chunk: chunk, lambda chunk: chunk, 2)
    assert next(results).camera == "0"
    assert len(taken) < 20
