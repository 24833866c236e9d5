"""From a specification to a system, and the grids of settings that each peer is tried with.

A peer is judged by the best of its grid at every operating point (the upper hull of all its points), so no
single preset, tune or picture size can make it look worse than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from typing import Literal, cast, get_args

from discover_stream.evaluation.peers.crops import CropSettings, CropsPeer
from discover_stream.evaluation.peers.frozen import Fill, FrozenPeer
from discover_stream.evaluation.peers.stills import StillFormat, StillPeer, StillSettings
from discover_stream.evaluation.peers.video import IntraPeer, VideoCodec, VideoPeer, VideoSettings
from discover_stream.evaluation.peers.vvc import VvcPeer
from discover_stream.evaluation.raw import Raw
from discover_stream.evaluation.systems import Setting, System, SystemSpec
from discover_stream.types import InputError

GridSize = Literal["tiny", "quick", "full"]
"""How many settings: a smoke test, what fits `make bench`, everything."""

ORIGINAL = SystemSpec.of("original")
"""What a judge makes of the originals themselves: the ceiling."""


def _video_settings(values: dict[str, Setting]) -> VideoSettings:
    return VideoSettings(
        crf=int(values.pop("crf")),
        preset=str(values.pop("preset", "medium")),
        tune=str(values.pop("tune", "")),
        scale=float(values.pop("scale", 1.0)),
        bits=int(values.pop("bits", 8)),
    )


def _video(codec: str) -> Callable[[dict[str, Setting]], System]:
    return lambda values: VideoPeer(cast(VideoCodec, codec), _video_settings(values))


def _intra(codec: str) -> Callable[[dict[str, Setting]], System]:
    return lambda values: IntraPeer(cast(VideoCodec, codec), _video_settings(values))


def _still(form: str) -> Callable[[dict[str, Setting]], System]:
    return lambda values: StillPeer(
        cast(StillFormat, form),
        StillSettings(
            quality=int(values.pop("quality")),
            scale=float(values.pop("scale", 1.0)),
            subsampling=str(values.pop("subsampling", "4:2:0")),
            speed=int(values.pop("speed", 4)),
            tune=str(values.pop("tune", "")),
        ),
    )


def _frozen(values: dict[str, Setting]) -> System:
    fill = _one_of(values.pop("fill", "last"), get_args(Fill))
    return FrozenPeer(VideoPeer("svt-av1", _video_settings(values)), cast(Fill, fill))


def _one_of(value: Setting, known: tuple[str, ...]) -> str:
    if value not in known:
        raise ValueError(f"{value!r} is none of {', '.join(known)}")
    return str(value)


def _crops(values: dict[str, Setting]) -> System:
    default = CropSettings()
    return CropsPeer(
        CropSettings(
            plate_crf=int(values.pop("plate", default.plate_crf)),
            crop_crf=int(values.pop("crf", default.crop_crf)),
            threshold=float(values.pop("threshold", default.threshold)),
            margin=int(values.pop("margin", default.margin)),
            preset=str(values.pop("preset", default.preset)),
        )
    )


def _ours(values: dict[str, Setting]) -> System:
    from discover_stream.evaluation.ours import OursStill, Sent

    return OursStill(
        quality=int(values.pop("quality")),
        sends=cast(Sent, _one_of(values.pop("sends", "task"), get_args(Sent))),
        generate=bool(values.pop("generate", 1)),
        steps=int(values.pop("steps", 0)),
        weights=str(values.pop("weights", "")),
    )


def _ours_stream(values: dict[str, Setting]) -> System:
    from discover_stream.codec.stream_encoder import StreamSettings
    from discover_stream.evaluation.ours_stream import MODEL, OursStream
    from discover_stream.painting import learned_codec
    from discover_stream.semantics.critic import GrounderCritic

    bitrate = float(values.pop("bitrate", 0))
    quality = int(values.pop("quality", 4))
    critic = GrounderCritic.load() if int(values.pop("critic", 0)) else None
    learned = learned_codec() if int(values.pop("learned", 0)) else None
    settings = StreamSettings(MODEL, quality=quality, bitrate=1000 * bitrate if bitrate else None)
    return OursStream(settings, critic, learned)


BUILDERS: Mapping[str, Callable[[dict[str, Setting]], System]] = {
    "original": lambda values: Raw(),
    "ours-still": _ours,
    "ours-stream": _ours_stream,
    "jpeg": _still("jpeg"),
    "webp": _still("webp"),
    "avif": _still("avif"),
    "x264": _video("x264"),
    "x265": _video("x265"),
    "svt-av1": _video("svt-av1"),
    "x265-intra": _intra("x265"),
    "svt-av1-intra": _intra("svt-av1"),
    "frozen": _frozen,
    "crops": _crops,
    "vvc-intra": lambda values: VvcPeer(int(values.pop("qp"))),
}
"""Everything that can be measured. A new coding mode is one more line here."""


def build_system(spec: SystemSpec) -> System:
    """The system that a specification names.

    Raises:
        InputError: there is none of that name, or a setting is missing, unknown or of the wrong kind.
    """
    if spec.name not in BUILDERS:
        raise InputError(f"system {spec.text()!r}: there is no such system; use one of {', '.join(BUILDERS)}")
    left = spec.values()
    try:
        system = BUILDERS[spec.name](left)
    except KeyError as error:
        raise InputError(f"system {spec.text()!r}: the setting {error.args[0]!r} is missing; add it") from error
    except ValueError as error:
        raise InputError(f"system {spec.text()!r}: {error}; correct the setting") from error
    if left:  # the builders take out what they know
        raise InputError(f"system {spec.text()!r}: there is no setting {', '.join(left)}; leave it out")
    return system


def is_ours(name: str) -> bool:
    """Whether a system is this project's own."""
    return name.startswith("ours")


