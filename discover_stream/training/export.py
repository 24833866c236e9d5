"""Put a trained codec on the integer grid and write the file that ships.

Stages do so when they end. By hand, for `nano` weights that were kept:
`python -m discover_stream.training.export runs/codec/codec-float.safetensors codec.safetensors --vae vae.safetensors`
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from safetensors.torch import load_file
from torch import Tensor

from discover_stream.codec.entropy import SymbolTables
from discover_stream.codec.exact import scale_table
from discover_stream.codec.exact_scales import export_scales
from discover_stream.codec.model import write_codec
from discover_stream.codec.transforms import TransformConfig
from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import latent_space
from discover_stream.training.conditional import TrainableConditional
from discover_stream.types import InputError


def tables_of(model: EntropyBottleneck | GaussianConditional) -> SymbolTables:
    """The integer tables of a CompressAI entropy model after its `update()`.

    CompressAI keeps cumulative counts: entries of a row up to its length, the last one the mass of
    everything beyond the table, which serves as the escape here.
    """
    cumulative = model.quantized_cdf.numpy()
    lengths = model.cdf_length.numpy() - 1
    frequencies = np.diff(cumulative, axis=1).astype(np.int32)
    for row, length in zip(frequencies, lengths, strict=True):
        row[length:] = 0
    return SymbolTables(frequencies, lengths.astype(np.int32), model.offset.numpy().astype(np.int32))


def export_codec(codec: TrainableConditional, path: Path, *, latent_space: str) -> None:
    """Write a codec as a shippable file; `latent_space` names the VAE it was trained for."""
    gaussian = GaussianConditional(scale_table())
    gaussian.update()
    codec.prior.update(force=True)
    write_codec(
        path,
        codec.network,
        export_scales(codec.scales),
        (tables_of(gaussian), tables_of(codec.prior)),
        codec.prior.quantiles[:, 0, 1].detach().view(-1, 1, 1),
        latent_space=latent_space,
    )


def load_trained(codec: TrainableConditional, state: Mapping[str, Tensor]) -> None:
    """Fill a codec from `codec-float.safetensors`.

    The prior's tables are left out: they follow from its parameters and their saved size may differ.

    Raises:
        InputError: weights are missing or of another structure.
    """
    kept = {key: value for key, value in state.items() if not key.startswith("prior._")}
    missing, unexpected = codec.load_state_dict(kept, strict=False)
    missing = [key for key in missing if not key.startswith("prior._")]
    if missing or unexpected:
        raise InputError(f"codec weights of another structure: missing {missing}, unexpected {unexpected}")


def main() -> None:
    """Read `codec-float.safetensors`, write `codec.safetensors`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--vae", type=Path, required=True)
    arguments = parser.parse_args()
    space = latent_space(load_vae(arguments.vae))
    state = load_file(arguments.source)
    with torch.no_grad():
        codec = TrainableConditional(TransformConfig())
        load_trained(codec, state)
        export_codec(codec, arguments.target, latent_space=space)


if __name__ == "__main__":
    main()
