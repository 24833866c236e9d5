"""Stream mode's decoder: packets to pictures, for any of the tasks they carry.

What is drawn, where and with which provenance is `stream_state`'s word; here are the pixels. Atoms are decoded once,
when they come; plates when they are needed, a few at a time. What is absent is grey and missing, never invented.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping

from discover_stream.codec.atom_sprites import Coming, sprites_of
from discover_stream.codec.composing import Composite, Drawn, PlatePicture, compose
from discover_stream.codec.painter import Painters, no_painter
from discover_stream.codec.plate_pictures import plate_picture, warped
from discover_stream.codec.plates import Plate, PlateCoding, Warp
from discover_stream.codec.records import Atom, AtomCoding, QuarterBox, Ref
from discover_stream.codec.sprites import Sprite
from discover_stream.codec.stream_apply import apply
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import Step, StreamState, TaskState, Track
from discover_stream.types import CELL, BitstreamError

MAX_SAMPLES = 2**25
"""Samples of all sprites that a decoder holds: 128 MiB."""
MAX_PLATE_BYTES = 2**28
"""Payloads of all plates that a decoder holds."""
DECODED_PLATES = 3
"""Plates held as pixels: the one that is shown, and what a new one is made from."""

SpriteName = tuple[Ref, int]
"""A track's key, and the frame its atom came in."""


class PlateStore:
    """Plates by id, as they came, and the pictures of those last used.

    Args:
        painters: for payloads of the learned codec.
    """

    def __init__(self, painters: Painters = no_painter) -> None:
        self._painters = painters
        self._records: dict[int, Plate] = {}
        self._models: dict[int, bytes] = {}
        self._pictures: OrderedDict[int, PlatePicture] = OrderedDict()

    def __contains__(self, plate_id: int) -> bool:
        return plate_id in self._records

    def __len__(self) -> int:
        return len(self._records)

    def size(self, plate_id: int) -> tuple[int, int] | None:
        """Width and height of a plate that is held."""
        plate = self._records.get(plate_id)
        return None if plate is None else (plate.width, plate.height)

    def last_size(self) -> tuple[int, int] | None:
        """Width and height of the newest plate."""
        return self.size(max(self._records)) if self._records else None

    def added(self, plates: Iterable[Plate], model: bytes) -> PlateStore:
        """A store with more plates, those whose parents are held. What is held already stays, unless it is bare.

        Args:
            plates: of a packet.
            model: that the packet names.

        Raises:
            BitstreamError: their payloads are more than a decoder holds.
        """
        more = PlateStore(self._painters)
        more._records, more._pictures = dict(self._records), self._pictures.copy()
        more._models = dict(self._models)
        for plate in plates:
            same = more._records.get(plate.plate_id)
            if (same is None or same.is_bare) and (not plate.parent or plate.parent in more._records):
                more._records[plate.plate_id], more._models[plate.plate_id] = plate, model
                if same is not None:  # others may have been made from it
                    more._pictures.clear()
        total = sum(len(plate.payload or b"") for plate in more._records.values())
        if total > MAX_PLATE_BYTES:
            raise BitstreamError(f"plates of {total} bytes are to be held, more than {MAX_PLATE_BYTES}")
        return more

    def keep(self, wanted: Iterable[int]) -> None:
        """Let go of all plates but these and those they were made from."""
        kept: set[int] = set()
        for plate_id in wanted:
            name = plate_id
            while name in self._records and name not in kept:
                kept.add(name)
                name = self._records[name].parent
        self._records = {name: plate for name, plate in self._records.items() if name in kept}
        self._models = {name: model for name, model in self._models.items() if name in kept}
        self._pictures = OrderedDict((name, picture) for name, picture in self._pictures.items() if name in kept)

    def picture(self, plate_id: int) -> PlatePicture:
        """A plate's pixels. Raises BitstreamError for a damaged payload, KeyError for a plate that is not held."""
        found = self._pictures.get(plate_id)
        if found is None:
            plate = self._records[plate_id]
            learned = plate.payload is not None and plate.coding == PlateCoding.ATOM
            painter = self._painters(self._models[plate_id]) if learned else None
            found = plate_picture(plate, self.picture(plate.parent) if plate.parent else None, painter)
            self._pictures[plate_id] = found
        self._pictures.move_to_end(plate_id)
        while len(self._pictures) > DECODED_PLATES:
            self._pictures.popitem(last=False)
        return found


