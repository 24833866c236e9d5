import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from dino_model import random_network, small_settings, write_model, write_text_folder
from PIL import Image as Pictures

from discover_stream.config import GrounderConfig
from discover_stream.semantics.grounder import NanoGrounder
from discover_stream.semantics.grounder_choice import load_grounder
from discover_stream.semantics.grounding_dino import (
    Candidates,
    GroundingDino,
    GroundingDinoOptions,
    prepare,
    regions_from,
    scaled_size,
    score_labels,
)
from discover_stream.semantics.grounding_dino_captions import Caption
from discover_stream.types import Box, Image, InputError, LabelSet, Region

COLOURS = ("red", "green", "blue", "white")
THINGS = ("car", "van", "bus", "truck", "lorry", "bike", "tram", "person", "police officer", "delivery van")
MANY = LabelSet("many", 1, tuple(f"{c} {t}" for c in COLOURS for t in THINGS) + tuple(f"{t}s" for t in THINGS) * 6)
FEW = LabelSet("few", 1, ("car", "people with umbrellas", "???", "road crossing"))
SMALL = GroundingDinoOptions(device="cpu", short_side=64, long_side=96, threshold=0.05)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dino")
    return write_model(place, random_network(write_text_folder(place / "bert-base-uncased")))


@pytest.fixture(scope="module")
def grounder(folder: Path) -> GroundingDino:
    return GroundingDino.load(folder, SMALL)


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    noise = np.random.default_rng(3)
    shapes = ((90, 120, 3), (48, 64, 3), (120, 90, 3))
    return [
        np.asarray(Pictures.fromarray(noise.integers(0, 256, (6, 8, 3), np.uint8)).resize((w, h))) for h, w, _ in shapes
    ]


def test_regions_are_what_a_plain_reading_of_the_scores_gives(grounder: GroundingDino, pictures: list[Image]) -> None:
    """One picture and label set step by step, tokens found by searching the caption's text."""
    from groundingdino.util.misc import NestedTensor

    image = pictures[0]
    (answer,) = grounder.ground([image], [MANY])
    captions = grounder.captions(MANY)
    assert len(captions) == 2
    item = prepare(image, SMALL, 40)
    rows: list[tuple[float, int, list[float]]] = []
    for caption in captions:
        with torch.inference_mode():
            found = grounder._network(NestedTensor(item.pixels[None], item.outside[None]), captions=[caption.text])
        logits, boxes = found["pred_logits"], found["pred_boxes"]
        tokens = grounder._tokenizer(caption.text)["input_ids"]
        stop = grounder._tokenizer.convert_tokens_to_ids(".")
        edges = [0, *(n for n, token in enumerate(tokens) if token == stop)]
        for query in range(40):
            scores = [
                max(1 / (1 + np.exp(-float(logits[0, query, column]))) for column in range(a + 1, b))
                for a, b in pairwise(edges)
            ]
            best = int(np.argmax(scores))
            if scores[best] >= SMALL.threshold:
                rows.append((scores[best], caption.labels[best], boxes[0, query].tolist()))
    expected: list[tuple[float, int, Box]] = []
    for score, label, (cx, cy, w, h) in sorted(rows, key=lambda row: -row[0]):
        box = Box((cx - w / 2) * 120, (cy - h / 2) * 90, (cx + w / 2) * 120, (cy + h / 2) * 90).clipped(120, 90)
        if all(box.iou(other) <= SMALL.iou for _, _, other in expected):
            expected.append((score, label, box))
    regions = answer["many"]
    assert 3 <= len(regions) == len(expected) < len(rows)
    assert len({region.label for region in regions}) >= 2
    for region, (score, label, box) in zip(regions, expected, strict=True):
        assert (region.label, region.track) == (label, 0)
        assert region.score == pytest.approx(score, abs=1e-6)
        assert region.box.iou(box) > 0.9999


@pytest.mark.parametrize("batch", [1, 3])
def test_another_task_changes_nothing_to_the_bit(grounder: GroundingDino, pictures: list[Image], batch: int) -> None:
    options = GroundingDinoOptions("cpu", batch=batch, short_side=64, long_side=96, threshold=0.05)
    grounder = GroundingDino(grounder._network, grounder._tokenizer, options)
    alone = grounder.ground(pictures, [MANY])
    both = grounder.ground(pictures, [FEW, MANY, LabelSet("third", 1, ("bus", "tram", "white lorry"))])
    assert [list(answer) for answer in both] == [["few", "many", "third"]] * 3
    assert all(answer["many"] for answer in alone)
    assert [{"many": answer["many"]} for answer in both] == alone
    if batch == 1:  # then not even the pictures beside it matter
        assert [grounder.ground([picture], [MANY])[0] for picture in pictures] == alone


