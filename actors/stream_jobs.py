"""What decoding processes are asked to do, and how a row of packets becomes such jobs.

A packet of still mode is a job. Packets of stream mode refer to earlier ones: a job holds a stretch of them, and what a
process that knows nothing of the camera has to be given before. So any process can do any job, also after another one
died with it; one that did the job before (of the same *session*) goes on from what it has.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from discover_stream.codec.any_packet import AnyPacket, any_packet_bytes, route_any
from discover_stream.codec.camera_reader import CameraReader
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.sdk import TaskFrame
from discover_stream.types import BitstreamError

STRETCH = 16
"""Packets of stream mode in a job: many, since what comes before them may have to be decoded anew."""


@dataclass(frozen=True, slots=True)
class DecodeJob:
    """A packet of still mode to decode.

    Attributes:
        camera: its name.
        data: the packet.
        tasks: keys of the tasks wanted; None for all it holds.
        session: names a row of pictures, of which only what changed is decoded; empty for the row of a single call.
    """

    camera: str
    data: bytes
    tasks: frozenset[int] | None = None
    session: str = ""


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Packets of stream mode to decode, one after another.

    Attributes:
        camera: its name.
        before: plates, and packets that the first one refers to.
        packets: the stretch, and plates that were fetched for it on the way.
        times_ns: capture time of each of `packets` that is shown; None for the others.
        session: names the decoder that is to go on with the camera, empty for none.
        follows: (incarnation, seq) of the last packet that the session was given; None for the first job of it.
    """

    camera: str
    before: tuple[bytes, ...]
    packets: tuple[bytes, ...]
    times_ns: tuple[int | None, ...]
    session: str = ""
    follows: tuple[int, int] | None = None


Job = DecodeJob | StreamJob


@dataclass(frozen=True, slots=True)
class Item:
    """A packet with its camera and capture time; `shown` tells whether its picture is wanted, `offset` where in the
    archive the packet is."""

    camera: str
    packet: AnyPacket
    capture_ns: int
    shown: bool = True
    offset: int = 0


class JobPlanner:
    """Makes jobs of packets, those of each camera in order. For one thread.

    Attributes:
        not_whole: (camera, capture time in ns) of every frame shown of which something was absent.

    Args:
        plates: from a camera and a plate's id to the packets that bring it and those it is a change to.
        lead: the packets before the first one of a camera that it refers to.
        tasks: keys of the tasks wanted; None for all.
        session: see `StreamJob`; each camera gets one of its own.
        stretch: packets of stream mode in a job, at most.
        first: in the first job of a camera; each has twice as many as the one before. None: as `stretch`. Few let the
            first picture come soon.
    """

    def __init__(
        self,
        plates: Callable[[str, int], Sequence[StreamPacket]],
        lead: Callable[[Item], Sequence[StreamPacket]],
        *,
        tasks: frozenset[int] | None = None,
        session: str = "",
        stretch: int = STRETCH,
        first: int | None = None,
    ) -> None:
        self._plates, self._lead, self._tasks = plates, lead, tasks
        self._name, self._stretch, self._first = session, stretch, first or stretch
        self._readers: dict[str, CameraReader] = {}
        self._last: dict[str, tuple[int, int]] = {}
        self._fetched: list[StreamPacket] = []
        self.not_whole: list[tuple[str, int]] = []

    def jobs(self, items: Iterable[Item]) -> Iterator[Job]:
        """The jobs, in the order of the items; as many pictures come of them as items are shown.

        Raises BitstreamError for a packet that contradicts what came before.
        """
        for (camera, streamed), run in itertools.groupby(
            items, key=lambda item: (item.camera, isinstance(item.packet, StreamPacket))
        ):
            if not streamed:
                for item in run:
                    if item.shown:
                        yield DecodeJob(camera, any_packet_bytes(item.packet), self._tasks, self._session(camera))
                continue
            size = self._stretch if camera in self._last else min(self._first, self._stretch)
            while stretch := list(itertools.islice(run, size)):
                yield self._job(camera, stretch)
                size = min(2 * size, self._stretch)

    def _job(self, camera: str, stretch: Sequence[Item]) -> StreamJob:
        reader = self._reader(camera, stretch[0])
        follows = self._last.get(camera)
        before: tuple[StreamPacket, ...] = ()
        packets: list[bytes] = []
        times: list[int | None] = []
        for index, item in enumerate(stretch):
            packet = item.packet
            assert isinstance(packet, StreamPacket)
            mine = self._routed(packet)
            self._fetched.clear()
            reading = reader.read(mine)
            if index == 0:
                before = reader.needed.before_newest()  # with what was fetched
            else:
                packets += map(any_packet_bytes, self._fetched)
                times += [None] * len(self._fetched)
            packets.append(any_packet_bytes(mine))
            times.append(item.capture_ns if item.shown else None)
            if item.shown and reading.absent:
                self.not_whole.append((camera, item.capture_ns))
            self._last[camera] = mine.incarnation, mine.seq
        before_bytes = tuple(map(any_packet_bytes, before))
        return StreamJob(camera, before_bytes, tuple(packets), tuple(times), self._session(camera), follows)

    def _session(self, camera: str) -> str:
        return f"{self._name}/{camera}" if self._name else ""

    def _reader(self, camera: str, first: Item) -> CameraReader:
        if camera not in self._readers:

            def fetch(number: int) -> Sequence[StreamPacket]:
                found = self._plates(camera, number)
                self._fetched += found
                return found

            reader = self._readers[camera] = CameraReader(camera, fetch)
            for earlier in self._lead(first):
                with suppress(BitstreamError):  # as if it was lost
                    reader.read(self._routed(earlier))
        return self._readers[camera]

    def _routed(self, packet: StreamPacket) -> StreamPacket:
        return packet if self._tasks is None else route_any(packet, self._tasks)


class LiveJobs:
    """Makes a job of every packet of a subscription as it comes, for a pool that goes on from what it has. For one
    thread.

    Args:
        session: a name that no other subscriber has.
    """

    def __init__(self, session: str) -> None:
        self._session = session
        self._last: dict[str, tuple[int, int]] = {}
        self._follows: dict[str, tuple[int, int] | None] = {}

    def job(self, item: TaskFrame) -> Job:
        """The job of a packet, before the next one is taken. It may be asked for again."""
        data = any_packet_bytes(item.packet)
        if not isinstance(item.packet, StreamPacket):
            return DecodeJob(item.camera, data, session=f"{self._session}/{item.camera}")
        here, last = (item.incarnation, item.seq), self._last.get(item.camera)
        if here != last:
            self._follows[item.camera], self._last[item.camera] = last, here
        follows = self._follows[item.camera]
        before = tuple(map(any_packet_bytes, item.needs))
        session = f"{self._session}/{item.camera}"
        return StreamJob(item.camera, before, (data,), (item.capture_ns or 0,), session, follows)
