"""SVT-AV1 makes the thread that opens an encoder, and those it starts, real-time ones where it may: as root, that is,
and so in most containers. No other process gets to run on a processor that such a thread wants: a few cameras would
stop all else on the machine. Encoding is work like any other, so its threads get back what they had."""

from __future__ import annotations

import os
from pathlib import Path

from av.video.codeccontext import VideoCodecContext

TASKS = Path("/proc/self/task")


def open_encoder(context: VideoCodecContext) -> None:
    """Open an SVT-AV1 encoder; all threads of this process are scheduled as the calling one was before.

    Raises:
        FFmpegError: the encoder refuses its settings.
    """
    if not hasattr(os, "sched_getscheduler") or not TASKS.exists():  # not Linux: nothing of this happens
        context.open()
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        context.open()
    finally:
        if os.sched_getscheduler(0) != policy:
            for task in TASKS.iterdir():
                _schedule(int(task.name), policy, priority)


def _schedule(task: int, policy: int, priority: os.sched_param) -> None:
    try:
        if os.sched_getscheduler(task) != policy:
            os.sched_setscheduler(task, policy, priority)
    except ProcessLookupError:
        return  # the thread has ended meanwhile
