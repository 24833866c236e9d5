"""Decoding jobs of any cameras and either mode together: what one decoding process does."""

from __future__ import annotations

import itertools
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from actors.steps import Steps
from actors.stream_jobs import DecodeJob, Job, StreamJob
from discover_stream.codec.any_packet import is_plates_alone
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.stream_coding import parse_stream_packet
from discover_stream.decode_options import DecodeOptions
from discover_stream.painting import learned_painter
from discover_stream.types import BitstreamError

if TYPE_CHECKING:
    from discover_stream.codec.latent_atoms import LatentCodec
    from discover_stream.decoded import DecodedFrame
    from discover_stream.decoding import FrameDecoder
    from discover_stream.generation.reuse import KeptPictures

__all__ = ["DecodeOptions", "JobDecoder"]

MAX_SESSIONS = 16
"""Sessions of which a process keeps what it decoded."""


def chunked(jobs: Iterable[Job], together: int) -> Iterator[list[Job]]:
    """The jobs of each call: so many of still mode, or one of stream mode, which holds many packets."""
    for streamed, run in itertools.groupby(jobs, key=lambda job: isinstance(job, StreamJob)):
        while chunk := list(itertools.islice(run, 1 if streamed else together)):
            yield chunk


class JobDecoder:
    """Decodes jobs of either mode, and keeps what it decoded of sessions. For one thread.

    Args:
        load: loads the generative decoder, when it is needed first.
        steps: is told what each picture took: the last step of its frame's trace.
        threads: of the networks that learned atoms need; None leaves them as they are.
    """

    def __init__(
        self, load: Callable[[], FrameDecoder], steps: Steps | None = None, threads: int | None = None
    ) -> None:
        self._load, self._threads = load, threads
        self.steps = steps or Steps()
        self._sessions: OrderedDict[str, tuple[tuple[int, int], CameraReader]] = OrderedDict()
        self._kept: KeptPictures | None = None

    def decode(self, job: Job, options: DecodeOptions) -> list[DecodedFrame]:
        """The pictures of a job: one, or one for each packet of stream mode that is shown; see `decode_many`."""
        return self.decode_many([job], options)[0]

    def decode_many(self, jobs: Sequence[Job], options: DecodeOptions) -> list[list[DecodedFrame]]:
        """The pictures of jobs of any cameras, which go through the networks together.

        Args:
            jobs: in order within each session.
            options: how to decode all of them.

        Returns:
            the pictures of each job.

        Raises:
            BitstreamError: bytes are damaged or of another model.
            InputError: the number of steps is out of range, or a packet holds regions only.
        """
        began_ns = time.time_ns()
        found: list[list[DecodedFrame]] = [[] for _ in jobs]
        for index, job in enumerate(jobs):
            if isinstance(job, StreamJob):
                found[index] = self._composed(job)
        composed = [(index, frame) for index, frames in enumerate(found) for frame in frames]
        if options.harmonise and options.generate and composed:
            frames = iter(self._load().harmonised([frame for _, frame in composed], options))
            found = [[next(frames) for _ in pictures] for pictures in found]
        still = [(index, job) for index, job in enumerate(jobs) if isinstance(job, DecodeJob)]
        for (index, _), frame in zip(still, self._still([job for _, job in still], options), strict=True):
            found[index] = [frame]
        made = list(itertools.chain.from_iterable(found))
        for frame in made:
            self.steps.done("picture", frame.camera, frame.seq, began_ns, shared_by=len(made))
        return found

    def decode_all(self, jobs: Iterable[Job], options: DecodeOptions, together: int) -> Iterator[DecodedFrame]:
        """The pictures of jobs in order, so many jobs of still mode together; see `decode_many`.

        A job that cannot be decoded raises once all before it are out.
        """
        for chunk in chunked(jobs, together):
            try:
                found = self.decode_many(chunk, options)
            except BitstreamError:
                if len(chunk) == 1:
                    raise
                for job in chunk:
                    yield from self.decode(job, options)
            else:
                yield from itertools.chain.from_iterable(found)

    def _still(self, jobs: Sequence[DecodeJob], options: DecodeOptions) -> list[DecodedFrame]:
        if not jobs:
            return []
        from discover_stream.codec.packet import parse_packet

        packets = [parse_packet(job.data, camera=job.camera) for job in jobs]  # before networks are loaded for them
        from discover_stream.decoding import PacketRequest
        from discover_stream.generation.reuse import KeptPictures

        if self._kept is None:
            self._kept = KeptPictures(MAX_SESSIONS)
        requests = [
            PacketRequest(packet, job.camera, job.tasks, job.session) for packet, job in zip(packets, jobs, strict=True)
        ]
        return self._load().decode_many(requests, options, self._kept)

    def _composed(self, job: StreamJob) -> list[DecodedFrame]:
        from discover_stream.decoded import composed_frame

        reader = self._reader(job)
        frames, last = [], job.follows
        for data, time_ns in zip(job.packets, job.times_ns, strict=True):
            packet = parse_stream_packet(data, camera=job.camera)
            reading = reader.read(packet)
            if is_plates_alone(packet):
                continue
            last = packet.incarnation, packet.seq
            if time_ns is not None:
                composite = reader.pictures.picture(*last)
                frame = composed_frame(job.camera, packet, reading.state, composite)
                frames.append(replace(frame, capture_ns=time_ns))
        if job.session and last is not None:
            self._sessions[job.session] = last, reader
            while len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        return frames

    def _painter(self, model: bytes) -> LatentCodec:
        if self._threads is not None:
            import torch

            torch.set_num_threads(self._threads)  # of the thread that decodes
        return learned_painter(model)

    def _reader(self, job: StreamJob) -> CameraReader:
        """What was decoded before a job: as this process knows it, or from what the job brings."""
        last, reader = self._sessions.pop(job.session, (None, None))
        if reader is None or last != job.follows:
            last, reader = None, CameraReader(job.camera, lambda number: (), self._painter)
        for data in job.before:
            with suppress(BitstreamError):  # as if it was lost
                packet = parse_stream_packet(data, camera=job.camera)
                if last is None or is_plates_alone(packet):
                    reader.read(packet)
        return reader
