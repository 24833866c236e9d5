"""Tags: what is in a picture as a whole, as labels of a task, and the words that a decoder is told.

After Diff-ICMH (Feng et al., NeurIPS 2025), which codes the tags of an image tagger losslessly and conditions the
diffusion model on them through its text encoder. Here the grounded labels are the tags: nothing else looks at the
picture, and the words are those of the task.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from discover_stream.types import LabelSet, Region

LEAST_SCORE = 0.5
"""From which score on a region is sure enough for the picture to be said to hold its label."""
MAX_PICTURE_TAGS = 32
MAX_CONDITION = 240
"""Characters of a text condition: what CLIP's text encoder reads (77 tokens) holds about so many of plain English."""

_SEPARATOR = ", "


def picture_tags(regions: Iterable[Region], least_score: float = LEAST_SCORE) -> tuple[int, ...]:
    """The labels that are present in a picture, ascending.

    Args:
        regions: of one task. One that is the whole picture names the scene.
        least_score: of a region that counts.

    Returns:
        label indices, each once; of more than `MAX_PICTURE_TAGS` those with the best regions.
    """
    best: dict[int, float] = {}
    for region in regions:
        if region.score >= least_score:
            best[region.label] = max(best.get(region.label, 0.0), region.score)
    ranked = sorted(best, key=lambda label: (-best[label], label))
    return tuple(sorted(ranked[:MAX_PICTURE_TAGS]))


def condition_text(tags: Sequence[int], label_set: LabelSet) -> str:
    """The text condition that tags stand for: their labels in the order of the label set, whole labels only.

    Args:
        tags: label indices. Those that the label set does not have are left out.
        label_set: of the version that the packet names.

    Returns:
        at most `MAX_CONDITION` characters; empty where there are no tags.

    >>> condition_text((2, 0), LabelSet("street", 1, ("car", "van", "delivery truck")))
    'car, delivery truck'
    """
    text = ""
    for tag in sorted(set(tags)):
        if not 0 <= tag < len(label_set.labels):
            continue
        longer = f"{text}{_SEPARATOR}{label_set.labels[tag]}" if text else label_set.labels[tag]
        if len(longer) > MAX_CONDITION:
            break
        text = longer
    return text
