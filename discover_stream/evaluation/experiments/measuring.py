"""What is noted of each decoded picture for a table, and how notes of many pictures become its scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from discover_stream.evaluation.deep_features import MIN_SIDE, DeepFeatures
from discover_stream.evaluation.detectors import Detector
from discover_stream.evaluation.experiments.coco_scores import Kind, coco_scores
from discover_stream.evaluation.experiments.data import Picture, PictureSet
from discover_stream.evaluation.experiments.networks import Classifier, Segmenter
from discover_stream.evaluation.experiments.perception import Features, Perception, fid, kid
from discover_stream.evaluation.pictures import MS_SSIM_MIN_SIDE, ms_ssim, psnr
from discover_stream.types import Image

Note = dict[str, Any]
"""What is kept of a picture: only what JSON holds."""

NO_FEATURES = np.zeros((0, 0), np.float32)


class Measurer(Protocol):
    """Looks at decoded pictures for a table."""

    @property
    def name(self) -> str:
        """Which networks look; figures compare only where it is the same."""
        ...

    def note(self, picture: Picture, original: Image, decoded: Image) -> tuple[Note, Features]:
        """What is kept of a decoded picture, and features of it that only a whole set makes sense of."""
        ...

    def scores(self, notes: Sequence[Note], features: Features, original: Features) -> dict[str, float]:
        """Scores of a system by what was noted of all pictures; `original` are the features of the originals."""
        ...


@dataclass(frozen=True)
class DetectionMeasurer:
    """COCO's AP of boxes."""

    detector: Detector
    pictures: PictureSet

    @property
    def name(self) -> str:
        """See `Measurer`."""
        return self.detector.name

    def note(self, picture: Picture, original: Image, decoded: Image) -> tuple[Note, Features]:
        """COCO answers of what the detector finds; names that are none of the set's are left out."""
        numbers = category_numbers(self.pictures)
        answers = [
            {
                "image_id": picture.number,
                "category_id": numbers[one.label],
                "score": one.score,
                "bbox": [one.box.x0, one.box.y0, one.box.x1 - one.box.x0, one.box.y1 - one.box.y0],
            }
            for one in self.detector.detect(decoded)
            if one.label in numbers
        ]
        return {"answers": answers}, NO_FEATURES

    def scores(self, notes: Sequence[Note], features: Features, original: Features) -> dict[str, float]:
        """AP, AP50 and AP75 in percent."""
        return coco_percent(self.pictures, notes, "bbox")


@dataclass(frozen=True)
class SegmentationMeasurer:
    """COCO's AP of masks."""

    segmenter: Segmenter
    pictures: PictureSet

    @property
    def name(self) -> str:
        """See `Measurer`."""
        return self.segmenter.name

    def note(self, picture: Picture, original: Image, decoded: Image) -> tuple[Note, Features]:
        """COCO answers with run-length masks of what the segmenter finds."""
        from pycocotools import mask as rle

        numbers = category_numbers(self.pictures)
        answers = []
        for one, mask in self.segmenter.segment(decoded):
            if one.label in numbers and mask.any():
                coded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
                shape = {"size": [int(side) for side in coded["size"]], "counts": coded["counts"].decode()}
                kind = numbers[one.label]
                answers.append(
                    {"image_id": picture.number, "category_id": kind, "score": one.score, "segmentation": shape}
                )
        return {"answers": answers}, NO_FEATURES

    def scores(self, notes: Sequence[Note], features: Features, original: Features) -> dict[str, float]:
        """AP, AP50 and AP75 of masks in percent."""
        return {f"mask {key}": value for key, value in coco_percent(self.pictures, notes, "segm").items()}


@dataclass(frozen=True)
class ClassificationMeasurer:
    """Top-1."""

    classifier: Classifier

    @property
    def name(self) -> str:
        """See `Measurer`."""
        return self.classifier.name

    def note(self, picture: Picture, original: Image, decoded: Image) -> tuple[Note, Features]:
        """What the classifier says, and whether that is right."""
        said = self.classifier.classify(decoded)
        return {"said": said, "right": said == picture.kind}, NO_FEATURES

    def scores(self, notes: Sequence[Note], features: Features, original: Features) -> dict[str, float]:
        """Top-1 in percent."""
        return {"top-1": 100 * sum(bool(note["right"]) for note in notes) / len(notes)}


@dataclass(frozen=True)
class PerceptionMeasurer:
    """FID, KID, LPIPS, DISTS where their networks are; PSNR, MS-SSIM and the deep-feature distance in any case."""

    perception: Perception
    distance: DeepFeatures | None = None

    @property
    def name(self) -> str:
        """See `Measurer`."""
        local = "no deep-feature distance" if self.distance is None else f"distance {self.distance.name}"
        return ", ".join(filter(None, [self.perception.name, local]))

    def note(self, picture: Picture, original: Image, decoded: Image) -> tuple[Note, Features]:
        """Distances of the decode from its original, and its patches' features."""
        found: Note = {"PSNR": psnr(original, decoded)}
        side = min(original.shape[:2])
        if side >= MS_SSIM_MIN_SIDE:
            found["MS-SSIM"] = ms_ssim(original, decoded)
        if self.distance is not None and side >= MIN_SIDE:
            found["distance"] = self.distance.distance(original, decoded)
        if side >= 64:  # AlexNet and VGG have nothing left of smaller pictures
            found |= self.perception.pair(original, decoded)
        return found, self.perception.patch_features(decoded)

    def scores(self, notes: Sequence[Note], features: Features, original: Features) -> dict[str, float]:
        """FID and KID over all patches, means over the pictures of the others."""
        found = {"FID": fid(original, features), "KID": kid(original, features), "patches": float(len(features))}
        for key in ("LPIPS", "DISTS", "distance", "PSNR", "MS-SSIM"):
            values = [float(note[key]) for note in notes if key in note]
            if values:
                found[key] = float(np.mean(values))
        return {key: value for key, value in found.items() if math.isfinite(value)}


def category_numbers(pictures: PictureSet) -> Mapping[str, int]:
    """COCO's ids of a set's categories, by name."""
    return {str(one["name"]): int(one["id"]) for one in pictures.annotations["categories"]}


def coco_percent(pictures: PictureSet, notes: Sequence[Note], kind: Kind) -> dict[str, float]:
    """AP, AP50 and AP75 of what was noted of a set's pictures, in percent; none where there are no objects."""
    answers = [one for note in notes for one in note["answers"]]
    found = coco_scores(pictures.annotations, [picture.number for picture in pictures.pictures], answers, kind)
    scores = {"AP": found.ap, "AP50": found.ap50, "AP75": found.ap75}
    return {key: 100 * value for key, value in scores.items() if value >= 0} | {"objects": float(found.objects)}
