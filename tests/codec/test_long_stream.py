"""Two small days, one after the other: what the second costs is what the first cost, in bits and in memory."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import islice

import numpy as np
from street import BLUE, GREY, RED, Places, picture, regions

from benchmarks.long_stream import KEY, MODEL, TASK, light_at, relit, to_and_fro
from discover_stream.codec.composing import Composite
from discover_stream.codec.stream_coding import stream_packet_bytes
from discover_stream.codec.stream_encoder import StreamEncoder, StreamSettings
from discover_stream.types import Frame, Image

FPS, DAY = 4.0, 30.0
"""Frames a second, and seconds of a day: a whole number of loops, so that days end alike."""
LOOP = 21


def places(index: int) -> Places:
    """A car that drives to and fro past one that is parked; a third that is there half of the time."""
    found = {1: (RED, 4.0 * index, 14.0), 2: (GREY, 100.0, 60.0)}
    return found | ({3: (BLUE, 10.0, 62.0)} if index < LOOP // 2 else {})


def kept_by_us() -> int:
    """Bytes that lines of the project hold; what threads of earlier tests in this process do is left out."""
    ours = [tracemalloc.Filter(True, f"*/{part}/*") for part in ("discover_stream", "numpy", "tests/codec")]
    return sum(kept.size for kept in tracemalloc.take_snapshot().filter_traces(ours).statistics("filename"))


def test_the_second_day_costs_what_the_first_did() -> None:
    encoder = StreamEncoder(StreamSettings(MODEL, fps=FPS))
    day = round(DAY * FPS)
    sent, memory, plates, off = [0, 0], list[int](), [0, 0], list[float]()
    tracemalloc.start()
    try:
        for seq, index in enumerate(islice(to_and_fro(LOOP), 2 * day)):
            light = light_at(seq / FPS % DAY, DAY)
            image = relit(picture(places(index)), light)
            frame = Frame("street", seq, round(seq * 1e9 / FPS), image)
            packet = encoder.encode(frame, {TASK: regions(places(index))}, {TASK: KEY})
            sent[seq // day] += len(stream_packet_bytes(packet))
            plates[seq // day] += len(packet.plates)
            off.append(apart(encoder.composite, image))
            if (seq + 1) % day == 0:
                gc.collect()
                memory.append(kept_by_us())
    finally:
        tracemalloc.stop()
    assert sent[1] < 1.3 * sent[0]
    assert memory[1] < memory[0] + 2**19
    # The plate follows the light, which falls to 60 % and less under the cloud.
    assert min(plates) >= 3
    assert sorted(off)[len(off) * 9 // 10] < 12


def apart(composite: Composite, image: Image) -> float:
    return float(np.abs(composite.image.astype(int) - image).mean())


def test_the_light_of_a_day_falls_slowly_and_under_a_cloud_at_once() -> None:
    lights = [light_at(second, 600.0) for second in range(601)]
    assert lights[0] == lights[600] == 1.0
    steps = np.diff(lights)
    sudden = np.flatnonzero(np.abs(steps) > 0.05)
    assert list(sudden) == [360, 380]
    assert np.abs(np.delete(steps, sudden)).max() < 0.003
    assert 0.45 < min(lights) < 0.6
