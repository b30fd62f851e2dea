"""Laws of training on videos of one's own, and on several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from training import QUIET, lines, trainee

from sora_core.checkpoint import Model, load_checkpoint, save_checkpoint
from sora_core.pipeline import frames_to_video
from sora_core.train import dit
from sora_core.train.__main__ import main
from sora_core.train.dit import DiTTraining, train_dit, validation_loss, wrong_captions
from sora_core.train.latents import VIDEOS, Bucket, caption_of, fill_bucket, read_bucket
from sora_core.train.run import Run, fit
from sora_core.train.videos import FPS, captioned, clips_in, fill_from_videos, fitted
from sora_core.vae import VAE
from sora_core.video import write_video

BUCKET = Bucket(5, 32, 32)


def write(folder: Path, name: str, frames: torch.Tensor, *captions: str, fps: int = int(FPS)) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, frames, fps, lossless=True)
    path.with_suffix(".txt").write_text("\n".join(captions) + "\n", encoding="utf-8")
    return path


def noise(frames: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    pixels = torch.randint(256, (frames, height, width, 3), generator=torch.Generator().manual_seed(seed))
    return pixels.float() / 255


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    write(folder, "dog.mp4", noise(17), "a dog runs", "", "an animal")
    write(folder, "more/dog.mkv", noise(6, seed=1), "a cat sleeps")
    write(folder, "short.mp4", noise(4, seed=2), "nothing to see")
    return folder


def test_clips_of_a_video_follow_each_other(tmp_path: Path) -> None:
    """Where the size and rate fit they are its frames, bit for bit; the rest is left out."""
    frames = noise(17)
    clips = list(clips_in(write(tmp_path, "a.mp4", frames, "x"), BUCKET))
    assert torch.equal(torch.cat(clips), frames[:15])
    slow = write(tmp_path, "b.mp4", frames, "x", fps=int(FPS) // 2)  # each frame is shown twice as long
    assert torch.equal(torch.cat(list(clips_in(slow, BUCKET)))[::2], frames[:15])


@pytest.mark.parametrize("size", [(32, 32), (40, 70), (200, 32), (17, 31), (1080, 1920), (1, 1)])
def test_frames_cover_the_bucket_around_their_middle(size: tuple[int, int]) -> None:
    """A picture that is symmetric stays so; nothing is stretched and no border is added."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    distance = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) / min(height, width)
    found = fitted(np.repeat((255 * np.exp(-4 * distance)).astype(np.uint8)[..., None], 3, 2), 24, 32)
    assert found.shape == (24, 32, 3) and found.min() >= 0 and found.max() <= 1
    torch.testing.assert_close(found, found.flip(0), atol=0.02, rtol=0)
    torch.testing.assert_close(found, found.flip(1), atol=0.02, rtol=0)


def test_a_folder_of_videos_becomes_latents_with_their_captions(
    untrained: VAE, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill_from_videos(untrained, tmp_path / "cache", BUCKET, videos)
    assert "left out: 1 of 3 videos" in capsys.readouterr().out
    parts = sorted((tmp_path / "cache" / str(BUCKET)).iterdir())
    found = {path.name.partition("-")[2]: path for path in parts}
    assert set(found) == {"dog.mp4.safetensors", "more%2Fdog.mkv.safetensors"}
    splits = {path.name.partition("-")[0] for path in parts}
    shown = {}
    for split in splits:
        latents, captions = read_bucket(tmp_path / "cache", BUCKET, split)
        for z, of in zip(latents, captions, strict=True):
            shown.setdefault(of, []).append(z)
    assert {captions: len(z) for captions, z in shown.items()} == {("a dog runs", "an animal"): 3, ("a cat sleeps",): 1}
    for i, z in enumerate(shown["a dog runs", "an animal"]):
        clip = frames_to_video(noise(17)[5 * i : 5 * i + 5])
        torch.testing.assert_close(z.float(), untrained.encode(clip)[0], atol=4e-3, rtol=4e-3)
    rng = np.random.default_rng(0)
    drawn = {caption_of(("a dog runs", "an animal"), rng) for _ in range(100)}
    assert drawn == {"", "a dog runs", "an animal"}

    stamps = {path: path.stat().st_mtime_ns for path in parts}
    write(videos, "new.mp4", noise(30, seed=3), "a bird")
    fill_from_videos(untrained, tmp_path / "cache", BUCKET, videos, most=2)
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / str(BUCKET)).iterdir()}
    assert stamps.items() < after.items() and len(after) == 3  # what was there is left alone
    (new,) = after.keys() - stamps.keys()
    assert len(read_bucket(tmp_path / "cache", BUCKET, new.name.partition("-")[0])[0]) >= 2


