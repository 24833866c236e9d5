"""Packets of both modes on decoding processes: any process, any stretch, any death shows what one reader shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from stream_film import capture_ns, painted_film, seen

from actors.decode_pool import DecodeOptions, JobDecoder, in_order
from actors.stream_jobs import Item, Job, JobPlanner, LiveJobs, StreamJob
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.decoded import DecodedFrame
from discover_stream.types import DiscoverError, Image
from topics.catalogue import catalogue, task_topic
from topics.log import Log
from topics.sqlite import SqliteLog

FILM = painted_film()
OPTIONS = DecodeOptions()


def unwanted():
    raise AssertionError("no picture of still mode is decoded here")


def items(packets: Sequence[StreamPacket] = FILM, camera: str = "gate") -> Iterator[Item]:
    return (Item(camera, packet, capture_ns(packet.seq)) for packet in packets)


def planner(**how: object) -> JobPlanner:
    return JobPlanner(lambda camera, number: (), lambda first: (), **how)  # type: ignore[arg-type]


def straight(packets: Sequence[StreamPacket] = FILM) -> list[Image]:
    reader, images = CameraReader("gate", lambda number: ()), []
    for packet in packets:
        reader.read(packet)
        images.append(reader.pictures.picture(packet.incarnation, packet.seq).image)
    return images


def decoded(jobs: Sequence[Job], decoder: JobDecoder | None = None) -> list[DecodedFrame]:
    """By one process, or each job by one of its own."""
    return [frame for job in jobs for frame in (decoder or JobDecoder(unwanted)).decode(job, OPTIONS)]


@pytest.mark.parametrize("stretch", [1, 2, 4, 100])
@pytest.mark.parametrize("session", ["", "replay"])
@pytest.mark.parametrize("one_process", [True, False])
def test_any_stretch_on_any_process_shows_the_same(stretch: int, session: str, one_process: bool) -> None:
    jobs = list(planner(stretch=stretch, session=session).jobs(items()))
    assert len(jobs) == -(-len(FILM) // stretch)
    frames = decoded(jobs, JobDecoder(unwanted) if one_process else None)
    for frame, packet, image in zip(frames, FILM, straight(), strict=True):
        assert (frame.camera, frame.seq, frame.capture_ns) == ("gate", packet.seq, capture_ns(packet.seq))
        assert np.array_equal(frame.image, image)
        for position, key in enumerate(packet.tasks):
            assert set(frame.regions[key]) == seen(packet.seq, position)


def test_a_process_that_goes_on_decodes_nothing_twice() -> None:
    decoder, jobs = JobDecoder(unwanted), list(planner(stretch=3, session="s").jobs(items()))
    first, second, third = jobs
    assert isinstance(second, StreamJob)
    assert second.before
    decoder.decode(first, OPTIONS)
    bare = replace(second, before=())
    assert np.array_equal(decoder.decode(bare, OPTIONS)[-1].image, straight()[5])
    # One that has seen something else begins with what the job brings.
    decoder.decode(first, OPTIONS)
    assert np.array_equal(decoder.decode(third, OPTIONS)[-1].image, straight()[8])


def test_only_what_is_wanted_is_shown_and_the_rest_is_read_all_the_same() -> None:
    wanted = [replace(item, shown=item.packet.seq in (4, 8)) for item in items()]
    frames = decoded(list(planner(stretch=3).jobs(wanted)))
    assert [frame.seq for frame in frames] == [4, 8]
    assert np.array_equal(frames[1].image, straight()[8])


def test_a_task_alone_is_decoded_from_its_own_atoms() -> None:
    frames = decoded(list(planner(tasks=frozenset({11})).jobs(items())))
    assert all(set(frame.regions) == {11} for frame in frames)
    assert frames[4].image[27, 40].mean() < 70 < straight()[4][27, 40].mean()  # the bus is the other task's


def test_reading_begins_in_the_middle_with_what_comes_before_and_its_plates() -> None:
    asked = []

    def plates(camera: str, number: int) -> Sequence[StreamPacket]:
        asked.append((camera, number))
        return [_alone(packet) for packet in FILM[:number] if packet.plates][:1] if number == 1 else ()

    plan = JobPlanner(plates, lambda first: FILM[2 : first.packet.seq], stretch=2)
    frames = decoded(list(plan.jobs(items(FILM[4:5]))))
    assert ("gate", 1) in asked
    assert frames[0].image.shape == straight()[4].shape
    assert plan.not_whole == [("gate", capture_ns(4))]  # the keys came before the third frame
    whole = JobPlanner(plates, lambda first: FILM[: first.packet.seq], stretch=2)
    assert np.array_equal(decoded(list(whole.jobs(items(FILM[4:]))))[-1].image, straight()[-1])
    assert whole.not_whole == []


def _alone(packet: StreamPacket) -> StreamPacket:
    plates = tuple(replace(plate, members=()) for plate in packet.plates)
    return StreamPacket(packet.model, packet.seq, 0, 0, packet.seq, (), capture_us=0, size=(64, 48), plates=plates)


def test_a_pool_gets_results_in_order_and_a_session_stays_with_its_process() -> None:
    workers = [JobDecoder(unwanted) for _ in range(3)]
    homes: dict[str, set[int]] = {}

    def start(worker: int, chunk: list[Job]) -> list[DecodedFrame]:
        for job in chunk:
            assert isinstance(job, StreamJob)
            homes.setdefault(job.session, set()).add(worker)
        return decoded(chunk, workers[worker])

    cameras = [item for camera in ("east", "west", "gate") for item in items(camera=camera)]
    frames = list(in_order(planner(stretch=2, session="live").jobs(cameras), start, lambda done: done, 3))
    assert [(frame.camera, frame.seq) for frame in frames] == [(item.camera, item.packet.seq) for item in cameras]
    assert all(len(used) == 1 for used in homes.values())
    assert len(homes) == 3
    spread = {job.session for job in planner(stretch=2).jobs(cameras) if isinstance(job, StreamJob)}
    assert spread == {""}


@pytest.fixture
def live_log(tmp_path) -> Iterator[Log]:
    with SqliteLog(tmp_path / "live.db") as log:
        log.create_topics(catalogue(["vehicles"]))
        for packet in FILM:
            log.append(task_topic("vehicles"), "gate", any_packet_bytes(packet), partition=0)
        yield log


def test_a_live_subscriber_is_decoded_elsewhere_packet_by_packet(live_log: Log) -> None:
    from discover_stream.sdk import TaskFrame, subscribe

    live, kept = LiveJobs("me"), JobDecoder(unwanted)
    with subscribe("vehicles", log=live_log, timeout_s=0) as subscription:
        for item, image in zip(subscription, straight(), strict=True):
            assert isinstance(item, TaskFrame)
            job = live.job(item)
            for decoder in (kept, JobDecoder(unwanted)):  # the one before, or one that has never seen the camera
                (frame,) = decoder.decode(job, OPTIONS)
                assert np.array_equal(frame.image, image)


def test_damaged_bytes_are_told(live_log: Log) -> None:
    (job,) = planner().jobs(items(FILM[:1]))
    assert isinstance(job, StreamJob)
    broken = replace(job, packets=(job.packets[0][:-9],))
    with pytest.raises(DiscoverError, match="gate"):
        JobDecoder(unwanted).decode(broken, OPTIONS)
