"""A clever user: an AV1 background, and AV1 crops of objects moved by their boxes. Nothing is learned.

The background (the median over time) is sent once as a still. An object's crop is sent as a still when the
object appears and when the picture that the receiver has got departs too far from the camera's; in between
only its box travels, and the crop is stretched and pasted there. What the background already shows is not
sent at all. So whatever composing in time gains by itself is gained here, too, and is not to be credited to a codec.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from discover_stream.codec.bits import BitReader, BitWriter, take_varint, varint
from discover_stream.evaluation.peers.colour import Chroma, better_chroma, even
from discover_stream.evaluation.peers.frozen import median_plate
from discover_stream.evaluation.peers.video import VideoSettings, code_frames, command_line, decode_frames
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.types import BitstreamError, Image, Region

Rect = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels."""

Sample = TypeVar("Sample", bound=np.generic)
Soft = npt.NDArray[np.float32]

MAX_NUMBER = 1 << 20
LEAST_SIDE = 16
"""Smaller crops are filled up: SVT-AV1 refuses pictures of a few pixels."""
MOVED, SENT = 0, 1


@dataclass(frozen=True)
class CropSettings:
    """How the clever user works.

    Attributes:
        plate_crf: constant rate factor of the background.
        crop_crf: constant rate factor of the crops.
        threshold: mean absolute difference, in grey levels after a blur, above which a crop is sent again.
        margin: pixels around each box that belong to its crop.
        preset: of SVT-AV1.
        shift: the encoder tries to move a crop by up to so many pixels each way.
    """

    plate_crf: int = 40
    crop_crf: int = 40
    threshold: float = 9.0
    margin: int = 4
    preset: str = "4"
    shift: int = 2


@dataclass(frozen=True)
class Sprite:
    """What the receiver knows of an object: its pixels and where they are now."""

    pixels: Image
    place: Rect


def blurred(image: npt.NDArray[np.uint8]) -> Soft:
    """The picture without what is finer than about three pixels, float32."""
    return cv2.GaussianBlur(image, (0, 0), 1.5).astype(np.float32)


def widened(region: Region, margin: int, width: int, height: int) -> Rect | None:
    """The region's rectangle with a margin, cut to the picture; None where nothing of it is inside."""
    box = region.box
    x0, y0 = max(0, int(np.floor(box.x0)) - margin), max(0, int(np.floor(box.y0)) - margin)
    x1, y1 = min(width, int(np.ceil(box.x1)) + margin), min(height, int(np.ceil(box.y1)) + margin)
    return (x0, y0, x1, y1) if x1 - x0 >= 2 and y1 - y0 >= 2 else None


def cut(image: npt.NDArray[Sample], place: Rect) -> npt.NDArray[Sample]:
    """The part of a picture inside a rectangle."""
    x0, y0, x1, y1 = place
    return image[y0:y1, x0:x1]


def pasted(canvas: Image, sprite: Sprite) -> None:
    """Put a sprite into a picture, stretched to its place."""
    x0, y0, x1, y1 = sprite.place
    canvas[y0:y1, x0:x1] = cv2.resize(sprite.pixels, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)


def composed(plate: Image, sprites: dict[int, Sprite]) -> Image:
    """The background with all sprites, nearest (lowest edge) last."""
    canvas = plate.copy()
    for _, sprite in sorted(sprites.items(), key=lambda item: (item[1].place[3], item[0])):
        pasted(canvas, sprite)
    return canvas


def _signed(value: int) -> int:
    return 2 * value + 1 if value >= 0 else -2 * value


def _unsigned(code: int) -> int:
    return (code - 1) // 2 if code % 2 else -(code // 2)


