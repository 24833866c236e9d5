"""The papers' modes: what they send and how they are decoded, on the shipped weights and on a tiny Stable Diffusion."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_diffusion import stable_folder
from tiny_training import SMALL_CODEC

from discover_stream.codec.model import MODEL_FILE, load_codec
from discover_stream.codec.packet import parse_packet
from discover_stream.decoding import FrameDecoder
from discover_stream.evaluation.experiments.codecs import PacketCodec
from discover_stream.evaluation.experiments.modes import MODES, Models, PaperSystem, build_mode
from discover_stream.evaluation.systems import Clip, System, SystemSpec
from discover_stream.generation.diffusion import build_control
from discover_stream.generation.vae import latent_space
from discover_stream.generation.weights import load_stable, load_stable_vae
from discover_stream.semantics.labels import load_label_set
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_codec
from discover_stream.types import BitstreamError, Box, Image, InputError, Region

LABELS = load_label_set("object-detection")
REGIONS = (Region(2, 0.9, Box(20, 10, 60, 40)), Region(0, 0.8, Box(70, 40, 90, 60)), Region(5, 0.2, Box(0, 0, 9, 9)))
TINY = replace(SMALL_CODEC, latent_channels=4)


def picture() -> Image:
    rows, columns = np.mgrid[:70, :100]
    return np.stack([rows * 3, columns * 2, (rows * columns) % 256], axis=2).astype(np.uint8)


CLIP = Clip("a picture", (picture(),), 0.0, (REGIONS,))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as docs/papers.md wants it for `sd21`: Stable Diffusion, its control module, and a trained codec."""
    folder = stable_folder(tmp_path_factory.mktemp("stable"))
    diffusion = load_stable(folder)
    torch.manual_seed(5)
    control = build_control(diffusion.prior)
    for parameter in control.parameters():
        if not parameter.any():  # before training it changes nothing
            torch.nn.init.normal_(parameter, std=0.2)
    control.save_pretrained(folder / "controlnet")
    codec = TrainableConditional(TINY)
    with torch.no_grad():
        export_codec(codec, folder / "codec.safetensors", latent_space=latent_space(load_stable_vae(folder)))
    return folder


@pytest.fixture(scope="module")
def models(tiny: Path) -> Models:
    return Models.load(tiny, LABELS, "machine")


def mode(models: Models, text: str) -> PaperSystem:
    found: System = build_mode(SystemSpec.parse(text), models)
    assert isinstance(found, PaperSystem)
    return found


def test_a_trained_codec_comes_back_from_its_bytes_alone(tiny: Path) -> None:
    codec = PacketCodec(load_codec(tiny / MODEL_FILE))
    data = codec.encode(picture(), REGIONS[:2], (0, 2), 3)
    got = PacketCodec(load_codec(tiny / MODEL_FILE)).decode(data)
    assert (got.width, got.height, got.tags) == (100, 70, (0, 2))
    wanted = np.zeros((5, 7), bool)
    wanted[0:3, 1:4] = wanted[2:4, 4:6] = True
    np.testing.assert_array_equal(got.frame.sent, wanted)
    assert got.frame.latent.shape == (1, 4, 16, 16)
    nothing = codec.decode(codec.encode(picture(), (), (), 8))
    assert not nothing.frame.sent.any()
    assert nothing.tags == ()
    with pytest.raises(BitstreamError):
        codec.decode(data[:5])


def test_modes_send_what_the_papers_send(models: Models) -> None:
    sizes = {name: mode(models, f"{name}:quality=8").encode(CLIP).total for name in MODES}
    assert sizes["discover-task"] == sizes["ours"] < sizes["discover-full"] == sizes["ours-full"] < sizes["diff-icmh"]
    assert sizes["diff-icmh"] - sizes["discover-full"] <= 4  # two tags


