"""Timelines as LATENTs: what the task nodes share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..sora_core.selection import count_frames, latent_frame_of
from ..sora_core.tasks import empty
from ..sora_core.timeline import FACTOR, SOFT, Timeline, check_factor
from . import host
from .host import io

TIMELINE = "sora_timeline"  # key of a LATENT: its timeline, and the latents and strengths that this was encoded to


SEAMS = io.String.Output(display_name="seams", tooltip="Frames of the finished clip at which a new part begins.")
OUTPUTS = [io.Latent.Output(tooltip="Latents with their strength map, for Sora Sampler."), SEAMS]  # of every task


def prepared(vae: object, line: Timeline) -> io.NodeOutput:
    """What a task hands out."""
    latent = begin(vae, line)
    return io.NodeOutput(latent, listed(line.seams), ui=shown(latent, odd(line)))


def shown(latent: dict[str, Any], *notes: str | None) -> dict[str, list]:
    """What web/timeline.js draws on a task's node, and notes; the same keys always, as the host joins what a node says
    of several clips."""
    spans = latent[TIMELINE][0].spans(latent["noise_mask"])
    return {"sora_timeline": [spans], "text": [note for note in notes if note]}


def odd(line: Timeline) -> str | None:
    """A note where Save Video, at the very end, could not write the finished clip."""
    height, width = line.canvas.shape[1:3]
    if width % 2 == 0 and height % 2 == 0:
        return None
    return (
        f"The clip is {width}x{height}, and Save Video (H.264) takes even sides alone. Crop it (Image Crop) or scale "
        "it (Upscale Image) before its task, or save it with SaveWEBM or SaveAnimatedWEBP, which take any."
    )


def begin(vae: object, line: Timeline) -> dict[str, Any]:
    """A timeline as a LATENT with its strength map; what the decoder needs to put given frames back travels along."""
    _, time, space = host.latent_layout(vae)
    check_factor(time)
    known, strength = line.encode(lambda frames: host.encode(vae, frames).cpu(), 2 * space)
    return {"samples": known, "noise_mask": strength, TIMELINE: (line, known, strength), host.ORIGIN: host.origin(vae)}


def listed(seams: Iterable[int]) -> str:
    """Frames as Sora Clip Report reads them."""
    return ", ".join(map(str, seams))


def pin(vae: object, latent: dict[str, Any], image: Tensor, frame: int) -> dict[str, Any]:
    """A LATENT of one clip with an image (H, W, 3) given at a frame."""
    samples = latent["samples"].cpu()
    if samples.ndim != 5 or samples.shape[0] != 1:
        raise ValueError(f"latent of shape {tuple(samples.shape)}: images are pinned to one clip, (1, C, T, H, W)")
    channels, _, space = host.latent_layout(vae)
    if samples.shape[1] != channels:
        raise ValueError(
            f"latent has {samples.shape[1]} channels, this VAE makes {channels}: give it to Sora Empty Video"
        )
    if any(side % 2 for side in samples.shape[3:]):
        height, width = (side * space for side in samples.shape[3:])
        raise ValueError(f"latent of {width}x{height} pixels: pinning takes sides in multiples of {2 * space}")
    _check_uncut(latent)
    everything = torch.ones(1, 1, *samples.shape[2:])
    mask = host.strength_map(latent)
    mask = everything if mask is None else mask.cpu()
    if TIMELINE in latent:
        line, known, strength = latent[TIMELINE]
    else:
        frames = count_frames(samples.shape[2], FACTOR)
        line = empty(frames, samples.shape[3] * space, samples.shape[4] * space)
        known, strength = samples, everything
    pinned = line.pin(image.cpu(), frame)
    alone = begin(vae, replace(pinned, pieces=pinned.pieces[-1:]))
    at = latent_frame_of(pinned.pieces[-1][0], FACTOR)
    samples, known, mask, strength = samples.clone(), known.clone(), mask.clone(), strength.clone()
    samples[:, :, at] = known[:, :, at] = alone["samples"][:, :, at]
    mask[:, :, at] = strength[:, :, at] = alone["noise_mask"][:, :, at]
    return latent | alone | {"samples": samples, "noise_mask": mask, TIMELINE: (pinned, known, strength)}


def finish(vae: object, latent: dict[str, Any]) -> tuple[Tensor, str | None]:
    """Frames (T, H, W, 3) of a LATENT, with the given frames of its timeline put back; and a note where that cannot be,
    because the latents are not those of the timeline any more."""
    samples = latent["samples"]
    frames = host.decode(vae, samples)
    if TIMELINE not in latent:
        return frames, None
    line, known, strength = latent[TIMELINE]
    samples = samples.cpu()
    if samples.shape[1:] != known.shape[1:]:
        return frames, "The latents were cut or resized after their task: given frames are not put back."
    if _moved(samples.to(known) - known, strength):
        return frames, "The kept latents have changed since their task: given frames are not put back."
    clips = [line.restore(clip) for clip in frames.chunk(len(samples))]
    return clips[0] if len(clips) == 1 else torch.cat(clips), None


def task_of(latent: dict[str, Any]) -> tuple[Timeline, tuple[Tensor, Tensor]]:
    """The timeline of a LATENT that can be made part by part, and what it was encoded to."""
    if TIMELINE not in latent:
        raise ValueError("latent: it is not of a task; connect that of Sora SDEdit or Sora Extend")
    line, known, strength = latent[TIMELINE]
    if not line.goes_forward:
        raise ValueError(
            "latent: Sora Long Video works from the beginning forwards, but here frames are given after the new ones, "
            "or images are pinned; use Sora Sampler, which makes such a clip at once"
        )
    samples, mask = latent["samples"], latent.get("noise_mask", torch.empty(0))
    if not (torch.equal(samples.to(known), known) and torch.equal(mask.to(strength), strength)):
        raise ValueError(
            "latent: it was changed after its task; connect the task itself to this node, and set the strengths there"
        )
    return line, (known.cpu(), strength.cpu())


def _check_uncut(latent: dict[str, Any]) -> None:
    if TIMELINE in latent and latent[TIMELINE][1].shape[1:] != latent["samples"].shape[1:]:
        raise ValueError("latent: it was cut or resized after its task; connect this node to the task, before that")


def _moved(change: Tensor, strength: Tensor) -> bool:
    """Whether latents are not those of the task any more: kept ones differ at all, or ones that may move a little have
    gone, on average over a clip, by half a deviation."""
    soft = (strength > 0) & (strength <= SOFT)
    size = (soft.sum() * change.shape[1]).clamp(min=1)
    gone = ((change * soft).square().sum((1, 2, 3, 4)) / size).sqrt()
    return bool((change * (strength == 0)).abs().max() > 1e-3) or bool(gone.max() > 0.5)


def ramp(first: list, second: list, latent: dict[str, Any]) -> list:
    """CONDITIONING that goes from one text to the other over the frames that a task makes, or, of latents that are of
    none, from the first frame to the last."""
    samples = latent["samples"]
    if samples.ndim != 5:
        raise ValueError(f"latent of shape {tuple(samples.shape)}: texts change over a video's (B, C, T, H, W)")
    _check_uncut(latent)
    share = latent[TIMELINE][0].ramp() if TIMELINE in latent else torch.linspace(0, 1, samples.shape[2])
    return shared(first, second, share, samples)


def shared(first: list, second: list, share: Tensor, samples: Tensor) -> list:
    """Two texts, the second with this share (T,) of every latent frame."""
    if any("mask" in options for part in (first, second) for _, options in part):
        raise ValueError("conditioning: it has a mask already, which a ramp would replace; connect texts without one")
    weight = share[:, None, None].expand(samples.shape[2:])
    parts = ((first, 1 - weight), (second, weight))
    return [
        [c, o | {"mask": w, "mask_strength": 1.0, "set_area_to_bounds": False}] for part, w in parts for c, o in part
    ]
