"""Calls of networks as CUDA graphs: what is launched for a call is recorded once per kind of call, and replayed.

A small window keeps a GPU busy for less time than it takes to launch its kernels one by one. A graph reads its inputs
from, and writes its output to, memory of its own::

    inputs --copy--> static inputs --graph--> static output --copy--> output
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from discover_stream.generation.picture_decoder import PictureDecoder
from discover_stream.generation.windows import Window

Work = Callable[..., Tensor]
MAX_GRAPHS = 64
"""Kinds of calls whose graphs are held; each has its inputs, and shares the memory for what is in between."""
WARM_UPS = 3
"""Calls before a recording: libraries choose their kernels then, and allocate."""


class Calls(Protocol):
    """How a function of tensors is called."""

    def __call__(self, key: Hashable, work: Work, *inputs: Tensor) -> Tensor:
        """The function's result.

        Args:
            key: tells apart functions that do different things with tensors of the same sizes.
            work: the function; it must not look at values of its inputs, nor at anything that `key` does not name.
            inputs: what it is called with.
        """
        ...


def direct(key: Hashable, work: Work, *inputs: Tensor) -> Tensor:
    """Just call it; see `Calls`."""
    return work(*inputs)


@dataclass(frozen=True, eq=False)
class Recording:
    """A recorded call.

    Attributes:
        output: where its result lies after `replay`.
        replay: does it again, with what its inputs hold now.
    """

    output: Tensor
    replay: Callable[[], Any]


Recorder = Callable[[Callable[[], Tensor]], Recording]


class CudaRecorder:
    """Records CUDA graphs, which share their memory: they are replayed one after another."""

    def __init__(self) -> None:
        self._pool: Any = None

    def __call__(self, work: Callable[[], Tensor]) -> Recording:
        """Record a call."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                work()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            output = work()
        self._pool = self._pool or graph.pool()
        return Recording(output, graph.replay)


class RecordedCalls:
    """Calls that are recorded the first time and replayed from then on; see `Calls`. For one thread.

    Args:
        record: how.
        most: recordings that are held.
    """

    def __init__(self, record: Recorder, most: int = MAX_GRAPHS) -> None:
        self._record, self._most = record, most
        self._known: OrderedDict[Hashable, tuple[tuple[Tensor, ...], Recording]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def __call__(self, key: Hashable, work: Work, *inputs: Tensor) -> Tensor:
        """See `Calls`."""
        kind = (key, tuple((tuple(x.shape), x.dtype, x.stride()) for x in inputs))
        if kind not in self._known:
            own = tuple(x.clone() for x in inputs)
            self._known[kind] = own, self._record(lambda: work(*own))
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        self._known.move_to_end(kind)
        own, recording = self._known[kind]
        for mine, given in zip(own, inputs, strict=True):
            mine.copy_(given)
        recording.replay()
        return recording.output.clone()


@dataclass(frozen=True)
class RecordedDecoder:
    """A picture decoder whose calls go through `Calls`."""

    decoder: PictureDecoder
    calls: Calls

    @property
    def vae(self) -> Any:
        """See `PictureDecoder`."""
        return self.decoder.vae

    @property
    def channels(self) -> int:
        """See `PictureDecoder`."""
        return self.decoder.channels

    @property
    def networks(self) -> Any:
        """See `PictureDecoder`."""
        return self.decoder.networks

    @property
    def reach(self) -> int:
        """See `PictureDecoder`."""
        return self.decoder.reach

    def decode(self, latent: Tensor, inner: Window) -> Tensor:
        """See `PictureDecoder`."""
        return self.calls(("decode", inner), lambda x: self.decoder.decode(x, inner), latent)
