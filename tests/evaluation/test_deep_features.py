"""The deep-feature distance: from both layouts of weights, against the formula written out."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1

from discover_stream.evaluation.deep_features import CHANNELS, MIN_SIDE, DeepFeatures
from discover_stream.types import Image, InputError

SHARED = Path(__file__).resolve().parents[3] / "shared"
FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One random network in every layout, and random heads."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = squeezenet1_1(weights=None)
    for value in network.state_dict().values():
        value.add_(0.01 * torch.randn_like(value))
    state = network.state_dict()
    torch.save(state, folder / "net.pth")
    save_file({name: value.contiguous() for name, value in state.items()}, folder / "net.safetensors")
    heads = {f"lin{i}.model.1.weight": torch.rand(1, count, 1, 1) for i, count in enumerate(CHANNELS)}
    torch.save(heads, folder / "heads.pth")
    with h5py.File(folder / "net.h5", "w") as file:
        layers = {"conv1": "features.0"}
        for number, index in FIRES.items():
            layers[f"fire{number}/squeeze1x1"] = f"features.{index}.squeeze"
            layers |= {f"fire{number}/{part}": f"features.{index}.{part}" for part in ("expand1x1", "expand3x3")}
        for layer, name in layers.items():
            group = file.create_group(layer)
            group["w/kernel:0"] = state[f"{name}.weight"].permute(2, 3, 1, 0).numpy()
            group["w/bias:0"] = state[f"{name}.bias"].numpy()
            group.attrs["weight_names"] = [b"w/kernel:0", b"w/bias:0"]
    return folder


def image(seed: int, height: int = 70, width: int = 90) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def by_the_formula(inputs: list[torch.Tensor], folder: Path, heads: bool) -> float:
    """The distance of two pictures that are ready for torchvision's network."""
    network = squeezenet1_1(weights=None).eval()
    network.load_state_dict(torch.load(folder / "net.pth"))
    weights = torch.load(folder / "heads.pth")
    features: list[list[torch.Tensor]] = []
    with torch.no_grad():
        for picture in inputs:
            taps, x = [], picture
            for index, layer in enumerate(network.features):
                x = layer(x)
                if index in (1, 4, 7, 9, 10, 11, 12):
                    taps.append(x.clone())
            features.append(taps)
        total = 0.0
        for level, (a, b) in enumerate(zip(*features, strict=True)):
            gap = (a / (a.norm(dim=1, keepdim=True) + 1e-10) - b / (b.norm(dim=1, keepdim=True) + 1e-10)) ** 2
            head = weights[f"lin{level}.model.1.weight"] if heads else torch.full((1, a.shape[1], 1, 1), 1 / a.shape[1])
            total += float((gap * head).sum(1).mean())
    return total


@pytest.mark.parametrize("heads", [True, False])
@pytest.mark.parametrize("layout", ["net.pth", "net.safetensors", "net.h5"])
def test_it_is_the_formula(files: Path, layout: str, heads: bool) -> None:
    measure = DeepFeatures.load(files / layout, files / "heads.pth" if heads else None)
    ready = []
    for picture in (image(1), image(2)):
        if layout == "net.h5":
            x = picture[..., ::-1].astype(np.float32) - np.array([103.939, 116.779, 123.68], np.float32)
        else:
            x = (picture.astype(np.float32) / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        ready.append(torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float())
    assert measure.distance(image(1), image(2)) == pytest.approx(by_the_formula(ready, files, heads), rel=1e-4)
    assert measure.distance(image(1), image(1)) == 0
    assert measure.distance(image(1), image(2)) == pytest.approx(measure.distance(image(2), image(1)))


def test_names_tell_the_files_apart(files: Path) -> None:
    names = {
        DeepFeatures.load(files / layout, heads).name
        for layout in ("net.pth", "net.h5")
        for heads in (None, files / "heads.pth")
    }
    assert len(names) == 4
    assert all("lpips" not in name.lower() for name in names)


def test_inside_looks_inside(files: Path) -> None:
    measure = DeepFeatures.load(files / "net.pth")
    picture = image(3, 160, 240)
    broken = picture.copy()
    broken[:, 160:] = image(4, 160, 80)
    left, right = np.zeros((160, 240), dtype=bool), np.zeros((160, 240), dtype=bool)
    left[:, :80], right[:, 160:] = True, True
    everywhere = np.ones((160, 240), dtype=bool)
    whole = measure.distance(picture, broken)
    assert measure.distance(picture, broken, everywhere) == pytest.approx(whole, rel=1e-5)
    speck = np.zeros((160, 240), dtype=bool)
    speck[77, 201] = True  # a single pixel still counts in the coarsest layers
    assert measure.distance(picture, broken, speck) > whole
    kept = measure.features(picture)
    assert measure.between(kept, measure.features(broken)) == whole
    assert measure.between(kept, measure.features(broken), right) == measure.distance(picture, broken, right)
    assert measure.distance(picture, broken, left) < whole < measure.distance(picture, broken, right)


def test_what_cannot_be_used_is_refused(files: Path, tmp_path: Path) -> None:
    measure = DeepFeatures.load(files / "net.pth")
    small = image(0, MIN_SIDE - 1, 40)
    with pytest.raises(InputError, match="40x31"):
        measure.distance(small, small)
    assert measure.distance(image(0, MIN_SIDE, MIN_SIDE), image(1, MIN_SIDE, MIN_SIDE)) > 0
    with pytest.raises(InputError, match="no such file"):
        DeepFeatures.load(tmp_path / "none.pth")
    (tmp_path / "bad.h5").write_bytes(b"nothing")
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(InputError, match="Keras's layout"):
        DeepFeatures.load(tmp_path / "bad.h5")
    with pytest.raises(InputError, match="cannot be read"):
        DeepFeatures.load(tmp_path / "bad.pth")
    with pytest.raises(InputError, match="not the weights of a SqueezeNet"):
        DeepFeatures.load(files / "heads.pth")
    with pytest.raises(InputError, match="not heads"):
        DeepFeatures.load(files / "net.pth", files / "net.pth")
    heads = torch.load(files / "heads.pth")
    heads["lin3.model.1.weight"][0, 0] = -1
    torch.save(heads, tmp_path / "negative.pth")
    with pytest.raises(InputError, match="negative"):
        DeepFeatures.load(files / "net.pth", tmp_path / "negative.pth")


def test_the_real_weights(shared: Path) -> None:
    weights, heads = SHARED / "weights" / "squeezenet_imagenet.h5", SHARED / "weights" / "lpips_squeeze_heads.pth"
    if not weights.is_file():
        pytest.skip("needs ../shared/weights/squeezenet_imagenet.h5, which is not there")
    import cv2

    from discover_stream.evaluation.truth import read_picture

    picture = read_picture(min((shared / "kodak").iterdir()))
    measure = DeepFeatures.load(weights, heads)
    blurred = [np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), dtype=np.uint8) for sigma in (0.7, 1.5, 4.0)]
    distances = [measure.distance(picture, blur) for blur in blurred]
    assert distances == sorted(distances)
    assert 0 < distances[0] < 0.5 * distances[2]
    brighter = np.clip(picture.astype(int) + 8, 0, 255).astype(np.uint8)  # hardly to be seen, though PSNR is lower
    assert measure.distance(picture, brighter) < distances[0]
