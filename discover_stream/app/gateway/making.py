"""Making one segment of a replay: from the archive to a piece of film and what is known about its pictures."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from actors.stream_jobs import Item, JobPlanner
from discover_stream.app.gateway.catalog import Kept, erased_at, erased_spans, gaps_between
from discover_stream.app.gateway.decoders import Decoder
from discover_stream.app.gateway.fmp4 import Timed, segment
from discover_stream.app.gateway.marks import RECONSTRUCTED, card, fitted, with_marks
from discover_stream.app.gateway.models_replays import Mark, ProvenanceGrid, SeenRegion, ShownFrame, Sidecar, View
from discover_stream.app.gateway.originals import original_frames
from discover_stream.app.gateway.shots import Blank, Film, Shot, plan_shots
from discover_stream.app.moments import iso
from discover_stream.app.replay import lacks_pixels
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.config_decoding import DecodingConfig
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import Archived, GapMessage, read_archive
from discover_stream.types import DiscoverError, Image, LabelSet, Profile, Region
from discover_stream.video.jpeg import decode_jpeg
from discover_stream.video.sheet import draw_boxes, overlay_provenance
from topics.archive import archive_lead_in
from topics.log import Log
from topics.plates import PlateShelf

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame

_STRETCH = 4
"""Packets of stream mode in a job: few, so that who leaves is not decoded for much longer."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is shown: whose pictures, how decoded, and what is drawn into them. `keys` are those of the task's label
    sets, None for everything."""

    camera: str
    task: str
    keys: frozenset[int] | None
    profile: Profile = "human"
    steps: int | None = None
    view: View = "decoded"
    overlay: tuple[Mark, ...] = ()
    burn_in: bool = True
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """A frame to show: its number and time, the picture (None: `card` says why not), regions by task key, and where
    its cells come from."""

    seq: int
    capture_ns: int
    image: Image | None
    card: str | None
    regions: tuple[tuple[int, tuple[Region, ...]], ...] = ()
    provenance: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None = None
    invention: float | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A segment as players get it, its sidecar as JSON, and how many pictures were decoded for it."""

    body: bytes
    sidecar: bytes
    decoded: int


class Cancelled(DiscoverError):
    """Everybody who waited has left, or the replay was forgotten."""


