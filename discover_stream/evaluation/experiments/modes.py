"""The papers' modes and ours as systems under test: what is sent, what is told, how it is sampled.

| mode | sent | tags | sampling |
|---|---|---|---|
| `discover-task` | z^ and the cells of the task's boxes | no | 8 steps for machines, 50 for people |
| `discover-full` | z^ and all cells | no | the same |
| `diff-icmh` | all cells | yes | 50 steps, guidance 5 |
| `ours` | z^ and the cells of the task's boxes | no | one step, what was received is bounded |
| `ours-full` | all cells | no | the same |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from discover_stream.codec.model import shipped_weights
from discover_stream.decoding import FrameDecoder
from discover_stream.evaluation.experiments.codecs import PacketCodec
from discover_stream.evaluation.registry import BUILDERS, build_system
from discover_stream.evaluation.store import WEIGHTS, folder_digest
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded, Setting, System, SystemSpec
from discover_stream.generation.render import Renderer, RenderJob
from discover_stream.generation.sampling import ChangeBounds, SamplePlan
from discover_stream.semantics.tags import condition_text, picture_tags
from discover_stream.types import Box, Image, InputError, LabelSet, Profile, Provenance, Region

FREE = ChangeBounds(math.inf, math.inf, math.inf)
"""The papers let sampling change what was sent as it likes."""


@dataclass(frozen=True)
class Mode:
    """How a picture is sent and decoded.

    Attributes:
        sends: the cells of the task's boxes, or all.
        tags: whether the labels of what is in the picture are sent and shown to the decoder.
        steps: of sampling.
        guidance: by the tags.
        bounded: whether sampling may change what was sent by a bounded amount only.
        generate: whether sampling happens at all; else the picture is what g_s gives.
    """

    sends: str
    tags: bool = False
    steps: int = 1
    guidance: float = 1.0
    bounded: bool = False
    generate: bool = True


DISCOVER_STEPS: Mapping[Profile, int] = {"machine": 8, "human": 50}
DIFF_ICMH_STEPS, DIFF_ICMH_GUIDANCE = 50, 5.0

MODES: Mapping[str, Mode] = {
    "discover-task": Mode("task", steps=0),
    "discover-full": Mode("picture", steps=0),
    "diff-icmh": Mode("picture", tags=True, steps=DIFF_ICMH_STEPS, guidance=DIFF_ICMH_GUIDANCE),
    "ours": Mode("task", bounded=True),
    "ours-full": Mode("picture", bounded=True),
}
"""Steps 0 stand for `DISCOVER_STEPS`."""


@dataclass(frozen=True)
class Models:
    """Weights that a mode runs on.

    Attributes:
        codec: makes bytes.
        renderer: makes pictures; its networks may be on a GPU, the codec's are on the CPU.
        labels: whose indices tags are.
        profile: who looks at the pictures, see `DISCOVER_STEPS`.
        reads_tags: whether the generator has a text encoder; one that has none ignores tags.
        digest: names all weights.
    """

    codec: PacketCodec
    renderer: Renderer
    labels: LabelSet
    profile: Profile
    reads_tags: bool
    digest: str

    @classmethod
    def load(cls, weights: Path | None, labels: LabelSet, profile: Profile) -> Models:
        """Codec and renderer in a folder; without one, the shipped weights.

        Raises:
            InputError: weights are missing, damaged, or do not belong together.
        """
        folder = weights or shipped_weights()
        decoder, digest = FrameDecoder.load(folder), folder_digest(folder, WEIGHTS)
        codec, renderer = PacketCodec(decoder.model), decoder.renderer
        return cls(codec, renderer, labels, profile, "control" in renderer.generator.networks, digest)


def is_mode(name: str) -> bool:
    """Whether a system's name is one of the modes here, and not a peer's."""
    return name in MODES


def build_mode(spec: SystemSpec, models: Models) -> System:
    """The system that a specification names: a mode, with its own settings where some are given, or a peer.

    Settings of a mode: `quality` (has to be there), `steps`, `guidance`, `sends`, `tags`, `generate`, `bounded`.

    Raises:
        InputError: there is no such system, or a setting is missing, unknown or out of range.
    """
    if not is_mode(spec.name):
        if spec.name not in BUILDERS:
            raise InputError(f"system {spec.text()!r}: none of that name; use {', '.join((*MODES, *BUILDERS))}")
        return build_system(spec)
    left = spec.values()
    mode = MODES[spec.name]
    if mode.steps == 0:
        mode = replace(mode, steps=DISCOVER_STEPS[models.profile])
    try:
        quality = int(left.pop("quality"))
        mode = _changed(mode, left)
        SamplePlan(mode.steps, guidance=mode.guidance)
    except KeyError:
        raise InputError(f"system {spec.text()!r}: the setting 'quality' is missing; add it") from None
    except (ValueError, InputError) as error:
        raise InputError(f"system {spec.text()!r}: {error}; correct the setting") from error
    if left or not 1 <= quality <= 8 or mode.sends not in ("task", "picture"):
        wrong = ", ".join(left) or ("quality" if not 1 <= quality <= 8 else "sends")
        raise InputError(f"system {spec.text()!r}: {wrong} is unknown or out of range; quality is 1 to 8")
    changes = {key: value for key, value in spec.settings if key != "quality"}
    title = spec.name + (" (" + ", ".join(f"{key} {value}" for key, value in changes.items()) + ")" if changes else "")
    return PaperSystem(title, spec.text(), mode, quality, models)


def _changed(mode: Mode, left: dict[str, Setting]) -> Mode:
    """The mode with the settings that are given, which are taken out of `left`."""
    return replace(
        mode,
        sends=str(left.pop("sends", mode.sends)),
        tags=bool(int(left.pop("tags", int(mode.tags)))),
        steps=int(left.pop("steps", mode.steps)),
        guidance=float(left.pop("guidance", mode.guidance)),
        bounded=bool(int(left.pop("bounded", int(mode.bounded)))),
        generate=bool(int(left.pop("generate", int(mode.generate)))),
    )


@dataclass(frozen=True)
class PaperSystem:
    """A mode at one quality; see `System`.

    Attributes:
        name: as in tables.
        text: the specification.
        mode: how.
        quality: 1 (fewest bits) to 8.
        models: the weights.
    """

    name: str
    text: str
    mode: Mode
    quality: int
    models: Models

    def encode(self, clip: Clip) -> Coded:
        """Code every picture; see `System.encode`."""
        height, width = clip.frames[0].shape[:2]
        pairs = zip(clip.frames, clip.regions, strict=True)
        chunks = tuple(Chunk(index, self._coded(image, regions)) for index, (image, regions) in enumerate(pairs))
        return Coded(chunks, b"", len(chunks), width, height, {"camera": clip.name})

    def _coded(self, image: Image, regions: tuple[Region, ...]) -> bytes:
        tags = picture_tags(regions) if self.mode.tags else ()
        if self.mode.sends == "picture":
            regions = (Region(0, 1.0, Box(0.0, 0.0, float(image.shape[1]), float(image.shape[0]))),)
        return self.models.codec.encode(image, regions, tags, self.quality)

    def decode(self, coded: Coded) -> Decoded:
        """Decode every picture; see `System.decode`."""
        renderer = self.models.renderer if self.mode.bounded else replace(self.models.renderer, bounds=FREE)
        plan = SamplePlan(self.mode.steps, guidance=self.mode.guidance)
        jobs = []
        for chunk in coded.chunks:
            got = self.models.codec.decode(chunk.data)
            provenance = np.where(got.frame.sent, Provenance.SENT, Provenance.MISSING).astype(np.uint8)
            text = condition_text(got.tags, self.models.labels)
            camera = str(coded.notes["camera"])
            jobs.append(RenderJob(got.frame.latent, provenance, got.width, got.height, camera, tags=text))
        shown = renderer.render_many(jobs, plan, generate=self.mode.generate)
        return Decoded(tuple(one.image for one in shown), tuple(one.provenance for one in shown))

    def command(self) -> str:
        """How to run it again."""
        return f"discover eval paper --system {self.text}"
