"""Scores of a model on the procedural world: does the clip show what the prompt asked for?

Clips are made from prompts of scenes drawn at random, half of combinations that training never showed, and read back by
an analysis of pixels that knows only the world's tables (`world.score`).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from tqdm.auto import tqdm

from .pipeline import Pipeline, frames_to_video, psnr, video_to_frames
from .video import read_video
from .world import (
    BACKGROUNDS,
    MOTIONS,
    SHAPES,
    SIZES,
    SPEEDS,
    STYLES,
    Scene,
    held_out_combination,
    render,
    sample_scene,
)
from .world.captions import canonical, paraphrase
from .world.scene import DIRECTIONS
from .world.score import analyse_two, analyse_wall, score

KINDS = ("single", "paraphrase", "two", "wall")
BY_WORD = KINDS[:2]
WALL_FRAMES = 9  # least in which something is seen on both sides


def interval(right: int, total: int) -> tuple[float, float]:
    """95% confidence interval of a proportion (Wilson)."""
    if total == 0:
        return 0.0, 1.0
    z, p = 1.96, right / total
    middle = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total)) / (1 + z * z / total)
    return middle - half, middle + half


def draw_scene(rng: np.random.Generator, kind: str, split: str, aspect: float) -> Scene:
    """A scene of one kind in plain style on a plain background. split: "train" (of combinations that training shows),
    "held_out" (one thing at least is of another) or "any"."""
    things, wall = (2 if kind == "two" else 1), kind == "wall"
    while True:
        scene = sample_scene(rng, aspect, split=split if things == 1 and not wall else "any")
        held_out = any(held_out_combination(t.shape, t.colour, t.motion) for t in scene.things)
        if (
            split in ("any", "held_out" if held_out else "train")
            and scene.style == "plain"
            and scene.background in BACKGROUNDS
            and scene.wall == wall
            and len(scene.things) == things
        ):
            return scene


Tally = dict[str, dict[str, list[bool]]]  # by split or word, then by attribute


def _by_word() -> Tally:
    return {word: defaultdict(list) for word in (*MOTIONS, *SHAPES, *SIZES, *SPEEDS)}


def _summarised(tally: Tally) -> dict[str, dict[str, dict[str, float]]]:
    return {name: {k: summarise(v) for k, v in attributes.items()} for name, attributes in tally.items() if attributes}


def _words_of(scene: Scene, frames: int) -> list[tuple[str, str]]:
    """Words of the scene by which its prompt is told apart, each with what is counted there."""
    thing = scene.things[0]
    found = [(thing.motion, "shape"), (thing.shape, "shape"), (thing.size, "size")]
    if frames > 1:
        found.append((thing.motion, "motion"))
        if thing.motion in DIRECTIONS:
            found.append((thing.speed, "speed"))
    return found


def judge(frames: Tensor, scene: Scene, kind: str) -> dict[str, bool]:
    """What of the scene the clip shows."""
    thing = scene.things[0]
    if kind == "two":
        found = sorted((f.colour or "", f.shape or "", f.motion or "") for f in analyse_two(frames))
        wanted = sorted((t.colour, t.shape, t.motion) for t in scene.things)
        still = [(c, s, "") for c, s, _ in wanted]
        return {"both": found == (wanted if len(frames) > 1 else still)}
    if kind == "wall":
        seen = analyse_wall(frames)
        return {
            "same": seen.same,
            "as asked": seen.same
            and (seen.left.colour, seen.left.shape, seen.motion) == (thing.colour, thing.shape, thing.motion)
            and seen.left.background == scene.background,
        }
    speed = thing.speed if thing.motion in DIRECTIONS else None
    return score(frames, thing.colour, thing.shape, thing.motion, scene.background, thing.size, speed)


def vae_psnr(
    pipeline: Pipeline, footage: Sequence[Path | str] = (), clips: int = 12, side: int = 192, seed: int = 0
) -> dict[str, float]:
    """Mean PSNR in dB after encoding and decoding: of `clips` held-out procedural clips of every style, 17 frames of
    side x side, and of the first 17 frames of every video file in `footage`, cut to whole patches, by its path."""

    def measure(frames: Tensor) -> float:
        video = frames_to_video(frames)
        return psnr(video, pipeline.model.vae.decode(pipeline.model.vae.encode(video)))

    rng, multiple = np.random.default_rng((seed, 1)), pipeline.model.vae.config.space_factor
    videos = {str(path): read_video(path, max_frames=17).frames for path in footage}  # first: it may not be there
    found: dict[str, list[float]] = {style: [] for style in STYLES}
    while min(map(len, found.values())) < clips:
        scene = sample_scene(rng, split="held_out")
        if len(found[scene.style]) < clips:
            found[scene.style].append(measure(render(scene, 17, side, side)))
    for name, frames in videos.items():
        height, width = (n // multiple * multiple for n in frames.shape[1:3])
        found[name] = [measure(frames[: (len(frames) - 1) // 4 * 4 + 1, :height, :width])]
    return {name: round(float(np.mean(values)), 2) for name, values in found.items()}


def through_vae(
    pipeline: Pipeline, *, clips: int = 96, width: int | None = None, height: int | None = None, seed: int = 0
) -> dict[str, Any]:
    """Scores, as of `evaluate`, of true clips that were only encoded and decoded: hardly a transformer gets beyond
    these. width, height: pixels (default: the model's own)."""
    defaults, vae = pipeline.model.defaults, pipeline.model.vae
    width, height = width or defaults.width, height or defaults.height
    rng = np.random.default_rng((seed, 2))
    found: Tally = {"any": defaultdict(list), **_by_word()}
    for _ in range(clips):
        scene = draw_scene(rng, "single", "any", width / height)
        video = frames_to_video(render(scene, defaults.frames, height, width))
        verdict = judge(video_to_frames(vae.decode(vae.encode(video))), scene, "single")
        for attribute, right in verdict.items():
            found["any"][attribute].append(right)
        for word, attribute in _words_of(scene, defaults.frames):
            found[word][attribute].append(verdict[attribute])
    return {"through the VAE": _summarised(found)}


def clips_of(
    pipeline: Pipeline, cases: list[tuple[str, int]], shape: tuple[int, int, int], batch: int, **settings: Any
) -> Iterator[Tensor]:
    """Frames of each (prompt, seed) in turn, sampled `batch` at a time; of prompts that all name two things, each in
    its half, as the command line and Sora Text Encode do."""
    height, width = (side * pipeline.model.vae.config.space_factor for side in shape[1:])
    for begin in range(0, len(cases), batch):
        prompts, seeds = zip(*cases[begin : begin + batch], strict=True)
        parts = [pipeline.parts(prompt, width, height) for prompt in prompts]
        sides = zip(*parts, strict=True) if all(parts) else ()
        regions = [([text for text, _ in side], side[0][1]) for side in sides]
        for latents in pipeline.sample(list(prompts), shape, seeds=list(seeds), regions=regions, **settings):
            yield pipeline.decode(latents[None])


def evaluate(
    pipeline: Pipeline,
    *,
    clips: int = 240,
    kinds: tuple[str, ...] = ("single",),
    width: int | None = None,
    height: int | None = None,
    frames: int | None = None,
    seed: int = 0,
    batch: int = 4,
    quiet: bool = False,
    on_clip: Callable[[str, Tensor, dict[str, bool]], None] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Scores by kind and split: {kind: {split: {attribute: {right, total, share, low, high}}}}. Beside the splits stand
    the words for motion, shape, size and speed, by which prompts of one thing are told apart once more.

    clips: of each kind; half of them are held out. settings: of `Pipeline.sample`.
    on_clip(prompt, frames, verdict): called for every clip.
    """
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise ValueError(f"kind {unknown[0]!r} is not known; use {', '.join(KINDS)}")
    for name, value, least in (("clips", clips, 2), ("batch", batch, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}: it has to be at least {least}")
    config = pipeline.model.defaults
    width = config.width if width is None else width
    height = config.height if height is None else height
    frames = config.frames if frames is None else frames
    config.check(width, height, frames, pipeline.model.vae.config.time_factor)
    if "wall" in kinds and frames < WALL_FRAMES:
        raise ValueError(f"{frames} frames: what passes behind a wall is seen in {WALL_FRAMES} or more")
    shape = pipeline.model.vae.latent_shape(frames, height, width)
    out: dict[str, Any] = {}
    for kind in kinds:
        rng = np.random.default_rng((seed, KINDS.index(kind)))
        scenes = [
            (split, draw_scene(rng, kind, split, width / height))
            for split, count in (("train", clips - clips // 2), ("held_out", clips // 2))
            for _ in range(count)
        ]
        prompts = [paraphrase(s, rng) if kind == "paraphrase" else canonical(s) for _, s in scenes]
        tally: Tally = defaultdict(lambda: defaultdict(list))
        words = _by_word()
        made = clips_of(pipeline, [(p, seed + i) for i, p in enumerate(prompts)], shape, batch, **settings)
        bar = tqdm(zip(scenes, prompts, made, strict=True), total=len(scenes), desc=kind, disable=quiet)
        for (split, scene), prompt, clip in bar:
            verdict = judge(clip, scene, kind)
            for attribute, right in verdict.items():
                tally["seen" if split == "train" else split.replace("_", " ")][attribute].append(right)
            for word, attribute in _words_of(scene, frames) if kind in BY_WORD else ():
                words[word][attribute].append(verdict[attribute])
            if on_clip is not None:
                on_clip(prompt, clip, verdict)
        out[kind] = _summarised(tally | words)
    return out


def summarise(values: list[bool]) -> dict[str, float]:
    """Counts of what is right, and its share with a 95% interval."""
    low, high = interval(sum(values), len(values))
    return {
        "right": sum(values),
        "total": len(values),
        "share": round(sum(values) / len(values), 4),
        "low": round(low, 4),
        "high": round(high, 4),
    }


def table(scores: dict[str, Any]) -> str:
    """The scores as lines of text."""
    lines = [f"{'':24}{'right':>8}{'of':>6}{'share':>9}   95% interval"]
    for kind, splits in scores.items():
        for split, attributes in splits.items():
            for attribute, s in attributes.items():
                name = f"{kind}, {split}: {attribute}"
                lines.append(
                    f"{name:32}{s['right']:>5}{s['total']:>6}{s['share']:>8.1%}   {s['low']:.1%} to {s['high']:.1%}"
                )
    return "\n".join(lines)
