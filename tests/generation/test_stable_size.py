"""Stable Diffusion's size, tiny and with random weights: loaded from a folder, decoded from packets, in tiles."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from tiny_diffusion import stable_folder

from discover_stream.codec.model import MODEL_FILE
from discover_stream.codec.packet import packet_bytes, parse_packet
from discover_stream.codec.still import encode_frame
from discover_stream.codec.transforms import TransformConfig
from discover_stream.config_decoding import DecodingConfig, Hardware
from discover_stream.decode_options import DecodeOptions
from discover_stream.decoding import FrameDecoder, PacketRequest
from discover_stream.generation import render as render_module
from discover_stream.generation.diffusion import build_control
from discover_stream.generation.reuse import KeptPictures
from discover_stream.generation.vae import latent_space
from discover_stream.generation.weights import load_stable_vae
from discover_stream.sdk import LazyDecoder
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_codec
from discover_stream.types import Box, Frame, InputError, Provenance, Region

TINY_CODEC = TransformConfig(
    stem_channels=8,
    analysis_channels=16,
    wide_channels=16,
    y_channels=24,
    z_channels=8,
    groups=(8, 16),
    hyper_channels=16,
    reference_channels=8,
    synthesis_channels=16,
    latent_channels=4,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that `decoding.weights` names: Stable Diffusion's parts, our control module, and a codec of its latents."""
    torch.set_num_threads(1)
    root = stable_folder(tmp_path_factory.mktemp("sd") / "weights")
    build_control(UNet2DConditionModel.from_pretrained(root, subfolder="unet")).save_pretrained(root / "controlnet")
    torch.manual_seed(5)
    export_codec(
        TrainableConditional(TINY_CODEC).eval(), root / MODEL_FILE, latent_space=latent_space(load_stable_vae(root))
    )
    return root


def test_packets_are_decoded_with_a_folder_that_the_configuration_names(folder: Path) -> None:
    decoding = DecodingConfig(weights=str(folder), precision="bfloat16", inventions=False)
    decoder = LazyDecoder(decoding=decoding).get()
    assert next(decoder.renderer.decoder.vae.parameters()).dtype == torch.bfloat16
    image = np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8)
    regions = {"cars": (Region(0, 0.9, Box(16, 16, 80, 64)),)}
    packets = [encode_frame(decoder.model, Frame("gate", n, n, image), regions, {"cars": 1}, quality=5) for n in (0, 1)]
    kept = KeptPictures()
    options = DecodeOptions.of(decoding, "human", 2)
    frames = []
    for packet in packets:
        request = PacketRequest(parse_packet(packet_bytes(packet)), "gate", row="r", tags="car, bus")
        frames += decoder.decode_many([request], options, kept)
    assert frames[0].image.shape == image.shape
    assert set(frames[0].shares()) == {"sent", "generated"}
    assert frames[0].changed["sent"] <= 1.0 + 1e-3
    assert frames[0].invention is None
    # The second shows the same: nothing is decoded anew.
    assert (frames[1].image == frames[0].image).all()
    assert dict(frames[1].changed) == {}


def test_large_pictures_go_in_tiles_that_bound_what_the_networks_see(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = FrameDecoder.load(folder, hardware=Hardware("cpu", bfloat16=True))
    seen: list[int] = []
    prior = decoder.renderer.generator.diffusion.prior  # type: ignore[attr-defined]
    prior.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][:, 0].numel()))
    monkeypatch.setattr(render_module, "WHOLE_AT_ONCE", 200)
    monkeypatch.setattr(render_module, "TILE", 16)
    monkeypatch.setattr(render_module, "TILE_REACH", 12)
    monkeypatch.setattr(render_module, "BATCH_LATENTS", 1600)
    image = np.full((320, 512, 3), 90, np.uint8)
    packet = encode_frame(decoder.model, Frame("gate", 0, 0, image), {"cars": ()}, {"cars": 1}, quality=5)
    frame = decoder.decode(packet, camera="gate", steps=1)
    assert frame.image.shape == image.shape
    assert (frame.provenance == Provenance.GENERATED).all()
    assert len(seen) > 1
    assert max(seen) <= 1600 < 40 * 64


def test_a_codec_of_other_latents_is_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "weights"
    shutil.copytree(folder, other)
    export_codec(TrainableConditional(TINY_CODEC).eval(), other / MODEL_FILE, latent_space="0123456789abcdef")
    with pytest.raises(InputError, match="not made for each other"):
        FrameDecoder.load(other)
