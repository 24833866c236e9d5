"""Whether the diffusion step earns its place: the same packets decoded with and without parts of the decoder.

    python -m benchmarks.decode_matters --data ../shared/data
        [--items suburb "street seed 3"] [--frames 8] [--quality 4] [--steps 8] [--weights FOLDER]

Every row decodes the same still-mode packets, of the task's boxes as the shipped grounder finds them, of `--frames`
frames a second apart, as far as the item goes: second halves of clips that were trained on, simulated streets with
seeds that no training uses. Rows:

* `1 step`, `N steps`: as shipped, and with more;
* `1 step, free`: what was sent may change as much as the step wants, instead of staying as it came;
* `not generated`: `--no-generate`, the diffusion left out everywhere;
* `control 0`: the generator without what steers it (the shipped denoiser: without what it adds, which is z_c^ as is);
* `shuffled`: z_c^ with its places exchanged at random, all else as in `1 step`;
* `1 step, region`: rendered into the picture that `not generated` gives, only where cells were sent.

Columns: AP50 and F1 of the judge, deep-feature distance of the whole picture and inside objects, PSNR inside objects,
the share of frames with an invention and with `score` (the decoder's own invention score) of at least 0.5, and the mean
change of sent and generated latents, and milliseconds of CPU time a frame (decoding and looking for inventions; a first
row also loads what is loaded late). Clips have no truth: the judge's own boxes on the originals serve.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from discover_stream.app.evaluate_run import Loader, facts, load_judges
from discover_stream.codec.model import shipped_weights
from discover_stream.codec.packet import parse_packet
from discover_stream.decoded import DecodedFrame
from discover_stream.decoding import FrameDecoder
from discover_stream.evaluation.datasets import Item, chosen, video_items
from discover_stream.evaluation.experiments.modes import FREE
from discover_stream.evaluation.measures import Originals, measure
from discover_stream.evaluation.ours import OursStill
from discover_stream.evaluation.systems import Coded, Decoded
from discover_stream.generation.canvas import Canvas
from discover_stream.generation.render import Rendered, Renderer, RenderJob
from discover_stream.generation.sampling import SamplePlan
from discover_stream.types import Provenance

FPS = 1.0


@dataclasses.dataclass(frozen=True)
class VariedRenderer(Renderer):
    """A renderer with something about it changed.

    Attributes:
        control: see `SamplePlan`.
        shuffled: exchange the places of z_c^.
        region: render only where cells were sent, into the picture without diffusion.
    """

    control: float = 1.0
    shuffled: bool = False
    region: bool = False

    def render_many(self, jobs: Sequence[RenderJob], plan: SamplePlan, *, generate: bool = True) -> list[Rendered]:
        """See `Renderer.render_many`."""
        if self.shuffled:
            jobs = [dataclasses.replace(job, latent=mixed(job.latent)) for job in jobs]
        if self.region:
            plain = super().render_many(jobs, plan, generate=False)
            jobs = [
                dataclasses.replace(
                    job, canvas=Canvas(one.image, one.provenance, one.provenance == int(Provenance.SENT))
                )
                for job, one in zip(jobs, plain, strict=True)
            ]
        return super().render_many(jobs, dataclasses.replace(plan, control=self.control), generate=generate)


def mixed(latent: Tensor) -> Tensor:
    """A latent (1, L, h, w) with its places in a fixed random order."""
    order = torch.randperm(latent.shape[2] * latent.shape[3], generator=torch.Generator().manual_seed(0))
    return latent.flatten(2)[:, :, order].view_as(latent)


def varied(decoder: FrameDecoder, **changes: float | bool) -> FrameDecoder:
    """A decoder with a varied renderer."""
    own = {field.name: getattr(decoder.renderer, field.name) for field in dataclasses.fields(Renderer)}
    return dataclasses.replace(decoder, renderer=VariedRenderer(**own, **changes))  # type: ignore[arg-type]


def variants(decoder: FrameDecoder, steps: int) -> dict[str, Callable[[bytes, str], DecodedFrame]]:
    """How each row decodes a packet of a camera."""

    def by(one: FrameDecoder, steps: int = 1, generate: bool = True) -> Callable[[bytes, str], DecodedFrame]:
        return lambda data, camera: one.decode(parse_packet(data), camera=camera, steps=steps, generate=generate)

    return {
        "1 step": by(decoder),
        f"{steps} steps": by(decoder, steps),
        "1 step, free": by(dataclasses.replace(decoder, renderer=dataclasses.replace(decoder.renderer, bounds=FREE))),
        "not generated": by(decoder, generate=False),
        "control 0": by(varied(decoder, control=0.0)),
        "shuffled": by(varied(decoder, shuffled=True)),
        "1 step, region": by(varied(decoder, region=True)),
    }


def row(originals: Originals, coded: Coded, decode: Callable[[bytes, str], DecodedFrame], judge: str) -> list[str]:
    """The figures of a variant."""
    began = time.process_time()
    frames = [decode(chunk.data, str(coded.notes["camera"])) for chunk in coded.chunks]
    cost = 1000 * (time.process_time() - began) / len(frames)
    decoded = Decoded(tuple(frame.image for frame in frames), tuple(frame.provenance for frame in frames))
    found = measure(originals, decoded)
    names = ("AP50 [{}]", "F1 [{}]", "distance", "distance inside", "PSNR inside", "inventions [{}]")
    cells = [f"{found[name.format(judge)]:.3f}" if name.format(judge) in found else "" for name in names]
    sure = [frame.invention is not None and frame.invention >= 0.5 for frame in frames]
    changes = [[frame.changed[kind] for frame in frames if kind in frame.changed] for kind in ("sent", "generated")]
    means = [f"{np.mean(values):.4f}" if values else "" for values in changes]
    return [*cells, f"{np.mean(sure):.3f}", *means, f"{cost:.0f}"]


def table(item: Item, originals: Originals, decoder: FrameDecoder, given: argparse.Namespace) -> None:
    """Print an item's table."""
    (clip,) = item.clips
    coded = OursStill(given.quality, decoder=lambda weights: decoder).encode(clip)
    judge = next(iter(originals.judges.detectors))
    titles = [
        "decoded",
        "AP50",
        "F1",
        "distance",
        "in",
        "PSNR in",
        "inventions",
        "score >= .5",
        "sent",
        "generated",
        "ms",
    ]
    print(f"\n{item.spec.name} ({item.spec.group}), {len(clip.frames)} frames\n")
    print("| " + " | ".join(titles) + " |\n" + "|---" * len(titles) + "|", flush=True)
    for name, decode in variants(decoder, given.steps).items():
        print("| " + " | ".join([name, *row(originals, coded, decode, judge)]) + " |", flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--items", nargs="*", default=["suburb", "topdown", "street seed 3"])
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--quality", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--judge", action="append", default=[])
    parser.add_argument("--weights", type=Path, default=shipped_weights())
    given = parser.parse_args()
    torch.set_num_threads(1)
    judges = load_judges(given.data, tuple(given.judge), 1)
    load = Loader(judges)
    decoder = FrameDecoder.load(given.weights, inventions=True)
    known = facts(judges)
    print(f"{known['machine']}, 1 thread, {date.today()}, load {os.getloadavg()}")
    print(f"quality {given.quality}, {judges.identity()}")
    for spec in chosen(video_items(given.data, given.frames / FPS, FPS, "grounder"), given.items):
        item = load(spec)
        table(item, Originals(item, judges), decoder, given)
    print(f"\n{time.process_time():.0f} s of CPU time, load at the end {os.getloadavg()}")


if __name__ == "__main__":
    main()
