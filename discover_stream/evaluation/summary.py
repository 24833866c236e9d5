"""From finished cases to curves, the best of every grid, and who wins, ties and loses.

The best of a grid is the upper hull of all its points over rate: what someone gets who picks the best setting
for every operating point (and who, between two settings, shares time).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from discover_stream.evaluation.bjontegaard import Curve, bd_quality, bd_rate, overlap, rising_part
from discover_stream.evaluation.measures import lower_is_better
from discover_stream.evaluation.store import Record
from discover_stream.types import InputError

Verdict = Literal["lose", "tie", "win", "not comparable"]
TIE = 5.0
"""Percent of rate, each way, that counts as a tie."""

CEILING = "original"
CLEVER = ("frozen+svt-av1", "crops+av1")
"""Peers that know the task's boxes."""

LEAST_OBJECTS = 10
"""An AP over fewer true objects moves by tenths when one of them is lost: no win or tie of ours rests on it."""

KEPT = 0.9
"""Bits are compared where a detector keeps this share of the AP50 that it has on the originals."""


def is_our_name(name: str) -> bool:
    """Whether a name in tables is one of ours."""
    return name.startswith("ours")


def rate_of(record: Record) -> float:
    """kbit/s of a clip, bits per pixel of pictures."""
    return float(record["kbps"] if record["kind"] == "video" else record["bpp"])


def rate_unit(records: Sequence[Record]) -> str:
    """Of `rate_of`."""
    return "kbit/s" if records and records[0]["kind"] == "video" else "bit/pixel"


def names_of(records: Iterable[Record]) -> list[str]:
    """The systems, ours first, without the originals."""
    names = list(dict.fromkeys(str(record["name"]) for record in records if record["name"] != CEILING))
    return sorted(names, key=lambda name: (not is_our_name(name), names.index(name)))


def points(records: Iterable[Record], measure: str, names: Iterable[str]) -> list[tuple[float, float]]:
    """(rate, quality) of some systems, by rate."""
    wanted = set(names)
    found = [
        (rate_of(r), float(r["measures"][measure])) for r in records if r["name"] in wanted and measure in r["measures"]
    ]
    return sorted(found)


def hull(pairs: Sequence[tuple[float, float]], lower: bool = False) -> list[tuple[float, float]]:
    """The points on the upper hull over rate (the lower one for distances), from the cheapest to the best.

    >>> hull([(1, 1), (2, 1.2), (3, 3), (4, 2)])
    [(1, 1), (3, 3)]
    """
    sign = -1.0 if lower else 1.0
    kept: list[tuple[float, float]] = []
    for rate, quality in sorted(set(pairs), key=lambda point: (point[0], -sign * point[1])):
        if kept and sign * quality <= sign * kept[-1][1]:
            continue  # dearer and no better
        while len(kept) >= 2 and _below(kept[-2], kept[-1], (rate, quality), sign):
            kept.pop()
        kept.append((rate, quality))
    return kept


def _below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float], sign: float) -> bool:
    rise, run = sign * (last[1] - first[1]), last[0] - first[0]
    return sign * (middle[1] - first[1]) * run <= rise * (middle[0] - first[0])


def rate_at(pairs: Sequence[tuple[float, float]], quality: float, lower: bool = False) -> float | None:
    """The rate at which a hull reaches a quality, interpolated; None where it never does."""
    sign = -1.0 if lower else 1.0
    before: tuple[float, float] | None = None
    for rate, value in hull(pairs, lower):
        if sign * value >= sign * quality:
            if before is None:
                return rate
            share = (quality - before[1]) / (value - before[1])
            return before[0] + share * (rate - before[0])
        before = rate, value
    return None


@dataclass(frozen=True)
class Comparison:
    """One of our systems against the best of the peers, on one item by one measure.

    Attributes:
        item: what was measured on.
        group: how the item stands to training.
        measure: by which.
        ours: our system.
        against: the peers, or the name of one.
        percent: BD-rate, percent of rate that ours needs more at equal quality; None where it is undefined.
        delta: BD-quality, in the measure's unit at equal rate; None where it is undefined.
        shared: the share (0..1) of the range of qualities that both curves reach, on which `percent` rests.
        verdict: for us.
        reason: in words.
    """

    item: str
    group: str
    measure: str
    ours: str
    against: str
    percent: float | None
    delta: float | None
    shared: float | None
    verdict: Verdict
    reason: str