def test_what_has_changed_since_reaches_the_cache_or_is_refused(
    untrained: VAE, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, cache = (tmp_path / name for name in ("one", "other", "cache"))
    write(one, "0.mp4", noise(17), "a dog")
    write(one, "1.mp4", noise(6, seed=1), "a cat")
    fill_from_videos(untrained, cache, BUCKET, one, most=2)
    before, _ = read_bucket(cache, BUCKET, VIDEOS)
    (one / "0.txt").write_text("\ufeffa black dog\nan animal\n", encoding="utf-8")  # as some editors write it
    fill_from_videos(untrained, cache, BUCKET, one, most=2)
    after, captions = read_bucket(cache, BUCKET, VIDEOS)
    assert torch.equal(before, after) and captions == [("a black dog", "an animal")] * 2 + [("a cat",)]
    fill_from_videos(untrained, cache, BUCKET, one)
    more, captions = read_bucket(cache, BUCKET, VIDEOS)
    assert len(more) == 4 and torch.equal(more[:2], before[:2])
    write(other, "1.mp4", noise(5, seed=2), "a bird")
    with pytest.raises(ValueError, match=r"holds clips of another 1\.mp4 than .*other"):
        fill_from_videos(untrained, cache, BUCKET, other)
    assert torch.equal(read_bucket(cache, BUCKET, VIDEOS)[0], more)
    capsys.readouterr()
    (one / "1.mp4").unlink()
    fill_from_videos(untrained, cache, BUCKET, one)
    assert torch.equal(read_bucket(cache, BUCKET, VIDEOS)[0], more)  # what is gone is still there, which is said
    assert "trained on all the same; to leave them out, remove videos-1.mp4.safetensors" in capsys.readouterr().out


def test_a_file_that_is_no_video_stops_none_of_the_others(untrained: VAE, tmp_path: Path) -> None:
    for i in range(3):
        write(tmp_path / "clips", f"{i}.mp4", noise(5, seed=i), "x")
    (tmp_path / "clips" / "1.json").write_text("{}")
    (tmp_path / "clips" / ".cache").mkdir()
    (tmp_path / "clips" / ".cache" / "1.mp4.metadata").write_text("hidden")
    with pytest.raises(ValueError, match=r"1 of 4 videos can't be read, the others are encoded: .*1\.json"):
        fill_from_videos(untrained, tmp_path / "cache", BUCKET, tmp_path / "clips")
    assert len(list((tmp_path / "cache" / str(BUCKET)).iterdir())) == 3
    (tmp_path / "clips" / "2.txt").write_bytes("caf\u00e9".encode("latin-1"))
    with pytest.raises(ValueError, match=r"2\.txt is not in UTF-8"):
        captioned(tmp_path / "clips")


def test_the_only_video_is_learned_from(untrained: VAE, tmp_path: Path) -> None:
    write(tmp_path / "clips", "clip.mp4", noise(5), "x")  # of many, this name would be held out
    fill_from_videos(untrained, tmp_path / "cache", BUCKET, tmp_path / "clips")
    assert len(read_bucket(tmp_path / "cache", BUCKET, VIDEOS)[0]) == 1
    for i in range(3):
        write(tmp_path / "clips", f"{i}.mp4", noise(5, seed=i + 1), "x")
    fill_from_videos(untrained, tmp_path / "cache", BUCKET, tmp_path / "clips")
    assert len(read_bucket(tmp_path / "cache", BUCKET, VIDEOS)[0]) == 4  # and still is


def test_sizes_that_cannot_be_trained_on_are_refused_before_encoding(untrained: VAE, tmp_path: Path) -> None:
    for bucket, say in ((Bucket(5, 24, 32), "height 24: .* the nearest is 32"), (Bucket(6, 32, 32), "6 frames")):
        with pytest.raises(ValueError, match=say):
            fill_bucket(untrained, tmp_path / "cache", bucket, 1)
    assert not (tmp_path / "cache").exists()


def test_wrong_captions_are_all_wrong() -> None:
    captions = [("a",)] * 5 + [("b", "c")] + [("d",)] * 2
    wrong = wrong_captions(captions)["text"]
    assert len(wrong) == 8 and all(text not in of for text, of in zip(wrong, captions, strict=True))
    assert wrong_captions([("a",)] * 3) == {}


def test_a_tenth_of_many_videos_is_held_out_and_adding_some_moves_none(untrained: VAE, tmp_path: Path) -> None:
    held: set[str] = set()
    for first, many in ((0, 20), (20, 60)):
        for i in range(first, many):
            write(tmp_path / "clips", f"{i}.mp4", noise(1, seed=i), "x")
        fill_from_videos(untrained, tmp_path / "cache", Bucket(1, 32, 32), tmp_path / "clips")
        names = {path.name for path in (tmp_path / "cache" / "1x32x32").iterdir()}
        now = {name for name in names if name.startswith("videos_held_out-")}
        assert len(names) == many and held <= now
        held = now
    assert 1 <= len(held) <= 15


def test_videos_without_captions_or_frames_are_named(untrained: VAE, videos: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(ValueError, match=r"dog\.mp4 has fewer than 21 frames at 12 a second, as all 3 have"):
        fill_from_videos(untrained, cache, Bucket(21, 32, 32), videos)
    (videos / "dog.txt").write_text(" \n", encoding="utf-8")
    write_video(videos / "cat.mp4", noise(5), 12)
    with pytest.raises(ValueError, match=r"2 of 4 videos have no caption, .*cat\.mp4 among them; .* into cat\.txt"):
        captioned(videos)
    with pytest.raises(ValueError, match="is no folder"):
        captioned(videos / "dog.mp4")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no videos"):
        captioned(tmp_path / "empty")


def test_training_on_videos_learns_their_captions(tiny: Model, untrained: VAE, tmp_path: Path) -> None:
    """Two still pictures, neither held out: after a short run each caption explains its own better than the other's."""
    for name, level in (("white", 0.9), ("black", 0.1)):
        write(tmp_path / "clips", f"{name}.mp4", torch.full((20, 32, 32, 3), level), f"something {name}")
    bucket = Bucket(1, 32, 32)
    fill_from_videos(untrained, tmp_path / "cache", bucket, tmp_path / "clips")
    training = DiTTraining(
        steps=200, tokens=128, mix=(("1x32x32:videos", 1.0),), conditioned=0, independent=0, average=0.9,
        log_every=50, save_every=QUIET, validate_every=QUIET, learning_rate=5e-3,
    )  # fmt: skip
    learned = train_dit(tmp_path / "run", tmp_path / "cache", trainee(tiny), training, untrained)
    latents, captions = read_bucket(tmp_path / "cache", bucket, VIDEOS)
    right = validation_loss(learned, latents.float(), [of[0] for of in captions])
    assert validation_loss(learned, latents.float(), wrong_captions(captions)["text"]) > 1.1 * right
    assert lines(tmp_path / "run")[-1]["text_gain"] > 0
    assert (tmp_path / "run" / "samples" / "000200.png").exists()


def test_processes_share_their_gradients(
    tiny: Model, untrained: VAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes under torchrun train what one does whose loss is the mean over both their batches; the first alone
    keeps the folder."""
    save_checkpoint(tmp_path / "tiny.safetensors", replace(tiny, vae=untrained))
    for split in ("train", "held_out"):
        fill_bucket(untrained, tmp_path / "cache", Bucket(1, 32, 32), 1, split=split)
    command = [
        "dit", "--vae", "tiny.safetensors", "--start", "tiny.safetensors", "--cache", "cache", "--mix", "1x32x32=1",
        "--tokens", "16", "--steps", "6", "--run",
    ]  # fmt: skip
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "sora_core.train")
    found = subprocess.run(
        [sys.executable, *torchrun, *command, "two"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr

    def fit_both(run: Run, module: torch.nn.Module, loss_of: Callable, *args: object, **options: object) -> None:
        step = count()

        def mean(rng: np.random.Generator, generator: torch.Generator) -> torch.Tensor:
            other = np.random.default_rng((run.training.seed, next(step), 1))
            seeded = torch.Generator().manual_seed(int(other.integers(2**62)))
            return (loss_of(rng, generator) + loss_of(other, seeded)) / 2

        fit(run, module, mean, *args, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dit, "fit", fit_both)
    monkeypatch.setattr(sys, "argv", ["train", *command, "one"])
    main()
    one, two = (torch.load(tmp_path / name / "state.pt", weights_only=True) for name in ("one", "two"))
    begun = load_checkpoint(tmp_path / "tiny.safetensors").dit.state_dict()
    for name, before in begun.items():
        after, found = one["model"][f"dit.{name}"], two["model"][f"dit.{name}"]
        assert (after - before).norm() > 0 and (found - after).norm() < 0.05 * (after - before).norm(), name
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3) and len(one["losses"]) == 6
    (line,) = lines(tmp_path / "two")
    assert line["validation"] == pytest.approx(lines(tmp_path / "one")[0]["validation"], rel=1e-3)


GOES_ON = """
import sys
from pathlib import Path
import torch
from torch import distributed
from sora_core.train.run import Run, Training, fit, rank
distributed.init_process_group("gloo")
folder, steps = Path(sys.argv[1]) / str(rank()), int(sys.argv[2])
torch.manual_seed(0)
net = torch.nn.Linear(3, 3)
run = Run(folder, {}, Training(steps=steps, decay=1e-9, muon=False, save_every=4, validate_every=1000, log_every=1000))
fit(run, net, lambda rng, generator: net(torch.randn(2, 3, generator=generator)).square().mean(), lambda *_: None)
torch.save(net.state_dict(), Path(sys.argv[1]) / f"{rank()}.pt")
distributed.barrier()
distributed.destroy_process_group()
"""


def test_processes_without_a_common_folder_go_on_together(tmp_path: Path) -> None:
    """As on several machines, where only the first one's disk holds the run."""
    (tmp_path / "train.py").write_text(GOES_ON)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "train.py"]
    for folder, steps in (("killed", "6"), ("killed", "9"), ("whole", "9")):
        found = subprocess.run([*torchrun, folder, steps], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
    first, *others = (torch.load(tmp_path / folder / f"{rank}.pt") for folder in ("whole", "killed") for rank in (0, 1))
    assert all(torch.equal(other[name], first[name]) for other in others for name in first)
    assert not (tmp_path / "killed" / "1" / "state.pt").exists()


def test_torchrun_is_for_the_transformer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", ["train", "text", "--run", str(tmp_path / "text")])
    with pytest.raises(SystemExit, match="torchrun is for `dit`"):
        main()
    assert not (tmp_path / "text").exists()
