"""A small stream whose regions are known, made with the shipped weights through the codec itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from discover_stream.app.cli import run
from discover_stream.codec.container import DsvWriter, StreamInfo, StreamTask
from discover_stream.codec.model import load_codec
from discover_stream.codec.packet import Packet
from discover_stream.codec.still import encode_frame
from discover_stream.types import Box, Region
from discover_stream.video.simulate import SimulatedCamera

WIDTH, HEIGHT = 160, 90
TASKS = (
    StreamTask("vehicles", 1, ("car", "bus")),
    StreamTask("pedestrians", 1, ("person", "child")),
    StreamTask("trams", 2, ("tram",)),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def regions_of(seq: int) -> dict[str, tuple[Region, ...]]:
    """Boxes that overlap within and across tasks, one shared by two tasks; no tram ever comes."""
    step = 7.0 * seq
    car, bus = Box(5 + step, 20, 60 + step, 61), Box(40, 30, 101.5, 79)
    rider = Box(50 + step, 10, 75 + step, 50)
    return {
        "vehicles": (Region(0, 0.9, car, 1), Region(1, 0.8, bus, 2), Region(0, 0.5, rider, 3)),
        "pedestrians": (Region(0, 0.5, rider, 3), Region(1, 0.4, Box(110, 60, 121, 90), 4)),
        "trams": (),
    }


@dataclass(frozen=True)
class Stream:
    path: Path
    info: StreamInfo
    packets: tuple[Packet, ...]
    regions: tuple[dict[str, tuple[Region, ...]], ...]


@pytest.fixture(scope="session")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """Three frames for three tasks; tests must not change the file."""
    model = load_codec()
    camera = SimulatedCamera("mast", width=WIDTH, height=HEIGHT, fps=10.0, seed=4)
    info = StreamInfo("mast", WIDTH, HEIGHT, Fraction(10), model.short_hash, TASKS)
    path = tmp_path_factory.mktemp("stream") / "mast.dsv"
    packets = []
    with DsvWriter(path, info) as writer:
        for seq in range(3):
            frame = camera.render(seq)[0]
            packets.append(encode_frame(model, frame, regions_of(seq), info.keys, quality=5))
            writer.write(packets[-1])
    return Stream(path, info, tuple(packets), tuple(regions_of(seq) for seq in range(3)))


Command = Callable[..., str]


@pytest.fixture
def discover(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command that must succeed, in this process, and returns what it printed."""

    def call(*arguments: object) -> str:
        code = run([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        assert code == 0, err
        return out

    return call


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command that must be refused as all are: one line on stderr, exit code 2. Returns the line."""

    def call(*arguments: object) -> str:
        capfd.readouterr()
        code = run([str(argument) for argument in arguments])
        err = capfd.readouterr().err
        assert code == 2, err
        assert err.startswith("error: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        return err.strip()

    return call


@pytest.fixture
def read_pictures() -> Callable[[Path], list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    """Maps a folder or file that `decode` wrote to its pictures."""
    from discover_stream.video.source import open_source

    def read(path: Path) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
        with open_source(path, camera="test") as source:
            return [frame.image for frame in source]

    return read
