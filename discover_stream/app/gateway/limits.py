"""How often somebody may ask: a bucket of requests for each, filled at a steady rate."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Bucket:
    """What is left of somebody's requests, as of a time in seconds."""

    left: float
    at_s: float


def taken(bucket: Bucket | None, now_s: float, per_s: float, burst: float) -> tuple[Bucket, float]:
    """The bucket after another request, and the seconds to wait where there is none left (0: it may go on)."""
    left = burst if bucket is None else min(burst, bucket.left + max(0.0, now_s - bucket.at_s) * per_s)
    if left < 1:
        return Bucket(left, now_s), (1 - left) / per_s
    return Bucket(left - 1, now_s), 0.0


class Limiter:
    """Buckets by name. For one thread (the event loop's)."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, who: str, now_s: float) -> float:
        """Count a request; the seconds that `who` has to wait first, 0 for none."""
        bucket, wait_s = taken(self._buckets.pop(who, None), now_s, self._per_s, self._burst)
        self._buckets[who] = bucket
        while len(self._buckets) > _MOST:
            self._buckets.popitem(last=False)
        return wait_s
