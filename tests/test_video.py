"""Laws of sora_core.video, on real files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from unittest.mock import Mock

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sora_core.sheet import contact_sheet
from sora_core.video import frame_rate, has_sound, out_of_step, pixel_aspect, read_metadata, read_video, write_video

NTSC_FILM = Fraction(24000, 1001)


def noise_clip(frames: int = 5, height: int = 32, width: int = 48) -> Tensor:
    """Every 8-bit value, no two frames alike. (T, H, W, 3)"""
    generator = torch.Generator().manual_seed(frames)
    return torch.randint(0, 256, (frames, height, width, 3), generator=generator) / 255


def smooth_clip(frames: int = 12, height: int = 64, width: int = 96) -> Tensor:
    """Slow gradients that move. (T, H, W, 3)"""
    t, y, x = torch.meshgrid(*(torch.linspace(0, 1, n) for n in (frames, height, width)), indexing="ij")
    return torch.stack([(x + t / 2) / 1.5, (y + t / 3) / 1.4, (2 - x - y) / 2], dim=-1)


def flat_clip(levels: list[int], side: int = 16) -> Tensor:
    """One grey level (0..255) per frame. (T, side, side, 3)"""
    return (torch.tensor(levels) / 255).view(-1, 1, 1, 1).expand(-1, side, side, 3)


def levels_of(frames: Tensor) -> list[int]:
    return [round(frame.mean().item() * 255) for frame in frames]


def write_with_stamps(path: Path, levels: list[int], milliseconds: list[int]) -> None:
    """Lossless grey frames at explicit times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=1000)
        stream.width = stream.height = 16
        stream.pix_fmt, stream.options = "rgb24", {"crf": "0"}
        stream.codec_context.time_base = Fraction(1, 1000)
        for level, pts in zip(levels, milliseconds, strict=True):
            frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), level, np.uint8), format="rgb24")
            frame.pts, frame.time_base = pts, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


# Round trips


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webp"])
def test_lossless_is_exact_at_odd_sizes(tmp_path: Path, name: str) -> None:
    clip = noise_clip(5, 33, 41)
    write_video(tmp_path / name, clip, 24, lossless=True)
    video = read_video(tmp_path / name)
    assert torch.equal(video.frames, clip)
    assert video.frames.dtype == torch.float32
    assert video.fps == 24


def test_lossy_round_trip_keeps_smooth_frames(tmp_path: Path) -> None:
    clip = smooth_clip()
    write_video(tmp_path / "a.mp4", clip, 24)
    error = (read_video(tmp_path / "a.mp4").frames - clip).square().mean()
    assert -10 * error.log10() > 35


@pytest.mark.parametrize("size", [(16, 16), (18, 22), (64, 48), (130, 66), (720, 80)])
def test_flat_colours_survive_at_every_size(tmp_path: Path, size: tuple[int, int]) -> None:
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (120, 60, 200), (3, 250, 100)]
    for colour in colours:
        clip = (torch.tensor(colour) / 255).expand(1, *size, 3)
        write_video(tmp_path / "a.mp4", clip, 24, overwrite=True)
        assert (read_video(tmp_path / "a.mp4").frames - clip).abs().max() * 255 <= 4, colour


