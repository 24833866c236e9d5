"""What scales from integers, and context from an atom's own cells, cost against ELIC's context model.

    python -m benchmarks.context_cost --data ../shared/data --steps 1500 [--quality 5] [--out runs/context]

The transforms of the shipped codec stay as they are; only models of its y at one quality are trained, on the same
latents, in the same order, for the same number of steps, both starting from each channel's mean and deviation:

* *elic*: CompressAI's building blocks put together as in its ELIC, at our width. Means and scales come from float
  networks over the hyper features, earlier groups of channels and the checkerboard, and see the whole picture.
* *ours*: `codec.scales` (table numbers from integers alone) and `codec.network.ContextModel` (means), both of
  which see an atom's own cells only. It is trained on masks as subscribers see them.

Bits are counted on pictures of other sources (Kodak, CamVid), with the integer tables that a coder uses; for ours
by `codec.exact_scales`, as it decodes. Crops are parts of still frames: neither model knows a reference. z is the same
for both and not counted. A run that was stopped goes on where it was; latents and weights are kept under `--out`.
"""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch
from compressai.entropy_models import GaussianConditional
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    CheckerboardLatentCodec,
    GaussianConditionalLatentCodec,
)
from compressai.layers import CheckerboardMaskedConv2d
from compressai.models.utils import conv
from torch import Tensor, nn

from benchmarks.entropy_content import write_into
from discover_stream.codec.entropy import LIMIT, SymbolTables
from discover_stream.codec.exact import SCALE_LARGEST, SCALE_LEVELS, SCALE_SMALLEST, scale_table
from discover_stream.codec.exact_scales import ExactContextScales, export_scales
from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.network import ContextModel, checkerboard, hyper_synthesis
from discover_stream.codec.scales import STILL, ContextScales
from discover_stream.codec.still import analyse_still, picture_tensor
from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.compute import bf16_on_cpu
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.data import CropSampler, load_pictures, photographs
from discover_stream.training.export import tables_of
from discover_stream.training.loop import LoopConfig, Run
from discover_stream.training.masks import random_mask

log = logging.getLogger(__name__)

CROP, CELLS = 256, 16
QUALITIES = (2, 5, 8)
BATCH = 8
HIDDEN = 128
"""Width of hidden layers, ours and ELIC's."""

COMPRESSAI_SCALES = [float(value) for value in np.exp(np.linspace(np.log(0.11), np.log(256), 64))]
"""The scale table that CompressAI's models use unless told otherwise."""


@dataclass(frozen=True)
class Latents:
    """y' (n, M, 16, 16), symbols of z (n, N, 4, 4) and qualities (n,) of crops."""

    y: Tensor
    z: Tensor
    quality: Tensor


class Ours(TrainableConditional):
    """The codec's own pass over y (`TrainableConditional.passes`) without its transforms."""

    def __init__(self, config: TransformConfig) -> None:
        nn.Module.__init__(self)
        self._autocast = bf16_on_cpu
        self.h_s = hyper_synthesis(config.z_channels, config.hyper_channels)
        self.context = ContextModel(config.groups, config.hyper_channels)
        self.scales = ContextScales(config)

    def start(self, mean: Tensor, deviation: Tensor) -> None:
        """Begin with the mean and deviation of each channel, (M,)."""
        index = (deviation / SCALE_SMALLEST).log() / math.log(SCALE_LARGEST / SCALE_SMALLEST) * (SCALE_LEVELS - 1)
        self.scales.third.bias.copy_(index.clamp(0, SCALE_LEVELS - 1).repeat_interleave(16))
        for net, part in zip(self.context.nets, mean.split(self.context.groups), strict=True):
            cast(nn.Sequential, net)[-1].bias.copy_(part)

    @property
    def network(self) -> Any:
        """What `passes` looks for."""
        return SimpleNamespace(config=self.scales, context=self.context)

    def bits(self, batch: Latents, medians: Tensor, mask: Tensor) -> Tensor:
        """Bits of the masked cells, as training counts them (with uniform noise)."""
        base = self.scales.base(batch.z, batch.quality, torch.full_like(batch.quality, STILL))
        with bf16_on_cpu():
            psi = self.h_s(batch.z + medians)
        noise = torch.empty_like(batch.y).uniform_(-0.5, 0.5)
        return self.passes(batch.y, psi, base, mask, noise, noisy=False)[1].sum()