def test_steps_follow_who_looks(tiny: Path, models: Models) -> None:
    people = Models(models.codec, models.renderer, LABELS, "human", models.reads_tags, models.digest)
    plans = {name: (mode(models, f"{name}:quality=3").mode, mode(people, f"{name}:quality=3").mode) for name in MODES}
    assert [one.steps for one in plans["discover-task"]] == [8, 50]
    assert [(one.steps, one.guidance) for one in plans["diff-icmh"]] == [(50, 5.0)] * 2
    assert [(one.steps, one.bounded) for one in plans["ours"]] == [(1, True)] * 2


def test_tags_and_steps_and_sampling_matter(models: Models) -> None:
    assert models.reads_tags
    shown = {
        text: mode(models, text).decode(mode(models, text).encode(CLIP)).frames[0].astype(int)
        for text in (
            "diff-icmh:quality=3,steps=2",
            "diff-icmh:quality=3,steps=2,tags=0",
            "diff-icmh:quality=3,steps=2,guidance=1",
            "discover-full:quality=3,steps=2",
            "discover-full:quality=3,steps=2,generate=0",
        )
    }
    tagged, untagged, unguided, full, plain = shown.values()
    assert tagged.shape == (70, 100, 3)
    assert (tagged != untagged).any()
    assert (tagged != unguided).any()
    np.testing.assert_array_equal(untagged, full)  # no tags: Diff-ICMH's stream is DISCOVER's whole one
    assert (full != plain).any()


def test_our_mode_decodes_as_the_product_does() -> None:
    shipped = Models.load(None, LABELS, "machine")
    assert not shipped.reads_tags
    system = mode(shipped, "ours:quality=4")
    coded = system.encode(CLIP)
    packet = parse_packet(coded.chunks[0].data)
    assert len(packet.regions) == 3
    wanted = FrameDecoder.load().decode(packet, camera=CLIP.name)
    found = system.decode(coded)
    np.testing.assert_array_equal(found.frames[0], wanted.image)
    np.testing.assert_array_equal(found.provenance[0], wanted.provenance)
    free = mode(shipped, "ours:quality=4,bounded=0").decode(coded).frames[0]
    assert free.shape == wanted.image.shape


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("discover:quality=3", "none of that name"),
        ("discover-task", "'quality' is missing"),
        ("ours:quality=9", "quality is unknown or out of range"),
        ("ours:quality=3,colour=red", "colour is unknown"),
        ("ours:quality=3,sends=half", "sends is unknown or out of range"),
        ("diff-icmh:quality=3,steps=0", "correct the setting"),
        ("diff-icmh:quality=3,steps=many", "correct the setting"),
        ("vvc-intra:quality=3", "'qp' is missing"),
    ],
)
def test_what_is_unknown_is_refused(models: Models, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        build_mode(SystemSpec.parse(text), models)


def test_models_are_named_by_what_their_weights_hold(tiny: Path, tmp_path: Path) -> None:
    for part in ("unet", "vae", "scheduler", "tokenizer", "text_encoder", "codec.safetensors"):
        (tmp_path / part).symlink_to(tiny / part)
    shutil.copytree(tiny / "controlnet", tmp_path / "controlnet")
    before = Models.load(tmp_path, LABELS, "machine").digest
    (file,) = (tmp_path / "controlnet").glob("*.safetensors")
    trained = {name: weight + 1 for name, weight in load_file(file).items()}
    size = file.stat().st_size
    save_file(trained, file, metadata={"format": "pt"})
    assert file.stat().st_size == size
    assert Models.load(tmp_path, LABELS, "machine").digest != before


def test_weights_that_do_not_belong_together_are_refused(tiny: Path, tmp_path: Path) -> None:
    for part in ("unet", "vae", "scheduler", "tokenizer", "text_encoder", "controlnet"):
        (tmp_path / part).symlink_to(tiny / part)
    with pytest.raises(InputError, match="no codec weights here"):
        Models.load(tmp_path, LABELS, "machine")
    export_codec(TrainableConditional(TINY), tmp_path / "codec.safetensors", latent_space="another")
    with pytest.raises(InputError, match="not made for each other"):
        Models.load(tmp_path, LABELS, "machine")
