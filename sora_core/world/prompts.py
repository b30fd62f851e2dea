"""Canonical captions of free prompts, and of clips: the words that the model knows best.

Of a prompt, what it says is kept, and what it leaves out is drawn from a seed; the tables of synonyms are those of the
captions, read backwards. Of a clip, its pixels are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .captions import (
    BACKDROPS,
    BACKGROUND_WORDS,
    COLOUR_WORDS,
    DIRECTION_WORDS,
    PLACES,
    SHAPE_WORDS,
    SIZE_WORDS,
    SPEED_WORDS,
    STYLE_ADJECTIVES,
    STYLE_PHRASES,
    TRAVEL_VERBS,
    VERBS,
    canonical,
)
from .scene import (
    BACKGROUNDS,
    COLOURS,
    DIRECTIONS,
    MOTIONS,
    SHAPES,
    SPINNABLE,
    WITH_SPEED,
    Scene,
    Thing,
    is_visible,
)  # fmt: skip
from .score import Analysis, analyse, size_of, speed_of

GROUNDS = ("sky", "sea", "ocean", "water", "waves", "lake", "grass", "meadow", "lawn", "sand", "beach")
MOST_THINGS = 2  # of a scene
CALM = (*DIRECTIONS, "stays still")  # what is drawn of two things whose motion is not said
FILLERS = ("a", "an", "the", "and", "while", "with", "is", "are", "of", "video", "clip", "animation")
_COUNTS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_PLURALS = [word + ("es" if word.endswith(("x", "s")) else "s") for words in SHAPE_WORDS.values() for word in words]
_SEVERAL = re.compile(  # as in `two red circles`; without a number `circles` is a verb as well
    rf"\b({'|'.join(_COUNTS)}|\d+|several|many|some|few|dozens of)\s+(?:[\w-]+\s+){{0,3}}?(?:{'|'.join(_PLURALS)})\b",
    re.IGNORECASE,
)
OFF = 0.15  # RGB distance at which a pixel is of another colour
FRAMES = 17  # of the clips for which the words of speed are meant
TRAVELS = "travels"  # some way, that is not said
_MORE = {  # what people also say of a thing, and training captions do not
    ("colour", "yellow"): ("gold",),
    ("speed", "slowly"): ("slow",),
    ("motion", "moves right"): ("left to right", "from the left to the right"),
    ("motion", "moves left"): ("right to left", "from the right to the left"),
    ("motion", "moves up"): ("bottom to top", "from the bottom to the top"),
    ("motion", "moves down"): ("top to bottom", "from the top to the bottom", "falls", "falling", "fall"),
    ("motion", "circles around"): ("in circles", "in a circle", "in a loop", "in loops"),
    ("motion", "stays still"): ("not move", "not moving", "never moves", "still", "motionless", "frozen"),
    ("motion", "bounces"): ("jumps", "jumping", "jump"),
    ("motion", TRAVELS): (
        "flies",
        "flying",
        "fly",
        "rolls",
        "rolling",
        "roll",
        "travelling",
        "crosses the",
        "crosses the screen",
        "crosses the frame",
    ),
}
_NEAREST = {"blue": "sky", "green": "mint", "yellow": "sand", "brown": "sand", "black": "night", "dark": "night"}
_BARE = {  # what people also say of a place
    "sky": ("in the sky", "in the air"),
    "sand": ("on sand", "on the sand", "on a beach", "on the beach", "in the desert"),
    "night": ("at night", "in the night", "in the dark"),
    "meadow": ("meadow", "grass", "lawn"),
    "sea": ("sea", "ocean", "waves", "lake", "water"),
}


def expand(text: str, seed: int = 0) -> str:
    """The canonical caption of a scene of which a text says something. Words outside the world are left out.

    Raises ValueError where the text says nothing of this world, or speaks of more than two things."""
    return canonical(_scene(text, seed))


def apart(text: str) -> list[str]:
    """Where a text tells of two things and of nothing else, the canonical caption of each by itself, on the ground that
    they share; what it leaves open is drawn, the same every time. Else none: of one thing or of more than two, of a
    wall, where only one is said to move, and where a word says more, such as `not`, `both`, `on the left` or `into`."""
    wishes, *_, wall = _read(text)
    named = len(wishes) == MOST_THINGS and all({"shape", "colour"} <= said.keys() for said in wishes)
    if wall or not named or len({"motion" in said for said in wishes}) > 1 or _unread(text):
        return []
    scene = _scene(text, 0)
    return [canonical(replace(scene, things=(thing,))) for thing in scene.things]


def warning(text: str, by_halves: bool) -> str | None:
    """What to say of a text that sora-mini, which reads it as it stands, will not follow: it names several things, or
    nothing of its world. None of another text, and of none. by_halves: whether two things could be made here, each in
    a half of the frame, had the text told them apart."""
    wishes, *around = _read(text)
    if text.strip() and not any([*wishes, *around]):
        return (
            "Nothing in the text is of sora-mini's world, so it tells the model nothing: name a shape, a colour, a "
            "motion or a place, as in `a red circle moves left on a sky background`."
        )
    if sum("shape" in said for said in wishes) < 2 and _alike(text) < 2:
        return None
    told = "The text names several things and is read as one: mostly one of them comes, or a mixture."
    if not by_halves:
        return f"{told} Name one thing."
    return (
        f"{told} From noise, two are made one by one where each has its colour and shape, and both or none a motion: "
        "`a red circle grows and a blue square spins`."
    )


def _alike(text: str) -> int:
    """How many things of one kind a text speaks of, where it gives a number: one more than can be where it is vague."""
    found = 1
    for word in (match[1].lower() for match in _SEVERAL.finditer(text)):
        counted = _COUNTS.index(word) + 2 if word in _COUNTS else int(word) if word.isdigit() else MOST_THINGS + 1
        found = max(found, counted)
    return found


def _unread(text: str) -> list[str]:
    """Words of a text that say something else than what is read from it."""
    rest = re.sub(r"\b(set )?(on|against|over|in front of|with)( an?| the)?\s+\.", " ", _without_places(text)[0])
    return [word for word in re.findall(r"\w+", _words().sub(" ", rest)) if word not in FILLERS]


def _scene(text: str, seed: int) -> Scene:
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed {seed}: seeds run from 0 to 2**63 - 1")
    wishes, place, near, style, wall = _read(text)
    if not any([*wishes, place, near, style, wall]):
        raise ValueError(
            f"prompt {text!r}: nothing in it is of sora-mini's world; name a shape ({', '.join(SHAPES)}), a colour, "
            "a motion or a place, as in `on a night background`"
        )
    if (count := max(len(wishes), _alike(text))) > MOST_THINGS:
        raise ValueError(f"prompt {text!r}: it speaks of {count} things; sora-mini shows at most {MOST_THINGS}")
    if len(wishes) == 1:
        wishes = wishes * count
    rng, style = np.random.default_rng(seed), style or "plain"
    colours = [said["colour"] for said in wishes if "colour" in said]
    fitting = [b for b in BACKGROUNDS if all(is_visible(colour, b, style) for colour in colours)]
    place = place or (near if near in fitting else None) or _pick(rng, fitting or list(BACKGROUNDS))
    motions = MOTIONS if len(wishes) == 1 else CALM
    things = tuple(_thing(said, place, style, wall, motions, rng) for said in wishes)
    return Scene(things, place, style, wall)


def describe(frames: Tensor) -> str:
    """The canonical caption of a clip (T, H, W, 3), or an image, that shows one plain thing on a plain background; how
    fast a thing turns is not read. Raises ValueError where nothing is found that moves as this world's things do."""
    found = analyse(frames) if len(frames) else Analysis("")
    motion = "stays still" if len(frames) == 1 else found.motion
    if found.shape is None or found.colour is None or motion is None or not _is_all(frames, found):
        raise ValueError("images: no single plain thing is found in them; only clips of sora-mini's world can be read")
    size = size_of(frames, found)
    speed = speed_of(frames, FRAMES) if motion in DIRECTIONS else "normal"
    return canonical(Scene((Thing(found.shape, found.colour, motion, size, speed),), found.background))