def test_batches_change_no_more_than_rounding(grounder: GroundingDino, pictures: list[Image]) -> None:
    four = [
        pictures[0],
        np.ascontiguousarray(pictures[0][::-1]),
        pictures[1],
        np.ascontiguousarray(pictures[0][:, ::-1]),
    ]
    options = GroundingDinoOptions("cpu", batch=4, short_side=64, long_side=96, threshold=0.05)
    together = GroundingDino(grounder._network, grounder._tokenizer, options).ground(four, [FEW])
    for one, other in zip(grounder.ground(four, [FEW]), together, strict=True):
        assert [r.label for r in one["few"]] == [r.label for r in other["few"]]
        for a, b in zip(one["few"], other["few"], strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-5)
            assert a.box.iou(b.box) > 0.999


@pytest.mark.parametrize("size", [(1, 1), (3, 700), (900, 2)])
def test_pictures_of_any_shape(grounder: GroundingDino, size: tuple[int, int]) -> None:
    picture = np.full((size[1], size[0], 3), 120, np.uint8)
    (answer,) = grounder.ground([picture], [FEW])
    for region in answer["few"]:
        assert 0 <= region.box.x0 < region.box.x1 <= size[0]
        assert 0 <= region.box.y0 < region.box.y1 <= size[1]


def test_nothing_asked_nothing_answered(grounder: GroundingDino, pictures: list[Image]) -> None:
    assert grounder.ground([], [FEW]) == []
    assert grounder.ground(pictures[:1], []) == [{}]
    assert grounder.ground(pictures[:1], [LabelSet("odd", 1, ("???",))]) == [{"odd": ()}]


def test_what_cannot_be_grounded_is_named(grounder: GroundingDino) -> None:
    assert grounder.unsupported(FEW) == ("???",)
    with pytest.raises(InputError, match="two label sets of one task"):
        grounder.ground([], [FEW, LabelSet("few", 2, ("car",))])
    with pytest.raises(InputError, match=r"task long: the label .* has 300 tokens"):
        grounder.ground([], [LabelSet("long", 1, ("car", "b " * 300))])