def test_foreign_matrix_and_range_are_honoured(tmp_path: Path) -> None:
    """Pure red in BT.601 full range is Y'CbCr (76, 85, 255); untagged limited range on a small frame (81, 90, 240)."""
    for tags, yuv in (({"colorspace": 5, "color_range": 2}, (76, 85, 255)), ({}, (81, 90, 240))):
        with av.open(str(tmp_path / "a.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=24)
            stream.width = stream.height = 16
            stream.pix_fmt = "yuv444p"
            for tag, value in tags.items():
                setattr(stream.codec_context, tag, value)
            planes = np.broadcast_to(np.array(yuv, np.uint8)[:, None, None], (3, 16, 16)).copy()
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            for tag, value in tags.items():
                setattr(frame, tag, value)
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        red = read_video(tmp_path / "a.mkv").frames[0, 8, 8] * 255
        assert (red - torch.tensor([255.0, 0, 0])).abs().max() <= 2


def test_h264_is_what_browsers_play(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", noise_clip(), 24)
    with av.open(str(tmp_path / "a.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt, codec.width, codec.height) == ("h264", "yuv420p", 48, 32)
        assert (codec.colorspace, codec.color_range, codec.color_primaries, codec.color_trc) == (1, 1, 1, 1)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webp", "a.gif", "a.png"])
def test_same_frames_give_same_bytes(tmp_path: Path, name: str, lossless: bool) -> None:
    if lossless and name == "a.gif":
        return
    clip = noise_clip(1 if name == "a.png" else 12)
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_video(tmp_path / folder / name, clip, 24, lossless=lossless)
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_writing_leaves_its_input_alone(tmp_path: Path) -> None:
    clip = noise_clip().to(torch.float16).requires_grad_()
    before = clip.detach().clone()
    write_video(tmp_path / "a.mp4", clip, 24)
    assert torch.equal(clip.detach(), before)


# Time


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize(("fps", "exact"), [(23.976, NTSC_FILM), (24, 24), (12, 12), (30, 30), (Fraction(25, 2), 12.5)])
def test_constant_rate_gives_exactly_its_frames(tmp_path: Path, name: str, fps: float, exact: Fraction) -> None:
    levels = list(range(0, 246, 5))
    write_video(tmp_path / name, flat_clip(levels), fps, lossless=True)
    video = read_video(tmp_path / name)
    assert video.fps == exact
    assert levels_of(video.frames) == levels
    assert levels_of(read_video(tmp_path / name, max_frames=7).frames) == levels[:7]


def test_frame_rate_knows_the_broadcast_rates() -> None:
    assert frame_rate(23.976) == frame_rate(23.98) == NTSC_FILM
    assert frame_rate(29.97) == Fraction(30000, 1001)
    assert frame_rate(59.94) == Fraction(60000, 1001)
    assert [frame_rate(n) for n in (1, 5.0, 24.0, 12.5)] == [1, 5, 24, Fraction(25, 2)]
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps is"):
            frame_rate(bad)


@pytest.mark.parametrize(("fps", "expected"), [(12, [0, 20, 40, 60]), (48, [0, 0, 10, 10, 20, 20])])
def test_other_rate_repeats_or_drops_frames(tmp_path: Path, fps: int, expected: list[int]) -> None:
    write_video(tmp_path / "a.mp4", flat_clip([0, 10, 20, 30, 40, 50, 60, 70]), 24, lossless=True)
    video = read_video(tmp_path / "a.mp4", fps=fps)
    assert video.fps == fps
    assert len(video.frames) * 24 == 8 * fps
    assert levels_of(video.frames)[: len(expected)] == expected


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
@pytest.mark.parametrize("fps", [25, 10, 60])
def test_variable_rate_is_read_by_time_stamps(tmp_path: Path, name: str, fps: int) -> None:
    levels, stamps = [10, 20, 30, 40, 50, 60], [0, 40, 80, 200, 250, 500]
    write_with_stamps(tmp_path / name, levels, stamps)
    found = levels_of(read_video(tmp_path / name, fps=fps).frames)
    times = [1000 * Fraction(k, fps) for k in range(len(found))]
    assert found == [max(level for level, pts in zip(levels, stamps, strict=True) if pts <= time) for time in times]
    assert times[-1] + Fraction(1000, fps) >= 500
    assert levels_of(read_video(tmp_path / name, fps=fps, max_frames=4).frames) == found[:4]


def test_variable_rate_defaults_to_the_average(tmp_path: Path) -> None:
    write_with_stamps(tmp_path / "a.mp4", [10, 20, 30, 40, 50, 60], [0, 40, 80, 200, 250, 500])
    with av.open(str(tmp_path / "a.mp4")) as container:
        average = container.streams.video[0].average_rate
    video = read_video(tmp_path / "a.mp4")
    assert video.fps == average
    kept = len(set(levels_of(video.frames)))
    assert out_of_step(tmp_path / "a.mp4") == (6 - kept, len(video.frames) - kept) and kept < 6
    for name in ("b.mp4", "b.gif", "b.png"):
        write_video(tmp_path / name, noise_clip(1 if name == "b.png" else 7, 16, 16), 24)
        assert out_of_step(tmp_path / name) == (0, 0)


def test_rotation_metadata_is_applied(tmp_path: Path) -> None:
    clip = noise_clip(2, 16, 32)
    path = tmp_path / "a.mp4"
    write_video(path, clip, 24, lossless=True, pixel_aspect=Fraction(16, 11))
    assert pixel_aspect(path) == Fraction(16, 11)
    data = path.read_bytes()
    upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 16 << 16, 0, 1 << 30)
    at = data.index(upright, data.index(b"tkhd"))
    path.write_bytes(data[:at] + clockwise + data[at + 36 :])
    assert torch.equal(read_video(path).frames, clip.rot90(-1, (1, 2)))
    assert pixel_aspect(path) == Fraction(11, 16)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_shape_of_pixels_comes_back(tmp_path: Path, name: str, lossless: bool) -> None:
    for aspect in (Fraction(1), Fraction(64, 45), Fraction(8, 9)):
        write_video(tmp_path / name, noise_clip(2), 24, lossless=lossless, pixel_aspect=aspect, overwrite=True)
        assert pixel_aspect(tmp_path / name) == aspect
    write_video(tmp_path / "a.png", noise_clip(1), 24)
    assert pixel_aspect(tmp_path / "a.png") == 1


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused_with_a_cure(tmp_path: Path, transfer: int, name: str) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 16
        stream.pix_fmt, stream.codec_context.color_trc = "yuv420p", transfer
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=rf"HDR \({name}\).*SDR"):
        read_video(tmp_path / "a.mkv")


# Images and animations


@pytest.mark.parametrize("name", ["a.webp", "a.gif"])
@pytest.mark.parametrize("fps", [8, 12, 24])
def test_animations_keep_count_and_rate(tmp_path: Path, name: str, fps: int) -> None:
    write_video(tmp_path / name, noise_clip(24), fps)
    video = read_video(tmp_path / name)
    assert video.frames.shape == (24, 32, 48, 3)
    assert video.fps == fps
    assert torch.equal(read_video(tmp_path / name, max_frames=3).frames, video.frames[:3])


def test_equal_neighbours_of_an_animation_come_back(tmp_path: Path) -> None:
    levels = [0, 0, 0, 100, 100, 200, 50, 50]
    write_video(tmp_path / "a.webp", flat_clip(levels), 10, lossless=True)
    assert levels_of(read_video(tmp_path / "a.webp", fps=10).frames) == levels


def test_still_images_are_one_frame(tmp_path: Path) -> None:
    clip = noise_clip(1, 9, 7)
    write_video(tmp_path / "a.png", clip, 24)
    still = read_video(tmp_path / "a.png")
    assert torch.equal(still.frames, clip)
    assert still.fps == 1
    assert read_video(tmp_path / "a.png", fps=24).fps == 24
    Image.new("RGBA", (6, 4), (255, 0, 0, 128)).save(tmp_path / "b.webp", lossless=True)
    assert torch.equal(read_video(tmp_path / "b.webp").frames, torch.tensor([1.0, 0, 0]).expand(1, 4, 6, 3))
    half = torch.tensor([128 / 255, 0, 0]).expand(1, 4, 6, 3)
    assert torch.equal(read_video(tmp_path / "b.webp", over_black=True).frames, half)
    Image.new("RGB", (6, 4), (0, 0, 255)).save(tmp_path / "c.JPG", "JPEG", quality=95)
    assert read_video(tmp_path / "c.JPG").frames.shape == (1, 4, 6, 3)
    Image.fromarray(np.full((4, 6), 128 * 257, np.uint16)).save(tmp_path / "d.png")
    assert levels_of(read_video(tmp_path / "d.png").frames) == [128]
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: shown a quarter turn clockwise
    Image.new("RGB", (6, 4)).save(tmp_path / "e.jpg", exif=turned)
    assert read_video(tmp_path / "e.jpg").frames.shape == (1, 6, 4, 3)
    photo, preview = Image.new("RGB", (6, 4)), Image.new("RGB", (3, 2))
    photo.save(tmp_path / "f.jpg", "MPO", save_all=True, append_images=[preview])
    assert read_video(tmp_path / "f.jpg").frames.shape == (1, 4, 6, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.png"])
def test_metadata_comes_back(tmp_path: Path, name: str) -> None:
    texts = {"prompt": 'it\'s a "red" circle;\n= ünïcode 圆', "seed": "7", "workflow": '{"nodes": []}'}
    write_video(tmp_path / name, noise_clip(1), 24, metadata=texts)
    assert read_metadata(tmp_path / name) == texts
    write_video(tmp_path / name, noise_clip(1), 24, overwrite=True)
    assert read_metadata(tmp_path / name) == {}


# Bad input


def test_existing_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=r"a\.mp4 exists; .*overwrite"):
        write_video(path, noise_clip(), 24)
    assert path.read_bytes() == b"precious"
    write_video(path, noise_clip(), 24, overwrite=True)
    assert len(read_video(path).frames) == 5


@pytest.mark.parametrize("linked", [True, False])  # not every file system has links
def test_a_name_taken_meanwhile_loses_neither_file(
    tmp_path: Path, linked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, clip = tmp_path / "a.mkv", noise_clip()

    def parts() -> Iterator[Tensor]:
        yield clip[:2]
        path.write_bytes(b"precious")
        yield clip[2:]

    if not linked:
        monkeypatch.setattr("os.link", Mock(side_effect=PermissionError))
    with pytest.raises(FileExistsError, match=r"a\.mkv exists"):
        write_video(path, parts(), 24)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mkv"]
    path.unlink()
    (tmp_path / "a-2.mkv").write_bytes(b"another's")
    assert write_video(path, parts(), 24, numbered=True) == tmp_path / "a-3.mkv"
    assert path.read_bytes() == b"precious" and len(read_video(tmp_path / "a-3.mkv").frames) == len(clip)


def test_failed_write_leaves_the_folder_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"precious")

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sora_core.video.write.to_bytes", fail)
    with pytest.raises(KeyboardInterrupt):
        write_video(path, noise_clip(), 24, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
    assert path.read_bytes() == b"precious"


def test_unreadable_files_are_named_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*missing\.mp4; check"):
        read_video(tmp_path / "missing.mp4")
    with pytest.raises(FileNotFoundError, match="no file"):
        read_video(tmp_path)
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty\.mp4 is empty .*again"):
        read_video(tmp_path / "empty.mp4")
    for name, message in (("junk.mp4", "cannot be decoded as video"), ("junk.png", "cannot be decoded as an image")):
        (tmp_path / name).write_bytes(b"no pictures in here " * 50)
        with pytest.raises(ValueError, match=message):
            read_video(tmp_path / name)
        with pytest.raises(ValueError, match=message):
            read_metadata(tmp_path / name)


def test_file_cut_short_is_an_error(tmp_path: Path) -> None:
    for name in ("a.mp4", "a.png", "a.webp"):
        write_video(tmp_path / name, noise_clip(1 if name == "a.png" else 12), 24)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) * 3 // 4])
        with pytest.raises(ValueError, match="cannot be decoded"):
            read_video(tmp_path / name)


def test_unknown_codec_is_an_error(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", noise_clip(), 24)
    head, tail = (tmp_path / "a.mp4").read_bytes().split(b"stsd", 1)
    (tmp_path / "a.mp4").write_bytes(head + b"stsd" + tail.replace(b"avc1", b"zzzz", 1))
    with pytest.raises(ValueError, match="codec is unknown"):
        read_video(tmp_path / "a.mp4")


@pytest.mark.parametrize("sound", [False, True])
def test_sound_is_seen(tmp_path: Path, sound: bool) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=10)
        video.width, video.height, video.pix_fmt = 16, 16, "yuv420p"
        if sound:
            heard = container.add_stream("pcm_s16le", rate=8000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(heard.encode(frame))
        container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")))
        container.mux(video.encode())
    assert has_sound(tmp_path / "a.mkv") == sound and read_video(tmp_path / "a.mkv").frames.shape == (1, 16, 16, 3)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match="has no video stream"):
        read_video(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("name", "change", "settings", "message"),
    [
        ("a.avi", None, {}, r"must be one of \.mp4, \.mkv, \.webp, \.gif, \.png"),
        ("a", None, {}, "must be one of"),
        ("a.mp4", lambda c: c[:, :31], {}, "48x31, but .mp4 needs an even width and height: crop or pad"),
        ("a.mp4", lambda c: c[0], {}, r"shape \(T, H, W, 3\), got \(32, 48, 3\)"),
        ("a.mp4", lambda c: c[:0], {}, r"shape \(T, H, W, 3\)"),
        ("a.mp4", lambda c: c[..., :1], {}, r"shape \(T, H, W, 3\)"),
        ("a.mp4", lambda c: (c * 255).byte(), {}, "floating-point tensor in 0..1, got torch.uint8"),
        ("a.mp4", lambda c: c.numpy(), {}, "got ndarray"),
        ("a.mp4", lambda c: c * 2 - 1, {}, r"must lie in 0\.\.1, got -1\.\.1; clamp"),
        ("a.mp4", lambda c: c / 0, {}, "must lie in"),
        ("a.mp4", None, {"fps": 0}, "fps is 0"),
        ("a.png", None, {}, r"a \.png holds one frame, got 5"),
        ("a.gif", None, {"lossless": True}, "256 colours"),
        ("a.gif", None, {"fps": 60}, "at most 50 fps"),
        ("a.webp", None, {"metadata": {"seed": "1"}}, "keeps no metadata"),
        ("a.mp4", None, {"metadata": {"Seed": "1"}}, "lower-case"),
        ("a.mp4", None, {"metadata": {"seed": 1}}, "values are str"),
    ],
)
def test_bad_frames_and_settings_are_named(tmp_path: Path, name: str, change, settings: dict, message: str) -> None:
    clip = noise_clip() if change is None else change(noise_clip())
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, clip, **({"fps": 24} | settings))
    assert not list(tmp_path.iterdir())


def test_other_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="does not exist; make it first"):
        write_video(tmp_path / "sub" / "a.mp4", noise_clip(), 24)
    write_video(tmp_path / "a.mp4", noise_clip(), 24)
    with pytest.raises(ValueError, match="max_frames is 0"):
        read_video(tmp_path / "a.mp4", max_frames=0)
    with pytest.raises(ValueError, match="fps is -1"):
        read_video(tmp_path / "a.mp4", fps=-1)


# Contact sheets


def test_contact_sheet_lays_out_rows_and_columns(tmp_path: Path) -> None:
    long, short = noise_clip(20, 32, 48), noise_clip(3, 16, 24)
    sheet = contact_sheet([long, short], frames_per_clip=5)
    assert sheet.shape == (1, 32 + 2 + 16, 5 * 48 + 4 * 2, 3)
    assert torch.equal(sheet[0, :32, :48], long[0])
    assert torch.equal(sheet[0, :32, -48:], long[-1])
    assert torch.equal(sheet[0, 34:, 52:76], short[2])
    write_video(tmp_path / "sheet.png", sheet, 1)
    assert torch.equal(read_video(tmp_path / "sheet.png").frames, sheet)


def test_contact_sheet_labels_add_height_only() -> None:
    clips = [smooth_clip(4), smooth_clip(4)]
    bare, labelled = contact_sheet(clips), contact_sheet(clips, labels=["one", "a long label " * 20])
    assert labelled.shape[2] == bare.shape[2]
    assert labelled.shape[1] > bare.shape[1] + 40  # the long label is wrapped, not cut
    assert torch.equal(labelled[:, -64:], bare[:, -64:])


def test_contact_sheet_refuses_what_it_cannot_lay_out() -> None:
    for arguments in (
        {"clips": []},
        {"clips": [noise_clip()], "labels": ["one", "two"]},
        {"clips": [noise_clip()], "frames_per_clip": 0},
        {"clips": [noise_clip()[0]]},
    ):
        with pytest.raises(ValueError):
            contact_sheet(**arguments)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (torch.full((1, 64, 64, 3), torch.nan), r"part 1 of the frames must lie in 0..1"),
        (torch.zeros(1, 32, 64, 3), "part 1 is 64x32, those before 64x64"),
    ],
)
def test_every_part_of_a_stream_is_looked_at(tmp_path: Path, second: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / "clip.mp4", iter([torch.zeros(1, 64, 64, 3), second]), 12)
    assert not list(tmp_path.iterdir())
