from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from discover_stream.app.cli import run
from discover_stream.semantics.detector import CLASSES, Detections, DetectorConfig, decode_outputs
from discover_stream.semantics.detector import Detector as Network
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.training.grounder import (
    TrainOptions,
    TrainState,
    batch_of,
    export,
    learning_rate_at,
    restore,
    store,
)
from discover_stream.training.grounder_data import (
    IGNORED,
    NEGATIVE,
    AugmentOptions,
    SampleMixer,
    assign,
    make_example,
)
from discover_stream.training.grounder_loss import detection_loss, train_step
from discover_stream.training.grounder_report import count
from discover_stream.training.pseudo_labels import (
    NO_LABELS,
    SURE,
    ClipPlan,
    Sample,
    label_clip,
    label_photo,
    read_clip,
    read_photos,
    read_pictures,
    simulate_samples,
)
from discover_stream.training.teacher import YoloxTeacher
from discover_stream.types import InputError

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared"
CAR, PERSON = CLASSES.index("car"), CLASSES.index("person")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def sample_of(boxes: list[list[float]], ignored: list[bool] | None = None, side: int = 128) -> Sample:
    image = np.full((side, side, 3), 80, np.uint8)
    for x0, y0, x1, y1 in np.array(boxes, int).reshape(-1, 4):
        image[y0:y1, x0:x1] = (220, 40, 40)
    return Sample(
        image,
        np.array(boxes, np.float32).reshape(-1, 4),
        np.full(len(boxes), CAR, np.int64),
        np.array(ignored or [False] * len(boxes), bool),
    )


def random_samples(seed: int, n: int) -> list[Sample]:
    rng = np.random.default_rng(seed)
    samples = []
    for _ in range(n):
        x, y = rng.integers(0, 70, 2)
        w, h = rng.integers(20, 50, 2)
        samples.append(sample_of([[x, y, x + w, y + h]]))
    return samples


class Script:
    """A teacher that says what it is told, frame after frame."""

    def __init__(self, *looks: list[tuple[list[float], float]]) -> None:
        self._looks = iter(looks)

    def detect_tiled(self, _image: np.ndarray, _threshold: float) -> Detections:
        look = next(self._looks)
        return Detections(
            np.array([box for box, _ in look], np.float32).reshape(-1, 4),
            np.array([score for _, score in look], np.float32),
            np.full(len(look), CAR, np.int64),
        )

    detect = detect_tiled


def test_cells_learn_the_box_whose_middle_they_are_near() -> None:
    targets = assign(sample_of([[30, 48, 62, 72]]), 128)
    grid = targets.classes[:256].reshape(16, 16)  # stride 8
    rows, columns = np.nonzero(grid == CAR)
    assert set(rows) == {6, 7, 8}  # centres 52, 60, 68 inside 48..72
    assert set(columns) == {4, 5, 6}  # centres 36, 44, 52 within 12 of 46
    assert (targets.boxes[:256].reshape(16, 16, 4)[7, 5] == [30, 48, 62, 72]).all()
    assert (targets.classes[256:] == NEGATIVE).all()  # too small for the coarser levels


def test_a_box_smaller_than_a_cell_is_learnt_by_its_cell() -> None:
    targets = assign(sample_of([[17, 17, 22, 20]]), 128)
    assert np.flatnonzero(targets.classes >= 0).tolist() == [2 * 16 + 2]


@pytest.mark.parametrize(("side", "levels"), [(30, {0}), (50, {0, 1}), (70, {1}), (110, {1, 2})])
def test_boxes_are_learnt_at_the_level_of_their_size(side: int, levels: set[int]) -> None:
    classes = assign(sample_of([[4, 4, 4 + side, 4 + side]]), 128).classes
    spans = (classes[:256], classes[256:320], classes[320:])
    assert {n for n, span in enumerate(spans) if (span >= 0).any()} == levels


