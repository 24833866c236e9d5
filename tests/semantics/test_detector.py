from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discover_stream.semantics.detector import (
    CLASSES,
    GRID,
    PAD_VALUE,
    STRIDES,
    Detections,
    DetectOptions,
    Detector,
    decode_outputs,
    detect,
    letterbox_plan,
    look_sides,
    preprocess,
    select,
)
from discover_stream.types import Image

CAR, PERSON, BICYCLE, TRUCK = (CLASSES.index(n) for n in ("car", "person", "bicycle", "truck"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def network() -> Detector:
    torch.manual_seed(1)
    return Detector().eval()


def noise(width: int, height: int, seed: int = 0) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_the_network_is_small(network: Detector) -> None:
    assert sum(p.numel() for p in network.parameters()) <= 1_200_000


@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 33), (4096, 1), (1, 300), (333, 127)])
def test_any_size_fits_the_grid(network: Detector, width: int, height: int) -> None:
    plan = letterbox_plan(width, height, 512)
    fitted = preprocess(noise(width, height), plan)
    assert fitted.shape[0] % GRID == fitted.shape[1] % GRID == 0
    assert max(fitted.shape[:2]) == 512
    assert (fitted[plan.height :] == PAD_VALUE).all()
    assert (fitted[:, plan.width :] == PAD_VALUE).all()
    found = detect(network, [noise(width, height)], DetectOptions(threshold=0.0, limit=20))[0]
    assert (found.boxes[:, :2] >= 0).all()
    assert (found.boxes[:, 2] <= width).all()
    assert (found.boxes[:, 3] <= height).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()


def test_a_large_picture_is_no_problem(network: Detector) -> None:
    found = detect(network, [noise(4096, 2160)], DetectOptions(threshold=0.0, limit=5))[0]
    assert found.boxes.shape == (len(found), 4)


def test_cells_decode_to_places_in_the_picture() -> None:
    """A cell that says (0, 0, 0, 0) is a box of one stride around the cell's centre."""
    outputs = [(torch.zeros(1, 6, 64 // s, 96 // s), torch.zeros(1, 4, 64 // s, 96 // s)) for s in STRIDES]
    outputs[1][1][0, :, 2, 3] = torch.tensor([0.5, -0.25, np.log(2.0), np.log(3.0)])
    logits, boxes = decode_outputs(outputs)
    assert logits.shape == (1, 96 + 24 + 6, 6)
    np.testing.assert_allclose(boxes[0, 0], [0, 0, 8, 8])
    np.testing.assert_allclose(boxes[0, 13], [8, 8, 16, 16])  # 12 cells in a row at stride 8
    np.testing.assert_allclose(boxes[0, 96 + 2 * 6 + 3], [48, 12, 80, 60], rtol=1e-6)
    np.testing.assert_allclose(boxes[0, -1], [64, 32, 96, 64])


def test_absurd_weights_give_finite_boxes() -> None:
    outputs = [(torch.zeros(1, 6, 1, 1), torch.full((1, 4, 1, 1), 1e4)) for _ in STRIDES]
    assert torch.isfinite(decode_outputs(outputs)[1]).all()


class Fixed(nn.Module):
    """A network that finds one box at a given place of its input, as a share of it."""

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        outputs = []
        for stride in STRIDES:
            h, w = x.shape[2] // stride, x.shape[3] // stride
            outputs.append((torch.full((len(x), 6, h, w), -9.0), torch.zeros(len(x), 4, h, w)))
        outputs[0][0][:, CAR, 3, 5] = 3.0
        return outputs


@pytest.mark.parametrize(("width", "height"), [(640, 360), (256, 144), (320, 500)])
def test_boxes_come_back_in_the_pictures_own_pixels(width: int, height: int) -> None:
    found = detect(Fixed(), [noise(width, height)], DetectOptions(long_side=512, enlarge=2.0))[0]
    scale = 512 / max(width, height)
    np.testing.assert_allclose(found.boxes, [np.array([40, 24, 48, 32]) / scale], atol=0.3)
    assert found.classes.tolist() == [CAR]
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-3.0))], rtol=1e-6)


