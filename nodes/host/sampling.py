"""Sampling a MODEL of the host's with our solvers under a strength map: progress, cancelling, previews."""

from __future__ import annotations

import base64
import io as bytes_io
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import comfy.cli_args
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from PIL import Image
from server import PromptServer
from torch import Tensor

from ...sora_core.fingerprint import digest
from ...sora_core.flow import TIMESTEPS, StrengthMap, before_given, schedule, shift_for
from ...sora_core.patches import Grid, map_to_tokens, tokens_to_map
from ...sora_core.preview import latents_to_rgb
from ...sora_core.regions import Box, halves
from ...sora_core.samplers import Progress, check_span, draw_seed, solve, solve_again
from ...sora_core.selection import count_frames, mask_to_map
from ...sora_core.timeline import FACTOR
from .model import STRENGTH, HostModel
from .origin import ORIGIN, origin
from .regions import as_areas

PROGRESS = "sora_progress"  # key of a LATENT whose run was stopped: its settings, its begin, how far it came
PAIRS = (1, 2, 2)  # patches of the host's Wan and most others
PREVIEW_SIDE, PREVIEW_FPS = 256, 4  # pixels; latent frames a second


def interrupted() -> None:
    """Raises where the artist has cancelled."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def sample(
    model: comfy.model_patcher.ModelPatcher,
    positive: list,
    negative: list,
    latent: dict[str, Any],
    *,
    seed: int,
    steps: int,
    cfg: float,
    solver: str,
    stop: int = 0,
    passes: int = 0,
    part: tuple[int, int] = (0, 1),
    node_id: str | None,
) -> dict[str, Any]:
    """A LATENT (B, C, T, H, W) sampled from a LATENT, whose noise_mask is its strength map.

    A rectified-flow MODEL of any make. Ours is told the level of every token; another one gets the same semantics by
    replacement, and what it makes settles better with what is kept if every step is taken some passes more. stop: steps
    after which the run stops on its way, 0 for none; the LATENT then shows what the result is taken for and brings its
    progress along, from which another call goes on. part: number of this run, and of how many, for the progress bar.
    Raises ValueError that names what does not fit before the first step.
    """
    halted = latent.get(PROGRESS)
    progress = None
    if halted is not None:
        rows = _clips_of(halted, latent)
        latent = latent | {"samples": halted["known"][rows]}
        progress = Progress(halted["progress"].x[rows], halted["progress"].denoised[rows], halted["progress"].steps)
    known = _latents(model, latent)
    model, shift = _scheduled(model, known)
    run = {"seed": seed, "steps": steps, "solver": solver, "resample": passes, "shift": round(shift, 4)}
    if halted is not None and halted["run"] != run:
        wanted = ", ".join(f"{key} {value}" for key, value in halted["run"].items())
        raise ValueError(
            f"latent: it is of a run that was stopped, with {wanted}; set the same in this node (the shift is the "
            "MODEL's, of which it has to be the same)"
        )
    ours = isinstance(model.model, HostModel)
    per_token = ours and model.model.per_token
    patch = model.model.diffusion_model.config.patch if ours else (1, 1, 1)
    grid = Grid.of(tuple(known.shape[2:]), patch)
    strength = _strength(latent, known, grid)
    start = 1.0 if strength is None else float(strength.max())
    if start == 0:
        return latent | {"samples": known.clone()}
    if strength is not None and bool((strength == 1).all()):
        strength = None
    levels = schedule(steps, shift, start)
    check_span(levels, stop or None, progress)
    boxes = _halves_for(model, grid) if strength is None else []  # what is given may show its things anywhere
    positive, negative = as_areas(positive, negative, _patches_of(model, grid), boxes)
    if per_token and strength is not None:
        positive, negative = ([[c, o | {STRENGTH: strength}] for c, o in conds] for conds in (positive, negative))

    if ours and model.model.defaults is not None and cfg != 1:
        if strength is not None:
            model = _leading_in(model, strength, cfg)
        model = _guided_within(model, *model.model.defaults.cfg_interval)

    def sampler(
        wrapped: Any, x: Tensor, sigmas: Tensor, extra_args: dict, callback: Callable, disable: bool | None
    ) -> Tensor:
        nonlocal progress
        denoise, waiting = wrapped, None
        if strength is not None:
            task = StrengthMap(strength.to(x), wrapped.latent_image, wrapped.noise, sigmas, per_token=per_token)
            waiting = task.waiting

            def denoise(x: Tensor, sigma: Tensor, **args: Any) -> Tensor:
                now = float(sigma[0])
                seen = task.enter(x, now)
                return task.leave(seen, wrapped(seen, sigma, **args), now)

        run_of = partial(solve_again, passes=passes, draw=again) if passes else solve
        progress = run_of(
            solver, denoise, x, sigmas, extra_args, callback, disable, stop=stop or None, progress=progress,
            waiting=waiting,
        )  # fmt: skip
        return progress.x if progress.steps == steps else progress.denoised

    def again(number: int) -> Tensor:
        return _noise(latent, known, draw_seed(seed, number))

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    samples = guider.sample(
        _noise(latent, known, seed), known, comfy.samplers.KSAMPLER(sampler), levels, seed=seed,
        callback=_callback(model, steps, part, node_id), disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
    ).to(comfy.model_management.intermediate_device())  # fmt: skip
    if strength is not None:  # kept places come back bit for bit
        samples = torch.where(strength.to(samples) == 0, known.to(samples), samples)
    out = {key: value for key, value in latent.items() if key != PROGRESS} | {"samples": samples, ORIGIN: origin(model)}
    if progress.steps == steps:
        return out
    progress = Progress(progress.x.cpu(), progress.denoised.cpu(), progress.steps)
    return out | {PROGRESS: {"run": run, "known": known, "progress": progress, "clips": _marks(out)}}


def _patches_of(model: comfy.model_patcher.ModelPatcher, grid: Grid) -> Grid:
    """The grid to whose patches regions are moved; that of other models is a guess, as they do not tell theirs."""
    frames, height, width = grid.latent_shape
    if isinstance(model.model, HostModel) or height % 2 or width % 2:
        return grid
    return Grid.of((frames, height, width), PAIRS)


def _halves_for(model: comfy.model_patcher.ModelPatcher, grid: Grid) -> list[Box]:
    """Halves of the frame for two things of one text, none where the model has no use for them."""
    if not isinstance(model.model, HostModel) or model.model.defaults is None:
        return []
    defaults = model.model.defaults
    return halves(grid.w * defaults.side_multiple, grid.h * defaults.side_multiple, defaults.min_side)


def _leading_in(
    model: comfy.model_patcher.ModelPatcher, strength: Tensor, cfg: float
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL that is guided less in the latent frame right before a given one, as its checkpoint says."""
    least, places = min(cfg, model.model.defaults.cfg_before), before_given(strength)

    def ease(call: dict[str, Any]) -> Tensor:
        denoised, positive, negative = (call[key] for key in ("denoised", "cond_denoised", "uncond_denoised"))
        return torch.where(places.to(denoised.device), torch.lerp(negative, positive, least), denoised)

    model = model.clone()
    model.set_model_sampler_post_cfg_function(ease)
    return model


