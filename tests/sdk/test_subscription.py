from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from stream_film import FRAMES, capture_ns, film, painted_film, seen

from discover_stream.codec.any_packet import any_packet_bytes, regions_only, route_any
from discover_stream.codec.packet import Packet, PacketRegion, packet_bytes, task_key
from discover_stream.sdk import AtCapture, Gap, Lack, TaskFrame, label_sets, subscribe
from discover_stream.types import BitstreamError, Box, InputError, LabelSet, Region, Task
from topics.catalogue import ARCHIVE, INDEX, LABELS, CatalogueSettings, catalogue, task_topic
from topics.log import LogError
from topics.messages import LabelSetMessage, encode
from topics.partitioner import partition_for
from topics.sqlite import SqliteLog
from topics.time_index import IndexWriter

KEY = task_key("trams", 1)
WORDS = ("tram", *(f"thing {number}" for number in range(99)))


def packet(seq: int, capture_ns: int | None = None, incarnation: int = 0) -> Packet:
    region = PacketRegion(Box(1, 2, 30, 40), 63, 7, ((0, 0),))
    at = seq * 10**8 if capture_ns is None else capture_ns
    return Packet(b"abc", 4, seq, incarnation, at, 64, 48, (KEY,), (region,), b"coarse", ())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SqliteLog]:
    with SqliteLog(tmp_path / "log.db") as opened:
        opened.create_topics(catalogue(["trams"], CatalogueSettings(partitions=2)))
        task = Task("trams", "all trams", LabelSet("trams", 1, WORDS))
        for key in ("trams/1", "trams"):
            opened.append(LABELS, key, encode(LabelSetMessage.of(task)))
        yield opened


def send(log: SqliteLog, camera: str, *seqs: int) -> None:
    for seq in seqs:
        log.append(task_topic("trams"), camera, packet_bytes(packet(seq)))


def got(subscription) -> list[tuple[str, int]]:
    return [(item.camera, item.seq) for item in subscription if isinstance(item, TaskFrame)]


def test_what_a_packet_tells(log: SqliteLog) -> None:
    send(log, "gate", 3)
    with subscribe("trams", log=log, timeout_s=0) as subscription:
        (item,) = subscription
    assert isinstance(item, TaskFrame)
    assert (item.camera, item.seq, item.incarnation, item.capture_ns) == ("gate", 3, 0, 3 * 10**8)
    assert item.regions == (Region(0, 1.0, Box(1, 2, 30, 40), 7),)
    assert item.label(item.regions[0]) == "tram"
    assert item.label(Region(500, 1.0, Box(0, 0, 1, 1))) == "label 500"
    assert item.size == len(packet_bytes(item.packet))
    assert item.identity == ("gate", 0, 3)
    assert item.shape == (48, 64)


def test_a_group_goes_on_after_its_last_commit(log: SqliteLog) -> None:
    send(log, "gate", *range(5))
    with subscribe("trams", log=log, group="g", timeout_s=0) as first:
        for item in first:
            if item.seq == 2:
                break  # died while working on it
            first.commit()
    with subscribe("trams", log=log, group="g", timeout_s=0) as second:
        assert got(second) == [("gate", 2), ("gate", 3), ("gate", 4)]
    with subscribe("trams", log=log, group="other", timeout_s=0) as third:
        assert len(got(third)) == 5


def test_a_group_that_began_at_the_end_misses_nothing_over_a_restart(log: SqliteLog) -> None:
    send(log, "gate", 0)
    subscribe("trams", log=log, group="g", start="latest", timeout_s=0).close()  # killed before its first packet
    send(log, "gate", 1)
    send(log, "yard", 0)
    first = subscribe("trams", log=log, group="g", start="latest", timeout_s=0)
    item = next(first)
    first.commit()  # of one partition; nothing was read from the other
    send(log, "gate", 2)
    again = got(subscribe("trams", log=log, group="g", start="latest", timeout_s=0))
    assert sorted([(item.camera, item.seq), *again]) == [("gate", 1), ("gate", 2), ("yard", 0)]


def test_one_camera_alone(log: SqliteLog) -> None:
    for seq in range(3):
        send(log, "gate", seq)
        send(log, "yard", seq)
    with subscribe("trams", log=log, camera="yard", group="g", timeout_s=0) as subscription:
        assert got(subscription) == [("yard", seq) for seq in range(3)]
        subscription.commit()
    with subscribe("trams", log=log, camera="gate", timeout_s=0) as subscription:
        assert got(subscription) == [("gate", seq) for seq in range(3)]


