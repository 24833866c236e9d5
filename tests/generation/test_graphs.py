"""Recorded calls and devices. There is no GPU here: recordings are made by calling again, with the same memory."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import render_worker
import torch
from diffusers import UNet2DConditionModel
from tiny_diffusion import stable_folder
from torch import Tensor

from discover_stream.codec.model import shipped_weights
from discover_stream.config_decoding import Hardware
from discover_stream.generation.diffusion import build_control
from discover_stream.generation.graphs import RecordedCalls, RecordedDecoder, Recording
from discover_stream.generation.hardware import device_of, on_hardware
from discover_stream.generation.render import Renderer, RenderJob
from discover_stream.generation.sampling import SamplePlan
from discover_stream.types import InputError, Provenance


class AgainRecorder:
    """Records like a graph: one output, and a replay that reads the inputs' memory as it is then."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, work: Callable[[], Tensor]) -> Recording:
        self.made += 1
        output = work()
        return Recording(output, lambda: output.copy_(work()))


def test_a_kind_of_call_is_recorded_once_and_replayed_with_new_values() -> None:
    recorder = AgainRecorder()
    calls = RecordedCalls(recorder, most=2)
    double = lambda x, y: x * 2 + y  # noqa: E731
    one, zero = torch.ones(2, 3), torch.zeros(2, 3)
    first = calls("double", double, one, zero)
    second = calls("double", double, one * 5, one)
    assert (first == 2).all()  # it was not overwritten by the second
    assert (second == 11).all()
    assert recorder.made == 1
    assert (calls("other", lambda x, y: x - y, one, zero) == 1).all()
    assert calls("double", double, torch.ones(4, 3), torch.zeros(4, 3)).shape == (4, 3)
    assert (recorder.made, len(calls)) == (3, 2)
    calls("double", double, one, zero)  # the first kind had to go
    assert recorder.made == 4


@pytest.fixture(scope="module")
def stable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = stable_folder(tmp_path_factory.mktemp("sd") / "weights")
    control = build_control(UNet2DConditionModel.from_pretrained(folder, subfolder="unet"))
    for weight in control.parameters():  # a fresh one would change nothing
        torch.nn.init.normal_(weight, std=0.05)
    control.save_pretrained(folder / "controlnet")
    return folder


def stable_job(renderer: Renderer) -> RenderJob:
    seed = torch.Generator().manual_seed(0)
    received = np.full((8, 12), Provenance.MISSING, np.uint8)
    received[2:5, 3:9] = Provenance.SENT
    latent = torch.randn(1, renderer.decoder.channels, 16, 24, generator=seed)
    return RenderJob(latent, received, 192, 128, "street", tags="bus, car")


def test_recorded_networks_render_what_called_ones_do(stable: Path) -> None:
    renderer = Renderer.load(stable)
    calls = RecordedCalls(AgainRecorder())
    recorded = dataclasses.replace(
        renderer, generator=renderer.generator.with_calls(calls), decoder=RecordedDecoder(renderer.decoder, calls)
    )
    job = stable_job(renderer)
    jobs = [job, dataclasses.replace(job, latent=job.latent.flip(2))]
    plan = SamplePlan(2, guidance=2.0)
    for _ in range(2):
        for one, other in zip(recorded.render_many(jobs, plan), renderer.render_many(jobs, plan), strict=True):
            assert (one.image == other.image).all()
    assert len(calls) == 3  # two timesteps, one decode


def test_bfloat16_renders_nearly_the_same_and_samples_in_float32(stable: Path) -> None:
    plain = Renderer.load(stable)
    half = on_hardware(Renderer.load(stable), Hardware("cpu", bfloat16=True))
    job = stable_job(plain)
    whole, rough = (one.render_many([job], SamplePlan(2))[0] for one in (plain, half))
    assert next(half.decoder.vae.parameters()).dtype == torch.bfloat16
    error = np.square(whole.image.astype(float) - rough.image).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 30
    assert rough.changed["sent"] == pytest.approx(whole.changed["sent"], rel=0.1)
    nano = on_hardware(Renderer.load(shipped_weights()), Hardware("auto", bfloat16=True))
    street = render_worker.street(Renderer.load(shipped_weights()))
    pictures = [one.render_many([street], SamplePlan(1))[0].image for one in (nano, Renderer.load(shipped_weights()))]
    error = np.square(pictures[0].astype(float) - pictures[1]).mean()
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 30


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a GPU")
def test_hardware_that_is_not_there_is_named() -> None:
    assert device_of(Hardware("auto")).type == "cpu"
    wrong = (Hardware("cuda"), "no GPU"), (Hardware("cuda:3"), "no GPU"), (Hardware(graphs=True), "graphs")
    for hardware, what in wrong:
        with pytest.raises(InputError, match=what):
            device_of(hardware)