def _guided_within(
    model: comfy.model_patcher.ModelPatcher, low: float, high: float
) -> comfy.model_patcher.ModelPatcher:
    """A MODEL that is guided between two levels alone, as its checkpoint says."""

    def ease(call: dict[str, Any]) -> Tensor:
        return call["denoised" if low <= float(call["sigma"].max()) <= high else "cond_denoised"]

    model = model.clone()
    model.set_model_sampler_post_cfg_function(ease)
    return model


def _marks(latent: dict[str, Any]) -> list[str]:
    """Tells the clips of a batch, with their strengths, from others."""
    samples, mask = latent["samples"], strength_map(latent)
    mask = torch.ones(1) if mask is None else mask
    masks = mask.expand(len(samples), *mask.shape[1:])
    return [f"{digest(clip)} {digest(own)}" for clip, own in zip(samples, masks, strict=True)]


def _clips_of(halted: dict[str, Any], latent: dict[str, Any]) -> list[int]:
    """Which clips of a stopped run a LATENT holds: all, or some that were picked. Raises ValueError where one was
    changed, which going on would undo."""
    try:
        return [halted["clips"].index(mark) for mark in _marks(latent)]
    except ValueError:
        raise ValueError(
            "latent: it was changed after its run was stopped, which going on would undo; let the run end first, or "
            "begin a new one from its frames (Sora VAE Decode, Sora VAE Encode)"
        ) from None


def beyond(model: comfy.model_patcher.ModelPatcher, size: Sequence[int]) -> str | None:
    """A note where latents of this size (T', H', W') are not what a checkpoint of ours was made for: they are made all
    the same."""
    if not isinstance(model.model, HostModel) or model.model.defaults is None or len(size) != 3:
        return None
    defaults, patch = model.model.defaults, model.model.diffusion_model.config.patch[1]
    frames, height, width = size
    pixels = defaults.side_multiple // patch
    return defaults.beyond(width * pixels, height * pixels, count_frames(frames, FACTOR), FACTOR)


def latent_channels(model: comfy.model_patcher.ModelPatcher) -> int:
    return model.get_model_object("latent_format").latent_channels


def _latents(model: comfy.model_patcher.ModelPatcher, latent: dict[str, Any]) -> Tensor:
    """A LATENT's samples in the MODEL's channels. Raises ValueError where they are not for this MODEL."""
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise ValueError("latent: this sampler takes one clip's latents, not video and audio together; use KSampler")
    known = comfy.sample.fix_empty_latent_channels(model, samples)
    channels = latent_channels(model)
    if known.ndim != 5:
        raise ValueError(f"latent of shape {tuple(known.shape)}: a video latent has (B, C, T, H, W)")
    if known.shape[1] != channels:
        raise ValueError(f"latent has {known.shape[1]} channels, this model makes {channels}: use its own VAE")
    return known


