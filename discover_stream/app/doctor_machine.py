"""What `discover doctor` looks at on the machine: Python, packages, models, codecs, GPU, memory, disk."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata, util
from pathlib import Path

from discover_stream.app.doctor_findings import GIB, Finding, codec_finding, disk_finding, origin_finding
from discover_stream.config import Config

_OURS = ("discover_stream", "actors", "topics")
_SHOWN = ("torch", "ray", "av", "numpy", "compressai", "diffusers")
_READS = ("h264", "hevc", "mjpeg", "png", "libdav1d")
_WRITES = ("libx264", "libsvtav1", "mjpeg")
_OPTIONAL = frozenset({"hevc", "libx264"})


def python() -> Iterator[Finding]:
    """The interpreter and the machine."""
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        yield Finding("environment", "problem", here, "use Python 3.11 or 3.12")
    elif sys.platform != "linux":
        yield Finding("environment", "problem", here, "run the system on Linux")
    else:
        yield Finding("environment", "ok", here)


def packages() -> Iterator[Finding]:
    """Whether every declared dependency is installed."""
    wanted = [line for line in metadata.requires("discover-stream") or () if "extra ==" not in line]
    names = sorted({found[0] for line in wanted if (found := re.match(r"[A-Za-z0-9._-]+", line))})
    missing = [name for name in names if not _installed(name)]
    if missing:
        yield Finding(
            "environment", "problem", f"not installed: {', '.join(missing)}", "run `make setup`, or install the package"
        )
        return
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _SHOWN)
    yield Finding("environment", "ok", f"all {len(names)} dependencies are installed: {versions}, ...")


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def origins() -> Iterator[Finding]:
    """Where our modules come from."""
    places: dict[str, str] = {}
    for name in _OURS:
        spec = util.find_spec(name)
        places[name] = str(Path(spec.origin).parents[1]) if spec is not None and spec.origin else "nowhere"
    yield origin_finding(places)


def models() -> Iterator[Finding]:
    """The shipped models: whether they load, and what packets know them by."""
    from discover_stream.codec.model import load_codec, shipped_weights

    codec = load_codec()
    folder = shipped_weights()
    for path in sorted(folder.glob("*.safetensors")):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        yield Finding("models", "ok", f"{path.name}: sha256 {digest[:16]}, {path.stat().st_size / 1e6:.1f} MB")
    yield Finding("models", "ok", f"the codec loads; its packets name it {codec.short_hash.hex()}")


def codecs() -> Iterator[Finding]:
    """What FFmpeg's libraries can read and write."""
    import av

    def lacks(name: str, mode: str) -> bool:
        try:
            av.Codec(name, "r" if mode == "r" else "w")
        except (ValueError, av.error.FFmpegError):
            return True
        return False

    missing = [name for name in _READS if lacks(name, "r")] + [name for name in _WRITES if lacks(name, "w")]
    yield codec_finding(missing, _OPTIONAL)


def gpu(config: Config) -> Iterator[Finding]:
    """Whether there is a GPU, and whether the configuration needs one."""
    import torch

    wanted = config.grounder.device.startswith("cuda")
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))
        yield Finding("gpu", "ok", names)
    elif wanted:
        yield Finding(
            "gpu",
            "problem",
            f"the grounder is to run on {config.grounder.device}, and PyTorch sees no GPU",
            "install the driver and a PyTorch for it, or set grounder.device: auto",
        )
    elif config.grounder.kind == "grounding-dino":
        yield Finding("gpu", "note", "none: Grounding DINO takes about ten seconds a frame on two cores")
    else:
        yield Finding("gpu", "ok", "none, and none is needed: the nano models run on the CPU")


def memory(config: Config) -> Iterator[Finding]:
    """Main memory, and the shared memory that Ray keeps pictures in."""
    import psutil

    free = psutil.virtual_memory().available
    # Some 360 MB per process with networks in it, a few of them, and Ray itself.
    needed = (2 + config.pools.ground + config.log.partitions) * 400 * 2**20
    if free < needed:
        yield Finding(
            "memory",
            "note",
            f"{free / GIB:.1f} GiB free, and the system may take {needed / GIB:.1f}",
            "use fewer partitions or pool processes, or a larger machine",
        )
    else:
        yield Finding("memory", "ok", f"{free / GIB:.1f} GiB free")
    shared = Path("/dev/shm")
    wanted = config.ray.object_store_mib * 2**20
    if shared.exists() and shutil.disk_usage(shared).free < wanted:
        room = shutil.disk_usage(shared).free / 2**20
        yield Finding(
            "memory",
            "problem",
            f"/dev/shm has {room:.0f} MiB free, and Ray is to keep {config.ray.object_store_mib} MiB there",
            "enlarge it (containers: --shm-size), or lower ray.object_store_mib",
        )


def disk(config: Config) -> Iterator[Finding]:
    """Room for the embedded log and for Ray's own files."""
    path = config.log.path
    if config.log.kafka is None and path is not None:
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        kept = (config.log.frames, config.log.archive, *(config.log.tasks for _ in config.tasks))
        wanted = sum(round(one.gib * GIB) for one in kept) * config.log.partitions
        held = sum(file.stat().st_size for file in path.absolute().parent.glob(f"{path.name}*") if file.is_file())
        yield disk_finding(str(folder), shutil.disk_usage(folder).free, wanted, held)
    place = Path(os.environ.get("RAY_TMPDIR") or "/tmp")
    if shutil.disk_usage(place).free < GIB:
        yield Finding("disk", "problem", f"less than 1 GiB free at {place}, where Ray keeps its logs", "make room")
