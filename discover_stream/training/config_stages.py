"""The sections of a training configuration: what each stage reads, how long it learns, and what its loss weighs.

`docs/training.md` says which values are the papers' and which are ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from discover_stream.config_log import Section

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
Side = Annotated[int, Field(ge=64, le=2048, multiple_of=64)]

PAIRS_SIDE = 192
"""Pixels a side of the crops with references (`training.pairs`): batches cut theirs from these."""


class Stage(Section):
    """What all stages have: a budget, how fast they learn, and what they draw."""

    out: Path = Field(title="Folder of its checkpoint, curves and weights")
    minutes: float | None = Field(default=None, gt=0, le=1e6, title="Budget in minutes of wall time, all runs together")
    steps: int | None = Field(
        default=None, ge=1, le=10**9, title="Or in steps: then a resumed run equals an unbroken one"
    )
    learning_rate: float = Field(default=4e-4, gt=0, le=1, title="After the warm-up")
    warmup_steps: int = Field(default=50, ge=1, le=10**6, title="Steps over which it rises")
    ema: float = Field(default=0.998, ge=0, lt=1, title="Decay of the moving average that is written")
    batch: int = Field(default=8, ge=1, le=4096, title="Examples a step")
    seed: int = Field(default=0, ge=0, le=2**31, title="Of everything that is drawn")
    save_seconds: float = Field(default=120.0, ge=0, le=86400, title="Between checkpoints")
    record_every: int = Field(default=100, ge=1, le=10**6, title="Steps between lines of the curves")

    @model_validator(mode="after")
    def _one_budget(self) -> Stage:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("a stage has a budget of 'minutes' or of 'steps'; give one of the two")
        return self


class VaeStage(Stage):
    """Stage 0 of `nano`."""

    crop: int = Field(default=96, ge=16, le=2048, multiple_of=8, title="Pixels a side")
    latent_noise: Weight = Field(default=0.08, title="Noise added to latents, so that the decoder forgives")
    size_weight: Weight = Field(default=0.02, title="Weight of the penalty that keeps latents near unit size")


class Texted(Stage):
    """A stage that shows tags to the prior, and noise."""

    tag_drop: Share = Field(default=0.1, title="Share of examples without their tags (Diff-ICMH)")
    full_noise_share: Share = Field(
        default=0.25, title="Share of examples at the last timestep; 0: uniform, as the papers"
    )


class PriorStage(Texted):
    """Stage 0 of `nano`: the diffusion model that later stages find frozen."""

    vae: Path = Field(title="Weights of the autoencoder")
    crop: Side = Field(default=256, title="Pixels a side")
    examples: int = Field(default=3000, ge=1, le=10**7, title="Crops, their latents computed once")


class TermWeights(Section):
    """Weights of the loss beside the rate's."""

    latent: Weight = Field(default=1.0, title="Squared error of z_c (Eq. 4)")
    diffusion: Weight = Field(default=2.0, title="lambda_diff: the steered prior's error (Eq. 4)")
    semantic: Weight = Field(default=2.0, title="1 - cosine of the prior's middle features (Diff-ICMH)")
    picture: Weight = Field(default=0.0, title="Squared error of the decoded picture, weighted by what was sent")
    features: Weight = Field(default=0.0, title="Distance of a detector's inner features in the decoded picture")

    @property
    def need_prior(self) -> bool:
        """Whether a term looks at the prior."""
        return bool(self.diffusion or self.semantic)


