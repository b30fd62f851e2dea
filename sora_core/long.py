"""Minutes from a model of seconds: windows that slide over the latents of one long clip.

Every window begins with what the last one ended with. Latents are chained, not pixels, so nothing is encoded over and
over; only the window's first latent, which covers a single frame, is that frame encoded, and it is seen but not shown.
The decoder runs along as one stream. What is finished can be kept in a folder and is not made again after a crash.

Against drift, the statistics of new latents are led towards those of the prompt's first window (AdaIN, arXiv
1703.06868), and a report says by how much they had left them.
"""

from __future__ import annotations

import json
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .pipeline import Pipeline, frames_to_video, video_to_frames
from .vae import Stream


@dataclass(frozen=True)
class Cue:
    """From this frame on, the clip shows this."""

    frame: int
    text: str


@dataclass(frozen=True)
class Window:
    """Finished frames (T, H, W, 3), and how far its latents had drifted: distance of the channels' means and deviations
    from the prompt's first window, before and after the correction, in deviations."""

    frames: Tensor
    drift: float
    corrected: float


def parse_cues(text: str, fps: float) -> list[Cue]:
    """Cues from lines such as `0:05 a red circle bounces on a sky background` or `5s a red circle ...`.

    A text without times is one cue. Raises ValueError that names the line where a time is missing, not ascending, or
    where the first is not 0.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError("the prompts are empty; write one a line, each with its time, as in `0:05 a red circle ...`")
    timed = [(number, re.fullmatch(r"(?:(\d+):)?(\d+(?:\.\d+)?)(s?)[ ,|:-]+(.+)", line)) for number, line in lines]
    timed = [(number, match if match and (match[1] or match[3]) else None) for number, match in timed]
    if len(lines) == 1 and timed[0][1] is None:
        return [Cue(0, lines[0][1])]
    cues: list[Cue] = []
    for (number, match), (_, line) in zip(timed, lines, strict=True):
        if match is None:
            raise ValueError(
                f"prompts, line {number}: {line[:40]!r} has no time; begin it with one, as in `0:05` or `5s`"
            )
        frame = round((60 * int(match[1] or 0) + float(match[2])) * fps)
        if cues and frame <= cues[-1].frame:
            raise ValueError(f"prompts, line {number}: its time is not after that of the line before")
        cues.append(Cue(frame, match[4].strip()))
    if cues[0].frame != 0:
        raise ValueError(f"prompts, line {lines[0][0]}: the first prompt has to begin at 0:00")
    return cues


def make_long(
    pipeline: Pipeline,
    cues: Sequence[Cue],
    frames: int,
    *,
    width: int | None = None,
    height: int | None = None,
    window: int | None = None,
    overlap: int = 2,
    correct: float = 0.2,
    seed: int = 0,
    folder: Path | str | None = None,
    **settings: Any,
) -> Iterator[Window]:
    """Windows of a clip of `frames` frames, one after the other; their frames joined are the clip.

    window: frames the model makes at once, 4n + 1 (the model's own length where None). overlap: latent frames that it
    sees again. correct: share of the drift that is taken back, 0 to 1. folder: keeps finished windows, and goes on from
    them; raises ValueError where it holds another clip. settings: as in `Pipeline.sample`.
    """
    defaults, vae = pipeline.model.defaults, pipeline.model.vae
    width, height, window = width or defaults.width, height or defaults.height, window or defaults.frames
    defaults.check(width, height, window, vae.config.time_factor)
    length, rows, columns = vae.latent_shape(window, height, width)
    if frames < 1:
        raise ValueError(f"{frames} frames: a clip has at least 1")
    if not 1 <= overlap <= length - 2:
        raise ValueError(f"overlap {overlap}: windows of {window} frames can share 1 to {length - 2} latent frames")
    if not 0 <= correct <= 1:
        raise ValueError(f"correct {correct}: 0 takes nothing of the drift back, 1 all; choose from 0 to 1")
    if any(not cue.text.strip() for cue in cues):
        raise ValueError("a prompt is empty; say what the video should show")
    described = {
        "cues": [asdict(cue) for cue in cues], "width": width, "height": height, "window": window, "overlap": overlap,
        "correct": correct, "seed": seed, "vae": vae.fingerprint(),
        "settings": {key: str(value) for key, value in settings.items()},
    }  # fmt: skip
    store = _Store(folder, described) if folder is not None else None
    return _windows(pipeline, cues, frames, (length, rows, columns), overlap, correct, seed, store, settings)


def _windows(
    pipeline: Pipeline,
    cues: Sequence[Cue],
    frames: int,
    shape: tuple[int, int, int],
    overlap: int,
    correct: float,
    seed: int,
    store: _Store | None,
    settings: dict[str, Any],
) -> Iterator[Window]:
    vae, factor = pipeline.model.vae, pipeline.model.vae.config.time_factor
    stream: Stream = {}
    tail = torch.empty(0)  # latents that the next window sees
    last = torch.empty(0)  # frames of the last latents, from which the next window's first latent is encoded
    reference: tuple[str, Tensor] | None = None
    made, shown, number = 0, 0, 0  # latent frames, frames, windows
    while shown < frames:
        text, then, share = _texts(cues, made - (overlap + 1 if made else 0), shape[0], factor)
        finished = store.load(number) if store is not None else None
        if finished is not None:
            new = finished
        else:
            task: dict[str, Any] = {}
            if made:
                known = torch.zeros(1, vae.config.z_dim, *shape)
                known[:, :, 0] = vae.encode(frames_to_video(last[:1]))[:, :, 0]
                known[:, :, 1 : overlap + 1] = tail
                strength = torch.ones(1, 1, *shape)
                strength[:, :, : overlap + 1] = 0
                task = {"known": known, "strength": strength}
            latents = pipeline.sample(
                [text], shape, seeds=[(seed + number) % 2**63], ramp=None if then is None else ([then], share), **task,
                **settings,
            )  # fmt: skip
            new = latents[:, :, overlap + 1 if made else 0 :]
        if reference is None or reference[0] != (then or text):
            reference = (then or text, _statistics(new))
        drift = float((_statistics(new) - reference[1]).abs().mean())
        if finished is None:
            new = _led(new, reference[1], correct)
            if store is not None:
                store.save(number, new)
        video = video_to_frames(vae.decode(new, stream=stream))
        made, number = made + new.shape[2], number + 1
        tail = torch.cat([tail, new], dim=2)[:, :, -overlap:] if tail.numel() else new[:, :, -overlap:]
        last = torch.cat([last, video])[-(overlap * factor + 1) :] if last.numel() else video[-(overlap * factor + 1) :]
        yield Window(video[: frames - shown], drift, float((_statistics(new) - reference[1]).abs().mean()))
        shown += len(video)


def _texts(cues: Sequence[Cue], begin: int, length: int, factor: int) -> tuple[str, str | None, Tensor]:
    """Text of a window of latents, the one it goes over to if a cue falls into it, and the share of that (T,)."""
    starts = [cue.frame for cue in cues]
    frames = [max(0, (begin + i) * factor) for i in range(length)]
    active = [max(0, bisect_right(starts, frame) - 1) for frame in frames]
    last = active[-1]
    if active[0] == last:
        return cues[last].text, None, torch.ones(length)
    return cues[last - 1].text, cues[last].text, torch.tensor([float(index == last) for index in active])


def _statistics(latents: Tensor) -> Tensor:
    """Means and deviations (2, C) of the channels of (1, C, T, H, W)."""
    return torch.stack([latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))])


def _led(latents: Tensor, reference: Tensor, share: float) -> Tensor:
    """Latents whose statistics have moved towards the reference by a share of the way."""
    mean, deviation = (row.view(1, -1, 1, 1, 1) for row in _statistics(latents))
    target_mean, target_deviation = (row.view(1, -1, 1, 1, 1) for row in reference)
    matched = (latents - mean) / deviation.clamp(min=1e-6) * target_deviation + target_mean
    return torch.lerp(latents, matched, share)


class _Store:
    """Finished windows in a folder, one file each, and a note that says of which clip."""

    def __init__(self, folder: Path | str, described: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        note, text = self.folder / "clip.json", json.dumps(described, indent=2, sort_keys=True)
        if note.exists() and note.read_text(encoding="utf-8") != text:
            raise ValueError(f"{folder} keeps the windows of another clip; choose another folder, or remove it")
        note.write_text(text, encoding="utf-8")

    def _path(self, number: int) -> Path:
        return self.folder / f"window-{number:04d}.safetensors"

    def load(self, number: int) -> Tensor | None:
        path = self._path(number)
        if not path.exists():
            return None
        with safe_open(path, framework="pt") as file:
            return file.get_tensor("latents")

    def save(self, number: int, latents: Tensor) -> None:
        partial = self._path(number).with_suffix(".partial")
        save_file({"latents": latents.contiguous()}, partial)
        os.replace(partial, self._path(number))
