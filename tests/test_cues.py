"""Laws of timed prompts: how they are read, and which are refused."""

from __future__ import annotations

import pytest

from sora_core.cues import Cue, begins_of, check_end, parse_cues, seen_from


def test_cues_are_read() -> None:
    assert parse_cues("a red circle moves left") == [Cue(0, "a red circle moves left")]
    assert parse_cues("0:00 a red circle\n\n0:02.5 - 5 squares\n1:00: a star") == [
        Cue(0, "a red circle"), Cue(2.5, "5 squares"), Cue(60, "a star"),
    ]  # fmt: skip
    assert parse_cues("0s a red circle\n1.5s, a star") == [Cue(0, "a red circle"), Cue(1.5, "a star")]
    assert parse_cues("5 red circles move left") == [Cue(0, "5 red circles move left")]
    for text in ("80s synthwave street", "1980s style film", "4:3 old TV footage", "16:9 wide"):  # no times
        assert parse_cues(text) == [Cue(0, text)] and parse_cues(f"0:00 {text}") == [Cue(0, text)]
    assert parse_cues("0:00 7:30 am, a kitchen\n5s 90s VHS") == [Cue(0, "7:30 am, a kitchen"), Cue(5, "90s VHS")]
    assert parse_cues("0:00 a clock that shows '12:30', at noon")[0].text == "a clock that shows '12:30', at noon"
    assert parse_cues("a clock shows 12:30") == [Cue(0, "a clock shows 12:30")]
    assert parse_cues("0:00:00 a\n0:59 | b\n1:00:30.5 30 stars") == [Cue(0, "a"), Cue(59, "b"), Cue(3630.5, "30 stars")]


def test_a_part_of_a_clip_sees_the_cues_that_are_on_show_in_it() -> None:
    cues = [Cue(0, "a"), Cue(2, "b"), Cue(5, "c"), Cue(9, "d")]
    assert seen_from(cues, 0, 10, 10, fps=1) == cues
    assert [(cue.frame(1), cue.text) for cue in seen_from(cues, 3, 8, 10, fps=1)] == [(-3, "a"), (-1, "b"), (2, "c")]
    assert [cue.frame(2) for cue in seen_from(cues, 10, 18, 20, fps=2)] == [-10, -6, 0]
    with pytest.raises(ValueError, match="the prompt at 9 s begins after the end of the clip, which lasts 8 s"):
        seen_from(cues, 0, 8, 8, fps=1)


def test_a_part_s_cues_complain_in_the_clip_s_own_times() -> None:
    """A clip of 17 frames at 12 a second that goes on for ten seconds, in all 137 frames."""
    with pytest.raises(ValueError, match=r"prompts at 5 s and 5.1 s: move them apart"):
        begins_of(seen_from([Cue(0, "a"), Cue(5, "b"), Cue(5.1, "c")], 17, 137, 137, fps=12), 12, 4)
    last = seen_from([Cue(0, "a"), Cue(11.375, "b")], 17, 137, 137, fps=12)
    check_end(last, 120, 12)  # its last frame, by either count
    assert last[-1].frame(12) == 119
    with pytest.raises(ValueError, match=r"the prompt at 11.4167 s begins after the end of the clip, which lasts 11.4"):
        check_end(seen_from([Cue(0, "a"), Cue(137 / 12, "b")], 17, 138, 138, fps=12), 120, 12)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  \n", "the prompts are empty"),
        ("0:00 a red circle\na blue square", "line 2: 'a blue square' has no time"),
        ("0:00 a red circle\n0:05a star", "line 2: '0:05a star' has no time; begin it with one and a space"),
        ("0:00-0:05 a red circle", "line 1: '0:00-0:05 a red circle' has two times"),
        ("0:00 to 0:05 a red circle", "line 1.* has two times"),
        ("0:00–0:05 a red circle", "line 1.* has two times"),
        ("0:05 a star", "line 1: the first prompt has to begin at 0:00"),
        ("0s - 5s a red circle\n5s - 9s a star", "line 1.* has two times; give the one at which it begins"),
        ("0:05", "line 1: there is no text behind the time 0:05"),
        ("0:00 a red circle\n5s", "line 2: there is no text behind the time 5s"),
        ("0:00 a\n0:05 b\n0:05 c", "line 3: its time is not after"),
        (
            "0:00 a star 0:05 a circle",
            "line 1: there is a second time in it, 0:05; write every prompt on a",
        ),
        ("0:00 a; 1:00:05 b", "line 1: there is a second time in it, 1:00:05"),
        ("0:05a red circle", "line 1: '0:05a red circle' has no time; begin it with one and a space"),
        ("[0:00] a star", "has no time; begin it with one"),
        ("0:01 a red circle", "line 1: the first prompt has to begin at 0:00"),
    ],
)
def test_cues_that_cannot_be_say_which_line(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_cues(text)
