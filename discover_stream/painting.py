"""The learned codec of stream mode with its networks: the conditional codec and the VAE of its latents, by packet hash.

It is at hand where a weights folder holds `conditional.safetensors` beside the VAE; encoders then use it where it is
smaller than AV1, and decoders where a packet has an atom of it. The shipped folder is the one that is looked into;
`DISCOVER_STREAM_CONDITIONAL` in the environment names another.
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

CONDITIONAL_FILE, VAE_FILE = "conditional.safetensors", "vae.safetensors"
OLDER_FILES = "conditional*.safetensors"
"""Decoders also look into these, for packets that were made with other weights."""
FOLDER_VARIABLE = "DISCOVER_STREAM_CONDITIONAL"


def conditional_folder() -> Path:
    """Where the weights of the learned codec of stream mode are looked for."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named) if named else Path(str(resources.files("discover_stream") / "weights" / "nano"))


def load_learned(file: Path) -> LatentCodec:
    """The codec in a weights file, with the VAE beside it.

    Raises:
        InputError: a file is missing, damaged, or of another structure, or the two do not belong together.
    """
    # Most streams have no such atoms, and who reads these loads no networks.
    from discover_stream.codec.conditional_model import load_conditional
    from discover_stream.codec.latent_atoms import LatentCodec
    from discover_stream.generation.render import load_vae
    from discover_stream.generation.vae import latent_space

    model, vae = load_conditional(file), load_vae(file.with_name(VAE_FILE))
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


def learned_codec() -> LatentCodec | None:
    """The learned codec that is at hand, loaded once a process; None where there are no weights of one.

    Raises InputError for weights that are not usable.
    """
    folder = conditional_folder()
    file = folder / CONDITIONAL_FILE
    try:
        modified_ns = file.stat().st_mtime_ns
    except FileNotFoundError:
        if FOLDER_VARIABLE in os.environ:
            raise InputError(
                f"{folder}: there is no {CONDITIONAL_FILE} in it; point {FOLDER_VARIABLE} elsewhere or unset it"
            ) from None
        return None
    return _learned(file, modified_ns)


def needed_codec() -> LatentCodec:
    """The learned codec that is at hand. Raises InputError where there is none."""
    codec = learned_codec()
    if codec is None:
        raise InputError(f"no weights of the learned codec are at hand; name a folder in {FOLDER_VARIABLE}")
    return codec


def learned_painter(model: bytes) -> LatentCodec:
    """The codec that a packet names (`painter.Painters`). Raises BitstreamError where it is not at hand."""
    folder = conditional_folder()
    try:
        for file in sorted(folder.glob(OLDER_FILES)):
            if sha256(file.read_bytes()).digest()[: len(model)] == model:
                return _learned(file, file.stat().st_mtime_ns)
    except InputError as error:
        raise BitstreamError(str(error)) from None
    raise BitstreamError(
        f"it has atoms of the learned codec with model {model.hex()}, which is not in {folder}; put that model's"
        f" {CONDITIONAL_FILE} and {VAE_FILE} into a folder and name it in {FOLDER_VARIABLE}"
    )
