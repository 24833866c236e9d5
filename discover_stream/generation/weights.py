"""Weights of the diffusion decoder: files of the `nano` size, folders of Stable Diffusion.

`nano`: `prior.safetensors` (prior and tag embeddings) and `control.safetensors`, whose metadata hold their sizes.
Stable Diffusion: a folder in diffusers' layout (`unet`, `scheduler`, `text_encoder`, `tokenizer`), and our own
`controlnet` in it once it is trained. Everything loads strictly: a file that lacks a weight is refused.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from discover_stream.generation.diffusion import Diffusion, DiffusionShape, build_control, build_prior, build_schedule
from discover_stream.generation.text import ClipText, TagEmbedding
from discover_stream.types import InputError

PRIOR_FILE = "prior.safetensors"
CONTROL_FILE = "control.safetensors"
SHAPE_KEY = "diffusion"


@dataclass(frozen=True)
class Stored:
    """A weights file: its tensors, in float32, and the sizes it names."""

    tensors: dict[str, Tensor]
    shape: DiffusionShape

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors of a part, without its name."""
        prefix = f"{name}."
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def _half(name: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{name}.{key}": value.detach().half().contiguous() for key, value in module.state_dict().items()}


def write_prior(path: Path, prior: UNet2DConditionModel, text: TagEmbedding, shape: DiffusionShape) -> None:
    """Write a `nano` prior and its tag embeddings in half precision."""
    save_file(_half("prior", prior) | _half("text", text), path, metadata={SHAPE_KEY: json.dumps(asdict(shape))})


def write_control(path: Path, control: ControlNetModel, shape: DiffusionShape) -> None:
    """Write a `nano` control module in half precision."""
    save_file(_half("control", control), path, metadata={SHAPE_KEY: json.dumps(asdict(shape))})


def _read(path: Path) -> Stored:
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118
        fields: dict[str, Any] = json.loads(metadata[SHAPE_KEY])
        fields["widths"] = tuple(fields["widths"])
        return Stored(tensors, DiffusionShape(**fields))
    except FileNotFoundError:
        raise InputError(f"{path}: no weights here; train them (docs/training.md) or name another folder") from None
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not usable as weights of a diffusion model ({reason}); fetch it again") from None


def _fill(path: Path, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    try:
        module.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: weights of another structure ({reason}); use the version they fit") from None
    module.requires_grad_(False).eval()


def load_nano(folder: Path, *, control: bool = True) -> Diffusion:
    """The `nano` diffusion decoder in a folder.

    Args:
        folder: with `prior.safetensors` and, unless `control` is false, `control.safetensors`.
        control: false leaves the control module as it is before training: it changes nothing.

    Raises:
        InputError: a file is missing, damaged, or does not fit the other.
    """
    stored = _read(folder / PRIOR_FILE)
    prior, text = build_prior(stored.shape), TagEmbedding(stored.shape.text_width)
    _fill(folder / PRIOR_FILE, prior, stored.part("prior"))
    _fill(folder / PRIOR_FILE, text, stored.part("text"))
    module = build_control(prior)
    if control:
        own = _read(folder / CONTROL_FILE)
        if own.shape != stored.shape:
            raise InputError(
                f"{folder}: {CONTROL_FILE} and {PRIOR_FILE} have different sizes; use those of one release"
            )
        _fill(folder / CONTROL_FILE, module, own.part("control"))
    return Diffusion(prior, module.requires_grad_(False).eval(), build_schedule(), text)


def load_stable(folder: str | Path, control: str | Path | None = None, *, offline: bool = True) -> Diffusion:
    """Stable Diffusion (2.1-base in the papers) as the prior.

    Args:
        folder: in diffusers' layout, or a model's name on the hub where `offline` is false.
        control: a trained control module (`ControlNetModel.save_pretrained`); None for a fresh one.
        offline: look at local files alone.

    Raises:
        InputError: a part is missing or lacks weights.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    prior = _pretrained(UNet2DConditionModel, folder, "unet", offline)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer", local_files_only=offline)
        schedule = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", local_files_only=offline)
        model = CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", local_files_only=offline)
    except (OSError, ValueError) as error:
        raise _refused(folder, "text_encoder, tokenizer or scheduler", error) from None
    module = build_control(prior) if control is None else _pretrained(ControlNetModel, control, None, offline)
    # Stable Diffusion's own spacing would begin a single step at timestep 1, where nothing is noise.
    schedule = DDIMScheduler.from_config(schedule.config, timestep_spacing="trailing")
    model.requires_grad_(False)
    text = ClipText(tokenizer, model)
    return Diffusion(prior, module.requires_grad_(False).eval(), schedule, text)


def load_stable_vae(folder: str | Path, *, offline: bool = True) -> AutoencoderKL:
    """Stable Diffusion's autoencoder, in `vae` of a folder in diffusers' layout.

    Raises:
        InputError: it is missing or lacks weights.
    """
    vae: AutoencoderKL = _pretrained(AutoencoderKL, folder, "vae", offline)
    return vae


def _pretrained(kind: Any, folder: str | Path, part: str | None, offline: bool) -> Any:
    """A diffusers model, refused where its files lack a weight or hold one too many."""
    try:
        model, info = kind.from_pretrained(
            folder, subfolder=part, local_files_only=offline, output_loading_info=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _refused(folder, part or "the control module", error) from None
    wrong = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if wrong:
        raise InputError(
            f"{folder}: {part or 'control module'} has missing, foreign or misshapen weights ({wrong[0]},"
            f" {len(wrong)} in all); fetch it again"
        )
    return model.requires_grad_(False).eval()


def _refused(folder: str | Path, part: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200]
    return InputError(
        f"{folder}: {part} cannot be loaded ({reason}); name a folder in diffusers' layout, such as a download of"
        " stable-diffusion-2-1-base"
    )
