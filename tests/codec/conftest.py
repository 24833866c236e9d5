"""Codecs with seeded random weights, and pictures, for every test of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from codec_cases import SMALL, noise_picture, random_codec, write_random_codec

from discover_stream.codec.model import CodecModel, load_codec
from discover_stream.codec.transforms import TransformConfig
from discover_stream.training.conditional import TrainableConditional
from discover_stream.types import Image


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One torch thread, unless a test asks for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def codec_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a small codec with random weights."""
    return write_random_codec(tmp_path_factory.mktemp("codec"), 7)


@pytest.fixture(scope="session")
def codec(codec_path: Path) -> CodecModel:
    return load_codec(codec_path)


@pytest.fixture(scope="session")
def other_codec(tmp_path_factory: pytest.TempPathFactory) -> CodecModel:
    """A codec of the same structure with other weights."""
    return load_codec(write_random_codec(tmp_path_factory.mktemp("other"), 8))


@pytest.fixture(scope="session")
def nano_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a codec of the shipped size with random weights."""
    return write_random_codec(tmp_path_factory.mktemp("nano"), 9, TransformConfig())


@pytest.fixture(scope="session")
def nano_codec(nano_path: Path) -> CodecModel:
    return load_codec(nano_path)


@pytest.fixture(scope="session")
def float_codec() -> TrainableConditional:
    """The small codec before export; the same weights as `codec`."""
    return random_codec(SMALL, 7)


@pytest.fixture(scope="session")
def picture_of() -> Callable[[int, int, int], Image]:
    """Maps (height, width, seed) to a picture."""
    return noise_picture
