"""Packets to pictures: the codec and the generative decoder, put together for subscribers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from discover_stream.codec.model import MODEL_FILE, CodecModel, load_codec, shipped_weights
from discover_stream.codec.packet import Packet, route
from discover_stream.codec.still import SCORE_STEPS, decode_packet
from discover_stream.generation.render import DEFAULT_STEPS, ProvenanceMap, Renderer
from discover_stream.generation.vae import latent_space
from discover_stream.types import Image, InputError, Profile, Region


@dataclass(frozen=True)
class DecodedFrame:
    """What a subscriber gets from a packet.

    Attributes:
        camera: its name.
        seq: of the frame.
        capture_ns: when the frame was captured.
        image: (H, W, 3) uint8 RGB.
        provenance: (rows, columns) of cells, where each comes from.
        regions: per task key, its regions.
        tags: per task key that has tags, ascending label indices; `semantics.tags.condition_text` makes words of them.
    """

    camera: str
    seq: int
    capture_ns: int
    image: Image
    provenance: ProvenanceMap
    regions: Mapping[int, tuple[Region, ...]]
    tags: Mapping[int, tuple[int, ...]] = field(default_factory=dict)


def packet_regions(packet: Packet) -> dict[int, tuple[Region, ...]]:
    """The regions of a packet per task key; needs no weights."""
    found: dict[int, list[Region]] = {key: [] for key in packet.tasks}
    for region in packet.regions:
        for position, label in region.labels:
            found[packet.tasks[position]].append(Region(label, region.score / SCORE_STEPS, region.box, region.track))
    return {key: tuple(regions) for key, regions in found.items()}


@dataclass(frozen=True)
class FrameDecoder:
    """Decodes packets of one model."""

    model: CodecModel
    renderer: Renderer

    @classmethod
    def load(cls, weights: Path | None = None) -> FrameDecoder:
        """Load codec and generative decoder from a folder; without one, the shipped `nano` weights.

        Raises:
            InputError: weights are missing, damaged, or do not belong together.
        """
        folder = weights if weights is not None else shipped_weights()
        model, renderer = load_codec(folder / MODEL_FILE), Renderer.load(folder)
        if model.latent_space != latent_space(renderer.vae):
            raise InputError(f"{folder}: codec and VAE were not made for each other; use the files of one release")
        return cls(model, renderer)

    def decode(
        self,
        packet: Packet,
        *,
        camera: str,
        tasks: Collection[int] | None = None,
        profile: Profile = "machine",
        steps: int | None = None,
        generate: bool = True,
    ) -> DecodedFrame:
        """Decode a packet to a picture.

        Args:
            packet: of the archive or of a substream.
            camera: its camera's name; it seeds the diffusion noise and is named in errors.
            tasks: keys of the tasks whose atoms to use; None for all in the packet.
            profile: decides the number of steps where `steps` is None.
            steps: of diffusion.
            generate: see `Renderer.render`.

        Raises:
            BitstreamError: the packet is damaged or of another model.
            InputError: `steps` is out of range, or the packet holds regions only.
        """
        if packet.regions_only:
            raise InputError(
                f"camera {camera}, seq {packet.seq}: this packet holds regions only and nothing of the picture;"
                " decode one of a task that is delivered with pixels"
            )
        wanted = packet if tasks is None else route(packet, tasks)
        received = decode_packet(self.model, wanted, camera=camera)
        rendered = self.renderer.render(
            received.latent,
            received.sent,
            width=wanted.width,
            height=wanted.height,
            camera=camera,
            steps=steps if steps is not None else DEFAULT_STEPS[profile],
            generate=generate,
        )
        return DecodedFrame(
            camera,
            wanted.seq,
            wanted.capture_ns,
            rendered.image,
            rendered.provenance,
            packet_regions(wanted),
            {wanted.tasks[position]: tags for position, tags in wanted.tags},
        )
