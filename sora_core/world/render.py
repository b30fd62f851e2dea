"""Scenes to pixels: `render` draws a clip, `mask` the silhouette of one of its things.

Shapes are signed distances (negative inside), edges ramp over one pixel, and every thing is evaluated only in a
box that follows it, for all frames at once. The distance formulas follow Inigo Quilez,
https://iquilezles.org/articles/distfunctions2d/.

Letters: T frames, H W pixels, h w pixels of a thing's box.
"""

import math
from functools import lru_cache

import numpy as np
import torch

from .scene import (
    BACKGROUNDS,
    COLOURS,
    HORIZONS,
    SCENES,
    WALL_COLOUR,
    WALL_HALF_WIDTH,
    Scene,
    Thing,
    clip_times,
    extents,
    trajectories,
    trajectory,
    turned,
)

OUTLINE_WIDTH = 0.06
GLOW_REACH = 0.28  # of the neon glow, beyond the contour
STAR_INNER = 0.4
RING_INNER = 0.55
PIXEL_BLOCKS = 16  # blocks of the pixel style along the shorter side
SMALL = 1_200_000  # pixels over all frames
_BLOCK_SAMPLES = 4  # samples a block averages, per side


def render(scene: Scene, num_frames: int, height: int, width: int) -> torch.Tensor:
    """Draw a clip: (T, H, W, 3) float32 sRGB in 0..1."""
    if scene.then is not None:
        return torch.from_numpy(_draw_turning(scene, scene.then, num_frames, height, width, extents(width / height)))
    if scene.style != "pixel":
        return torch.from_numpy(_draw(scene, num_frames, height, width, extents(width / height)))
    rows, columns = _blocks(height, width)
    k = _BLOCK_SAMPLES
    fine = _draw(scene, num_frames, rows * k, columns * k, extents(width / height))
    coarse = sum(fine[:, i::k] for i in range(k)) / k**2  # T rows W 3
    coarse = sum(coarse[:, :, i::k] for i in range(k))  # T rows columns 3
    row = (np.arange(height) * 2 + 1) * rows // (2 * height)
    column = (np.arange(width) * 2 + 1) * columns // (2 * width)
    return torch.from_numpy(coarse[:, row][:, :, column])


def mask(scene: Scene, thing_index: int, num_frames: int, height: int, width: int) -> torch.Tensor:
    """Coverage of one thing's filled silhouette, ignoring style and wall: (T, H, W) float32 in 0..1."""
    if scene.then is not None:
        distance, pixel = _turning_distances(scene, scene.then, num_frames, height, width, extents(width / height))
        return torch.from_numpy(_coverage(distance, pixel))
    out = np.zeros((num_frames, height, width), np.float32)
    index, distance, pixel = _distances(scene.things[thing_index], num_frames, height, width, extents(width / height))
    out[index] = _coverage(distance, pixel)
    return torch.from_numpy(out)