def grid(name: str, settings: Mapping[str, tuple[Setting, ...]]) -> tuple[SystemSpec, ...]:
    """Every combination of some settings.

    >>> [spec.text() for spec in grid("jpeg", {"quality": (10, 20)})]
    ['jpeg:quality=10', 'jpeg:quality=20']
    """
    return tuple(
        SystemSpec.of(name, **dict(zip(settings, values, strict=True))) for values in product(*settings.values())
    )


def image_grid(size: GridSize) -> tuple[SystemSpec, ...]:
    """What `discover eval images` measures."""
    if size == "tiny":
        return (ORIGINAL, *grid("jpeg", {"quality": (10, 50)}), *grid("avif", {"quality": (20, 50), "speed": (8,)}))
    full = size == "full"
    scales: tuple[Setting, ...] = (1.0, 0.5)
    ours = grid("ours-still", {"quality": tuple(range(1, 9)) if full else (1, 2, 3, 5, 8), "sends": ("picture",)})
    ours += grid("ours-still", {"quality": tuple(range(1, 9)) if full else (1, 3, 5), "sends": ("task",)})
    if full:
        ours += grid("ours-still", {"quality": (1, 3, 5, 8), "sends": ("picture", "task"), "generate": (0,)})
        ours += grid("ours-still", {"quality": (3, 5), "sends": ("task",), "steps": (1, 4, 8)})
    crf: tuple[Setting, ...] = (24, 28, 32, 36, 40, 44, 48) if full else (28, 34, 40, 46)
    tunes: tuple[Setting, ...] = ("ssim", "psnr") if full else ("ssim",)
    av1: tuple[Setting, ...] = (20, 28, 36, 44, 52, 58, 63) if full else (28, 40, 52, 63)
    return (
        ORIGINAL,
        *ours,
        *grid("jpeg", {"quality": (4, 8, 14, 22, 35, 55, 80) if full else (6, 14, 30, 60), "scale": scales}),
        *grid("webp", {"quality": (0, 5, 12, 25, 45, 70) if full else (2, 15, 40, 70), "scale": scales}),
        *grid(
            "avif",
            {
                "quality": (2, 8, 16, 24, 34, 46, 60, 75) if full else (4, 14, 28, 45, 60),
                "tune": ("ssim", "psnr") if full else ("ssim",),
                "speed": (4,) if full else (6,),
                "scale": (1.0, 0.5) if full else (1.0,),
            },
        ),
        *(() if full else grid("avif", {"quality": (14, 40), "tune": ("ssim",), "speed": (6,), "scale": (0.5,)})),
        *grid("x265-intra", {"crf": crf, "preset": ("veryslow",) if full else ("slow",), "tune": tunes}),
        *grid("svt-av1-intra", {"crf": av1, "preset": ("2",) if full else ("4",), "bits": (10,)}),
    )


def video_grid(size: GridSize) -> tuple[SystemSpec, ...]:
    """What `discover eval video` measures."""
    if size == "tiny":
        return (
            ORIGINAL,
            *grid("svt-av1", {"crf": (40, 60), "preset": ("10",)}),
            *grid("crops", {"crf": (40,), "plate": (45,), "preset": ("10",)}),
        )
    full = size == "full"
    scales: tuple[Setting, ...] = (1.0, 0.5) if full else (1.0,)
    h26x: tuple[Setting, ...] = (24, 28, 31, 34, 37, 40, 44, 48) if full else (30, 35, 40, 45, 49)
    av1: tuple[Setting, ...] = (28, 35, 42, 48, 53, 58, 63) if full else (38, 48, 56, 63)
    ours = grid("ours-still", {"quality": (1, 2, 3, 5, 8) if full else (1, 4), "sends": ("task",)})
    ours += grid("ours-still", {"quality": (1, 3, 5), "sends": ("picture",)}) if full else ()
    ours += grid("ours-stream", {"quality": tuple(range(1, 9)) if full else (4,)})
    # Preset 6 needs 5 to 8 % more bits than 4 here, 5 hardly any.
    fast: tuple[Setting, ...] = ("4",) if full else ("5",)
    return (
        ORIGINAL,
        *ours,
        *grid("x264", {"crf": h26x if full else (30, 37, 43, 49), "preset": ("veryslow",), "scale": scales}),
        *grid("x265", {"crf": h26x, "preset": ("slower",) if full else ("slow",), "scale": scales}),
        *(() if full else grid("x264", {"crf": (38,), "preset": ("veryslow",), "scale": (0.7,)})),
        *(() if full else grid("x265", {"crf": (34, 42), "preset": ("slow",), "scale": (0.7,)})),
        *(grid("x265", {"crf": h26x, "preset": ("slow",), "tune": ("ssim", "psnr")}) if full else ()),
        *grid(
            "svt-av1",
            {"crf": av1, "preset": ("2", "4") if full else fast, "bits": (10,), "scale": scales},
        ),
        *(grid("svt-av1", {"crf": av1, "preset": ("4",), "tune": (0, 2), "bits": (10,)}) if full else ()),
        *grid("svt-av1", {"crf": (42, 54, 63) if full else (46, 60), "preset": fast, "bits": (10,), "scale": (0.7,)}),
        *grid(
            "frozen",
            {
                "crf": av1 if full else (46, 56, 63),
                "preset": fast,
                "bits": (10,),
                "fill": ("last", "plate") if full else ("plate",),
            },
        ),
        *grid(
            "crops",
            {
                "crf": (30, 38, 46, 54, 60) if full else (36, 46, 56),
                "plate": (42, 50) if full else (48,),
                "threshold": (6.0, 9.0, 13.0) if full else (8.0, 14.0),
            },
        ),
    )
