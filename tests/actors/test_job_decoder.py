"""Jobs of several cameras and both modes in one call give what each gives alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stream_film import capture_ns, painted_film

from actors.job_decoder import DecodeOptions, JobDecoder, chunked
from actors.stream_jobs import DecodeJob, Item, Job, JobPlanner, StreamJob
from discover_stream.codec.packet import Packet, packet_bytes
from discover_stream.codec.still import encode_frame
from discover_stream.decoding import FrameDecoder
from discover_stream.types import BitstreamError, Box, Image, Provenance, Region
from discover_stream.video.simulate import SimulatedCamera

OPTIONS = DecodeOptions(inventions=False)


@pytest.fixture(scope="module")
def decoder() -> FrameDecoder:
    torch.set_num_threads(1)
    return FrameDecoder.load(inventions=True)


@pytest.fixture(scope="module")
def packets(decoder: FrameDecoder) -> dict[str, list[Packet]]:
    """Three frames of each of two cameras."""
    found: dict[str, list[Packet]] = {}
    for camera in ("east", "west"):
        street = SimulatedCamera("street", width=160, height=96, seed=len(found) + 3)
        boxes = {"cars": (Region(0, 0.9, Box(40, 30, 100, 70)),)}
        frames = [street.render(40 + seq)[0] for seq in range(3)]
        found[camera] = [encode_frame(decoder.model, one, boxes, {"cars": 1}, quality=5) for one in frames]
    return found


def psnr(one: Image, other: Image) -> float:
    error = np.square(one.astype(np.float64) - other).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def still_jobs(packets: dict[str, list[Packet]], session: str) -> list[Job]:
    return [
        DecodeJob(camera, packet_bytes(packet), session=session and f"{session}/{camera}")
        for row in zip(*packets.values(), strict=True)
        for camera, packet in zip(packets, row, strict=True)
    ]


def stream_job() -> StreamJob:
    planner = JobPlanner(lambda camera, number: (), lambda first: ())
    (job,) = planner.jobs([Item("gate", packet, capture_ns(packet.seq)) for packet in painted_film()[:4]])
    assert isinstance(job, StreamJob)
    return job


def test_cameras_and_modes_in_one_call_are_as_each_alone(
    decoder: FrameDecoder, packets: dict[str, list[Packet]]
) -> None:
    jobs: list[Job] = [*still_jobs(packets, "s"), stream_job()]
    together = JobDecoder(lambda: decoder).decode_many(jobs, OPTIONS)
    one_by_one, whole = JobDecoder(lambda: decoder), JobDecoder(lambda: decoder)
    assert [len(frames) for frames in together] == [1] * 6 + [4]
    for job, frames in zip(jobs, together, strict=True):
        alone = one_by_one.decode(job, OPTIONS)
        full = whole.decode(job, replace(OPTIONS, reuse=False))
        for frame, other, plain in zip(frames, alone, full, strict=True):
            assert (frame.camera, frame.seq) == (other.camera, other.seq)
            assert int(np.abs(frame.image.astype(int) - other.image).max()) <= 1
            sent = (plain.provenance == Provenance.SENT).repeat(16, 0).repeat(16, 1)[:96, :160]
            if isinstance(job, DecodeJob):
                assert psnr(frame.image[sent], plain.image[sent]) >= 40
            assert (frame.provenance == plain.provenance).all()
    east = [frames[0].image for job, frames in zip(jobs, together, strict=True) if job.camera == "east"]
    assert psnr(east[0], east[2]) < 40  # something did change


def test_without_a_session_a_row_ends_with_its_call(decoder: FrameDecoder, packets: dict[str, list[Packet]]) -> None:
    jobs, kept = still_jobs(packets, ""), JobDecoder(lambda: decoder)
    kept.decode_many(jobs[:2], OPTIONS)
    later = kept.decode_many(jobs[2:4], OPTIONS)
    fresh = JobDecoder(lambda: decoder).decode_many(jobs[2:4], OPTIONS)
    for one, other in zip(later, fresh, strict=True):
        assert (one[0].image == other[0].image).all()


def test_pictures_decoded_in_another_way_are_none_to_go_on_from(
    decoder: FrameDecoder, packets: dict[str, list[Packet]]
) -> None:
    job, kept = still_jobs(packets, "s")[0], JobDecoder(lambda: decoder)
    kept.decode(job, OPTIONS)
    (plain,) = kept.decode(job, replace(OPTIONS, generate=False))
    assert set(np.unique(plain.provenance)) == {Provenance.MISSING, Provenance.SENT}
    assert plain.invention == 0.0
    (fresh,) = JobDecoder(lambda: decoder).decode(job, replace(OPTIONS, generate=False))
    assert (plain.image == fresh.image).all()


def test_without_reuse_nothing_of_the_picture_before_is_in_a_picture(
    decoder: FrameDecoder, packets: dict[str, list[Packet]]
) -> None:
    jobs, kept = still_jobs(packets, "s"), JobDecoder(lambda: decoder)
    plain = replace(OPTIONS, reuse=False)
    for job in jobs:  # of two cameras in turn, and of one size
        (frame,) = kept.decode(job, plain)
        (fresh,) = JobDecoder(lambda: decoder).decode(job, plain)
        assert (frame.image == fresh.image).all()


def test_a_damaged_job_is_told_after_those_before_it(decoder: FrameDecoder, packets: dict[str, list[Packet]]) -> None:
    jobs = still_jobs({"east": packets["east"]}, "s")
    assert isinstance(jobs[2], DecodeJob)
    jobs[2] = replace(jobs[2], data=jobs[2].data[:-9])
    pictures = JobDecoder(lambda: decoder).decode_all(jobs, OPTIONS, together=3)
    assert [next(pictures).seq, next(pictures).seq] == [40, 41]
    with pytest.raises(BitstreamError, match="camera east"):
        next(pictures)


def test_composites_are_harmonised_where_objects_were_carried_on(decoder: FrameDecoder) -> None:
    job = stream_job()
    (plain,) = JobDecoder(lambda: decoder).decode_many([job], OPTIONS)
    (stepped,) = JobDecoder(lambda: decoder).decode_many([job], replace(OPTIONS, harmonise=True, steps=4))
    carried = [bool((frame.provenance == Provenance.PROPAGATED).any()) for frame in plain]
    assert any(carried)
    assert not all(carried)
    for frame, other, moved in zip(plain, stepped, carried, strict=True):
        assert (frame.provenance == other.provenance).all()
        assert bool(other.changed) == moved
        assert (frame.image == other.image).all() == (not moved)
        if moved:
            assert other.changed["propagated"] <= 1.5
            assert psnr(frame.image, other.image) > 20
    (off,) = JobDecoder(lambda: decoder).decode_many([job], replace(OPTIONS, harmonise=True, generate=False))
    assert all((one.image == other.image).all() for one, other in zip(plain, off, strict=True))


def test_calls_take_few_jobs_of_still_mode_and_one_of_stream_mode() -> None:
    still, streamed = DecodeJob("a", b""), StreamJob("b", (), (), ())
    jobs: list[Job] = [still, still, still, streamed, streamed, still]
    assert [len(chunk) for chunk in chunked(jobs, 2)] == [2, 1, 1, 1, 1]