def _is_all(frames: Tensor, found: Analysis) -> bool:
    """Whether what was found explains a clip: hardly a pixel is neither of the thing nor of the background nor between,
    and the thing has its shape. True clips have 0 and 0.97, those that sora-mini made 0.01 and 0.9."""
    background, colour = torch.tensor(BACKGROUNDS[found.background]), torch.tensor(COLOURS[found.colour or ""])
    way, shown = colour - background, frames[::4].float() - background
    share = (shown @ way / (way @ way)).clamp(0, 1)
    off = (shown - share[..., None] * way).norm(dim=-1) > OFF
    return float(off.float().mean()) < 0.03 and found.overlap > 0.7


def _thing(
    said: dict[str, str], place: str, style: str, wall: bool, motions: tuple[str, ...], rng: np.random.Generator
) -> Thing:
    """With every attribute: as said, or drawn such that the rest still fits, its motion from `motions`."""
    colour = said.get("colour") or _pick(rng, [c for c in COLOURS if is_visible(c, place, style)])
    motion, shape = said.get("motion"), said.get("shape")
    if motion in (None, TRAVELS):
        some = ("moves left", "moves right") if wall else tuple(DIRECTIONS) if motion else motions
        motion = _pick(rng, [m for m in some if m != "spins" or shape is None or shape in SPINNABLE])
        if "speed" in said and motion not in WITH_SPEED:
            motion = _pick(rng, list(DIRECTIONS))
    shape = shape or _pick(rng, list(SPINNABLE if motion == "spins" else SHAPES))
    thing = Thing(shape, colour, motion, said.get("size", "medium"))
    return replace(thing, speed=said.get("speed", "normal")) if motion in WITH_SPEED else thing


