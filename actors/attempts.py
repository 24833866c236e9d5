"""Counting how often work on a record was begun, so that one that kills its stage is found out.

What does not count is trouble of the log itself: a full disk refuses large commits while the small one that
counts attempts still fits, and a broker that is away takes nothing back. Without care for that, a good record
would be buried as the one that kills.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from topics.log import Fenced, LogError, MessageTooLarge, Stage

_owed: Counter[tuple[str, str, int, int]] = Counter()
"""Counts to be taken back once the log can be written again, over all runs of this process."""


def begin(stage: Stage, topic: str, partition: int, offset: int) -> int:
    """Count, before anything of a record is touched, that work on it begins; the count, from 1.

    Raises Fenced, or LogError where the log cannot be written.
    """
    place = stage.transactional_id, topic, partition, offset
    try:
        count = stage.record_attempt(topic, partition, offset)
    except Fenced:
        raise
    except LogError:
        _owed[place] += 1  # it may have been counted all the same; a death too few is better than one too many
        raise
    while _owed[place] > 0:
        if count > 1:
            stage.forget_attempt(topic, partition, offset)
            count -= 1
        _owed[place] -= 1
    return count


@contextmanager
def blameless(stage: Stage, topic: str, partition: int, offset: int) -> Iterator[None]:
    """Work on a record whose attempt was counted; the count is taken back where the log refuses the result,
    now or, if the log refuses that too, when work on the record begins again. The error goes on to the caller.
    """
    place = stage.transactional_id, topic, partition, offset
    try:
        yield
    except (Fenced, MessageTooLarge):  # nothing may be written any more; or it is the record's fault
        raise
    except LogError:
        try:
            stage.forget_attempt(topic, partition, offset)
        except LogError:
            _owed[place] += 1
        raise
    else:
        _owed.pop(place, None)