def compare(
    records: Sequence[Record], measure: str, ours: str, against: Sequence[str], title: str
) -> Comparison | None:
    """Compare on one item; None where either side has no figures.

    Args:
        records: of one item.
        measure: by which.
        ours: name of our system.
        against: names of peers, of which the best at every point counts.
        title: what to call them.
    """
    lower = lower_is_better(measure)
    own, theirs = points(records, measure, [ours]), hull(points(records, measure, against), lower)
    if not own or not theirs:
        return None
    about = (str(records[0]["item"]), str(records[0]["group"]), measure, ours, title)
    test = rising_part(_curve(ours, own, lower))
    anchor = _curve(title, theirs, lower)
    found = _compared(test, anchor, about)
    objects = _objects(records, measure)
    if objects is not None and objects < LEAST_OBJECTS and found.verdict in ("win", "tie"):
        return replace(found, verdict="not comparable", reason=f"{found.reason}, but of only {objects} objects")
    return found


def _compared(test: Curve, anchor: Curve, about: tuple[str, str, str, str, str]) -> Comparison:
    """The comparison of ours with the best of the peers; `about` are the comparison's first fields."""
    lower = test.lower_is_better
    percent, delta = _delta(bd_rate, anchor, test), _delta(bd_quality, anchor, test)
    if percent is not None:
        return Comparison(*about, percent, delta, overlap(anchor, test), *_judged(percent, delta, lower))
    if delta is not None:
        better = delta < 0 if lower else delta > 0
        return Comparison(*about, None, delta, None, "win" if better else "lose", f"{delta:+.3g} at equal rate")
    percent = _at_one_point(test, anchor)
    if percent is not None:
        return Comparison(*about, percent, None, 0.0, *_judged(percent, None, lower))
    return Comparison(*about, None, None, None, *_apart(test, anchor))


def _objects(records: Sequence[Record], measure: str) -> int | None:
    """How many true objects a judge's AP rests on; None for other measures."""
    if not measure.startswith("AP50"):
        return None
    name = measure.replace("AP50", "objects")
    return next((int(r["measures"][name]) for r in records if name in r["measures"]), None)


def _judged(percent: float, delta: float | None, lower: bool) -> tuple[Verdict, str]:
    """A verdict on curves that share qualities: a win by rate has to be none of quality's losses."""
    reason = f"{percent:+.0f} % of rate at equal quality"
    if abs(percent) <= TIE:
        return "tie", reason
    if percent > 0:
        return "lose", reason
    if delta is not None and (delta > 0 if lower else delta < 0):
        return "not comparable", f"{reason}, but worse at equal rate: the curves cross"
    return "win", reason


def _at_one_point(test: Curve, anchor: Curve) -> float | None:
    """Percent of rate that ours needs more where one side has a single point, at that point's quality."""
    for single, other, turn in ((anchor, test, 1), (test, anchor, -1)):
        quality = single.qualities[0]
        if len(single.rates) == 1 and min(other.qualities) <= quality <= max(other.qualities):
            pairs = list(zip(other.rates, other.qualities, strict=True))
            rate = rate_at(pairs, quality, test.lower_is_better)
            return None if rate is None else 100 * ((rate / single.rates[0]) ** turn - 1)
    return None


def _apart(test: Curve, anchor: Curve) -> tuple[Verdict, str]:
    """A verdict on curves that share neither a quality nor a rate."""
    if _beats(anchor, test):
        return "lose", "a peer is better with fewer bits than ours ever takes"
    if _beats(test, anchor):
        return "win", "ours is better with fewer bits than any peer takes"
    return "not comparable", "the curves share neither a quality nor a rate"


def _beats(first: Curve, second: Curve) -> bool:
    """Whether one point of the first curve is at least as good and as cheap as every point of the second."""
    sign = -1.0 if first.lower_is_better else 1.0
    best = max(sign * quality for quality in second.qualities)
    points = zip(first.rates, first.qualities, strict=True)
    return any(rate <= min(second.rates) and sign * quality >= best for rate, quality in points)


