"""Captions of scenes: the canonical sentence, and the many other ways people would put it.

Canonical: `a [small|large] COLOUR SHAPE MOTION [slowly|quickly] on a BACKGROUND background[, STYLE style]`. Scenes
read `over a meadow`, `over the sea`; two things are joined by `and`; the wall reads `behind a wall`. `a` is `an`
before orange; medium size, normal speed and the plain style have no word. A style or the wall is never left unsaid.

The first entry of every table of synonyms is the canonical word.
"""

import numpy as np

from .scene import DIRECTIONS, Scene, Thing, sample_scene

COLOUR_WORDS = {
    "red": ("red", "crimson", "scarlet", "ruby", "bright red"),
    "green": ("green", "emerald", "leaf green", "bright green"),
    "blue": ("blue", "cobalt", "sapphire", "royal blue"),
    "yellow": ("yellow", "golden", "lemon", "canary yellow"),
    "purple": ("purple", "violet", "amethyst", "plum"),
    "orange": ("orange", "tangerine", "bright orange", "pumpkin"),
    "white": ("white", "snow white", "pure white", "ivory"),
    "black": ("black", "jet black", "ebony", "pitch black"),
}
SHAPE_WORDS = {
    "circle": ("circle", "ball", "disc", "disk", "dot", "round shape"),
    "square": ("square", "box", "block", "cube", "tile"),
    "triangle": ("triangle", "wedge", "pyramid", "three-sided shape"),
    "star": ("star", "five-pointed star", "star shape", "pointed star"),
    "ring": ("ring", "hoop", "donut", "loop", "hollow circle"),
    "cross": ("cross", "plus", "plus sign", "plus shape"),
}
SIZE_WORDS = {
    "small": ("small", "little", "tiny", "mini"),
    "medium": ("", "medium", "medium-sized"),
    "large": ("large", "big", "huge", "giant"),
}
SPEED_WORDS = {
    "slowly": ("slowly", "gently", "at a slow pace", "unhurriedly"),
    "normal": ("",),
    "quickly": ("quickly", "fast", "rapidly", "swiftly", "at high speed"),
}
BACKGROUND_WORDS = {
    "gray": ("gray", "grey", "plain gray", "neutral grey"),
    "sky": ("sky", "sky blue", "light blue", "pale blue"),
    "sand": ("sand", "sandy", "beige", "tan", "sand-colored"),
    "night": ("night", "dark navy", "midnight", "navy", "night sky"),
    "pink": ("pink", "light pink", "rose", "pastel pink"),
    "mint": ("mint", "mint green", "pale green", "minty"),
}
PLACE_FRAMES = ("on {}", "against {}", "over {}", "in front of {}", "with {}", "set on {}")
PLACES = {
    "meadow": ("over a meadow", "above a green meadow", "in a meadow", "over a grassy field", "above the grass"),
    "sea": ("over the sea", "above the ocean", "over the ocean", "above the waves", "over blue water"),
}
BACKDROPS = ("background", "backdrop")
STYLE_PHRASES = {
    "outline": ("outline style", "in outline style", "drawn as an outline", "line drawing", "only the contour"),
    "neon": ("neon style", "in neon style", "glowing neon", "as a neon sign", "in glowing neon lights"),
    "pixel": ("pixel style", "in pixel style", "pixel art", "as pixel art", "8-bit style", "retro pixel graphics"),
}
STYLE_ADJECTIVES = {"outline": ("outlined",), "neon": ("neon", "glowing"), "pixel": ("pixelated", "8-bit")}
WALL_PHRASES = ("behind a wall", "behind the wall", "behind a dark wall", "and passes behind a wall")

EMPTY = 0.1  # share of empty captions: what guidance goes away from

