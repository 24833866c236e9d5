"""Codecs with seeded random weights: the bitstream's rules do not depend on what was learned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.network import CodecConfig
from discover_stream.training.codec import TrainableCodec
from discover_stream.training.export import export_codec
from discover_stream.types import Image

SMALL = CodecConfig(
    stem_channels=8,
    analysis_channels=8,
    wide_channels=8,
    y_channels=12,
    z_channels=6,
    groups=(4, 8),
    hyper_channels=16,
    synthesis_channels=16,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One torch thread, unless a test asks for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise_picture(height: int, width: int, seed: int) -> Image:
    """Blocks of several sizes and noise, (height, width, 3) uint8: busy at every scale."""
    random = np.random.default_rng(seed)
    picture = random.normal(128, 12, (height, width, 3))
    for size in (48, 16, 5):
        blocks = random.normal(0, 30, (-(-height // size), -(-width // size), 3))
        picture += blocks.repeat(size, 0).repeat(size, 1)[:height, :width]
    return np.clip(picture, 0, 255).astype(np.uint8)


def random_codec(config: CodecConfig, seed: int) -> TrainableCodec:
    """A codec with random weights, scaled so that symbols are large, varied, and sometimes escape."""
    torch.manual_seed(seed)
    codec = TrainableCodec(config).eval()
    picture = torch.from_numpy(noise_picture(256, 256, seed)).permute(2, 0, 1)[None].float() / 255
    one = torch.tensor([4])
    with torch.no_grad():
        network = codec.network

        def rescale(layer: torch.nn.Module, values: torch.Tensor, wanted: float) -> None:
            layer.weight.mul_(wanted / values.std())

        rescale(network.g_a[-1], network.g_a(picture), 5.0)
        y, z = network.analyse(picture, one)
        rescale(network.h_a[-1], z, 6.0)
        symbols = network.analyse(picture, one)[1].round()
        rescale(network.h_s[-1], network.h_s(symbols), 2.0)
        psi, mask = network.h_s(symbols), torch.ones(1, 1, *y.shape[2:])
        for group, net in enumerate(network.context.nets):
            known = y[:, : sum(config.groups[: group + 1])]
            rescale(net[-1], network.context.means(group, psi, known, mask, second=True), 2.0)
        branch = codec.scales
        # Hidden units of any size up to the clamp, indices all over the table.
        branch.first.weight.mul_(6)
        hidden = codec.scales(symbols, one)
        branch.third.weight.mul_(14 / hidden.std())
        branch.third.bias.fill_(14)
        branch.bias.normal_(0, 3)
    return codec


def write_random_codec(folder: Path, config: CodecConfig, seed: int) -> Path:
    path = folder / f"codec-{seed}.safetensors"
    with torch.no_grad():
        export_codec(random_codec(config, seed), path)
    return path


@pytest.fixture(scope="session")
def codec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small codec with random weights."""
    return write_random_codec(tmp_path_factory.mktemp("codec"), SMALL, 7)


@pytest.fixture(scope="session")
def codec(codec_path: Path) -> CodecModel:
    return load_codec(codec_path)


@pytest.fixture(scope="session")
def other_codec(tmp_path_factory: pytest.TempPathFactory) -> CodecModel:
    """A codec of the same structure with other weights."""
    return load_codec(write_random_codec(tmp_path_factory.mktemp("other"), SMALL, 8))


@pytest.fixture(scope="session")
def nano_codec(tmp_path_factory: pytest.TempPathFactory) -> CodecModel:
    """A codec of the shipped size with random weights."""
    return load_codec(write_random_codec(tmp_path_factory.mktemp("nano"), CodecConfig(), 9))


@pytest.fixture(scope="session")
def float_codec() -> TrainableCodec:
    """The small codec before export; the same weights as `codec`."""
    return random_codec(SMALL, 7)


@pytest.fixture(scope="session")
def picture_of() -> Callable[[int, int, int], Image]:
    """Maps (height, width, seed) to a picture."""
    return noise_picture
