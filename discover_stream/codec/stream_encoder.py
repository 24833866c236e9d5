"""Stream mode's encoder: frames of a fixed camera and what the grounder found in them, to packets.

The loop is closed: what a track looks like to decoders is drawn here by the same code, on the same plate, and compared
with the frame; what is good enough costs nothing. Decisions are those of `stream_policy` and `plate_policy`; this
module measures, carries them out, and keeps account of what decoders know.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from discover_stream.codec.atom_choice import Learned
from discover_stream.codec.atoms import CellMask
from discover_stream.codec.background import Seen, boxes_mask, cells_of
from discover_stream.codec.composing import Composite, Drawn, PlatePicture, compose
from discover_stream.codec.critic import Critic
from discover_stream.codec.drawing_order import DrawingOrder
from discover_stream.codec.framing import MODEL_BYTES
from discover_stream.codec.plate_policy import PlateAction, PlateDecision, PlateRules
from discover_stream.codec.plates import Plate
from discover_stream.codec.quarter_box import QuarterBox
from discover_stream.codec.records import Sighting
from discover_stream.codec.stream_coding import stream_packet_bytes
from discover_stream.codec.stream_motion import Scene, plate_error
from discover_stream.codec.stream_packet import GapReason, LostFrames, StreamPacket, needs_size, needs_time
from discover_stream.codec.stream_plates import Demand, PlateMaker
from discover_stream.codec.stream_policy import StreamRules, leaves_plate
from discover_stream.codec.stream_rate import RateState, allowance, controlled, spent
from discover_stream.codec.stream_tracks import Live, Sight, adopted, hidden_by, nearer, overlap, sights_of
from discover_stream.codec.stream_writer import RecordWriter, Turn
from discover_stream.types import Box, Frame, Image, InputError, Provenance, Region

STAYS = 0.6
"""Overlap (intersection over union) with its place on the plate down to which an object may stand there: detectors give
it a box that is a little another one in each frame."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a camera is coded.

    Attributes:
        model: the bytes that name the codec's weights.
        fps: frames a second, nominally.
        quality: 1 (fewest bits) to 8.
        bitrate: bits a second that all packets are to keep to, about; None for whatever the quality takes.
        rules: instead of those of `quality`.
        plates: when plates change.
    """

    model: bytes
    fps: float = 10.0
    quality: int = 4
    bitrate: float | None = None
    rules: StreamRules | None = None
    plates: PlateRules = dataclasses.field(default_factory=PlateRules)

    def __post_init__(self) -> None:
        if len(self.model) != MODEL_BYTES:
            raise InputError(f"a model is named by {MODEL_BYTES} bytes, not by {len(self.model)}")
        if not 0 < self.fps <= 1000:
            raise InputError(f"{self.fps} frames a second cannot be coded; give a rate above 0, up to 1000")
        if not 1 <= self.quality <= 8:
            raise InputError(f"quality {self.quality} is not in 1..8; choose one of these")
        if self.bitrate is not None and not self.bitrate > 0:
            raise InputError(f"a bit rate of {self.bitrate:g} cannot be kept; give bits a second above 0, or none")


@dataclass(frozen=True, slots=True)
class StreamStart:
    """What a restarted encoder needs of the one before: everything else is keyed anew.

    Attributes:
        incarnation: one more than that of the encoder before.
        next_plate: id of the next plate; ids of tracks are the tracker's.
        lost: frames lost in between, if any.
    """

    incarnation: int = 0
    next_plate: int = 1
    lost: LostFrames | None = None


class StreamEncoder:
    """Encodes one camera; call `encode` frame by frame, in order.

    Args:
        settings: how.
        start: where an encoder before this one stopped.
        critic: says what the task sees of objects, so that no more is sent than it needs; without one, how much
            their pixels differ decides.
        learned: codes atoms where it needs fewer bits than AV1 for the same; without one, AV1 codes all. The model of
            `settings` is to be its own then.
        order: says who stands before whom, of this stream alone; without one, lower edges do.
    """

    def __init__(
        self,
        settings: StreamSettings,
        start: StreamStart | None = None,
        *,
        critic: Critic | None = None,
        learned: Learned | None = None,
        order: DrawingOrder | None = None,
    ) -> None:
        if learned is not None and learned.name != settings.model:
            raise InputError(f"packets would name model {settings.model.hex()}, and atoms need {learned.name.hex()}")
        self._settings, self._start = settings, start or StreamStart()
        self._critic, self._learned, self._order = critic, learned, order
        self._rules = settings.rules or StreamRules.of(settings.quality)
        self._plates = PlateMaker(round(1e6 / settings.fps), self._start.next_plate, settings.plates)
        self._lives: dict[int, Live] = {}
        self._names: dict[int, int] = {}
        self._tasks: tuple[int, ...] = ()
        self._bare: frozenset[int] = frozenset()
        self._seq, self._listed, self._needs = -1, 0.0, 0
        self._rate = RateState()
        self._size: tuple[int, int] | None = None
        self._composite: Composite | None = None
        self._normal: Image | None = None

    @property
    def start(self) -> StreamStart:
        """What an encoder after this one starts from."""
        return StreamStart(self._start.incarnation + 1, self._plates.next_id)

    @property
    def advice(self) -> PlateDecision | None:
        """Why this camera is rather to be coded in still mode, from the next frame on; None where it is not."""
        decision = self._plates.decision
        return decision if decision.action == PlateAction.STILL else None

    @property
    def composite(self) -> Composite:
        """What a decoder of all tasks shows for the last packet."""
        assert self._composite is not None
        return self._composite

    def encode(
        self,
        frame: Frame,
        regions: Mapping[str, Sequence[Region]],
        keys: Mapping[str, int],
        bare: Collection[int] = (),
    ) -> StreamPacket:
        """The packet of the next frame.

        Args:
            frame: `seq` and `capture_ns` ascend, the size stays.
            regions: task -> what the grounder found, tracked; the same object has the same track in all tasks.
            keys: task -> the 16-bit key that stands for it in packets, for all tasks that run.
            bare: those of the keys whose tasks get no plate, and so nothing of what stands still; a task that runs on
                stays in it, or out of it.

        Raises:
            InputError: the frame does not follow the last one, or there is no task.
        """
        self._check(frame, keys)
        time = frame.capture_ns / 1e9
        height, width = frame.image.shape[:2]
        by_key = {keys[task]: found for task, found in regions.items() if task in keys}
        sights, others = sights_of(by_key, Box(0.0, 0.0, float(width), float(height)))
        sights = self._known(sights, frame.seq)
        tasks = tuple(sorted(keys.values()))
        started, stopped = set(tasks) - set(self._tasks), set(self._tasks) - set(tasks)
        first = self._seq < 0
        fresh = bool(started) and not first
        rules = self._rules
        if self._settings.bitrate is not None:
            rules = controlled(rules, self._rate, self._settings.bitrate)
        plates, cut = self._plate(frame, sights, fresh, rules)
        if cut:
            self._lives.clear()
        lists = first or fresh or cut or bool(stopped) or time - self._listed >= rules.list_s - 1e-9
        assert self._normal is not None
        scene = Scene.of(self._normal, self._plates.picture.image)
        shown = tuple(sorted(set(tasks) | stopped))
        turn = Turn(
            frame.seq, time, scene, self._plates.picture, shown, frozenset(started if fresh else ()), rules, lists,
            self._budget(), self._seq < 0 or cut, self._critic, self._learned, frozenset(bare),
            self._order,
        )  # fmt: skip
        writer = RecordWriter(turn)
        writer.tracks(sights, self._lives)
        packet = self._packet(frame, writer, plates, cut, (started if fresh else set(), stopped), others)
        self._tasks, self._seq, self._bare = tasks, frame.seq, frozenset(bare)
        self._composite = self._drawn(frame.seq)
        return packet

    def _check(self, frame: Frame, keys: Mapping[str, int]) -> None:
        where = f"camera {frame.camera}, seq {frame.seq}"
        if not keys:
            raise InputError(f"{where}: no task wants it; start a task, or leave the frame out")
        if len(set(keys.values())) < len(keys):
            raise InputError(f"{where}: two tasks have the same key; rename one of them")
        if frame.seq <= self._seq:
            raise InputError(f"{where}: it does not come after seq {self._seq}; give frames in order")
        size = (frame.image.shape[1], frame.image.shape[0])
        if self._size not in (None, size):
            raise InputError(f"{where}: its size {size} is not {self._size}; start a new encoder for another size")
        self._size = size

    def _known(self, sights: Mapping[int, Sight], seq: int) -> dict[int, Sight]:
        """The sights under the names that decoders know: a track that the tracker lost and named anew keeps its own."""
        self._names = {new: old for new, old in self._names.items() if old in self._lives}
        named = {self._names.get(track, track): sight for track, sight in sights.items()}
        again = adopted(named, self._lives, seq)
        self._names |= again
        return {
            name: dataclasses.replace(sight, track=name)
            for name, sight in ((again.get(track, track), sight) for track, sight in named.items())
        }

    def _plate(
        self, frame: Frame, sights: Mapping[int, Sight], fresh: bool, rules: StreamRules
    ) -> tuple[tuple[Plate, ...], bool]:
        """See to the plate; its records, and whether this is a new scene."""
        moving = [live.at(frame.seq).pixels for live in self._lives.values() if not live.on_plate]
        moving += [
            sights[track].box.pixels for track, live in self._lives.items() if not live.on_plate and track in sights
        ]
        # What drives off the plate in this frame is no background where it is now.
        moving += [
            sights[track].box.pixels for track, live in self._lives.items() if drives_off(live, sights, frame.seq)
        ]
        known = self._lives.keys()
        moving += [sight.box.pixels for track, sight in sights.items() if track not in known and self._seq >= 0]
        seen = self._plates.see(frame, moving)
        self._normal = seen.image
        demand = self._demand(seen, frame, sights, moving, fresh, rules)
        records = self._plates.update(frame, seen, demand, rules.plate_quantizer)
        if not records:  # no plate takes anything in: this is no fixed camera
            for live in self._lives.values():
                live.parked = False
        elif not records[0].parent or records[-1].tone is not None:
            self._normal = frame.image  # such a plate is in the frame's own light
        scene = self._plates.decision.action == PlateAction.WHOLE and self._seq >= 0 and seen.differing > 0.6
        return records, scene

    def _demand(
        self, seen: Seen, frame: Frame, sights: Mapping[int, Sight], moving: list[Box], fresh: bool, rules: StreamRules
    ) -> Demand:
        """What the tracks want of the plate."""
        if self._seq < 0:
            return Demand(shown=tuple(sight.box.pixels for sight in sights.values()))
        scene = Scene.of(seen.image, self._plates.picture.image)
        released, parked, shown, lost = [], [], [], []
        places = {track: sight.box for track, sight in sights.items()}
        lifts = {track: live.lift for track, live in self._lives.items()}
        for track, live in self._lives.items():
            sight = sights.get(track)
            if sight is None:
                gone = live.at(frame.seq)
                if live.on_plate and uncovered(scene, gone, moving, seen.still, live.sent_error, rules):
                    released.append(gone.pixels)
                    live.on_plate = False
                elif live.on_plate:
                    lost.append(gone.pixels)
                continue
            hidden = hidden_by(nearer(track, sight.box, places, lifts), seen.image.shape)
            if live.on_plate and leaves_plate(plate_error(scene, sight.box, hidden), live.sent_error, rules):
                released.append(live.box.pixels)
                # It has to stand for as long as any other before it is taken in again: no going to and fro.
                live.on_plate, live.moved_time = False, frame.capture_ns / 1e9
                moving.append(sight.box.pixels)
            elif live.sprite is not None and frame.capture_ns / 1e9 - live.moved_time >= rules.park_s:
                parked.append(sight.box.pixels)
                live.parked = True
            elif live.on_plate:
                shown.append(sight.box.pixels)
        return Demand(tuple(moving), tuple(released), tuple(parked), tuple(shown), fresh, tuple(lost))

    def _drawn(self, seq: int) -> Composite:
        ranked = []
        for live in self._lives.values():
            layer = live.layer(live.at(seq))
            if layer is not None:
                sent = seq in (live.source or live.ref.seq, live.ref.seq)
                kind = Provenance.SENT if sent else Provenance.PROPAGATED
                ranked.append((layer.order, Drawn(layer.box, layer.sprite, kind)))
        ranked.sort(key=lambda one: one[0])
        plate = self._plates.picture
        if set(self._tasks) <= self._bare:
            height, width = plate.image.shape[:2]
            plate = PlatePicture.missing(width, height)
        return compose(plate, [one[1] for one in ranked])

    def _packet(
        self,
        frame: Frame,
        writer: RecordWriter,
        plates: tuple[Plate, ...],
        cut: bool,
        changes: tuple[set[int], set[int]],
        others: Sequence[Sight],
    ) -> StreamPacket:
        turn = writer.turn
        plated = tuple(position for position, task in enumerate(turn.tasks) if task not in turn.bare)
        plate_id, starts = self._plates.plate_id if plated else 0, turn.lists or bool(changes[0])
        timed = needs_time(plate_id, turn.tasks, plated)
        refs = [live.ref.seq for live in self._lives.values()]
        needs = min([frame.seq, *refs, *(move.ref.seq for move in writer.moves)])
        if writer.turn.lists:
            self._needs, self._listed = needs, frame.capture_ns / 1e9
        first = self._seq < 0
        lost = self._start.lost if first else None
        if not first and frame.seq > self._seq + 1:
            lost = LostFrames(frame.seq - self._seq - 1, GapReason.SOURCE)
        index = {task: position for position, task in enumerate(writer.turn.tasks)}
        packet = StreamPacket(
            self._settings.model,
            frame.seq,
            self._start.incarnation,
            plate_id,
            min(needs, self._needs),
            writer.turn.tasks,
            base=None if writer.turn.lists else self._seq,
            cut=cut and writer.turn.lists,
            plated=plated,
            drift=self._plates.clock.drift(frame.seq, frame.capture_ns) if plated else None,
            capture_us=frame.capture_ns // 1000 if timed else None,
            size=self._size if needs_size(plate_id, turn.tasks, plated, starts) else None,
            plates=tuple(dataclasses.replace(plate, members=plated) for plate in plates if plated),
            started=tuple(sorted(index[task] for task in changes[0])),
            stopped=tuple(sorted(index[task] for task in changes[1])),
            gap=lost,
            keys=tuple(writer.keys),
            moves=tuple(sorted(writer.moves, key=lambda move: (-move.ref.seq, move.ref.slot))),
            ends=tuple(sorted(writer.ends, key=lambda end: (-end.ref.seq, end.ref.slot))),
            sightings=tuple(_sighting(sight, index, self._size) for sight in others),
        )
        if self._settings.bitrate is not None:
            bits = 8 * len(stream_packet_bytes(packet))
            self._rate = spent(self._rate, bits, self._settings.bitrate, self._settings.fps)
        return packet

    def _budget(self) -> float:
        """Bits that the atoms of the next frame may take."""
        if self._settings.bitrate is None:
            return math.inf
        return allowance(self._rate, self._settings.bitrate, self._settings.fps)


def uncovered(
    scene: Scene, box: QuarterBox, moving: Sequence[Box], still: CellMask, sent_error: float, rules: StreamRules
) -> bool:
    """Whether an object that nobody finds has left the plate: what is seen in its place stands still and is another."""
    height, width = scene.frame.shape[:2]
    hidden = boxes_mask(moving, width, height, 0)
    place = cells_of([box.pixels], width, height)
    if boxes_mask([box.pixels], width, height, 0)[hidden].sum() > 0 or not still[place].all():
        return False
    return leaves_plate(plate_error(scene, box, hidden), sent_error, rules)


def drives_off(live: Live, sights: Mapping[int, Sight], seq: int) -> bool:
    """Whether an object that the plate shows is found beside its place there."""
    sight = sights.get(live.key.track)
    return sight is not None and live.on_plate and overlap(sight.box, live.at(seq)) < STAYS


def _sighting(sight: Sight, index: Mapping[int, int], size: tuple[int, int] | None) -> Sighting:
    assert size is not None
    box = sight.box.pixels
    x0, y0 = min(int(box.x0), size[0] - 1), min(int(box.y0), size[1] - 1)
    whole = Box(float(x0), float(y0), float(max(x0 + 1, round(box.x1))), float(max(y0 + 1, round(box.y1))))
    return Sighting(whole, sight.score, sight.track, tuple((index[task], label) for task, label in sight.labels))