def test_bfloat16_finds_much_the_same(grounder: GroundingDino, pictures: list[Image]) -> None:
    options = GroundingDinoOptions("cpu", "bfloat16", short_side=64, long_side=96, threshold=0.05)
    half = GroundingDino(grounder._network, grounder._tokenizer, options)
    (one,), (other,) = grounder.ground(pictures[:1], [FEW]), half.ground(pictures[:1], [FEW])
    assert other["few"]
    assert other["few"][0].score == pytest.approx(one["few"][0].score, rel=0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (GroundingDinoOptions("cuda:63"), "usable GPUs here; use auto or cpu"),
        (GroundingDinoOptions("cpu", "float16"), "float16 needs a GPU"),
        (GroundingDinoOptions("tpu"), "no such device"),
        (GroundingDinoOptions("meta"), "not supported"),
    ],
)
def test_devices_that_are_not_there(grounder: GroundingDino, options: GroundingDinoOptions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GroundingDino(grounder._network, grounder._tokenizer, options)


def test_files_that_do_not_belong_together(folder: Path, tmp_path: Path) -> None:
    place = write_text_folder(tmp_path / "bert-base-uncased").parent
    (place / "w.pth").symlink_to(folder / "groundingdino_swint_ogc.pth")
    settings = place / "s.cfg.py"
    lines = {**small_settings(), "dec_layers": 2}
    settings.write_text("\n".join(f"{name} = {value!r}" for name, value in lines.items()))
    with pytest.raises(InputError, match=r"made for other settings: the file lacks transformer\.decoder\.layers\.1"):
        GroundingDino.load(place, SMALL)
    settings.write_text("backbone = 'swin_T_224_1k'")
    with pytest.raises(InputError, match="no network can be made of them") as caught:
        GroundingDino.load(place, SMALL)
    assert "\n" not in str(caught.value)


def test_the_configuration_chooses(folder: Path, pictures: list[Image], grounder: GroundingDino) -> None:
    assert isinstance(load_grounder(GrounderConfig()), NanoGrounder)
    strict = load_grounder(GrounderConfig(threshold=0.9))
    assert isinstance(strict, NanoGrounder)
    assert strict.options.threshold == 0.9
    chosen = load_grounder(
        GrounderConfig(kind="grounding-dino", path=str(folder), device="cpu", batch=2, threshold=0.1)
    )
    assert isinstance(chosen, GroundingDino)
    assert (chosen.options.batch, chosen.options.threshold, chosen.options.short_side) == (2, 0.1, 800)
    with pytest.raises(InputError, match="is no folder"):
        load_grounder(GrounderConfig(kind="grounding-dino", path=str(folder / "gone")))


def test_sizes_are_those_of_the_package() -> None:
    from groundingdino.datasets.transforms import resize

    for width, height in ((640, 360), (1920, 1080), (360, 640), (800, 800), (801, 1000), (4096, 100), (333, 2000)):
        picture, _ = resize(Pictures.new("RGB", (width, height)), None, 800, 1333)
        assert scaled_size(width, height, 800, 1333) == picture.size
    assert scaled_size(1, 5000, 800, 1333) == (1, 1333)


def test_pictures_are_prepared_as_the_package_does() -> None:
    from groundingdino.datasets import transforms

    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    steps = [transforms.RandomResize([48], max_size=1333), transforms.ToTensor()]
    steps.append(transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    expected, _ = transforms.Compose(steps)(Pictures.fromarray(noise), None)
    item = prepare(noise, GroundingDinoOptions(short_side=48), 10)
    torch.testing.assert_close(item.pixels, expected, atol=1e-6, rtol=0)
    assert not item.outside.any()


def test_thin_pictures_have_a_place_for_every_query() -> None:
    item = prepare(np.zeros((1, 50, 3), np.uint8), GroundingDinoOptions(short_side=64, long_side=128), 200)
    height, width = item.pixels.shape[1:]
    assert sum(-(-height // s) * -(-width // s) for s in (8, 16, 32, 64)) >= 200
    assert int((~item.outside).sum()) == 3 * 150


def test_a_label_scores_its_best_token_and_nothing_else_counts() -> None:
    caption = Caption("van . delivery van .", (3, 7), ((1, 2), (3, 5)), 7)
    logits = np.full((4, 256), -np.inf, np.float32)
    logits[0, :7] = [9, 0.0, 9, -1, 1, 9, 9]  # stops and ends do not count
    logits[1, :7] = [0, 2.0, 0, 2, -3, 0, 0]  # a tie: the first label
    logits[2, :7] = [9, -3, 9, -3, -3, 9, 9]  # below the threshold
    logits[3, :7] = 5
    boxes = np.full((4, 4), 0.5, np.float32)
    boxes[3, 0] = np.nan
    found = score_labels(logits, boxes, caption, 0.3)
    assert found.labels.tolist() == [7, 3]
    assert found.scores.tolist() == pytest.approx([0.731059, 0.880797], abs=1e-5)


def test_captions_share_objects() -> None:
    def part(*rows: tuple[list[float], int, float]) -> Candidates:
        boxes, labels, scores = zip(*rows, strict=True)
        return Candidates(np.array(boxes, np.float32), np.array(labels), np.array(scores, np.float32))

    one = part(([0.5, 0.5, 0.5, 0.5], 1, 0.5), ([0.0, 0.0, 0.5, 0.5], 0, 0.25), ([2, 2, 0.1, 0.1], 0, 0.9))
    two = part(([0.5, 0.5, 0.5, 0.51], 4, 0.75))
    found = regions_from([one, two], 200, 100, SMALL)
    assert [(region.label, region.score) for region in found] == [(4, 0.75), (0, 0.25)]
    assert found[1] == Region(0, 0.25, Box(0, 0, 50, 25))
    assert regions_from([two, one], 200, 100, SMALL) == found
    assert regions_from([], 200, 100, SMALL) == ()


def test_nobody_pays_for_it_who_does_not_use_it() -> None:
    program = """
import sys
import discover_stream.app.cli, actors.remote, discover_stream.semantics.grounder_choice
assert not {"torch", "transformers", "groundingdino", "huggingface_hub"} & set(sys.modules), sys.modules.keys()
import discover_stream.semantics.grounding_dino
assert not {"transformers", "groundingdino", "huggingface_hub"} & set(sys.modules)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-500:]
