"""For programs that use the streams: subscribe to a task, read a camera's archive by time.

    from discover_stream.sdk import Gap, subscribe

    with subscribe("vehicles", log="sqlite:out/discover.db", group="counter") as subscription:
        for item in subscription:
            if isinstance(item, Gap):
                continue                      # retention took packets before they were read
            print(item.camera, item.seq, len(item.regions))
            picture = item.image("human")     # decoded only when asked for
            subscription.commit()             # everything up to here is done

`subscribe_async` is the same for programs on asyncio. Without `log`, the address in the environment variable
DISCOVER_LOG applies, else the one of the packaged configuration.

*Delivery* is at least once: after a crash, packets since the last commit come again, so that whoever counts
drops repeats by `TaskFrame.identity`. It is exactly once for those who keep `Subscription.positions` where their
results are, in the same transaction, and start there again (`start=positions`); `examples/exactly_once.py` shows it.
Nothing here needs Ray; torch is imported when a picture is asked for.

*Fixed cameras.* Packets of stream mode say what changed since earlier ones. A subscription reads on its own what
came before its first packet, so joining late shows everything at once; what is missing all the same (a packet or a
plate that the log does not have any more) is told by `TaskFrame.absent`, and mended by later packets.

*Times.* A subscription starts at a time of writing (when the packet reached the log), or, for one camera, at a
capture time (`AtCapture`). The archive is read by capture time, which is the moment the picture shows: for live
cameras both agree within the delay of the system, for files and simulated cameras, and for cameras whose clock
is off, they may be years apart. A time index in the log leads from one to the other; no clocks are compared.
Whoever starts at a capture time gets the frame that shows this instant first: the last one at or before it.
"""

from __future__ import annotations

from discover_stream.codec.stream_state import Absence, Lack
from discover_stream.sdk.asynchronous import AsyncSubscription, subscribe_async
from discover_stream.sdk.frames import LazyDecoder, LocalPictures, Pictures, TaskFrame
from discover_stream.sdk.starts import AtCapture, From, default_log, label_sets, open_existing
from discover_stream.sdk.subscription import Subscription, subscribe
from topics.archive import Archived, Span, archive_gaps, archive_span, read_archive
from topics.log import AtOffset, AtTime, Gap
from topics.messages import GapMessage

__all__ = [
    "Absence",
    "Archived",
    "AsyncSubscription",
    "AtCapture",
    "AtOffset",
    "AtTime",
    "From",
    "Gap",
    "GapMessage",
    "Lack",
    "LazyDecoder",
    "LocalPictures",
    "Pictures",
    "Span",
    "Subscription",
    "TaskFrame",
    "archive_gaps",
    "archive_span",
    "default_log",
    "label_sets",
    "open_existing",
    "read_archive",
    "subscribe",
    "subscribe_async",
]
