"""The learned codec of stream mode with its networks: a codec and the VAE of its latents, by packet hash.

Encoders use the shipped one, or that of the folder which `DISCOVER_STREAM_CODEC` in the environment names
(`codec.safetensors` and `vae.safetensors`), where they are asked to; decoders find the codec that a packet names in
either.
"""

from __future__ import annotations

import os
from functools import cache, partial
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from discover_stream.types import BitstreamError, InputError

if TYPE_CHECKING:
    from diffusers import AutoencoderTiny

    from discover_stream.codec.latent_atoms import Autoencoder, LatentCodec

CODEC_FILE, VAE_FILE = "codec.safetensors", "vae.safetensors"
ALL_FILES = "codec*.safetensors"
"""Decoders look into all of these, for packets that were made with other weights."""
FOLDER_VARIABLE = "DISCOVER_STREAM_CODEC"


def codec_folders() -> tuple[Path, ...]:
    """Where codecs are looked for: the folder that is named, if one is, then that of the shipped weights."""
    named, shipped = os.environ.get(FOLDER_VARIABLE), Path(str(resources.files("discover_stream") / "weights" / "nano"))
    return (Path(named), shipped) if named else (shipped,)


def load_learned(file: Path) -> LatentCodec:
    """The codec in a weights file, with the VAE beside it.

    Raises:
        InputError: a file is missing, damaged, or of another structure, or the two do not belong together.
    """
    # Most streams have no such atoms, and who reads these loads no networks.
    from discover_stream.codec.latent_atoms import LatentCodec
    from discover_stream.codec.model import load_codec
    from discover_stream.generation.render import load_vae
    from discover_stream.generation.vae import latent_space

    model, vae = load_codec(file), load_vae(file.with_name(VAE_FILE))
    space = latent_space(vae)
    if model.latent_space != space:
        raise InputError(
            f"{file}: it was trained for the latents of another autoencoder"
            f" ({model.latent_space or 'not named'}, not {space}); put the {VAE_FILE} beside it that it was trained for"
        )
    return LatentCodec(model, autoencoder(vae))


def autoencoder(vae: AutoencoderTiny) -> Autoencoder:
    """A VAE as the codec takes it."""
    from discover_stream.codec.latent_atoms import Autoencoder
    from discover_stream.generation.vae import decode_latent, encode_picture

    return Autoencoder(partial(encode_picture, vae), partial(decode_latent, vae))


@cache
def _learned(file: Path, modified_ns: int) -> LatentCodec:
    return load_learned(file)


@cache
def _digest(file: Path, modified_ns: int) -> bytes:
    """SHA-256 of a weights file: every packet with learned atoms asks for it."""
    return sha256(file.read_bytes()).digest()


def learned_codec() -> LatentCodec:
    """The codec that encoders use, loaded once a process.

    Raises:
        InputError: the named folder holds none, or weights that are not usable.
    """
    folder = codec_folders()[0]
    file = folder / CODEC_FILE
    try:
        modified_ns = file.stat().st_mtime_ns
    except FileNotFoundError:
        raise InputError(
            f"{folder}: there is no {CODEC_FILE} in it; point {FOLDER_VARIABLE} elsewhere or unset it"
        ) from None
    return _learned(file, modified_ns)


def learned_painter(model: bytes) -> LatentCodec:
    """The codec that a packet names (`painter.Painters`). Raises BitstreamError where it is not at hand."""
    folders = codec_folders()
    try:
        for file in [file for folder in folders for file in sorted(folder.glob(ALL_FILES))]:
            modified_ns = file.stat().st_mtime_ns
            if _digest(file, modified_ns)[: len(model)] == model:
                return _learned(file, modified_ns)
    except InputError as error:
        raise BitstreamError(str(error)) from None
    searched = " or ".join(map(str, folders))
    raise BitstreamError(
        f"it has atoms of the learned codec with model {model.hex()}, which is not in {searched}; put that model's"
        f" {CODEC_FILE} and {VAE_FILE} into a folder and name it in {FOLDER_VARIABLE}"
    )
