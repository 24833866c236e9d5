"""How the cameras of a configuration are to be encoded."""

from __future__ import annotations

from collections.abc import Sequence

from actors.encode import EncodeSettings
from discover_stream.codec.mode_policy import CoderSettings
from discover_stream.config import CameraConfig, Config
from discover_stream.types import Mode
from discover_stream.video.stills import are_pictures


def encode_settings(config: Config, cameras: Sequence[CameraConfig] | None = None) -> EncodeSettings:
    """How a configuration wants its cameras (by default those that it lists) encoded. Pictures that need not follow
    each other are no stream."""

    def mode(camera: CameraConfig) -> Mode:
        wanted = camera.mode or config.mode
        return "still" if wanted == "auto" and are_pictures(camera.source) else wanted

    coders = {
        camera.name: CoderSettings(
            mode(camera),
            camera.quality or config.quality,
            None if camera.bitrate is None else 1000 * camera.bitrate,
            camera.fps,
        )
        for camera in (config.cameras if cameras is None else cameras)
    }
    batch, every = config.pools.ground_batch, config.ground_every
    return EncodeSettings(config.quality, batch, every, config.mode, coders, config.critic, config.atoms == "auto")
