"""The whole chain without a host: text -> tokens -> DiT -> latents -> VAE -> frames."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from .checkpoint import BUNDLED, Model, load_checkpoint
from .denoiser import Denoiser
from .dit import TextKV
from .flow import StrengthMap, add_noise, before_given, schedule, shift_for
from .patches import Grid, map_to_tokens, tokens_to_map
from .regions import Box, Composed, cut_map, halves, placed
from .samplers import SAMPLERS, Callback
from .text import tokenize
from .timeline import Timeline, check_factor

MOST_STEPS = 1000


def frames_to_video(frames: Tensor) -> Tensor:
    """Frames (T, H, W, 3) in 0..1 to a video (1, 3, T, H, W) in -1..1."""
    return rearrange(frames, "t h w c -> 1 c t h w") * 2 - 1


def video_to_frames(video: Tensor) -> Tensor:
    """Video (1, 3, T, H, W) in -1..1 to frames (T, H, W, 3) in 0..1."""
    return rearrange(video, "1 c t h w -> t h w c").add(1).div_(2)


def psnr(a: Tensor, b: Tensor) -> float:
    """PSNR in dB of two videos in -1..1."""
    return float(-10 * torch.log10(((a - b) / 2).square().mean()))


def check_seeds(*seeds: int) -> None:
    """Raises ValueError where one is no seed of `Pipeline.sample`."""
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed {seed}: seeds run from 0 to 2**63 - 1")


class Pipeline:
    """A loaded model and what can be done with it. Settings left at None are the checkpoint's own."""

    def __init__(self, model: Model) -> None:
        self.model = model

    @classmethod
    def load(cls, path: Path | str = BUNDLED) -> Pipeline:
        """Read a checkpoint; see `checkpoint.load_checkpoint` for its errors."""
        return cls(load_checkpoint(path))

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """Texts to features (B, S, D). An empty text is the unconditional one."""
        ids = tokenize(self.model.tokenizer, texts, self.model.text.config.max_tokens)
        return self.model.text(ids)

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (T, H, W, 3) in 0..1 to latents (1, z, T', H', W')."""
        return self.model.vae.encode(rearrange(frames, "t h w c -> 1 c t h w"), from_zero=True)

    def decode(self, latents: Tensor, on_frames: Callable[[int, int], None] | None = None) -> Tensor:
        """Latents (1, z, T', H', W') to frames (T, H, W, 3) in 0..1."""
        frames = rearrange(self.model.vae.decode(latents, on_frames=on_frames), "1 c t h w -> t h w c")
        return frames.add_(1).div_(2)

    def settings(
        self,
        *,
        steps: int | None = None,
        cfg: float | None = None,
        cfg_interval: tuple[float, float] | None = None,
        solver: str | None = None,
        negative: str = "",
    ) -> dict[str, Any]:
        """Settings of `sample` with the checkpoint's own for those left at None. Raises ValueError where one cannot be,
        before anything is encoded for it."""
        given = {"steps": steps, "cfg": cfg, "cfg_interval": cfg_interval, "solver": solver}
        found = {k: getattr(self.model.defaults, k) if value is None else value for k, value in given.items()}
        if found["solver"] not in SAMPLERS:
            raise ValueError(f"solver {found['solver']!r} is not known; use one of {', '.join(SAMPLERS)}")
        if not math.isfinite(found["cfg"]):
            raise ValueError(f"cfg is {found['cfg']}: it has to be a number, 1 for no guidance")
        if not 1 <= found["steps"] <= MOST_STEPS:
            raise ValueError(f"steps is {found['steps']}: sampling takes 1 to {MOST_STEPS}")
        return found | {"negative": negative}

    @torch.no_grad()
    def sample(
        self,
        prompts: list[str],
        latent_shape: tuple[int, int, int],
        *,
        seeds: list[int],
        negative: str = "",
        steps: int | None = None,
        cfg: float | None = None,
        cfg_interval: tuple[float, float] | None = None,
        solver: str | None = None,
        known: Tensor | None = None,
        strength: Tensor | None = None,
        ramps: Sequence[tuple[list[str], Tensor]] = (),
        regions: Sequence[tuple[list[str], Box]] = (),
        callback: Callback | None = None,
        quiet: bool = True,
    ) -> Tensor:
        """Latents (B, z, T, H, W) for B prompts, each from its own seed, whatever the batch.

        known, strength: latents to start from (B, z, T, H, W), and how far each place may leave them (B, 1, T, H, W)
        in 0..1; see `flow`. Without them everything is made from noise. ramps: each B further prompts, and the share of
        every latent frame (T,) that they take over from the prompts before them. regions: each B prompts for a part of
        the frame, where they stand instead of the others; see `regions`.
        """
        defaults, dit = self.model.defaults, self.model.dit
        check_seeds(*seeds)
        chosen = self.settings(steps=steps, cfg=cfg, cfg_interval=cfg_interval, solver=solver, negative=negative)
        cfg, interval = chosen["cfg"], chosen["cfg_interval"]
        if ramps and regions:
            raise ValueError("ramps and regions: one text that goes over into another cannot have texts for parts, too")
        for name, others in (("region", regions), ("ramp", ramps)):
            for texts, _ in others:
                if len(texts) != len(prompts):
                    raise ValueError(f"{len(prompts)} prompts need as many texts in every {name}, not {len(texts)}")
        for _, share in ramps:
            if tuple(share.shape) != (latent_shape[0],):
                expected = f"({latent_shape[0]},), a share for every latent frame"
                raise ValueError(f"ramp of shape {tuple(share.shape)}: expected {expected}")
        if len(seeds) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts need as many seeds, not {len(seeds)}")
        grid = Grid.of(latent_shape, dit.config.patch)
        shape = (dit.config.in_dim, *latent_shape)
        noise = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

        start, x = 1.0, noise
        if (known is None) != (strength is None):
            raise ValueError("known latents and a strength map belong together: give both or neither")
        if known is not None and strength is not None:
            if known.shape != noise.shape:
                raise ValueError(f"known latents of shape {tuple(known.shape)}: expected {tuple(noise.shape)}")
            strength = tokens_to_map(map_to_tokens(strength, grid), grid)
            if len(strength) != len(prompts):
                raise ValueError(f"{len(prompts)} prompts need as many strength maps, not {len(strength)}")
            if not bool(((strength >= 0) & (strength <= 1)).all()):
                raise ValueError("the strength map must lie in 0..1: 0 keeps a place, 1 makes it from noise")
            start = float(strength.max())
            if start == 0:
                return known.clone()
            x = add_noise(known, noise, start) if start < 1 else noise

        def told(texts: list[str]) -> TextKV:
            return dit.prepare_text(self.encode_text(texts))

        unguided = told([negative] * len(prompts)) if cfg != 1 else None
        further = [(told(texts), share) for texts, share in ramps]
        sigmas = schedule(chosen["steps"], shift_for(grid.length, defaults.shift), start)
        task = None if known is None or strength is None else StrengthMap(strength, known, noise, sigmas)
        leading = None if task is None else before_given(task.strength)

        def denoiser(texts: list[str], part: StrengthMap | None) -> Denoiser:
            return Denoiser(dit, told(texts), unguided, cfg, interval, part, further, defaults.cfg_before, leading)

        parts = [
            (denoiser(texts or prompts, task and cut_map(task, window)), window, weight)
            for texts, window, weight in placed(regions, grid)
        ]
        model = Composed(parts) if regions else parts[0][0]
        waiting = None if task is None else task.waiting
        x = SAMPLERS[chosen["solver"]](model, x, sigmas, callback=callback, disable=quiet, waiting=waiting)
        return x if task is None else task.finish(x)

    def parts(self, prompt: str, width: int, height: int) -> list[tuple[str, Box]]:
        """Where a prompt names two things, and the model makes them better one by one, a text for each half of a frame
        of so many pixels; else none."""
        defaults = self.model.defaults
        if not defaults.apart:
            return []
        from .world import apart  # no other model needs the world

        return list(zip(apart(prompt), halves(width, height, defaults.min_side), strict=False))

    def generate(
        self,
        prompt: str,
        *,
        width: int | None = None,
        height: int | None = None,
        frames: int | None = None,
        regions: Sequence[tuple[str, Box]] | None = None,
        seed: int = 0,
        negative: str = "",
        steps: int | None = None,
        cfg: float | None = None,
        cfg_interval: tuple[float, float] | None = None,
        solver: str | None = None,
        quiet: bool = True,
    ) -> Tensor:
        """Frames (T, H, W, 3) in 0..1 from a prompt; one frame makes an image.

        width, height: pixels. seed: same seed, same machine, same frames. steps: of the solver. cfg: how strongly the
        prompt is followed; 1 switches guidance off. regions: texts for parts of the frame, which
        stand there instead of the prompt; None for those of `parts`. Raises ValueError on a size the model was not made
        for, and on an empty prompt.
        """
        defaults, vae = self.model.defaults, self.model.vae
        width = defaults.width if width is None else width
        height = defaults.height if height is None else height
        frames = defaults.frames if frames is None else frames
        if not prompt.strip():
            raise ValueError("the prompt is empty; say what the video should show")
        defaults.check(width, height, frames, vae.config.time_factor)
        regions = self.parts(prompt, width, height) if regions is None else regions
        latents = self.sample(
            [prompt], vae.latent_shape(frames, height, width), seeds=[seed], negative=negative, steps=steps, cfg=cfg,
            cfg_interval=cfg_interval, solver=solver, regions=[([text], box) for text, box in regions], quiet=quiet,
        )  # fmt: skip
        return self.decode(latents)

    def make(
        self,
        timeline: Timeline,
        prompt: str,
        *,
        then: str | None = None,
        seed: int = 0,
        quiet: bool = True,
        **settings: Any,
    ) -> Tensor:
        """Frames (T, H, W, 3) of a task, given frames bit for bit; see `timeline`.

        then: the prompt of the frames behind what is made; over those the text goes from one to the other. settings:
        as in `sample`. Raises ValueError on an empty prompt.
        """
        if not prompt.strip():
            raise ValueError("the prompt is empty; say what the video should show")
        check_seeds(seed)
        settings = self.settings(**settings)
        check_factor(self.model.vae.config.time_factor)
        known, strength = timeline.encode(self.encode, self.model.defaults.side_multiple)
        ramps = [] if then is None else [([then], timeline.ramp())]
        latents = self.sample(
            [prompt], tuple(known.shape[2:]), seeds=[seed], known=known, strength=strength, ramps=ramps, quiet=quiet,
            **settings,
        )  # fmt: skip
        return timeline.restore(self.decode(latents))
