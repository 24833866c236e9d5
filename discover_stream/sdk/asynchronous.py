"""Subscriptions for programs on asyncio: a thread of its own behind each, which does everything that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from discover_stream.sdk.frames import Pictures, TaskFrame
from discover_stream.sdk.starts import From
from discover_stream.sdk.subscription import Subscription, subscribe
from discover_stream.types import Image, InputError, Profile
from topics.log import Gap

if TYPE_CHECKING:
    from discover_stream.decoded import DecodedFrame

Answer = TypeVar("Answer")

_POLL_S = 0.1
"""How long the thread waits at a time: also how long a closing, or a picture asked for meanwhile, may have to wait."""


class AsyncSubscription:
    """Packets of a task: ``async for``, and ``await`` what takes time. From `subscribe_async`; for one asyncio task.

    A wait that is cancelled loses nothing: what the thread found meanwhile is handed out next.
    """

    def __init__(self, opening: Callable[[], Subscription], timeout_s: float | None) -> None:
        self._opening, self._timeout_s = opening, timeout_s
        self._thread = ThreadPoolExecutor(1, "subscription")
        self._subscription: Subscription | None = None
        self._found: asyncio.Future[tuple[TaskFrame | Gap | None, dict[int, int]]] | None = None
        self._positions: dict[int, int] = {}

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskFrame | Gap:
        """The next packet or gap. Raises StopAsyncIteration after the time-out, BitstreamError for damaged bytes."""
        opened = self._opened()
        waited_s = 0.0
        while self._timeout_s is None or waited_s <= self._timeout_s:
            if self._found is None:
                self._found = self._started(lambda: (opened.poll(_POLL_S), opened.positions))
            await asyncio.wait([self._found])
            found, self._found = self._found, None
            item, positions = found.result()
            if item is not None:
                self._positions = positions
                return item
            waited_s += _POLL_S
        raise StopAsyncIteration

    async def image(
        self, frame: TaskFrame, profile: Profile = "machine", *, steps: int | None = None, generate: bool = True
    ) -> Image:
        """As `TaskFrame.image`."""
        return (await self.decoded(frame, profile, steps=steps, generate=generate)).image

    async def decoded(
        self, frame: TaskFrame, profile: Profile = "machine", *, steps: int | None = None, generate: bool = True
    ) -> DecodedFrame:
        """As `TaskFrame.decoded`, which must not be called itself here: it would decode in asyncio's own thread."""
        return await self._started(lambda: frame.decoded(profile, steps=steps, generate=generate))

    async def commit(self) -> None:
        """As `Subscription.commit`."""
        opened, positions = self._opened(), self._positions
        await self._started(lambda: opened.commit(positions))

    @property
    def positions(self) -> dict[int, int]:
        """As `Subscription.positions`."""
        return dict(self._positions)

    async def close(self) -> None:
        """Let go of the log and end the thread."""
        if self._subscription is not None:
            await self._started(self._subscription.close)
        self._thread.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        """Open the log. Raises as `subscribe`."""
        try:
            self._subscription = await self._started(self._opening)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        self._positions = self._subscription.positions
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _started(self, work: Callable[[], Answer]) -> asyncio.Future[Answer]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _opened(self) -> Subscription:
        if self._subscription is None:
            raise InputError(
                "the subscription is not open; use it in `async with subscribe_async(...) as subscription`"
            )
        return self._subscription


def subscribe_async(
    task: str,
    *,
    log: str | None = None,
    group: str | None = None,
    start: From = "earliest",
    camera: str | None = None,
    timeout_s: float | None = None,
    pictures: Pictures | None = None,
) -> AsyncSubscription:
    """As `subscribe`, for ``async with``; the log is opened there, by its address, in the thread that will read it."""

    def opening() -> Subscription:
        return subscribe(task, log=log, group=group, start=start, camera=camera, pictures=pictures)

    return AsyncSubscription(opening, timeout_s)