def _pick(rng: np.random.Generator, options: list[str]) -> str:
    return options[rng.integers(len(options))]


def _read(text: str) -> tuple[list[dict[str, str]], str | None, str | None, str | None, bool]:
    """What is said of every thing, by attribute; the background, and the one nearest to what is said of it; style, and
    whether there is a wall."""
    rest, *around = _without_places(text)
    wishes: list[dict[str, str]] = []
    waiting: dict[str, str] = {}  # said before the thing it belongs to
    next_one = True  # whether a motion that is said now belongs to the thing that is named next
    together = False  # whether one verb tells of all that was named
    for match in _words().finditer(rest):
        attribute, value = _meaning().get(match[0], ("", ""))
        if not attribute:
            next_one = True
        elif attribute == "shape":
            wishes.append(waiting | {"shape": value})
            waiting, next_one = {}, False
        elif attribute in ("colour", "size") or next_one:
            if waiting.get(attribute, TRAVELS) == TRAVELS:
                waiting[attribute] = value
        elif wishes[-1].get(attribute, TRAVELS) == TRAVELS:
            wishes[-1][attribute] = value
            together |= attribute == "motion" and match[0].split()[0] in _plurals()
    for attribute, value in waiting.items():  # said behind the last thing, or of something without a shape
        if not wishes:
            wishes.append({})
        wishes[-1].setdefault(attribute, value)
    if together:
        said = {key: value for key, value in wishes[-1].items() if key in ("motion", "speed")}
        wishes = [said | wish for wish in wishes]
    return wishes or [{}], *around


def _without_places(text: str) -> tuple[str, str | None, str | None, str | None, bool]:
    """A text in small letters without its background, style and wall; and these, as of `_read`."""
    rest = re.sub(r"n['\u2019]t\b", " not", text.lower())
    rest = " ".join(re.sub(r"[^\w\s-]", " . ", rest.replace("'", "")).split())
    rest = re.sub(rf"\b({'|'.join(COLOURS)}) ({'|'.join(GROUNDS)})\b", r"\2", rest)  # the sea is blue anyway
    rest = re.sub(r"\bplus (an?|the)\b", r"and \1", rest)
    place, rest = _taken(rest, _places())
    near, rest = _taken(rest, _near_places())
    rest = re.sub(rf"\b\w+ ({'|'.join(BACKDROPS)})\b", " . ", rest)  # of a colour that no background has
    style, rest = _taken(rest, _styles())
    wall, rest = _taken(rest, ((re.compile(r"\bwall\b"), "wall"),))
    return _adverbs().sub(r"\1 \3 \2", rest), place, near, style, wall is not None


def _taken(text: str, patterns: tuple[tuple[re.Pattern, str], ...]) -> tuple[str | None, str]:
    """The value of the first pattern that is found, and the text without any of them."""
    value = None
    for pattern, meaning in patterns:
        if pattern.search(text):
            value = value or meaning
            text = pattern.sub(" . ", text)
    return value, text


