"""Timed prompts of a long clip: reading them, and at which frames they begin."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True)
class Cue:
    """From this time on, the clip shows this."""

    seconds: float  # in the finished clip
    text: str
    skipped: int = 0  # frames of the finished clip before the part of it that is made

    def frame(self, fps: float) -> int:
        """At which it begins, of the part that is made; below 0 where it begins before that."""
        return round(self.seconds * fps) - self.skipped


CLOCK = re.compile(r"(?:(?:\d+:)?\d+:\d\d(?:\.\d+)?s?|\d+(?:\.\d+)?s)(?![\w.])")
# h:mm:ss, m:ss or a number with an s; then a space or a mark, which stands in numbers, too: `:` and `,` need a space.
# Minutes need two digits of seconds: `16:9` is no time.
TIMED = re.compile(
    r"(?:(?:(\d+):)?(\d+):(?=\d\d(?!\d)))?(\d+(?:\.\d+)?)(s?)(\s*[,:]\s+|\s*[|–-]\s*|\s+(?:to|until)\s+|\s+)(.+)"
)
SPAN = re.compile(r"\s*[–-]\s*|\s+(?:to|until)\s+")
LIKE_A_TIME = re.compile(r"[\[(<]?\d+:\d\d(?!\d)")
ANOTHER = re.compile(r"(?<![\w:.'\"])(?:\d+:)?\d+:\d\d(?![\w:'\"])")  # a time in a text that is not in quotes


def parse_cues(text: str) -> list[Cue]:
    """Cues from lines such as `0:05 a red circle bounces on a sky background`, `1:00:05 a ...` or `5s a ...`.

    A text without times is one cue. Raises ValueError that names the line where a time is missing, not ascending, or
    of a span, where a text is missing or has another time in it, or where the first is not 0.
    """
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise ValueError("the prompts are empty; write one a line, each with its time, as in `0:05 a red circle ...`")
    for number, line in lines:
        if CLOCK.fullmatch(line):
            raise ValueError(f"prompts, line {number}: there is no text behind the time {line}")
    timed = [(number, TIMED.fullmatch(line)) for number, line in lines]
    timed = [(number, match if match and (match[2] or match[4]) else None) for number, match in timed]
    alone = timed[0][1]
    no_time = alone is None or (not alone[2] and float(alone[3]) > 0)
    if len(lines) == 1 and no_time and not LIKE_A_TIME.match(lines[0][1]):
        return [Cue(0, lines[0][1])]  # such as `80s synthwave`
    cues: list[Cue] = []
    for (number, match), (_, line) in zip(timed, lines, strict=True):
        if match is None:
            raise ValueError(
                f"prompts, line {number}: {line[:40]!r} has no time; begin it with one and a space, as in "
                "`0:05 a star` or `5s a star`"
            )
        hours, minutes, seconds = int(match[1] or 0), int(match[2] or 0), float(match[3])
        if (match[2] and seconds >= 60) or (match[1] and minutes >= 60):
            raise ValueError(
                f"prompts, line {number}: {line[:40]!r} has more than 59 seconds or minutes; write 1:15, not 0:75"
            )
        if SPAN.fullmatch(match[5]) and CLOCK.match(match[6].strip()):
            raise ValueError(
                f"prompts, line {number}: {line[:40]!r} has two times; give the one at which it begins, it lasts until "
                "the next line's"
            )
        if another := ANOTHER.search(match[6], 1):
            raise ValueError(
                f"prompts, line {number}: there is a second time in it, {another[0]}; write every prompt on a line of "
                "its own, or put a time that is part of the text in quotes"
            )
        seconds += 60 * minutes + 3600 * hours
        if cues and seconds <= cues[-1].seconds:
            raise ValueError(f"prompts, line {number}: its time is not after that of the line before")
        cues.append(Cue(seconds, match[6].strip()))
    if cues[0].seconds != 0:
        raise ValueError(f"prompts, line {lines[0][0]}: the first prompt has to begin at 0:00")
    return cues


def seen_from(cues: Sequence[Cue], begin: int, end: int, length: int, fps: float) -> list[Cue]:
    """Cues of a clip of `length` frames as its frames begin..end see them: those before the end. Raises ValueError
    where one begins behind the clip."""
    check_end(cues, length, fps)
    return [replace(cue, skipped=begin) for cue in cues if cue.frame(fps) < end]


def check_end(cues: Sequence[Cue], frames: int, fps: float) -> None:
    last = cues[-1]
    if last.frame(fps) >= frames:
        length = (last.skipped + frames) / fps
        raise ValueError(
            f"the prompt at {last.seconds:g} s begins after the end of the clip, which lasts {length:g} s: "
            "make the clip longer, or leave the prompt out"
        )


def begins_of(cues: Sequence[Cue], fps: float, factor: int) -> list[int]:
    """Frames at which cues begin. Raises ValueError where two are so near that no latent frame might show the first."""
    begins = [cue.frame(fps) for cue in cues]
    for (one, at), (other, then) in pairwise(zip(cues, begins, strict=True)):
        if then - at < factor:
            raise ValueError(
                f"prompts at {one.seconds:g} s and {other.seconds:g} s: move them apart, to {factor} frames at least "
                f"({factor / fps:.2f} s at {fps:g} fps)"
            )
    return begins
