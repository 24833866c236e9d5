"""Still mode as a system under test: what is counted, what is sent, whose weights decode it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import SMALL_CODEC

from discover_stream.codec.atoms import cell_grid
from discover_stream.codec.background import cells_of
from discover_stream.codec.model import MODEL_FILE, load_codec, shipped_weights
from discover_stream.codec.packet import parse_packet
from discover_stream.evaluation.datasets import ItemSpec
from discover_stream.evaluation.harness import Case
from discover_stream.evaluation.measures import Judges
from discover_stream.evaluation.registry import build_system
from discover_stream.evaluation.systems import Clip, System, SystemSpec
from discover_stream.generation.render import DENOISER_FILE, VAE_FILE, load_vae
from discover_stream.generation.vae import latent_space
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_codec
from discover_stream.types import Box, Image, InputError, Provenance, Region

WIDTH, HEIGHT = 150, 90
BOX = Region(0, 1.0, Box(20.0, 17.0, 60.0, 47.5))


def write_codec(folder: Path, seed: int) -> None:
    """A codec of random weights for the autoencoder in a folder."""
    torch.manual_seed(seed)
    space = latent_space(load_vae(folder / VAE_FILE))
    with torch.no_grad():
        export_codec(TrainableConditional(SMALL_CODEC), folder / MODEL_FILE, latent_space=space)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of weights: the shipped decoder, and a small codec."""
    folder = tmp_path_factory.mktemp("weights")
    for name in (VAE_FILE, DENOISER_FILE):
        shutil.copy(shipped_weights() / name, folder / name)
    write_codec(folder, 2)
    return folder


def system(weights: Path, sends: str, quality: int = 5) -> System:
    spec = SystemSpec.of("ours-still", quality=quality, sends=sends, generate=0, weights=str(weights))
    return build_system(SystemSpec.parse(spec.text()))


def picture(seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def clip(*regions: Region) -> Clip:
    return Clip("one", (picture(),), 0.0, (regions,))


def test_a_picture_comes_back_in_its_own_size_from_nothing_but_its_bytes(weights: Path) -> None:
    ours = system(weights, "picture")
    coded = ours.encode(clip())
    assert coded.total == len(coded.chunks[0].data) > 10
    (first,), (again,) = (ours.decode(coded).frames for _ in range(2))
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(first, again)
    other = ours.encode(Clip("two", (picture(1),), 0.0, ((),)))
    assert other.chunks[0].data != coded.chunks[0].data


def test_a_task_is_sent_the_cells_of_its_boxes(weights: Path) -> None:
    task, whole = system(weights, "task"), system(weights, "picture")
    coded = task.encode(clip(BOX))
    assert coded.total < whole.encode(clip()).total / 2
    (provenance,) = task.decode(coded).provenance
    assert provenance is not None
    assert np.array_equal(provenance == Provenance.SENT, cells_of([BOX.box], WIDTH, HEIGHT))
    (nothing,) = task.decode(task.encode(clip())).provenance
    assert nothing is not None
    assert nothing.shape == cell_grid(WIDTH, HEIGHT)
    assert not (nothing == Provenance.SENT).any()


def test_boxes_that_cover_everything_are_the_picture(weights: Path) -> None:
    everything = Region(0, 1.0, Box(0.0, 0.0, float(WIDTH), float(HEIGHT)))
    task, whole = (system(weights, sends, quality=3) for sends in ("task", "picture"))
    assert task.encode(clip(everything)).chunks == whole.encode(clip()).chunks


def test_weights_are_those_of_the_folder_that_is_named(weights: Path, tmp_path: Path) -> None:
    ours = system(weights, "picture")
    packet = parse_packet(ours.encode(clip()).chunks[0].data)
    assert packet.model == load_codec(weights / MODEL_FILE).short_hash
    assert str(weights) in ours.name
    assert str(weights) in ours.command()
    assert "weights" not in build_system(SystemSpec.of("ours-still", quality=5)).command()
    with pytest.raises(InputError, match="no codec weights"):
        system(tmp_path, "picture").encode(clip())


def test_figures_are_not_taken_over_from_weights_that_lay_in_the_folder_before(weights: Path, tmp_path: Path) -> None:
    shutil.copytree(weights, tmp_path, dirs_exist_ok=True)
    street = ItemSpec("street", "sim://road?seed=3", "video", "simulated", "x")
    case = Case(SystemSpec.of("ours-still", quality=5, weights=str(tmp_path)), street)
    before = case.key(Judges({}))
    assert case.key(Judges({})) == before
    write_codec(tmp_path, 3)
    assert case.key(Judges({})) != before
