"""What a clip of the procedural world contains: tables, things, scenes and how they are drawn at random.

No pixels here (see `render`). Lengths are in frame units: the shorter side of the frame spans [-1, 1], the longer
side proportionally more, x points right and y down. Time is u in [0, 1] over the whole clip, so a scene does not
depend on the number of frames or the size in pixels; only its placement is chosen for an aspect ratio.
"""

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

RGB = tuple[float, float, float]

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
COLOURS: dict[str, RGB] = {
    "red": (0.90, 0.15, 0.15),
    "green": (0.15, 0.70, 0.20),
    "blue": (0.15, 0.30, 0.95),
    "yellow": (0.95, 0.85, 0.10),
    "purple": (0.60, 0.20, 0.80),
    "orange": (1.00, 0.55, 0.05),
    "white": (0.97, 0.97, 0.97),
    "black": (0.05, 0.05, 0.05),
}
BACKGROUNDS: dict[str, RGB] = {
    "gray": (0.50, 0.50, 0.50),
    "sky": (0.55, 0.80, 0.95),
    "sand": (0.90, 0.80, 0.60),
    "night": (0.08, 0.08, 0.20),
    "pink": (0.95, 0.70, 0.80),
    "mint": (0.70, 0.95, 0.80),
}
SCENES: dict[str, tuple[RGB, RGB]] = {  # above the horizon, below it
    "meadow": (BACKGROUNDS["sky"], (0.38, 0.66, 0.34)),
    "sea": (BACKGROUNDS["sky"], (0.12, 0.46, 0.66)),
}
HORIZONS = {"meadow": 0.45, "sea": 0.30}
MOTIONS = (
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "bounces",
    "spins",
    "grows",
    "shrinks",
    "circles around",
    "stays still",
)
STYLES = ("plain", "outline", "neon", "pixel")
SIZES = {"small": 0.20, "medium": 0.30, "large": 0.42}  # radius of the bounding circle
TRAVEL = 0.9  # way of a thing that moves, over a whole clip
SPEEDS = {"slowly": 0.5, "normal": 1.0, "quickly": 1.5}  # factor of a travel
SPIN = {"slowly": 155, "normal": 220, "quickly": 330}  # degrees that a thing turns over a whole clip, upright at first

WALL_COLOUR: RGB = (0.25, 0.25, 0.25)
WALL_HALF_WIDTH = 0.2
FLOOR = 0.8  # where a bouncing thing's lowest point lands
REBOUND = 0.8
MIN_CONTRAST = 0.25  # least RGB distance of a thing from its background
TURN = (0.25, 0.8)  # times between which one thing turns into another

DIRECTIONS = {"moves left": (-1, 0), "moves right": (1, 0), "moves up": (0, -1), "moves down": (0, 1)}
WITH_SPEED = (*DIRECTIONS, "spins")  # motions that take "slowly" and "quickly"
SPINNABLE = tuple(s for s in SHAPES if s not in ("circle", "ring"))

VERSION = 2  # of the world: another one draws other scenes from the same seed
SPLITS = ("train", "plain", "spinning", "pairs", "turning", "styled", "recoloured", "held_out", "any")

_ALL_BACKGROUNDS = (*BACKGROUNDS, *SCENES)
_STYLE_WEIGHTS = (0.64, 0.12, 0.12, 0.12)
_SIZE_WEIGHTS = (0.25, 0.50, 0.25)
_SPEED_WEIGHTS = (0.15, 0.70, 0.15)


@dataclass(frozen=True)
class Thing:
    """One object and every number needed to draw it.

    x, y: centre at u = 0.5 (moves), resting centre (others), or where the fall starts (bounces).
    radius: of the bounding circle at u = 0.5. amount: travel (moves), duration of the first fall in u (bounces),
    ratio of the radii (grows, shrinks) or radius of the orbit (circles around).
    turn, phase: total and initial angle in radians, clockwise on screen (spins, which begin upright, circles around).
    floor: y of the ground (bounces).
    """

    shape: str
    colour: str
    motion: str
    size: str = "medium"
    speed: str = "normal"
    x: float = 0.0
    y: float = 0.0
    radius: float = 0.3
    amount: float = 0.0
    turn: float = 0.0
    phase: float = 0.0
    floor: float = FLOOR