def test_the_smaller_box_wins_and_ignored_boxes_teach_nothing() -> None:
    targets = assign(sample_of([[40, 40, 72, 72], [0, 0, 50, 50], [50, 50, 62, 62]], [False, True, False]), 128)
    grid, boxes = targets.classes[:256].reshape(16, 16), targets.boxes[:256].reshape(16, 16, 4)
    assert grid[1, 1] == IGNORED
    assert grid[15, 15] == NEGATIVE
    assert (boxes[6, 6] == [50, 50, 62, 62]).all()
    assert (boxes[5, 5] == [40, 40, 72, 72]).all()  # a real box beats the ignored one
    assert grid[5, 5] == CAR


def test_examples_show_what_their_boxes_say() -> None:
    """The red squares of the samples are inside the boxes and nowhere else, however cut and scaled."""
    mixer = SampleMixer({"a": random_samples(0, 4), "b": random_samples(1, 4)}, {"a": 3.0})
    rng = np.random.default_rng(2)
    seen = 0
    for _ in range(25):
        example = make_example(mixer, rng, AugmentOptions(side=96, long_side=96, captions=0.0))
        assert example.image.shape == (96, 96, 3)
        assert (example.boxes >= 0).all()
        assert (example.boxes <= 96).all()
        assert len(example.boxes) == len(example.classes) == len(example.ignored)
        red = example.image[..., 0].astype(int) - example.image[..., 1]
        for x0, y0, x1, y1 in np.round(example.boxes[~example.ignored]).astype(int):
            if min(x1 - x0, y1 - y0) < 12:
                continue
            inner = red[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3]
            seen += 1
            if red.max() > 30:  # else the example was turned grey
                assert np.median(inner) > 0.5 * np.percentile(red, 99)
    assert seen > 20


def test_rare_kinds_are_looked_at_as_often_as_common_ones() -> None:
    """One bus at the left of a long picture, a crowd at the right: windows show the bus half of the time."""
    boxes = np.array([[10, 40, 70, 90]] + [[900 + x, 40, 906 + x, 60] for x in range(0, 100, 5)], np.float32)
    classes = np.array([CLASSES.index("bus")] + [PERSON] * 20)
    picture = np.full((128, 1024, 3), 80, np.uint8)
    sample = Sample(picture, boxes, classes, np.zeros(21, bool))
    options = AugmentOptions(side=128, long_side=1024, scale=(1.0, 1.0), mosaic=0.0)
    mixer, rng = SampleMixer({"a": [sample]}, {}), np.random.default_rng(0)
    examples = [make_example(mixer, rng, options) for _ in range(100)]
    assert 25 <= sum(CLASSES.index("bus") in e.classes for e in examples) <= 60


def test_letters_change_the_picture_and_nothing_else() -> None:
    mixer = SampleMixer({"a": random_samples(0, 4)}, {})
    plain, written = (
        make_example(mixer, np.random.default_rng(5), AugmentOptions(side=128, mosaic=0.0, captions=share))
        for share in (0.0, 1.0)
    )
    np.testing.assert_array_equal(plain.boxes, written.boxes)
    assert not np.array_equal(plain.image, written.image)


def test_an_example_may_be_empty() -> None:
    mixer = SampleMixer({"a": [sample_of([])]}, {})
    example = make_example(mixer, np.random.default_rng(0), AugmentOptions(side=64))
    assert (assign(example, 64).classes == NEGATIVE).all()


def test_a_perfect_answer_costs_nothing_and_a_shifted_box_costs() -> None:
    truth = torch.tensor([[[8.0, 8, 24, 24], [0, 0, 0, 0]]])
    kinds = torch.tensor([[CAR, NEGATIVE]])
    logits = torch.full((1, 2, len(CLASSES)), -12.0)
    logits[0, 0, CAR] = 12.0
    assert detection_loss(logits, truth.clone(), kinds, truth) < 1e-3
    assert detection_loss(logits, truth + 4, kinds, truth) > 0.5
    shy = logits.clone()
    shy[0, 0, CAR] = -12.0
    assert detection_loss(shy, truth.clone(), kinds, truth) > 1.0
    wrong = logits.clone()
    wrong[0, 1, PERSON] = 12.0
    assert detection_loss(wrong, truth.clone(), kinds, truth) > 1.0
    forgiven = torch.tensor([[CAR, IGNORED]])
    assert detection_loss(wrong, truth.clone(), forgiven, truth) < 1e-3


