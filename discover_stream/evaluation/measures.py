"""All measures of one decoded item, as named numbers.

Names: `AP50`, `AP`, `F1` (also of each class), `objects` (how many true ones these rest on), `agreement` and `misses`,
`inventions` of every judge, in square brackets whose; `PSNR`, `MS-SSIM`, `distance` (deep features), each also
`inside` the true objects; `flicker`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from discover_stream.evaluation.agreement import class_agreement
from discover_stream.evaluation.average_precision import score_detections
from discover_stream.evaluation.boxes import Detection, Mask, above, mask_of
from discover_stream.evaluation.datasets import Item
from discover_stream.evaluation.deep_features import DeepFeatures, Features
from discover_stream.evaluation.detectors import Detector
from discover_stream.evaluation.faithfulness import DEFAULT_RULES, judge_frame, summarise
from discover_stream.evaluation.flicker import flicker
from discover_stream.evaluation.pictures import MS_SSIM_MIN_SIDE, ms_ssim, psnr
from discover_stream.evaluation.systems import Decoded
from discover_stream.evaluation.truth import as_truth
from discover_stream.types import Box, Image

LOWER_IS_BETTER = ("distance", "flicker", "inventions", "misses")
"""Beginnings of the names of measures of which less is better."""

SURE = 0.3
"""Score from which a judge's detection is taken for an object."""


KEPT_FEATURES = 16
"""Features of so many originals are kept: they take some 30 MB each."""


@dataclass(frozen=True)
class Judges:
    """Who judges: detectors by a short name, and the deep-feature distance where its weights are there.

    Attributes:
        detectors: short name -> detector.
        features: the distance, or None.
        every: detectors and picture measures look at every so many frames of a clip.
    """

    detectors: Mapping[str, Detector]
    features: DeepFeatures | None = None
    every: int = 1

    def identity(self) -> dict[str, object]:
        """What a stored result depends on."""
        return {
            "detectors": {name: detector.name for name, detector in self.detectors.items()},
            "features": None if self.features is None else self.features.name,
            "every": self.every,
        }


@dataclass
class Originals:
    """What the judges find in an item's originals, looked for once."""

    item: Item
    judges: Judges
    found: dict[str, list[tuple[Detection, ...]]] = field(default_factory=dict)
    features: dict[int, Features] = field(default_factory=dict)

    @property
    def looked_at(self) -> list[int]:
        """Indices of the frames that are looked at; of pictures, all."""
        step = self.judges.every if self.item.spec.kind == "video" else 1
        return list(range(0, len(self.item.frames), step))

    def detections(self, judge: str) -> list[tuple[Detection, ...]]:
        """Per frame looked at, all that a judge finds."""
        if judge not in self.found:
            frames = self.item.frames
            self.found[judge] = [self.seen(judge, frames[i]) for i in self.looked_at]
        return self.found[judge]

    def seen(self, judge: str, image: Image) -> tuple[Detection, ...]:
        """What a judge finds in a picture of the classes that count here."""
        return tuple(one for one in self.judges.detectors[judge].detect(image) if one.label in self.item.classes)

    def truth(self, judge: str) -> list[tuple[Detection, ...]]:
        """Per frame looked at, what is there: exact where known, else the judge's own; doubtful ones are crowds."""
        if self.item.truth is not None:
            return [self.item.truth[i] for i in self.looked_at]
        return [as_truth(found, score=SURE, faint=DEFAULT_RULES.faint) for found in self.detections(judge)]

    def known(self, judge: str) -> list[tuple[Detection, ...]]:
        """Per frame looked at, what a decode may show, and what it can lose: see `judge_frame`.

        That is what the judge finds in the original: a decode did not make up what its original shows, and cannot
        lose what the judge never saw there. What is truly there excuses detections, too.
        """
        found = self.detections(judge)
        if self.item.truth is None:
            return found
        true = [tuple(replace(one, crowd=True) for one in boxes) for boxes in self.truth(judge)]
        return [first + second for first, second in zip(found, true, strict=True)]

    def distances(self, index: int, decoded: Image, inside: Mask | None) -> dict[str, float]:
        """Deep-feature distances of the decode of one frame: of the whole picture, and inside a mask where given."""
        network = self.judges.features
        if network is None:
            return {}
        original = self.features.get(index) or network.features(self.item.frames[index])
        if len(self.features) < KEPT_FEATURES:
            self.features[index] = original
        seen = network.features(decoded)
        found = {"distance": network.between(original, seen)}
        return found if inside is None else found | {"distance inside": network.between(original, seen, inside)}

    def masks(self) -> list[Mask]:
        """Per frame looked at, the pixels inside true objects.

        Where no truth is known, those of the first judge that sees anything; where none does, the task's regions.
        """
        boxes = next((found for found in map(self._sure, self.judges.detectors) if any(found)), None)
        if boxes is None:
            regions = [regions for clip in self.item.clips for regions in clip.regions]
            boxes = [[region.box for region in regions[i]] for i in self.looked_at]
        frames = self.item.frames
        return [
            mask_of(inside, frames[i].shape[1], frames[i].shape[0])
            for i, inside in zip(self.looked_at, boxes, strict=True)
        ]

    def _sure(self, judge: str) -> list[list[Box]]:
        return [[one.box for one in boxes if not one.crowd] for boxes in self.truth(judge)]


