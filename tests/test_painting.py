from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tiny_training import SMALL_CODEC

from discover_stream.codec.latent_atoms import LatentCodec
from discover_stream.codec.model import load_codec, shipped_weights
from discover_stream.codec.painter import PaintJob
from discover_stream.codec.records import Atom, Window
from discover_stream.generation.render import load_vae
from discover_stream.generation.vae import latent_space
from discover_stream.painting import CODEC_FILE, FOLDER_VARIABLE, VAE_FILE, learned_codec, learned_painter
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_codec
from discover_stream.types import BitstreamError, InputError


def write_weights(folder: Path, name: str, seed: int, space: str | None = None) -> Path:
    """A small codec of random weights for the shipped VAE, beside a copy of that."""
    folder.mkdir(exist_ok=True)
    shutil.copy(shipped_weights() / VAE_FILE, folder / VAE_FILE)
    torch.manual_seed(seed)
    space = latent_space(load_vae(folder / VAE_FILE)) if space is None else space
    export_codec(TrainableConditional(SMALL_CODEC), folder / name, latent_space=space)
    return folder / name


def test_weights_in_the_named_folder_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = write_weights(tmp_path, CODEC_FILE, 0)
    before = write_weights(tmp_path, "codec-before.safetensors", 1)
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    codec = learned_codec()
    assert isinstance(codec, LatentCodec)
    assert codec.name == load_codec(now).short_hash
    assert learned_codec() is codec
    # Packets of older weights are decoded with these.
    older = learned_painter(load_codec(before).short_hash)
    assert older.name != codec.name
    job = PaintJob(Atom(Window(0, 0, 2, 3), None, 4, False, False, b""))
    assert older.paint([job])[0].samples.shape == (32, 48, 3)
    with pytest.raises(BitstreamError, match=r"model 000001, which is not in .*DISCOVER_STREAM_CODEC"):
        learned_painter(b"\x00\x00\x01")


def test_where_none_is_named_it_is_the_shipped_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match=r"there is no codec\.safetensors"):
        learned_codec()
    monkeypatch.delenv(FOLDER_VARIABLE)
    shipped = load_codec().short_hash
    assert learned_painter(shipped).name == learned_codec().name == shipped


def test_weights_of_another_latent_space_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_weights(tmp_path, CODEC_FILE, 1, space="other")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(InputError, match="another autoencoder"):
        learned_codec()
    with pytest.raises(BitstreamError, match="another autoencoder"):
        learned_painter(load_codec(tmp_path / CODEC_FILE).short_hash)