def test_a_few_steps_lower_the_loss_on_pictures_not_seen() -> None:
    torch.manual_seed(0)
    network = Network(DetectorConfig(stem=8, widths=(8, 16, 16, 16), depths=(1, 1, 1, 1), neck=16))
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    options = AugmentOptions(side=64, long_side=64, mosaic=0.3)
    seen = SampleMixer({"a": random_samples(0, 16)}, {})
    unseen = batch_of(SampleMixer({"a": random_samples(99, 16)}, {}), np.random.default_rng(5), options, 16)

    def loss_on_unseen() -> float:
        with torch.no_grad():  # in train mode: running statistics are not ready after a few steps
            return float(detection_loss(*decode_outputs(network(unseen[0])), *unseen[1:]))

    before = loss_on_unseen()
    rng = np.random.default_rng(0)
    for _ in range(25):
        train_step(network, optimizer, *batch_of(seen, rng, options, 8), bf16=False)
    assert loss_on_unseen() < 0.7 * before


def test_a_run_can_be_interrupted(tmp_path: Path) -> None:
    state = TrainState(TrainOptions())
    batch = batch_of(SampleMixer({"a": random_samples(0, 4)}, {}), np.random.default_rng(0), AugmentOptions(side=64), 2)
    train_step(state.network.train(), state.optimizer, *batch, bf16=False)
    state.steps, state.seconds = 7, 12.5
    state.update_average(0.5)
    state.save(tmp_path)
    resumed = TrainState(TrainOptions(seed=3))
    resumed.load(tmp_path / "checkpoint.pt")
    assert (resumed.steps, resumed.seconds) == (7, 12.5)
    train_step(state.network, state.optimizer, *batch, bf16=False)
    train_step(resumed.network.train(), resumed.optimizer, *batch, bf16=False)
    for one, other in zip(state.network.parameters(), resumed.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_can_begin_with_the_weights_of_another(tmp_path: Path) -> None:
    first = TrainState(TrainOptions())
    first.steps, first.seconds = 7, 12.5
    first.save(tmp_path)
    second = TrainState(TrainOptions(seed=3))
    second.start_from(tmp_path / "checkpoint.pt")
    assert (second.steps, second.seconds) == (0, 0.0)
    for one, other in zip(first.average.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_is_exported_can_be_loaded(tmp_path: Path) -> None:
    export(TrainState(TrainOptions()).average, tmp_path / "w.safetensors")
    assert NanoGrounder.load(tmp_path / "w.safetensors").ground([np.zeros((9, 9, 3), np.uint8)], []) == [{}]


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate_at(p, 1.0) for p in (0.0, 0.01, 0.02, 0.5, 1.0, 1.2)]
    assert rates[0] < rates[1] < rates[2] == 1.0
    assert rates[2] > rates[3] > rates[4] == pytest.approx(0.02) == rates[5]


def test_samples_are_kept_exactly(tmp_path: Path) -> None:
    samples = [*random_samples(0, 11), sample_of([])]
    store(samples, tmp_path / "kept.npz")
    for kept, given in zip(restore(tmp_path / "kept.npz"), samples, strict=True):
        for part in ("image", "boxes", "classes", "ignored"):
            np.testing.assert_array_equal(getattr(kept, part), getattr(given, part))


def test_objects_seen_often_count_where_the_teacher_missed_them() -> None:
    places = [[10.0 + 4 * t, 20, 40 + 4 * t, 50] for t in range(8)]
    looks = [[(box, 0.35 if t == 2 else 0.2)] for t, box in enumerate(places)]
    looks[4] = []  # the teacher blinks
    looks[6].append(([80.0, 80, 100, 100], 0.2))  # a ghost
    frames = [np.full((128, 128, 3), 90, np.uint8) for _ in places]
    samples = label_clip(Script(*looks), frames, ClipPlan(every=2))  # type: ignore[arg-type]
    assert len(samples) == 4
    np.testing.assert_allclose(samples[2].boxes, [places[4]])
    assert not samples[2].ignored.any()
    assert samples[3].ignored.tolist() == [False, True]


def test_what_moves_without_a_label_is_ignored_or_named() -> None:
    rng = np.random.default_rng(0)
    street = rng.integers(80, 90, (120, 160, 3)).astype(np.uint8)
    frames = []
    for t in range(40):
        frame = street.copy()
        if 10 <= t < 13:
            frame[40:80, 30 + t : 90 + t] = 200
        frames.append(frame)
    nothing = Script(*[[] for _ in range(80)])
    quiet, moving = label_clip(nothing, frames, ClipPlan(11))[:2]  # type: ignore[arg-type]
    assert len(quiet.boxes) == 0
    assert moving.ignored.tolist() == [True]
    np.testing.assert_allclose(moving.boxes, [[41, 40, 101, 80]], atol=8)
    _, named = label_clip(nothing, frames, ClipPlan(11, movers="car"))[:2]  # type: ignore[arg-type]
    assert named.ignored.tolist() == [False]
    assert named.classes.tolist() == [CAR]


def test_a_photographs_own_labels_come_first() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    rows = np.array([[0, 0.5, 0.5, 0.5, 0.5]], np.float32)  # an ambulance
    looks = [([50.0, 25, 150, 76], 0.9), ([0.0, 0, 20, 20], 0.9), ([160.0, 0, 190, 30], 0.2)]
    sample = label_photo(Script(looks), image, rows)  # type: ignore[arg-type]
    np.testing.assert_allclose(sample.boxes, [[50, 25, 150, 75], [0, 0, 20, 20], [160, 0, 190, 30]])
    assert [CLASSES[c] for c in sample.classes[:2]] == ["truck", "car"]
    assert sample.ignored.tolist() == [False, False, True]


def test_a_photograph_without_labels_needs_a_surer_teacher(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    (image,) = read_pictures(tmp_path)
    assert image.shape == (100, 200, 3)
    looks = [([50.0, 25, 150, 76], 0.9), ([0.0, 0, 20, 20], 0.4)]
    sample = label_photo(Script(looks), image, NO_LABELS, SURE)  # type: ignore[arg-type]
    assert sample.ignored.tolist() == [False, True]
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.jpg: not a picture"):
        read_pictures(tmp_path)


def test_simulated_frames_come_with_their_truth() -> None:
    first, second = simulate_samples([3], per_seed=2, size=(160, 96))
    assert first.image.shape == second.image.shape == (96, 160, 3)
    assert len(first.boxes) == len(first.classes) > 0
    assert not np.array_equal(first.image, second.image)


def test_counting() -> None:
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [80, 80, 90, 90]], np.float32)
    truth, ignored = np.array([[0, 0, 10, 10], [30, 0, 40, 10]], np.float32), boxes[2:3]
    counts = count(boxes, truth, ignored)
    assert (counts.hits, counts.extra, counts.missed) == (1, 2, 1)
    none = np.zeros((0, 4), np.float32)
    assert count(none, truth, none).missed == 2
    assert count(boxes, none, none).extra == 4