class Elic(nn.Module):
    """ELIC's space-channel context model (He et al., CVPR 2022) from CompressAI's parts, at our width."""

    def __init__(self, config: TransformConfig) -> None:
        super().__init__()
        hyper, groups = config.hyper_channels, config.groups
        self.h_s = hyper_synthesis(config.z_channels, hyper)
        channel = {
            f"y{k}": nn.Sequential(
                conv(sum(groups[:k]), HIDDEN, kernel_size=5, stride=1),
                nn.ReLU(inplace=True),
                conv(HIDDEN, HIDDEN // 2, kernel_size=5, stride=1),
                nn.ReLU(inplace=True),
                conv(HIDDEN // 2, groups[k] * 2, kernel_size=5, stride=1),
            )
            for k in range(1, len(groups))
        }
        codecs = {}
        for k, size in enumerate(groups):
            seen = hyper + 2 * size + (2 * size if k else 0)
            codecs[f"y{k}"] = CheckerboardLatentCodec(
                latent_codec={"y": GaussianConditionalLatentCodec(COMPRESSAI_SCALES, quantizer="ste")},
                context_prediction=CheckerboardMaskedConv2d(size, 2 * size, kernel_size=5, stride=1, padding=2),
                entropy_parameters=nn.Sequential(
                    nn.Conv2d(seen, HIDDEN, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(HIDDEN, HIDDEN, 1),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(HIDDEN, 2 * size, 1),
                ),
            )
        self.y = ChannelGroupsLatentCodec(groups=list(groups), channel_context=channel, latent_codec=codecs)

    def start(self, mean: Tensor, deviation: Tensor) -> None:
        """Begin with the mean and deviation of each channel, (M,)."""
        means, deviations = mean.split(self.y.groups), deviation.split(self.y.groups)
        for k, (own_mean, own_deviation) in enumerate(zip(means, deviations, strict=True)):
            self.y.latent_codec[f"y{k}"].entropy_parameters[-1].bias.copy_(torch.cat([own_deviation, own_mean]))

    def side(self, batch: Latents, medians: Tensor) -> Tensor:
        """Features of z, (B, hyper, 16, 16)."""
        return cast(Tensor, self.h_s(batch.z + medians))

    def bits(self, batch: Latents, medians: Tensor, mask: Tensor) -> Tensor:
        """Bits of the masked cells, as training counts them (with uniform noise)."""
        with bf16_on_cpu():
            likelihoods = self.y(batch.y, self.side(batch, medians))["likelihoods"]["y"]
        return (-likelihoods.float().clamp_min(1e-9).log2() * mask).sum()


def latents_of(model: CodecModel, crops: Iterator[tuple[np.ndarray, int]]) -> Latents:
    """What the codec's analysis makes of crops (256, 256, 3), each at a quality."""
    found: list[tuple[Tensor, Tensor, int]] = []
    for crop, quality in crops:
        with torch.no_grad():
            y, z = analyse_still(model, picture_tensor(crop))
            scaled = y * model.network.gain(torch.tensor([quality]))
        found.append((scaled[0], torch.from_numpy(z).float(), quality))
    return Latents(
        torch.stack([y for y, _, _ in found]),
        torch.stack([z for _, z, _ in found]),
        torch.tensor([quality for _, _, quality in found]),
    )


def cached(path: Path, model: CodecModel, crops: Iterator[tuple[np.ndarray, int]]) -> Latents:
    """`latents_of`, kept in a file."""
    if not path.exists():
        made = latents_of(model, crops)
        torch.save({"y": made.y, "z": made.z, "quality": made.quality}, path)
    return Latents(**torch.load(path, weights_only=True))


def of_quality(latents: Latents, quality: int) -> Latents:
    """Those of one quality."""
    rows = latents.quality == quality
    return Latents(latents.y[rows], latents.z[rows], latents.quality[rows])


def training_crops(data: Path, count: int) -> Iterator[tuple[np.ndarray, int]]:
    """Crops of training pictures, qualities in turn."""
    sampler = CropSampler(*load_pictures(data), crop=CROP, seed=3)
    for index in range(count):
        yield sampler.one(), QUALITIES[index % len(QUALITIES)]


def held_out_crops(data: Path) -> Iterator[tuple[np.ndarray, int]]:
    """Crops of pictures that shaped no weights, each at all qualities."""
    for folder in ("kodak", "camvid/images"):
        for picture in photographs(data / folder, 768):
            height, width = picture.shape[:2]
            for top in range(0, height - CROP + 1, CROP):
                for left in range(0, width - CROP + 1, CROP):
                    for quality in QUALITIES:
                        yield picture[top : top + CROP, left : left + CROP], quality


def fit(model: Ours | Elic, latents: Latents, medians: Tensor, out: Path, steps: int) -> None:
    """Train for so many steps, or what is left of them; the model then holds its averaged weights."""
    out.mkdir(parents=True, exist_ok=True)
    # The loop's clock counts steps here, so that all models see the same learning rates.
    run = Run(model, LoopConfig(out=out, minutes=steps / 60, learning_rate=1e-3, ema=0.99))
    with torch.no_grad():
        model.start(latents.y.mean(dim=(0, 2, 3)), latents.y.std(dim=(0, 2, 3)))
    run.resume()
    bits: list[float] = []
    while run.step < steps:
        run.used = float(run.step)
        random = np.random.default_rng(run.step)
        torch.manual_seed(run.step)
        chosen = torch.from_numpy(random.integers(0, len(latents.y), BATCH))
        batch = Latents(latents.y[chosen], latents.z[chosen], latents.quality[chosen])
        masks = np.stack([random_mask(random, CELLS) for _ in range(BATCH)])
        mask = torch.from_numpy(masks)[:, None] if isinstance(model, Ours) else torch.ones(BATCH, 1, CELLS, CELLS)
        rate = model.bits(batch, medians, mask) / (mask.sum().clamp_min(1) * 256)
        run.update(rate)
        bits.append(float(rate.detach()))
        if run.step % 100 == 0:
            log.info("%s: step %d, %.4f bits per pixel", out.name, run.step, np.mean(bits[-100:]))
            run.save()
    run.save()
    model.load_state_dict(run.average)
    model.eval()


def integer_bits(tables: SymbolTables, symbols: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Bits of every symbol with its integer table; escapes cost 16 bits more."""
    entries = symbols - tables.offsets[index]
    last = tables.lengths[index] - 1
    escaped = (entries < 0) | (entries >= last)
    counts = tables.frequencies[index, np.where(escaped, last, entries)]
    return np.where(escaped, 16.0, 0.0) + 16 - np.log2(np.maximum(counts, 1e-6))


@torch.inference_mode()
def count_ours(model: Ours, held: Latents, medians: Tensor, masks: Tensor) -> np.ndarray:
    """Bits (n,) of each crop's masked cells: means in fp32, table numbers in exact integers."""
    gaussian = GaussianConditional(scale_table())
    gaussian.update()
    tables = tables_of(gaussian)
    exact = ExactContextScales(export_scales(model.scales), model.context.groups)
    anchors = checkerboard(CELLS, CELLS, 0, 0)
    result = []
    for index in range(len(held.y)):
        y, z, mask = held.y[index : index + 1], held.z[index : index + 1], masks[index : index + 1]
        psi = model.h_s(z + medians)
        base = exact.base(z[0].numpy().astype(np.int64), int(held.quality[index]), STILL)
        sizes = np.zeros(y.shape[1:], dtype=np.int64)
        known, bits, start = torch.zeros_like(y), 0.0, 0
        for group, size in enumerate(model.context.groups):
            own = slice(start, start + size)
            for second in (False, True):
                cells = ((1 - anchors) if second else anchors) * mask
                mean = model.context.means(group, psi, known[:, : own.stop], mask, second=second)
                symbols = (y[:, own] - mean).round().clamp(1 - LIMIT, LIMIT - 1) * cells
                seen = sizes[: own.stop if second else own.start]
                which = exact.indices(base, group, second, seen).astype(np.int64)
                numbers = symbols[0].numpy().astype(np.int64)
                bits += float((integer_bits(tables, numbers, which) * cells[0, 0].numpy()).sum())
                known[:, own] += symbols + mean * cells
                sizes[own] += np.abs(numbers)
            start += size
        result.append(bits)
    return np.array(result)


@torch.inference_mode()
def count_elic(model: Elic, held: Latents, medians: Tensor, masks: Tensor) -> np.ndarray:
    """Bits (n,) of each crop's masked cells, the context seeing all cells of the crop."""
    gaussian = GaussianConditional(COMPRESSAI_SCALES)
    gaussian.update()
    tables = tables_of(gaussian)
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(_module: nn.Module, inputs: tuple[Tensor, ...], words: dict[str, Tensor], _output: object) -> None:
        seen.append((*inputs, words["means"]))  # type: ignore[arg-type]

    hooks = [
        part.register_forward_hook(keep, with_kwargs=True)
        for part in model.modules()
        if isinstance(part, GaussianConditional)
    ]
    result = []
    for index in range(len(held.y)):
        one = Latents(*(values[index : index + 1] for values in (held.y, held.z, held.quality)))
        seen.clear()
        model.y(one.y, model.side(one, medians))
        bits = 0.0
        for y, scales, means in seen:
            symbols = (y - means).round().numpy().astype(np.int64)
            which = gaussian.build_indexes(scales).numpy().astype(np.int64)
            bits += float((integer_bits(tables, symbols, which) * masks[index].numpy()).sum())
        result.append(bits)
    for hook in hooks:
        hook.remove()
    return np.array(result)


def report(ours: Ours, elic: Elic, held: Latents, medians: Tensor) -> list[str]:
    """The table of bits per pixel on held-out crops, as lines of Markdown."""
    random = np.random.default_rng(0)
    masks = {
        "all cells": torch.ones(len(held.y), 1, CELLS, CELLS),
        "masks as in training": torch.from_numpy(np.stack([random_mask(random, CELLS) for _ in held.y]))[:, None],
        "one box of 4x6 cells": torch.zeros(len(held.y), 1, CELLS, CELLS),
    }
    for box in masks["one box of 4x6 cells"]:
        top, left = random.integers(0, CELLS - 4), random.integers(0, CELLS - 6)
        box[:, top : top + 4, left : left + 6] = 1
    lines = [
        f"{count(ours):.2f} M parameters (ours) and {count(elic):.2f} M (elic); {len(held.y)} crops held out.",
        "",
        "| cells | elic, bits per pixel | ours, bits per pixel | cost |",
        "|---|---|---|---|",
    ]
    for name, mask in masks.items():
        theirs, own = count_elic(elic, held, medians, mask), count_ours(ours, held, medians, mask)
        pixels = float(mask.sum()) * 256
        left, right = theirs.sum() / pixels, own.sum() / pixels
        lines.append(f"| {name} | {left:.4f} | {right:.4f} | {right / left - 1:+.1%} |")
    return lines


def count(model: nn.Module) -> float:
    """Parameters of a model in millions."""
    return sum(parameter.numel() for parameter in model.parameters()) / 1e6


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/context"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--crops", type=int, default=1200)
    parser.add_argument("--quality", type=int, choices=QUALITIES, default=5)
    parser.add_argument("--docs", type=Path, help="a page whose table is to be replaced")
    parser.add_argument("--only", choices=("elic", "ours"), help="train this one, print nothing")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    codec = load_codec()
    name = codec.short_hash.hex()
    held = cached(arguments.out / f"held-{name}.pt", codec, held_out_crops(arguments.data))
    latents = cached(
        arguments.out / f"train-{name}-{arguments.crops}.pt", codec, training_crops(arguments.data, arguments.crops)
    )
    models: dict[str, Ours | Elic] = {}
    for kind, build in (("elic", Elic), ("ours", Ours)):
        if arguments.only in (None, kind):
            torch.manual_seed(1)
            models[kind] = build(codec.network.config)
            folder = arguments.out / f"{kind}-q{arguments.quality}-{arguments.steps}"
            fit(models[kind], of_quality(latents, arguments.quality), codec.medians[None], folder, arguments.steps)
    if arguments.only:
        return
    held = of_quality(held, arguments.quality)
    title = f"{arguments.steps} steps of {BATCH} crops, quality {arguments.quality}, codec {name};"
    table = report(cast(Ours, models["ours"]), cast(Elic, models["elic"]), held, codec.medians[None])
    lines = [f"{title} {table[0]}", *table[1:]]
    print("\n".join(lines))
    if arguments.docs:
        write_into(arguments.docs, {"context": lines})


if __name__ == "__main__":
    main()
