from collections.abc import Iterator

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
    preprocess,
    select,
)

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


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
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
    found = detect(Fixed(), [noise(width, height)], DetectOptions(long_side=512))[0]
    scale = 512 / max(width, height)
    np.testing.assert_allclose(found.boxes, [np.array([40, 24, 48, 32]) / scale], atol=0.3)
    assert found.classes.tolist() == [CAR]
    np.testing.assert_allclose(found.scores, [1 / (1 + np.exp(-3.0))], rtol=1e-6)


def test_batching_changes_nothing(network: Detector) -> None:
    options = DetectOptions(threshold=0.0, limit=10, long_side=128)
    images = [noise(64, 40, 1), noise(33, 50, 2), noise(64, 40, 3)]
    together = detect(network, images, options)
    for image, both in zip(images, together, strict=True):
        alone = detect(network, [image], options)[0]
        np.testing.assert_allclose(alone.boxes, both.boxes, atol=1e-3)
        np.testing.assert_allclose(alone.scores, both.scores, atol=1e-5)
        assert alone.classes.tolist() == both.classes.tolist()


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
    plan = letterbox_plan(200, 100, 200)
    return select(logits, torch.tensor(boxes, dtype=torch.float32), plan, (200, 100), DetectOptions(threshold=0.3))


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
