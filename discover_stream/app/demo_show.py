"""Puts the demo's film, contact sheet and report together."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from discover_stream import __version__
from discover_stream.app.demo_figures import ALL, TaskFigures
from discover_stream.app.demo_pictures import (
    Moment,
    boxed,
    evenly,
    film_rows,
    film_titles,
    provenance_picture,
    sheet_rows,
)
from discover_stream.app.demo_plan import DemoCamera, Files
from discover_stream.app.demo_report import Picture, Report, Section, Timing, render_report
from discover_stream.decoded import DecodedFrame
from discover_stream.types import Provenance, Task
from discover_stream.video.sheet import contact_sheet
from discover_stream.video.sink import open_sink

SHEET_ROWS = 3
"""Moments of each camera on the contact sheet."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What there is to show.

    Attributes:
        tasks: in the order of the configuration; the film shows the first.
        cameras: in order.
        figures: a line per task, then `all`.
        moments: by camera, in order.
        fps: frames per second that were taken from each camera.
        model: hash of the codec in the packets, hexadecimal.
        log: address of the log that everything went through.
    """

    tasks: tuple[Task, ...]
    cameras: tuple[DemoCamera, ...]
    figures: tuple[TaskFigures, ...]
    moments: Mapping[str, Sequence[Moment]]
    fps: float
    model: str
    log: str


def show(shown: Shown, files: Files, steps: Sequence[Timing], busy: Sequence[Timing]) -> None:
    """Write film, contact sheet and report.

    Raises:
        InputError: the folder cannot be written to.
    """
    task = shown.tasks[0]
    titles = film_titles(task.name)
    with open_sink(files.film, fps=shown.fps) as film:
        for rows in film_rows(shown.moments, task):
            film.write(contact_sheet(rows, titles))
    names = [other.name for other in shown.tasks]
    chosen = [moments[index] for moments in shown.moments.values() for index in evenly(len(moments), SHEET_ROWS)]
    with open_sink(files.sheet, fps=1) as sheet:
        sheet.write(contact_sheet(sheet_rows(chosen, names), ["original", *names, ALL]))
    files.report.write_text(render_report(make_report(shown, files, steps, busy)), encoding="utf-8")


def make_report(shown: Shown, files: Files, steps: Sequence[Timing], busy: Sequence[Timing]) -> Report:
    """The content of the report's page."""
    whole = shown.figures[-1]
    lead = (
        f"{len(shown.cameras)} cameras were encoded once for {len(shown.tasks)} tasks:"
        f" {whole.frames} frames became {whole.size.total:,} bytes, {whole.kbps:.0f} kbit/s in all."
        " Each task's subscriber received the parts of them that its task needs and decoded those alone."
    )
    return Report(
        lead=lead,
        figures=shown.figures,
        sections=tuple(
            camera_section(camera, shown.moments[camera.name], shown.tasks)
            for camera in shown.cameras
            if shown.moments.get(camera.name)
        ),
        timings=tuple(steps),
        busy=tuple(busy),
        facts={
            "discover-stream": __version__,
            "codec": f"nano, hash {shown.model}",
            "log": "embedded, one file" if shown.log.startswith("sqlite:") else shown.log,
            "frames": f"{shown.fps:g} a second from each camera",
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        },
        files={
            files.film.name: "film: original, decodes and provenance side by side",
            files.sheet.name: "contact sheet: several moments as every subscriber sees them",
            files.config.name: "the configuration that ran; `discover replay` and `subscribe` read it",
        },
    )


def shares(decoded: DecodedFrame) -> str:
    """Where the cells of a picture come from, in words.

    >>> cells = np.full((2, 5), Provenance.PLATE, np.uint8)
    >>> cells[0, 0] = Provenance.SENT
    >>> shares(DecodedFrame("gate", 0, 0, np.zeros((32, 80, 3), np.uint8), cells, {}))
    '10% sent, 90% plate'
    """
    found = {kind: float((decoded.provenance == kind).mean()) for kind in sorted(Provenance, reverse=True)}
    return ", ".join(f"{share:.0%} {kind.name.lower()}" for kind, share in found.items() if share > 0)


def camera_section(camera: DemoCamera, moments: Sequence[Moment], tasks: Sequence[Task]) -> Section:
    """The pictures of one camera, at the moment in which the first task has most regions."""
    moment = max(moments, key=lambda m: sum(map(len, m.decoded[tasks[0].name].regions.values())))
    pictures = [
        Picture("Original", "as it came from the camera.", moment.original),
        Picture("Decoded from all", "everything that the archive holds of this frame.", moment.decoded[ALL].image),
    ]
    for task in tasks:
        decoded = moment.decoded[task.name]
        count = sum(map(len, decoded.regions.values()))
        pictures += [
            Picture(
                f"Decoded from {task.name}",
                f"cells: {shares(decoded)}.",
                decoded.image,
            ),
            Picture(
                f"Provenance of {task.name}",
                f"the same picture, tinted, with the boxes ({count}) that came with the packet.",
                boxed(provenance_picture(decoded), decoded, task),
            ),
        ]
    text = f"{camera.what}; frame {moment.seq} of {len(moments)}; {moment.mode} mode."
    return Section(f"Camera {camera.name}", text, tuple(pictures))
