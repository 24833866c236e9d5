"""The curve of AP50 against bits per masked pixel, on a simulated street with the shipped networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import SMALL_CODEC

from benchmarks.atoms import Thing
from benchmarks.masked_area import (
    Point,
    av1,
    curves,
    found_share,
    frames_of,
    key,
    measured,
    plot,
    still,
    truth_of,
)
from discover_stream.codec.composing import PlatePicture
from discover_stream.codec.latent_atoms import LatentCodec
from discover_stream.codec.model import load_codec, shipped_weights
from discover_stream.codec.records import QuarterBox
from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.detectors import NanoDetector
from discover_stream.generation.render import VAE_FILE, load_vae
from discover_stream.generation.vae import VaeShape, build_vae
from discover_stream.painting import autoencoder
from discover_stream.training.conditional import TrainableConditional
from discover_stream.training.export import export_codec
from discover_stream.types import Box, Image
from discover_stream.video.simulate import SimulatedCamera


@pytest.fixture(scope="module")
def found() -> list[Thing]:
    """The two largest objects of a simulated street, and its plate without them."""
    camera = SimulatedCamera("masked", seed=1003, width=320, height=192)
    frame, objects = camera.render(60)
    largest = sorted(objects, key=lambda thing: -thing.box.area)[:2]
    empty, _ = camera.render(60, without=[thing.track for thing in largest], shadows=False)
    apart = np.abs(frame.image.astype(int) - empty.image).max(axis=2) > 20
    made = []
    for thing in largest:
        mask = np.zeros_like(apart)
        box = thing.box
        cut = slice(int(box.y0), int(box.y1)), slice(int(box.x0), int(box.x1))
        mask[cut] = apart[cut]
        made.append(Thing("sim", frame.image, PlatePicture(empty.image), QuarterBox.of(box), mask))
    return made


class Fixed:
    """A judge that finds what it is told, whatever it is shown."""

    name, classes = "fixed", ("car",)

    def __init__(self, *found: Detection) -> None:
        self.found = found

    def detect(self, image: Image) -> tuple[Detection, ...]:
        return self.found


def test_bits_are_those_of_all_atoms_over_their_masked_pixels(found: list[Thing]) -> None:
    code = av1(True)
    sizes = [code(thing, 40)[0] for thing in found]
    judge = Fixed(Detection("car", 0.9, found[0].box.pixels))
    point = measured("av1 residual", code, 40, frames_of(found), judge)
    assert point.bpp == pytest.approx(8 * sum(sizes) / sum(int(thing.mask.sum()) for thing in found))
    assert point.ap50 == pytest.approx(1.0)
    assert point.found == 1.0


def test_the_share_that_is_found_again_asks_for_class_place_and_score(found: list[Thing]) -> None:
    box = Box(0, 0, 20, 20)
    there = [
        Detection("car", 1.0, box),
        Detection("bus", 1.0, box),
        Detection("car", 1.0, Box(50, 0, 70, 20), crowd=True),
    ]
    seen = [Detection("car", 0.4, Box(1, 0, 21, 20)), Detection("bus", 0.1, box)]
    assert found_share([there], [seen]) == 0.5
    assert found_share([there], [[Detection("car", 0.4, Box(15, 0, 35, 20))]]) == 0.0
    assert found_share([[]], [seen]) == 0.0


def test_only_what_was_drawn_has_to_be_found(found: list[Thing]) -> None:
    elsewhere = Detection("car", 0.9, Box(0, 0, 12, 12))
    here = Detection("car", 0.8, found[0].box.pixels)
    assert [one.crowd for one in truth_of(found[:1], Fixed(elsewhere, here))] == [True, False]


def test_ours_and_av1_stand_in_one_plot(found: list[Thing], tmp_path: Path) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        export_codec(TrainableConditional(SMALL_CODEC), tmp_path / "codec.safetensors", latent_space="x")
    model = load_codec(tmp_path / "codec.safetensors")
    random = key(LatentCodec(model, autoencoder(build_vae(VaeShape(8)).eval())))
    shipped = still(load_codec(), load_vae(shipped_weights() / VAE_FILE))
    coders = {"av1 residual": av1(True), "still": shipped, "key": random}
    settings = {"av1 residual": (20, 50), "still": (1, 8), "key": (1,)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.masked_area.QUANTIZERS", settings)
        points = curves(coders, frames_of(found), NanoDetector())
    assert [point.system for point in points] == ["av1 residual"] * 2 + ["still"] * 2 + ["key"]
    assert [point.setting for point in points] == [50, 20, 1, 8, 1]
    assert all(point.bpp > 0 and 0 <= point.ap50 <= 1 for point in points)
    assert points[1].ap50 >= 0.5
    assert points[3].ap50 >= points[2].ap50
    assert plot(points, "street").startswith(b"\x89PNG")
    assert plot(points, "street") != plot([Point("still", 1, 0.1, 0.5)], "street")
