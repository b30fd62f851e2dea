"""The command line's tasks, on clips of any size, length and rate: given frames come back bit for bit from the file."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from sora_core.checkpoint import load_checkpoint
from sora_core.cli import main
from sora_core.engine import PipelineEngine, Task
from sora_core.pipeline import Pipeline
from sora_core.tasks import extend
from sora_core.video import pixel_aspect, read_metadata, read_video, write_video

PROMPT = "a red circle moves left on a sky background"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Seven frames of 50x38 at 25 fps, every bit kept."""
    frames = torch.rand(7, 38, 50, 3, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "clip.mkv", frames, 25, lossless=True)
    return tmp_path / "clip.mkv"


def run(tiny_file: Path, folder: Path, *words: str) -> int:
    words = (*words, "--model", str(tiny_file), "--out", str(folder / "out.mkv"), "--lossless", "--steps", "2")
    return main(list(words))


def test_extend_keeps_every_bit(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, "--after", "6", "--before", "3") == 0
    source, out = read_video(clip), read_video(tmp_path / "out.mkv")
    assert out.fps == 25 and out.frames.shape == (16, 38, 50, 3)
    assert torch.equal(out.frames[3:10], source.frames)


def test_extend_makes_some_frames_after_the_clip_unless_told(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    source = read_video(clip).frames
    for words, before, after in (((), 0, 8), (("--before", "3"), 3, 0)):
        assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *words, "--overwrite") == 0
        out = read_video(tmp_path / "out.mkv").frames
        assert len(out) == before + len(source) + after and torch.equal(out[before : before + len(source)], source)


@pytest.mark.parametrize("ends", [("--before", "3", "--after", "4"), ("--before", "30", "--after", "4")])
def test_what_was_made_says_how_and_where_its_seams_are(
    tiny_file: Path, tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str], ends: tuple[str, ...]
) -> None:
    """At once, and one end after the other."""
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *ends, "--seed", "5") == 0
    before, printed = int(ends[1]), capsys.readouterr().out
    seams = [int(seam) for seam in printed.split("report --seams: ")[1].splitlines()[0].split(",")]
    assert {before, before + 7} <= set(seams)
    told = read_metadata(tmp_path / "out.mkv")
    wanted = {"command": "extend", "prompt": PROMPT, "video": clip.name, "before": ends[1], "after": "4", "seed": "5"}
    assert wanted.items() <= told.items() and told["steps"] == "2"
    assert not {"out", "lossless", "overwrite", "run", "keep"} & set(told)


def test_a_size_that_the_model_was_not_made_for_is_said(
    tiny_file: Path, tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT) == 0
    assert "Not what this model was made for: height 48" in capsys.readouterr().out
    write_video(tmp_path / "fits.mkv", torch.rand(7, 64, 96, 3), 25, lossless=True)
    assert run(tiny_file, tmp_path, "extend", str(tmp_path / "fits.mkv"), PROMPT, "--overwrite") == 0
    assert "Not what" not in capsys.readouterr().out


def test_pixels_keep_their_shape(tiny_file: Path, tmp_path: Path) -> None:
    frames = torch.rand(9, 32, 48, 3, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "tv.mkv", frames, 25, lossless=True, pixel_aspect=Fraction(16, 15))
    assert run(tiny_file, tmp_path, "extend", str(tmp_path / "tv.mkv"), PROMPT, "--after", "4") == 0
    assert pixel_aspect(tmp_path / "out.mkv") == Fraction(16, 15)
    go_on = ("--start", str(tmp_path / "tv.mkv"), "--seconds", "0.2", "--window", "13", "--overwrite")
    assert run(tiny_file, tmp_path, "long", PROMPT, *go_on) == 0
    assert pixel_aspect(tmp_path / "out.mkv") == Fraction(16, 15)