def _curve(name: str, pairs: Sequence[tuple[float, float]], lower: bool) -> Curve:
    return Curve(name, tuple(rate for rate, _ in pairs), tuple(quality for _, quality in pairs), lower)


def _delta(function: object, anchor: Curve, test: Curve) -> float | None:
    assert callable(function)
    try:
        value = float(function(anchor, test))
    except InputError:  # too few points, or nothing in common: the verdict says so in words
        return None
    return value if math.isfinite(value) else None


def of_item(records: Sequence[Record], item: str) -> list[Record]:
    """The records of one item."""
    return [record for record in records if record["item"] == item]


def items_of(records: Sequence[Record]) -> list[str]:
    """The items, in order."""
    return list(dict.fromkeys(str(record["item"]) for record in records))


def headline_measures(records: Sequence[Record]) -> list[str]:
    """The measures that verdicts rest on."""
    known = {name for record in records for name in record["measures"]}
    machine = sorted(name for name in known if name.startswith("AP50"))
    return [*machine, *(name for name in ("distance inside", "PSNR inside", "distance", "PSNR") if name in known)]


def comparisons(records: Sequence[Record], anchor: str = "") -> list[Comparison]:
    """All of our systems against the peers on every item, losses first, the largest first.

    Our `task` mode sends nothing outside the boxes and is compared inside them only.

    Args:
        records: of all items.
        anchor: a peer's name to compare with; empty for the best of all of them at every point.

    Raises:
        InputError: no peer has the anchor's name.
    """
    found: list[Comparison] = []
    everybody = names_of(records)
    if anchor and anchor not in everybody:
        raise InputError(f"there is no system {anchor!r} in these results; use one of {', '.join(everybody)}")
    for item in items_of(records):
        own = of_item(records, item)
        names = names_of(own)
        peers = [anchor] if anchor else [name for name in names if not is_our_name(name)]
        for measure in headline_measures(own):
            for ours in (name for name in names if is_our_name(name)):
                if ", task" in ours and measure in ("PSNR", "distance"):
                    continue
                one = compare(own, measure, ours, peers, anchor or "best of all peers")
                if one is not None:
                    found.append(one)
    order = {"lose": 0, "not comparable": 1, "tie": 2, "win": 3}
    return sorted(found, key=lambda one: (order[one.verdict], -(one.percent if one.percent is not None else 1e9)))


@dataclass(frozen=True)
class Needed:
    """What a system needs to let the judge keep `KEPT` of its AP50.

    Attributes:
        item: measured on.
        judge: whose AP50.
        ceiling: that AP50 on the originals.
        objects: true objects that it rests on; None where nobody counted.
        rates: system -> rate; None where it never gets there in its grid.
        at_most: systems that get there with their cheapest setting: they may need less.
    """

    item: str
    judge: str
    ceiling: float
    objects: int | None
    rates: dict[str, float | None]
    at_most: tuple[str, ...]


def needed_rates(records: Sequence[Record]) -> list[Needed]:
    """For every item and judge, what each system needs; items on which the judge sees nothing are left out."""
    found = []
    for item in items_of(records):
        own = of_item(records, item)
        ceilings: dict[str, float] = next((r["measures"] for r in own if r["name"] == CEILING), {})
        for measure in (name for name in headline_measures(own) if name.startswith("AP50")):
            ceiling = float(ceilings.get(measure, 1.0))
            if ceiling <= 0:
                continue
            curves = {name: points(own, measure, [name]) for name in names_of(own)}
            rates = {name: rate_at(pairs, KEPT * ceiling) for name, pairs in curves.items()}
            at_most = tuple(name for name, pairs in curves.items() if pairs and rates[name] == pairs[0][0])
            judge = measure.removeprefix("AP50 ").strip("[]")
            found.append(Needed(item, judge, ceiling, _objects(own, measure), rates, at_most))
    return found


def as_json(comparison: Comparison) -> dict[str, object]:
    """A comparison as JSON holds it, rounded."""
    values = asdict(comparison)
    for name in ("percent", "delta", "shared"):
        if values[name] is not None:
            values[name] = round(values[name], 4)
    return values
