"""Forwards one partition of an edge in process after process, each killed at the failpoint that is its own.

    python forward_nursery.py EDGE CORE ENTRY...      addresses of logs, entries as of `topics.failpoints`

The last process has none and works until nothing is left. Prints how each ended, as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback

from actors import forward
from topics import failpoints, open_log
from topics.catalogue import ARCHIVE
from topics.log import lag


def live(edge_url: str, core_url: str, entry: str) -> None:
    """One process."""
    failpoints._ours = failpoints.Failpoints(failpoints.parse_failpoints(entry))
    with open_log(edge_url) as edge, open_log(core_url) as core, open_log(edge_url) as onlooker:
        stage = forward.ForwardStage(edge, core, "site", 0, "nursery")

        def stop_when_done() -> None:
            while lag(onlooker, "stage:route-0", ARCHIVE, [0])[0]:
                time.sleep(0.02)
            time.sleep(0.5)  # gaps that come after the last packet
            stage.stop()

        threading.Thread(target=stop_when_done, daemon=True).start()
        stage.run()


def main() -> None:
    """All of them, one after the other."""
    edge_url, core_url, *entries = sys.argv[1:]
    forward.MAX_PACKETS = 4  # so that there are many transactions to die in
    endings = []
    for entry in (*entries, ""):
        child = os.fork()
        if child == 0:
            try:
                live(edge_url, core_url, entry)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        endings.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    print(json.dumps(endings))  # noqa: T201


if __name__ == "__main__":
    main()
