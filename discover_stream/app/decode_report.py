"""What decoded pictures are made of, frame by frame and in all: provenance, changes by diffusion, inventions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from discover_stream.app.outputs import counted
from discover_stream.config_decoding import DecodingConfig

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame


def frame_facts(frame: DecodedFrame) -> dict[str, Any]:
    """What there is to say about a frame, for JSON: see docs/provenance.md."""
    return {
        "camera": frame.camera,
        "seq": frame.seq,
        "capture_ns": frame.capture_ns,
        "provenance": _rounded(frame.shares()),
        "changed": _rounded(frame.changed),
        "invention": None if frame.invention is None else round(frame.invention, 4),
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


@dataclass
class DecodeReport:
    """A summary of decoded frames.

    Attributes:
        warn_at: invention score from which on a frame is doubtful.
        frames: how many there were.
        doubtful: (seq, score) of those to be warned about.
    """

    warn_at: float = field(default_factory=lambda: DecodingConfig().warn_at)
    frames: int = 0
    doubtful: list[tuple[int, float]] = field(default_factory=list)
    _shares: dict[str, float] = field(default_factory=dict)
    _changes: dict[str, tuple[float, int]] = field(default_factory=dict)
    _scores: list[float] = field(default_factory=list)

    def add(self, frame: DecodedFrame) -> None:
        """Count a frame."""
        self.frames += 1
        for kind, share in frame.shares().items():
            self._shares[kind] = self._shares.get(kind, 0.0) + share
        for kind, change in frame.changed.items():
            total, number = self._changes.get(kind, (0.0, 0))
            self._changes[kind] = total + change, number + 1
        if frame.invention is not None:
            self._scores.append(frame.invention)
            if frame.invention >= self.warn_at:
                self.doubtful.append((frame.seq, frame.invention))

    def summary(self) -> dict[str, Any]:
        """For JSON: mean shares and changes per provenance, the highest invention score, and who is doubtful."""
        return {
            "frames": self.frames,
            "provenance": _rounded({kind: total / max(1, self.frames) for kind, total in self._shares.items()}),
            "changed": _rounded({kind: total / number for kind, (total, number) in self._changes.items()}),
            "invention": {
                "scored": len(self._scores),
                "highest": round(max(self._scores), 4) if self._scores else None,
                "warn_at": self.warn_at,
                "doubtful": [seq for seq, _ in self.doubtful],
            },
        }

    def lines(self) -> list[str]:
        """The same for people; a warning comes last."""
        if not self.frames:
            return []
        found = self.summary()
        shares = ", ".join(f"{kind} {100 * share:.1f} %" for kind, share in found["provenance"].items())
        lines = [f"cells: {shares}"]
        if found["changed"]:
            changes = ", ".join(f"{kind} {change:.4f}" for kind, change in found["changed"].items())
            lines.append(f"diffusion changed latents by, on average: {changes}")
        if self._scores:
            lines.append(
                f"invention score of {counted(len(self._scores), 'frame')}: at most {max(self._scores):.2f}"
                f" (1 is surely made up)"
            )
        if self.doubtful:
            first, score = max(self.doubtful, key=lambda one: one[1])
            lines.append(
                f"warning: {counted(len(self.doubtful), 'frame')} may show things that were made up (score at least"
                f" {self.warn_at:g}; seq {first} has {score:.2f}); decode with --no-generate to see what was received"
            )
        return lines


def echo_report(report: DecodeReport, as_json: bool) -> None:
    """Print what a film is made of, as the last lines or the last JSON line of a command."""
    if as_json:
        typer.echo(json.dumps({"summary": report.summary()}))
        return
    for line in report.lines():
        typer.echo(line, err=line.startswith("warning"))
