from discover_stream.app.gateway.alerts import DROPS_S, alerts_of
from topics.fleet_messages import CameraStatus, SystemStatus
from topics.status import StatusTable

NOW_NS = 1_767_225_600 * 10**9


def table(**camera: object) -> StatusTable:
    system = SystemStatus(
        at_ns=NOW_NS, role="all", host="h", pid=1, version="1", state="running", started_ns=0, interval_s=1.0
    )
    known = {"camera": "gate", "at_ns": NOW_NS, "partition": 0, "health": "running"}
    status = CameraStatus(**{**known, **camera})  # type: ignore[arg-type]
    return StatusTable(system=system, cameras=(status,), heard_ns=NOW_NS)


def test_dropped_frames_are_told_until_a_while_after_the_last() -> None:
    dropped = {"encoding fell behind": 3}
    (alert,) = alerts_of(table(dropped=dropped, last_drop_ns=NOW_NS - 10**9), NOW_NS)
    assert (alert.severity, alert.what) == ("warning", "camera gate")
    assert "3 frames were dropped" in alert.text
    assert alerts_of(table(dropped=dropped, last_drop_ns=NOW_NS - round((DROPS_S + 1) * 1e9)), NOW_NS) == []
    assert alerts_of(table(), NOW_NS) == []


def test_errors_come_first() -> None:
    found = alerts_of(table(health="failed", problem="no such file", picture="black", lag_s=99.0), NOW_NS)
    assert [alert.severity for alert in found] == ["error", "warning", "warning"]