def without_strength(latent: dict) -> str | None:
    """What to say of latents that show something, of which only the size is used: they bring no strength map."""
    if "noise_mask" in latent or PROGRESS in latent or not bool(latent["samples"].any()):
        return None
    return (
        "The latents hold a clip but no strength map, so only their size was used. To keep what they show, put Sora "
        "SDEdit before the sampler, as in draft_refine, or Sora Patchify with a strength below 1."
    )


def _scheduled(
    model: comfy.model_patcher.ModelPatcher, known: Tensor
) -> tuple[comfy.model_patcher.ModelPatcher, float]:
    """The MODEL and the shift of its schedule; ours takes the shift of the clip's size, unless one was chosen."""
    path = model.get_model_object("model_sampling")
    if not isinstance(path, comfy.model_sampling.CONST):
        raise ValueError("model: this sampler is for rectified-flow models (sora, Wan, LTX, ...); use KSampler instead")
    defaults = model.model.defaults if isinstance(model.model, HostModel) else None
    if defaults is not None and "model_sampling" not in model.object_patches:
        tokens = Grid.of(tuple(known.shape[2:]), model.model.diffusion_model.config.patch).length
        path = type(path)(model.model.model_config)
        path.set_parameters(shift=shift_for(tokens, defaults.shift), multiplier=TIMESTEPS)
        model = model.clone()
        model.add_object_patch("model_sampling", path)
    half = float(path.percent_to_sigma(0.5))  # the one thing that schedules of all makes tell
    return model, half / (1 - half)


def _noise(latent: dict[str, Any], known: Tensor, seed: int) -> Tensor:
    """The host's noise: one stream for the batch; of a clip that was picked from a batch, its part of that stream."""
    generator = torch.Generator().manual_seed(seed)
    if (picked := latent.get("batch_index")) is None:
        return torch.randn(known.shape, generator=generator)
    clips = [torch.randn(1, *known.shape[1:], generator=generator) for _ in range(max(picked) + 1)]
    return torch.cat([clips[i] for i in picked])


def strength_map(latent: dict[str, Any]) -> Tensor | None:
    """A LATENT's noise_mask as a strength map (1 or B, 1, T, H, W); masks of pixels, as the host's own nodes leave them
    there, are laid over the clip. Raises ValueError where it fits in no way."""
    mask, samples = latent.get("noise_mask"), latent["samples"]
    if mask is None or samples.ndim != 5:  # images are refused elsewhere, for what they are
        return None
    try:
        return mask_to_map(mask, len(samples), tuple(samples.shape[2:]), FACTOR)
    except ValueError as error:
        raise ValueError(f"latent: noise_{error}; Set Latent Noise Mask before this node sets another") from None


def _strength(latent: dict[str, Any], known: Tensor, grid: Grid) -> Tensor | None:
    """A LATENT's strength map (B, 1, T, H, W), constant in every patch of the grid."""
    strength = strength_map(latent | {"samples": known})
    if strength is None:
        return None
    strength = strength.expand(len(known), -1, -1, -1, -1)
    return tokens_to_map(map_to_tokens(strength, grid), grid)


def _callback(
    model: comfy.model_patcher.ModelPatcher, steps: int, part: tuple[int, int], node_id: str | None
) -> Callable:
    """Progress, cancelling (the progress bar raises) and a preview of all frames after every step."""
    number, parts = part
    progress = comfy.utils.ProgressBar(steps * parts)
    latent_format = model.model.latent_format
    previews = comfy.cli_args.args.preview_method != comfy.cli_args.LatentPreviewMethod.NoPreviews
    factors, bias = latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias

    def callback(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        progress.update_absolute(steps * number + step + 1)
        if previews and factors and node_id is not None and PromptServer.instance is not None:
            frames = latents_to_rgb(denoised[0], [*factors, bias or [0.0, 0.0, 0.0]])
            event = {"node": node_id, "image": _animation(frames)}
            PromptServer.instance.send_sync("sora.preview", event, PromptServer.instance.client_id)

    return callback


def _animation(frames: Tensor) -> str:
    """Small frames (T, H, W, 3) as an animated WebP in a data URL."""
    scale = max(1, PREVIEW_SIDE // max(frames.shape[1:3]))
    size = (frames.shape[2] * scale, frames.shape[1] * scale)
    images = [Image.fromarray(f).resize(size) for f in (frames * 255).round().byte().cpu().numpy()]
    file = bytes_io.BytesIO()
    images[0].save(
        file, "webp", save_all=True, append_images=images[1:], duration=1000 // PREVIEW_FPS, loop=0, quality=80
    )
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