def _longest_first(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(pairs, key=lambda pair: -len(pair[0]))


@cache
def _places() -> tuple[tuple[re.Pattern, str], ...]:
    backdrop = "|".join(BACKDROPS)
    words = _longest_first([(word, name) for name, words in BACKGROUND_WORDS.items() for word in words])
    found = [(re.compile(rf"\b{word} ({backdrop})\b|\b({backdrop}) is {word}\b"), name) for word, name in words]
    found += [
        (re.compile(rf"\b(on|against|over|in front of) (an? |the )?(light )?{word}\b"), name) for word, name in words
    ]
    phrases = [(phrase, name) for name, phrases in (*PLACES.items(), *_BARE.items()) for phrase in phrases]
    return (*found, *((re.compile(rf"\b{phrase}\b"), name) for phrase, name in _longest_first(phrases)))


@cache
def _near_places() -> tuple[tuple[re.Pattern, str], ...]:
    return tuple((re.compile(rf"\b{word} ({'|'.join(BACKDROPS)})\b"), name) for word, name in _NEAREST.items())


@cache
def _styles() -> tuple[tuple[re.Pattern, str], ...]:
    phrases = [(p, name) for table in (STYLE_PHRASES, STYLE_ADJECTIVES) for name, ps in table.items() for p in ps]
    return tuple((re.compile(rf"\b{phrase}\b"), name) for phrase, name in _longest_first(phrases))


@cache
def _meaning() -> dict[str, tuple[str, str]]:
    """Attribute and value of every phrase that tells something of a thing."""
    tables = {"colour": COLOUR_WORDS, "shape": SHAPE_WORDS, "size": SIZE_WORDS, "speed": SPEED_WORDS}
    found = {
        word: (attribute, value)
        for attribute, table in tables.items()
        for value, words in table.items()
        for word in words
        if word
    }
    shapes = {word: value for word, (attribute, value) in found.items() if attribute == "shape"}
    found |= {word + ("es" if word[-1] in "sx" else "s"): ("shape", value) for word, value in shapes.items()}
    del found["crosses"]  # rather a verb
    for motion, verbs in VERBS.items():
        found |= {form: ("motion", motion) for verb in verbs for form in _forms(verb)}
    for form in _travelling():
        found.setdefault(form, ("motion", TRAVELS))
        for motion, directions in DIRECTION_WORDS.items():
            ways = (*directions, *_MORE.get(("motion", motion), ()))
            found |= {f"{form} {way}": ("motion", motion) for way in ways}
    for meaning, words in _MORE.items():
        found |= dict.fromkeys(words, meaning)
    return found


@cache
def _travelling() -> tuple[str, ...]:
    """Verbs that a direction may stand behind."""
    return (*(form for verb in TRAVEL_VERBS for form in _forms(verb)), *_MORE["motion", TRAVELS])


@cache
def _adverbs() -> re.Pattern:
    """A speed between a verb and its way: `moves slowly to the left`."""
    speeds, ways = (
        [word for words in table.values() for word in words if word] for table in (SPEED_WORDS, DIRECTION_WORDS)
    )
    return re.compile(rf"\b({_any_of(_travelling())}) ({_any_of(speeds)}) ({_any_of(ways)})\b")


def _any_of(phrases: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(phrases, key=len, reverse=True)))


def _forms(verb: tuple[str, str]) -> tuple[str, ...]:
    """Of a verb that is given as finite form and participle: also the plain one."""
    finite, participle = verb
    first, _, rest = finite.partition(" ")
    plain = {"goes": "go", "does": "do"}.get(first, first.removesuffix("s"))
    return finite, participle, f"{plain} {rest}".strip()


@cache
def _plurals() -> frozenset[str]:
    """First words of verbs as they stand behind several things."""
    verbs = [*TRAVEL_VERBS, *(verb for verbs in VERBS.values() for verb in verbs)]
    return frozenset(_forms(verb)[2].split()[0] for verb in verbs)


@cache
def _words() -> re.Pattern:
    return re.compile(rf"\b({_any_of(_meaning())}|and (?:an?|the|one|another)(?= ))\b")