@dataclass(frozen=True)
class Scene:
    """A clip's content. `layout` is "single", "beside" (left thing first) or "stacked" (upper thing first). `then`:
    what a single plain thing on a plain background turns into, another such scene."""

    things: tuple[Thing, ...]
    background: str
    style: str = "plain"
    wall: bool = False
    layout: str = "single"
    then: "Scene | None" = None

    def to_dict(self) -> dict:
        """Plain, JSON-ready dict; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict) -> "Scene":
        then = data.get("then")
        things = tuple(Thing(**thing) for thing in data["things"])
        return cls(**{**data, "things": things, "then": None if then is None else cls.from_dict(then)})


@dataclass(frozen=True)
class _Box:
    """Part of the frame a thing lives in, and how much radii and travels shrink to fit it."""

    x: float
    y: float
    half_width: float
    half_height: float
    radius_scale: float = 1.0
    travel_scale: float = 1.0


def extents(aspect: float) -> tuple[float, float]:
    """Half width and half height of a frame of aspect ratio width / height, the shorter being 1."""
    return max(aspect, 1.0), max(1.0 / aspect, 1.0)


def clip_times(num_frames: int) -> np.ndarray:
    """Times u of the frames, (T,) float32; a single frame shows the middle moment, u = 0.5."""
    if num_frames < 1:
        raise ValueError(f"num_frames must be at least 1, got {num_frames}")
    return np.linspace(0, 1, num_frames, dtype=np.float32) if num_frames > 1 else np.full(1, 0.5, np.float32)


def trajectory(thing: Thing, u: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Centre x, centre y, radius and clockwise angle (radians) at times u, each (T,) float32."""
    one = np.ones_like(u, dtype=np.float32)
    x, y, radius, angle = thing.x * one, thing.y * one, thing.radius * one, 0 * one
    if thing.motion in DIRECTIONS:
        dx, dy = DIRECTIONS[thing.motion]
        x, y = x + dx * thing.amount * (u - 0.5), y + dy * thing.amount * (u - 0.5)
    elif thing.motion == "bounces":
        y = thing.floor - thing.radius - _bounce_height(thing, u)
    elif thing.motion == "spins":
        angle = thing.phase + thing.turn * u
    elif thing.motion == "grows":
        radius = radius * thing.amount ** (u - 0.5)
    elif thing.motion == "shrinks":
        radius = radius * thing.amount ** (0.5 - u)
    elif thing.motion == "circles around":
        orbit = thing.phase + thing.turn * u
        x, y = x + thing.amount * np.cos(orbit), y + thing.amount * np.sin(orbit)
    return x, y, radius, angle


def turned(u: np.ndarray) -> np.ndarray:
    """How far a scene has turned into another at times u, (T,) float32 from 0 to 1."""
    share = np.clip((u - TURN[0]) / (TURN[1] - TURN[0]), 0, 1)
    return (share * share * (3 - 2 * share)).astype(np.float32)


def trajectories(scene: Scene, u: np.ndarray) -> list[tuple[np.ndarray, ...]]:
    """The trajectory of every thing; where the scene turns into another, of the one thing that turns."""
    ways = [trajectory(thing, u) for thing in scene.things]
    if scene.then is None:
        return ways
    pairs = zip(ways[0], trajectory(scene.then.things[0], u), strict=True)
    return [tuple(one + turned(u) * (other - one) for one, other in pairs)]


def _bounce_height(thing: Thing, u: np.ndarray) -> np.ndarray:
    """Height above the floor of a ball dropped at u = 0 that lands at u = thing.amount and rebounds."""
    drop = thing.floor - thing.radius - thing.y
    gravity = 2 * drop / thing.amount**2
    height = drop - 0.5 * gravity * u**2
    landing, speed = thing.amount, REBOUND * gravity * thing.amount
    while landing < 1:
        since = u - landing
        height = np.where(since > 0, speed * since - 0.5 * gravity * since**2, height)
        landing, speed = landing + 2 * speed / gravity, speed * REBOUND
    return np.maximum(height, 0)


