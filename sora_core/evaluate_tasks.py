"""Scores of the tasks on the procedural world: do seams hold, does motion go on, does an edit change what it should?

Every clip is a scene that the world draws; what the model adds is read back from its pixels (`world.score`, `report`).
Clips have 17 frames of the model's own size, of which 9 are given and 8 made, but for transitions and loops (9, 8 made,
and the other end), edits (all 17), and long ones.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from .cues import Cue
from .engine import PipelineEngine
from .evaluate import draw_scene, summarise
from .long import make_long
from .pipeline import Pipeline
from .report import report
from .tasks import edit, extend, interpolate, loop, strengths
from .timeline import Timeline
from .world import COLOURS, SHAPES, STYLES, Scene, analyse, canonical, follow, is_visible, one_thing, render, scene_of

GIVEN, MADE = 9, 8  # frames
MIDDLE = 5  # first frame of what is made anew in the middle of a clip
NEAR = 0.25  # of the velocity before a seam: how far that behind it may be off
SINGLE = 0.85  # share of a frame that one thing explains: a decoded one's has 0.98, an even blend 0.71, in the median
FPS, MINUTE = 12, 720  # frames a second, and in a long clip
ON_TRACK = 0.1  # frame units: how far off the old track a thing may be that is on it
EDITS = (0.4, 0.5, 0.7, 0.8, 0.9, 0.95)  # strengths
CIRCLING, LASTING = "circles around", ("circles around", "stays still", "bounces")
TRAVELS = ("moves left", "moves right", "moves up", "moves down")

Values = dict[str, bool | float]


@dataclass(frozen=True)
class _Bench:
    """What the tasks need: a model, a size, a generator of scenes, and settings of `Pipeline.sample`."""

    pipeline: Pipeline
    width: int
    height: int
    rng: np.random.Generator
    settings: dict[str, Any]

    def scene(self, *motions: str) -> Scene:
        """A single thing, of any combination, with one of the motions, or of any motion."""
        while True:
            scene = draw_scene(self.rng, "single", "any", self.width / self.height)
            if not motions or scene.things[0].motion in motions:
                return scene

    def clip(self, scene: Scene) -> Tensor:
        """Frames (17, H, W, 3)."""
        return render(scene, GIVEN + MADE, self.height, self.width)

    def make(self, line: Timeline, prompt: str, seed: int, then: str | None = None) -> Tensor:
        return self.pipeline.make(line, prompt, then=then, seed=seed, **self.settings)


def _seam(frames: Tensor, at: int, new: slice) -> Values:
    """A seam beside the motion of what was made, as a share of the given frames' motion: a frozen clip has no seams."""
    total, (first, last, _) = len(frames), new.indices(len(frames))
    found = report(frames, seams=[at] if at < total else [], loop=at == total)
    given = [d for i, d in enumerate(found.differences) if not first - 1 <= i < last]
    made = found.differences[first : last - 1]
    return {"seam": found.seams[0].ratio, "motion": statistics.median(made) / max(statistics.median(given), 1e-4)}


def _goes_on(given: Tensor, made: Tensor) -> Values:
    """Whether velocity, colour and shape of what is given are those of what was made."""
    before, after = (_velocity(follow(frames)) for frames in (given, made))
    velocity = bool((after - before).norm() <= NEAR * before.norm())  # False where nothing was found
    colour, shape = (getattr(analyse(given), name) == getattr(analyse(made), name) for name in ("colour", "shape"))
    return {"velocity": velocity, "colour": colour, "velocity and colour": velocity and colour, "shape": shape}


def _velocity(track: Tensor) -> Tensor:
    """Slope (x, y) per frame of a track (T, 2), NaN where it was seen less than twice."""
    seen = ~track.isnan().any(1)
    if seen.sum() < 2:
        return torch.full((2,), torch.nan)
    time = torch.arange(len(track))[seen].float()
    time = time - time.mean()
    return (time[:, None] * track[seen]).sum(0) / time.square().sum()


