"""A perceptual distance from deep features of local weights. **It is not LPIPS.**

The recipe is that of Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (2018):
features of seven layers of SqueezeNet 1.1, each brought to unit length over its channels, squared differences,
weighted per channel and averaged over the picture, summed over layers. LPIPS fixes both the network's weights and
the channel weights ("heads") that were fitted to them; here both come from whatever files are given, so figures
only compare where `name`, which holds the files' hashes, is the same.

Layouts that are known: SqueezeNet 1.1 as Keras HDF5 without top (`conv1`, `fire2/squeeze1x1`, ...: Caffe's
weights, BGR 0..255 minus means), as torchvision's state dict (.pth, .safetensors: RGB, ImageNet's mean and
deviation); heads as LPIPS's state dict (`lin0.model.1.weight`, ...), or none: every channel counts the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discover_stream.evaluation.boxes import Mask
from discover_stream.evaluation.onnx_detectors import short_hash
from discover_stream.evaluation.pictures import check_pair
from discover_stream.types import Image, InputError

TAPS = (1, 4, 7, 9, 10, 11, 12)
"""Layers of torchvision's `squeezenet1_1().features` after which features are taken, as LPIPS does."""

CHANNELS = (64, 128, 256, 384, 384, 512, 512)
MIN_SIDE = 32
"""Smaller pictures vanish in the network's poolings."""

Features = tuple[Tensor, ...]
"""Per layer (1, C, h, w), of unit length over C."""

_FIRES = {2: 3, 3: 4, 4: 6, 5: 7, 6: 9, 7: 10, 8: 11, 9: 12}  # Keras's number of a fire module -> torchvision's


@dataclass(frozen=True)
class DeepFeatures:
    """The distance; `load` makes one.

    Attributes:
        name: `squeezenet` and the hashes of the files it rests on.
    """

    name: str
    _network: nn.Module
    _heads: tuple[Tensor, ...]
    _shift: Tensor
    _scale: Tensor
    _bgr: bool

    @classmethod
    def load(cls, weights: Path, heads: Path | None = None, *, device: str = "cpu") -> DeepFeatures:
        """Read the network and, where given, the channel weights.

        Args:
            weights: .h5 (Keras's layout; needs h5py), .pth or .safetensors (torchvision's).
            heads: .pth or .safetensors; None weighs every channel by 1 / channels.
            device: where to compute.

        Raises:
            InputError: a file is missing or of an unknown layout.
        """
        for path in (weights, *([heads] if heads else [])):
            if not path.is_file():
                raise InputError(f"deep features {path}: no such file; give SqueezeNet 1.1 weights you have")
        keras = weights.suffix in (".h5", ".hdf5")
        network = _network(_keras_state(weights) if keras else _state(weights), weights)
        if keras:
            shift, scale = [103.939, 116.779, 123.68], [1.0, 1.0, 1.0]
        else:
            shift, scale = [255 * m for m in (0.485, 0.456, 0.406)], [255 * d for d in (0.229, 0.224, 0.225)]
        files = [weights] if heads is None else [weights, heads]
        return cls(
            "squeezenet " + "+".join(short_hash(path) for path in files),
            network.to(device),
            tuple(head.to(device) for head in _read_heads(heads)),
            torch.tensor(shift, device=device).view(3, 1, 1),
            torch.tensor(scale, device=device).view(3, 1, 1),
            keras,
        )

    def distance(self, original: Image, decoded: Image, inside: Mask | None = None) -> float:
        """How different two pictures look to the network: 0 for equal ones, more is worse.

        Args:
            original: (H, W, 3) uint8 RGB, at least `MIN_SIDE` a side.
            decoded: the same size.
            inside: (H, W); average only over positions by the share of their pixels that is marked. Features
                there still see what surrounds them.

        Raises:
            InputError: pictures that are too small, and see `pictures.check_pair`.
        """
        check_pair(original, decoded, inside)
        return self.between(self.features(original), self.features(decoded), inside)

    @torch.inference_mode()
    def features(self, image: Image) -> Features:
        """What the network sees in an (H, W, 3) uint8 RGB picture; keep an original's to compare it often.

        Raises:
            InputError: the picture is too small.
        """
        if min(image.shape[:2]) < MIN_SIDE:
            raise InputError(
                f"deep features cannot see {image.shape[1]}x{image.shape[0]} pixels; {MIN_SIDE} a side is the least"
            )
        pixels = torch.from_numpy(np.array(image[..., ::-1] if self._bgr else image))
        x = (pixels.permute(2, 0, 1).to(self._shift.device).float() - self._shift) / self._scale
        x, taps = x[None], []
        for index, layer in enumerate(self._network.children()):
            x = layer(x)
            if index in TAPS:
                taps.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
        return tuple(taps)

    @torch.inference_mode()
    def between(self, original: Features, decoded: Features, inside: Mask | None = None) -> float:
        """The distance of two pictures of one size by their `features`; `inside` as for `distance`."""
        mask = None if inside is None else torch.from_numpy(inside.astype(np.float32))[None, None]
        total = 0.0
        for first, second, head in zip(original, decoded, self._heads, strict=True):
            error = ((first - second) ** 2 * head).sum(1, keepdim=True)  # (1, 1, h, w)
            if mask is None:
                total += float(error.mean())
            else:
                weight = F.interpolate(mask.to(error.device), error.shape[-2:], mode="area")
                total += float((error * weight).sum() / weight.sum())
        return total


