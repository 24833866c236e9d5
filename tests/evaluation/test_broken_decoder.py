"""A deliberately broken decoder must look worse to every measure that ought to notice.

The sound decoder is JPEG at a high quality; every fault is put on top of it. Pictures are simulated ones, with the
shipped detector as the judge and exact truth, and a real clip with YOLOX and its own boxes on the originals.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from discover_stream.evaluation.agreement import class_agreement
from discover_stream.evaluation.average_precision import score_detections
from discover_stream.evaluation.boxes import Detection, Mask, mask_of
from discover_stream.evaluation.deep_features import DeepFeatures
from discover_stream.evaluation.detectors import Detector, load_detector
from discover_stream.evaluation.faithfulness import judge_frame, summarise
from discover_stream.evaluation.flicker import flicker
from discover_stream.evaluation.pictures import ms_ssim, psnr
from discover_stream.evaluation.truth import as_truth, simulated_truth
from discover_stream.types import CELL, Image, Provenance
from discover_stream.video.simulate import SimulatedCamera
from discover_stream.video.source import open_source

SHARED = Path(__file__).resolve().parents[3] / "shared"
FRAMES = 3


@dataclass(frozen=True)
class Scene:
    """Consecutive pictures and what is in them."""

    originals: tuple[Image, ...]
    truth: tuple[tuple[Detection, ...], ...]
    seen: tuple[tuple[Detection, ...], ...]  # what the judge finds in the originals
    plate: Image  # the street without anybody
    judge: Detector
    features: DeepFeatures

    def inside(self, index: int) -> Mask:
        """The pixels of one picture's objects."""
        height, width = self.plate.shape[:2]
        return mask_of((one.box for one in self.truth[index] if not one.crowd), width, height)

    def cells(self, index: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
        """Objects' cells are sent, all others are generated."""
        height, width = self.plate.shape[:2]
        rows, columns = -(-height // CELL), -(-width // CELL)
        map_ = np.full((rows, columns), Provenance.GENERATED, np.uint8)
        for one in self.seen[index]:
            box = one.box
            if one.score >= 0.3:
                span = (
                    slice(int(box.y0 // CELL), math.ceil(box.y1 / CELL)),
                    slice(int(box.x0 // CELL), math.ceil(box.x1 / CELL)),
                )
                map_[span] = Provenance.SENT
        return map_


def sound(image: Image) -> Image:
    """Coded well."""
    buffer = io.BytesIO()
    PillowImage.fromarray(image).save(buffer, "jpeg", quality=92, subsampling=0)
    return np.array(PillowImage.open(buffer), dtype=np.uint8)


def noise(scene: Scene, index: int) -> Image:
    """New grain in every picture."""
    image = sound(scene.originals[index])
    grain = np.random.default_rng(index).normal(0, 45, image.shape)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def shifted_boxes(scene: Scene, index: int) -> Image:
    """Objects stand beside their place, now to the left and now to the right; the street shows where they were."""
    image = sound(scene.originals[index])
    height, width = image.shape[:2]
    out = image.copy()
    inside = scene.inside(index)
    out[inside] = scene.plate[inside]
    for one in scene.truth[index]:
        box = one.box.clipped(width, height)
        x0, y0, x1, y1 = int(box.x0), int(box.y0), math.ceil(box.x1), math.ceil(box.y1)
        step = math.ceil(0.6 * (x1 - x0)) * (1 if index % 2 else -1)
        left, right = max(0, x0 + step), min(width, x1 + step)
        if right > left:
            out[y0:y1, left:right] = image[y0:y1, left - step : right - step]
    return out


def swapped_colours(scene: Scene, index: int) -> Image:
    """Red is blue and blue is red."""
    return np.ascontiguousarray(sound(scene.originals[index])[..., ::-1])


def pulsing_light(scene: Scene, index: int) -> Image:
    """Every other picture is a little brighter."""
    image = sound(scene.originals[index]).astype(np.int16)
    return np.clip(image + (12 if index % 2 else 0), 0, 255).astype(np.uint8)


def forgotten_objects(scene: Scene, index: int) -> Image:
    """The empty street where objects were sent."""
    out = sound(scene.originals[index])
    inside = scene.inside(index)
    out[inside] = scene.plate[inside]
    return out


def invented_objects(scene: Scene, index: int) -> Image:
    """The surest object once more, at the emptiest place of its size."""
    out = sound(scene.originals[index])
    height, width = out.shape[:2]
    best = max(scene.seen[index], key=lambda one: one.score * min(one.box.area, 4000))
    x0, y0 = int(best.box.x0), int(best.box.y0)
    w, h = math.ceil(best.box.x1) - x0, math.ceil(best.box.y1) - y0
    busy = mask_of((one.box for one in scene.seen[index]), width, height) | scene.inside(index)
    places = [(x, y) for y in range(0, height - h, 8) for x in range(0, width - w, 8)]
    x, y = min(places, key=lambda place: int(busy[place[1] : place[1] + h, place[0] : place[0] + w].sum()))
    out[y : y + h, x : x + w] = scene.originals[index][y0 : y0 + h, x0 : x0 + w]
    return out


def measured(scene: Scene, decoded: Sequence[Image]) -> dict[str, float]:
    """Every measure, turned so that more is better."""
    found = [scene.judge.detect(image) for image in decoded]
    scores = score_detections(scene.truth, found)
    judged = [judge_frame(scene.seen[i], found[i], scene.cells(i)) for i in range(len(decoded))]
    faith = summarise(judged)

    def mean(measure: Callable[..., float]) -> float:
        return float(np.mean([measure(a, b) for a, b in zip(scene.originals, decoded, strict=True)]))

    def mean_inside(measure: Callable[..., float]) -> float:
        pairs = enumerate(zip(scene.originals, decoded, strict=True))
        return float(np.mean([measure(a, b, scene.inside(i)) for i, (a, b) in pairs]))

    return {
        "psnr": mean(psnr),
        "psnr inside": mean_inside(psnr),
        "ms-ssim": mean(ms_ssim),
        "ms-ssim inside": mean_inside(ms_ssim),
        "deep": -mean(scene.features.distance),
        "deep inside": -mean_inside(scene.features.distance),
        "flicker": -flicker(scene.originals, decoded),
        "ap": scores.ap,
        "ap50": scores.ap50,
        "f1": scores.f1,
        "agreement": class_agreement(scene.seen, found).rate,
        "invention rate": -faith.invention_rate,
        "invention score": -faith.score,
        "false": -(faith.inventions + faith.phantoms),
        "miss rate": -faith.miss_rate,
    }


WHOLE = {"psnr", "ms-ssim", "deep"}
INSIDE = {"psnr inside", "ms-ssim inside", "deep inside"}
MACHINE = {"ap", "ap50", "f1", "agreement", "miss rate"}
FAULTS: dict[Callable[[Scene, int], Image], set[str]] = {
    noise: WHOLE | INSIDE | MACHINE | {"flicker"},
    shifted_boxes: WHOLE | INSIDE | MACHINE | {"flicker", "false"},
    swapped_colours: WHOLE | INSIDE | {"f1", "agreement"},
    pulsing_light: WHOLE | {"flicker"},
    forgotten_objects: WHOLE | INSIDE | MACHINE,
    invented_objects: WHOLE | {"invention rate", "invention score", "false"},
}


def assert_faults_show(scene: Scene) -> None:
    good = measured(scene, [sound(image) for image in scene.originals])
    assert good["invention rate"] == 0
    assert good["psnr"] > 34
    assert good["f1"] > 0.6
    assert good["flicker"] > -4
    for fault, names in FAULTS.items():
        bad = measured(scene, [fault(scene, index) for index in range(len(scene.originals))])
        unnoticed = {name: (good[name], bad[name]) for name in sorted(names) if not bad[name] < good[name]}
        assert not unnoticed, f"{fault.__name__}: (sound, broken) of what did not get worse: {unnoticed}"


@functools.cache
def random_features(folder: Path) -> DeepFeatures:
    """A network with random weights: enough to be equal where pictures are, and not where they are not."""
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    torch.save(squeezenet1_1(weights=None).state_dict(), folder / "random.pth")
    return DeepFeatures.load(folder / "random.pth")


def test_simulated_street(tmp_path: Path) -> None:
    camera = SimulatedCamera("street", width=448, height=256, seed=3)
    rendered = [camera.render(60 + i) for i in range(FRAMES)]
    originals = tuple(frame.image for frame, _ in rendered)
    everybody = {thing.track for _, objects in rendered for thing in objects}
    judge = load_detector("nano")
    assert_faults_show(
        Scene(
            originals,
            tuple(simulated_truth(objects) for _, objects in rendered),
            tuple(judge.detect(image) for image in originals),
            camera.render(60, without=everybody)[0].image,
            judge,
            random_features(tmp_path),
        )
    )


def test_real_clip(shared: Path) -> None:
    weights = SHARED / "weights"
    if not weights.is_dir():
        pytest.skip("needs ../shared/weights, which is not there")
    with open_source(str(shared / "video" / "suburb.mp4"), camera="suburb", fps=5) as source:
        pictures = [frame.image for frame in islice(source, 60)]
    originals = tuple(pictures[:FRAMES])
    judge = load_detector(f"onnx:{weights / 'yolox_nano.onnx'}")
    seen = tuple(judge.detect(image) for image in originals)
    assert_faults_show(
        Scene(
            originals,
            tuple(as_truth(found, score=0.3, faint=0.1) for found in seen),
            seen,
            np.median(np.stack(pictures[::6]), axis=0).astype(np.uint8),
            judge,
            DeepFeatures.load(weights / "squeezenet_imagenet.h5", weights / "lpips_squeeze_heads.pth"),
        )
    )