def write_actions(actions: list[tuple[int, int, Rect]], known: dict[int, Rect]) -> bytes:
    """One frame's side information: which sprites stay, move, are sent, with boxes relative to the last ones.

    Args:
        actions: (slot, action, place); slots that are not named and were known are gone.
        known: slot -> the place it had before.
    """
    writer = BitWriter()
    writer.put_gamma(len(actions) + 1)
    last = 0
    for slot, action, place in sorted(actions):
        writer.put_gamma(slot - last + 1)
        last = slot
        writer.put(action == SENT, 1)
        before = known.get(slot)
        for new, old in zip(place, before or (0, 0, 0, 0), strict=True):
            writer.put_gamma(_signed(new - old))
    return writer.bytes()


def read_actions(reader: BitReader, known: dict[int, Rect]) -> list[tuple[int, int, Rect]]:
    """What `write_actions` wrote."""
    actions = []
    last = 0
    for _ in range(reader.take_gamma(MAX_NUMBER) - 1):
        last += reader.take_gamma(MAX_NUMBER) - 1
        action = SENT if reader.take(1) else MOVED
        before = known.get(last, (0, 0, 0, 0))
        x0, y0, x1, y1 = (old + _unsigned(reader.take_gamma(MAX_NUMBER)) for old in before)
        actions.append((last, action, (x0, y0, x1, y1)))
    return actions


class _Slots:
    """Small numbers for the tracks that are in the picture now; a number is free again when its track is gone."""

    def __init__(self) -> None:
        self._of: dict[int, int] = {}

    def update(self, tracks: set[int]) -> dict[int, int]:
        self._of = {track: slot for track, slot in self._of.items() if track in tracks}
        for track in sorted(tracks - set(self._of)):
            self._of[track] = next(slot for slot in range(len(tracks) + 1) if slot not in self._of.values())
        return self._of


