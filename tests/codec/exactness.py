"""Random scenes, what an encoder writes for them, and a decoder elsewhere to compare with (`decode_worker.py`)."""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from discover_stream.codec import latent, still
from discover_stream.codec.model import CodecModel
from discover_stream.codec.packet import Packet
from discover_stream.types import Box, Region

KEYS = {"vehicles": 900, "pedestrians": 77, "signs": 5}
LARGEST = 2048


class Elsewhere:
    """A process with the installed package and one thread for numpy's products; see `decode_worker.py`."""

    def __init__(self, installed: Path, folder: Path) -> None:
        self._installed = installed
        worker = Path(__file__).with_name("decode_worker.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(worker), str(installed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=folder,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

    def ask(self, kind: str, **request: Any) -> dict[str, Any]:
        """What the process makes of a request. Raises what it raised."""
        process = self._process
        assert process.stdin
        assert process.stdout
        pickle.dump({"kind": kind, **request}, process.stdin, pickle.HIGHEST_PROTOCOL)
        process.stdin.flush()
        file, answer = pickle.load(process.stdout)
        assert Path(file).is_relative_to(self._installed), f"it runs {file}"
        if isinstance(answer, Exception):
            raise answer
        assert isinstance(answer, dict)
        return answer

    def close(self) -> None:
        with self._process as process:
            assert process.stdin
            pickle.dump(None, process.stdin)


@dataclass
class Written:
    """Symbols that went into strings of still mode, as the coder got them."""

    z: list[np.ndarray] = field(default_factory=list)
    atoms: list[np.ndarray] = field(default_factory=list)


@contextlib.contextmanager
def recording() -> Iterator[Written]:
    """Remember what is written meanwhile."""
    written = Written()
    write_strings, encode_coarse = latent.write_strings, still.encode_coarse

    def strings(model: CodecModel, shapes: Any, base: Any, symbols: Any) -> list[bytes]:
        written.atoms += [part.copy() for part in symbols]
        return write_strings(model, shapes, base, symbols)

    def coarse(model: CodecModel, symbols: np.ndarray) -> bytes:
        written.z.append(symbols.copy())
        return encode_coarse(model, symbols)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latent, "write_strings", strings)
        patch.setattr(still, "encode_coarse", coarse)
        yield written


def subsets(packet: Packet) -> list[tuple[int, ...]]:
    """Every subset of a packet's task keys."""
    return [keys for count in range(len(packet.tasks) + 1) for keys in itertools.combinations(packet.tasks, count)]


@st.composite
def sizes(draw: st.DrawFn, most_pixels: int) -> tuple[int, int]:
    """Width and height of 16 to 2048, as often small as large, odd ones too."""

    def side(most: int) -> int:
        magnitude = draw(st.integers(4, most.bit_length() - 1))
        return min(most, draw(st.integers(2**magnitude, 2 ** (magnitude + 1))))

    longer = side(LARGEST)
    shorter = side(max(16, min(LARGEST, most_pixels // longer)))
    return (longer, shorter) if draw(st.booleans()) else (shorter, longer)


@st.composite
def scenes(draw: st.DrawFn, width: int, height: int) -> dict[str, list[Region]]:
    """Regions of up to three tasks: anywhere, overlapping, outside, tiny, everything, nothing at all."""

    def inside(most: int) -> float:
        return draw(st.integers(-most // 4, most + most // 4)) + draw(st.sampled_from((0.0, 0.5, 0.999)))

    boxes: list[Box] = []
    scene: dict[str, list[Region]] = {}
    for task in draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=3, unique=True)):
        scene[task] = []
        for kind in draw(st.lists(st.sampled_from(("any", "any", "again", "outside", "tiny", "all")), max_size=4)):
            x, y = inside(width), inside(height)
            box = Box(x, y, x + draw(st.integers(1, width)), y + draw(st.integers(1, height)))
            if kind == "again" and boxes:
                box = draw(st.sampled_from(boxes))
            elif kind == "outside":
                box = Box(width + 1 + abs(x), y, 2 * width + 99 + abs(x), y + 5)
            elif kind == "tiny":
                box = Box(x, y, x + 0.01, y + 0.01)
            elif kind == "all":
                box = Box(-9, -9, width + 9, height + 9)
            boxes.append(box)
            scene[task].append(Region(draw(st.integers(0, 99)), draw(st.floats(0, 1)), box, draw(st.integers(0, 9))))
    return scene


@dataclass(frozen=True)
class Case:
    """A frame, what is to be seen in it, and how a decoder computes."""

    width: int
    height: int
    scene: dict[str, list[Region]]
    quality: int
    seed: int
    threads: int = 1
    channels_last: bool = True


@st.composite
def cases(draw: st.DrawFn, most_pixels: int) -> Case:
    """Any frame of at most so many pixels, or a little more."""
    width, height = draw(sizes(most_pixels))
    scene, quality, seed = draw(scenes(width, height)), draw(st.integers(1, 8)), draw(st.integers(0, 2**31))
    return Case(width, height, scene, quality, seed, draw(st.sampled_from((1, 2))), draw(st.booleans()))


def decibels(first: np.ndarray, second: np.ndarray) -> float:
    """PSNR of two pictures of 0..1."""
    error = float(np.square(first.astype(np.float64) - second).mean())
    return 200.0 if error == 0 else -10 * float(np.log10(error))