def test_a_long_clip_is_extended_one_end_after_the_other(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    both = ("--after", "6", "--before", "3", "--overlap", "2")
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *both) == 0
    out, source = read_video(tmp_path / "out.mkv").frames, read_video(clip).frames
    assert len(out) == 16 and torch.equal(out[3:10], source)
    after = ("--after", "6", "--overlap", "2", "--overwrite")
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *after) == 0
    assert torch.equal(read_video(tmp_path / "out.mkv").frames, out[3:])


def test_more_than_a_window_is_made_in_windows(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    windows = ("--after", "20", "--window", "13")
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *windows) == 0
    out, source = read_video(tmp_path / "out.mkv").frames, read_video(clip).frames
    assert len(out) == 27 and torch.equal(out[:7], source)
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, "--after", "20", "--overwrite") == 0
    assert not torch.isclose(read_video(tmp_path / "out.mkv").frames[7:], out[7:]).all()
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *windows, "--window", "5") != 0


@pytest.mark.parametrize(("overlap", "seen"), [(1, 2), (5, 2), (9, 3), (99, 3)])
def test_windows_see_as_much_as_was_asked_for(
    tiny_file: Path, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch, overlap: int, seen: int
) -> None:
    """Of the window before: the overlap, and the frame that the first latent holds."""
    kept, sample = [], PipelineEngine.sample

    def watched(engine: PipelineEngine, task: Task) -> Tensor:
        kept.append(int((task.strength.flatten(3).amax(3) == 0).sum()))
        return sample(engine, task)

    monkeypatch.setattr(PipelineEngine, "sample", watched)
    words = ("--after", "20", "--window", "13", "--overlap", str(overlap))
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *words) == 0
    assert len(kept) > 1 and set(kept[1:]) == {seen}


@pytest.mark.parametrize(("width", "height"), [(50, 38), (272, 30)])
def test_windows_go_on_from_clips_of_any_size(tiny_file: Path, tmp_path: Path, width: int, height: int) -> None:
    source = torch.rand(7, height, width, 3, generator=torch.Generator().manual_seed(0))
    clip = tmp_path / "clip.mkv"
    write_video(clip, source, 25, lossless=True)
    source = read_video(clip).frames
    for words in (
        ("long", PROMPT, "--start", str(clip), "--seconds", "0.8", "--window", "13"),
        ("extend", str(clip), PROMPT, "--after", "20", "--window", "13", "--overwrite"),
    ):
        assert run(tiny_file, tmp_path, *words) == 0
        out = read_video(tmp_path / "out.mkv").frames
        assert out.shape == (27, height, width, 3) and torch.equal(out[:7], source)