def _network(state: dict[str, Tensor], path: Path) -> nn.Module:
    from torchvision.models import squeezenet1_1  # type: ignore[import-untyped]

    network: nn.Module = squeezenet1_1(weights=None).features
    wanted = {name.removeprefix("features."): value.float() for name, value in state.items()}
    wanted = {name: value for name, value in wanted.items() if not name.startswith("classifier.")}
    try:
        network.load_state_dict(wanted)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"deep features {path}: not the weights of a SqueezeNet 1.1 ({reason})") from error
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # a tap must not be changed by the layer after it
    return network.eval().requires_grad_(False)


def _state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers fail in many ways, all of them the file's fault
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"deep features {path}: cannot be read ({reason}); give .h5, .pth or .safetensors") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"deep features {path}: holds no dictionary of tensors; give a state dict")
    return state


def _keras_state(path: Path) -> dict[str, Tensor]:
    """Keras's layers (kernels h, w, in, out) under torchvision's names (out, in, h, w)."""
    try:
        import h5py
    except ImportError as error:
        raise InputError("deep features from .h5 need h5py: pip install 'discover-stream[eval]'") from error
    state: dict[str, Tensor] = {}

    def take(file: Any, layer: str, name: str) -> None:
        group = file[layer]
        kernel, bias = (group[entry.decode() if isinstance(entry, bytes) else entry][()] for entry in _entries(group))
        state[f"{name}.weight"] = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
        state[f"{name}.bias"] = torch.from_numpy(bias)

    try:
        with h5py.File(path, "r") as file:
            take(file, "conv1", "0")
            for number, index in _FIRES.items():
                take(file, f"fire{number}/squeeze1x1", f"{index}.squeeze")
                for part in ("expand1x1", "expand3x3"):
                    take(file, f"fire{number}/{part}", f"{index}.{part}")
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"deep features {path}: not a SqueezeNet 1.1 in Keras's layout ({reason})") from error
    return state


def _entries(group: Any) -> list[Any]:
    return list(group.attrs["weight_names"])


def _read_heads(path: Path | None) -> tuple[Tensor, ...]:
    """Per layer, (1, C, 1, 1) weights that are not negative."""
    if path is None:
        return tuple(torch.full((1, count, 1, 1), 1.0 / count) for count in CHANNELS)
    state = _state(path)
    names = [f"lin{layer}.model.1.weight" for layer in range(len(CHANNELS))]
    shapes = [tuple(state[name].shape) if name in state else None for name in names]
    if shapes != [(1, count, 1, 1) for count in CHANNELS]:
        raise InputError(f"deep features {path}: not heads for SqueezeNet's seven layers (lin0 to lin6); give those")
    if min(float(state[name].min()) for name in names) < 0:
        raise InputError(f"deep features {path}: negative weights make no distance; give non-negative heads")
    return tuple(state[name].float() for name in names)