def test_a_camera_that_sends_nothing_is_not_waited_for_because_others_send(log: SqliteLog) -> None:
    """Both cameras lie in one partition."""
    other = next(name for name in map("yard-{}".format, range(9)) if partition_for(name, 2) == partition_for("gate", 2))
    send(log, "gate", 0)
    over = threading.Event()

    def busy() -> None:
        for seq in range(1000):
            if over.wait(0.02):
                break
            send(log, other, seq)

    sender = threading.Thread(target=busy)
    sender.start()
    try:
        with subscribe("trams", log=log, camera="gate", timeout_s=0.5) as subscription:
            began = time.monotonic()
            assert got(subscription) == [("gate", 0)]
            assert subscription.poll(0.1) is None
            assert time.monotonic() - began < 10
    finally:
        over.set()
        sender.join()


def test_positions_kept_elsewhere_go_on_there(log: SqliteLog) -> None:
    send(log, "gate", 0, 1, 2)
    send(log, "yard", 0)
    first = subscribe("trams", log=log, start="latest", timeout_s=0)
    ends = first.positions
    assert sum(ends.values()) == 4
    every = subscribe("trams", log=log, timeout_s=0)
    while (item := next(every)).identity != ("gate", 0, 1):
        pass
    assert isinstance(item, TaskFrame)
    assert every.positions[item.partition] == item.offset + 1
    send(log, "yard", 1)
    again = got(subscribe("trams", log=log, start=every.positions, timeout_s=0))
    seen_first = {("gate", 0), ("gate", 1)} | ({("yard", 0)} if ("yard", 0) not in again else set())
    assert seen_first.isdisjoint(again)
    assert len(again) + len(seen_first) == 5
    assert got(subscribe("trams", log=log, start=ends, timeout_s=0)) == [("yard", 1)]
    with pytest.raises(InputError, match="partition 7 is not read here"):
        subscribe("trams", log=log, start={7: 0})
    with pytest.raises(InputError, match="leave one of both out"):
        subscribe("trams", log=log, start=ends, group="g")


def test_a_log_need_not_be_named(log: SqliteLog, monkeypatch: pytest.MonkeyPatch) -> None:
    send(log, "gate", 0)
    monkeypatch.setenv("DISCOVER_LOG", f"sqlite:{log.path}")
    with subscribe("trams", timeout_s=0) as subscription:
        assert got(subscription) == [("gate", 0)]
        assert subscription.poll() is None


def test_others_may_decode(log: SqliteLog) -> None:
    class Elsewhere:
        def decoded(self, frame, profile, steps, generate):
            return (frame.seq, profile, steps, generate)

    send(log, "gate", 3)
    item = next(subscribe("trams", log=log, timeout_s=0, pictures=Elsewhere()))
    assert item.decoded("human", steps=2, generate=False) == (3, "human", 2, False)


def test_where_to_start(log: SqliteLog) -> None:
    send(log, "gate", 0, 1)
    late = subscribe("trams", log=log, start="latest", timeout_s=0)
    between = datetime.now(UTC)
    send(log, "gate", 2)
    assert got(late) == [("gate", 2)]
    assert got(subscribe("trams", log=log, start=between, timeout_s=0)) == [("gate", 2)]
    assert got(subscribe("trams", log=log, timeout_s=0)) == [("gate", 0), ("gate", 1), ("gate", 2)]


def test_what_retention_took_is_a_gap(log: SqliteLog) -> None:
    send(log, "gate", *range(6))
    subscription = subscribe("trams", log=log, group="g", timeout_s=0)
    assert next(subscription).seq == 0
    subscription.commit()
    partition = next(p for p in range(2) if log.bounds(task_topic("trams"), p).end)
    log.trim(task_topic("trams"), partition, 4)
    again = list(subscribe("trams", log=log, group="g", timeout_s=0))
    assert again[0] == Gap(task_topic("trams"), partition, 1, 4)
    assert [item.seq for item in again[1:]] == [4, 5]


