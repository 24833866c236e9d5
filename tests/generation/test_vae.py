from pathlib import Path

import pytest
import torch

from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import (
    LATENT_CHANNELS,
    SMALL,
    WIDE,
    VaeShape,
    build_vae,
    decode_latent,
    encode_picture,
    shape_of,
)
from discover_stream.training.loop import write_half
from discover_stream.types import InputError


def test_shapes_and_range_of_the_picture() -> None:
    torch.manual_seed(0)
    vae = build_vae()
    picture = torch.rand(2, 3, 64, 128)
    with torch.no_grad():
        latent = encode_picture(vae, picture)
        output = decode_latent(vae, latent)
    assert latent.shape == (2, LATENT_CHANNELS, 8, 16)
    assert output.shape == picture.shape


def test_a_pixel_reaches_only_its_neighbourhood() -> None:
    """Positions do not wander: the pixel shuffle on both sides must agree."""
    torch.manual_seed(0)
    vae = build_vae()
    latent = torch.zeros(1, LATENT_CHANNELS, 32, 32)
    changed = latent.clone()
    changed[..., 4, 28] = 2
    with torch.no_grad():
        moved = (decode_latent(vae, changed) - decode_latent(vae, latent)).abs().amax(dim=(0, 1))
    rows, columns = torch.nonzero(moved > 1e-6, as_tuple=True)
    assert len(rows) > 0
    assert int(rows.max()) < 160
    assert int(columns.min()) > 96


@pytest.mark.parametrize("shape", [SMALL, WIDE])
def test_a_weights_file_is_loaded_in_the_shape_it_names(shape: VaeShape, tmp_path: Path) -> None:
    file = tmp_path / "vae.safetensors"
    write_half(build_vae(shape), file, shape.metadata())
    assert shape_of(load_vae(file)) == shape


def test_a_file_without_a_shape_holds_the_small_one(tmp_path: Path) -> None:
    file = tmp_path / "vae.safetensors"
    write_half(build_vae(), file)
    assert shape_of(load_vae(file)) == SMALL


@pytest.mark.parametrize("text", ["{}", "[]", "no json", '{"width": 8, "encoder_blocks": [1], "decoder_blocks": [1]}'])
def test_a_damaged_shape_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    file = tmp_path / "vae.safetensors"
    write_half(build_vae(), file, {"shape": text})
    with pytest.raises(InputError, match=r"vae\.safetensors: not usable as weights"):
        load_vae(file)
