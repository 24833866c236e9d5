"""Bjøntegaard deltas: what one codec saves against another, averaged over the range both reach.

After G. Bjøntegaard, "Calculation of average PSNR differences between RD-curves", VCEG-M33 (2001), for any
quality measure. The arithmetic is that of the package `bjontegaard` (Herglotz et al.); what it would answer with
a warning or a wrong number (curves that do not overlap, that go up and down) is an error here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from discover_stream.types import InputError

Method = Literal["akima", "pchip", "cubic"]
"""How points are joined: `akima` (recommended by the package's authors), `pchip` (JVET's sheet), `cubic` (2001)."""

CUBIC_POINTS = 4


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality over rate of one codec.

    Attributes:
        name: shown in errors.
        rates: bits per pixel, kbit/s or bytes: any unit, the same for both curves, above 0.
        qualities: one per rate.
        lower_is_better: for distances (FID, deep features); the sign of `bd_quality` stays that of the measure.
    """

    name: str
    rates: tuple[float, ...]
    qualities: tuple[float, ...]
    lower_is_better: bool = False


def bd_rate(anchor: Curve, test: Curve, method: Method = "akima") -> float:
    """How much more rate `test` needs for the same quality as `anchor`, in percent; negative is a saving.

    Raises:
        InputError: a curve has too few points, is not monotone or not finite, or the two share no quality.
    """
    first, second = _points(anchor, method), _points(test, method)
    _check_pair(anchor, test)
    _check_overlap(anchor, test, (first[1], second[1]), "quality")
    import bjontegaard

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the curves overlap little; `overlap` says so
        return float(bjontegaard.bd_rate(*first, *second, method=method, require_matching_points=False, min_overlap=0))


def bd_quality(anchor: Curve, test: Curve, method: Method = "akima") -> float:
    """How much more quality `test` gives at the same rate as `anchor`, in the measure's unit (BD-PSNR, BD-AP).

    For a measure of which less is better, a negative answer is the better one.

    Raises:
        InputError: a curve has too few points, is not monotone or not finite, or the two share no rate.
    """
    first, second = _points(anchor, method), _points(test, method)
    _check_pair(anchor, test)
    _check_overlap(anchor, test, (first[0], second[0]), "rate")
    import bjontegaard

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gain = bjontegaard.bd_psnr(*first, *second, method=method, require_matching_points=False, min_overlap=0)
    return -float(gain) if anchor.lower_is_better else float(gain)


def overlap(anchor: Curve, test: Curve) -> float:
    """The share (0..1) of the whole range of qualities that both curves reach: little makes a delta weak."""
    low = max(min(anchor.qualities), min(test.qualities))
    high = min(max(anchor.qualities), max(test.qualities))
    whole = max(*anchor.qualities, *test.qualities) - min(*anchor.qualities, *test.qualities)
    return max(0.0, high - low) / whole if whole > 0 else 1.0


def rising_part(curve: Curve) -> Curve:
    """The points of a curve that no cheaper point matches in quality: what one would use of the codec.

    Measures such as AP wobble, and a delta needs a monotone curve. Say in the report that points were left out.
    """
    sign = -1.0 if curve.lower_is_better else 1.0
    points = sorted(zip(curve.rates, curve.qualities, strict=True), key=lambda point: (point[0], -sign * point[1]))
    kept: list[tuple[float, float]] = []
    for rate, quality in points:
        if not kept or sign * quality > sign * kept[-1][1]:
            kept.append((rate, quality))
    rates, qualities = tuple(r for r, _ in kept), tuple(q for _, q in kept)
    return Curve(curve.name, rates, qualities, curve.lower_is_better)


def _points(curve: Curve, method: Method) -> tuple[list[float], list[float]]:
    """Rates and qualities by rising rate, quality turned so that more is better."""
    where = f"curve {curve.name}"
    if len(curve.rates) != len(curve.qualities):
        raise InputError(f"{where}: {len(curve.rates)} rates but {len(curve.qualities)} qualities; give pairs")
    least = CUBIC_POINTS if method == "cubic" else 2
    if len(curve.rates) < least:
        raise InputError(f"{where}: {len(curve.rates)} points are too few for {method}; measure at least {least}")
    if not all(math.isfinite(value) for value in (*curve.rates, *curve.qualities)) or min(curve.rates) <= 0:
        raise InputError(f"{where}: rates must be above 0 and all values finite; leave out lossless or empty points")
    pairs = sorted(zip(curve.rates, curve.qualities, strict=True))
    rates = [float(rate) for rate, _ in pairs]
    qualities = [-float(q) if curve.lower_is_better else float(q) for _, q in pairs]
    for values, what in ((rates, "rate"), (qualities, "quality")):
        for index, (before, after) in enumerate(pairwise(values)):
            if after <= before:
                raise InputError(
                    f"{where}: not monotone, {what} does not get better from {curve_point(pairs[index])} to"
                    f" {curve_point(pairs[index + 1])}; drop points that a cheaper one beats (`rising_part`)"
                )
    return rates, qualities


def curve_point(pair: Sequence[float]) -> str:
    """A point as errors show it: rate and quality."""
    return f"({pair[0]:g}, {pair[1]:g})"


def _check_pair(anchor: Curve, test: Curve) -> None:
    if anchor.lower_is_better != test.lower_is_better:
        raise InputError(f"curves {anchor.name} and {test.name} measure different things; compare one measure")


def _check_overlap(anchor: Curve, test: Curve, values: tuple[list[float], list[float]], what: str) -> None:
    first, second = values
    low, high = max(min(first), min(second)), min(max(first), max(second))
    if low >= high:
        shown = [_shown(side, anchor.lower_is_better and what == "quality") for side in values]
        raise InputError(
            f"curves {anchor.name} and {test.name}: no {what} that both reach ({shown[0]} against {shown[1]});"
            " measure more points until the curves overlap"
        )


def _shown(values: Sequence[float], turned: bool) -> str:
    ends = sorted(-value for value in values) if turned else sorted(values)
    return f"{ends[0]:g} to {ends[-1]:g}"