def test_damaged_bytes_are_refused_and_the_next_packet_is_not(log: SqliteLog) -> None:
    data = bytearray(packet_bytes(packet(0)))
    data[-1] ^= 1
    log.append(task_topic("trams"), "gate", bytes(data))
    send(log, "gate", 1)
    subscription = subscribe("trams", log=log, timeout_s=0)
    with pytest.raises(BitstreamError, match="camera gate"):
        next(subscription)
    assert next(subscription).seq == 1


def test_what_cannot_be_subscribed_to(log: SqliteLog, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'buses' is not in this log; it has: trams"):
        subscribe("buses", log=log)
    nowhere = tmp_path / "none.db"
    with pytest.raises(InputError, match="there is none yet"):
        subscribe("trams", log=f"sqlite:{nowhere}")
    assert not nowhere.exists()
    with pytest.raises(LogError, match="no group"):
        subscribe("trams", log=log, timeout_s=0).commit()


def test_an_address_is_opened_and_closed(log: SqliteLog) -> None:
    send(log, "gate", 0)
    with subscribe("trams", log=f"sqlite:{log.path}", group="g", timeout_s=0) as subscription:
        assert got(subscription) == [("gate", 0)]
    with pytest.raises(LogError, match="closed"):
        subscription.commit()


def test_pictures_are_decoded_with_the_shipped_weights(log: SqliteLog) -> None:
    import numpy as np
    import torch

    from discover_stream.codec.model import load_codec
    from discover_stream.codec.still import encode_frame
    from discover_stream.types import Frame, Provenance

    torch.set_num_threads(1)
    image = np.full((48, 64, 3), 90, np.uint8)
    regions = {"trams": (Region(0, 0.9, Box(0, 0, 32, 32)),)}
    made = encode_frame(load_codec(), Frame("gate", 0, 0, image), regions, {"trams": KEY}, quality=5)
    log.append(task_topic("trams"), "gate", packet_bytes(made))
    item = next(subscribe("trams", log=log, timeout_s=0))
    assert isinstance(item, TaskFrame)
    picture = item.image(generate=False)
    assert (picture.shape, picture.dtype) == ((48, 64, 3), np.uint8)
    decoded = item.decoded("human", generate=False)
    assert (decoded.provenance == Provenance.SENT).tolist() == [[True, True, False, False]] * 2 + [[False] * 4]


def test_label_sets_by_key(log: SqliteLog) -> None:
    assert label_sets(log) == {KEY: LabelSet("trams", 1, WORDS)}


def test_starting_at_a_capture_time(log: SqliteLog) -> None:
    """By the camera's clock, which began in 1970 and was set back once; packets reached the task just now."""
    writer, partition = IndexWriter(), partition_for("gate", 2)
    stage = log.stage("encode", partition, "test")
    for seq, at_s in enumerate((0, 1, 2, 3, 100, 101, 50, 51, 52)):
        data = packet_bytes(packet(seq, at_s * 10**9))
        entries = writer.records("gate", 0, seq, at_s * 10**9, lambda: log.bounds(ARCHIVE, partition).end)
        with stage.transaction() as transaction:
            transaction.send(ARCHIVE, "gate", data)
            for entry in entries:
                transaction.send(INDEX, "gate", encode(entry))
        writer.committed(entries)
        log.append(task_topic("trams"), "gate", data)
        send(log, "yard", seq)
    for at_s, first in ((2.5, 2), (51, 7), (100.5, 4), (-1, 0)):
        start = AtCapture(int(at_s * 10**9))
        found = got(subscribe("trams", log=log, camera="gate", start=start, timeout_s=0))
        assert found == [("gate", seq) for seq in range(first, 9)]
    with subscribe("trams", log=log, camera="gate", group="g", start=AtCapture(50 * 10**9), timeout_s=0) as first_time:
        assert next(first_time).seq == 6
        first_time.commit()
    assert got(subscribe("trams", log=log, camera="gate", group="g", start=AtCapture(0), timeout_s=0))[0][1] == 7
    with pytest.raises(InputError, match="needs its camera"):
        subscribe("trams", log=log, start=AtCapture(0))


def send_film(log: SqliteLog, *seqs: int) -> None:
    """Frames of a fixed camera, as the router sends them to one task."""
    for seq in seqs:
        packet = route_any(painted_film((KEY, KEY + 1))[seq], {KEY})
        log.append(task_topic("trams"), "gate", any_packet_bytes(packet))


def test_regions_of_a_fixed_camera(log: SqliteLog) -> None:
    send_film(log, *range(FRAMES))
    with subscribe("trams", log=log, timeout_s=0) as subscription:
        items, pictures = [], []
        for item in subscription:
            assert isinstance(item, TaskFrame)
            items.append(item)
            pictures.append(item.image())
    for seq, item in enumerate(items):
        assert (item.seq, item.capture_ns, item.absent) == (seq, capture_ns(seq), ())
        assert set(item.regions) == seen(seq, 0)
        assert item.shape == (48, 64)
        assert item.labels == LabelSet("trams", 1, WORDS)
        assert item.size == len(any_packet_bytes(item.packet))
    assert items[4].tags == (0, 1)
    # The car, before and after its refresh, and the plate before and after it got darker.
    assert all(picture.shape == (48, 64, 3) for picture in pictures)
    assert items[-1].decoded().provenance.shape == (3, 4)
    assert pictures[0][16, 18].mean() == pytest.approx(150, abs=4)
    assert pictures[4][16, 22].mean() == pytest.approx(200, abs=4)
    assert pictures[4][44, 60].mean() > pictures[5][44, 60].mean() > 50
    with pytest.raises(InputError, match=r"camera gate, seq 3: .*gone"):
        items[3].image()


def test_who_joins_late_or_comes_again_sees_everything_at_once(log: SqliteLog) -> None:
    send_film(log, *range(5))
    late = subscribe("trams", log=log, start="latest", timeout_s=0)
    with subscribe("trams", log=log, group="g", timeout_s=0) as first:
        for item in first:
            if item.seq == 2:
                first.commit()
                break
    with subscribe("trams", log=log, group="g", timeout_s=0) as again:
        items = [item for item in again if isinstance(item, TaskFrame)]
    assert [item.seq for item in items] == [3, 4]
    send_film(log, 5, 6)
    items += [item for item in late if isinstance(item, TaskFrame)]
    assert [item.seq for item in items] == [3, 4, 5, 6]
    assert items[-1].image()[16, 22].mean() == pytest.approx(200, abs=4)
    for item in items:
        assert (item.absent, item.capture_ns) == ((), capture_ns(item.seq))
        assert set(item.regions) == seen(item.seq, 0)


def test_what_was_lost_is_told_until_a_list_of_all_tracks(log: SqliteLog) -> None:
    send_film(log, 0)
    damaged = bytearray(any_packet_bytes(route_any(painted_film((KEY, KEY + 1))[1], {KEY})))
    damaged[-1] ^= 1
    log.append(task_topic("trams"), "gate", bytes(damaged))
    send_film(log, *range(2, FRAMES))
    subscription = subscribe("trams", log=log, timeout_s=0)
    assert next(subscription).seq == 0
    with pytest.raises(BitstreamError, match="camera gate"):
        next(subscription)
    found = {item.seq: item for item in subscription if isinstance(item, TaskFrame)}
    assert [seq for seq, item in found.items() if item.absent] == [2, 3, 4, 5, 6]
    assert {lack.what for lack in found[2].absent} == {Lack.STATE}
    # The refresh of frame 3 tells where its track is, whatever was lost.
    assert set(found[3].regions) == seen(3, 0)
    assert [set(found[seq].regions) for seq in (7, 8)] == [seen(7, 0), seen(8, 0)]


def test_regions_of_a_fixed_camera_alone(log: SqliteLog) -> None:
    for whole in film((KEY, KEY + 1)):
        log.append(task_topic("trams"), "gate", any_packet_bytes(regions_only(route_any(whole, {KEY}))))
    items = [item for item in subscribe("trams", log=log, timeout_s=0) if isinstance(item, TaskFrame)]
    for seq, item in enumerate(items):
        assert (item.absent, item.capture_ns, item.regions_only) == ((), capture_ns(seq), True)
        assert set(item.regions) == seen(seq, 0)
    with pytest.raises(InputError, match=r"camera gate, seq 8: .*regions only"):
        items[8].image()


def test_regions_only_are_delivered_and_are_no_picture(log: SqliteLog) -> None:
    bare = regions_only(packet(0))
    log.append(task_topic("trams"), "gate", packet_bytes(bare))
    (item,) = subscribe("trams", log=log, timeout_s=0)
    assert isinstance(item, TaskFrame)
    assert item.regions == (Region(0, 1.0, Box(1, 2, 30, 40), 7),)
    with pytest.raises(InputError, match=r"camera gate, seq 0: .*regions only"):
        item.image()
