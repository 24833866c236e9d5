from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from tiny_training import NANO, SmoothCrops, configuration, job_of, write_pictures

from discover_stream.generation.vae import VaeShape, build_vae
from discover_stream.training.sources import FolderSampler, FreshSource, Looker, Seen, mask_of
from discover_stream.types import InputError
from discover_stream.video.simulate import SimulatedCamera


def test_a_folder_gives_crops_of_what_can_be_read(tmp_path: Path) -> None:
    write_pictures(tmp_path / "below")
    PillowImage.new("RGB", (40, 300)).save(tmp_path / "narrow.png")
    (tmp_path / "damaged.jpg").write_bytes(b"no picture")
    drawn = [FolderSampler(tmp_path, 64, seed=3).batch(4) for _ in range(2)]
    assert drawn[0].shape == (4, 3, 64, 64)
    assert torch.equal(*drawn)
    assert float(drawn[0].max()) <= 1
    with pytest.raises(InputError, match="none is readable and 128 pixels"):
        FolderSampler(tmp_path, 128, seed=0).one()
    with pytest.raises(InputError, match="no pictures below"):
        FolderSampler(tmp_path / "nowhere", 64, seed=0)


def test_the_papers_masks_are_the_boxes_of_some_classes() -> None:
    boxes = np.array([[20, 4, 40, 20], [100, 100, 128, 128]], np.float32)
    seen, random = Seen("car, bus", boxes, np.array([2, 4])), np.random.default_rng(0)
    found = {mask_of("paper", random, 8, seen).tobytes() for _ in range(40)}
    car, bus = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    car[0:2, 1:3] = 1
    bus[6:8, 6:8] = 1
    assert found == {car.tobytes(), bus.tobytes(), (car + bus).tobytes()}
    nothing = Seen("", np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    assert mask_of("paper", random, 8, nothing).all()
    assert mask_of("whole", random, 8, seen).all()
    assert any(not mask_of("ours", random, 8, seen).all() for _ in range(20))


def test_a_source_gives_latents_masks_and_tags_of_the_same_cut() -> None:
    job = job_of(configuration(NANO), "codec", Path())
    vae = build_vae(VaeShape(8)).requires_grad_(False)
    source = FreshSource(SmoothCrops(0, crop=128), vae, "ours", job.compute, look=True)
    batch = source.draw(job.random, 64, 3)
    assert batch.pictures.shape == (3, 3, 64, 64)
    assert batch.masks.shape == (3, 1, 4, 4)
    assert batch.kinds.tolist() == [0, 0, 0]
    seen = Looker().look((batch.pictures * 255).round().to(torch.uint8))
    assert batch.texts == tuple(one.text for one in seen)
    assert not batch.references.any()
    assert torch.equal(batch.latents, vae.encoder(torch.nn.functional.pixel_unshuffle(batch.pictures, 2) * 2 - 1))


def test_the_looker_gives_tags_and_boxes_in_pixels() -> None:
    frame, objects = SimulatedCamera("prior", seed=1003).render(60)
    (seen,) = Looker().look(torch.from_numpy(frame.image.copy()).permute(2, 0, 1)[None])
    assert "car" in seen.text
    cars = [thing.box for thing in objects if thing.kind == "car"]
    best = max(
        max(0, min(b[2], c.x1) - max(b[0], c.x0)) * max(0, min(b[3], c.y1) - max(b[1], c.y0)) / c.area
        for b in seen.boxes
        for c in cars
    )
    assert best > 0.7
