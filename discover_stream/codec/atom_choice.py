"""An object's picture as an atom: by AV1, or by the learned codec where that needs fewer bits for the same.

Both are decoded here as decoders do it, so that what they leave is known; which one is sent is decided in
`stream_policy.compare`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from discover_stream.codec.atom_sprites import av1_atom, latent_window, sprite_of
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.painter import MAX_PAINTED, Painter, PaintJob
from discover_stream.codec.quarter_box import QUARTER, QuarterBox
from discover_stream.codec.records import Atom
from discover_stream.codec.sprites import Sprite
from discover_stream.codec.stream_motion import Scene, error
from discover_stream.codec.stream_policy import (
    Offer,
    Preference,
    StreamRules,
    compare,
    latent_qualities,
    quantizer_for,
    zoom_for,
)
from discover_stream.codec.stream_tracks import hidden_by
from discover_stream.types import Image


class Draft(Protocol):
    """A LATENT atom that has been looked at."""

    def atom(self, quality: int) -> Atom:
        """The atom in a quality, 1..8."""
        ...


class Learned(Painter, Protocol):
    """The learned codec, as an encoder needs it; see `latent_atoms.LatentCodec`."""

    @property
    def name(self) -> bytes:
        """The bytes that name the model in packets."""
        ...

    def sketch(self, samples: Image, job: PaintJob) -> Draft:
        """Look at what is to be coded: samples of the frame on the window's grid, and what they are coded on."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An object's picture, coded.

    Attributes:
        atom: as it is sent.
        sprite: as decoders have it.
    """

    atom: Atom
    sprite: Sprite

    @property
    def bits(self) -> int:
        """Of the payload."""
        return 8 * len(self.atom.payload)


def side_of(box: QuarterBox) -> float:
    """The side in pixels of a square of the same area."""
    return float((box.width * box.height) ** 0.5 / QUARTER)


def picture_of(
    scene: Scene,
    box: QuarterBox,
    plate: PlatePicture | None,
    rules: StreamRules,
    *,
    key: Sprite | None = None,
    quantizer: int | None = None,
    learned: Learned | None = None,
) -> Picture:
    """An object's picture, coded on the plate where there is one; as a refresh where the picture of its key is given.

    Args:
        scene: the frame.
        box: the object's.
        plate: that decoders have; None to code without it.
        rules: for this frame.
        key: the picture that a refresh is coded on.
        quantizer: 1..63; None for that of the rules.
        learned: the codec to try beside AV1; None for AV1 alone.
    """
    side, size = side_of(box), (scene.frame.shape[1], scene.frame.shape[0])
    zoom = zoom_for(side, rules)
    chosen = quantizer_for(side, rules) if quantizer is None else quantizer
    atom = av1_atom(scene.frame, box, chosen, zoom=zoom, plate=plate, key=key)
    plain = Picture(atom, sprite_of(atom, box, size, plate=plate, key=key))
    if learned is None or atom.window.rows * atom.window.columns > MAX_PAINTED:
        return plain
    hidden = hidden_by([], scene.frame.shape)

    def offer(picture: Picture) -> Offer:
        return Offer(picture.bits, error(scene, picture.sprite, box, hidden)[0])

    usual = offer(plain)
    draft = learned.sketch(*latent_window(scene.frame, box, zoom=zoom, plate=plate, key=key))
    for quality in latent_qualities(rules):
        tried = draft.atom(quality)
        if 8 * len(tried.payload) >= usual.bits:
            break  # finer ones are larger still
        picture = Picture(tried, sprite_of(tried, box, size, plate=plate, key=key, painter=learned))
        if compare(usual, offer(picture)) == Preference.LEARNED:
            return picture
    return plain