def test_missing_training_data_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="cannot be read as video"):
        read_clip(tmp_path / "gone.mp4")
    with pytest.raises(InputError, match="no images"):
        read_photos(tmp_path)
    with pytest.raises(InputError, match=r"no \*.jpg"):
        read_pictures(tmp_path)
    settings = ["--set", f"teacher={tmp_path / 't.onnx'}", "--set", "precision=fp32", "--cpu"]
    assert run(["train", "grounder", "--data", str(tmp_path), *settings, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.shared
def test_the_real_teacher_sees_cars() -> None:
    weights, clip = SHARED / "weights" / "yolox_nano.onnx", SHARED / "data" / "video" / "suburb.mp4"
    if not weights.exists() or not clip.exists():
        pytest.skip("the teacher and the clips in ../shared are not here")
    pytest.importorskip("onnxruntime", reason="the teacher needs onnxruntime")
    teacher = YoloxTeacher(weights)
    frame = read_clip(clip, 0.1, 0.12)[0]
    whole, tiled = teacher.detect(frame), teacher.detect_tiled(frame)
    assert len(tiled) >= len(whole) >= 3
    assert (whole.classes == CAR).sum() >= 3
    assert (tiled.boxes >= 0).all()
    assert (tiled.boxes[:, 2] <= frame.shape[1]).all()
