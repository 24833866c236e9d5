"""Rate-quality plots, as PNG files in memory. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence

from discover_stream.evaluation.measures import lower_is_better
from discover_stream.evaluation.store import Record
from discover_stream.evaluation.summary import (
    CEILING,
    CLEVER,
    headline_measures,
    hull,
    is_our_name,
    names_of,
    points,
    rate_unit,
)
from discover_stream.types import InputError

MOST_PANELS = 4


def rate_plot(records: Sequence[Record], title: str) -> bytes:
    """A row of panels, one per headline measure: every point of every grid, and the best of each as a line.

    Args:
        records: of one item.
        title: of the figure.

    Raises:
        InputError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("plots need matplotlib; install discover-stream[eval]") from error
    measures = [name for name in headline_measures(records) if name != "PSNR"][:MOST_PANELS]
    figure = Figure(figsize=(4.6 * max(1, len(measures)), 3.7), layout="constrained")
    FigureCanvasAgg(figure)
    names = names_of(records)
    ceiling: dict[str, float] = next((r["measures"] for r in records if r["name"] == CEILING), {})
    for position, measure in enumerate(measures):
        axes = figure.add_subplot(1, len(measures), position + 1)
        for number, name in enumerate(names):
            pairs = points(records, measure, [name])
            if not pairs:
                continue
            colour, best = f"C{number % 10}", hull(pairs, lower_is_better(measure))
            axes.scatter([p[0] for p in pairs], [p[1] for p in pairs], s=9, color=colour, alpha=0.45)
            style = "-" if is_our_name(name) else ":" if name in CLEVER else "--"
            width = 2.2 if is_our_name(name) else 1.3
            axes.plot([p[0] for p in best], [p[1] for p in best], style, color=colour, linewidth=width, label=name)
        if measure.startswith("AP50") and measure in ceiling:
            axes.axhline(ceiling[measure], color="grey", linewidth=0.8, linestyle=(0, (1, 3)))
        axes.set_xscale("log")
        axes.set_xlabel(rate_unit(records))
        axes.set_title(measure + (", lower is better" if lower_is_better(measure) else ""), fontsize=10)
        axes.grid(alpha=0.25)
        if position == 0:
            axes.legend(fontsize=7)
    figure.suptitle(title, fontsize=11)
    buffer = io.BytesIO()
    # Without the date and version that matplotlib would write, the same figures give the same bytes.
    figure.savefig(buffer, format="png", dpi=80, metadata={"Software": None})
    return buffer.getvalue()
