"""The conditional codec ready to use: networks, exact scales, tables, and the hash that packets name."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from discover_stream.codec.entropy import SymbolCoder, SymbolTables
from discover_stream.codec.exact import SCALE_LEVELS
from discover_stream.codec.exact_scales import ExactContextScales
from discover_stream.codec.model import HASH_BYTES, table_tensors, tables_in
from discover_stream.codec.transforms import TransformConfig, Transforms
from discover_stream.types import InputError

STRUCTURE = "conditional-1"
"""What a weights file calls this structure."""


@dataclass(frozen=True)
class ConditionalModel:
    """A loaded codec.

    Attributes:
        network: float networks, in evaluation mode.
        scales: the exact branch.
        y_coder: coder of the symbols of y, one table per scale index.
        z_coder: coder of the symbols of z, one table per channel.
        medians: (N, 1, 1) float32, what symbol 0 of each channel of z stands for.
        digest: SHA-256 of the file; packets carry its first three bytes.
        latent_space: names the VAE whose latents it reads and writes, see `generation.vae.latent_space`.
    """

    network: Transforms = field(repr=False)
    scales: ExactContextScales
    y_coder: SymbolCoder
    z_coder: SymbolCoder
    medians: Tensor
    digest: bytes
    latent_space: str

    @property
    def short_hash(self) -> bytes:
        """The three bytes that packets carry."""
        return self.digest[:HASH_BYTES]


def write_conditional(
    path: Path,
    network: Transforms,
    scales: dict[str, Tensor],
    tables: tuple[SymbolTables, SymbolTables],
    medians: Tensor,
    *,
    latent_space: str,
) -> None:
    """Write everything that defines the bitstream and its decoding into one safetensors file.

    `scales` is what `export_scales` gives, `tables` those of y and of z. Float weights are stored in half
    precision: what is written is what both sides use.
    """
    tensors = {f"network.{k}": v.detach().half().contiguous() for k, v in network.state_dict().items()}
    tensors |= {f"scales.{k}": v.contiguous() for k, v in scales.items()}
    tensors |= table_tensors("y", tables[0]) | table_tensors("z", tables[1])
    tensors["medians"] = medians.detach().float().contiguous()
    metadata = {"structure": STRUCTURE, "config": json.dumps(asdict(network.config)), "latent_space": latent_space}
    save_file(tensors, path, metadata=metadata)


def load_conditional(path: Path) -> ConditionalModel:
    """Load a codec.

    Raises:
        InputError: the file is missing, damaged, or of another structure.
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).digest()
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path}: no codec weights here; name another file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not readable as codec weights ({error}); fetch the file again") from None
    try:
        return _assemble(metadata, tensors, digest)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{path}: weights of another structure ({reason}); use the version they were made for"
        ) from None


def _assemble(metadata: dict[str, str], tensors: dict[str, Tensor], digest: bytes) -> ConditionalModel:
    if metadata.get("structure") != STRUCTURE:
        raise ValueError(f"it is {metadata.get('structure', 'not named')!r}, not {STRUCTURE!r}")
    config: dict[str, Any] = json.loads(metadata["config"])
    config["groups"] = tuple(config["groups"])
    network = Transforms(TransformConfig(**config))
    weights = {k.removeprefix("network."): v.float() for k, v in tensors.items() if k.startswith("network.")}
    network.load_state_dict(weights, strict=True)
    network.requires_grad_(False).eval()
    scales = {k.removeprefix("scales."): v for k, v in tensors.items() if k.startswith("scales.")}
    return ConditionalModel(
        network=network.to(memory_format=torch.channels_last),
        scales=ExactContextScales(scales, network.config.groups),
        y_coder=SymbolCoder(tables_in(tensors, "y", SCALE_LEVELS)),
        z_coder=SymbolCoder(tables_in(tensors, "z", network.config.z_channels)),
        medians=tensors["medians"].view(network.config.z_channels, 1, 1),
        digest=digest,
        latent_space=metadata.get("latent_space", ""),
    )
