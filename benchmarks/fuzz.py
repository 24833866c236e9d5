"""`make fuzz [MINUTES=10]`: coverage-guided fuzzing (atheris) of everything that reads bytes from elsewhere.

The minutes are shared out among the targets of `fuzz_targets`, one after another, each in a process of its own.
Half of the mutants are changed anywhere; the other half are changed behind their framing and get checksums that fit.
A fault is: any error but those meant for the caller, an answer that breaks an invariant, more CPU time or memory
than the bounds, a crash, a hang. Its input goes to out/fuzz/found; each that is mended belongs into fuzz_found.txt,
which the suite replays.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import mmap
import os
import platform
import resource
import shutil
import sys
import tempfile
import time
import traceback
import tracemalloc
from pathlib import Path
from random import Random

import atheris
import numpy as np
import torch

# Helpers of the tests: targets, seeds and damage are the suite's too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "codec"))
with atheris.instrument_imports(include=["discover_stream.codec"], enable_loader_override=False):
    import fuzz_targets

from codec_cases import noise_picture, write_random_codec
from fuzz_targets import Outcome, Target

from discover_stream.codec.model import load_codec

SHARES = {"still": 6, "stream": 5, "sequence": 2, "plates": 1, "container": 2, "coder": 3, "atom": 2, "av1": 2}
"""Of the time."""
MAX_LENGTH = 2048
"""Bytes of an input: enough for several records of every kind, and quick to read."""
CPU_LIMIT_S = 2.0
"""For one input. The slowest honest one takes a few hundredths of this."""
HANG_S = 60
MEMORY_EVERY = 256
"""Every so many inputs are read once more with a count of what they allocate."""
SLACK = 2**28
"""Address space beyond a target's bound that the fuzzer itself may take."""
FIELDS = (
    "raw",
    "repaired",
    "seeds",
    "raw_accepted",
    "refused",
    "parsed",
    "decoded",
    "faults",
    "slowest_us",
    "peak_kib",
    "cpu_ms",
)


class Counters:
    """Numbers that outlive the process that counts."""

    def __init__(self) -> None:
        self._values = np.frombuffer(mmap.mmap(-1, 8 * len(FIELDS)), np.int64)

    def add(self, name: str, number: int = 1) -> None:
        """Count something."""
        self._values[FIELDS.index(name)] += number

    def most(self, name: str, number: float) -> None:
        """Keep the largest."""
        place = FIELDS.index(name)
        self._values[place] = max(int(self._values[place]), int(number))

    def all(self) -> dict[str, int]:
        """Every number by its name."""
        return dict(zip(FIELDS, self._values.tolist(), strict=True))


class Watch:
    """Runs a target's inputs, counts what comes of them, and keeps those that show a fault."""

    def __init__(self, target: Target, counters: Counters, found: Path) -> None:
        self._target, self._counters, self._found = target, counters, found
        self._kind = "seeds"
        self._runs = 0

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """The next mutant of an input, half of the time behind its framing."""
        random = Random(seed)

        def raw(part: bytes) -> bytes:
            return bytes(atheris.Mutate(part, max(1, min(max_size, 2 * len(part) + 16))))

        if random.random() < 0.5:
            self._kind = "raw"
            return raw(data)[:max_size]
        self._kind = "repaired"
        # Most of what libFuzzer keeps was refused in some new way; damage to what is accepted gets further.
        source = random.choice(self._target.seeds) if random.random() < 0.6 else data
        bent = self._target.bend(random, raw, source)
        return bent if len(bent) <= max_size else data

    def run(self, data: bytes) -> None:
        """One input. Never raises."""
        kind, self._kind = self._kind, "seeds"
        self._counters.add(kind)
        self._runs += 1
        count_memory = self._runs % MEMORY_EVERY == 0
        if count_memory:
            tracemalloc.start()
        start = time.thread_time()
        try:
            outcome = self._target.run(data)
        except BaseException as error:
            self._fault(data, error)
            outcome = Outcome.REFUSED
        used = time.thread_time() - start
        if count_memory:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            self._counters.most("peak_kib", peak / 1024)
            if peak > self._target.memory(len(data)):
                self._fault(data, MemoryError(f"{peak} bytes for an input of {len(data)}"))
        else:
            self._counters.most("slowest_us", 1e6 * used)
            if used > CPU_LIMIT_S:
                self._fault(data, TimeoutError(f"{used:.1f} s of CPU time for one input"))
        if kind == "repaired":
            self._counters.add(outcome.name.lower())
        elif kind == "raw" and outcome != Outcome.REFUSED:
            self._counters.add("raw_accepted")

    def _fault(self, data: bytes, error: BaseException) -> None:
        self._counters.add("faults")
        last = traceback.extract_tb(error.__traceback__)[-3:]
        where = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in last]
        name = hashlib.sha256(repr((type(error).__name__, where)).encode()).hexdigest()[:8]
        path = self._found / f"{self._target.name}-{name}.bin"
        if not path.exists():
            path.write_bytes(data)
            lines = traceback.format_exception(error)
            path.with_suffix(".txt").write_text(f"{self._target.name} {data.hex()}\n{''.join(lines)}")


