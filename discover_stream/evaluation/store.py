"""Finished cases on disk: one JSON file each, named by a hash of everything that its figures depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from discover_stream.types import Image, InputError

WEIGHTS = (".safetensors", ".bin", ".json")
"""What weights lie in, and (of Stable Diffusion's folders) how networks, scheduler and tokenizer are to be used."""

Record = dict[str, Any]
"""A finished case: what was run, on what, and its figures; only what JSON holds."""


def key_of(identity: Mapping[str, object]) -> str:
    """A short name for what figures depend on: 20 hexadecimal digits of the SHA-256 of its JSON."""
    text = json.dumps(identity, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@cache
def code_digest(*parts: str) -> str:
    """SHA-256 over source files and weights inside the package.

    Args:
        parts: files or folders relative to `discover_stream`, such as `codec` or `weights/nano`.
    """
    digest = hashlib.sha256()
    root = Path(str(resources.files("discover_stream")))
    for part in parts:
        path = root / part
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.suffix in (".py", ".safetensors", ".yaml"):
                digest.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def folder_digest(folder: Path, suffixes: Collection[str]) -> str:
    """SHA-256 over the files of a folder with these suffixes: their places in it and what they hold. Links are
    followed: people put a folder of weights together from several."""
    digest = hashlib.sha256()
    found = (Path(root) / name for root, _, names in os.walk(folder, followlinks=True) for name in names)
    for path in sorted(path for path in found if path.suffix in suffixes and path.is_file()):
        with path.open("rb") as file:  # some hold gigabytes
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16]


class CaseStore:
    """A folder of finished cases. A case is either there as a whole or not there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            (folder / "cases").mkdir(parents=True, exist_ok=True)
            (folder / "pictures").mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder}: the folder cannot be made ({error.strerror}); choose another --out") from error

    def _path(self, key: str) -> Path:
        return self.folder / "cases" / f"{key}.json"

    def read(self, key: str) -> Record | None:
        """A finished case, or None; one whose picture or arrays are gone is not finished.

        Raises:
            InputError: its file is damaged.
        """
        path = self._path(key)
        if not path.exists():
            return None
        try:
            record: Record = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: not a finished case ({error}); delete it to have it measured again") from error
        beside = [record[name] for name in ("picture", "arrays") if record.get(name) is not None]
        return record if all((self.folder / str(name)).is_file() for name in beside) else None

    def write(self, key: str, record: Record) -> None:
        """Store a finished case."""
        path = self._path(key)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp")
        unfinished.write_text(json.dumps(record, indent=1), encoding="utf-8")
        unfinished.replace(path)

    def write_picture(self, name: str, image: Image) -> str:
        """Store a picture losslessly, and give its name inside the folder."""
        path = self.folder / "pictures" / f"{name}.png"
        PillowImage.fromarray(image).save(path)
        return path.relative_to(self.folder).as_posix()

    def read_picture(self, name: str) -> Image:
        """A picture that `write_picture` stored."""
        return np.asarray(PillowImage.open(self.folder / name).convert("RGB"), np.uint8)

    def write_arrays(self, name: str, **arrays: npt.NDArray[Any]) -> str:
        """Store arrays by name, whole or not at all, and give their file's name inside the folder."""
        path = self.folder / "arrays" / f"{name}.npz"
        path.parent.mkdir(exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.tmp.npz")
        np.savez(unfinished, allow_pickle=False, **arrays)
        unfinished.replace(path)
        return path.relative_to(self.folder).as_posix()

    def read_arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Arrays that `write_arrays` stored."""
        with np.load(self.folder / name, allow_pickle=False) as file:
            return dict(file)

    def records(self, keys: Iterable[str]) -> list[Record]:
        """Those of the keys that are finished, in order."""
        found = (self.read(key) for key in keys)
        return [record for record in found if record is not None]
