"""Small pieces of Markdown that several pages are made of."""

from __future__ import annotations

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table and an empty line."""
    shown = [" | ".join(cell.replace("|", "\\|") for cell in row) for row in (head, *rows)]
    return [f"| {shown[0]} |", "|---" * len(head) + "|", *(f"| {row} |" for row in shown[1:]), ""]


def between(text: str, begin: str, end: str) -> str:
    """What stands between two markers; empty where they are not there."""
    _, first, rest = text.partition(begin)
    inside, last, _ = rest.partition(end)
    return inside.strip("\n") if first and last else ""