TRAVEL_VERBS = (  # finite, participle
    ("moves", "moving"),
    ("slides", "sliding"),
    ("glides", "gliding"),
    ("drifts", "drifting"),
    ("travels", "traveling"),
    ("goes", "going"),
    ("floats", "floating"),
)
DIRECTION_WORDS = {
    "moves left": ("left", "to the left", "leftwards", "leftward", "from right to left", "towards the left"),
    "moves right": ("right", "to the right", "rightwards", "rightward", "from left to right", "towards the right"),
    "moves up": ("up", "upwards", "upward", "to the top", "from bottom to top"),
    "moves down": ("down", "downwards", "downward", "to the bottom", "from top to bottom"),
}
VERBS = {  # finite, participle
    "moves up": (("rises", "rising"), ("ascends", "ascending"), ("climbs", "climbing")),
    "moves down": (("sinks", "sinking"), ("descends", "descending")),
    "bounces": (
        ("bounces", "bouncing"),
        ("bounces up and down", "bouncing up and down"),
        ("bounces on the ground", "bouncing on the ground"),
        ("drops and bounces", "dropping and bouncing"),
        ("falls and rebounds", "falling and rebounding"),
        ("hops", "hopping"),
    ),
    "spins": (
        ("spins", "spinning"),
        ("rotates", "rotating"),
        ("turns around", "turning around"),
        ("twirls", "twirling"),
        ("spins in place", "spinning in place"),
        ("whirls", "whirling"),
    ),
    "grows": (
        ("grows", "growing"),
        ("expands", "expanding"),
        ("gets bigger", "getting bigger"),
        ("swells", "swelling"),
        ("becomes larger", "becoming larger"),
        ("enlarges", "enlarging"),
    ),
    "shrinks": (
        ("shrinks", "shrinking"),
        ("contracts", "contracting"),
        ("gets smaller", "getting smaller"),
        ("becomes smaller", "becoming smaller"),
        ("dwindles", "dwindling"),
    ),
    "circles around": (
        ("circles around", "circling around"),
        ("orbits", "orbiting"),
        ("moves in a circle", "moving in a circle"),
        ("goes around in a circle", "going around in a circle"),
        ("circles the center", "circling the center"),
        ("goes round and round", "going round and round"),
    ),
    "stays still": (
        ("stays still", "staying still"),
        ("hovers", "hovering"),
        ("stands still", "standing still"),
        ("remains motionless", "remaining motionless"),
        ("does not move", "not moving"),
        ("rests", "resting"),
    ),
}


def canonical(scene: Scene) -> str:
    """The one sentence of the world's grammar that describes the scene."""
    parts = []
    for thing in scene.things:
        size = "" if thing.size == "medium" else thing.size
        speed = "" if thing.speed == "normal" else thing.speed
        parts.append(_join(_with_article(_join(size, thing.colour, thing.shape)), thing.motion, speed))
    wall = "behind a wall" if scene.wall else ""
    place = PLACES[scene.background][0] if scene.background in PLACES else f"on a {scene.background} background"
    style = "" if scene.style == "plain" else f", {scene.style} style"
    return _join(" and ".join(parts), wall, place) + style


def draw_caption(scene: Scene, rng: np.random.Generator) -> str:
    """A training caption: 50% canonical, 20% paraphrase, 10% short, 10% rich and 10% empty. A scene that turns into
    another is described as the one or as the other: a transition goes from text to text."""
    if scene.then is not None and rng.random() < 0.5:
        scene = scene.then
    roll = rng.random()
    if roll < 0.5:
        return canonical(scene)
    if roll < 0.7:
        return paraphrase(scene, rng)
    if roll < 0.8:
        return short(scene, rng)
    return rich(scene, rng) if roll < 1 - EMPTY else ""


def paraphrase(scene: Scene, rng: np.random.Generator) -> str:
    """The canonical content in other words and orders, with synonyms for every word."""
    form = rng.integers(6)
    participle = form in (0, 1, 5)
    style_first = scene.style != "plain" and rng.random() < 0.3
    subjects = _and(_clause(thing, rng, participle, scene.style if style_first else "") for thing in scene.things)
    subjects = _join(subjects, _wall(scene, rng, participle))
    place = _place(scene.background, rng)
    style = "" if style_first else _style(scene.style, rng)
    if form == 4:
        return f"{place}, {subjects}{style}"
    lead = _pick(rng, ("a video of ", "a clip of ", "an animation of ", "")) if form == 5 else ""
    return f"{lead}{_join(subjects, place)}{style}"


def short(scene: Scene, rng: np.random.Generator) -> str:
    """A few words that leave something out; shape, style and wall are always said."""
    said = _pick(rng, ("colour", "motion", "colour motion", "colour place", "motion place"))
    participle, article = rng.random() < 0.5, rng.random() < 0.7
    parts = []
    for thing in scene.things:
        colour = _word(rng, COLOUR_WORDS[thing.colour]) if "colour" in said else ""
        noun = _join(colour, _word(rng, SHAPE_WORDS[thing.shape]))
        motion = _motion(thing, rng, participle) if "motion" in said else ""
        parts.append(_join(_with_article(noun) if article else noun, motion))
    place = _place(scene.background, rng) if "place" in said else ""
    return _join(_and(parts), _wall(scene, rng, True), place) + _style(scene.style, rng)


