"""What the two papers report, beside ours, each with its source and with how it was checked.

The papers themselves could not be read here beyond their abstracts. A figure that could not be looked up anywhere is
not typed in; one that was found at second hand says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DISCOVER = "DISCOVER, Liu et al., arXiv 2412.18158"
DIFF_ICMH = "Diff-ICMH, Feng et al., NeurIPS 2025, arXiv 2511.22549"

MISSING = "missing here: not checked against the paper"
"""Stands where a figure of a paper belongs that nobody here could look up."""

OFFICIAL = "the authors' README and configuration, in a public copy of their repository (TranDuon/Wild-Diff-ICMH)"
NOTES = "second hand: notes on the paper (zhaoyang97/Paper-Notes-en)"
SUMMARY = "second hand: a summary of the paper (sciencestack.ai)"
BRIEF = "the project's own notes on the paper"
NOT_CHECKED = "no source at hand: only the paper's abstract could be read here"


@dataclass(frozen=True)
class PaperRow:
    """One line of *paper | ours | conditions differ in*: the set-up.

    Attributes:
        source: the paper.
        what: the setting or result.
        paper: what the paper has; `MISSING` where nobody here could check it.
        ours: what this project has, or where its figures are.
        differs: in what the conditions differ.
        checked: where the paper's value was looked up.
    """

    source: str
    what: str
    paper: str
    ours: str
    differs: str
    checked: str = BRIEF


@dataclass(frozen=True)
class Published:
    """A result that a paper reports, and which of our differences stands beside it.

    Attributes:
        source: the paper.
        table: of `discover eval paper`.
        what: the result.
        figure: as the paper has it; `MISSING` where nobody here could look it up.
        checked: where.
        differs: in what the conditions differ.
        mode: ours that stands for the paper's.
        measure: the score.
        kind: BD-rate in percent, or the difference in score at equal bits.
    """

    source: str
    table: str
    what: str
    figure: str
    checked: str
    differs: str
    mode: str
    measure: str
    kind: Literal["rate", "quality"]


_OTHER_DATA = "no COCO and no Faster R-CNN here; ours are streets and YOLOX-nano"
_OTHER_NETWORKS = "the reference networks are not here; our deep-feature distance is not LPIPS"
_ONE_STEP = "more steps invent texture with the shipped weights"
_STAND_IN = "data, networks and anchor as stated above; nano weights without a text encoder, CPU hours of training"

ROWS: tuple[PaperRow, ...] = (
    PaperRow(DISCOVER, "diffusion steps for machines", "8", "1", "a network trained here, not a frozen SD 2.1-base"),
    PaperRow(DISCOVER, "diffusion steps for people", "50", "1", _ONE_STEP),
    PaperRow(DISCOVER, "λ_R", "1, 2, 4, 8", "8 qualities", "one model with a quality input"),
    PaperRow(DISCOVER, "λ_diff", "2", "see the model card", "other networks"),
    PaperRow(DISCOVER, "training", "300k + 50k iterations, 512-px crops", "see the model card", "CPU hours"),
    PaperRow(DISCOVER, "AP against bits per pixel", MISSING, "tables above, AP50", _OTHER_DATA, NOT_CHECKED),
    PaperRow(
        DISCOVER, "FID, DISTS on Kodak, CLIC2020", MISSING, "tables above, distance", _OTHER_NETWORKS, NOT_CHECKED
    ),
    PaperRow(
        DIFF_ICMH,
        "weights of rate / latent / diffusion / semantics",
        "2, 4, 8, 16 or 32 / 1 / 1 / 2",
        "sd21 recipe: 1 to 8 / 1 / 2 / 2",
        "λ_R and λ_diff are DISCOVER's; no shipped weight has seen the semantic term",
        f"{OFFICIAL}; {NOTES}",
    ),
    PaperRow(DIFF_ICMH, "semantic term", "cosine, middle block, no noise", "the same", "in the sd21 recipe", OFFICIAL),
    PaperRow(DIFF_ICMH, "tags dropped in training", "10 %", "10 %", "in the sd21 recipe", OFFICIAL),
    PaperRow(
        DIFF_ICMH,
        "tags",
        "RAM++'s, about 100 bits a picture",
        "grounded labels, 24.5 bits",
        "a grounder's labels on streets, not a tagger's",
        NOTES,
    ),
    PaperRow(DIFF_ICMH, "sampling", "50 steps, guidance 5", "1 step", "the shipped weights read no tags", OFFICIAL),
    PaperRow(DIFF_ICMH, "AP against bits per pixel", MISSING, "tables above, AP50", _OTHER_DATA, NOT_CHECKED),
    PaperRow(DIFF_ICMH, "perceptual figures", MISSING, "tables above, distance", _OTHER_NETWORKS, NOT_CHECKED),
)

_UP_TO = "up to -80 % on several machine tasks; which one, and against what, is not said"

PUBLISHED: tuple[Published, ...] = (
    Published(
        DISCOVER, "detection", "BD-rate (AP), task only", _UP_TO, SUMMARY, _STAND_IN, "discover-task", "AP", "rate"
    ),
    Published(
        DISCOVER, "detection", "BD-rate (AP), full", MISSING, NOT_CHECKED, _STAND_IN, "discover-full", "AP", "rate"
    ),
    Published(
        DISCOVER, "segmentation", "BD-rate (mask AP)", _UP_TO, SUMMARY, _STAND_IN, "discover-task", "mask AP", "rate"
    ),
    Published(
        DISCOVER, "classification", "BD-rate (top-1)", _UP_TO, SUMMARY, _STAND_IN, "discover-task", "top-1", "rate"
    ),
    Published(DISCOVER, "perception", "BD-FID", MISSING, NOT_CHECKED, _STAND_IN, "discover-full", "FID", "quality"),
    Published(DISCOVER, "perception", "BD-DISTS", MISSING, NOT_CHECKED, _STAND_IN, "discover-full", "DISTS", "quality"),
    Published(DIFF_ICMH, "detection", "AP against bpp", MISSING, NOT_CHECKED, _STAND_IN, "diff-icmh", "AP", "quality"),
    Published(
        DIFF_ICMH,
        "segmentation",
        "mask AP against bpp",
        MISSING,
        NOT_CHECKED,
        _STAND_IN,
        "diff-icmh",
        "mask AP",
        "quality",
    ),
    Published(
        DIFF_ICMH, "perception", "FID against bpp", MISSING, NOT_CHECKED, _STAND_IN, "diff-icmh", "FID", "quality"
    ),
    Published(
        DIFF_ICMH,
        "ablation",
        "semantic term and tags together, COCO detection",
        "about +4 AP at about 0.025 bpp",
        NOTES,
        f"{_STAND_IN}; the semantic term is `discover train ablation`'s",
        "diff-icmh",
        "AP",
        "quality",
    ),
)
