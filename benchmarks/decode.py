"""How long the generative decoder takes, from latents to pixels: whole pictures, and only what is active in them.

    python -m benchmarks.decode [--model nano|sd21] [--sizes 360 720 1080] [--steps 1 4 8 50] [--threads 2] [--rounds 5]
        [--seed 3]

Pictures are frames of a simulated street; active are the cells that its moving objects touch, and what surrounds them
is the last picture. Rows, per size and number of steps:

* `whole ms` and `region ms`: one picture at a time. First CPU time (all threads together; on a busy machine it says
  more than the clock), then wall time; medians, whole and region taking turns;
* `batch ms`: CPU time a picture where 8 frames are rendered together, active cells only;
* `x`: whole over region, and over batch, in CPU time;
* `dB`: of the region against the whole picture, inside what is active.

`nano` are the shipped weights, on the CPU. `sd21` has the sizes of Stable Diffusion 2.1-base and random weights: its
times mean something, its pictures do not. It runs in bfloat16 on a GPU and is refused without one.
Profiles differ in their number of steps only (`generation.render.PLANS`): a row holds for each that takes so many.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from discover_stream.app.evaluate_run import facts
from discover_stream.codec.model import shipped_weights
from discover_stream.config_decoding import Hardware
from discover_stream.evaluation.datasets import VISIBLE
from discover_stream.generation.canvas import Canvas
from discover_stream.generation.generators import ControlGenerator
from discover_stream.generation.hardware import on_hardware
from discover_stream.generation.norms import measure_norms, write_norms
from discover_stream.generation.picture_decoder import KlDecoder
from discover_stream.generation.render import PLANS, Renderer, RenderJob
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.vae import encode_picture
from discover_stream.generation.windows import Field, Window
from discover_stream.types import CELL, Box, InputError, Provenance
from discover_stream.video.simulate import SimulatedCamera, TrueObject

WIDTHS = {360: 640, 720: 1280, 1080: 1920}
FRAMES, FIRST, APART = 8, 50, 4
ENOUGH_SECONDS = 12.0
"""A row is measured no more often once it has taken so long."""


def stable(folder: Path, graphs: bool) -> Renderer:
    """Stable Diffusion 2.1's sizes with random weights, on a GPU, with fixed norms.

    Raises:
        InputError: there is no GPU.
    """
    from discover_stream.training.config_models import StableWidths
    from discover_stream.training.stable import random_diffusion, random_vae

    if not torch.cuda.is_available():
        raise InputError("sd21 is measured on a GPU and there is none here; leave it out")
    torch.manual_seed(0)
    diffusion, vae = random_diffusion(StableWidths()), random_vae(StableWidths()).requires_grad_(False).eval()
    generator, decoder = ControlGenerator(diffusion), KlDecoder(vae)
    latent = torch.randn(1, 4, 64, 64)

    def run(timestep: int) -> None:
        generator.probe(latent, torch.ones(1, 1, 64, 64), torch.randn_like(latent), timestep)
        decoder.decode(latent, Window(0, 0, 64, 64))

    with torch.inference_mode():
        networks = {**generator.networks, **decoder.networks}
        write_norms(folder / "norms.safetensors", measure_norms(networks, run, (999, 0)))
    renderer = Renderer.of(generator, decoder, folder / "norms.safetensors")
    return on_hardware(renderer, Hardware("cuda", bfloat16=True, graphs=graphs))


def street(renderer: Renderer, height: int, seed: int) -> list[RenderJob]:
    """Frames of a street: what its VAE makes of them, all received, and what moves in them active."""
    width = WIDTHS[height]
    camera = SimulatedCamera("street", seed=seed, width=width, height=height)
    rows, columns = -(-height // CELL), -(-width // CELL)
    jobs, last = [], None
    for seq in range(FIRST, FIRST + APART * FRAMES, APART):
        frame, objects = camera.render(seq)
        padded = np.pad(frame.image, ((0, -height % 64), (0, -width % 64), (0, 0)), mode="edge")
        picture = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            nano = renderer.decoder.channels != 4
            latent = (
                encode_picture(renderer.vae, picture)
                if nano
                else torch.randn(1, 4, *(s // 8 for s in padded.shape[:2]))
            )
        _, before = camera.render(seq - 1)
        active = moving(objects, {thing.track: thing.box for thing in before}, width, height)
        sent = np.full((rows, columns), Provenance.SENT, np.uint8)
        last = frame.image if last is None else last
        canvas = Canvas(last, np.full((rows, columns), Provenance.PLATE, np.uint8), active)
        jobs.append(RenderJob(latent, sent, width, height, "street", canvas=canvas))
        last = frame.image
    return jobs


def moving(things: Sequence[TrueObject], before: Mapping[int, Box], width: int, height: int) -> Field:
    """The cells (rows, columns) of what shows and has moved by more than half a pixel since the frame before."""
    active = np.zeros((-(-height // CELL), -(-width // CELL)), bool)
    for thing in things:
        old, box = before.get(thing.track), thing.box.clipped(width, height)
        if thing.visible <= VISIBLE or (old is not None and abs(old.x0 - box.x0) + abs(old.y0 - box.y0) <= 0.5):
            continue
        rows = slice(int(box.y0) // CELL, -(-math.ceil(box.y1) // CELL))
        active[rows, int(box.x0) // CELL : -(-math.ceil(box.x1) // CELL)] = True
    return active


def timed(works: Sequence[Callable[[], object]], rounds: int) -> list[tuple[float, float]]:
    """Median CPU and wall time of works that take turns, in ms; the first turn warms up and does not count."""
    times: list[list[tuple[float, float]]] = [[] for _ in works]
    began = time.perf_counter()
    for turn in range(rounds + 1):
        for work, found in zip(works, times, strict=True):
            cpu, wall = time.process_time(), time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            found.append((time.process_time() - cpu, time.perf_counter() - wall))
        if turn and time.perf_counter() - began > ENOUGH_SECONDS:
            break
    counted = [found[1:] for found in times]
    return [
        (1000 * statistics.median(c for c, _ in found), 1000 * statistics.median(w for _, w in found))
        for found in counted
    ]


def row(renderer: Renderer, jobs: Sequence[RenderJob], steps: int, rounds: int) -> list[str]:
    """A row of the table."""
    plan, one = SamplePlan(steps), jobs[FRAMES // 2]
    whole = dataclasses.replace(one, canvas=None)
    works: list[Callable[[], object]] = [
        lambda: renderer.render_many([whole], plan),
        lambda: renderer.render_many([one], plan),
        lambda: renderer.render_many(jobs, plan),
    ]
    (all_cpu, all_wall), (cpu, wall), (batch, batch_wall) = timed(works, rounds)
    batch, batch_wall = batch / len(jobs), batch_wall / len(jobs)
    canvas = one.canvas
    assert canvas is not None
    seen = canvas.active.repeat(CELL, 0).repeat(CELL, 1)[: one.height, : one.width]
    both = [renderer.render_many([job], plan)[0].image[seen].astype(float) for job in (whole, one)]
    decibels = 10 * np.log10(255**2 / max(float(np.square(both[0] - both[1]).mean()), 1e-9))
    return [
        f"{one.height}p",
        str(steps),
        f"{100 * canvas.active.mean():.1f} %",
        f"{all_cpu:.0f} / {all_wall:.0f}",
        f"{cpu:.1f} / {wall:.1f}",
        f"{batch:.1f} / {batch_wall:.1f}",
        f"{1000 / all_wall:.2g}",
        f"{1000 / wall:.3g}",
        f"{1000 / batch_wall:.3g}",
        f"{all_cpu / cpu:.2f}",
        f"{all_cpu / batch:.2f}",
        f"{decibels:.1f}",
    ]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("nano", "sd21"), default="nano")
    parser.add_argument("--weights", type=Path, default=shipped_weights())
    parser.add_argument("--sizes", type=int, nargs="*", choices=list(WIDTHS), default=list(WIDTHS))
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 4, 8, 50])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--graphs", action="store_true", help="sd21: replay calls as CUDA graphs")
    parser.add_argument("--seed", type=int, default=3, help="of the street: how much of it moves differs")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with TemporaryDirectory() as folder:
        renderer = stable(Path(folder), given.graphs) if given.model == "sd21" else Renderer.load(given.weights)
    known = facts(None)
    profiles = ", ".join(f"{profile} {plan.steps}" for profile, plan in PLANS.items())
    print(f"{known['machine']}, {given.threads} threads, torch {torch.__version__}, {date.today()}")
    print(f"load {os.getloadavg()}")
    print(f"{given.model}; steps of the profiles: {profiles}; ms are CPU / wall, pictures/s by the clock\n")
    titles = (
        "size",
        "steps",
        "active",
        "whole ms",
        "region ms",
        "batch ms",
        "whole/s",
        "region/s",
        "batch/s",
        "x",
        "x batch",
        "dB",
    )
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|")
    for height in given.sizes:
        jobs = street(renderer, height, given.seed)
        for steps in given.steps:
            print("| " + " | ".join(row(renderer, jobs, steps, given.rounds)) + " |", flush=True)
    print(f"\nload at the end {os.getloadavg()}")


if __name__ == "__main__":
    main()
