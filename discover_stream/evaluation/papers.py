"""What the two papers report, beside ours: only what is known with certainty, each with its source.

A figure that nobody here could check against the papers is not typed in. The table then says what is missing and how
to get ours, so that whoever has the papers at hand can put the numbers side by side.
"""

from __future__ import annotations

from dataclasses import dataclass

DISCOVER = "DISCOVER, Liu et al., arXiv 2412.18158"
DIFF_ICMH = "Diff-ICMH, Feng et al., NeurIPS 2025, arXiv 2511.22549"


@dataclass(frozen=True)
class PaperRow:
    """One line of *paper | ours | conditions differ in*.

    Attributes:
        source: the paper.
        what: the setting or result.
        paper: what the paper has; `MISSING` where nobody here could check it.
        ours: what this project has, or where its figures are.
        differs: in what the conditions differ.
    """

    source: str
    what: str
    paper: str
    ours: str
    differs: str


MISSING = "missing here: not checked against the paper"
"""Stands where a figure of a paper belongs that nobody here could look up."""

_OTHER_DATA = "no COCO and no Faster R-CNN here; ours are streets and YOLOX-nano"
_OTHER_NETWORKS = "the reference networks are not here; our deep-feature distance is not LPIPS"
_ONE_STEP = "more steps invent texture with the shipped weights"

ROWS: tuple[PaperRow, ...] = (
    PaperRow(DISCOVER, "diffusion steps for machines", "8", "1", "a network trained here, not a frozen SD 2.1-base"),
    PaperRow(DISCOVER, "diffusion steps for people", "50", "1", _ONE_STEP),
    PaperRow(DISCOVER, "λ_R", "1, 2, 4, 8", "8 qualities", "one model with a quality input"),
    PaperRow(DISCOVER, "λ_diff", "2", "see the model card", "other networks"),
    PaperRow(DISCOVER, "training", "300k + 50k iterations, 512-px crops", "see the model card", "CPU hours"),
    PaperRow(DISCOVER, "AP against bits per pixel", MISSING, "tables above, AP50", _OTHER_DATA),
    PaperRow(DISCOVER, "FID, DISTS on Kodak, CLIC2020", MISSING, "tables above, distance", _OTHER_NETWORKS),
    PaperRow(DIFF_ICMH, "weight of semantic consistency", "2", "2 in the sd21 recipe", "no shipped weight has seen it"),
    PaperRow(DIFF_ICMH, "tags dropped in training", "10 %", "no tags yet", "labels of regions are sent instead"),
    PaperRow(DIFF_ICMH, "AP against bits per pixel", MISSING, "tables above, AP50", _OTHER_DATA),
    PaperRow(DIFF_ICMH, "perceptual figures", MISSING, "tables above, distance", _OTHER_NETWORKS),
)