def held_out_combination(shape: str, colour: str, motion: str) -> bool:
    """Whether training never shows this combination."""
    index = 7 * list(COLOURS).index(colour) + 5 * SHAPES.index(shape) + 3 * MOTIONS.index(motion)
    return index % 10 == 0


def is_visible(colour: str, background: str, style: str = "plain") -> bool:
    """Whether a colour stands out from a background (for neon, from the darkened background too)."""
    fields = SCENES.get(background) or (BACKGROUNDS[background],)
    rgb = COLOURS[colour]
    if style == "neon" and min(math.dist(rgb, [c / 4 for c in field]) for field in fields) < 2 * MIN_CONTRAST:
        return False
    return min(math.dist(rgb, field) for field in fields) >= MIN_CONTRAST


def scene_of(
    shape: str,
    colour: str,
    motion: str,
    background: str,
    style: str = "plain",
    size: str = "medium",
    speed: str = "normal",
    wall: bool = False,
    *,
    rng: np.random.Generator,
    aspect: float = 1.0,
) -> Scene:
    """A scene of one object with chosen attributes; the remaining numbers come from `rng`.

    Raises ValueError for an attribute outside the tables or a combination the world does not contain.
    """
    check_words(shape, colour, motion, background, style, size, speed, wall)
    half_width, half_height = extents(aspect)
    place = _place_behind_wall if wall else _place
    thing = place(Thing(shape, colour, motion, size, speed), _Box(0, 0, half_width, half_height), rng)
    return Scene((thing,), background, style, wall)