def silhouette(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Signed distance to an upright shape inscribed in the unit circle; x right, y down, any common shape."""
    return _SDF[shape](x, y)


def _draw(scene: Scene, num_frames: int, height: int, width: int, half: tuple[float, float]) -> np.ndarray:
    light = np.float32(0.25 if scene.style == "neon" else 1)
    frames = np.empty((num_frames, height, width, 3), np.float32)
    background = _background(scene.background, num_frames, height, width, half) * light
    frames[: len(background)] = background
    frames[len(background) :] = frames[0]  # a still background is drawn once
    for thing in scene.things:
        margin = GLOW_REACH if scene.style == "neon" else 0.0
        index, distance, pixel = _distances(thing, num_frames, height, width, half, margin)
        colour = np.asarray(COLOURS[thing.colour], np.float32)
        frames[index] = _paint(frames[index], distance, pixel, colour, scene.style)
    if scene.wall:
        x = _centres(width, half[0])
        alpha = _coverage(np.abs(x) - WALL_HALF_WIDTH, 2 * half[0] / width)[:, None]  # W 1
        hidden = alpha[:, 0] > 0
        frames[:, :, hidden] += alpha[hidden] * (np.asarray(WALL_COLOUR, np.float32) - frames[:, :, hidden])
    return frames


def _draw_turning(
    scene: Scene, then: Scene, num_frames: int, height: int, width: int, half: tuple[float, float]
) -> np.ndarray:
    """One thing all along: its place, size, angle, outline and colours go from the first's to the second's."""
    share = turned(clip_times(num_frames))[:, None, None, None]
    colour, under = (
        one + share * (np.asarray(other, np.float32) - one)
        for one, other in (
            (np.asarray(COLOURS[scene.things[0].colour], np.float32), COLOURS[then.things[0].colour]),
            (np.asarray(BACKGROUNDS[scene.background], np.float32), BACKGROUNDS[then.background]),
        )
    )
    distance, pixel = _turning_distances(scene, then, num_frames, height, width, half)
    return (under + _coverage(distance, pixel)[..., None] * (colour - under)).astype(np.float32)


def _turning_distances(
    scene: Scene, then: Scene, num_frames: int, height: int, width: int, half: tuple[float, float]
) -> tuple[np.ndarray, float]:
    """Signed distances (T, H, W) in frame units to a thing that turns into another, and the size of a pixel."""
    u = clip_times(num_frames)
    x, y, radius, angle = (value[:, None, None] for value in trajectories(scene, u)[0])
    px = (_centres(width, half[0])[None, None] - x) / radius  # T 1 W
    py = (_centres(height, half[1])[None, :, None] - y) / radius  # T H 1
    px, py = np.cos(angle) * px + np.sin(angle) * py, np.cos(angle) * py - np.sin(angle) * px
    share = turned(u)[:, None, None]
    first, second = (_SDF[shape](px, py) for shape in (scene.things[0].shape, then.things[0].shape))
    distance = (first * (1 - share) + second * share) * radius
    return distance.astype(np.float32), 2 * min(half[0] / width, half[1] / height)


def _paint(under: np.ndarray, distance: np.ndarray, pixel: float, colour: np.ndarray, style: str) -> np.ndarray:
    """Blend a thing over the (T, h, w, 3) pixels under its box."""
    if style in ("plain", "pixel"):
        return under + _coverage(distance, pixel)[..., None] * (colour - under)
    middle = distance + OUTLINE_WIDTH / 2  # the contour lies inside the bounding circle
    alpha = _coverage(np.abs(middle) - OUTLINE_WIDTH / 2, pixel)
    if style == "neon":
        fall = np.clip(1 - np.abs(middle) / GLOW_REACH, 0, 1)
        glow = (0.75 * fall * fall * fall)[..., None]
        under = under + glow * (colour - under)
        colour = colour + 0.25 * (1 - colour)  # the tube itself is a little brighter than its glow
    return under + alpha[..., None] * (colour - under)


def _distances(
    thing: Thing, num_frames: int, height: int, width: int, half: tuple[float, float], margin: float = 0.0
) -> tuple[tuple[np.ndarray, ...], np.ndarray, float]:
    """Signed distances in frame units in a box that follows the thing.

    Returns the index of the box into (T, H, W), the distances (T, h, w) and the size of a pixel in frame units.
    """
    x, y, radius, angle = trajectory(thing, clip_times(num_frames))
    pixel = 2 * min(half[0] / width, half[1] / height)
    reach = float(radius.max()) + margin + pixel
    rows, ys = _box(y, reach, height, half[1])  # T h
    columns, xs = _box(x, reach, width, half[0])  # T w
    scale = (1 / radius)[:, None]
    px, py = ((xs - x[:, None]) * scale)[:, None, :], ((ys - y[:, None]) * scale)[:, :, None]  # T 1 w, T h 1
    if angle.any():
        cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
        px, py = cos * px + sin * py, cos * py - sin * px  # T h w
    distance = _SDF[thing.shape](px, py) * radius[:, None, None]
    frame = np.arange(num_frames)[:, None, None]
    return (frame, rows[:, :, None], columns[:, None, :]), distance, pixel


def _box(centre: np.ndarray, reach: float, size: int, half: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixels within reach of a centre along one axis, kept inside the frame: indices and coordinates, (T, n)."""
    length = min(math.ceil(reach * size / half) + 1, size)
    start = np.floor((centre - reach + half) * (size / (2 * half))).astype(np.int64)
    index = np.clip(start, 0, size - length)[:, None] + np.arange(length)
    return index, _centres(size, half)[index]


def _centres(size: int, half: float) -> np.ndarray:
    """Coordinates of the pixel centres along an axis spanning [-half, half]."""
    return ((np.arange(size, dtype=np.float32) + 0.5) * (2 / size) - 1) * np.float32(half)


def _blocks(height: int, width: int) -> tuple[int, int]:
    """Rows and columns of blocks in the pixel style, as near square as whole numbers allow."""
    short = min(height, width)
    return round(PIXEL_BLOCKS * height / short), round(PIXEL_BLOCKS * width / short)


def _coverage(distance: np.ndarray, pixel: float) -> np.ndarray:
    """Share of a pixel inside an edge at this signed distance from its centre."""
    return np.clip(0.5 - distance * np.float32(1 / pixel), 0, 1)


# -- shapes ------------------------------------------------------------------------------------------------------


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 1


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.abs(np.sqrt(x * x + y * y) - (1 + RING_INNER) / 2) - (1 - RING_INNER) / 2


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    side = np.float32(math.sqrt(0.5))
    x, y = np.abs(x) - side, np.abs(y) - side
    outside_x, outside_y = np.maximum(x, 0), np.maximum(y, 0)
    return np.sqrt(outside_x * outside_x + outside_y * outside_y) + np.minimum(np.maximum(x, y), 0)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    arm = 1 / math.hypot(1, 0.4)
    x, y = np.abs(x), np.abs(y)
    x, y = np.maximum(x, y), np.minimum(x, y)  # symmetry: only the arm to the right
    end, side = x - np.float32(arm), y - np.float32(0.4 * arm)
    k = np.maximum(end, side)
    outside = k > 0
    dx = np.maximum(np.where(outside, end, np.float32(0.4 * arm) - x), 0)
    dy = np.maximum(np.where(outside, side, -k), 0)
    return np.copysign(np.sqrt(dx * dx + dy * dy), k)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _star_polygon(x, y, 3, 0.5, (60,))


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _star_polygon(x, y, 5, STAR_INNER, (72, 36))


def _star_polygon(x: np.ndarray, y: np.ndarray, points: int, inner: float, folds: tuple[int, ...]) -> np.ndarray:
    """Distance to a star with `points` tips, one up; reflections fold the plane onto half a tip, a single edge.

    A regular polygon is the star whose inner radius is cos(pi / points). folds: angles in degrees, measured from
    the upper tip, of the mirrors that bring every direction into 0..180 / points.
    """
    along, across = -y, np.abs(x)
    for degrees in folds:
        normal = np.float32(-math.sin(math.radians(degrees))), np.float32(math.cos(math.radians(degrees)))
        beyond = 2 * np.maximum(along * normal[0] + across * normal[1], 0)
        along, across = along - beyond * normal[0], np.abs(across - beyond * normal[1])
    edge_x = np.float32(inner * math.cos(math.pi / points) - 1)
    edge_y = np.float32(inner * math.sin(math.pi / points))
    along = along - 1  # from the tip
    t = np.clip((along * edge_x + across * edge_y) * (1 / (edge_x**2 + edge_y**2)), 0, 1)
    dx, dy = along - t * edge_x, across - t * edge_y
    return np.copysign(np.sqrt(dx * dx + dy * dy), across * -edge_x + along * edge_y)


_SDF = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
}


