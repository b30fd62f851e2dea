"""Minutes from a model of seconds: windows that slide over the latents of one long clip.

Every window begins with what the last one ended with. Latents are chained, not pixels, so nothing is encoded over and
over; only the window's first latent, which covers a single frame, is that frame encoded, and it is seen but not shown.
The decoder runs along as one stream. What is finished can be kept in a folder and is not made again after a crash.

A task on a clip that is longer than what the model makes at once is made the same way: its windows begin from what is
given there, noised to its strength.

Against drift, the statistics of new latents are led towards those of the first window that their prompt has to itself
(AdaIN, arXiv 1703.06868), and a report says by how much they had left them. A window where prompts meet is left alone.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from .cues import Cue, begins_of, check_end
from .edges import faded, pad_sides, slow_colours
from .engine import Engine, Task
from .fingerprint import digest
from .pipeline import check_seeds
from .timeline import FACTOR, Timeline, check_factor
from .window_store import Made, Store

MADE_BY = 4  # raised when the same settings come to give other windows: those that were kept are made again then


@dataclass(frozen=True)
class Window:
    """Finished frames (T, H, W, 3), and how far its latents had drifted: distance of the channels' means and deviations
    from the first window that the prompt had to itself, before and after the correction, in deviations. None in that
    window, where prompts meet, and where a given clip is changed."""

    frames: Tensor
    drift: float | None
    corrected: float | None


def count_windows(frames: int, window: int, overlap: int, factor: int) -> int:
    """How many windows make a clip that begins with its first."""
    return 1 + -(-max(0, frames - window) // (window - 1 - overlap * factor))


def make_long(
    engine: Engine,
    cues: Sequence[Cue],
    frames: int,
    *,
    fps: float,
    width: int,
    height: int,
    window: int = 17,
    overlap: int = 2,
    correct: float = 0.2,
    seed: int = 0,
    start: Tensor | None = None,
    line: Timeline | None = None,
    task: str | None = None,
    encoded: tuple[Tensor, Tensor] | None = None,
    folder: Path | str | Callable[[str], Path] | None = None,
) -> Iterator[Window]:
    """Windows of a clip of `frames` frames, one after the other; their frames joined are the clip.

    engine: a fresh one. cues: each takes over with the latent frame whose middle is the first at its time or after it,
    so within half a latent frame. fps: for their times. window: frames the model makes at once, 4n + 1. overlap: latent
    frames that it sees again. correct: share of the drift that is taken back, 0 to 1. start: a clip (T, height, width,
    3) to go on from, which is not counted and not returned. line: a task whose canvas the clip is made on; drift is
    corrected where all is new. task: tells that one from others where what is given on it was made, too, so that its
    last bits depend on the machine. encoded: what `Timeline.encode` gave of it, where that was done before. A clip
    that exists may have any sides: what the engine cannot take is padded, and cut off again. folder: keeps finished
    windows, and goes on from them; or gives that folder for a name that all clips with these settings share, whatever
    their length.
    Raises ValueError, before anything is made, where the settings cannot be or the folder holds another clip.
    """
    shape, begins = _plan(
        engine, cues, frames, fps, (height, width), window, overlap, correct, seed,
        padded=start is not None or line is not None,
    )  # fmt: skip
    if start is not None and tuple(start.shape[1:]) != (height, width, 3):
        raise ValueError(f"start of shape {tuple(start.shape)}: it has to be (T, {height}, {width}, 3)")
    if line is not None:
        if start is not None:
            raise ValueError("start and line: a clip either goes on from frames or is made on a canvas; give one")
        if tuple(line.canvas.shape[:3]) != (frames, height, width):
            raise ValueError(f"line: its canvas is {tuple(line.canvas.shape[:3])}, the clip {(frames, height, width)}")
        if frames > window and not line.goes_forward:
            raise ValueError("line: what is given on it does not all come first, so it cannot be made window by window")
    store = None
    if folder is not None:
        described = engine.described | {
            "made by": MADE_BY,
            "cues": [asdict(cue) for cue in cues], "fps": fps, "width": width, "height": height, "window": window,
            "overlap": overlap, "correct": correct, "seed": seed, "start": "" if start is None else digest(start),
            "task": task or ("" if line is None else line.fingerprint()),
        }  # fmt: skip
        text = json.dumps(described, indent=2, sort_keys=True)
        if callable(folder):
            folder = folder(sha256(text.encode()).hexdigest()[:16])
        store = Store(folder, text)
    given = None if line is None else encoded or line.encode(engine.encode, engine.multiple)
    tasks, shift = _Tasks(engine, begins, [cue.text for cue in cues], shape, overlap, seed, given), None
    if start is not None:
        last = tasks.go_on_from(pad_sides(start[-tasks.reach :], engine.multiple))
        shift = slow_colours(start[-1] - last[:height, :width])

    def finished() -> Iterator[Window]:
        for number, made in enumerate(_windows(engine, tasks, frames, correct, store)):
            shown = made.frames[:, :height, :width]
            yield replace(made, frames=shown if number or shift is None else faded(shown, shift))

    return finished()


def make_timeline(
    engine: Engine,
    line: Timeline,
    text: str,
    *,
    window: int = 17,
    overlap: int | None = None,
    correct: float = 0.2,
    seed: int = 0,
    task: str | None = None,
    folder: Path | str | None = None,
    on_frames: Callable[[int], None] | None = None,
) -> Tensor:
    """The finished clip (T, H, W, 3) of a task, window after window; see `make_long`. A window sees what is given in it
    and what was made before it, so this is for edits and for new frames behind a clip. overlap: 2 where windows are
    long enough. task, folder: as there. on_frames(count): called with the number of frames that were finished."""
    frames, height, width = line.canvas.shape[:3]
    cues, made, out = [Cue(0, text)], 0, torch.empty(frames, height, width, 3)
    check_factor(engine.time_factor)
    overlap = max(1, min(2, (window - 1) // engine.time_factor - 1)) if overlap is None else overlap
    for part in make_long(
        engine, cues, frames, fps=1, width=width, height=height, window=window, overlap=overlap, correct=correct,
        seed=seed, line=line, task=task, folder=folder,
    ):  # fmt: skip
        out[made : made + len(part.frames)] = part.frames  # no list of parts beside the whole
        made += len(part.frames)
        if on_frames is not None:
            on_frames(len(part.frames))
    return line.restore(out)


def _plan(
    engine: Engine,
    cues: Sequence[Cue],
    frames: int,
    fps: float,
    sides: tuple[int, int],
    window: int,
    overlap: int,
    correct: float,
    seed: int,
    *,
    padded: bool,
) -> tuple[tuple[int, int, int], list[int]]:
    """Shape of a window's latents, and the frames at which cues begin. Raises ValueError where that cannot be made."""
    height, width = sides
    if padded:
        sides = tuple(-(-side // engine.multiple) * engine.multiple for side in sides)
    try:
        shape = engine.latent_shape(window, *sides)
    except ValueError as error:
        raise ValueError(f"window of {window} frames of {width}x{height}: {error}") from None
    if frames < 1:
        raise ValueError(f"{frames} frames: a clip has at least 1")
    if shape[0] < 3:
        least = 2 * engine.time_factor + 1
        raise ValueError(f"window of {window} frames: at least {least} are needed, for what is seen and what is new")
    check_shared(overlap, window, engine.time_factor)
    if not 0 <= correct <= 1:
        raise ValueError(f"correct {correct}: 0 takes nothing of the drift back, 1 all; choose from 0 to 1")
    check_seeds(seed)
    if any(not cue.text.strip() for cue in cues):
        raise ValueError("a prompt is empty; say what the video should show")
    check_end(cues, frames, fps)
    return shape, begins_of(cues, fps, engine.time_factor)


def check_shared(overlap: int, window: int, factor: int = FACTOR) -> None:
    """Raises ValueError where windows of so many frames cannot see so many latent frames again."""
    most = (window - 1) // factor - 1
    if not 1 <= overlap <= most:
        raise ValueError(
            f"overlap of {overlap} latent frames: windows of {window} frames can share 1 to {most} of them, which are "
            f"{factor} to {most * factor} frames"
        )


class _Tasks:
    """Windows to be made, each from what was finished before: the last latents, and the frames they decode to."""

    def __init__(
        self,
        engine: Engine,
        begins: list[int],
        cues: list[str],
        shape: tuple[int, int, int],
        overlap: int,
        seed: int,
        given: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        self.engine, self.begins, self.cues = engine, begins, cues
        self.shape, self.overlap, self.seed, self.given = shape, overlap, seed, given
        self.made, self.number = 0, 0  # frames and windows so far
        self._latents = self._frames = torch.empty(0)

    @property
    def has_past(self) -> bool:
        return self._latents.numel() > 0

    @property
    def reach(self) -> int:
        """Frames at the end of a clip that is gone on from that are seen, or that the decoder has to have seen."""
        return (self.overlap + 1) * self.engine.time_factor + 1

    def go_on_from(self, tail: Tensor) -> Tensor:
        """tail: at most `reach` frames. A clip that is shorter stood still before. Returns its last
        frame (H, W, 3) as the decoder gives it."""
        tail = torch.cat([tail[:1].expand(self.reach - len(tail), *tail.shape[1:]), tail])
        latents = self.engine.encode(tail)
        seen = self.engine.decode(latents)  # the decoder has seen it, too
        self._latents, self._frames = latents[:, :, -self.overlap :], tail[self.engine.time_factor :]
        return seen[-1]

    @property
    def seen(self) -> int:
        """Latent frames of the next window that are known."""
        return self.overlap + 1 if self.has_past else 0

    @property
    def size(self) -> tuple[int, int, int]:
        """Latents (T, H, W) of the next window: at the end of a clip that is given, no more than there are."""
        if self.given is None:
            return self.shape
        left = self.given[0].shape[2] - self._begin
        return min(self.shape[0], self.seen + left), *self.shape[1:]

    @property
    def _begin(self) -> int:
        """The first new latent frame of the next window, in the clip."""
        return 0 if not self.made else (self.made - 1) // self.engine.time_factor + 1

    def texts(self) -> list[tuple[str, Tensor]]:
        """Of the next window, as in `Task`. What is only seen goes with the first new latent: its text is of no effect
        there, and one text less is to be run."""
        factor = self.engine.time_factor
        first = self.made if self.has_past else 1 - factor  # a clip's first latent has only the last of its frames
        middles = [max(0, first + i * factor + factor // 2) for i in range(self.size[0] - self.seen)]
        shown = [self.cues[max(0, bisect_right(self.begins, middle) - 1)] for middle in middles]
        shown = shown[:1] * self.seen + shown
        return [(text, torch.tensor([float(one == text) for one in shown])) for text in dict.fromkeys(shown)]

    def _given_here(self) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Latents and strengths that are given where the next window lies."""
        if self.given is None:
            return None, None
        at = torch.arange(self.size[0]) + self._begin - self.seen
        known, strength = (part[:, :, at.clamp(min=0)].clone() for part in self.given)
        return known, strength

    @property
    def from_noise(self) -> bool:
        """Whether all that the next window adds is made from noise."""
        strength = self._given_here()[1]
        return strength is None or bool((self.new_of(strength) == 1).all())

    def next(self) -> Task:
        task = Task(self.number, self.size, (self.seed + self.number) % 2**63, self.texts())
        known, strength = self._given_here()
        if not self.has_past:
            return replace(task, known=known, strength=strength)
        first = self.engine.encode(self._frames[:1])
        if known is None or strength is None:
            known, strength = first.new_zeros(1, first.shape[1], *self.size), torch.ones(1, 1, *self.size)
        known[:, :, :1], known[:, :, 1 : self.overlap + 1] = first, self._latents
        strength[:, :, : self.seen] = 0
        return replace(task, known=known, strength=strength)

    def new_of(self, latents: Tensor) -> Tensor:
        """What a sampled window adds."""
        return latents[:, :, self.seen :]

    def finished(self, new: Tensor, frames: Tensor) -> None:
        reach = self.overlap * self.engine.time_factor + 1
        past = self.has_past
        self._frames = (torch.cat([self._frames, frames]) if past else frames)[-reach:].clone()
        self._latents = (torch.cat([self._latents, new], dim=2) if past else new)[:, :, -self.overlap :].clone()
        self.made, self.number = self.made + len(frames), self.number + 1


def _windows(engine: Engine, tasks: _Tasks, frames: int, correct: float, store: Store | None) -> Iterator[Window]:
    references: dict[str, Tensor] = {}  # statistics of the first window that a text had to itself
    shown = 0
    while shown < frames:
        text, *further = (text for text, _ in tasks.texts())
        alone = not further and tasks.from_noise
        made = store.load(tasks.number) if store is not None else None
        if made is None:
            made = Made(tasks.new_of(engine.sample(tasks.next())))
            if alone and text in references:
                made = _corrected(made.latents, references[text], correct)
            if store is not None:
                store.save(tasks.number, made)
        if alone:
            references.setdefault(text, _statistics(made.latents))
        part = engine.decode(made.latents)
        tasks.finished(made.latents, part)
        yield Window(part[: frames - shown], made.drift, made.corrected)
        shown += len(part)


def _statistics(latents: Tensor) -> Tensor:
    """Means and deviations (2, C) of the channels of (1, C, T, H, W)."""
    return torch.stack([latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))])


def _distance(latents: Tensor, reference: Tensor) -> float:
    return round(float((_statistics(latents) - reference).abs().mean()), 4)


def _corrected(latents: Tensor, reference: Tensor, share: float) -> Made:
    """Latents whose statistics have moved towards the reference by a share of the way."""
    mean, deviation = (row.view(1, -1, 1, 1, 1) for row in _statistics(latents))
    target_mean, target_deviation = (row.view(1, -1, 1, 1, 1) for row in reference)
    matched = (latents - mean) / deviation.clamp(min=1e-6) * target_deviation + target_mean
    led = torch.lerp(latents, matched, share)
    return Made(led, _distance(latents, reference), _distance(led, reference))