def _forward(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    scene = bench.scene(*TRAVELS)
    given = bench.clip(scene)[:GIVEN]
    out = bench.make(extend(given, after=MADE), canonical(scene), seed)
    kept = torch.equal(out[:GIVEN], given)
    return (
        canonical(scene), out,
        {"kept": kept} | _seam(out, GIVEN, slice(GIVEN, None)) | _goes_on(given, out[GIVEN:]),
    )  # fmt: skip


def _backward(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    scene = bench.scene(*TRAVELS)
    given = bench.clip(scene)[MADE:]
    out = bench.make(extend(given, before=MADE), canonical(scene), seed)
    return canonical(scene), out, _before(out, given)


def _before(out: Tensor, given: Tensor) -> Values:
    kept = torch.equal(out[MADE:], given)
    return {"kept": kept} | _seam(out, MADE, slice(0, MADE)) | _goes_on(given, out[:MADE])


def _backward_naive(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    """What handling the causal phase is worth: the given frames encoded as a clip of their own, whose first latent
    holds one frame, at the end of the canvas."""
    scene, pipeline = bench.scene(*TRAVELS), bench.pipeline
    given = bench.clip(scene)[MADE:]
    end = pipeline.encode(given)
    begin = MADE // 4
    known = end.new_zeros(*end.shape[:2], begin + end.shape[2], *end.shape[3:])
    known[:, :, begin:] = end
    strength = torch.ones(1, 1, *known.shape[2:])
    strength[:, :, begin:] = 0
    latents = pipeline.sample(
        [canonical(scene)], tuple(known.shape[2:]), seeds=[seed], known=known, strength=strength, **bench.settings
    )
    out = torch.cat([pipeline.decode(latents)[:MADE], given])
    return canonical(scene), out, _before(out, given)


def _loop(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    scene = bench.scene(CIRCLING)
    given = bench.clip(scene)[:GIVEN]  # half a round
    out = bench.make(loop(given, MADE), canonical(scene), seed)
    new = slice(GIVEN, None)
    seams = {"out of the clip": GIVEN, "into the clip": GIVEN + MADE}
    values = [{f"{key} {name}": value for key, value in _seam(out, at, new).items()} for name, at in seams.items()]
    motion = values[0].pop("motion out of the clip")
    values[1].pop("motion into the clip")
    return (
        canonical(scene), out,
        {"kept": torch.equal(out[:GIVEN], given), "motion": motion} | values[0] | values[1]
        | {"colour": analyse(given).colour == analyse(out[new]).colour},
    )  # fmt: skip


def _transition(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    first = bench.scene()
    second = bench.scene()
    second = replace(second, background=first.background)
    while not is_visible(second.things[0].colour, second.background) or _alike(first, second):
        second = replace(bench.scene(), background=first.background)
    a, b = bench.clip(first)[:GIVEN], bench.clip(second)[MADE:]
    out = bench.make(interpolate(a, b, MADE), canonical(first), seed, then=canonical(second))
    new = slice(GIVEN, GIVEN + MADE)
    begin, end = (_seam(out, at, new) for at in (GIVEN, GIVEN + MADE))
    middle = out[GIVEN + 2 : GIVEN + MADE - 2]
    blend = torch.stack([torch.lerp(a[-1], b[0], (i + 1) / (MADE + 1)) for i in range(2, MADE - 2)])
    return (
        f"{canonical(first)} -> {canonical(second)}", out,
        {
            "kept": torch.equal(out[:GIVEN], a) and torch.equal(out[GIVEN + MADE :], b),
            "seam behind a": begin["seam"], "seam before b": end["seam"], "motion": begin["motion"],
            "one thing": all(one_thing(frame) >= SINGLE for frame in middle),
            "one thing, were it a crossfade": all(one_thing(frame) >= SINGLE for frame in blend),
        },
    )  # fmt: skip


def _alike(one: Scene, other: Scene) -> bool:
    (a,), (b,) = one.things, other.things
    return (a.shape, a.colour) == (b.shape, b.colour)


def _reroll(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    """The middle of a clip made anew, the rest of it given."""
    scene = bench.scene(*TRAVELS)
    source, new = bench.clip(scene), slice(MIDDLE, MIDDLE + MADE)
    wanted = strengths(source, 1, first=new.start, last=new.stop - 1)
    out = bench.make(edit(source, wanted), canonical(scene), seed)
    kept = torch.cat([out[: new.start], out[new.stop :]])
    into, back = (_seam(out, at, new) for at in (new.start, new.stop))
    return (
        canonical(scene), out,
        {
            "kept": torch.equal(kept, torch.cat([source[: new.start], source[new.stop :]])),
            "seam into it": into["seam"], "seam out of it": back["seam"], "motion": into["motion"],
        }
        | _goes_on(source[: new.start], out[new]),
    )  # fmt: skip


def _recolour(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    """One clip and one new colour at several strengths; shown at the one before the last."""
    scene = bench.scene(*TRAVELS)
    thing = scene.things[0]
    others = [c for c in COLOURS if c != thing.colour and is_visible(c, scene.background)]
    colour = others[bench.rng.integers(len(others))]
    prompt = canonical(replace(scene, things=(replace(thing, colour=colour),)))
    source = bench.clip(scene)
    values: Values = {"kept at 0": torch.equal(bench.make(edit(source, 0.0), prompt, seed), source)}
    outs, changes = [], [0.0]
    for strength in EDITS:
        out = bench.make(edit(source, strength), prompt, seed)
        outs.append(out)
        changes.append(float((out - source).abs().mean()))
        changed = analyse(out).colour == colour
        values[f"colour at {strength}"] = changed
        values[f"colour and way at {strength}"] = changed and _same_way(source, out)
        values[f"colour and track at {strength}"] = changed and _same_track(source, out)
    again = scene_of(
        thing.shape, thing.colour, thing.motion, scene.background, size=thing.size, speed=thing.speed, rng=bench.rng,
        aspect=bench.width / bench.height,
    )  # fmt: skip
    values["track of another clip of these words"] = _same_track(source, bench.clip(again))
    values["monotonic"] = all(less < more for less, more in pairwise(changes))
    return f"{thing.colour} -> {prompt}", outs[-2], values


def _restyle(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    """One plain clip under a prompt that names another style; shown at the strength before the last."""
    scene = bench.scene(*TRAVELS)
    style = STYLES[1:][bench.rng.integers(len(STYLES) - 1)]
    while not is_visible(scene.things[0].colour, scene.background, style):
        scene, style = bench.scene(*TRAVELS), STYLES[1:][bench.rng.integers(len(STYLES) - 1)]
    prompt = canonical(replace(scene, style=style))
    source, wanted = bench.clip(scene), (style, scene.things[0].shape, scene.things[0].colour)
    outs = [bench.make(edit(source, strength), prompt, seed) for strength in EDITS]
    found = [_look(out, scene) for out in outs]
    values: Values = {}
    for strength, look in zip(EDITS, found, strict=True):
        values[f"style at {strength}"] = look[:1] == wanted[:1]
        values[f"style, shape, colour and track at {strength}"] = look == wanted
    return prompt, outs[-2], values


def _look(frames: Tensor, scene: Scene) -> tuple[str, ...]:
    """Style, shape and colour of the rendering along the scene's own track that is nearest to a clip; nothing where
    the empty background is nearer."""
    some = F.interpolate(frames[::4].movedim(-1, 1), (64, 64), mode="area").movedim(1, -1)
    thing = scene.things[0]

    def best(candidates: list[Scene]) -> tuple[float, Scene]:
        drawn = ((one, render(one, len(frames), *frames.shape[1:3])[::4]) for one in candidates)
        small = ((one, F.interpolate(d.movedim(-1, 1), (64, 64), mode="area").movedim(1, -1)) for one, d in drawn)
        return min(((float((some - d).square().mean()), one) for one, d in small), key=lambda pair: pair[0])

    shapes = [replace(thing, shape=shape) for shape in SHAPES]
    _, one = best([replace(scene, style=style, things=(other,)) for style in STYLES for other in shapes])
    coloured = [
        replace(one.things[0], colour=colour) for colour in COLOURS if is_visible(colour, scene.background, one.style)
    ]
    error, one = best([replace(one, things=(other,)) for other in coloured])
    if error >= best([replace(one, things=())])[0]:
        return ()
    return one.style, one.things[0].shape, one.things[0].colour


def _same_way(a: Tensor, b: Tensor, apart: float = math.inf) -> bool:
    """Whether the things of two clips go the same way: correlation above 0.9 along the larger motion. apart: and are no
    farther from each other, in the median."""
    one, other = follow(a), follow(b)
    seen = ~(one.isnan() | other.isnan()).any(1)
    if seen.sum() < len(a) // 2:
        return False
    one, other = one[seen], other[seen]
    axis = int((one.amax(0) - one.amin(0)).argmax())
    together = torch.corrcoef(torch.stack([one[:, axis], other[:, axis]]))[0, 1] > 0.9
    return bool(together and (one - other).norm(dim=1).median() <= apart)


def _same_track(a: Tensor, b: Tensor) -> bool:
    """The same way at the same place."""
    return _same_way(a, b, ON_TRACK)


def _windows(bench: _Bench, cues: list[Cue], frames: int, seed: int) -> Tensor:
    windows = make_long(
        PipelineEngine(bench.pipeline, **bench.settings), cues, frames, fps=FPS, width=bench.width, height=bench.height,
        seed=seed,
    )  # fmt: skip
    return torch.cat([window.frames for window in windows])


def _long(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    """A minute of one prompt: its last 15% against its first."""
    scene = bench.scene(*LASTING)
    thing = scene.things[0]
    out = _windows(bench, [Cue(0, canonical(scene))], MINUTE, seed)
    found = report(out)
    ends = [analyse(part) for part in (out[: len(out) * 15 // 100], out[-(len(out) * 15 // 100) :])]
    sizes = [end.radius for end in ends]
    return (
        canonical(scene), out[:: MINUTE // 16],
        {
            "colour drift": found.drift.colour, "size drift": abs(sizes[1] - sizes[0]) / max(*sizes, 1e-4),
            "motion drift": found.drift.motion, "still": found.still,
            "colour at the end": ends[1].colour == thing.colour, "shape at the end": ends[1].shape == thing.shape,
        },
    )  # fmt: skip


def _cued(bench: _Bench, seed: int) -> tuple[str, Tensor, Values]:
    """Ten seconds of three prompts: what is asked for, read in the second half of each span."""
    scenes = [bench.scene(*LASTING) for _ in range(3)]
    span = 10 * FPS // 3
    cues = [Cue(i * span / FPS, canonical(scene)) for i, scene in enumerate(scenes)]
    out = _windows(bench, cues, 10 * FPS, seed)
    found = [analyse(out[i * span + span // 2 : (i + 1) * span]) for i in range(3)]
    values: Values = {
        name: all(getattr(f, name) == getattr(scene.things[0], name) for f, scene in zip(found, scenes, strict=True))
        for name in ("colour", "shape")
    }
    values["background"] = all(f.background == scene.background for f, scene in zip(found, scenes, strict=True))
    return " | ".join(map(canonical, scenes)), out[:: len(out) // 16], values


TASKS: dict[str, Callable[[_Bench, int], tuple[str, Tensor, Values]]] = {
    "forward": _forward,
    "backward": _backward,
    "backward-naive": _backward_naive,
    "loop": _loop,
    "transition": _transition,
    "recolour": _recolour,
    "restyle": _restyle,
    "cued": _cued,
    "long": _long,
    "reroll": _reroll,
}


@torch.no_grad()
def evaluate_tasks(
    pipeline: Pipeline,
    *,
    clips: int = 40,
    tasks: tuple[str, ...] = tuple(TASKS),
    width: int | None = None,
    height: int | None = None,
    seed: int = 0,
    quiet: bool = False,
    on_clip: Callable[[str, str, Tensor, Values], None] | None = None,
    **settings: Any,
) -> dict[str, dict[str, Any]]:
    """Scores by task and measure: of what is right or wrong {right, total, share, low, high}, as in `evaluate`; of a
    ratio {median, p90}, the latter its 90th percentile.

    clips: of each task. settings: of `Pipeline.sample`. on_clip(task, prompt, frames, values): called for every clip.
    """
    if unknown := sorted(set(tasks) - set(TASKS)):
        raise ValueError(f"task {unknown[0]!r} is not known; use {', '.join(TASKS)}")
    if clips < 1:
        raise ValueError(f"clips is {clips}: it has to be at least 1")
    defaults = pipeline.model.defaults
    width, height = width or defaults.width, height or defaults.height
    defaults.check(width, height, GIVEN + MADE, pipeline.model.vae.config.time_factor)
    out: dict[str, dict[str, Any]] = {}
    for task in tasks:
        number = list(TASKS).index("forward" if task.startswith("backward") else task)  # extensions on the same clips
        bench = _Bench(pipeline, width, height, np.random.default_rng((seed, number)), settings)
        tally: dict[str, list[bool | float]] = defaultdict(list)
        for i in tqdm(range(clips), desc=task, disable=quiet):
            prompt, frames, values = TASKS[task](bench, seed + i)
            for name, value in values.items():
                tally[name].append(value)
            if on_clip is not None:
                on_clip(task, prompt, frames, values)
        out[task] = {name: _summary(values) for name, values in tally.items()}
    return out


def _summary(values: list[bool | float]) -> dict[str, float]:
    if isinstance(values[0], bool):
        return summarise([bool(value) for value in values])
    median, p90 = np.percentile(values, [50, 90]).round(3).tolist()
    return {"median": median, "p90": p90}


def table(scores: dict[str, dict[str, Any]]) -> str:
    """The scores as lines of text."""
    lines = []
    for task, measures in scores.items():
        for measure, s in measures.items():
            shown = (
                f"{s['right']:>5} of {s['total']:<4} {s['share']:>6.1%}   {s['low']:.1%} to {s['high']:.1%}"
                if "share" in s
                else f"median {s['median']:.2f}, 90th percentile {s['p90']:.2f}"
            )
            lines.append(f"{task + ': ' + measure:48}{shown}")
    return "\n".join(lines)