# -- backgrounds -------------------------------------------------------------------------------------------------


def _background(name: str, num_frames: int, height: int, width: int, half: tuple[float, float]) -> np.ndarray:
    """Background, broadcastable to (T, H, W, 3), or to (1, H, W, 3) when it does not move."""
    if name in BACKGROUNDS:
        return np.asarray(BACKGROUNDS[name], np.float32)[None, None, None]
    return _meadow(height, half) if name == "meadow" else _sea(num_frames, height, width, half)


def _meadow(height: int, half: tuple[float, float]) -> np.ndarray:
    """Sky that pales towards a soft horizon, over grass that deepens towards the viewer: (1, H, 1, 3)."""
    y = _centres(height, half[1])[:, None] - HORIZONS["meadow"]
    sky, grass = (np.asarray(c, np.float32) for c in SCENES["meadow"])
    sky = sky + 0.35 * np.exp(-np.abs(y) / 0.35) * (1 - sky)
    grass = grass * (1.06 - 0.22 * np.clip(y, 0, 1))
    below = 0.5 + 0.5 * np.tanh(y / 0.05)
    return (sky + below * (grass - sky)).astype(np.float32)[None, :, None]


def _sea(num_frames: int, height: int, width: int, half: tuple[float, float]) -> np.ndarray:
    """Sky over water whose waves roll by one length over the clip: (T, H, W, 3). Small ones, of which training draws
    one after another, are kept."""
    small = num_frames * height * width <= SMALL
    return (_kept_sea if small else _kept_sea.__wrapped__)(num_frames, height, width, half)


@lru_cache(maxsize=4)
def _kept_sea(num_frames: int, height: int, width: int, half: tuple[float, float]) -> np.ndarray:
    y = _centres(height, half[1])[:, None] - HORIZONS["sea"]  # H 1
    x = _centres(width, half[0])  # W
    phase = (2 * math.pi * clip_times(num_frames))[:, None, None]  # T 1 1
    depth = np.clip(y, 0, None)
    near = np.sqrt(depth + 0.02)
    swell = np.sin(20 * near - phase + 0.9 * np.sin(2.3 * x + 0.5 + phase))
    ripple = np.sin(33 * near + phase + 1.1 * np.sin(3.7 * x + 2 - phase))
    light = (0.055 * swell + 0.03 * ripple) * np.clip(depth / 0.12, 0, 1)  # T H W
    sky, water = (np.asarray(c, np.float32) for c in SCENES["sea"])
    sky = sky + 0.35 * np.exp(-np.abs(y[..., None]) / 0.35) * (1 - sky)
    water = water * (1.12 - 0.25 * np.clip(depth, 0, 1))[..., None] + light[..., None]
    below = _coverage(-y, 2 * half[1] / height)[..., None]
    return (sky + below * (water - sky)).astype(np.float32)
