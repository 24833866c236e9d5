"""A codec ready to use: networks, exact scales, tables, and the hash that packets name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from discover_stream.codec.entropy import SymbolCoder, SymbolTables
from discover_stream.codec.exact import SCALE_LEVELS
from discover_stream.codec.exact_scales import ExactContextScales, export_scales
from discover_stream.codec.scales import ContextScales
from discover_stream.codec.transforms import TransformConfig, Transforms
from discover_stream.types import InputError

HASH_BYTES = 3
MODEL_FILE = "codec.safetensors"
STRUCTURE = "conditional-1"
"""What a weights file calls this structure."""


@dataclass(frozen=True)
class CodecModel:
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


def shipped_weights() -> Path:
    """Folder of the `nano` weights inside the installed package."""
    return Path(str(resources.files("discover_stream") / "weights" / "nano"))


def table_tensors(name: str, tables: SymbolTables) -> dict[str, Tensor]:
    """Tables as a weights file holds them, under `name`."""
    parts = {"frequencies": tables.frequencies, "lengths": tables.lengths, "offsets": tables.offsets}
    return {f"{name}.{part}": torch.from_numpy(values.astype(np.int32)) for part, values in parts.items()}


def tables_in(tensors: Mapping[str, Tensor], name: str, count: int) -> SymbolTables:
    """The `count` tables that a weights file holds under `name`.

    Raises:
        ValueError: there are more or fewer, or they are no probability tables.
        KeyError: there are none.
    """
    frequencies, lengths, offsets = (tensors[f"{name}.{part}"] for part in ("frequencies", "lengths", "offsets"))
    if not len(frequencies) == len(lengths) == len(offsets) == count:
        raise ValueError(f"{len(frequencies)} tables for {name}, {count} are needed")
    return SymbolTables(frequencies.numpy(), lengths.numpy(), offsets.numpy())


def write_codec(
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


def load_codec(path: Path | None = None) -> CodecModel:
    """Load a codec; without a path, the shipped `nano` one.

    Raises:
        InputError: the file is missing, damaged, or of another structure.
    """
    file = path if path is not None else shipped_weights() / MODEL_FILE
    try:
        digest = hashlib.sha256(file.read_bytes()).digest()
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{file}: no codec weights here; reinstall the package or name a file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file}: not readable as codec weights ({error}); fetch the file again") from None
    try:
        return _assemble(metadata, tensors, digest)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{file}: weights of another structure ({reason}); use the version they were made for"
        ) from None


def _assemble(metadata: dict[str, str], tensors: dict[str, Tensor], digest: bytes) -> CodecModel:
    if metadata.get("structure") != STRUCTURE:
        raise ValueError(f"it is {metadata.get('structure', 'not named')!r}, not {STRUCTURE!r}")
    config: dict[str, Any] = json.loads(metadata["config"])
    config["groups"] = tuple(config["groups"])
    network = Transforms(TransformConfig(**config))
    weights = {k.removeprefix("network."): v.float() for k, v in tensors.items() if k.startswith("network.")}
    network.load_state_dict(weights, strict=True)
    network.requires_grad_(False).eval()
    scales = {k.removeprefix("scales."): v for k, v in tensors.items() if k.startswith("scales.")}
    wanted = export_scales(ContextScales(network.config))
    if {k: v.shape for k, v in scales.items()} != {k: v.shape for k, v in wanted.items()}:
        raise ValueError("its exact branch has other layers")
    return CodecModel(
        network=network.to(memory_format=torch.channels_last),
        scales=ExactContextScales(scales, network.config.groups),
        y_coder=SymbolCoder(tables_in(tensors, "y", SCALE_LEVELS)),
        z_coder=SymbolCoder(tables_in(tensors, "z", network.config.z_channels)),
        medians=tensors["medians"].view(network.config.z_channels, 1, 1),
        digest=digest,
        latent_space=metadata.get("latent_space", ""),
    )
