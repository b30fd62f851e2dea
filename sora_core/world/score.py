"""Reads a clip's pixels back into words, knowing the world's tables but never the scene.

`analyse` handles one plain-style thing on a plain background, `analyse_two` two of them, `analyse_wall` one that
passes behind the wall. Background: nearest palette colour of the border's median. Colour: likewise of the
foreground's core. Shape: the best overlap with each shape's own mask at the same centre and size, over rotations.
Motion: from the tracks of centroid, size and angle.

Overlaps are soft (a . b / (a . a + b . b - a . b)) and templates come in several degrees of blur, so that small
things decoded by a VAE are compared with equally soft shapes.

Letters: T frames, H W pixels, G side of the normalised crop, S its scales, B blurs, N angles of a template.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .render import silhouette
from .scene import BACKGROUNDS, COLOURS, RGB, SHAPES, SIZES, SPEEDS, TRAVEL, WALL_COLOUR, WALL_HALF_WIDTH

_SEEN = 0.18  # RGB distance from the background that counts as foreground; the world's own contrasts start at 0.25
_CELL = 0.0625  # of the coarse grid that finds connected parts, frame units
_CROP = 48  # G
_CROP_REACH = 1.75  # half side of the crop, in radii of the disc of the mask's area
_SCALES = (0.94, 1.0, 1.06)
_SOFTNESS = (0.0, 0.15, 0.30)  # blur of the templates' edges (standard deviation), same units
_TURN_STEP = 3  # degrees between templates
_SYMMETRY = {"circle": None, "square": 90, "triangle": 120, "star": 72, "ring": None, "cross": 90}  # degrees
_EDGES = (0.0, 1.0, 2.0, 3.0)  # blur of a single thing's edge (standard deviation), pixels
_MAX_SIDE = 128  # larger clips are reduced to this shorter side

_MOVES = 0.18  # least range of a travelling centroid, frame units
_RESIZES = math.log(1.5)  # least change of the log radius
_SPINS = 75.0  # least total turn, degrees

_WALL_ENDS = 4  # of the frames, the first and the last quarter, in which one side of the wall is empty
_LEFT_OVER = 0.1  # share of the most that a side shows which may be seen there then

_THERE = 0.9  # share of the frames in which a thing has to be there to be there all the way
_ONE_COLOUR = 0.8  # share of them in which it has to have its colour
_BESIDE = 0.1  # most that may stand out beside it, in shares of its own area


@dataclass(frozen=True)
class Analysis:
    """What the pixels say; None where nothing was found (motion also for a single frame).

    radius: of the bounding circle, median over the frames the shape was read from, frame units.
    overlap: soft intersection over union of the mask with the shape's own, mean over those frames. throughout: the
    thing is there all the way, alone, in its colour, and has its shape in the first and the second half of the frames
    that the shape was read from.
    """

    background: str
    colour: str | None = None
    shape: str | None = None
    motion: str | None = None
    radius: float = 0.0
    overlap: float = 0.0
    throughout: bool = False


@dataclass(frozen=True)
class WallAnalysis:
    """The thing before and after the wall, the way it went ("moves left" or "moves right"), and whether it is the
    same: colour, shape, radius within 20%, all of it gone from where it came from, none of it there at first."""

    entered: Analysis
    left: Analysis
    motion: str
    same: bool


@dataclass(frozen=True)
class _Track:
    """Per-frame measurements of the foreground, all (T,); lengths in frame units. whole: not cut by an edge."""

    present: Tensor
    whole: Tensor
    x: Tensor
    y: Tensor
    area: Tensor


def analyse(frames: Tensor) -> Analysis:
    """Read a clip of one plain thing on a plain background; frames (T, H, W, 3) in 0..1."""
    frames = _reduce(frames)
    return _analyse_region(frames, _border_median(frames), 2 / min(frames.shape[1:3]))


def follow(frames: Tensor, *, whole: bool = False) -> Tensor:
    """Centre (x, y) of the largest thing in every frame of a clip (T, H, W, 3): (T, 2) in frame units, NaN where there
    is none. whole: also where an edge of the frame cuts it."""
    frames = _reduce(frames)
    pixel = 2 / min(frames.shape[1:3])
    track = _measure(_segment(frames, _border_median(frames), pixel), pixel)
    seen = track.present & track.whole if whole else track.present
    return torch.where(seen[:, None], torch.stack([track.x, track.y], dim=1), torch.nan)


def one_thing(frame: Tensor) -> float:
    """Share of what stands out from the background of a frame (H, W, 3) that one thing of one colour explains, its edge
    as soft as suits it: near 1 for a single thing, sharp or blurred, about 0.7 where two are blended in equal parts."""
    frames = _reduce(frame[None])
    background = _border_median(frames)
    alpha = _segment(frames, background, 2 / min(frames.shape[1:3]))
    shown = frames - background
    total = float(shown.square().sum())
    if total == 0 or not bool((alpha > 0.5).any()):
        return 0.0
    colour = _core_colour(frames, alpha) - background
    solid = (alpha > 0.5).float()
    left = [float((shown - _soft(solid, sigma)[..., None] * colour).square().sum()) for sigma in _EDGES]
    return 1 - min(left) / total


def _soft(masks: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (T, H, W); sigma in pixels."""
    if sigma == 0:
        return masks
    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-((torch.arange(2 * reach + 1) - reach) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    rows = F.conv2d(masks[:, None], kernel.view(1, 1, -1, 1), padding=(reach, 0))
    return F.conv2d(rows, kernel.view(1, 1, 1, -1), padding=(0, reach))[:, 0]


def size_of(frames: Tensor, found: Analysis) -> str:
    """The word for the size of a thing that was found in a clip; sizes that change are meant half-way."""
    radius = analyse(frames[len(frames) // 2 :][:1]).radius or found.radius
    return min(SIZES, key=lambda name: abs(math.log(max(radius, 1e-3) / SIZES[name])))


def speed_of(frames: Tensor, length: int) -> str:
    """The word for the speed of what travels through a clip, meant for clips of so many frames."""
    track = follow(frames, whole=True)
    seen = torch.nonzero(~track.isnan().any(1))[:, 0].tolist() or [0]
    first, last = seen[0], seen[-1]
    way = float((track[last] - track[first]).nan_to_num().norm()) / TRAVEL * (length - 1) / max(1, last - first)
    return min(SPEEDS, key=lambda name: abs(math.log(max(way, 1e-3) / SPEEDS[name])))


def score(
    frames: Tensor, colour: str, shape: str, motion: str | None, background: str, size: str | None = None,
    speed: str | None = None,
) -> dict[str, bool]:  # fmt: skip
    """Which of the wanted attributes a clip (T, H, W, 3) shows, and "all" but size and speed; "throughout" where it
    shows all of them in one thing that stays what it is, with nothing beside it. A single frame has no motion to miss.
    size, speed: where they are wanted; speed of what travels."""
    found = analyse(frames)
    right = {
        "colour": found.colour == colour,
        "shape": found.shape == shape,
        "motion": found.motion == motion or len(frames) == 1,
        "background": found.background == background,
    }
    right["all"] = all(right.values())
    right["throughout"] = right["all"] and found.throughout
    if size is not None:
        right["size"] = found.shape is not None and size_of(frames, found) == size
    if speed is not None and len(frames) > 1:
        right["speed"] = speed_of(frames, len(frames)) == speed
    return right


def analyse_two(frames: Tensor) -> tuple[Analysis, Analysis]:
    """Read a clip (T, H, W, 3) of two things: the left and right ones, or else the upper and lower ones.

    Things on a diagonal can be split either way, so compare the pair without regard to its order.
    """
    frames = _reduce(frames)
    background = _border_median(frames)
    pixel = 2 / min(frames.shape[1:3])
    seen = (_distance(frames, background) > _SEEN).float().sum(0)  # H W
    axis = min((1, 0), key=lambda axis: _split_cost(seen, axis))
    halves = frames.tensor_split(2, dim=axis + 1)
    return _analyse_region(halves[0], background, pixel), _analyse_region(halves[1], background, pixel)


def analyse_wall(frames: Tensor) -> WallAnalysis:
    """Read a clip (T, H, W, 3) of a thing that passes behind the wall."""
    frames = _reduce(frames)
    background = _border_median(frames)
    width, pixel = frames.shape[2], 2 / min(frames.shape[1:3])
    reach = round(WALL_HALF_WIDTH / pixel) + 1
    sides = [frames[:, :, : width // 2 - reach], frames[:, :, (width + 1) // 2 + reach :]]
    amounts = [(_distance(side, background) > _SEEN).float().sum((1, 2)) for side in sides]  # each (T,)
    times = [float((a * torch.arange(len(a))).sum() / a.sum().clamp_min(1e-6)) for a in amounts]
    motion = "moves right" if times[0] <= times[1] else "moves left"
    if motion == "moves left":
        sides.reverse()
    entered, left = (_analyse_region(side, background, pixel) for side in sides)
    near, far = (_measure(_segment(side, background, pixel), pixel).area for side in sides)  # (T,)
    few = max(1, len(frames) // _WALL_ENDS)
    there, here = float(far[:few].mean()), float(near[-few:].mean())  # at first, at last
    passes = there <= _LEFT_OVER * float(far.max()) and here <= _LEFT_OVER * float(near.max())
    middle = frames[:, :, width // 2 - reach // 2 : width // 2 + reach // 2 + 1].reshape(-1, 3).median(0).values
    hides = float(_distance(middle, torch.tensor(WALL_COLOUR))) < float(_distance(middle, background))
    same = entered.shape is not None and entered.shape == left.shape and entered.colour == left.colour
    same = same and abs(left.radius / entered.radius - 1) <= 0.2
    return WallAnalysis(entered, left, motion, same and passes and hides)


# -- foreground --------------------------------------------------------------------------------------------------


def _analyse_region(frames: Tensor, background: Tensor, pixel: float) -> Analysis:
    """Read the largest thing in (T, H, W, 3) pixels of the given size over a known background colour."""
    name = _nearest(background, BACKGROUNDS)
    alpha = _segment(frames, background, pixel)  # T H W
    track = _measure(alpha, pixel)
    if not track.present.any():
        return Analysis(name)
    colour = _nearest(_core_colour(frames, alpha), COLOURS)
    shape, overlap, angles, frames_read, lasts = _fit_shape(alpha, track, pixel)
    unit_area = _templates()[shape][2]
    radius = float((track.area[frames_read].median() / unit_area).sqrt())
    motion = _read_motion(track, angles, _SYMMETRY[shape]) if len(frames) > 1 else None
    throughout = lasts and _stays(frames, background, alpha, track, colour)
    return Analysis(name, colour, shape, motion, radius, overlap, throughout)


def _stays(frames: Tensor, background: Tensor, alpha: Tensor, track: _Track, colour: str) -> bool:
    """Whether the thing is there all the way, in its colour, with nothing beside it."""
    there = torch.nonzero(track.present)[:, 0]
    coloured = sum(_nearest(_core_colour(frames[i, None], alpha[i, None]), COLOURS) == colour for i in there)
    around = F.max_pool2d((alpha > 0.5).float()[:, None], 7, 1, 3)[:, 0]  # the thing with its soft edge
    beside = float(((_distance(frames, background) > _SEEN) * (1 - around)).sum())
    return (
        len(there) >= _THERE * len(frames)
        and coloured >= _ONE_COLOUR * len(there)
        and beside <= _BESIDE * float((alpha > 0.5).sum())
    )


def _split_cost(seen: Tensor, axis: int) -> float:
    """Share of the foreground (H, W) near the middle of an axis, plus one if a half is all but empty."""
    profile = seen.sum(1 - axis) / seen.sum().clamp_min(1)
    middle, reach = len(profile) // 2, max(1, min(seen.shape) // 16)
    emptier = min(float(profile[:middle].sum()), float(profile[middle:].sum()))
    return float(profile[middle - reach : middle + reach].sum()) + (emptier < 0.02)


def _reduce(frames: Tensor) -> Tensor:
    """Float copy with a shorter side of at most `_MAX_SIDE`."""
    frames = frames.detach().float().cpu()
    height, width = frames.shape[1:3]
    factor = min(height, width) / _MAX_SIDE
    if factor <= 1:
        return frames
    size = round(height / factor), round(width / factor)
    return F.interpolate(frames.permute(0, 3, 1, 2), size, mode="area").permute(0, 2, 3, 1)


def _border_median(frames: Tensor) -> Tensor:
    edge = max(1, min(frames.shape[1:3]) // 32)
    strips = frames[:, :edge], frames[:, -edge:], frames[:, :, :edge], frames[:, :, -edge:]
    return torch.cat([strip.reshape(-1, 3) for strip in strips]).median(0).values


def _distance(frames: Tensor, background: Tensor) -> Tensor:
    return (frames - background).square().sum(-1).sqrt()


def _segment(frames: Tensor, background: Tensor, pixel: float) -> Tensor:
    """Opacity of the largest thing in every frame, (T, H, W) in 0..1.

    Every pixel is read as a mix of the background and the foreground's typical colour.
    """
    distance = _distance(frames, background)
    seen = distance > _SEEN
    if not seen.any():
        return torch.zeros_like(distance)
    some = distance[seen]
    some = some[:: 1 + some.numel() // 2**22]  # quantiles of more than 2**24 values are refused
    strong = distance > 0.75 * some.quantile(0.9)
    contrast = frames[strong & seen].median(0).values - background
    alpha = ((frames - background) @ contrast / contrast.square().sum()).clamp(0, 1)
    return torch.where(alpha > 0.12, alpha, 0) * _largest_component(alpha > 0.5, max(1, int(_CELL / pixel)))


def _largest_component(mask: Tensor, k: int) -> Tensor:
    """Neighbourhood of the largest connected part of each frame of a (T, H, W) mask, found in cells of k x k."""
    height, width = mask.shape[1:]
    cells = F.avg_pool2d(mask[:, None].float(), k, ceil_mode=True)  # T 1 h w
    solid = (cells > 0).float()
    labels = solid * torch.arange(1, cells[0].numel() + 1).view(cells.shape[1:])
    for _ in range(cells.shape[2] + cells.shape[3]):
        grown = F.max_pool2d(labels, 3, 1, 1) * solid
        if torch.equal(grown, labels):
            break
        labels = grown
    sizes = torch.zeros(len(mask), cells[0].numel() + 1)
    sizes.scatter_add_(1, labels.flatten(1).long(), cells.flatten(1))
    sizes[:, 0] = 0
    largest = sizes.argmax(1).view(-1, 1, 1, 1)
    keep = F.max_pool2d(((labels == largest) & (largest > 0)).float(), 3, 1, 1)
    keep = keep.repeat_interleave(k, 2).repeat_interleave(k, 3)
    return keep[:, 0, :height, :width]


def _measure(alpha: Tensor, pixel: float) -> _Track:
    height, width = alpha.shape[1:]
    mass = alpha.sum((1, 2))
    ys = (torch.arange(height) + 0.5 - height / 2) * pixel
    xs = (torch.arange(width) + 0.5 - width / 2) * pixel
    safe = mass.clamp_min(1e-6)
    x, y = (alpha.sum(1) @ xs) / safe, (alpha.sum(2) @ ys) / safe
    edges = torch.stack([alpha[:, 0].amax(1), alpha[:, -1].amax(1), alpha[:, :, 0].amax(1), alpha[:, :, -1].amax(1)])
    area = mass * pixel**2
    present = area > 0.004
    return _Track(present, present & (edges.amax(0) < 0.5), x, y, area)


def _core_colour(frames: Tensor, alpha: Tensor) -> Tensor:
    """Median colour well inside the foreground, over all frames: (3,)."""
    solid = (alpha > 0.5).float()
    core = -F.max_pool2d(-solid[:, None], 3, 1, 1)[:, 0] > 0
    if core.sum() < 0.1 * solid.sum():
        core = alpha >= alpha.flatten().topk(max(1, int(0.3 * solid.sum()))).values[-1]
    return frames[core].median(0).values


def _nearest(rgb: Tensor, palette: dict[str, RGB]) -> str:
    return min(palette, key=lambda name: math.dist(rgb.tolist(), palette[name]))


# -- shape -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _templates() -> dict[str, tuple[Tensor, Tensor, float]]:
    """Per shape: clockwise angles (N,) in degrees, masks (B, N, G*G) of the unit disc's area, area at radius 1."""
    axis = (np.arange(_CROP) + 0.5) * (2 * _CROP_REACH / _CROP) - _CROP_REACH
    x, y = np.meshgrid(axis, axis)
    fine = (np.arange(400) + 0.5) / 200 - 1
    templates = {}
    for shape in SHAPES:
        area = float((silhouette(shape, *np.meshgrid(fine, fine)) < 0).mean() * 4)
        radius = math.sqrt(math.pi / area)
        angles = torch.arange(0, _SYMMETRY[shape] or 1, _TURN_STEP).float()
        masks = []
        for angle in torch.deg2rad(angles).tolist():
            px, py = math.cos(angle) * x + math.sin(angle) * y, math.cos(angle) * y - math.sin(angle) * x
            distance = silhouette(shape, px / radius, py / radius) * radius
            masks.append(np.clip(0.5 - distance * _CROP / (2 * _CROP_REACH), 0, 1))
        masks = torch.from_numpy(np.stack(masks)).float()
        templates[shape] = angles, torch.stack([_blur(masks, sigma).flatten(1) for sigma in _SOFTNESS]), area
    return templates


def _blur(masks: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of templates (N, G, G); sigma in radii of the disc of their area."""
    cells = torch.arange(_CROP) * (2 * _CROP_REACH / _CROP)
    kernel = torch.exp(-((cells[:, None] - cells).square()) / (2 * max(sigma, 1e-3) ** 2))
    kernel = kernel / kernel.sum(1, keepdim=True)
    return kernel @ masks @ kernel.T


def _fit_shape(alpha: Tensor, track: _Track, pixel: float) -> tuple[str, float, Tensor, Tensor, bool]:
    """Best shape, its overlap, its angle in every frame (T,) in degrees, which frames were read (T,) bool, and whether
    it is best in the first and the second half of these, too."""
    usable = track.whole if track.whole.any() else track.present
    usable = usable & (track.area >= 0.5 * track.area[usable].max())
    crops = torch.stack([_crop(alpha, track, pixel, scale) for scale in _SCALES])  # S T G*G
    found = {}
    for shape, (angles, masks, _) in _templates().items():
        both = torch.einsum("stg,bng->sbtn", crops, masks)  # S B T N
        either = crops.square().sum(-1)[:, None, :, None] + masks.square().sum(-1)[:, None] - both
        best = (both / either).amax((0, 1))  # T N
        found[shape] = best.amax(1)[usable], angles[best.argmax(1)]
    overlaps = {name: overlap for name, (overlap, _) in found.items()}  # each (frames read,)
    shape = max(overlaps, key=lambda name: float(overlaps[name].mean()))
    halves = [half for half in torch.arange(int(usable.sum())).tensor_split(2) if len(half)]
    lasts = all(max(overlaps, key=lambda name: float(overlaps[name][half].mean())) == shape for half in halves)
    return shape, float(overlaps[shape].mean()), found[shape][1], usable, lasts


def _crop(alpha: Tensor, track: _Track, pixel: float, scale: float) -> Tensor:
    """Masks moved to their centroid and resized to the unit disc's area times scale squared: (T, G*G)."""
    num_frames, height, width = alpha.shape
    reach = _CROP_REACH * (track.area / math.pi).sqrt().clamp_min(pixel) / scale  # T
    axis = (torch.arange(_CROP) + 0.5) * (2 / _CROP) - 1
    x = (track.x[:, None] + reach[:, None] * axis) * (2 / (width * pixel))  # T G
    y = (track.y[:, None] + reach[:, None] * axis) * (2 / (height * pixel))
    size = num_frames, _CROP, _CROP
    grid = torch.stack([x[:, None].expand(size), y[:, :, None].expand(size)], -1)  # T G G 2
    sampled = F.grid_sample(alpha[:, None], grid, align_corners=False)
    return sampled.flatten(1)


# -- motion ------------------------------------------------------------------------------------------------------


def _read_motion(track: _Track, angles: Tensor, symmetry: int | None) -> str | None:
    """The motion that the tracks over time describe, None when the thing shows in fewer than two frames."""
    seen = track.present
    if seen.sum() < 2:
        return None
    u = torch.linspace(0, 1, len(seen))[seen]
    x, y = track.x[seen], track.y[seen]
    whole = track.whole[seen] if track.whole.sum() >= max(2, 0.4 * len(seen)) else torch.ones_like(x, dtype=torch.bool)
    growth = _slope(u[whole], 0.5 * track.area[seen][whole].log()) * float(u[whole][-1] - u[whole][0])
    range_x, range_y = float(x.max() - x.min()), float(y.max() - y.min())
    if abs(growth) > _RESIZES and max(range_x, range_y) < 0.45:
        return "grows" if growth > 0 else "shrinks"
    if max(range_x, range_y) > _MOVES:
        return _read_travel(x, y, range_x, range_y)
    if symmetry and _total_turn(angles[seen], symmetry) > _SPINS:
        return "spins"
    return "stays still"


def _read_travel(x: Tensor, y: Tensor, range_x: float, range_y: float) -> str:
    net_x, net_y = float(x[-1] - x[0]), float(y[-1] - y[0])
    if min(range_x, range_y) > 0.5 * max(range_x, range_y) and math.hypot(net_x, net_y) < 0.6 * max(range_x, range_y):
        return "circles around"
    if range_x > range_y:
        return "moves right" if net_x > 0 else "moves left"
    if abs(net_y) < 0.85 * float(y.diff().abs().sum()):
        return "bounces"
    return "moves down" if net_y > 0 else "moves up"


def _slope(u: Tensor, values: Tensor) -> float:
    """Least-squares slope of values over u, each (n,)."""
    centred = u - u.mean()
    return float((centred * values).sum() / centred.square().sum().clamp_min(1e-6))


def _total_turn(angles: Tensor, symmetry: int) -> float:
    """Degrees turned in all, from angles (n,) known up to the shape's symmetry: the net turn, or, where steps come near
    half the symmetry and their direction is unsure, that of a steady pace (most steps are at least this large)."""
    steps = (angles.diff() + symmetry / 2) % symmetry - symmetry / 2
    if float(steps.abs().median()) > symmetry / 3:
        return float(steps.abs().quantile(0.25)) * len(steps)
    return abs(float(steps.sum()))
