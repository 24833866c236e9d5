from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from discover_stream.codec.exact_scales import ExactContextScales, export_scales
from discover_stream.codec.model import STRUCTURE, CodecModel, load_codec
from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.conditional import TrainableConditional
from discover_stream.types import InputError


def test_a_codec_is_named_by_the_hash_of_its_file(codec: CodecModel, codec_path: Path) -> None:
    assert codec.digest == hashlib.sha256(codec_path.read_bytes()).digest()
    assert codec.short_hash == codec.digest[:3]


def test_a_codec_loads_as_it_was_written(codec: CodecModel, float_codec: TrainableConditional) -> None:
    loaded = codec.network.state_dict()
    for name, values in float_codec.network.state_dict().items():
        assert torch.equal(loaded[name], values.half().float()), name
    assert not any(parameter.requires_grad for parameter in codec.network.parameters())
    medians = float_codec.prior.quantiles[:, 0, 1].detach()
    assert torch.equal(codec.medians.flatten(), medians)
    assert codec.latent_space == "test"


def test_a_codec_has_the_exact_branch_of_what_was_trained(codec: CodecModel, float_codec: TrainableConditional) -> None:
    exact = ExactContextScales(export_scales(float_codec.scales), float_codec.network.config.groups)
    z = np.random.default_rng(0).integers(-9, 10, (codec.network.config.z_channels, 2, 3))
    base, sizes = codec.scales.base(z, 3, 1), np.full((codec.network.config.y_channels, 8, 12), 3)
    assert np.array_equal(base, exact.base(z, 3, 1))
    assert np.array_equal(codec.scales.indices(base, 1, True, sizes), exact.indices(base, 1, True, sizes))


def rewritten(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor], dict[str, object]], None]) -> Path:
    with safe_open(source, framework="pt") as opened:
        metadata = opened.metadata()
        config = json.loads(metadata["config"])
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    change(tensors, config)
    save_file(tensors, target, metadata={**metadata, "config": json.dumps(config)})
    return target


def test_a_file_written_again_is_read(codec: CodecModel, codec_path: Path, tmp_path: Path) -> None:
    """Otherwise what is refused below would be refused for another reason."""
    again = load_codec(rewritten(codec_path, tmp_path / "same.safetensors", lambda _tensors, _config: None))
    assert again.network.config == codec.network.config
    assert again.latent_space == codec.latent_space


CHANGES: dict[str, Callable[[dict[str, torch.Tensor], dict[str, object]], object]] = {
    "a weight is missing": lambda tensors, _: tensors.pop("network.log_gain"),
    "a weight is new": lambda tensors, _: tensors.update({"network.extra": torch.zeros(1)}),
    "a weight has another shape": lambda tensors, _: tensors.update({"network.log_gain": torch.zeros(8, 13)}),
    "a width is another": lambda _, config: config.update({"z_channels": 7}),
    "a width is unknown": lambda _, config: config.update({"depth": 7}),
    "the groups do not add up": lambda _, config: config.update({"groups": [1, 2]}),
    "the groups are missing": lambda _, config: config.pop("groups"),
    "the branch is missing": lambda tensors, _: tensors.pop("scales.first.weight"),
    "the branch sees other channels": lambda tensors, _: tensors.update(
        {"scales.first.weight": torch.zeros(96, 9, dtype=torch.int32)}
    ),
    "the branch has fewer qualities": lambda tensors, _: tensors.update(
        {"scales.bias": tensors["scales.bias"][1:].clone()}
    ),
    "the branch lacks a context": lambda tensors, _: [
        tensors.pop(f"scales.1b.out.{part}") for part in ("weight", "bias")
    ],
    "a context has another shape": lambda tensors, _: tensors.update(
        {"scales.0b.hidden.weight": torch.zeros(64, 9, dtype=torch.int32)}
    ),
    "a context is new": lambda tensors, _: tensors.update({"scales.2a.out.weight": torch.zeros(1, 1)}),
    "the branch is too large": lambda tensors, _: tensors["scales.second.weight"].fill_(2**31 - 1),
    "the tables are missing": lambda tensors, _: tensors.pop("y.offsets"),
    "a table is missing": lambda tensors, _: tensors.update(
        {f"y.{part}": tensors[f"y.{part}"][1:].clone() for part in ("frequencies", "lengths", "offsets")}
    ),
    "a table is no distribution": lambda tensors, _: tensors["z.frequencies"][0, :1].add_(1),
    "the medians are too many": lambda tensors, _: tensors.update({"medians": torch.zeros(7, 1, 1)}),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_weights_of_another_structure_are_refused(
    codec_path: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, object]], None]
) -> None:
    path = rewritten(codec_path, tmp_path / "other.safetensors", change)
    with pytest.raises(InputError, match=r"other\.safetensors: .*structure") as caught:
        load_codec(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_weights_are_refused(codec_path: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no codec weights here"):
        load_codec(tmp_path / "nothing.safetensors")
    with pytest.raises(InputError, match="not readable"):
        load_codec(tmp_path)
    data = codec_path.read_bytes()
    path = tmp_path / "damaged.safetensors"
    for damaged in (b"", b"hello", data[:100], data[: len(data) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="not readable"):
            load_codec(path)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (None, "'not named'"),
        ({"config": "{}"}, "'not named'"),
        ({"structure": "plain"}, "'plain'"),
        ({"structure": STRUCTURE}, "config"),
        ({"structure": STRUCTURE, "config": "{"}, "Expecting"),
        ({"structure": STRUCTURE, "config": "[]"}, "indices"),
        ({"structure": STRUCTURE, "config": "{}"}, "groups"),
    ],
)
def test_files_that_say_nothing_of_this_structure_are_refused(
    tmp_path: Path, metadata: dict[str, str] | None, reason: str
) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=metadata)
    with pytest.raises(InputError, match=rf"other\.safetensors: weights of another structure .*{reason}") as caught:
        load_codec(path)
    assert "\n" not in str(caught.value)


def test_the_default_widths_are_those_of_the_shipped_size(nano_codec: CodecModel) -> None:
    assert nano_codec.network.config == TransformConfig()
    assert sum(parameter.numel() for parameter in nano_codec.network.parameters()) * 2 < 25e6
