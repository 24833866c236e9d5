"""Packets to pictures: the codec and the generative decoder, put together for subscribers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from discover_stream.codec.composing import Composite
from discover_stream.codec.model import MODEL_FILE, CodecModel, load_codec, shipped_weights
from discover_stream.codec.packet import Packet, route
from discover_stream.codec.still import SCORE_STEPS, decode_packet
from discover_stream.codec.stream_packet import StreamPacket
from discover_stream.codec.stream_state import StreamState, capture_ns
from discover_stream.generation.canvas import ProvenanceMap
from discover_stream.generation.invention import Finder, invention_score
from discover_stream.generation.render import DEFAULT_STEPS, Rendered, Renderer
from discover_stream.generation.vae import latent_space
from discover_stream.semantics.detector import DetectOptions, detect
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.types import Box, Image, InputError, Profile, Provenance, Region

FINDER_SIDE = 384
"""Pixels of the longer side at which decoded pictures are looked at for inventions."""


@dataclass(frozen=True)
class DecodedFrame:
    """What a subscriber gets from a packet.

    Attributes:
        camera: its name.
        seq: of the frame.
        capture_ns: when the frame was captured; 0 in stream mode where the plate that tells it is absent.
        image: (H, W, 3) uint8 RGB.
        provenance: (rows, columns) of cells, where each comes from.
        regions: per task key, its regions.
        tags: per task key that has tags, ascending label indices; `semantics.tags.condition_text` makes words of them.
        changed: provenance in lower case -> mean absolute change that diffusion made to latents of such cells; empty
            where there was none.
        invention: how sure a detector is that the picture shows something with nothing behind it, 0..1; None where
            nobody looked. See `generation.invention`.
    """

    camera: str
    seq: int
    capture_ns: int
    image: Image
    provenance: ProvenanceMap
    regions: Mapping[int, tuple[Region, ...]]
    tags: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    changed: Mapping[str, float] = field(default_factory=dict)
    invention: float | None = None


def packet_regions(packet: Packet) -> dict[int, tuple[Region, ...]]:
    """The regions of a packet per task key; needs no weights."""
    found: dict[int, list[Region]] = {key: [] for key in packet.tasks}
    for region in packet.regions:
        for position, label in region.labels:
            found[packet.tasks[position]].append(Region(label, region.score / SCORE_STEPS, region.box, region.track))
    return {key: tuple(regions) for key, regions in found.items()}


def composed_frame(camera: str, packet: StreamPacket, state: StreamState, composite: Composite) -> DecodedFrame:
    """What a subscriber gets from a packet of stream mode.

    Args:
        camera: its name.
        packet: as it came.
        state: after it; see `codec.follow`.
        composite: its picture.
    """
    tasks = {key: state.tasks[key] for key in packet.tasks if key in state.tasks}
    return DecodedFrame(
        camera,
        packet.seq,
        capture_ns(state, packet) or 0,
        composite.image,
        composite.provenance,
        {key: task.regions() for key, task in tasks.items()},
        {key: task.tags for key, task in tasks.items() if task.tags},
    )


@dataclass(frozen=True)
class FrameDecoder:
    """Decodes packets of one model.

    Attributes:
        model: the codec.
        renderer: the generative decoder.
        finder: looks for objects in generated pictures, for their invention score; None leaves it out.
    """

    model: CodecModel
    renderer: Renderer
    finder: Finder | None = None

    @classmethod
    def load(cls, weights: Path | None = None, *, inventions: bool = False) -> FrameDecoder:
        """Load codec and generative decoder from a folder; without one, the shipped `nano` weights.

        Args:
            weights: the folder.
            inventions: whether pictures are scored for inventions, with the shipped grounder.

        Raises:
            InputError: weights are missing, damaged, or do not belong together.
        """
        folder = weights if weights is not None else shipped_weights()
        model, renderer = load_codec(folder / MODEL_FILE), Renderer.load(folder)
        if model.latent_space != latent_space(renderer.vae):
            raise InputError(f"{folder}: codec and VAE were not made for each other; use the files of one release")
        return cls(model, renderer, grounder_finder() if inventions else None)

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
        regions = packet_regions(wanted)
        return DecodedFrame(
            camera,
            wanted.seq,
            wanted.capture_ns,
            rendered.image,
            rendered.provenance,
            regions,
            {wanted.tasks[position]: tags for position, tags in wanted.tags},
            rendered.changed,
            self._invention(rendered, [region for found in regions.values() for region in found]),
        )

    def _invention(self, rendered: Rendered, regions: Sequence[Region]) -> float | None:
        if not (rendered.provenance == Provenance.GENERATED).any():
            return 0.0  # nothing was made up: no need to look
        if self.finder is None:
            return None
        return invention_score(self.finder(rendered.image), rendered.provenance, regions)


def grounder_finder() -> Finder:
    """The shipped grounder as a quick finder of road users: a single look at a small picture."""
    grounder = NanoGrounder.load(options=DetectOptions(long_side=FINDER_SIDE, far_side=FINDER_SIDE))

    def find(image: Image) -> list[Region]:
        (found,) = detect(grounder.network, [image], grounder.options)
        boxes = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
        return [Region(kind, score, Box(*box)) for box, score, kind in boxes]

    return find
