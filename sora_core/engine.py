"""What makes the windows of a long clip: the pipeline's networks, or a host's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from .config import MOST_SIDE, check_size
from .fingerprint import fingerprint
from .pipeline import Pipeline, video_to_frames
from .vae_layers import Stream


class Engine(Protocol):
    """What a long video is made with: a model, its text encoder, and its VAE, which decodes one clip from its beginning
    to its end. Tensors lie on the CPU."""

    time_factor: int
    multiple: int  # of the sides, in pixels

    @property
    def described(self) -> dict[str, Any]:
        """What tells this engine's clips from another's."""
        ...

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(T, H, W) of a window's latents. Raises ValueError where a window cannot have this size."""
        ...

    def sample(self, window: Task) -> Tensor:
        """Latents (1, C, T, H, W) of a window."""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (T, H, W, 3) to latents (1, C, T', H', W')."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """The next latents of the clip to its next frames (T, H, W, 3)."""
        ...


@dataclass(frozen=True)
class Task:
    """One window: its number, its latents' shape, its texts, each with the latent frames (T,) that are its own as 1 and
    the others as 0, and, where anything is known, that and how far it may be left (as in `Pipeline.sample`)."""

    number: int
    shape: tuple[int, int, int]
    seed: int
    texts: list[tuple[str, Tensor]]
    known: Tensor | None = None
    strength: Tensor | None = None


class PipelineEngine:
    """A pipeline as an engine. settings: as in `Pipeline.sample`."""

    def __init__(self, pipeline: Pipeline, **settings: Any) -> None:
        self.pipeline, self.settings = pipeline, pipeline.settings(**settings)
        self.time_factor = pipeline.model.vae.config.time_factor
        self.multiple = pipeline.model.defaults.side_multiple
        self._stream: Stream = {}

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        most = self.pipeline.model.defaults.max_frames
        check_size(
            width, height, frames, self.multiple, self.time_factor, sides=(self.multiple, MOST_SIDE), most_frames=most
        )
        return self.pipeline.model.vae.latent_shape(frames, height, width)

    def sample(self, window: Task) -> Tensor:
        (first, _), *further = window.texts
        return self.pipeline.sample(
            [first], window.shape, seeds=[window.seed], known=window.known, strength=window.strength,
            ramps=[([text], share) for text, share in further], **self.settings,
        )  # fmt: skip

    def encode(self, frames: Tensor) -> Tensor:
        return self.pipeline.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        return video_to_frames(self.pipeline.model.vae.decode(latents, stream=self._stream))

    @cached_property
    def described(self) -> dict[str, Any]:
        model = self.pipeline.model
        weights = {name: fingerprint(network.named_parameters()) for name, network in model.networks().items()}
        configs = {name: network.config.to_dict() for name, network in model.networks().items()}
        defaults = model.defaults.to_dict()
        return {"weights": weights, "configs": configs, "defaults": defaults, "settings": self.settings}
