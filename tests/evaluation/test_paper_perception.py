"""FID, KID, LPIPS and DISTS against other packages, on random features and with random weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import piq
import piq.perceptual
import pytest
import torch
from torch import nn
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchmetrics.functional.image.dists import _PATH_WEIGHT_DISTS

from discover_stream.evaluation.experiments.perception import KID_SUBSET, PATCH, Perception, fid, kid, patches
from discover_stream.types import Image, InputError

CLOSE = 1e-4


@pytest.fixture(scope="module")
def untrained() -> Perception:
    return Perception.load({"lpips": "random", "dists": "random", "inception": "random"})


def pictures(seed: int, height: int = 70, width: int = 90) -> tuple[Image, Image]:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return first, np.clip(first.astype(int) + rng.integers(-60, 61, first.shape), 0, 255).astype(np.uint8)


def tensors(*images: Image) -> list[torch.Tensor]:
    return [torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255 for image in images]


@pytest.mark.parametrize(("count", "channels"), [(40, 8), (300, 32)])
def test_fid_is_what_two_other_packages_say(count: int, channels: int) -> None:
    rng = np.random.default_rng(count)
    first = rng.normal(size=(count, channels)).astype(np.float32)
    second = (1.3 * rng.normal(size=(count + 7, channels)) + 0.2).astype(np.float32)
    ours = fid(first, second)
    theirs = [fid_features_to_statistics(torch.from_numpy(part)) for part in (first, second)]
    quiet = fid_statistics_to_metric(*theirs, verbose=False)["frechet_inception_distance"]
    assert ours == pytest.approx(quiet, abs=CLOSE)
    assert ours == pytest.approx(float(piq.FID()(*map(torch.from_numpy, (first, second)))), abs=CLOSE)
    assert fid(first, first) == pytest.approx(0, abs=CLOSE)


def test_kid_of_all_patches_is_what_two_other_packages_say() -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=(60, 24)).astype(np.float32)
    second = (rng.normal(size=(60, 24)) + 0.3).astype(np.float32)
    one, two = torch.from_numpy(first), torch.from_numpy(second)
    settings = {"kid_subsets": 1, "kid_subset_size": 60, "verbose": False}
    theirs = kid_features_to_metric(one, two, **settings)["kernel_inception_distance_mean"]
    assert kid(first, second) == pytest.approx(theirs, abs=CLOSE)
    assert kid(first, second) == pytest.approx(float(piq.KID().compute_metric(one.double(), two.double())), abs=CLOSE)


def test_kid_takes_the_same_subsets_again() -> None:
    rng = np.random.default_rng(4)
    first, second = (rng.normal(size=(KID_SUBSET + extra, 4)).astype(np.float32) for extra in (30, 0))
    state = torch.get_rng_state()
    assert kid(first, second) == kid(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_few_patches_have_no_figure() -> None:
    one = np.ones((1, 4), np.float32)
    assert np.isnan(fid(one, one))
    assert np.isnan(kid(one, one))


def test_lpips_is_what_another_package_says(untrained: Perception) -> None:
    network = untrained._lpips
    assert network is not None
    slices = [getattr(network.net, f"slice{number}") for number in range(1, 6)]
    features = nn.Sequential(*(layer for part in slices for layer in part))
    heads = [network.lins[layer].model[-1].weight for layer in range(5)]
    theirs = piq.ContentLoss(features, ["1", "4", "7", "9", "11"], heads, reduction="none", normalize_features=True)
    for seed in range(2):
        first, second = pictures(seed)
        ours = untrained.pair(first, second)["LPIPS"]
        assert ours == pytest.approx(float(theirs(*tensors(first, second))), abs=CLOSE)
        assert ours > 10 * CLOSE
    assert untrained.pair(first, first)["LPIPS"] == pytest.approx(0, abs=1e-6)


def test_dists_is_what_another_package_says(untrained: Perception, monkeypatch: pytest.MonkeyPatch) -> None:
    network = untrained._dists
    assert network is not None
    stages = [getattr(network, f"stage{number}") for number in range(1, 6)]
    layers = [layer for stage in stages for layer in stage]
    pooled = [layer if isinstance(layer, nn.Conv2d | nn.ReLU) else nn.MaxPool2d(2) for layer in layers]
    monkeypatch.setattr(
        piq.perceptual, "vgg16", lambda **_: SimpleNamespace(features=nn.Sequential(*pooled)), raising=True
    )
    weights = torch.load(_PATH_WEIGHT_DISTS, weights_only=True)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: weights)
    theirs = piq.DISTS(reduction="none")
    for seed in range(2):
        first, second = pictures(seed)
        ours = untrained.pair(first, second)["DISTS"]
        assert ours == pytest.approx(float(theirs(*tensors(first, second))), abs=CLOSE)
        assert ours > 10 * CLOSE


def test_patches_tile_the_picture_twice() -> None:
    image = np.zeros((512, 768, 3), np.uint8)
    image[:, :, 0] = np.arange(768) // 3
    found = patches(image)
    assert len(found) == 6 + 2  # 2 x 3, and 1 x 2 shifted by half a patch
    assert {part.shape for part in found} == {(PATCH, PATCH, 3)}
    assert int(found[6][0, 0, 0]) == 128 // 3
    assert patches(image[:200]) == []


def test_patches_have_features_of_their_own(untrained: Perception) -> None:
    image = np.zeros((PATCH, 2 * PATCH, 3), np.uint8)
    image[:, PATCH:] = 200
    features = untrained.patch_features(image)
    assert features.shape == (2, 2048)
    assert np.abs(features[0] - features[1]).max() > 1e-3
    assert untrained.patch_features(image[:100]).shape == (0, 2048)


def test_weights_that_are_absent_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    for measure in ("lpips", "dists", "inception"):
        others = {name: "none" for name in ("lpips", "dists", "inception") if name != measure}
        with pytest.raises(InputError, match=rf"measure {measure}: no weights at .*{measure}=random"):
            Perception.load(others)
    nothing = Perception.load({"lpips": "none", "dists": "none", "inception": "none"})
    assert nothing.pair(*pictures(0)) == {}
    assert nothing.name == ""
    with pytest.raises(InputError, match="'fid' is none of lpips, dists, inception"):
        Perception.load({"fid": "random"})


def test_a_file_of_other_weights_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(1)}, file)
    before = torch.hub.get_dir()
    with pytest.raises(InputError, match="does not hold its weights"):
        Perception.load({"lpips": str(file), "dists": "none", "inception": "none"})
    assert torch.hub.get_dir() == before