class StreamPictures:
    """A decoder of one camera's stream packets.

    Attributes:
        state: what it holds, but for pixels.

    Args:
        painters: for atoms and plates of the learned codec; without them, streams that have some are refused.
        camera: named in errors.
        max_samples: of all sprites together; packets that need more are refused.
    """

    def __init__(self, painters: Painters = no_painter, *, camera: str = "?", max_samples: int = MAX_SAMPLES) -> None:
        self.state = StreamState()
        self._painters, self._camera, self._limit = painters, camera, max_samples
        self._plates = PlateStore(painters)
        self._sprites: dict[SpriteName, Sprite] = {}
        self._size: tuple[int, int] | None = None
        self._view = (0, 0)

    def take(self, packet: StreamPacket) -> Step:
        """Decode a packet.

        Returns:
            The state after it, and what is absent.

        Raises:
            BitstreamError: it does not follow, is damaged, or needs more memory than is allowed. What the decoder
                held before is as it was.
        """
        step = apply(self.state, packet, camera=self._camera)
        sprites, size, view = self._sprites, self._size, self._view
        try:
            plates = self._plates.added(packet.plates, packet.model)
            if packet.tasks:
                # A restarted encoder's frames and slots are others.
                sprites = {} if packet.incarnation != self.state.incarnation else sprites
                size, view = packet.size or plates.size(packet.plate_id) or size or plates.last_size(), packet.view
                sprites = self._with_atoms(packet, step.state, sprites, plates, size)
        except BitstreamError as error:
            raise BitstreamError(f"camera {self._camera}, seq {packet.seq}: {error}") from None
        plates.keep(_plates_of(step.state))
        self.state, self._plates, self._sprites, self._size, self._view = step.state, plates, sprites, size, view
        return step

    def compose(self, tasks: Collection[int] | None = None) -> Composite:
        """The picture after the last packet.

        Args:
            tasks: keys of the tasks whose objects are shown; None for all of the last packet. With none of them on a
                plate, what no track covers is missing.

        Raises:
            BitstreamError: neither a packet nor a plate has said yet how large the picture is, or a plate is damaged.
        """
        seq = self.state.seq
        # A task that the last packet does not carry has ended, or its end was lost: nobody knows what it shows now.
        present = {key: state for key, state in self.state.tasks.items() if state.seq == seq}
        chosen = {key: state for key, state in present.items() if tasks is None or key in tasks}
        if self._size is None:
            raise BitstreamError(f"camera {self._camera}: no packet came yet that says how large the picture is")
        plate_id = next((state.plate_id for state in chosen.values() if state.plate_there), 0)
        plate = _shown(self._plates, plate_id, self._view) or PlatePicture.missing(*self._size)
        return compose(plate, self._drawn(chosen))

    def _with_atoms(
        self,
        packet: StreamPacket,
        state: StreamState,
        held: Mapping[SpriteName, Sprite],
        plates: PlateStore,
        size: tuple[int, int] | None,
    ) -> dict[SpriteName, Sprite]:
        """The sprites after a packet: what tracks still refer to, and its own atoms."""
        alive = _alive(state)
        sprites = {name: sprite for name, sprite in held.items() if name in alive}
        coming = [(name, atom, box) for name, atom, box in _atoms(packet) if name in alive]
        used = sum(sprite.alpha.size for sprite in sprites.values())
        used += sum(atom.window.rows * atom.window.columns * CELL**2 for _, atom, _ in coming)
        if used > self._limit:
            raise BitstreamError(f"its atoms and those before have {used} samples, more than {self._limit}")
        there = any(task.plate_there and task.plate_id == packet.plate_id for task in state.tasks.values())
        needed = there and any(atom.on_plate for _, atom, _ in coming)
        plate = _shown(plates, packet.plate_id, packet.view) if needed else None
        if size is None:
            return sprites
        decodable: dict[SpriteName, Coming] = {}
        for name, atom, box in coming:
            ref, seq = name
            refreshes = seq != ref.seq and alive[name].own is not None
            key = sprites.get((ref, ref.seq)) if refreshes else None
            if (not atom.on_plate or plate is not None) and (not refreshes or key is not None):
                decodable[name] = Coming(atom, box, plate, key)
        learned = any(one.atom.coding == AtomCoding.LATENT for one in decodable.values())
        painter = self._painters(packet.model) if learned else None
        made = sprites_of(list(decodable.values()), size, painter)
        return sprites | dict(zip(decodable, made, strict=True))

    def _drawn(self, tasks: Mapping[int, TaskState]) -> list[Drawn]:
        """What is drawn for some tasks, first to last."""
        ranked = []
        for ref, (state, track) in _newest(tasks).items():
            box = track.at(self.state.seq)
            if box is None or track.hidden or track.drawn is None:
                continue
            sprite = self._sprites.get((ref, track.drawn)) if track.atom and track.atom.decodable else None
            shown = None if track.shown is None or sprite is None else track.shown.mask
            drawn = Drawn(box, sprite, state.provenance(ref), shown)
            ranked.append(((box.bottom + track.lift, ref), drawn))
        return [drawn for _, drawn in sorted(ranked, key=lambda entry: entry[0])]


def _shown(plates: PlateStore, plate_id: int, view: tuple[int, int]) -> PlatePicture | None:
    """A plate as a frame shows it, shifted by quarter pixels; None where it is not held."""
    if plate_id not in plates:
        return None
    plate = plates.picture(plate_id)
    return warped(plate, Warp(*view)) if any(view) else plate


def _atoms(packet: StreamPacket) -> Iterator[tuple[SpriteName, Atom, QuarterBox]]:
    """The atoms of a packet, keys first: their names, and their objects' boxes."""
    for key in packet.keys:
        if key.atom is not None:
            yield (Ref(packet.seq, key.slot), packet.seq), key.atom, key.box
    for move in packet.moves:
        if move.atom is not None and isinstance(move.place, QuarterBox):
            yield (move.ref, packet.seq), move.atom, move.place


def _newest(tasks: Mapping[int, TaskState]) -> dict[Ref, tuple[TaskState, Track]]:
    """Each track as the task knows it that heard of it last; of equals the one whose atom is there, then the first."""
    found: dict[Ref, tuple[TaskState, Track]] = {}
    best: dict[Ref, tuple[int, bool]] = {}
    for _, state in sorted(tasks.items()):
        for ref, track in state.tracks.items():
            rank = (track.seen if track.box is not None else -1, track.atom is not None and track.atom.decodable)
            if ref not in best or rank > best[ref]:
                best[ref], found[ref] = rank, (state, track)
    return found


def _alive(state: StreamState) -> dict[SpriteName, Track]:
    """The atoms that tracks may still be drawn from, or refreshed from."""
    alive: dict[SpriteName, Track] = {}
    for task in state.tasks.values():
        for ref, track in task.tracks.items():
            for atom in (track.own, track.refresh):
                if atom is not None:
                    alive[ref, atom.seq] = track
    return alive


def _plates_of(state: StreamState) -> set[int]:
    return {*state.plates, *(plate_id for task in state.tasks.values() for plate_id in task.plates)}
