"""The demo's panels: what each camera and each subscriber sees at one moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image

from discover_stream.app.demo_figures import ALL
from discover_stream.codec.packet import task_key
from discover_stream.decoded import DecodedFrame
from discover_stream.types import Image, Task
from discover_stream.video.sheet import draw_boxes, overlay_provenance

PANEL_WIDTH = 480
"""Pixels across one panel of the film and of the sheet."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame of one camera: as it came in, and as each subscriber decoded it.

    Attributes:
        camera: its name.
        seq: of the frame.
        original: (H, W, 3) uint8 RGB, as it was read from the frames topic.
        decoded: per task name, and under `all`, what was decoded.
        mode: `still` or `stream`.
    """

    camera: str
    seq: int
    original: Image
    decoded: Mapping[str, DecodedFrame]
    mode: str = "still"


def provenance_picture(decoded: DecodedFrame) -> Image:
    """The decode, its cells tinted by where they come from."""
    return overlay_provenance(decoded.image, decoded.provenance)


def boxed(image: Image, decoded: DecodedFrame, task: Task) -> Image:
    """A picture of a decode with the boxes that came with the task's packet, their labels and tracks."""
    labels = task.label_set.labels
    regions = decoded.regions.get(task_key(task.name, task.label_set.version), ())
    captions = [
        f"{labels[region.label]} {region.track}" if region.track else labels[region.label] for region in regions
    ]
    return draw_boxes(image, [region.box for region in regions], captions)


def fitted(image: Image, width: int = PANEL_WIDTH) -> Image:
    """The picture scaled down to `width` pixels across; smaller ones stay as they are."""
    if image.shape[1] <= width:
        return image
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    return np.asarray(PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.LANCZOS))


def film_titles(task: str) -> list[str]:
    """Titles of the film's columns."""
    return ["original", f"decoded from {task}", f"decoded from {ALL}", f"provenance of {task}"]


def film_rows(cameras: Mapping[str, Sequence[Moment]], task: Task) -> Iterator[list[list[Image]]]:
    """The film, picture by picture: for each camera a row with its original, the decode of the task, the decode
    of everything, and the provenance of the task's decode with the boxes it was sent.

    A camera that ends before the others keeps its last row.
    """
    longest = max((len(moments) for moments in cameras.values()), default=0)
    rows: dict[str, list[Image]] = {}
    for index in range(longest):
        for camera, moments in cameras.items():
            if index < len(moments):
                rows[camera] = film_row(moments[index], task)
        yield list(rows.values())


def film_row(moment: Moment, task: Task) -> list[Image]:
    """One camera's row of the film."""
    decoded = moment.decoded[task.name]
    panels = (
        moment.original,
        decoded.image,
        moment.decoded[ALL].image,
        boxed(provenance_picture(decoded), decoded, task),
    )
    return [fitted(panel) for panel in panels]


def sheet_rows(moments: Sequence[Moment], tasks: Sequence[str]) -> list[list[Image]]:
    """A row per moment: the original, each task's decode, and the decode of everything."""
    return [
        [fitted(moment.original), *(fitted(moment.decoded[name].image) for name in (*tasks, ALL))] for moment in moments
    ]


def evenly(count: int, wanted: int) -> list[int]:
    """At most `wanted` positions out of `count`, evenly spread."""
    taken = min(count, wanted)
    return [(2 * index + 1) * count // (2 * taken) for index in range(taken)]
