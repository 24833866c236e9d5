from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from discover_stream.evaluation.store import CaseStore, code_digest, folder_digest, key_of
from discover_stream.types import InputError


def test_keys_follow_content_not_order() -> None:
    assert key_of({"a": 1, "b": [2]}) == key_of({"b": [2], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 2})


def test_a_folder_is_named_by_what_its_files_hold(tmp_path: Path) -> None:
    here, linked = tmp_path / "here", tmp_path / "linked"
    for part in ("unet", "vae"):
        (here / part).mkdir(parents=True)
        (here / part / "weights.safetensors").write_bytes(b"1" * 9)
    linked.mkdir()
    (linked / "unet").symlink_to(here / "unet")
    (linked / "vae").symlink_to(here / "vae")
    before = folder_digest(here, (".safetensors",))
    assert folder_digest(linked, (".safetensors",)) == before
    (here / "notes.txt").write_text("no weights")
    assert folder_digest(here, (".safetensors",)) == before
    (here / "unet" / "weights.safetensors").write_bytes(b"2" * 9)  # trained again: as many bytes as before
    assert folder_digest(here, (".safetensors",)) != before
    assert folder_digest(linked, (".safetensors",)) == folder_digest(here, (".safetensors",))


def test_a_case_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    assert store.read("k") is None
    store.write("k", {"figure": 1.5})
    assert store.read("k") == {"figure": 1.5}
    assert [path.name for path in (tmp_path / "cases").iterdir()] == ["k.json"]
    (tmp_path / "cases" / "k.json").write_text('{"figure": 1')
    with pytest.raises(InputError, match="delete it"):
        store.read("k")


def test_pictures_come_back(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(store.read_picture(store.write_picture("k", image)), image)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="choose another --out"):
        CaseStore(tmp_path / "file")


def test_code_of_different_parts_differs() -> None:
    assert code_digest("codec") != code_digest("generation")
    assert code_digest("codec") == code_digest("codec")
