"""The demo's report: one HTML page that needs nothing beside it and no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import jinja2
import PIL.Image

from discover_stream.app.demo_figures import TaskFigures, row_texts
from discover_stream.types import Image, Provenance
from discover_stream.video.sheet import PROVENANCE_COLOURS

JPEG_QUALITY = 88

PROVENANCE_MEANING: dict[Provenance, str] = {
    Provenance.SENT: "sent: an atom of the task, transmitted with this frame, covers the cell",
    Provenance.PLATE: "plate: the camera's background, transmitted once",
    Provenance.PROPAGATED: "propagated: from an earlier frame of the same object",
    Provenance.GENERATED: "generated: the decoder made it up from the coarse atom alone",
    Provenance.MISSING: "missing: nothing was received for it and nothing was made up",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the report with what it shows. `image` is (H, W, 3) uint8 RGB."""

    title: str
    caption: str
    image: Image


@dataclass(frozen=True, slots=True)
class Section:
    """A camera's pictures."""

    title: str
    text: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """Where time went: a step, its seconds, and what it did."""

    step: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page. `figures` ends with the line of `all`; `timings` are of the demo's steps,
    one after the other, and `busy` is the processor time of the stages, which
    work at the same time."""

    lead: str
    figures: tuple[TaskFigures, ...]
    sections: tuple[Section, ...]
    timings: tuple[Timing, ...]
    busy: tuple[Timing, ...]
    facts: Mapping[str, str]
    files: Mapping[str, str]


def data_uri(image: Image) -> str:
    """A picture as a JPEG inside an address, so that the page needs no files beside it."""
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, format="JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def bar_parts(line: TaskFigures, whole: TaskFigures) -> list[tuple[str, float, int]]:
    """(part, share of the bytes of `whole` in percent, bytes), in the order of the packet."""
    size = line.size
    total = max(1, whole.size.total)
    parts = (
        ("header and framing", size.header + size.framing),
        ("side information", size.side_information),
        ("coarse atom", size.coarse),
        ("atoms", size.atoms),
        ("plates", size.plates),
    )
    return [(name, 100 * amount / total, amount) for name, amount in parts]


def render_report(report: Report) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("discover_stream.app"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    whole = report.figures[-1]
    legend = [
        (kind.name.lower(), "#{:02x}{:02x}{:02x}".format(*PROVENANCE_COLOURS[kind]), PROVENANCE_MEANING[kind])
        for kind in sorted(Provenance, reverse=True)
    ]
    return environment.get_template("report.html.j2").render(
        report=report,
        rows=[(line, row_texts(line, whole), bar_parts(line, whole)) for line in report.figures],
        pictures=[(section, [(p, data_uri(p.image)) for p in section.pictures]) for section in report.sections],
        clocks=[
            (title, timings, max((timing.seconds for timing in timings), default=0.0) or 1.0)
            for title, timings in (
                ("Steps, wall time", report.timings),
                ("Stages, processor time from the start of their processes", report.busy),
            )
        ],
        legend=legend,
    )