class Maker:
    """Makes segments and stills. Shared by threads."""

    def __init__(self, log: Log, decoder: Decoder, labels: Kept[dict[int, LabelSet]], decoding: DecodingConfig) -> None:
        self._log, self._decoder, self._labels, self._decoding = log, decoder, labels, decoding

    def segment(
        self, wanted: Wanted, film: Film, number: int, leave: threading.Event, count: Callable[[], None]
    ) -> Made:
        """A segment of a film. `count` is called once for each picture that was decoded.

        Raises Cancelled once `leave` is set, BitstreamError, InputError, LogError.
        """
        span = film.span(number)
        items = list(read_archive(self._log, wanted.camera, *span))
        gaps = self._gaps(wanted.camera, items, *span)
        items = _kept(items, erased_spans(gaps))
        pictures = list(self._pictures(wanted, items, leave, count))
        blanks = [Blank(gap.from_ns, gap.to_ns, f"no pictures: {gap.reason}") for gap in gaps]
        shots = plan_shots(span, [picture.capture_ns for picture in pictures], blanks)
        timed, told = [], []
        for shot in shots:
            picture = None if shot.frame is None else pictures[shot.frame]
            begin, end = film.tick(shot.begin_ns), film.tick(shot.end_ns)
            if end > begin:
                timed.append(Timed(self._shown(wanted, picture, shot.card, shot.begin_ns), begin, end))
                told.append(self._told(film, shot, picture))
        sidecar = Sidecar(segment=number, begin_s=(span[0] - film.begin_ns) / 1e9, frames=told)
        decoded = sum(picture.image is not None for picture in pictures) if wanted.view == "decoded" else 0
        return Made(segment(timed, number).body, sidecar.model_dump_json().encode(), decoded)

    def still(self, wanted: Wanted, at_ns: int, count: Callable[[], None]) -> tuple[Image, Picture] | None:
        """The picture that shows an instant, with its marks; None where there is none.

        Raises BitstreamError, InputError, LogError.
        """
        items = read_archive(self._log, wanted.camera, at_ns, at_ns + 1)
        found = [item for item in items if item.capture_ns <= at_ns]
        gaps = self._gaps(wanted.camera, found, at_ns, at_ns + 1)
        pictures = list(self._pictures(wanted, _kept(found, erased_spans(gaps)), threading.Event(), count))
        if not pictures:
            return None
        return self._shown(wanted, pictures[-1], None, pictures[-1].capture_ns), pictures[-1]

    def _gaps(self, camera: str, items: Sequence[Archived], from_ns: int, to_ns: int) -> tuple[GapMessage, ...]:
        """What is missing in a span, and where its first frame is from: that may have been captured long before."""
        begin_ns = min([from_ns, *(item.capture_ns for item in items[:1])])
        return gaps_between(self._log, camera, begin_ns, to_ns)

    def _pictures(
        self, wanted: Wanted, items: Sequence[Archived], leave: threading.Event, count: Callable[[], None]
    ) -> Iterator[Picture]:
        """A picture for each packet, in order."""
        if leave.is_set():
            raise Cancelled("left before it began")
        if wanted.view == "original":
            yield from self._originals(wanted, items)
            return
        cards = {item.packet.seq: text for item in items if (text := card_instead(item, wanted)) is not None}
        with closing(PlateShelf(self._log)) as shelf:
            planner = JobPlanner(
                shelf.fetch, self._lead, tasks=wanted.keys, session=f"gateway {uuid.uuid4().hex}", stretch=_STRETCH
            )
            # Packets before the task began are of no use to it; those of regions alone say where its objects are.
            useful = [item for item in items if wanted.keys is None or not wanted.keys.isdisjoint(item.packet.tasks)]
            jobs = planner.jobs(
                Item(item.camera, item.packet, item.capture_ns, item.packet.seq not in cards, item.offset)
                for item in useful
            )
            options = DecodeOptions.of(self._decoding, wanted.profile, wanted.steps)
            decoded = self._decoder.decode(jobs, options)
            try:
                for item in items:
                    if leave.is_set():
                        raise Cancelled("this segment is not made any further; make the replay again")
                    text = cards.get(item.packet.seq)
                    if text is not None:
                        yield Picture(item.packet.seq, item.capture_ns, None, text)
                        continue
                    frame = next(decoded, None)
                    if frame is None:
                        raise DiscoverError(f"camera {item.camera}, seq {item.packet.seq}: no picture came of it")
                    count()
                    yield _picture(frame, item.capture_ns)
            finally:
                if isinstance(decoded, Iterator) and hasattr(decoded, "close"):
                    decoded.close()

    def _originals(self, wanted: Wanted, items: Sequence[Archived]) -> Iterator[Picture]:
        frames = original_frames(self._log, wanted.camera, {item.packet.seq for item in items})
        for item in items:
            frame = frames.get(item.packet.seq)
            if frame is None:
                gone = "the original of this time is not kept any more"
                yield Picture(item.packet.seq, item.capture_ns, None, gone)
            else:
                yield Picture(item.packet.seq, item.capture_ns, decode_jpeg(frame.jpeg), None)

    def _lead(self, first: Item) -> Sequence[StreamPacket]:
        return archive_lead_in(self._log, Archived(first.camera, b"", first.packet, first.capture_ns, first.offset))

    def _shown(self, wanted: Wanted, picture: Picture | None, text: str | None, at_ns: int) -> Image:
        """The picture as people see it, in the size of the film."""
        width, height = wanted.width, wanted.height
        text = text or (picture.card if picture is not None else None)
        image = None if picture is None or picture.image is None else picture.image
        if picture is not None and image is not None:
            image = fitted(self._drawn(wanted, picture, image), width or image.shape[1], height or image.shape[0])
        if image is None or text is not None:
            found = card(image, width or 640, height or 352, text or "no picture")
            at = at_ns
        else:
            found, at = image, picture.capture_ns if picture is not None else at_ns
        if not wanted.burn_in:
            return found
        told = f"{iso(at)[:-1].replace('T', ' ')} UTC  {wanted.camera}  {wanted.task}"
        return with_marks(found, told, RECONSTRUCTED if wanted.view == "decoded" else "")

    def _drawn(self, wanted: Wanted, picture: Picture, image: Image) -> Image:
        if "provenance" in wanted.overlay and picture.provenance is not None:
            image = overlay_provenance(image, picture.provenance)
        if "regions" in wanted.overlay:
            labels = self._labels.get()
            boxes = [(region.box, _words(labels, key, region)) for key, found in picture.regions for region in found]
            image = draw_boxes(image, [box for box, _ in boxes], [words for _, words in boxes])
        return image

    def _told(self, film: Film, shot: Shot, picture: Picture | None) -> ShownFrame:
        """The line of the sidecar about something shown."""
        begin_s = (shot.begin_ns - film.begin_ns) / 1e9
        if picture is None or shot.card is not None:
            return ShownFrame(
                t=begin_s, capture=None, capture_ns=None, seq=None, regions=[], provenance=None, card=shot.card
            )
        labels = self._labels.get()
        cells = picture.provenance
        return ShownFrame(
            t=begin_s,
            capture=iso(picture.capture_ns),
            capture_ns=picture.capture_ns,
            seq=picture.seq,
            regions=[seen_region(labels, key, region) for key, found in picture.regions for region in found],
            provenance=None
            if cells is None
            else ProvenanceGrid(
                columns=cells.shape[1], rows=cells.shape[0], cells="".join(map(str, cells.ravel().tolist()))
            ),
            card=picture.card,
            invention=picture.invention,
        )


def card_instead(item: Archived, wanted: Wanted) -> str | None:
    """Why a packet has no picture for a task; None where it has one."""
    if wanted.keys is not None and wanted.keys.isdisjoint(item.packet.tasks):
        return f"task {wanted.task} was not grounded at this time"
    if lacks_pixels(item.packet, wanted.keys):
        return f"task {wanted.task} was delivered as regions only at this time"
    return None


def seen_region(labels: dict[int, LabelSet], key: int, region: Region) -> SeenRegion:
    """A region in words."""
    task = labels[key].task if key in labels else f"task {key}"
    box = (region.box.x0, region.box.y0, region.box.x1, region.box.y1)
    words = _words(labels, key, region)
    return SeenRegion(task=task, label=words, score=round(region.score, 3), box=box, track=region.track)


def _words(labels: dict[int, LabelSet], key: int, region: Region) -> str:
    found = labels.get(key)
    known = found is not None and region.label < len(found.labels)
    return found.labels[region.label] if found is not None and known else f"label {region.label}"


def _kept(items: Sequence[Archived], erased: Sequence[tuple[int, int]]) -> list[Archived]:
    return [item for item in items if not erased_at(erased, item.capture_ns)]


def _picture(frame: DecodedFrame, capture_ns: int) -> Picture:
    return Picture(
        frame.seq,
        capture_ns,
        frame.image,
        None,
        tuple(sorted(frame.regions.items())),
        np.asarray(frame.provenance),
        frame.invention,
    )


def sized(wanted: Wanted, width: int, height: int) -> Wanted:
    """The same for a film of this size."""
    return replace(wanted, width=width, height=height)