def sample_scene(rng: np.random.Generator, aspect: float = 1.0, split: str = "train") -> Scene:
    """Draw a scene for frames of aspect ratio width / height.

    split: "train" (70% one object, 20% two, 10% behind the wall, never a held-out combination), "plain" (of these, one
    object in the plain style on a plain background: where training begins), "pairs" (likewise, but two objects, or one
    behind the wall in a third of them), "spinning" (plain ones that spin), "turning" (a plain one that turns into
    another: for transitions), "styled" (one object in another style than plain, on any background), "recoloured" (as
    "plain"; both are edits of what `source_of` says), "any" (also held-out combinations) or "held_out" (one object of a
    held-out combination).
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; got {split!r}")
    if split == "turning":
        return _sample_turning(rng, aspect)
    if split == "spinning":
        while (scene := sample_scene(rng, aspect, "plain")).things[0].motion != "spins":
            pass
        return scene
    if split == "styled":
        while (scene := sample_scene(rng, aspect)).style == "plain" or len(scene.things) > 1 or scene.wall:
            pass
        return scene
    kind = 0.0 if split in ("plain", "recoloured", "held_out") else rng.uniform(0.7 if split == "pairs" else 0.0, 1.0)
    plain = split in ("plain", "recoloured", "pairs")
    background = _pick(rng, tuple(BACKGROUNDS) if plain else _ALL_BACKGROUNDS)
    style = "plain" if plain else _pick(rng, STYLES, _STYLE_WEIGHTS)
    if 0.7 <= kind < 0.9:
        return _sample_two(rng, aspect, split, background, style)
    half_width, half_height = extents(aspect)
    wall = kind >= 0.9
    thing = _sample_attributes(rng, split, background, style, wall=wall)
    thing = (_place_behind_wall if wall else _place)(thing, _Box(0, 0, half_width, half_height), rng)
    return Scene((thing,), background, style, wall)


def source_of(scene: Scene, split: str, rng: np.random.Generator) -> Scene | None:
    """What a scene of this split is an edit of: a "styled" one of the same in plain style, a "recoloured" one of the
    same in another colour, drawn at random; others of nothing."""
    if split == "styled":
        return replace(scene, style="plain")
    if split != "recoloured":
        return None
    thing = scene.things[0]
    others = [replace(thing, colour=colour) for colour in COLOURS if colour != thing.colour]
    others = [other for other in others if is_visible(other.colour, scene.background) and not _held_out(other)]
    return replace(scene, things=(_pick(rng, tuple(others)),))


def _sample_turning(rng: np.random.Generator, aspect: float) -> Scene:
    """Half of the time the thing stays what it is and only goes elsewhere; mostly the background stays."""
    first, then = (sample_scene(rng, aspect, "plain") for _ in range(2))
    same_thing, same_background = rng.random() < 0.5, rng.random() < 0.7
    while True:
        thing = then.things[0]
        if same_thing:
            look = first.things[0]
            thing = replace(thing, shape=look.shape, colour=look.colour, size=look.size)
            thing = _place(thing, _Box(0, 0, *extents(aspect)), rng)
        background = first.background if same_background else then.background
        spins = thing.motion != "spins" or thing.shape in SPINNABLE
        visible = is_visible(thing.colour, background) and _stays_visible(first, thing.colour, background)
        if spins and visible and not _held_out(thing):
            return replace(first, then=replace(then, things=(thing,), background=background))
        then = sample_scene(rng, aspect, "plain")


def _stays_visible(first: Scene, colour: str, background: str) -> bool:
    """Whether a thing is never of its background's colour while both turn from a scene's into others."""
    before = np.subtract(COLOURS[first.things[0].colour], BACKGROUNDS[first.background])
    after = np.subtract(COLOURS[colour], BACKGROUNDS[background])
    shares = np.linspace(0, 1, 21)[:, None]
    return float(np.linalg.norm(before + shares * (after - before), axis=1).min()) >= MIN_CONTRAST / 2


def _sample_two(rng: np.random.Generator, aspect: float, split: str, background: str, style: str) -> Scene:
    half_width, half_height = extents(aspect)
    beside = half_width > half_height if abs(math.log(aspect)) > 0.2 else rng.random() < 0.5
    things = []
    for side in (-0.5, 0.5):
        thing = _sample_attributes(rng, split, background, style, speeds=False)
        box = (
            _Box(side * half_width, 0, half_width / 2, half_height, 0.8, 0.6)
            if beside
            else _Box(0, side * half_height, half_width, half_height / 2, 0.8, 0.6)
        )
        things.append(_place(thing, box, rng))
    return Scene(tuple(things), background, style, layout="beside" if beside else "stacked")


def _sample_attributes(
    rng: np.random.Generator, split: str, background: str, style: str, wall: bool = False, speeds: bool = True
) -> Thing:
    """Draw until valid, which makes the draw uniform over the valid combinations of shape, colour and motion."""
    while True:
        thing = Thing(_pick(rng, SHAPES), _pick(rng, tuple(COLOURS)), _pick(rng, MOTIONS[:2] if wall else MOTIONS))
        if thing.motion == "spins" and thing.shape not in SPINNABLE:
            continue
        if not is_visible(thing.colour, background, style):
            continue
        if split != "any" and _held_out(thing) != (split == "held_out"):
            continue
        break
    size = _pick(rng, tuple(SIZES)[:2]) if wall else _pick(rng, tuple(SIZES), _SIZE_WEIGHTS)
    varied = speeds and not wall and thing.motion in WITH_SPEED
    speed = _pick(rng, tuple(SPEEDS), _SPEED_WEIGHTS) if varied else "normal"
    return Thing(thing.shape, thing.colour, thing.motion, size, speed)


def _place(thing: Thing, box: _Box, rng: np.random.Generator) -> Thing:
    """Fill in the numbers of a thing so that its motion suits the box."""
    room = min(box.half_width, box.half_height)
    radius = min(SIZES[thing.size] * box.radius_scale * rng.uniform(0.9, 1.1), 0.66 * room)
    amount = turn = phase = 0.0
    reach_x = reach_y = radius  # how far from its centre the motion carries the thing
    if thing.motion in DIRECTIONS:
        horizontal = DIRECTIONS[thing.motion][0] != 0
        room = box.half_width if horizontal else box.half_height
        travel = TRAVEL * SPEEDS[thing.speed] * rng.uniform(0.85, 1.15)
        if box.travel_scale < 1:
            travel = min(travel, max(travel * box.travel_scale, 2 * (room - radius)))
            travel = min(travel, 2 * (room - radius))
        amount = travel
        reach_x, reach_y = (radius + travel / 2, radius) if horizontal else (radius, radius + travel / 2)
    elif thing.motion == "bounces":
        return _place_bounce(thing, box, radius, rng)
    elif thing.motion == "spins":
        turn = math.radians(SPIN[thing.speed] * rng.uniform(0.97, 1.03))
    elif thing.motion in ("grows", "shrinks"):
        amount = rng.uniform(2.0, 2.6)
        radius = min(radius, 0.95 * room / math.sqrt(amount))
        reach_x = reach_y = radius * math.sqrt(amount)
    elif thing.motion == "circles around":
        amount = 0.4 if box.travel_scale == 1 else min(0.4 * box.travel_scale, room - 0.9 * radius)
        turn, phase = 2 * math.pi, rng.uniform(0, 2 * math.pi)
        reach_x = reach_y = radius + amount
    x = box.x + _jitter(rng, box.half_width, reach_x)
    y = box.y + _jitter(rng, box.half_height, reach_y)
    return Thing(thing.shape, thing.colour, thing.motion, thing.size, thing.speed, x, y, radius, amount, turn, phase)


def _place_bounce(thing: Thing, box: _Box, radius: float, rng: np.random.Generator) -> Thing:
    bottom = box.y + box.half_height
    floor = FLOOR if box.y == 0 or FLOOR < bottom < 1.5 else bottom - 0.05
    ceiling = box.y - box.half_height
    radius = min(radius, 0.29 * (floor - ceiling))
    lowest = floor - radius
    top = max(ceiling + radius, lowest - 1.2)
    y = top + rng.uniform(0, 0.5) * max(lowest - top - 0.5, 0)
    x = box.x + _jitter(rng, box.half_width, radius)
    fall = rng.uniform(0.26, 0.36)
    return Thing(thing.shape, thing.colour, thing.motion, thing.size, thing.speed, x, y, radius, fall, floor=floor)


def _place_behind_wall(thing: Thing, box: _Box, rng: np.random.Generator) -> Thing:
    """Cross the wall so that the whole thing shows on both of its sides."""
    radius = SIZES[thing.size] * rng.uniform(0.9, 1.1)
    travel = 2 * (WALL_HALF_WIDTH + radius) + rng.uniform(0.10, 0.20)
    y = _jitter(rng, box.half_height, radius)
    return Thing(thing.shape, thing.colour, thing.motion, thing.size, thing.speed, 0.0, y, radius, travel)


def _jitter(rng: np.random.Generator, half_extent: float, reach: float) -> float:
    """Offset from the centre of a box that keeps something of this reach inside, up to 0.6 of the half extent."""
    slack = min(max(half_extent - reach, 0.0), 0.6 * half_extent)
    return slack * rng.uniform(-0.9, 0.9)


def check_words(
    shape: str, colour: str, motion: str, background: str, style: str = "plain", size: str = "medium",
    speed: str = "normal", wall: bool = False,
) -> None:  # fmt: skip
    """Raises ValueError that names a word that is not of this world, or words that do not go together."""
    tables = {
        "shape": (shape, SHAPES),
        "colour": (colour, COLOURS),
        "motion": (motion, MOTIONS),
        "background": (background, _ALL_BACKGROUNDS),
        "style": (style, STYLES),
        "size": (size, SIZES),
        "speed": (speed, SPEEDS),
    }
    for name, (value, table) in tables.items():
        if value not in table:
            raise ValueError(f"{name} must be one of {', '.join(table)}; got {value!r}")
    if motion == "spins" and shape not in SPINNABLE:
        raise ValueError(f"shape {shape}: it cannot be seen to spin; choose {', '.join(SPINNABLE)}, or another motion")
    if speed != "normal" and motion not in WITH_SPEED:
        raise ValueError(f"speed {speed}: what {motion} has none; leave it at normal")
    if wall and (motion not in MOTIONS[:2] or size == "large" or speed != "normal"):
        raise ValueError("behind the wall a small or medium thing moves left or right at normal speed")
    if not is_visible(colour, background, style):
        raise ValueError(f"colour {colour}: it is too near the {background} background; choose another of the two")


def _held_out(thing: Thing) -> bool:
    return held_out_combination(thing.shape, thing.colour, thing.motion)


def _pick(rng: np.random.Generator, options: tuple, weights: tuple[float, ...] | None = None):
    if weights is None:
        return options[rng.integers(len(options))]
    return options[int(np.searchsorted(np.cumsum(weights), rng.random() * sum(weights)))]
