"""Packets to pictures: the codec and the generative decoder, put together for subscribers."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from discover_stream.codec.model import MODEL_FILE, CodecModel, load_codec, shipped_weights
from discover_stream.codec.packet import Packet, route
from discover_stream.codec.still import SCORE_STEPS, decode_packet
from discover_stream.config_decoding import CPU, Hardware
from discover_stream.decode_options import DecodeOptions
from discover_stream.decoded import DecodedFrame
from discover_stream.generation.hardware import on_hardware
from discover_stream.generation.harmonise import Composed, harmonise
from discover_stream.generation.invention import Finder, invention_score
from discover_stream.generation.render import PLANS, Renderer
from discover_stream.generation.reuse import Kept, KeptPictures, ReusePlanner, unchanged
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.sheets import Rendered, RenderJob
from discover_stream.generation.vae import latent_space
from discover_stream.semantics.detector import DetectOptions, detect
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.types import Box, Image, InputError, Profile, Provenance, Region

__all__ = [
    "DecodedFrame",
    "FrameDecoder",
    "PacketRequest",
    "grounder_finder",
    "packet_regions",
    "plan_of",
]

FINDER_SIDE = 384
"""Pixels of the longer side at which decoded pictures are looked at for inventions."""


@dataclass(frozen=True, eq=False)
class PacketRequest:
    """A packet of still mode to decode.

    Attributes:
        packet: of the archive or of a substream.
        camera: its camera's name; it seeds the diffusion noise and is named in errors.
        tasks: keys of the tasks whose atoms to use; None for all in the packet.
        row: names the row of pictures that it goes on, of which only what changed is decoded; None for none, and "" for
            one that ends with the call.
        tags: "bus, car" as a condition, where the generator reads them.
    """

    packet: Packet
    camera: str
    tasks: frozenset[int] | None = None
    row: str | None = None
    tags: str = ""


def packet_regions(packet: Packet) -> dict[int, tuple[Region, ...]]:
    """The regions of a packet per task key; needs no weights."""
    found: dict[int, list[Region]] = {key: [] for key in packet.tasks}
    for region in packet.regions:
        for position, label in region.labels:
            found[packet.tasks[position]].append(Region(label, region.score / SCORE_STEPS, region.box, region.track))
    return {key: tuple(regions) for key, regions in found.items()}


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
    def load(cls, weights: Path | None = None, *, inventions: bool = False, hardware: Hardware = CPU) -> FrameDecoder:
        """Load codec and generative decoder from a folder; without one, the shipped `nano` weights.

        Args:
            weights: the folder.
            inventions: whether pictures can be scored for inventions, with the shipped grounder.
            hardware: of the generative decoder; the codec runs on the CPU.

        Raises:
            InputError: weights are missing, damaged, or do not belong together, or the hardware is not there.
        """
        folder = weights if weights is not None else shipped_weights()
        model, renderer = load_codec(folder / MODEL_FILE), Renderer.load(folder)
        if model.latent_space != latent_space(renderer.vae):
            raise InputError(f"{folder}: codec and VAE were not made for each other; use the files of one release")
        return cls(model, on_hardware(renderer, hardware), grounder_finder() if inventions else None)

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
        keys = None if tasks is None else frozenset(tasks)
        options = DecodeOptions(profile, steps, generate, inventions=self.finder is not None)
        return self.decode_many([PacketRequest(packet, camera, keys)], options)[0]

    def decode_many(
        self, requests: Sequence[PacketRequest], options: DecodeOptions, kept: KeptPictures | None = None
    ) -> list[DecodedFrame]:
        """Decode packets of still mode, of any cameras, together.

        Args:
            requests: in order within each row.
            options: how.
            kept: the last pictures of rows; they are replaced by the new ones, if all goes well.

        Raises:
            BitstreamError: a packet is damaged or of another model.
            InputError: the number of steps is out of range, or a packet holds regions only.
        """
        rows = kept if kept is not None else KeptPictures(len(requests))
        planner = ReusePlanner(rows)
        names: list[Hashable] = []
        wanted: list[Packet] = []
        for request in requests:
            packet = _routed(request)
            received = decode_packet(self.model, packet, camera=request.camera)
            cells = np.where(received.sent, Provenance.SENT, Provenance.MISSING).astype(np.uint8)
            reused = options.reuse and request.row is not None
            # A picture that was decoded in another way is none to go on from.
            how = (options.profile, options.steps, options.generate)
            name: Hashable = (request.row, request.camera, request.tasks, how) if reused else len(names)
            job = RenderJob(received.latent, cells, packet.width, packet.height, request.camera, tags=request.tags)
            planner.add(name, job)
            names.append(name)
            wanted.append(packet)
        jobs = [planned.job for planned in planner.jobs]
        pictures = self.renderer.render_many(jobs, plan_of(options), generate=options.generate)
        frames, latest = [], dict[Hashable, Kept]()
        for index, (name, picture) in enumerate(zip(names, pictures, strict=True)):
            before = latest.get(name) or rows.get(name)
            found = before.found if before is not None and unchanged(jobs[index]) else None
            if found is None and self.finder is not None and options.inventions and picture.has_generated:
                found = tuple(self.finder(picture.image))
            latest[name] = Kept(picture, planner.jobs[index].basis, found)
            frames.append(_frame(requests[index].camera, wanted[index], picture, found))
            if requests[index].row and options.reuse:
                rows.put(name, latest[name])
        return frames

    def harmonised(
        self, frames: Sequence[DecodedFrame], options: DecodeOptions, tags: Sequence[str] = ()
    ) -> list[DecodedFrame]:
        """Frames composed in stream mode, after the diffusion step; see `generation.harmonise`.

        Args:
            frames: of any cameras.
            options: how.
            tags: of each frame, as a condition; none by default.

        Raises:
            InputError: the number of steps is out of range.
        """
        texts = tags or [""] * len(frames)
        composed = [
            Composed(frame.camera, frame.image, frame.provenance, frame.plate, text)
            for frame, text in zip(frames, texts, strict=True)
        ]
        pictures = harmonise(self.renderer, composed, plan_of(options))
        return [
            replace(frame, image=picture.image, changed=picture.changed)
            for frame, picture in zip(frames, pictures, strict=True)
        ]


def plan_of(options: DecodeOptions) -> SamplePlan:
    """How to sample. Raises InputError for a number of steps out of range."""
    plan = PLANS[options.profile]
    return plan if options.steps is None else replace(plan, steps=options.steps)


def _routed(request: PacketRequest) -> Packet:
    packet = request.packet
    if packet.regions_only:
        raise InputError(
            f"camera {request.camera}, seq {packet.seq}: this packet holds regions only and nothing of the picture;"
            " decode one of a task that is delivered with pixels"
        )
    return packet if request.tasks is None else route(packet, request.tasks)


def _frame(camera: str, packet: Packet, picture: Rendered, found: Sequence[Region] | None) -> DecodedFrame:
    """What a subscriber gets from a packet of still mode; `found` is what a detector sees, None where nobody looked."""
    regions = packet_regions(packet)
    explained = [region for of_task in regions.values() for region in of_task]
    invention = None if found is None else invention_score(found, picture.provenance, explained)
    return DecodedFrame(
        camera,
        packet.seq,
        packet.capture_ns,
        picture.image,
        picture.provenance,
        regions,
        {packet.tasks[position]: tags for position, tags in packet.tags},
        picture.changed,
        0.0 if not picture.has_generated else invention,  # nothing was made up: no need to look
    )


def grounder_finder() -> Finder:
    """The shipped grounder as a quick finder of road users: a single look at a small picture. Loaded when it looks."""

    @cache
    def grounder() -> NanoGrounder:
        return NanoGrounder.load(options=DetectOptions(long_side=FINDER_SIDE, far_side=FINDER_SIDE))

    def find(image: Image) -> list[Region]:
        (found,) = detect(grounder().network, [image], grounder().options)
        boxes = zip(found.boxes.tolist(), found.scores.tolist(), found.classes.tolist(), strict=True)
        return [Region(kind, score, Box(*box)) for box, score, kind in boxes]

    return find