def lower_is_better(measure: str) -> bool:
    """Whether less of a measure is better.

    >>> lower_is_better("distance inside"), lower_is_better("AP50 [yolox]")
    (True, False)
    """
    return measure.startswith(LOWER_IS_BETTER)


def measure(originals: Originals, decoded: Decoded) -> dict[str, float]:
    """All measures of a decode; what is undefined (no objects, pictures too small) is left out."""
    item, judges = originals.item, originals.judges
    chosen = originals.looked_at
    found = _picture_measures(originals, decoded)
    if item.spec.kind == "video" and len(item.frames) > 1:
        found["flicker"] = flicker(item.frames, decoded.frames)
    for name in judges.detectors:
        seen = [originals.seen(name, decoded.frames[i]) for i in chosen]
        truth = originals.truth(name)
        scores = score_detections(truth, seen)
        # Doubtful objects are crowds: they belong to neither side of the agreement.
        sure = [tuple(one for one in boxes if not one.crowd) for boxes in truth]
        agreed = class_agreement(sure, [above(boxes, SURE) for boxes in seen])
        found |= {
            f"AP50 [{name}]": scores.ap50,
            f"AP [{name}]": scores.ap,
            f"F1 [{name}]": scores.f1,
            f"agreement [{name}]": agreed.rate,
            f"objects [{name}]": sum(map(len, sure)),
        }
        found |= {f"F1 {label} [{name}]": one.f1 for label, one in scores.classes.items()}
        maps = [decoded.provenance[i] for i in chosen]
        if all(one is not None for one in maps):
            frames = [
                judge_frame(first, second, third)
                for first, second, third in zip(originals.known(name), seen, maps, strict=True)
                if third is not None
            ]
            faith = summarise(frames)
            found |= {f"inventions [{name}]": faith.invention_rate, f"misses [{name}]": faith.miss_rate}
    return {key: round(float(value), 6) for key, value in found.items() if math.isfinite(value)}


def _picture_measures(originals: Originals, decoded: Decoded) -> dict[str, float]:
    """Means over the frames looked at; `inside` over those of them with something inside."""
    sums: dict[str, list[float]] = {}
    for index, mask in zip(originals.looked_at, originals.masks(), strict=True):
        original, image = originals.item.frames[index], decoded.frames[index]
        inside = mask if mask.any() else None
        figures = {"PSNR": psnr(original, image)}
        large = min(original.shape[:2]) >= MS_SSIM_MIN_SIDE
        if large:
            figures["MS-SSIM"] = ms_ssim(original, image)
        if inside is not None:
            figures["PSNR inside"] = psnr(original, image, inside)
        if inside is not None and large:
            figures["MS-SSIM inside"] = ms_ssim(original, image, inside)
        for name, value in (figures | originals.distances(index, image, inside)).items():
            sums.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in sums.items()}