def rich(scene: Scene, rng: np.random.Generator) -> str:
    """Two descriptive sentences."""
    wall = _wall(scene, rng, False)
    if len(scene.things) == 2:
        sides = ("on the left", "on the right") if scene.layout == "beside" else ("at the top", "at the bottom")
        clauses = [f"{side} {_clause(thing, rng, False)}" for side, thing in zip(sides, scene.things, strict=True)]
        first = _pick(rng, (", ", "; ", " and ", " while ")).join(clauses)
    elif rng.random() < 0.5:
        first = _join(_clause(scene.things[0], rng, False), wall)
    else:
        thing = scene.things[0]
        lead = _pick(rng, ("there is", "we see", "the video shows", "the clip shows"))
        motion = _join("it", _motion(thing, rng, False), _word(rng, SPEED_WORDS[thing.speed]), wall)
        tail = _join(motion, _place(scene.background, rng)) + _style(scene.style, rng)
        return f"{_sentence(_join(lead, _with_article(_noun(thing, rng))))} {_sentence(tail)}"
    return f"{_sentence(first)} {_sentence(_setting(scene, rng))}"


def corpus(n: int, seed: int) -> list[str]:
    """n non-empty captions of random training scenes, to train a tokenizer on."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    while len(texts) < n:
        if text := draw_caption(sample_scene(rng), rng):
            texts.append(text)
    return texts


# -- phrases -----------------------------------------------------------------------------------------------------


def _noun(thing: Thing, rng: np.random.Generator) -> str:
    size, colour, shape = SIZE_WORDS[thing.size], COLOUR_WORDS[thing.colour], SHAPE_WORDS[thing.shape]
    return _join(_word(rng, size), _word(rng, colour), _word(rng, shape))


def _clause(thing: Thing, rng: np.random.Generator, participle: bool, style: str = "") -> str:
    """`a red circle moves left slowly` in other words; a style becomes an adjective."""
    adjective = _pick(rng, STYLE_ADJECTIVES[style]) if style else ""
    motion, speed = _motion(thing, rng, participle), _word(rng, SPEED_WORDS[thing.speed])
    before = speed in ("slowly", "gently", "quickly", "rapidly", "swiftly") and rng.random() < 0.3
    motion = _join(speed, motion) if before else _join(motion, speed)
    return _join(_with_article(_join(adjective, _noun(thing, rng))), motion)


def _motion(thing: Thing, rng: np.random.Generator, participle: bool) -> str:
    verbs = VERBS.get(thing.motion, ())
    if thing.motion in DIRECTIONS and (not verbs or rng.random() < 0.7):
        verb, direction = _word(rng, TRAVEL_VERBS), _word(rng, DIRECTION_WORDS[thing.motion])
        return f"{verb[participle]} {direction}"
    return _word(rng, verbs)[participle]


def _wall(scene: Scene, rng: np.random.Generator, participle: bool) -> str:
    phrase = _word(rng, WALL_PHRASES) if scene.wall else ""
    return phrase.replace("and passes", "and passing") if participle else phrase


def _place(background: str, rng: np.random.Generator) -> str:
    if background in PLACES:
        return _word(rng, PLACES[background])
    backdrop = _join(_word(rng, BACKGROUND_WORDS[background]), _word(rng, BACKDROPS))
    return _word(rng, PLACE_FRAMES).format(_with_article(backdrop))


def _style(style: str, rng: np.random.Generator) -> str:
    return "" if style == "plain" else f", {_word(rng, STYLE_PHRASES[style])}"


def _setting(scene: Scene, rng: np.random.Generator) -> str:
    """A sentence about the background and the style."""
    if scene.background in PLACES:
        text = f"the scene plays {_word(rng, PLACES[scene.background])}"
    else:
        words = _word(rng, BACKGROUND_WORDS[scene.background])
        frames = ("the background is {}", "the backdrop is {}", "everything happens on {} background", "behind is {}")
        frame = _pick(rng, frames)
        text = frame.format(words if " is {}" in frame and "behind" not in frame else _with_article(words))
        text += " backdrop" if frame.startswith("behind") else ""
    return text + _style(scene.style, rng)


def _and(parts) -> str:
    return " and ".join(parts)


def _join(*words: str) -> str:
    return " ".join(word for word in words if word)


def _with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou8" else "a ") + noun


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _word(rng: np.random.Generator, options: tuple):
    """The canonical word 40% of the time, else any."""
    return options[0] if rng.random() < 0.4 else _pick(rng, options)


def _pick(rng: np.random.Generator, options: tuple):
    return options[rng.integers(len(options))]
