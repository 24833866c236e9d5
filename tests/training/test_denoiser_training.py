"""The stage of the decoder that ships: what it learns from, and that it goes on from a finished codec."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_training import NANO, SMALL_CODEC, configuration, smooth_pictures

from discover_stream.codec.model import load_codec
from discover_stream.generation.render import Renderer, load_vae
from discover_stream.generation.vae import VaeShape, build_vae, latent_space
from discover_stream.training.coded import code_cells
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.crops import CropBank
from discover_stream.training.data import CropSampler
from discover_stream.training.denoiser import PairBank, new_denoiser
from discover_stream.training.export import export_codec
from discover_stream.training.loop import write_half
from discover_stream.training.pairs import CELLS, CROP, STILL, Examples
from discover_stream.training.stage import prepare, run_stage
from discover_stream.types import InputError

VAE = VaeShape(8, (1, 1, 1), (1, 1, 1))


def pictures(count: int) -> list[np.ndarray]:
    """Busy pictures (CROP, CROP, 3) uint8."""
    noise = torch.rand(count, 3, CROP, CROP, generator=torch.Generator().manual_seed(5))
    mixed = (smooth_pictures(count, 3, CROP) + noise) / 2
    return list(mixed.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy())


@torch.no_grad()
def test_a_bank_holds_what_still_mode_leaves_of_each_crop(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(SMALL_CODEC, qualities=1)
    codec = TrainableConditional(config).eval()
    bank = CropBank(CropSampler(pictures(4), [1.0] * 4, crop=CROP, seed=0), build_vae(VAE), 4)
    shown = bank.pictures.float() / 255
    latents = bank.latents.float()
    nothing, everything = torch.zeros_like(latents), torch.ones(4, 1, CELLS, CELLS)
    codec.start_alive(Examples(shown, latents, nothing, everything, torch.full((4,), STILL)))
    pairs = PairBank(bank, codec, np.random.default_rng(1), batch=3)
    export_codec(codec, tmp_path / "codec.safetensors", latent_space="x")
    model = load_codec(tmp_path / "codec.safetensors")
    assert len({mask.numpy().tobytes() for mask in pairs.masks}) > 1
    for index in range(4):
        found = pairs.received[index].float()
        coded = code_cells(model, shown[index : index + 1], pairs.masks[index, 0].numpy(), 1)
        # bfloat16 in training, float32 in use: some symbols fall on the other side.
        assert float((coded.latent[0] - found).pow(2).mean()) < 0.1 * float(found.pow(2).mean())


def test_the_decoder_that_ships_goes_on_from_a_finished_codec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("discover_stream.training.denoiser.load_pictures", lambda data: (pictures(2), [0.5, 0.5]))
    torch.manual_seed(0)
    before = tmp_path / "vae.safetensors"
    write_half(build_vae(VAE), before, VAE.metadata())
    codec = TrainableConditional(SMALL_CODEC)
    save_file(codec.state_dict(), tmp_path / "codec-float.safetensors")
    section = {"out": str(tmp_path / "out"), "steps": 2, "batch": 2, "examples": 3, "learning_rate": 1e-3}
    section |= {"vae": str(before), "codec": str(tmp_path / "codec-float.safetensors")}
    files = run_stage(prepare(configuration(NANO, denoiser=section), "denoiser", tmp_path, cpu=True))
    assert [file.name for file in files] == ["denoiser.safetensors", "vae.safetensors"]
    assert load_file(files[0])["conv_out.weight"].any(), "it began at zero"
    # The codec stays valid, and what was written is what decodes.
    assert latent_space(load_vae(files[1])) == latent_space(load_vae(before))
    assert not torch.equal(load_file(files[1])["decoder.layers.0.weight"], load_file(before)["decoder.layers.0.weight"])
    assert Renderer.load(tmp_path / "out").generator.channels == 16

    # Another one begins with it, and may leave the VAE as it is.
    section |= {"out": str(tmp_path / "more"), "start": str(files[0]), "train_decoder": False, "steps": 1}
    section |= {"learning_rate": 1e-6}
    more = run_stage(prepare(configuration(NANO, denoiser=section), "denoiser", tmp_path, cpu=True))
    for name, value in load_file(files[0]).items():
        assert torch.allclose(load_file(more[0])[name].float(), value.float(), atol=1e-3)
    for name, value in load_file(before).items():
        assert torch.equal(load_file(more[1])[name], value)
    with pytest.raises(InputError, match="not a denoiser to start from"):
        new_denoiser(before)
