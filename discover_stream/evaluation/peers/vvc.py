"""VVC intra, the papers' anchor, by whichever encoder is installed: VVenC's `vvencapp` or VTM's `EncoderApp`.

Neither comes as a package, so both are looked for on the path and refused by name where they are not. Streams are
decoded by FFmpeg.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext

from discover_stream.evaluation.peers.colour import Chroma, better_chroma, even, to_rgb, to_yuv
from discover_stream.evaluation.systems import Chunk, Clip, Coded, Decoded
from discover_stream.types import Image, InputError

VVENC, VTM = ("vvencapp",), ("EncoderAppStatic", "EncoderApp")
CONFIGURATION = "encoder_intra_vtm.cfg"
"""VTM's file of settings for stills; it has to lie beside its encoder."""


@dataclass(frozen=True)
class Encoder:
    """An installed encoder: `vvenc` or `vtm`, and its program."""

    kind: str
    program: Path


def installed_encoder() -> Encoder | None:
    """VTM where it is on the path, as in the papers; else VVenC; else None."""
    for kind, names in (("vtm", VTM), ("vvenc", VVENC)):
        found = next((path for path in map(shutil.which, names) if path), None)
        if found is not None:
            return Encoder(kind, Path(found))
    return None


def encoder_command(encoder: Encoder, source: Path, out: Path, size: tuple[int, int], qp: int) -> Sequence[str]:
    """The command that codes one frame of 8-bit YUV 4:2:0 of (width, height) pixels."""
    width, height = size
    if encoder.kind == "vvenc":
        return [
            str(encoder.program), "-i", str(source), "-s", f"{width}x{height}", "-c", "yuv420", "-f", "1",
            "--preset", "slow", "--qp", str(qp), "--intraperiod", "1", "--threads", "1", "--internal-bitdepth", "10",
            "--SEIDecodedPictureHash", "0", "-o", str(out),
        ]  # fmt: skip
    return [
        str(encoder.program), "-c", str(encoder.program.parent / CONFIGURATION), "-i", str(source), "-b", str(out),
        "-o", "/dev/null", "-wdt", str(width), "-hgt", str(height), "-f", "1", "-fr", "1", "-q", str(qp),
        "--InputBitDepth=8", "--InternalBitDepth=10", "--SEIDecodedPictureHash=0",
    ]  # fmt: skip


@dataclass(frozen=True)
class VvcPeer:
    """VVC, each picture a still of its own, at a quantiser `qp` (0..63)."""

    qp: int

    @property
    def name(self) -> str:
        """As in tables."""
        encoder = installed_encoder()
        return f"vvc intra, {encoder.kind if encoder else 'not installed'}"

    def encode(self, clip: Clip) -> Coded:
        """Code pictures; see `System.encode`. Raises InputError where there is no encoder, or it fails."""
        encoder = installed_encoder()
        if encoder is None:
            raise InputError(
                f"vvc-intra: neither VTM ({VTM[0]}) nor VVenC ({VVENC[0]}) is there; install one or use x265-intra"
            )
        height, width = clip.frames[0].shape[:2]
        frames = [even(frame) for frame in clip.frames]
        chunks = tuple(Chunk(index, _coded(encoder, frame, self.qp)) for index, frame in enumerate(frames))
        return Coded(chunks, b"", len(chunks), width, height, {"chroma": better_chroma(frames)})

    def decode(self, coded: Coded) -> Decoded:
        """Decode pictures; see `System.decode`."""
        chroma: Chroma = "nearest" if coded.notes["chroma"] == "nearest" else "cubic"
        shown = tuple(_decoded(chunk.data, chroma)[: coded.height, : coded.width] for chunk in coded.chunks)
        return Decoded(shown, (None,) * len(shown))

    def command(self) -> str:
        """The equivalent command."""
        encoder = installed_encoder() or Encoder("vvenc", Path(VVENC[0]))
        return " ".join(encoder_command(encoder, Path("IN.yuv"), Path("OUT.266"), (0, 0), self.qp))


def _coded(encoder: Encoder, frame: Image, qp: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder) / "in.yuv", Path(folder) / "out.266"
        source.write_bytes(to_yuv(frame).to_ndarray().tobytes())
        words = encoder_command(encoder, source, out, (frame.shape[1], frame.shape[0]), qp)
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode or not out.is_file():
            said = (done.stderr or done.stdout).strip().splitlines()
            raise InputError(f"{encoder.program.name} failed ({said[-1] if said else done.returncode}); see its manual")
        return out.read_bytes()


def _decoded(data: bytes, chroma: Chroma) -> Image:
    context = CodecContext.create("vvc", "r")
    assert isinstance(context, VideoCodecContext)
    context.thread_count = 1
    frames = [*(frame for packet in context.parse(data) for frame in context.decode(packet))]
    frames += [frame for packet in context.parse(None) for frame in context.decode(packet)] + context.decode(None)
    if len(frames) != 1:
        raise InputError(f"vvc-intra: {len(frames)} pictures came of the stream of one; use another encoder version")
    return to_rgb(frames[0], chroma)
