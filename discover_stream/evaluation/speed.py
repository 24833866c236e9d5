"""How long every stage takes, ours and the peers', in the same run on the same pictures.

Only ratios within one run mean anything on a shared machine; each figure is the median of several rounds. Peers are
timed over whole clips, conversion of colours included, which is given by itself, too: it is numpy's, not theirs.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import psutil

from discover_stream.evaluation.ours import KEY, TASK, decoder_of
from discover_stream.evaluation.peers.colour import even, to_rgb, to_yuv
from discover_stream.evaluation.registry import build_system
from discover_stream.evaluation.systems import Clip, SystemSpec
from discover_stream.types import Box, Frame, Region

PEERS = (
    SystemSpec.of("jpeg", quality=30),
    SystemSpec.of("webp", quality=30),
    SystemSpec.of("avif", quality=40, speed=6),
    SystemSpec.of("x264", crf=34, preset="medium"),
    SystemSpec.of("x265", crf=34, preset="medium"),
    SystemSpec.of("svt-av1", crf=50, preset="8"),
    SystemSpec.of("frozen", crf=50, preset="8"),
    SystemSpec.of("crops", crf=46, preset="8"),
)


@dataclass(frozen=True)
class Stage:
    """Milliseconds a frame of one stage of one system, the median over rounds."""

    system: str
    stage: str
    ms: float


@dataclass(frozen=True)
class ModelSize:
    """A weights file: bytes on disk and number of parameters."""

    name: str
    bytes: int
    parameters: int


def timed(work: Callable[[], object], rounds: int) -> float:
    """Median milliseconds of a call, after one that does not count."""
    work()
    seen = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        seen.append(time.perf_counter() - begin)
    return 1000 * statistics.median(seen)


def our_stages(clip: Clip, quality: int, rounds: int) -> list[Stage]:
    """Still mode, stage by stage, on the middle frame: ground, encode, and decode of the task and of the picture.

    `entropy` is what is left of coding when the transforms are taken away: parameters, context and range coder.
    """
    import torch

    from discover_stream.codec.packet import packet_bytes, parse_packet
    from discover_stream.codec.still import (
        LatentFrame,
        analyse_still,
        decode_packet,
        encode_frame,
        picture_tensor,
        synthesise_still,
    )
    from discover_stream.evaluation.datasets import grounder_finder

    decoder, find = decoder_of(), grounder_finder()
    model, renderer = decoder.model, decoder.renderer
    middle = len(clip.frames) // 2
    image = clip.frames[middle]
    height, width = image.shape[:2]
    frame = Frame(clip.name, 0, 0, image)
    whole = (Region(0, 1.0, Box(0.0, 0.0, float(width), float(height))),)
    stages = [Stage("ours", "ground", timed(lambda: find(image), rounds))]

    @torch.inference_mode()
    def analyse() -> None:
        analyse_still(model, picture_tensor(image))

    transform = timed(analyse, rounds)
    stages.append(Stage("ours", "encode: transforms", transform))
    for title, regions in (("task", clip.regions[middle]), ("picture", whole)):
        wanted: dict[str, Sequence[Region]] = {TASK: regions}

        def encode(wanted: dict[str, Sequence[Region]] = wanted) -> bytes:
            return packet_bytes(encode_frame(model, frame, wanted, {TASK: KEY}, quality=quality))

        def decode(data: bytes) -> LatentFrame:
            return decode_packet(model, parse_packet(data), camera=clip.name)

        data = encode()
        latent = decode(data)

        def render(generate: bool, latent: LatentFrame = latent) -> None:
            renderer.render(
                latent.latent,
                latent.sent,
                width=width,
                height=height,
                camera=clip.name,
                steps=1,
                generate=generate,
            )

        unpack = timed(partial(decode, data), rounds)
        grid = torch.zeros(1, model.network.config.y_channels, latent.latent.shape[2] // 2, latent.latent.shape[3] // 2)
        mask = torch.ones(1, 1, *grid.shape[2:])
        coarse = torch.zeros(1, model.network.config.z_channels, grid.shape[2] // 4, grid.shape[3] // 4)
        synthesise = partial(synthesise_still, model, grid, mask, coarse)
        with torch.inference_mode():
            synthesis = timed(synthesise, rounds)
        plain = timed(partial(render, False), rounds)
        stages += [
            Stage("ours", f"encode: entropy, {title}", max(0.0, timed(encode, rounds) - transform)),
            Stage("ours", f"decode: entropy, {title}", max(0.0, unpack - synthesis)),
            Stage("ours", f"decode: synthesis, {title}", synthesis),
            Stage("ours", f"decode: autoencoder, {title}", plain),
            Stage("ours", f"decode: denoise, 1 step, {title}", max(0.0, timed(partial(render, True), rounds) - plain)),
        ]
    return stages


def peer_stages(clip: Clip, specs: Sequence[SystemSpec], rounds: int) -> list[Stage]:
    """Encoding and decoding of whole clips by peers, per frame."""
    stages = []
    for spec in specs:
        system = build_system(spec)
        coded = system.encode(clip)
        count = len(clip.frames)
        stages += [
            Stage(spec.text(), "encode", timed(partial(system.encode, clip), rounds) / count),
            Stage(spec.text(), "decode", timed(partial(system.decode, coded), rounds) / count),
        ]
    return stages


def colour_stages(clip: Clip, rounds: int) -> list[Stage]:
    """What the conversion between RGB and the video codecs' colours takes of a peer's frame, at full size."""
    frame = to_yuv(even(clip.frames[0]))
    return [
        Stage("video peers", "encode: colours (included)", timed(partial(to_yuv, even(clip.frames[0])), rounds)),
        Stage("video peers", "decode: colours (included)", timed(partial(to_rgb, frame, "cubic"), rounds)),
    ]


def model_sizes() -> list[ModelSize]:
    """The shipped weights."""
    from safetensors import safe_open

    found = []
    folder = Path(str(resources.files("discover_stream"))) / "weights" / "nano"
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as tensors:
            count = 0
            for name in tensors.keys():  # noqa: SIM118 - no mapping
                size = 1
                for side in tensors.get_slice(name).get_shape():
                    size *= side
                count += size
        found.append(ModelSize(path.stem, path.stat().st_size, count))
    return found


def peak_memory_mb() -> float:
    """The most memory that this process has held so far, MB (2^20 bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_speed(clip: Clip, *, quality: int = 4, rounds: int = 5) -> dict[str, object]:
    """Everything `discover eval speed` reports, as JSON holds it."""
    peer_rounds = max(1, rounds // 2)
    peers = peer_stages(clip, PEERS, peer_rounds) + colour_stages(clip, rounds)
    before = psutil.Process().memory_info().rss / 2**20
    ours = our_stages(clip, quality, rounds)
    height, width = clip.frames[0].shape[:2]
    return {
        "clip": clip.name,
        "size": [width, height],
        "frames": len(clip.frames),
        "quality": quality,
        "rounds": rounds,
        "peer_rounds": peer_rounds,
        "stages": [asdict(stage) | {"ms": round(stage.ms, 3)} for stage in (*ours, *peers)],
        "memory_mb": {"before": round(before), "peak": round(peak_memory_mb())},
        "models": [asdict(size) for size in model_sizes()],
    }
