"""How long the nano grounder takes a picture, by the size of its input and by how the network is run.

    python -m benchmarks.grounder [--size 640x360] [--threads 1] [--rounds 15]

Prints a Markdown table of medians in milliseconds of CPU time (all threads together; on a busy machine it says more
than the clock) and of wall time. The ways of running take turns, round after round, so that other work on the
machine hits all alike. `whole` is what the product does: scale, run, threshold, suppress. With the packages `onnx`
and `onnxruntime` installed, onnxruntime is among them.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from discover_stream.semantics.detector import DetectOptions, detect, letterbox_plan, look_sides, preprocess, to_input
from discover_stream.semantics.grounder import NanoGrounder

SIDES = (512, 640, 768)
WARM_UP = 3


def ways(network: nn.Module, example: Tensor, threads: int) -> dict[str, Callable[[Tensor], object]]:
    """Ways to run the network on an input (1, 3, h, w), by name."""
    contiguous = copy.deepcopy(network).to(memory_format=torch.contiguous_format)
    half = copy.deepcopy(network).bfloat16()
    found: dict[str, Callable[[Tensor], object]] = {
        "torch, channels first": lambda x: contiguous(x.contiguous()),
        "torch, channels last (shipped)": network,
        "torch, channels last, bfloat16": lambda x: half(x.bfloat16()),
    }
    try:
        found["onnxruntime"] = _onnxruntime(contiguous, example.contiguous(), threads)
    except ImportError as error:
        sys.stderr.write(f"without onnxruntime: {error}\n")
    return found


def _onnxruntime(network: nn.Module, example: Tensor, threads: int) -> Callable[[Tensor], object]:
    import onnxruntime

    if find_spec("onnx") is None:
        raise ImportError("no module named 'onnx', which the export needs")
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            network, (example,), path, dynamo=False, input_names=["x"], dynamic_axes={"x": {2: "h", 3: "w"}}
        )
        model = path.read_bytes()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.contiguous().numpy()})


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds of CPU time and of wall time that a call takes."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return 1e3 * (time.process_time() - cpu), 1e3 * (time.perf_counter() - wall)


@torch.inference_mode()
def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the benchmark; returns the exit code."""
    parser = argparse.ArgumentParser(prog="benchmarks.grounder", description=__doc__)
    parser.add_argument("--size", default="640x360", help="of the pictures")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    width, height = (int(part) for part in args.size.split("x"))
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    network = NanoGrounder.load().network
    sys.stdout.write(f"{width}x{height} pixels, {args.threads} thread(s)\n\n| long side | way | CPU ms | wall ms |\n")
    sys.stdout.write("|---|---|---|---|\n")
    for side in SIDES:
        options = replace(DetectOptions(), long_side=side)
        plan = letterbox_plan(width, height, look_sides(width, height, options)[0])
        x = to_input(preprocess(picture, plan)[None])
        runs: dict[str, Callable[[], object]] = {
            name: partial(way, x) for name, way in ways(network, x, args.threads).items()
        }
        runs["whole"] = partial(detect, network, [picture], options)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(WARM_UP + args.rounds):
            for name, run in runs.items():
                times[name].append(timed(run))
        for name, rounds in times.items():
            cpu, wall = (statistics.median(one[n] for one in rounds[WARM_UP:]) for n in (0, 1))
            sys.stdout.write(f"| {side} | {name} | {cpu:.1f} | {wall:.1f} |\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