@dataclass(frozen=True)
class CropsPeer:
    """The clever user."""

    settings: CropSettings

    @property
    def name(self) -> str:
        """As in tables."""
        return "crops+av1"

    def encode(self, clip: Clip) -> Coded:
        """Code a clip; see `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        chroma = better_chroma(clip.frames)
        setup = self._still(median_plate(clip.frames), self.settings.plate_crf)
        plate = _picture(setup, chroma)[:height, :width]
        chunks, sprites, slots = [], dict[int, Sprite](), _Slots()
        for index, (image, regions) in enumerate(zip(clip.frames, clip.regions, strict=True)):
            data, sprites = self._frame(
                image, _places(regions, self.settings.margin, image), plate, sprites, slots, chroma
            )
            chunks.append(Chunk(index, data))
        return Coded(tuple(chunks), setup, len(chunks), width, height, {"chroma": chroma})

    def _frame(
        self,
        image: Image,
        places: dict[int, Rect],
        plate: Image,
        sprites: dict[int, Sprite],
        slots: _Slots,
        chroma: Chroma,
    ) -> tuple[bytes, dict[int, Sprite]]:
        """One frame's bytes, and the sprites that the receiver has got after it."""
        soft, soft_plate = blurred(image), blurred(plate)
        now: dict[int, Sprite] = {}
        actions, stills = [], []
        numbers = slots.update(set(places))
        for track, place in sorted(places.items(), key=lambda item: numbers[item[0]]):
            slot = numbers[track]
            target = cut(soft, place)
            if _difference(target, cut(soft_plate, place)) <= self.settings.threshold / 2:
                continue  # the background shows it already
            moved = self._best_move(soft, place, sprites.get(slot), image.shape)
            if moved is not None:
                now[slot], action = moved, MOVED
            else:
                still = self._still(np.ascontiguousarray(cut(image, place)), self.settings.crop_crf)
                stills.append(varint(len(still)) + still)
                now[slot], action = Sprite(_cropped(still, place, chroma), place), SENT
            actions.append((slot, action, now[slot].place))
        side = write_actions(actions, {slot: sprite.place for slot, sprite in sprites.items()})
        return side + b"".join(stills), now

    def _best_move(
        self, soft: npt.NDArray[np.float32], place: Rect, sprite: Sprite | None, shape: tuple[int, ...]
    ) -> Sprite | None:
        """The known sprite at the place that fits best, or None where none fits well enough."""
        if sprite is None:
            return None
        x0, y0, x1, y1 = place
        pixels = cv2.resize(sprite.pixels, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        guess = blurred(pixels.astype(np.uint8))
        best: tuple[float, Rect] | None = None
        reach = range(-self.settings.shift, self.settings.shift + 1)
        for dy in reach:
            for dx in reach:
                spot = (x0 + dx, y0 + dy, x1 + dx, y1 + dy)
                if spot[0] < 0 or spot[1] < 0 or spot[2] > shape[1] or spot[3] > shape[0]:
                    continue
                loss = _difference(cut(soft, spot), guess)
                if best is None or loss < best[0]:
                    best = loss, spot
        if best is None or best[0] > self.settings.threshold:
            return None
        return replace(sprite, place=best[1])

    def decode(self, coded: Coded) -> Decoded:
        """Decode a clip; see `System.decode`."""
        chroma: Chroma = "nearest" if coded.notes["chroma"] == "nearest" else "cubic"
        plate = _picture(coded.setup, chroma)[: coded.height, : coded.width]
        sprites: dict[int, Sprite] = {}
        frames = []
        for chunk in coded.chunks:
            sprites = _received(chunk.data, sprites, chroma)
            frames.append(composed(plate, sprites))
        return Decoded(tuple(frames), (None,) * len(frames))

    def command(self) -> str:
        """What is done, and the equivalent command for the stills."""
        kept = self.settings
        stills = command_line("svt-av1", self._still_settings(kept.crop_crf), "1").replace("-i IN", "-i CROP")
        return (
            f"background: median picture, CRF {kept.plate_crf}; crops: boxes + {kept.margin} px, sent again when the"
            f" blurred difference exceeds {kept.threshold:g}, shifted by up to {kept.shift} px; stills: {stills}"
        )

    def _still_settings(self, crf: int) -> VideoSettings:
        return VideoSettings(crf=crf, preset=self.settings.preset, bits=10, params="avif=1")

    def _still(self, image: Image, crf: int) -> bytes:
        below, beside = max(0, LEAST_SIDE - image.shape[0]), max(0, LEAST_SIDE - image.shape[1])
        large = np.pad(image, ((0, below), (0, beside), (0, 0)), mode="edge")
        _, (chunk,) = code_frames("svt-av1", self._still_settings(crf), [even(large)], 1)
        return chunk.data


def _places(regions: tuple[Region, ...], margin: int, image: Image) -> dict[int, Rect]:
    height, width = image.shape[:2]
    found = {region.track: widened(region, margin, width, height) for region in regions if region.track > 0}
    return {track: place for track, place in found.items() if place is not None}


def _difference(first: Soft, second: Soft) -> float:
    return float(np.abs(first - second).mean())


def _picture(still: bytes, chroma: Chroma) -> Image:
    (image,) = decode_frames("svt-av1", b"", [Chunk(0, still)], chroma)
    return image


def _cropped(still: bytes, place: Rect, chroma: Chroma) -> Image:
    return np.ascontiguousarray(_picture(still, chroma)[: place[3] - place[1], : place[2] - place[0]])


def _received(data: bytes, sprites: dict[int, Sprite], chroma: Chroma) -> dict[int, Sprite]:
    """What the receiver knows after a frame."""
    reader = BitReader(data)
    actions: Iterator[tuple[int, int, Rect]] = iter(
        read_actions(reader, {slot: sprite.place for slot, sprite in sprites.items()})
    )
    position = reader.consumed_bytes()
    now: dict[int, Sprite] = {}
    for slot, action, place in actions:
        if action == MOVED:
            if slot not in sprites:
                raise BitstreamError(f"a crop that was never sent (number {slot}) is moved; the stream is damaged")
            now[slot] = replace(sprites[slot], place=place)
            continue
        size, position = take_varint(data, position)
        now[slot] = Sprite(_cropped(data[position : position + size], place, chroma), place)
        position += size
    if position != len(data):
        raise BitstreamError("a frame is longer than its crops; the stream is damaged")
    return now
