"""Runs a table in parts: a few pictures, every system on them. A part that is finished is never run again.

Parts know nothing of each other, so several processes (one for each GPU) may work on one table: they share a folder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from discover_stream.evaluation.experiments.data import Picture
from discover_stream.evaluation.experiments.measuring import Measurer, Note
from discover_stream.evaluation.experiments.perception import Features
from discover_stream.evaluation.harness import library_versions
from discover_stream.evaluation.peers.versions import peer_versions
from discover_stream.evaluation.store import CaseStore, Record, code_digest, key_of
from discover_stream.evaluation.systems import Clip, System, SystemSpec
from discover_stream.types import Image, InputError, Region

CODE = ("codec", "generation", "semantics", "evaluation", "types.py")
"""What figures depend on."""

Finder = Callable[[Picture, Image], Sequence[Region]]
"""Finds the regions of the task in a picture."""


@dataclass(frozen=True)
class Plan:
    """A table's work.

    Attributes:
        table: its name.
        measurer: looks at the decodes.
        systems: specifications and what they build; the originals come first.
        find: gives the task's regions.
        inputs: whatever else figures depend on: names of weights, of the grounder, of the label set.
    """

    table: str
    measurer: Measurer
    systems: tuple[tuple[SystemSpec, System], ...]
    find: Finder
    inputs: Mapping[str, str]

    def key(self, spec: SystemSpec, pictures: Sequence[Picture]) -> str:
        """Names the file of a system on a part."""
        return key_of(
            {
                "table": self.table,
                "measurer": self.measurer.name,
                "system": spec.text(),
                "inputs": dict(self.inputs),
                "pictures": [(picture.name, picture.crop, picture.kind, digest_of(picture)) for picture in pictures],
                "code": code_digest(*CODE),
                "libraries": library_versions() | peer_versions(),
            }
        )


def digest_of(picture: Picture) -> str:
    """SHA-256 of a picture's file and of what the set says of it, 16 hexadecimal digits. Raises InputError."""
    try:
        content = picture.path.read_bytes()
    except OSError as error:
        raise InputError(f"picture {picture.path}: cannot be read ({error.strerror}); mend or remove it") from error
    return hashlib.sha256(content + repr(picture.boxes).encode()).hexdigest()[:16]


def parts_of(pictures: Sequence[Picture], size: int) -> list[tuple[Picture, ...]]:
    """The pictures in parts of `size`, in order."""
    return [tuple(pictures[start : start + size]) for start in range(0, len(pictures), size)]


@dataclass
class _Seen:
    """The pictures of a part and the task's regions in them, looked for once."""

    find: Finder
    images: dict[str, Image] = field(default_factory=dict)
    regions: dict[str, tuple[Region, ...]] = field(default_factory=dict)

    def of(self, picture: Picture) -> tuple[Image, tuple[Region, ...]]:
        if picture.name not in self.images:
            self.images[picture.name] = picture.image()
            self.regions[picture.name] = tuple(self.find(picture, self.images[picture.name]))
        return self.images[picture.name], self.regions[picture.name]


def run_part(plan: Plan, pictures: Sequence[Picture], store: CaseStore, advance: Callable[[str, bool], None]) -> None:
    """Run every system that is not finished on a part.

    Args:
        plan: what to do.
        pictures: of the part.
        store: where finished work is.
        advance: called after each system, with its name and whether it was run now.

    Raises:
        InputError: a picture or a result cannot be used.
    """
    seen = _Seen(plan.find)
    for spec, system in plan.systems:
        key = plan.key(spec, pictures)
        fresh = store.read(key) is None
        if fresh:
            notes, features = [], []
            for picture in pictures:
                note, found = _run_picture(plan.measurer, system, picture, *seen.of(picture))
                notes.append({"picture": picture.name} | note)
                features.append(found)
            record: Record = {"key": key, "system": spec.text(), "name": system.name, "notes": notes}
            if any(one.size for one in features):
                record["arrays"] = store.write_arrays(key, features=np.concatenate(features))
            store.write(key, record)
        advance(spec.text(), fresh)


def _run_picture(
    measurer: Measurer, system: System, picture: Picture, image: Image, regions: tuple[Region, ...]
) -> tuple[Note, Features]:
    clip = Clip(picture.name, (image,), 0.0, (regions,))
    coded = system.encode(clip)
    (decoded,) = system.decode(coded).frames
    note, features = measurer.note(picture, image, decoded)
    covered = {"bytes": coded.total, "pixels": image.shape[0] * image.shape[1], "regions": len(regions)}
    return covered | note, features


@dataclass(frozen=True)
class Gathered:
    """All that was noted of a system: of every picture, in order, and features (patches, channels) of all."""

    spec: SystemSpec
    name: str
    notes: tuple[Note, ...]
    features: Features

    @property
    def bpp(self) -> float:
        """All bits over all pixels."""
        return 8 * sum(int(note["bytes"]) for note in self.notes) / sum(int(note["pixels"]) for note in self.notes)


def gather(plan: Plan, parts: Sequence[Sequence[Picture]], store: CaseStore) -> Iterator[Gathered]:
    """What was noted of every system, from finished parts.

    Raises:
        InputError: a part is not finished.
    """
    keys = [[plan.key(spec, pictures) for pictures in parts] for spec, _ in plan.systems]
    for (spec, system), own in zip(plan.systems, keys, strict=True):
        records = store.records(own)
        if len(records) != len(parts):
            raise InputError(
                f"{spec.text()}: {len(parts) - len(records)} of {len(parts)} parts are not finished; run it again"
            )
        arrays = [store.read_arrays(record["arrays"])["features"] for record in records if "arrays" in record]
        features = np.concatenate(arrays) if arrays else np.zeros((0, 0), np.float32)
        yield Gathered(spec, system.name, tuple(note for record in records for note in record["notes"]), features)
