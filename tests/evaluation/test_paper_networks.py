"""Task networks of the experiments: classifiers and segmenters, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_files import FLOAT, Node, model
from torchvision.models import squeezenet1_1

from discover_stream.evaluation.boxes import Detection
from discover_stream.evaluation.experiments.networks import cut_out, load_classifier, load_segmenter
from discover_stream.evaluation.peers.vvc import Encoder, VvcPeer, encoder_command, installed_encoder
from discover_stream.evaluation.systems import Clip
from discover_stream.types import Box, Image, InputError


def plain(red: int, green: int, blue: int, side: int = 64) -> Image:
    return np.full((side, side, 3), (red, green, blue), np.uint8)


def colour_classifier(path: Path, names: list[str]) -> Path:
    """Scores are the means of red, green and blue."""
    nodes = [Node("GlobalAveragePool", ("picture",), "pooled"), Node("Flatten", ("pooled",), "scores", (("axis", 1),))]
    data = model(
        {"picture": (FLOAT, [1, 3, 32, 32])}, {}, nodes, {"scores": (FLOAT, [1, 3])}, {"names": json.dumps(names)}
    )
    path.write_bytes(data)
    return path


def test_an_onnx_classifier_answers_in_the_sets_classes(tmp_path: Path) -> None:
    file = colour_classifier(tmp_path / "colours.onnx", ["red", "green", "blue"])
    classifier = load_classifier(f"onnx:{file}", ("n00000001_blue", "n00000002_red"), {})
    assert [classifier.classify(plain(*colour)) for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0))] == [1, 0, -1]
    with pytest.raises(InputError, match="none of the network's 3"):
        load_classifier(f"onnx:{file}", ("yellow",), {})


def test_the_nearest_original_is_found_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "squeezenet.pth"
    torch.save(squeezenet1_1(weights=None).state_dict(), weights)
    rng = np.random.default_rng(0)
    originals = {kind: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for kind in (4, 9)}
    originals[7] = plain(200, 30, 30)
    classifier = load_classifier(f"nearest:{weights}", (), originals)
    assert [classifier.classify(originals[kind]) for kind in (4, 7, 9)] == [4, 7, 9]
    assert classifier.classify(plain(190, 40, 35)) == 7
    with pytest.raises(InputError, match="no originals"):
        load_classifier(f"nearest:{weights}", (), {})


def test_published_networks_without_weights_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"classifier resnet50: no weights at .*put resnet50-0676ba61\.pth"):
        load_classifier("torchvision:resnet50", ("a",), {})
    with pytest.raises(InputError, match=r"maskrcnn_resnet50_fpn: no weights at .*maskrcnn_resnet50_fpn_coco"):
        load_segmenter("torchvision:maskrcnn_resnet50_fpn")
    for spec in ("resnet50", "torchvision:", "keras:resnet50"):
        with pytest.raises(InputError, match="is unknown"):
            load_classifier(spec, ("a",), {})
        with pytest.raises(InputError, match="is unknown"):
            load_segmenter(spec)
    with pytest.raises(InputError, match="no classifier 'resnet5000'"):
        load_classifier("random:resnet5000", ("a",), {})


def test_random_weights_come_by_name_and_are_always_the_same() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)
    folders = tuple(f"class {number}" for number in range(1000))
    first, second = (load_classifier("random:resnet18", folders, {}) for _ in range(2))
    assert first.name == "resnet18 with random weights"
    assert first.classify(image) == second.classify(image) >= 0


def test_a_segmenter_gives_masks_of_the_pictures_size() -> None:
    segmenter = load_segmenter("random:maskrcnn_resnet50_fpn")
    assert "random weights" in segmenter.name
    found = segmenter.segment(np.zeros((64, 80, 3), np.uint8))
    assert all(mask.shape == (64, 80) and mask.dtype == bool for _, mask in found)


def test_cutting_out_keeps_the_object_of_a_box() -> None:
    rng = np.random.default_rng(1)
    image = (rng.normal(60, 6, (100, 140, 3))).clip(0, 255).astype(np.uint8)
    rows, columns = np.mgrid[:100, :140]
    disc = (rows - 50) ** 2 + (columns - 70) ** 2 <= 20**2
    image[disc] = (rng.normal((200, 60, 40), 6, (int(disc.sum()), 3))).clip(0, 255).astype(np.uint8)
    mask = cut_out(image, Detection("ball", 1.0, Box(45, 25, 95, 75)))
    assert (mask & disc).sum() / (mask | disc).sum() > 0.9
    np.testing.assert_array_equal(mask, cut_out(image, Detection("ball", 1.0, Box(45, 25, 95, 75))))
    everything = cut_out(image[:10, :10], Detection("ball", 1.0, Box(0, 0, 10, 10)))
    assert everything.all()


def test_vvc_is_refused_by_name_where_no_encoder_is_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installed_encoder() is None
    with pytest.raises(InputError, match=r"neither VTM \(EncoderAppStatic\) nor VVenC \(vvencapp\)"):
        VvcPeer(32).encode(Clip("a", (plain(0, 0, 0),), 0.0, ((),)))
    for name, kind in (("vvencapp", "vvenc"), ("EncoderApp", "vtm")):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho no such option >&2\nexit 3\n")
        program.chmod(0o755)
        found = installed_encoder()
        assert found == Encoder(kind, program)
        words = encoder_command(found, Path("in.yuv"), Path("out.266"), (64, 48), 37)
        assert words[0] == str(program)
        assert "37" in words
        assert VvcPeer(37).name == f"vvc intra, {kind}"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InputError, match=r"EncoderApp failed \(no such option\)"):
        VvcPeer(32).encode(Clip("a", (plain(0, 0, 0),), 0.0, ((),)))