class JointStage(Texted):
    """Stages I and II: the codec, and with it the control module where the diffusion term counts."""

    vae: Path | None = Field(default=None, title="Weights of the autoencoder; null: Stable Diffusion's")
    prior: Path | None = Field(default=None, title="Folder of prior.safetensors; null: Stable Diffusion's")
    start: Path | None = Field(default=None, title="Folder of an earlier stage's codec and control; null: fresh ones")
    rate_weights: tuple[Annotated[float, Field(gt=0, le=1e3)], ...] = Field(
        min_length=1, max_length=8, title="lambda_R of each quality, the fewest bits first"
    )
    rate_over: Literal["picture", "sent"] = Field(default="picture", title="Pixels that bits are divided by")
    rate_ramp: tuple[Share, Share] | None = Field(
        default=None,
        title="Shares of the budget between which the rate's weight rises from a twentieth; null: whole",
    )
    weights: TermWeights = Field(default=TermWeights(), title="Of the other terms")
    masks: Literal["whole", "paper", "ours"] = Field(
        default="whole", title="What is sent: everything, the boxes of what is found, or atoms as they are used"
    )
    unsent_weight: Share = Field(default=1.0, title="How much an error counts where nothing was sent")
    noise_share: Share = Field(default=1.0, title="Share of steps with noise in place of rounding")
    freeze_encoder: bool = Field(default=False, title="Keep encoder, hyper path and prior of z as they are (stage II)")
    references: bool = Field(default=False, title="Draw keys and refreshes with what the decoder knows, too")
    pictures: Literal["project", "folder"] = Field(
        default="project", title="--data is laid out as docs/training.md says, or holds any pictures"
    )
    sizes: tuple[tuple[Side, Annotated[int, Field(ge=1, le=4096)]], ...] = Field(
        default=((192, 6), (128, 12), (64, 40)), min_length=1, title="Sides of crops and how many a step, in turn"
    )
    examples: int = Field(default=2500, ge=1, le=10**7, title="Crops with references, computed once")
    kinds: tuple[Share, Share, Share] = Field(
        default=(0.35, 0.35, 0.3), title="With references: shares of still parts, of keys on a plate, of refreshes"
    )
    own_z_share: Share = Field(default=1.0, title="Share of keys and refreshes that have a z of their own")
    z_hold: Share = Field(
        default=0.0, title="Share of the budget in which what makes z stays, and what reads it learns"
    )
    z_ramp: tuple[Share, Share] | None = Field(
        default=None, title="Shares of the budget between which the rate of z gets its whole weight; null: it has it"
    )
    fresh_z: bool = Field(default=False, title="Begin z anew in a codec to start from that has let it fall silent")
    picture_every: int = Field(default=2, ge=1, le=1000, title="Decode a picture in every so many steps")
    train_decoder: bool = Field(default=False, title="Let the VAE's decoder learn along (nano only)")
    tags: bool = Field(default=True, title="Show tags to the prior; false: always none")

    @model_validator(mode="after")
    def _sides_fit(self) -> JointStage:
        largest = max(side for side, _ in self.sizes)
        if self.references and largest > PAIRS_SIDE:
            raise ValueError(f"crops with references have {PAIRS_SIDE} pixels a side at most; make 'sizes' smaller")
        for ramp in (self.rate_ramp, self.z_ramp):
            if ramp is not None and ramp[0] >= ramp[1]:
                raise ValueError("'rate_ramp' and 'z_ramp' have to end after they start, as [0.35, 0.6] does")
        if not sum(self.kinds):
            raise ValueError("'kinds' are all zero; give at least one of still parts, keys and refreshes a share")
        if self.train_decoder and not (self.weights.picture or self.weights.features):
            raise ValueError("a decoder learns from pictures; give 'weights.picture' or 'weights.features' a weight")
        return self

    @property
    def crop(self) -> int:
        """The largest side."""
        return max(side for side, _ in self.sizes)


class Finished(Texted):
    """A stage on a finished codec."""

    vae: Path | None = Field(default=None, title="Weights of the autoencoder; null: Stable Diffusion's")
    prior: Path | None = Field(default=None, title="Folder of prior.safetensors; null: Stable Diffusion's")
    codec: Path | None = Field(default=None, title="Folder of the codec")
    start: Path | None = Field(
        default=None, title="Folder of the control module to go on with; null: the codec's, if any"
    )
    references: bool = Field(default=False, title="Draw keys and refreshes with what the decoder knows, too")
    pictures: Literal["project", "folder"] = Field(default="project", title="See stage I")
    crop: Side = Field(default=PAIRS_SIDE, title="Pixels a side")
    examples: int = Field(default=1500, ge=1, le=10**7, title="Crops, coded once")


class ControlStage(Finished):
    """The control module alone, with the decoder of the VAE where that is ours."""

    picture_share: int = Field(
        default=3, ge=0, le=4096, title="One in so many examples is compared as a picture; 0: none"
    )
    train_decoder: bool = Field(default=True, title="Let the VAE's decoder learn along (nano only)")


class DistillStage(Finished):
    """One step that gives what many give."""

    teacher_steps: int = Field(default=8, ge=2, le=1000, title="Of the sampler that is imitated")
    guidance: float = Field(default=1.0, ge=1, le=50, title="Of the teacher, by the tags")
    clean_weight: Weight = Field(default=0.5, title="Weight of the error to z_c itself")


class GrounderStage(Stage):
    """The `nano` grounder, from a teacher's labels."""

    teacher: Path | None = Field(default=None, title="A YOLOX .onnx export with COCO's classes")
    start: Path | None = Field(default=None, title="Checkpoint of another run whose weights this one begins with")
    weight_decay: Weight = Field(default=0.02, title="Of AdamW")


class DenoiserStage(Stage):
    """The decoder that ships."""

    vae: Path = Field(title="Weights of the autoencoder")
    codec: Path = Field(title="codec-float.safetensors of the codec")
    start: Path | None = Field(default=None, title="denoiser.safetensors that this one begins with; null: a fresh one")
    train_decoder: bool = Field(default=True, title="Let the VAE's decoder learn along")
    examples: int = Field(default=1200, ge=1, le=10**7, title="Crops, coded once")


class AblationStage(Section):
    """Each variant of stage II from the same start, for the same number of steps."""

    out: Path = Field(title="Folder of the variants and the table")
    seed: int = Field(default=0, ge=0, le=2**31, title="Of everything that is drawn")
    steps: int = Field(default=2000, ge=1, le=10**9, title="Of every variant")
    streets: int = Field(default=10, ge=1, le=1000, title="Simulated streets to measure on, which no training uses")
    each: int = Field(default=4, ge=1, le=1000, title="Frames of each")
    quality: int = Field(default=4, ge=1, le=8, title="To measure at")
    sample_steps: int = Field(default=8, ge=1, le=1000, title="Diffusion steps of a decode")
    judge: str = Field(
        default="nano", min_length=1, max_length=1000, title="Detector that gives AP50, as in `discover eval`"
    )
    deep_features: Path | None = Field(default=None, title="SqueezeNet weights of the distance; null: the grounder's")
