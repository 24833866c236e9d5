"""The processor time that grounding, encoding and decoding a frame take, one thread, in one process.

    python -m benchmarks.frame_costs [--frames 34]

Processor time says what a frame costs also on a machine that does other work; `benchmarks.fleet` is given it. The
frames are of a simulated street, 640x352, at 5 a second, in stream mode for two tasks.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from actors.camera_coder import CameraCoder
from actors.job_decoder import JobDecoder
from actors.registry import KnownTask, load_tasks
from actors.stream_jobs import Item, JobPlanner
from discover_stream.codec.any_packet import any_packet_bytes
from discover_stream.codec.mode_policy import CoderSettings
from discover_stream.codec.model import load_codec
from discover_stream.codec.packet import task_key
from discover_stream.decode_options import DecodeOptions
from discover_stream.sdk import LazyDecoder
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.video.jpeg import encode_jpeg
from discover_stream.video.simulate import SimulatedCamera
from topics.messages import CameraState

FPS = 5.0
WARM = 2
"""Frames at the start that are not counted: the first brings the plate."""


def measured(count: int) -> dict[str, float]:
    """Seconds of a core by kind of work; kbit/s of the packets, and kB of a frame on its way to encoding."""
    torch.set_num_threads(1)
    tasks = tuple(
        KnownTask(task, task_key(task.name, task.label_set.version)) for task in load_tasks(["vehicles", "pedestrians"])
    )
    camera = SimulatedCamera("road", width=640, height=352, fps=FPS, seed=1)
    frames = [camera.render(number)[0] for number in range(count)]
    grounder, coder = (
        NanoGrounder.load(),
        CameraCoder(load_codec(), CoderSettings("stream", 4, None, FPS), CameraState()),
    )
    ground, encode, decode, packets = [], [], [], []
    for frame in frames:
        began = time.process_time()
        (found,) = grounder.ground([frame.image], tuple(task.labels for task in tasks))
        between = time.process_time()
        packets.append(coder.code(frame, tasks, found, fps=FPS))
        any_packet_bytes(packets[-1])
        ended = time.process_time()
        ground.append(between - began)
        encode.append(ended - between)
    decoder = JobDecoder(LazyDecoder().get)
    planner = JobPlanner(lambda name, number: (), lambda first: (), session="costs", stretch=4)
    items = (Item("road", packet, frame.capture_ns) for packet, frame in zip(packets, frames, strict=True))
    for job in planner.jobs(items):
        began = time.process_time()
        pictures = decoder.decode(job, DecodeOptions())
        decode.append((time.process_time() - began) / len(pictures))
    size = sum(len(any_packet_bytes(packet)) for packet in packets[WARM:])
    return {
        "ground_s": statistics.mean(ground[WARM:]),
        "encode_s": statistics.mean(encode[WARM:]),
        "jitter": statistics.pstdev(encode[WARM:]) / statistics.mean(encode[WARM:]),
        "decode_s": statistics.mean(decode[1:]),
        "kbps": size * 8 * FPS / (count - WARM) / 1000,
        "frame_kb": statistics.mean(len(encode_jpeg(frame.image)) for frame in frames) / 1000,
    }


def main() -> None:
    """Print them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=34)
    found = measured(parser.parse_args().frames)
    print(json.dumps({key: round(value, 4) for key, value in found.items()}, indent=1))


if __name__ == "__main__":
    main()
