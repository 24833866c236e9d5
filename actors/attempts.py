"""What does not count as an attempt at a record: trouble of the log itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from topics.log import Fenced, LogError, MessageTooLarge, Stage


@contextmanager
def blameless(stage: Stage, topic: str, partition: int, offset: int) -> Iterator[None]:
    """Work on a record whose attempt was counted; the count is taken back where the log refuses the result.

    A full disk refuses large commits while the small one that counts attempts still fits: without this, a good
    record would be buried as the one that kills its stage. The error goes on to the caller.
    """
    try:
        yield
    except (Fenced, MessageTooLarge):  # nothing may be written any more; or it is the record's fault
        raise
    except LogError:
        stage.forget_attempt(topic, partition, offset)
        raise