def test_what_is_found_does_not_depend_on_the_pictures_beside_it(network: Detector) -> None:
    options = DetectOptions(threshold=0.0, limit=10, long_side=128)
    images = [noise(64, 40, 1), noise(33, 50, 2), noise(64, 40, 3), noise(64, 40, 1)]
    together = detect(network, images, options)
    for image, both in zip(images, together, strict=True):
        alone = detect(network, [image], options)[0]
        assert alone.boxes.tobytes() == both.boxes.tobytes()
        assert alone.scores.tobytes() == both.scores.tobytes()
        assert alone.classes.tolist() == both.classes.tolist()


def test_small_pictures_are_not_enlarged_beyond_measure() -> None:
    options = DetectOptions(long_side=512, enlarge=1.5, far_side=256)
    assert look_sides(4096, 2160, options) == look_sides(342, 341, options) == (512, 256)
    assert look_sides(200, 320, options) == (480,)  # the second look would show the same again
    assert look_sides(1, 1, options) == (GRID,)


class Wide(nn.Module):
    """A network that sees one box of 96 pixels in the middle of whatever it is given."""

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        outputs = Fixed().forward(x)
        logits, raw = outputs[2]
        outputs[0][0].fill_(-9.0)
        logits[:, CAR, x.shape[2] // 64, x.shape[3] // 64] = 3.0
        raw[:, 2:] = float(np.log(3.0))
        return outputs


def test_the_second_look_counts_for_what_is_large() -> None:
    picture = noise(512, 512)
    options = DetectOptions(long_side=512, far_side=128)
    found = detect(Wide(), [picture], options)[0]
    sides = sorted((found.boxes[:, 2] - found.boxes[:, 0]).tolist())
    np.testing.assert_allclose(sides, [96, 384], atol=1)
    assert len(detect(Wide(), [picture], replace(options, far_part=0.8))[0]) == 1


def test_the_same_pictures_give_the_same_bits(network: Detector) -> None:
    options = DetectOptions(threshold=0.0, long_side=128)
    first, second = (detect(network, [noise(64, 40)], options)[0] for _ in range(2))
    assert first.boxes.tobytes() == second.boxes.tobytes()
    assert first.scores.tobytes() == second.scores.tobytes()


def test_nothing_in_nothing_out(network: Detector) -> None:
    assert detect(network, [], DetectOptions()) == []
    assert len(detect(network, [noise(32, 32)], DetectOptions(threshold=1.0))[0]) == 0


def selected(boxes: list[list[float]], classes: list[int], scores: list[float]) -> Detections:
    logits = torch.full((len(boxes), len(CLASSES)), -20.0)
    logits[range(len(boxes)), classes] = torch.logit(torch.tensor(scores))
    return select(logits, torch.tensor(boxes, dtype=torch.float32), (200, 100), DetectOptions(threshold=0.3))


def test_one_vehicle_is_not_found_as_two_kinds() -> None:
    found = selected([[10, 10, 60, 60], [11, 10, 60, 61]], [CAR, TRUCK], [0.6, 0.8])
    assert found.classes.tolist() == [TRUCK]


def test_a_rider_does_not_hide_the_bicycle() -> None:
    found = selected([[10, 10, 60, 60], [11, 10, 60, 61]], [PERSON, BICYCLE], [0.6, 0.8])
    assert found.classes.tolist() == [BICYCLE, PERSON]


def test_weak_findings_and_those_outside_the_picture_are_left_out() -> None:
    found = selected([[10, 10, 60, 60], [210, 10, 230, 30], [190, 90, 230, 130]], [CAR] * 3, [0.2, 0.9, 0.9])
    np.testing.assert_allclose(found.boxes, [[190, 90, 200, 100]])
    assert len(found.above(0.95)) == 0
