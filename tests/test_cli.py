"""The command line, run as people run it, on the bundled model where pictures matter."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sora_core.checkpoint import Model
from sora_core.cli import main
from sora_core.pipeline import Pipeline
from sora_core.video import read_metadata, read_video, write_video
from sora_core.world import render, scene_of
from sora_core.world.score import analyse

ROOT = Path(__file__).parent.parent
PROMPT = "a red circle moves left on a sky background"


def test_a_prompt_becomes_a_video_that_shows_it(bundled: Model, tmp_path: Path) -> None:
    """The README's command: the default clip of the bundled model."""
    out = tmp_path / "clip.mp4"
    command = [sys.executable, "-m", "sora_core", "generate", PROMPT, "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "clip.mp4: 17 frames" in done.stdout
    video = read_video(out)
    assert len(video.frames) == 17 and min(video.frames.shape[1:3]) >= 128 and video.fps == 12
    found = analyse(video.frames)
    assert (found.background, found.colour, found.motion) == ("sky", "red", "moves left")
    assert read_metadata(out)["prompt"] == PROMPT


def run(tiny_file: Path, tmp_path: Path, *words: str) -> int:
    return main(["generate", *words, "--model", str(tiny_file), "--out", str(tmp_path / "clip.mp4")])


def test_a_prompt_is_expanded_and_a_clip_described(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--expand", "--model", str(tiny_file), "--size", "64x64", "--frames", "5", "--steps", "1"]
    assert main(["generate", "a crimson ball goes up at night", *words, "--out", str(tmp_path / "a.mkv")]) == 0
    prompt = "a red circle moves up on a night background"
    assert prompt in capsys.readouterr().out and read_metadata(tmp_path / "a.mkv")["prompt"] == prompt
    clip = render(scene_of("star", "blue", "grows", "sand", rng=np.random.default_rng(0)), 17, 96, 96)
    write_video(tmp_path / "b.mkv", clip, 12, lossless=True)
    assert main(["describe", str(tmp_path / "b.mkv")]) == 0
    assert capsys.readouterr().out == "a blue star grows on a sand background\n"


def test_files_that_cannot_be_written_are_named_before_the_work(
    tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Pipeline, "generate", lambda *_, **__: pytest.fail("the work began"))
    words = ["generate", PROMPT, "--model", str(tiny_file), "--frames", "1", "--overwrite"]
    same = ["--out", str(tmp_path / "a.png"), "--sheet", str(tmp_path / "." / "a.png")]
    assert main([*words, *same]) != 0
    assert "--out is written there; give another name" in capsys.readouterr().err

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "touch", refuse)
    assert main([*words, *same[:2]]) != 0
    assert "a.png cannot be written (Read-only file system); choose another folder" in capsys.readouterr().err


def test_same_seed_same_bytes(tiny_file: Path, tmp_path: Path) -> None:
    assert [run(tiny_file, tmp_path, PROMPT, "--seed", seed) for seed in ("7", "7", "8")] == [0, 0, 0]
    first, again, other = (tmp_path / name for name in ("clip.mp4", "clip-2.mp4", "clip-3.mp4"))
    assert first.read_bytes() == again.read_bytes()
    assert not torch.equal(read_video(first).frames, read_video(other).frames)


def test_nothing_is_overwritten_unless_asked(tiny_file: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("mine")
    assert run(tiny_file, tmp_path, PROMPT) == 0
    assert (tmp_path / "clip.mp4").read_text() == "mine" and (tmp_path / "clip-2.mp4").exists()
    assert run(tiny_file, tmp_path, PROMPT, "--overwrite") == 0
    assert len(read_video(tmp_path / "clip.mp4").frames) == 5


@pytest.mark.parametrize("size", ["64x128", "128x64", "80x96"])
@pytest.mark.parametrize("frames", ["1", "9"])
def test_any_size_and_length(tiny_file: Path, tmp_path: Path, size: str, frames: str) -> None:
    assert run(tiny_file, tmp_path, PROMPT, "--size", size, "--frames", frames) == 0
    made = read_video(tmp_path / "clip.mp4").frames
    width, height = map(int, size.split("x"))
    assert made.shape == (int(frames), height, width, 3)


def test_prompts_may_hold_anything(tiny_file: Path, tmp_path: Path) -> None:
    for prompt in ['it\'s "quoted" $5', "größer → 円", "x" * 5000]:
        assert run(tiny_file, tmp_path, "--overwrite", prompt) == 0
    assert main(["generate", "--model", str(tiny_file), "--out", str(tmp_path / "x.mp4"), "--", "--steps"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((PROMPT, "--size", "100x64"), "width 100"),
        ((PROMPT, "--frames", "6"), "6 frames: a clip has 4n \\+ 1 frames.*the nearest is 5"),
        (("  ",), "the prompt is empty"),
        ((PROMPT, "--steps", "0"), "steps is 0"),
        ((PROMPT, "--steps", "1001"), "steps is 1001: sampling takes 1 to 1000"),
        ((PROMPT, "--cfg", "nan"), "cfg is nan"),
        ((PROMPT, "--seed", str(2**64)), "seeds run from 0"),
        ((PROMPT, "--fps", "0"), "fps"),
        ((PROMPT, "--model", "nowhere.safetensors"), "nowhere.safetensors does not exist"),
        ((PROMPT, "--out", "nowhere/clip.mp4"), "the folder nowhere does not exist"),
        ((PROMPT, "--out", "."), "is a folder"),
        ((PROMPT, "--out", "clip.exe"), "the extension must be one of .mp4"),
        ((PROMPT, "--out", "clip.PNG"), "a .png holds one frame"),
        ((PROMPT, "--out", "clip.gif", "--fps", "60"), "at most 50 fps"),
        ((PROMPT, "--sheet", "sheet.jpg"), "has to end in .png"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(
    tiny_file: Path, tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    defaults = ["--model", str(tiny_file), "--out", str(tmp_path / "clip.mp4")]
    assert main(["generate", *defaults, *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error), error
    assert not list(tmp_path.iterdir())


def test_a_broken_video_is_refused(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    assert main(["encode", str(tmp_path / "broken.mp4"), "--model", str(tiny_file)]) == 1
    error = capsys.readouterr().err
    assert re.search(r"broken.mp4.*(cannot|not a video)", error) and error.count("\n") == 1


def test_encode_and_decode_bring_a_clip_back(
    bundled: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = render(scene_of("square", "blue", "moves right", "sand", rng=np.random.default_rng(0)), 9, 128, 128)
    write_video(tmp_path / "in.mp4", frames, 24)
    assert main(["encode", str(tmp_path / "in.mp4")]) == 0
    assert main(["decode", str(tmp_path / "in.safetensors"), "--out", str(tmp_path / "out.mp4")]) == 0
    again = read_video(tmp_path / "out.mp4")
    assert again.fps == 24
    assert -10 * torch.log10((again.frames - frames).square().mean()) > 24


def test_encode_says_what_fits(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, model = str(tmp_path / "odd.mp4"), ["--model", str(tiny_file)]
    write_video(clip, torch.rand(10, 90, 90, 3), 24)
    assert main(["encode", clip, *model]) == 1
    assert "10 frames: the VAE takes 4n + 1; use 9 or 13 (--frames cuts the clip" in capsys.readouterr().err
    assert main(["encode", clip, *model, "--frames", "9", "--size", "90x96"]) == 1
    assert "width 90: the VAE takes multiples of 8; use 88" in capsys.readouterr().err
    assert main(["encode", clip, *model, "--frames", "9", "--size", "96x96"]) == 0
    assert main(["decode", str(tmp_path / "odd.safetensors"), *model]) == 0
    assert read_video(tmp_path / "odd-2.mp4").frames.shape == (9, 96, 96, 3)


def test_decode_refuses_other_files(
    tiny: Model, tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metadata = {"format": "sora_core/latents/1", "fps": "12", "vae": tiny.vae.fingerprint()}
    good = {"latents": torch.zeros(1, 4, 2, 8, 8)}
    cases = {
        "holds no latents": (good, {}),
        "latents of another VAE": (good, metadata | {"vae": "0"}),
        "no file of latents, or a damaged one": (good, {"format": metadata["format"], "vae": metadata["vae"]}),
        "expected finite latents": ({"latents": torch.zeros(2, 4, 2, 8, 8)}, metadata),
        "this VAE decodes": ({"latents": torch.zeros(1, 16, 2, 8, 8)}, metadata),
    }
    for message, (tensors, notes) in cases.items():
        save_file(tensors, tmp_path / "x.safetensors", notes)
        assert main(["decode", str(tmp_path / "x.safetensors"), "--model", str(tiny_file)]) == 1
        assert message in capsys.readouterr().err
    (tmp_path / "x.safetensors").write_bytes(b"cut")
    assert main(["decode", str(tmp_path / "x.safetensors"), "--model", str(tiny_file)]) == 1
    assert "no file of latents, or a damaged one" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.mp4"))


def test_info_tells_config_provenance_and_scores(tiny_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--model", str(tiny_file)]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("dit:", "vae:", "text:", "million parameters", "random weights", "scores"))
    assert main(["info", "--json", "--model", str(tiny_file)]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["dit"]["dim"] == 48


def test_a_reader_may_leave_early(tiny_file: Path) -> None:
    """As `head` does: no word of a broken pipe, and not the code of what is done."""
    words = [sys.executable, "-m", "sora_core", "info", "--model", str(tiny_file)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == "" and running.wait() == 141


def test_info_tells_how_a_clip_was_made(tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--steps", "1", "--frames", "5", "--size", "64x64", "--seed", "7", "--out", str(tmp_path / "a.mp4")]
    assert main(["generate", PROMPT, "--model", str(tiny_file), *words]) == 0
    capsys.readouterr()
    assert main(["info", str(tmp_path / "a.mp4")]) == 0
    assert f"prompt: {PROMPT}\n" in capsys.readouterr().out
    assert main(["info", "--json", str(tmp_path / "a.mp4")]) == 0
    assert json.loads(capsys.readouterr().out)["seed"] == "7"
    assert main(["info", str(tiny_file)]) == 1
    assert f"info --model {tiny_file}" in capsys.readouterr().err


def test_evaluate_writes_scores_and_a_sheet(
    tiny_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--clips", "2", "--steps", "1", "--out", str(tmp_path / "s.json"), "--sheet", str(tmp_path / "s.png")]
    words += ["--failures", str(tmp_path / "f.png")]
    assert main(["evaluate", "--model", str(tiny_file), *words]) == 0
    assert "single, held out: all" in capsys.readouterr().out
    assert set(json.loads((tmp_path / "s.json").read_text())) == {"prompts"}
    for name in ("s.png", "f.png"):  # random weights show nothing that was asked for
        assert len(read_video(tmp_path / name).frames) == 1
    for words, message in (
        (["--out", str(tmp_path / "none" / "s.json")], "does not exist; make it first"),
        (["--tasks", "loop", "--frames", "9"], "--frames does nothing with --tasks"),
        (["--vae", "--steps", "9"], "--steps does nothing with --vae"),
        (["--seed", "-1"], "seed -1: seeds run from 0"),
        (["--seed", "-1", "--tasks", "loop"], "seed -1: seeds run from 0"),
    ):
        assert main(["evaluate", "--model", str(tiny_file), *words]) == 1
        assert message in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["generate", "--help"])
    assert stop.value.code == 0 and "--size WxH" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["generate", PROMPT, "--size", "0x64"])
    assert stop.value.code == 2 and "write WIDTHxHEIGHT" in capsys.readouterr().err


def test_decode_reports_progress(pipeline: Pipeline) -> None:
    seen: list[tuple[int, int]] = []
    pipeline.decode(torch.zeros(1, 4, 5, 8, 8), on_frames=lambda done, total: seen.append((done, total)))
    assert seen == [(5, 17), (13, 17), (17, 17)]
