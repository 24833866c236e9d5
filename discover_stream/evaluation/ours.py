"""Our own codec as a system under test, each frame on its own (still mode).

Every byte of a packet counts, as it would be stored or sent: header, regions, coarse atom, atoms, checksum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from discover_stream.codec.packet import packet_bytes, parse_packet
from discover_stream.codec.still import encode_frame
from discover_stream.decoding import FrameDecoder
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.types import Box, Frame, Region

Sent = Literal["task", "picture"]
"""What is sent: the cells of the task's boxes, or the whole picture."""

TASK, KEY = "task", 1


@cache
def decoder_of(weights: str = "") -> FrameDecoder:
    """The weights of a folder, loaded once; without one, those that ship."""
    return FrameDecoder.load(Path(weights) if weights else None)


@dataclass(frozen=True)
class OursStill:
    """Still mode.

    Attributes:
        quality: 1 (fewest bits) to 8.
        sends: what is sent.
        generate: whether what was not sent is generated.
        steps: of diffusion; 0 for the profile's own number.
        weights: folder of other weights than those that ship, see `FrameDecoder.load`; may be empty.
        decoder: loads the weights, when they are needed.
    """

    quality: int
    sends: Sent = "task"
    generate: bool = True
    steps: int = 0
    weights: str = ""
    decoder: Callable[[str], FrameDecoder] = decoder_of

    @property
    def name(self) -> str:
        """As in tables."""
        generated = "" if self.generate else ", not generated"
        return f"ours still, {self.sends}{generated}" + (f", {self.weights}" if self.weights else "")

    def encode(self, clip: Clip) -> Coded:
        """Code every frame to one packet; see `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        whole = (Region(0, 1.0, Box(0.0, 0.0, float(width), float(height))),)
        model = self.decoder(self.weights).model
        chunks = []
        for index, (image, regions) in enumerate(zip(clip.frames, clip.regions, strict=True)):
            frame = Frame(clip.name, index, 0, image)
            wanted = {TASK: whole if self.sends == "picture" else regions}
            packet = encode_frame(model, frame, wanted, {TASK: KEY}, quality=self.quality)
            chunks.append(Chunk(index, packet_bytes(packet)))
        return Coded(tuple(chunks), b"", len(chunks), width, height, {"camera": clip.name})

    def decode(self, coded: Coded) -> Decoded:
        """Decode every packet; see `System.decode`."""
        camera, decoder = str(coded.notes["camera"]), self.decoder(self.weights)
        frames = [
            decoder.decode(parse_packet(chunk.data), camera=camera, steps=self.steps or None, generate=self.generate)
            for chunk in coded.chunks
        ]
        return Decoded(tuple(frame.image for frame in frames), tuple(frame.provenance for frame in frames))

    def command(self) -> str:
        """The equivalent command."""
        what = "--task TASK" if self.sends == "task" else "(label set: the whole picture)"
        generate = "" if self.generate else " --no-generate"
        steps = f" --steps {self.steps}" if self.steps else ""
        encode = f"discover encode IN {what} --quality {self.quality} -o S.dsv"
        weights = f"(with the weights of {self.weights}) " if self.weights else ""
        return f"{weights}{encode}; discover decode S.dsv{steps}{generate} -o OUT"
