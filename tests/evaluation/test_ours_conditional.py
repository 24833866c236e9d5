"""The conditional codec as a system under test: what is counted, what is sent, what decodes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import CODEC

from discover_stream.codec.conditional_model import load_conditional
from discover_stream.codec.latent_atoms import LatentCodec
from discover_stream.codec.transforms import TransformConfig
from discover_stream.evaluation.ours_conditional import OursConditional, box_cells
from discover_stream.evaluation.registry import build_system
from discover_stream.evaluation.systems import Clip, SystemSpec
from discover_stream.generation.vae import VaeShape, build_vae
from discover_stream.painting import FOLDER_VARIABLE, autoencoder
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_conditional
from discover_stream.types import Box, Image, InputError, Region

WIDTH, HEIGHT = 150, 90
BOX = Region(0, 1.0, Box(20.0, 17.0, 60.0, 47.5))


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> LatentCodec:
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("weights") / "codec.safetensors"
    with torch.no_grad():
        export_conditional(
            TrainableConditional(TransformConfig(**CODEC | {"groups": (4, 8)})),  # type: ignore[arg-type]
            path,
            latent_space="x",
        )
    return LatentCodec(load_conditional(path), autoencoder(build_vae(VaeShape(8)).eval()))


def picture(seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def clip(*regions: Region) -> Clip:
    return Clip("one", (picture(),), 0.0, (regions,))


def test_a_picture_comes_back_in_its_own_size_from_nothing_but_its_bytes(codec: LatentCodec) -> None:
    system = OursConditional(5, codec=lambda: codec)
    coded = system.encode(clip())
    assert coded.total == len(coded.chunks[0].data) > 10
    (first,), (again,) = (system.decode(coded).frames for _ in range(2))
    assert first.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(first, again)
    other = OursConditional(5, codec=lambda: codec).encode(Clip("two", (picture(1),), 0.0, ((),)))
    assert other.chunks[0].data != coded.chunks[0].data


def test_a_task_is_sent_the_cells_of_its_boxes(codec: LatentCodec) -> None:
    mask = box_cells((BOX,), WIDTH, HEIGHT)
    assert np.argwhere(mask).min(axis=0).tolist() == [1, 1]
    assert np.argwhere(mask).max(axis=0).tolist() == [2, 3]
    task = OursConditional(5, "task", codec=lambda: codec)
    sizes = [task.encode(clip(BOX)).total, OursConditional(5, codec=lambda: codec).encode(clip()).total]
    assert sizes[0] < sizes[1] / 3
    # What lies far from the boxes changes nothing: it is not sent.
    changed = picture()
    changed[:, 120:] = 0
    (one,) = task.decode(task.encode(clip(BOX))).frames
    (same,) = task.decode(task.encode(Clip("one", (changed,), 0.0, ((BOX,),)))).frames
    assert np.array_equal(one[:, 100:], same[:, 100:])


def test_boxes_that_cover_everything_are_the_picture(codec: LatentCodec) -> None:
    everything = Region(0, 1.0, Box(0.0, 0.0, float(WIDTH), float(HEIGHT)))
    task, whole = (OursConditional(3, sends, codec=lambda: codec) for sends in ("task", "picture"))
    assert task.encode(clip(everything)).chunks == whole.encode(clip()).chunks
    assert not box_cells((), WIDTH, HEIGHT).all()
    assert box_cells((), WIDTH, HEIGHT).any(), "a packet shows at least a cell"


def test_without_weights_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    system = build_system(SystemSpec.of("ours-conditional", quality=3))
    with pytest.raises(InputError, match=r"conditional\.safetensors"):
        system.encode(clip())
