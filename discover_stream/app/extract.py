"""`discover extract`: one file's packets routed to some of its tasks. Bytes only: no networks."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from discover_stream.app.outputs import Interrupted, Written, check_stream_output, counted
from discover_stream.app.progress import frame_bar
from discover_stream.codec.any_packet import route_any
from discover_stream.codec.container import DsvReader, DsvWriter, StreamInfo
from discover_stream.types import BitstreamError, InputError

ALL = "all"
"""Stands for all tasks of a stream."""


def chosen_tasks(reader: DsvReader, names: Collection[str]) -> StreamInfo:
    """The part of a file's stream that holds some tasks; none or `all` means every task.

    Raises:
        InputError: a task is not in the file.
    """
    if not names or ALL in names:
        return reader.info
    try:
        return reader.info.only(names)
    except InputError as error:
        raise InputError(f"{reader.path}: {error}") from None


def extract_stream(source: Path, names: Collection[str], output: Path) -> Written:
    """Write a file that holds only some tasks' atoms, regions and label sets.

    Raises:
        InputError: unknown task, or a file cannot be read or written.
        BitstreamError: the source is damaged; the frames before the damage are in the output.
        Interrupted: Ctrl-C after the first frame.
    """
    check_stream_output(output, source)
    with DsvReader(source) as reader:
        info = chosen_tasks(reader, names)
        keys = set(info.keys.values())
        writer: DsvWriter | None = None
        try:
            with frame_bar(f"extract {', '.join(info.keys)}", reader.size) as advance:
                for record in reader:
                    writer = writer or DsvWriter(output, info)
                    writer.write(route_any(record.packet, keys))
                    advance(writer.frames, reader.position)
        except (BitstreamError, KeyboardInterrupt) as error:
            if writer is None:
                raise
            writer.close()
            kept = f"{counted(writer.frames, 'frame')} went to {output}"
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(kept) from None
            raise BitstreamError(f"{error}; before it {kept}") from None
        writer = writer or DsvWriter(output, info)
        writer.close()
        return Written(writer.frames, writer.size.total)
