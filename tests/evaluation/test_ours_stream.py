from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from discover_stream.evaluation.ours_stream import OursStream
from discover_stream.evaluation.registry import build_system
from discover_stream.evaluation.systems import Clip, Coded, SystemSpec
from discover_stream.types import Box, InputError, Region


def clip(count: int = 12) -> Clip:
    road = np.tile(np.linspace(60, 150, 96)[None, :, None], (64, 1, 3)).astype(np.uint8)
    frames, regions = [], []
    for index in range(count):
        x = 4 + 5 * index
        image = road.copy()
        image[20:36, x : x + 24] = (200, 40, 40)
        frames.append(image)
        regions.append((Region(0, 0.9, Box(x, 20, min(96, x + 24), 36), 1),))
    return Clip("made up", tuple(frames), 10.0, tuple(regions))


def test_what_is_decoded_from_the_bytes_is_the_clip() -> None:
    system = build_system(SystemSpec.of("ours-stream", quality=6))
    coded = system.encode(clip())
    # nothing but bytes and what a receiver knows
    decoded = system.decode(Coded(coded.chunks, coded.setup, 12, 96, 64, {"camera": "made up"}))
    for image, original, provenance in zip(decoded.frames, clip().frames, decoded.provenance, strict=True):
        assert np.abs(image.astype(int) - original).mean() < 4
        assert provenance is not None
        assert provenance.shape == (4, 6)
    assert system.encode(clip()) == coded


def test_all_bytes_count_and_the_first_plate_is_the_setup() -> None:
    coded = build_system(SystemSpec.of("ours-stream", quality=6)).encode(clip())
    assert len(coded.setup) > 50
    assert coded.total == len(coded.setup) + sum(coded.sizes)
    assert min(coded.sizes) >= 11  # every packet's header and checksum


def test_a_bit_rate_is_a_setting_and_named() -> None:
    system = build_system(SystemSpec.parse("ours-stream:bitrate=16"))
    assert isinstance(system, OursStream)
    assert system.settings.bitrate == 16_000
    assert "rate control" in system.name
    assert "--bitrate 16k" in system.command()


def test_pictures_that_are_no_clip_are_refused() -> None:
    system = build_system(SystemSpec.of("ours-stream"))
    with pytest.raises(InputError, match="still mode"):
        system.encode(dataclasses.replace(clip(), fps=0.0))


def test_a_critic_is_a_setting_and_named() -> None:
    with_one, without = (build_system(SystemSpec.parse(text)) for text in ("ours-stream:critic=1", "ours-stream"))
    assert isinstance(with_one, OursStream)
    assert isinstance(without, OursStream)
    assert with_one.critic is not None
    assert without.critic is None
    assert with_one.name != without.name
