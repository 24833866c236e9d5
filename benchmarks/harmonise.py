"""Whether the diffusion step helps composites of stream mode: the same packets with and without it.

    python -m benchmarks.harmonise --data ../shared/data
        [--items suburb "street seed 3"] [--seconds 3] [--fps 5] [--quality 4] [--steps 1 4 8]

Every row decodes the same stream-mode packets, of the boxes that the shipped grounder finds:

* `composed`: as stream mode shows them;
* `harmonised, N steps`: with what N steps change in cells that were carried over (`generation.harmonise`);
* `through the VAE`: those cells encoded and decoded without any step, which is what harmonising does not do.

Columns: AP50 and F1 of the judge, deep-feature distance of the whole picture and inside objects, PSNR inside objects
and in the cells that were carried over, the share of frames with an invention, flicker (levels), the mean change of
carried-over latents, and milliseconds of CPU time a frame for the step.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch

from discover_stream.app.evaluate_run import Loader, facts, load_judges
from discover_stream.codec.model import shipped_weights
from discover_stream.codec.stream_encoder import StreamSettings
from discover_stream.evaluation.datasets import Item, chosen, video_items
from discover_stream.evaluation.flicker import flicker
from discover_stream.evaluation.measures import Originals, measure
from discover_stream.evaluation.ours_stream import MODEL, OursStream
from discover_stream.evaluation.systems import Decoded
from discover_stream.generation.canvas import Canvas
from discover_stream.generation.harmonise import HARMONISED, Composed, harmonise, latent_of
from discover_stream.generation.render import Renderer, RenderJob
from discover_stream.generation.sampling import SamplePlan
from discover_stream.generation.sheets import Rendered
from discover_stream.types import CELL, Image, Provenance

Step = Callable[[Composed], Rendered]


def through_vae(renderer: Renderer, picture: Composed) -> Rendered:
    """A composite whose carried-over cells went through the VAE, and nothing else."""
    height, width = picture.image.shape[:2]
    active = np.isin(picture.provenance, [int(kind) for kind in HARMONISED])
    canvas = Canvas(picture.image, picture.provenance, active)
    latent = latent_of(renderer.decoder, picture.image)
    job = RenderJob(latent, picture.provenance, width, height, picture.camera, picture.plate, canvas=canvas)
    return renderer.render_many([job], SamplePlan(1), generate=False)[0]


def carried_psnr(originals: Sequence[Image], decoded: Decoded) -> float:
    """PSNR in the cells that were carried over, over all frames."""
    errors = []
    for truth, image, cells in zip(originals, decoded.frames, decoded.provenance or (), strict=True):
        here = (cells == Provenance.PROPAGATED).repeat(CELL, 0).repeat(CELL, 1)[: truth.shape[0], : truth.shape[1]]
        errors.append(np.square(truth[here].astype(np.float64) - image[here]).ravel())
    every = np.concatenate(errors)
    return float(10 * np.log10(255**2 / max(every.mean(), 1e-9))) if every.size else float("nan")


def row(
    originals: Originals, frames: Sequence[Image], composed: Sequence[Composed], step: Step, judge: str
) -> list[str]:
    """The figures of a variant."""
    began = time.process_time()
    pictures = [step(one) for one in composed]
    cost = 1000 * (time.process_time() - began) / len(pictures)
    decoded = Decoded(tuple(one.image for one in pictures), tuple(one.provenance for one in pictures))
    found = measure(originals, decoded)
    names = ("AP50 [{}]", "F1 [{}]", "distance", "distance inside", "PSNR inside", "inventions [{}]")
    cells = [f"{found[name.format(judge)]:.3f}" if name.format(judge) in found else "" for name in names]
    changes = [one.changed["propagated"] for one in pictures if "propagated" in one.changed]
    cells[5:5] = [f"{carried_psnr(frames, decoded):.2f}"]
    changed = f"{np.mean(changes):.4f}" if changes else ""
    return [*cells, f"{flicker(frames, decoded.frames):.2f}", changed, f"{cost:.0f}"]


def table(item: Item, originals: Originals, renderer: Renderer, given: argparse.Namespace) -> None:
    """Print an item's table."""
    (clip,) = item.clips
    system = OursStream(StreamSettings(MODEL, quality=given.quality))
    shown = system.decode(system.encode(clip))
    composed = [
        Composed(clip.name, image, cells) for image, cells in zip(shown.frames, shown.provenance or (), strict=True)
    ]
    share = np.mean([(one.provenance == Provenance.PROPAGATED).mean() for one in composed])
    judge = next(iter(originals.judges.detectors))
    titles = "decoded | AP50 | F1 | distance | in | PSNR in | PSNR carried | inventions | flicker | changed | ms"
    print(
        f"\n{item.spec.name} ({item.spec.group}), {len(composed)} frames, {100 * share:.1f} % of cells carried over\n"
    )
    print(f"| {titles} |\n" + "|---" * (titles.count("|") + 1) + "|", flush=True)
    steps: dict[str, Step] = {"composed": lambda one: Rendered(one.image, one.provenance)}
    for number in given.steps:
        steps[f"harmonised, {number} steps"] = lambda one, n=number: harmonise(renderer, [one], SamplePlan(n))[0]  # type: ignore[misc]
    steps["through the VAE"] = lambda one: through_vae(renderer, one)
    for name, step in steps.items():
        print("| " + " | ".join([name, *row(originals, clip.frames, composed, step, judge)]) + " |", flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--items", nargs="*", default=["suburb", "street seed 3"])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--fps", type=float, default=5.0)
    parser.add_argument("--quality", type=int, default=4)
    parser.add_argument("--steps", type=int, nargs="*", default=[1, 4, 8])
    parser.add_argument("--weights", type=Path, default=shipped_weights())
    given = parser.parse_args()
    torch.set_num_threads(1)
    judges = load_judges(given.data, (), 1)
    load = Loader(judges)
    renderer = Renderer.load(given.weights)
    print(f"{facts(judges)['machine']}, 1 thread, {date.today()}, load {os.getloadavg()}")
    print(f"quality {given.quality}, {judges.identity()}")
    for spec in chosen(video_items(given.data, given.seconds, given.fps, "grounder"), given.items):
        item = load(spec)
        table(item, Originals(item, judges), renderer, given)
    print(f"\n{time.process_time():.0f} s of CPU time, load at the end {os.getloadavg()}")


if __name__ == "__main__":
    main()
