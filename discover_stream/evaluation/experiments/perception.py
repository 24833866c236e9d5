"""What people see, as papers measure it: LPIPS, DISTS, and FID and KID over patches of 256 pixels.

The arithmetic is torchmetrics', the Inception network torch-fidelity's. The networks' weights come from a file or from
torch's hub folder. What is absent is refused by name; `none` leaves a measure out, `random` takes random weights: such
figures compare with nothing but themselves.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from discover_stream.evaluation.detectors import RANDOM_SEED, hub_file
from discover_stream.evaluation.onnx_detectors import short_hash
from discover_stream.types import Image, InputError

Measure = Literal["lpips", "dists", "inception"]
Features = npt.NDArray[np.float32]

PATCH = 256
KID_SUBSETS, KID_SUBSET = 100, 1000
"""KID is the mean over so many random subsets of so many patches; of fewer patches, over all of them at once."""

FILES: Mapping[Measure, str] = {
    "lpips": "alexnet-owt-7be5be79.pth",
    "dists": "vgg16-397923af.pth",
    "inception": "weights-inception-2015-12-05-6726825d.pth",
}
"""What the files are called in torch's hub folder: torchvision's AlexNet (LPIPS's heads come with torchmetrics) and
VGG-16 (DISTS's weights do as well), and torch-fidelity's Inception."""


@dataclass(frozen=True)
class Perception:
    """The networks that were asked for, on a device.

    Attributes:
        name: each measure and its weights; figures compare only where it is the same.
        device: where they are.
    """

    name: str
    device: torch.device
    _lpips: nn.Module | None
    _dists: nn.Module | None
    _inception: nn.Module | None

    @classmethod
    def load(cls, sources: Mapping[str, str], *, device: str = "cpu") -> Perception:
        """Load the networks.

        Args:
            sources: of each `Measure`, `hub` (what holds for those that are not named), a file, `random` or `none`.
            device: where to compute.

        Raises:
            InputError: a name is no measure, or weights are not there or do not fit.
        """
        for name in sources:
            if name not in get_args(Measure):
                raise InputError(f"measure {name!r} is none of {', '.join(get_args(Measure))}; correct the name")
        makers: dict[Measure, Callable[[], nn.Module]] = {
            "lpips": _make_lpips,
            "dists": _make_dists,
            "inception": _make_inception,
        }
        networks: dict[Measure, nn.Module | None] = {}
        words = []
        for measure, make in makers.items():
            source = sources.get(measure, "hub")
            networks[measure] = None
            if source != "none":
                networks[measure], word = _loaded(measure, source, make)
                networks[measure].to(device)  # type: ignore[union-attr]
                words.append(f"{measure} {word}")
        return cls(", ".join(words), torch.device(device), *networks.values())

    @torch.inference_mode()
    def pair(self, original: Image, decoded: Image) -> dict[str, float]:
        """LPIPS (AlexNet) and DISTS of a decode, those whose networks are there; less is better.

        Args:
            original: (H, W, 3) uint8 RGB.
            decoded: the same size.
        """
        first, second = (self._pixels(image) for image in (original, decoded))
        found = {}
        if self._lpips is not None:
            found["LPIPS"] = float(self._lpips(second, first, normalize=True).squeeze())
        if self._dists is not None:
            found["DISTS"] = float(self._dists(second, first).squeeze())
        return found

    @torch.inference_mode()
    def patch_features(self, image: Image) -> Features:
        """(patches, 2048) features of a picture's patches for FID and KID, see `patches`; none without the network."""
        cut = patches(image)
        if self._inception is None or not cut:
            return np.zeros((0, 2048), np.float32)
        batch = torch.from_numpy(np.stack(cut)).permute(0, 3, 1, 2).to(self.device)
        (features,) = self._inception(batch)
        return np.asarray(features.float().cpu().numpy(), dtype=np.float32)

    def _pixels(self, image: Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].to(self.device).float() / 255


def patches(image: Image, side: int = PATCH) -> list[Image]:
    """Squares that tile a picture from its top left, and those of the tiling shifted by half a square.

    So do HiFiC and those who compare with it (Mentzer et al., 2020). Smaller pictures have none.
    """
    height, width = image.shape[:2]
    return [
        image[top : top + side, left : left + side]
        for shift in (0, side // 2)
        for top in range(shift, height - side + 1, side)
        for left in range(shift, width - side + 1, side)
    ]


class _AsIs(nn.Module):
    """Stands for a network where features are there already."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.num_features = count

    def forward(self, features: Tensor) -> Tensor:
        """The features."""
        return features


def fid(original: Features, decoded: Features) -> float:
    """Fréchet distance of two sets of features (patches, channels). `nan` of fewer than two patches.

    With fewer patches than channels it is far too large, and still falls as pictures get better.
    """
    if min(len(original), len(decoded)) < 2:
        return float("nan")
    from torchmetrics.image.fid import FrechetInceptionDistance

    # In float64: over few patches covariances are singular, and their product's roots are sensitive.
    metric = FrechetInceptionDistance(feature=_AsIs(original.shape[1])).set_dtype(torch.float64)
    metric.update(torch.from_numpy(original).double(), real=True)
    metric.update(torch.from_numpy(decoded).double(), real=False)
    return float(metric.compute())


def kid(original: Features, decoded: Features) -> float:
    """Kernel distance of two sets of features (patches, channels), by the same subsets always; `nan` of one."""
    size = min(len(original), len(decoded), KID_SUBSET)
    if size < 2:
        return float("nan")
    from torchmetrics.image.kid import KernelInceptionDistance

    subsets = KID_SUBSETS if max(len(original), len(decoded)) > size else 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that features are kept: they are here already
        metric = KernelInceptionDistance(feature=_AsIs(original.shape[1]), subsets=subsets, subset_size=size)
    metric.update(torch.from_numpy(original).double(), real=True)
    metric.update(torch.from_numpy(decoded).double(), real=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        mean, _ = metric.compute()
    return float(mean)


def _loaded(measure: Measure, source: str, make: Callable[[], nn.Module]) -> tuple[nn.Module, str]:
    """A network, and in a word where its weights are from."""
    if source == "random":
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / FILES[measure]
            torch.save(_random_state(measure), file)
            return _built(measure, file, make), "with random weights"
    file = hub_file(FILES[measure]) if source == "hub" else Path(source)
    if not file.is_file():
        raise InputError(
            f"measure {measure}: no weights at {file}; put {FILES[measure]} there, or say {measure}=FILE,"
            f" {measure}=none to leave it out, or {measure}=random"
        )
    return _built(measure, file, make), short_hash(file)


def _built(measure: Measure, file: Path, make: Callable[[], nn.Module]) -> nn.Module:
    try:
        with _hub_with(file, FILES[measure]):
            return make().eval().requires_grad_(False)
    except Exception as error:  # unpicklers and networks fail in many ways, all of them the file's fault
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"measure {measure}: {file} does not hold its weights ({reason}); fetch it anew") from error


@contextmanager
def _hub_with(file: Path, name: str) -> Iterator[None]:
    """torch's hub folder with nothing but a file in it, under the name that the packages look for."""
    before = torch.hub.get_dir()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Path(folder) / "checkpoints"
        checkpoints.mkdir()
        (checkpoints / name).symlink_to(file.resolve())
        torch.hub.set_dir(folder)
        try:
            yield
        finally:
            torch.hub.set_dir(before)


def _make_lpips() -> nn.Module:
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    network: nn.Module = LearnedPerceptualImagePatchSimilarity(net_type="alex").net
    return network


def _make_dists() -> nn.Module:
    from torchmetrics.functional.image.dists import DISTSNetwork

    network: nn.Module = DISTSNetwork()
    return network


def _make_inception() -> nn.Module:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    file = hub_file(FILES["inception"])
    network: nn.Module = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(file))
    return network


def _random_state(measure: Measure) -> dict[str, Any]:
    """Weights as an untrained network has them, always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        if measure == "inception":
            return _random_inception()
        from torchvision import models  # type: ignore[import-untyped]

        network = models.alexnet(weights=None) if measure == "lpips" else models.vgg16(weights=None)
        return dict(network.state_dict())


def _random_inception() -> dict[str, Any]:
    """torch-fidelity's Inception builds only from a file: an empty one tells, key by key, what it wants."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    kept: dict[str, Any] = {}

    class Untrained(FeatureExtractorInceptionV3):  # type: ignore[misc]
        """Keeps the weights that it was made with."""

        def load_state_dict(self, _state: Any, *_args: Any, **_named: Any) -> Any:
            kept.update({key: value.clone() for key, value in self.state_dict().items()})

    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save({}, file.name)
        Untrained("inception-v3-compat", ["2048"], file.name)
    for value in kept.values():
        if value.ndim == 4:  # PyTorch's own start lets what goes through ninety layers vanish
            nn.init.kaiming_normal_(value, nonlinearity="relu")
    return kept