def limit_memory(target: Target) -> None:
    """Let every allocation beyond the target's bound fail."""
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = held + target.memory(MAX_LENGTH) + SLACK
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def fuzz(target: Target, seconds: int, counters: Counters, folder: Path) -> int:
    """Fuzz in a child process; how it ended, 0 for well."""
    corpus, seeds, found = (folder / part / target.name for part in ("corpus", "seeds", "found"))
    shutil.rmtree(seeds, ignore_errors=True)
    for path in (corpus, seeds):
        path.mkdir(parents=True, exist_ok=True)
    for seed in target.seeds:
        (seeds / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        log = os.open(folder / f"{target.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        watch = Watch(target, counters, found.parent)
        options = {
            "max_total_time": seconds, "max_len": MAX_LENGTH, "len_control": 0, "timeout": HANG_S, "rss_limit_mb": 0,
            "reload": 0, "detect_leaks": 0, "print_final_stats": 1, "artifact_prefix": f"{found.parent}/{target.name}-",
        }  # fmt: skip
        limit_memory(target)
        arguments = [f"-{name}={value}" for name, value in options.items()]
        atheris.Setup([sys.argv[0], *arguments, str(corpus), str(seeds)], watch.run, custom_mutator=watch.mutate)
        atheris.Fuzz()
        os._exit(0)
    _, status, used = os.wait4(child, 0)
    counters.add("cpu_ms", round(1000 * (used.ru_utime + used.ru_stime)))
    return os.waitstatus_to_exitcode(status)


def fuzz_for(target: Target, seconds: float, counters: Counters, folder: Path) -> int:
    """Fuzz for that long, starting again where an input kills the process; how often one did."""
    end, deaths = time.monotonic() + seconds, 0
    while (left := round(end - time.monotonic())) >= 1 and deaths < 10:
        deaths += fuzz(target, left, counters, folder) != 0
    return deaths


def row(name: str, seconds: float, numbers: dict[str, int], deaths: int) -> str:
    """A line of the table; see `HEAD`."""
    mutants = numbers["raw"] + numbers["repaired"]
    return (
        f"{name:<12}{mutants:>9}{numbers['raw']:>9}{numbers['repaired']:>9}{numbers['refused']:>9}{numbers['parsed']:>9}"
        f"{numbers['decoded']:>9}{numbers['raw_accepted']:>9}{mutants / max(seconds, 0.1):>8.0f}"
        f"{1000 * mutants / max(numbers['cpu_ms'], 1):>8.0f}"
        f"{numbers['slowest_us'] / 1000:>9.1f}{numbers['peak_kib']:>9}{numbers['faults']:>7}{deaths:>7}"
    )


HEAD = (
    f"{'target':<12}{'mutants':>9}{'raw':>9}{'repaired':>9}{'refused':>9}{'parsed':>9}{'decoded':>9}{'raw ok':>9}"
    f"{'a sec.':>8}{'CPU s':>8}{'most ms':>9}{'peak KiB':>9}{'faults':>7}{'deaths':>7}"
)


def main() -> int:
    """Fuzz, print a table; 1 where there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", nargs="*", default=[], help="names of targets")
    parser.add_argument("--out", type=Path, default=Path("out/fuzz"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = options.out / "found"
    found.mkdir(parents=True, exist_ok=True)
    before = set(found.iterdir())
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stderr(sys.stdout):
        codec = load_codec(write_random_codec(Path(place), 7))
        targets = fuzz_targets.all_targets(codec, noise_picture)
    chosen = {name: target for name, target in targets.items() if not options.only or name in options.only}
    shares = sum(SHARES[name] for name in chosen)
    print(f"{options.minutes:g} minutes, Python {platform.python_version()}, {os.cpu_count()} cores")
    print(HEAD, flush=True)
    total, died, began, table = dict.fromkeys(FIELDS, 0), 0, time.monotonic(), {}
    for name, target in chosen.items():
        counters, start = Counters(), time.monotonic()
        deaths = fuzz_for(target, 60 * options.minutes * SHARES[name] / shares, counters, options.out)
        numbers = counters.all()
        print(row(name, time.monotonic() - start, numbers, deaths), flush=True)
        table[name] = numbers | {"deaths": deaths}
        died += deaths
        for field, number in numbers.items():
            total[field] = max(total[field], number) if field in ("slowest_us", "peak_kib") else total[field] + number
    print(row("all", time.monotonic() - began, total, died))
    (options.out / "table.json").write_text(json.dumps(table, indent=1) + "\n")
    new = sorted(path for path in set(found.iterdir()) - before if path.is_file())
    for path in new:
        print(f"fault: {path}")
    return 1 if new or died or total["faults"] else 0


if __name__ == "__main__":
    sys.exit(main())