def test_interpolate_and_loop_keep_every_bit(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    other = tmp_path / "other.mkv"
    write_video(other, torch.rand(2, 38, 50, 3, generator=torch.Generator().manual_seed(1)), 25, lossless=True)
    words = ("interpolate", str(clip), str(other), PROMPT, "--then", "a blue square", "--frames", "5")
    assert run(tiny_file, tmp_path, *words) == 0
    out, first, second = (read_video(path).frames for path in (tmp_path / "out.mkv", clip, other))
    assert len(out) == 14 and torch.equal(out[:7], first) and torch.equal(out[12:], second)
    assert run(tiny_file, tmp_path, "loop", str(clip), PROMPT, "--frames", "4", "--overwrite") == 0
    out = read_video(tmp_path / "out.mkv").frames
    assert len(out) == 11 and torch.equal(out[:7], first)


@pytest.mark.parametrize(
    "words", [("extend", "--after", "12"), ("extend", "--before", "8"), ("loop",), ("edit", "--strength", "1")]
)
def test_a_second_text_changes_what_is_made_and_nothing_else(
    tiny_file: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    clip = tmp_path / "clip.mkv"
    write_video(clip, torch.rand(9, 32, 48, 3), 25, lossless=True)
    outs = []
    for then in ((), ("--then", "a blue square"), ("--then", PROMPT)):
        assert run(tiny_file, tmp_path, words[0], str(clip), PROMPT, *words[1:], *then, "--overwrite") == 0
        outs.append(read_video(tmp_path / "out.mkv").frames)
    plain, other, same = outs
    assert not torch.equal(plain, other) and (plain - same).abs().max() < 1.5 / 255
    if words[0] != "edit":
        first = 8 if "--before" in words else 0
        assert all(torch.equal(out[first : first + 9], read_video(clip).frames) for out in outs)


def test_a_still_takes_the_rate_of_what_moves(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    write_video(tmp_path / "still.png", torch.rand(1, 38, 50, 3), 1)
    still, source = str(tmp_path / "still.png"), read_video(clip).frames
    assert run(tiny_file, tmp_path, "interpolate", still, str(clip), PROMPT, "--frames", "4") == 0
    out = read_video(tmp_path / "out.mkv")
    assert out.fps == 25 and len(out.frames) == 12 and torch.equal(out.frames[5:], source)
    assert run(tiny_file, tmp_path, "extend", still, PROMPT, "--after", "4", "--overwrite") == 0
    assert read_video(tmp_path / "out.mkv").fps == 12


def test_many_frames_before_a_clip_are_made_part_by_part(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    most, source = load_checkpoint(tiny_file).defaults.max_frames, read_video(clip).frames
    for words in (("--before", str(most + 8)), ("--before", str(most + 8), "--after", "3")):
        assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *words, "--overwrite") == 0
        out = read_video(tmp_path / "out.mkv").frames
        assert len(out) == most + 15 + 3 * (len(words) == 4) and torch.equal(out[most + 8 : most + 15], source)


def test_parts_before_a_clip_count_on_the_frames_that_came_behind_it(
    tiny_file: Path, tmp_path: Path, clip: Path
) -> None:
    """The clip alone has fewer frames than the overlap; with the new ones behind it, the overlap is seen in full."""
    words = ("--before", "13", "--after", "40", "--overlap", "24", "--window", "33")
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, *words) == 0
    out = read_video(tmp_path / "out.mkv").frames
    assert len(out) == 60 and torch.equal(out[13:20], read_video(clip).frames)


def test_every_part_has_a_seed_of_its_own(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    words = ("extend", str(clip), PROMPT, "--before", "13", "--window", "13", "--overlap", "4", "--seed", "5")
    assert run(tiny_file, tmp_path, *words) == 0
    pipeline, frames = Pipeline.load(tiny_file), read_video(clip).frames
    for count, seed in ((9, 5), (4, 4)):  # down: windows forward count up
        frames = pipeline.make(extend(frames, before=count, overlap=4), PROMPT, seed=seed, steps=2)
    assert (read_video(tmp_path / "out.mkv").frames - frames).abs().max() < 1 / 255


@pytest.mark.parametrize(
    "words",
    [
        ("extend", "{clip}", PROMPT, "--after", "20", "--before", "11", "--window", "13", "--overlap", "4"),
        ("edit", "{clip}", PROMPT, "--window", "13"),
        ("edit", "{clip}", PROMPT),  # at once
    ],
)
def test_tasks_go_on_from_what_was_finished(tiny_file: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    """Windows, and parts before the clip; and what is gone on from is what would have been made without."""
    write_video(tmp_path / "clip.mkv", torch.rand(21, 32, 48, 3), 25, lossless=True)
    words = tuple(word.format(clip=tmp_path / "clip.mkv") for word in words)
    assert run(tiny_file, tmp_path, *words) == 0
    whole = read_video(tmp_path / "out.mkv").frames
    kept = (*words, "--keep", str(tmp_path / "kept"), "--overwrite")
    assert run(tiny_file, tmp_path, *kept) == 0
    assert (read_video(tmp_path / "out.mkv").frames - whole).abs().max() < 1.5 / 255
    first, windows = (tmp_path / "out.mkv").read_bytes(), sorted((tmp_path / "kept").rglob("window-*"))
    parts = {"kept", "before-1", "before-2"} if "--after" in words else {"kept"}
    assert {path.parent.name for path in windows} == parts
    windows[-1].unlink()
    before = {path: path.stat().st_mtime_ns for path in windows[:-1]}
    assert run(tiny_file, tmp_path, *kept) == 0
    assert (tmp_path / "out.mkv").read_bytes() == first and windows[-1].exists()
    assert before == {path: path.stat().st_mtime_ns for path in windows[:-1]}
    if "--after" in words:  # on another machine the last bits of what was made are others
        before_1, before_2 = (next(path for path in windows if path.parent.name == f"before-{i}") for i in (1, 2))
        with safe_open(before_1, framework="pt") as file:
            latents, about = file.get_tensor("latents"), file.metadata()
        save_file({"latents": latents + 1e-4}, before_1, about)
        before_2.unlink()
        assert run(tiny_file, tmp_path, *kept) == 0 and before_2.exists()


def test_clips_whose_pixels_have_other_shapes_are_not_joined(
    tiny_file: Path, tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture
) -> None:
    wide, still = tmp_path / "wide.mkv", tmp_path / "still.png"
    write_video(wide, read_video(clip).frames, read_video(clip).fps, lossless=True, pixel_aspect=Fraction(16, 15))
    write_video(still, read_video(clip).frames[:1], 1)
    assert run(tiny_file, tmp_path, "interpolate", str(clip), str(wide), PROMPT) == 1
    assert "has pixels of 1 and" in (told := capsys.readouterr().err) and "of 16/15" in told
    assert run(tiny_file, tmp_path, "interpolate", str(still), str(wide), PROMPT, "--frames", "4") == 0
    assert pixel_aspect(tmp_path / "out.mkv") == Fraction(16, 15)


def test_a_file_is_no_folder_to_keep_windows_in(
    tiny_file: Path, tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture
) -> None:
    for words in (("long", PROMPT), ("edit", str(clip), PROMPT)):
        with pytest.raises(SystemExit) as stop:
            run(tiny_file, tmp_path, *words, "--keep", str(clip))
        assert stop.value.code == 2 and "clip.mkv is a file; give a folder" in capsys.readouterr().err


def test_a_rate_that_varies_is_said(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, times in (("steady", [0, 50, 100, 150, 200]), ("varies", [0, 50, 66, 116, 132])):
        grey = [np.full((32, 32), 40 * i, np.uint8) for i in range(5)]
        frames = [av.VideoFrame.from_ndarray(one, format="gray").reformat(format="rgb24") for one in grey]
        with av.open(str(tmp_path / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("libx264rgb", rate=1000, width=32, height=32, pix_fmt="rgb24")
            stream.codec_context.time_base = Fraction(1, 1000)
            for frame, time in zip(frames, times, strict=True):
                frame.pts, frame.time_base = time, Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        assert run(tiny_file, tmp_path, "extend", str(tmp_path / f"{name}.mp4"), PROMPT, "--after", "4") == 0
        assert ("its frame rate varies" in capsys.readouterr().out) == (name == "varies")


def test_a_brush_on_a_transparent_layer_is_a_mask(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    brush = torch.zeros(38, 50)
    brush[10:20, 5:40] = 1
    layer = torch.cat([torch.ones(38, 50, 3), brush[..., None]], dim=-1)
    Image.fromarray((layer * 255).byte().numpy()).save(tmp_path / "mask.png")
    assert run(tiny_file, tmp_path, "edit", str(clip), PROMPT, "--mask", str(tmp_path / "mask.png")) == 0
    out, source = read_video(tmp_path / "out.mkv").frames, read_video(clip).frames
    assert torch.equal(out[:, brush == 0], source[:, brush == 0])
    assert not torch.equal(out[:, brush == 1], source[:, brush == 1])


def test_edit_keeps_what_the_mask_and_the_span_leave(tiny_file: Path, tmp_path: Path, clip: Path) -> None:
    mask = torch.zeros(1, 38, 50, 3)
    mask[:, 10:20, 5:40] = 1
    write_video(tmp_path / "mask.png", mask, 1)
    words = ("edit", str(clip), PROMPT, "--strength", "0.8", "--first", "2", "--mask", str(tmp_path / "mask.png"))
    assert run(tiny_file, tmp_path, *words) == 0
    out, source = read_video(tmp_path / "out.mkv").frames, read_video(clip).frames
    inside = (mask > 0).expand(7, -1, -1, -1).clone()
    inside[:2] = False
    assert torch.equal(out[~inside], source[~inside]) and not torch.isclose(out[inside], source[inside]).all()
    assert run(tiny_file, tmp_path, "edit", str(clip), PROMPT, "--strength", "0", "--overwrite") == 0
    assert torch.equal(read_video(tmp_path / "out.mkv").frames, source)


def test_long_goes_on_from_a_clip_and_from_what_was_finished(tiny_file: Path, tmp_path: Path) -> None:
    start = torch.rand(6, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    write_video(tmp_path / "start.mkv", start, 10, lossless=True)
    (tmp_path / "prompts.txt").write_text("0:00 a red circle\n1s a blue square\n", encoding="utf-8")
    words = ("long", "--prompts", str(tmp_path / "prompts.txt"), "--seconds", "2", "--window", "17",
             "--start", str(tmp_path / "start.mkv"), "--keep", str(tmp_path / "kept"))  # fmt: skip
    assert run(tiny_file, tmp_path, *words) == 0
    first = (tmp_path / "out.mkv").read_bytes()
    out = read_video(tmp_path / "out.mkv")
    assert out.fps == 10 and len(out.frames) == 26
    assert torch.equal(out.frames[:6], read_video(tmp_path / "start.mkv").frames)
    (tmp_path / "late").mkdir()
    for late, code in (("2.5s", 0), ("2.6s", 1)):  # times count on the whole clip, of 2.6 s
        (tmp_path / "late.txt").write_text(f"0:00 a red circle\n{late} a star\n", encoding="utf-8")
        late_words = ("long", "--prompts", str(tmp_path / "late.txt"), *words[3:-2], "--overwrite")
        assert run(tiny_file, tmp_path / "late", *late_words) == code
    kept = sorted((tmp_path / "kept").glob("window-*"))
    kept[-1].unlink()
    assert run(tiny_file, tmp_path, *words, "--overwrite") == 0
    assert (tmp_path / "out.mkv").read_bytes() == first


def test_a_report_of_what_was_made(tiny_file: Path, tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture) -> None:
    assert run(tiny_file, tmp_path, "extend", str(clip), PROMPT, "--after", "4") == 0
    assert "report --seams: 7" in capsys.readouterr().out
    (tmp_path / "report.png").touch()
    words = ["report", "--seams", "7,9", str(tmp_path / "out.mkv"), "--source", str(clip)]
    assert main([*words, "--picture", str(tmp_path / "report.png")]) == 0
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["frames"] == 11 and found["kept"]["identical"] and [s["frame"] for s in found["seams"]] == [7, 9]
    assert "report-2.png" in said.err and len(read_video(tmp_path / "report-2.png").frames) == 1
    assert "no seam" not in said.err
    assert main(["report", str(tmp_path / "out.mkv")]) == 0
    said = capsys.readouterr()
    assert "no seam was asked for: --seams takes" in said.err and json.loads(said.out)["seams"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("extend", "{clip}", PROMPT, "--after", "0"), "at least one has to be above 0"),
        (("extend", "{clip}", PROMPT, "--before", "-3"), "none below"),
        (("extend", "{clip}", PROMPT, "--after", "4", "--before", "-3", "--overlap", "2"), "extend by -3 before"),
        (("extend", "{clip}", " ", "--after", "4"), "the prompt is empty"),
        (("edit", "{clip}", PROMPT, "--strength", "7"), "strength 7: 0 keeps"),
        (("long", "--prompts", "{empty}"), "empty.txt: it is empty"),
        (("long", "--prompts", "gone.txt"), "gone.txt: there is no such file of prompts"),
        (("long", "a", "--window", "0"), "--window 0: windows have 4n + 1 frames, from 9 on"),
        (("extend", "{clip}", PROMPT, "--fps", "0.0004"), "fps is 0.0004"),
        (("extend", "gone.mp4", PROMPT, "--after", "4"), "gone.mp4"),
        (("edit", "{clip}", PROMPT, "--curve", "0-1"), "is not FRAME:STRENGTH"),
        (("edit", "{clip}", PROMPT, "--curve", "0:0, 7:1"), "frame 7 of a clip of 7: the last is 6, or -1"),
        (("edit", "{clip}", PROMPT, "--last", "7"), "choose 0 to 6"),
        (("loop", "{clip}", PROMPT, "--frames", "0"), "0 new frames"),
        (("loop", "{clip}", PROMPT, "--frames", f"{10**12}"), "the memory does not suffice"),
        (("long", PROMPT, "--overlap", "3"), "--overlap 3: a window sees whole latents again"),
        (("loop", "{clip}", PROMPT, "--frames", "300"), "this model takes at most 33"),
        (("extend", "{clip}", PROMPT, "--after", "9", "--window", "500"), "--window 500: windows have 4n + 1 frames"),
        (("long", PROMPT, "--prompts", "{latin}"), "a prompt and --prompts: give one of them"),
        (
            ("extend", "{clip}", PROMPT, "--after", "60", "--then", "a"),
            "--then: a text goes over to another in what is",
        ),
        (("extend", "{clip}", PROMPT, "--before", "60", "--then", "a"), "--then: this is made one end after the other"),
        (("interpolate", "{clip}", "{clip}", PROMPT, "--then", " "), "--then is empty"),
        (("extend", "{clip}", PROMPT, "--after", "90", "--window", "13", "--cfg", "nan"), "cfg is nan"),
        (("extend", "{clip}", PROMPT, "--after", "90", "--window", "13", "--seed", "-1"), "seed -1"),
        (("interpolate", "{clip}", "{other}", PROMPT), "say with --fps"),
        (("long", "--prompts", "{latin}"), "save it as UTF-8"),
        (
            ("long", "0:00 a\n0:30 b", "--seconds", "20", "--window", "17"),
            "the prompt at 30 s begins after the end",
        ),
        (("long", "0:00 a\n1:75 b", "--seconds", "90"), "more than 59 seconds or minutes"),
        (("long",), "there is no prompt"),
        (("long", "a", "--size", "272x64"), "width 272"),
        (("long", "a", "--size", "64x64", "--start", "gone.mp4"), "--size: the clip of --start brings its own"),
        (("extend", "{clip}", PROMPT, "--before", "9", "--window", "12"), "--window 12: windows have 4n + 1 frames"),
        (("long", "0:00 a\nb", "--start", "gone.mp4"), "line 2"),  # before anything is read
        (("long", "0:00 a\n0:01 b\n0:01.1 c", "--window", "17"), "prompts at 1 s and 1.1 s: move them apart"),
    ],
)
def test_errors_are_one_line(
    tiny_file: Path, tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture, words: tuple[str, ...], message: str
) -> None:
    files = {"clip": clip, "other": tmp_path / "other.mkv", "latin": tmp_path / "latin.txt"}
    files["empty"] = tmp_path / "empty.txt"
    write_video(files["other"], read_video(clip).frames, 10, lossless=True)
    files["latin"].write_bytes("0:00 café".encode("latin-1"))
    files["empty"].write_text("\n")
    assert run(tiny_file, tmp_path, *(word.format(**files) for word in words)) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
