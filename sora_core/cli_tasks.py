"""The command line's tasks on clips that exist: extend, interpolate, loop, edit; and long videos and reports."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm

from .cli_options import (
    Commands,
    command,
    free,
    given,
    in_words,
    keeping,
    notes_of,
    sampling,
    settings_of,
    warn_of,
    writing,
)
from .config import nearest
from .cues import parse_cues, seen_from
from .engine import PipelineEngine
from .long import make_long, make_timeline
from .pipeline import Pipeline
from .report import draw_report, report, seams_of
from .tasks import CARRY, backward_parts, edit, extend, interpolate, loop, strengths
from .timeline import FACTOR, Timeline
from .video import Video, check_target, frame_rate, has_sound, out_of_step, pixel_aspect, read_video, write_video

LEAST = 2 * FACTOR + 1  # frames of a window
AFTER = 8  # frames that `extend` makes if no number is given
READ_AT = "read the clip at this rate, frames dropped or repeated (default: the file's own)"


def _run(
    args: argparse.Namespace,
    out: Path,
    pipeline: Pipeline,
    line: Timeline,
    fps: Fraction,
    further: Sequence[Callable[[Tensor], Timeline]] = (),
    aspect: Fraction | None = None,
) -> None:
    """Make what a timeline lacks, then what each of `further` makes of the clip so far, and write it whole. What is
    longer than the model takes is made window after window, where it goes forward; `further` are never longer."""
    inside = line.show[1] - line.show[0]
    length = inside + sum(len(part) for part in (line.before, line.after) if part is not None)
    check_target(out, (length, *line.canvas.shape[1:3]), fps, lossless=args.lossless)
    if not args.prompt.strip():
        raise ValueError("the prompt is empty; say what the video should show")
    settings, then = settings_of(args), args.then
    if then is not None and not then.strip():
        raise ValueError("--then is empty; say what the text goes over to, or leave it out")
    defaults, window, keep = pipeline.model.defaults, _window(args, pipeline), getattr(args, "keep", None)

    def made(line: Timeline, seed: int, folder: Path | None, task: str | None = None) -> Tensor:
        length = len(line.canvas)
        in_windows = line.goes_forward and length > (window or defaults.max_frames)
        if then is not None and (in_windows or folder is not None):
            raise ValueError("--then: a text goes over to another in what is made at once, without windows and --keep")
        if not in_windows:
            _check_length(line, pipeline)
            if folder is None:
                return pipeline.make(line, args.prompt, then=then, seed=seed, quiet=False, **settings)
        size = window or defaults.frames if in_windows else max(length, LEAST)  # a part that is kept is one window
        with tqdm(total=length, unit="frame", delay=1) as bar:
            return make_timeline(
                PipelineEngine(pipeline, **settings), line, args.prompt, window=size, overlap=_seen_again(args, size),
                seed=seed, task=task, folder=folder, on_frames=bar.update,
            )  # fmt: skip

    if then is not None and further:
        raise ValueError(
            "--then: this is made one end after the other; extend one end at a time, or give more --overlap"
        )
    warn_of(pipeline, args.prompt, then or "")
    _tell_size(pipeline, *line.canvas.shape[1:3])
    _tell_sound(args.video, getattr(args, "other", None))
    aspect = aspect or pixel_aspect(args.video)  # now: the result may be written over it
    frames, seams, first = made(line, args.seed, keep), line.seams, line
    for number, next_of in enumerate(further, 1):  # windows forward count seeds up, these down
        line = next_of(frames)
        task = f"part {number} {line.pieces} {line.show}, from {first.fingerprint()}"  # not by frames made on the way
        longer = made(line, (args.seed - number) % 2**63, keep and keep / f"before-{number}", task)
        seams = sorted({*line.seams, *(seam + len(longer) - len(frames) for seam in seams)})
        frames = longer
    out = write_video(
        out, frames, fps, lossless=args.lossless, pixel_aspect=aspect, overwrite=args.overwrite,
        numbered=True, metadata=notes_of(args, pipeline, args.prompt),
    )  # fmt: skip
    print(f"{out}: {in_words(*frames.shape[:3], fps)}, seed {args.seed}")
    if seams:
        print(f"seams, for report --seams: {','.join(map(str, seams))}")


def _window(args: argparse.Namespace, pipeline: Pipeline) -> int | None:
    """Frames made at once, where the command has that and it was given."""
    window, most = getattr(args, "window", None), pipeline.model.defaults.max_frames
    if window is not None and window != (fit := nearest(window, FACTOR, LEAST, most)):
        raise ValueError(f"--window {window}: windows have {FACTOR}n + 1 frames, from {LEAST} on; the nearest is {fit}")
    return window


def _seen_again(args: argparse.Namespace, window: int) -> int | None:
    """Latent frames that a window sees of the one before, where the command says how many frames are seen."""
    seen = getattr(args, "overlap", None)
    return None if seen is None else max(1, min(seen, window - FACTOR - 1) // FACTOR)


def _tell_size(pipeline: Pipeline, height: int, width: int) -> None:
    """Say where a clip is not of a size that the model was made for."""
    defaults = pipeline.model.defaults
    whole = (-(-side // defaults.side_multiple) * defaults.side_multiple for side in (width, height))
    if note := defaults.beyond(*whole, defaults.frames, FACTOR):
        print(note)


def _tell_sound(*videos: Path | None) -> None:
    """To be called before the result is written, maybe over one of them."""
    for path in videos:
        if path is not None and has_sound(path):
            print(f"the sound of {path} is left out; in ComfyUI the workflow your_video keeps it")


def _check_length(line: Timeline, pipeline: Pipeline) -> None:
    most, count = pipeline.model.defaults.max_frames, len(line.canvas)
    if count > most:
        given = int(line.keep.flatten(1).all(1).sum())
        raise ValueError(
            f"{count} frames at once, {given} of them seen: this model takes at most {most}; ask for fewer new ones, "
            "or for less --overlap"
        )


def _rate(args: argparse.Namespace, pipeline: Pipeline, *videos: tuple[Path, Video]) -> Fraction:
    """Frames a second of the result: as asked for, or of the clips that move, or else the model's own."""
    if args.fps:
        return frame_rate(args.fps)
    moving = [(path, video.fps) for path, video in videos if len(video.frames) > 1]
    for path, fps in moving[1:]:
        if fps != moving[0][1]:
            raise ValueError(
                f"{moving[0][0]} has {float(moving[0][1]):g} frames a second and {path} {float(fps):g}: say with --fps "
                "at which of them both are to be read"
            )
    return moving[0][1] if moving else frame_rate(pipeline.model.defaults.fps)


def _aspect(*videos: tuple[Path, Video]) -> Fraction:
    """Width of the result's pixels over their height: that of the clips that move."""
    moving = [(path, pixel_aspect(path)) for path, video in videos if len(video.frames) > 1]
    for path, aspect in moving[1:]:
        if aspect != moving[0][1]:
            raise ValueError(
                f"{moving[0][0]} has pixels of {moving[0][1]} and {path} of {aspect} (width over height): scale one of "
                "them to the shape of the other first"
            )
    return moving[0][1] if moving else Fraction(1)


def _read(path: Path, fps: float | None) -> Video:
    video = read_video(path, fps=fps)
    lost, again = out_of_step(path) if fps is None else (0, 0)
    if lost or again:
        print(
            f"{path}: its frame rate varies; at {float(video.fps):g} frames a second {lost} of its frames are left out "
            f"and {again} shown again (--fps chooses another rate)"
        )
    return video


def _opened(args: argparse.Namespace) -> tuple[Path, Video, Pipeline]:
    return free(args.out, args.overwrite), _read(args.video, args.fps), Pipeline.load(args.model)


def run_extend(args: argparse.Namespace) -> None:
    out, video, pipeline = _opened(args)
    clip, before, after = video.frames, args.before or 0, args.after or 0
    if args.before is None and args.after is None:
        after = AFTER
    how = {"overlap": args.overlap, "carry": args.carry}
    most, further = _window(args, pipeline) or pipeline.model.defaults.max_frames, []
    apart = bool(before and after) and len(clip) > 2 * args.overlap  # too far from each other to be seen together
    line = extend(clip, before=0 if apart else before, after=after, **how)
    if before and (apart or len(line.canvas) > most):  # one end at a time
        counts = backward_parts(before, len(clip) + after, args.overlap, most)
        further = [partial(extend, before=count, **how) for count in counts]
        line = extend(clip, after=after, **how) if after else further.pop(0)(clip)
    _run(args, out, pipeline, line, _rate(args, pipeline, (args.video, video)), further=further)


def run_interpolate(args: argparse.Namespace) -> None:
    out, pipeline = free(args.out, args.overwrite), Pipeline.load(args.model)
    a, b = (_read(path, args.fps) for path in (args.video, args.other))
    fps = _rate(args, pipeline, (args.video, a), (args.other, b))
    line = interpolate(a.frames, b.frames, args.frames, overlap=args.overlap, soften=args.soften)
    _run(args, out, pipeline, line, fps, aspect=_aspect((args.video, a), (args.other, b)))


def run_loop(args: argparse.Namespace) -> None:
    out, video, pipeline = _opened(args)
    line = loop(video.frames, args.frames, overlap=args.overlap)
    _run(args, out, pipeline, line, _rate(args, pipeline, (args.video, video)))


def run_edit(args: argparse.Namespace) -> None:
    out, video, pipeline = _opened(args)
    mask = None if args.mask is None else read_video(args.mask, fps=args.fps, over_black=True).frames.mean(-1)
    wanted = strengths(video.frames, args.strength, curve=args.curve, first=args.first, last=args.last, mask=mask)
    _run(args, out, pipeline, edit(video.frames, wanted), _rate(args, pipeline, (args.video, video)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(f"{path}: there is no such file of prompts") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: it is not text in UTF-8; save it as UTF-8") from None


def run_long(args: argparse.Namespace) -> None:
    out = free(args.out, args.overwrite)
    if args.prompt and args.prompts is not None:
        raise ValueError("a prompt and --prompts: give one of them")
    text = _text(args.prompts) if args.prompts is not None else args.prompt
    if not (0 < args.seconds < float("inf")):
        raise ValueError(f"--seconds {args.seconds}: give a length above 0")
    if args.prompts is not None and not text.strip():
        raise ValueError(f"--prompts {args.prompts}: it is empty; write a text a line with its time, as in 0:05 a star")
    if not text:
        raise ValueError("there is no prompt: give one, or a file of them with --prompts")
    if args.start is not None and args.size is not None:
        raise ValueError("--size: the clip of --start brings its own; leave it out, or resize the clip first")
    if args.overlap < FACTOR:
        raise ValueError(f"--overlap {args.overlap}: a window sees whole latents again; give {FACTOR} frames or more")
    cues = parse_cues(text)
    start = None if args.start is None else _read(args.start, args.fps)
    pipeline = Pipeline.load(args.model)
    defaults = pipeline.model.defaults
    fps = _rate(args, pipeline, *([] if start is None else [(args.start, start)]))
    frames = max(1, round(args.seconds * fps))
    if start is not None:
        before = len(start.frames)
        cues = seen_from(cues, before, before + frames, before + frames, float(fps))
    width, height = args.size or (
        (defaults.width, defaults.height) if start is None else (start.frames.shape[2], start.frames.shape[1])
    )
    check_target(out, (frames, height, width), fps, lossless=args.lossless)
    window = given(_window(args, pipeline), defaults.frames)
    if start is None:
        defaults.check(width, height, window, pipeline.model.vae.config.time_factor)
    warn_of(pipeline, *(cue.text for cue in cues))
    _tell_size(pipeline, height, width)
    _tell_sound(args.start)
    windows = make_long(
        PipelineEngine(pipeline, **settings_of(args)), cues, frames, fps=float(fps), width=width, height=height,
        window=window, overlap=args.overlap // FACTOR, correct=args.correct, seed=args.seed,
        start=None if start is None else start.frames, folder=args.keep,
    )  # fmt: skip
    drift: list[tuple[float | None, float | None]] = []

    def parts() -> Iterator[Tensor]:
        if start is not None:
            yield start.frames
        with tqdm(total=frames, desc="long", unit="frame") as bar:
            for window in windows:
                drift.append((window.drift, window.corrected))
                bar.update(len(window.frames))
                yield window.frames

    aspect = Fraction(1) if args.start is None else pixel_aspect(args.start)
    out = write_video(
        out, parts(), fps, lossless=args.lossless, pixel_aspect=aspect, overwrite=args.overwrite, numbered=True,
        metadata=notes_of(args, pipeline, text),
    )  # fmt: skip
    count = f"{frames} frames" if start is None else f"{before + frames} frames, {frames} of them new,"
    print(f"{out}: {count} in {len(drift)} windows of {width}x{height} at {float(fps):g} fps, seed {args.seed}")
    if measured := [(number, *pair) for number, pair in enumerate(drift, 1) if pair[0] is not None]:
        print("drift of window {} {:.3f}, {:.3f} after correction".format(*measured[-1]))


def run_report(args: argparse.Namespace) -> None:
    sheet = None if args.picture is None else free(args.picture, args.overwrite, ".png")
    seams, frames = seams_of(args.seams), read_video(args.video).frames
    source = None if args.source is None else read_video(args.source).frames
    found = report(frames, seams=seams, source=source, source_at=args.source_at, loop=args.loop)
    print(found.to_json())  # alone on standard output
    if not found.seams:
        print("no seam was asked for: --seams takes the frames that the command of a task prints", file=sys.stderr)
    if sheet is not None:
        sheet = write_video(sheet, draw_report(found)[None], 1, overwrite=args.overwrite, numbered=True)
        print(f"{sheet}: the picture", file=sys.stderr)


def add_tasks(commands: Commands) -> None:
    """Add the commands to the parser of `cli`."""

    def task(name: str, run: Callable, help_text: str, example: str, **options: bool) -> argparse.ArgumentParser:
        one = command(commands, name, run, help_text, example, **options)
        one.add_argument("video", type=Path, help="the clip")
        return one

    def made(one: argparse.ArgumentParser, out: str, overlap: int = 9) -> None:
        seen = f"frames of the clip that the model sees (default {overlap})"
        one.add_argument("--overlap", type=int, default=overlap, help=seen)
        sampling(one)
        writing(one, Path(out), rate=READ_AT)

    def going_over(one: argparse.ArgumentParser, what: str = "a second text") -> None:
        one.add_argument("--then", help=f"{what}: over the frames that are made the text goes from PROMPT to this one")

    def windowed(one: argparse.ArgumentParser) -> None:
        text = "frames made at once, 4*n + 1, where there are more (default: the model's own, where it takes no more)"
        one.add_argument("--window", type=int, help=text)
        keeping(one)

    one = task(
        "extend", run_extend, "Make a clip longer, at its end, at its beginning, or at both.",
        'clip.mp4 "a red circle moves left on a sky background" --after 8',
    )  # fmt: skip
    one.add_argument("prompt", help="what the clip shows")
    one.add_argument("--after", type=int, help=f"new frames after the clip (default {AFTER}, without --before)")
    one.add_argument("--before", type=int, help="new frames before the clip (default: none)")
    text = "strength at which new frames begin from a steady motion carried on; 1: from noise"
    one.add_argument("--carry", type=float, default=CARRY, help=f"{text} (default {CARRY})")
    going_over(one)
    windowed(one)
    made(one, "extended.mp4")

    one = task(
        "interpolate", run_interpolate, "Make the frames between two clips.",
        'a.mp4 b.mp4 "a red circle moves left on a sky background" --then "a blue square ..." --frames 8',
    )  # fmt: skip
    one.add_argument("other", type=Path, help="the clip after")
    one.add_argument("prompt", help="what is shown between them")
    going_over(one, "what the second clip shows")
    one.add_argument("--frames", type=int, default=8, help="new frames (default 8)")
    one.add_argument("--soften", type=int, default=0, help="frames of each clip that may change as well (default 0)")
    made(one, "joined.mp4", overlap=5)

    one = task(
        "loop", run_loop, "Add frames that lead from a clip's end back to its beginning.",
        'clip.mp4 "a red circle circles around on a sky background" --frames 8',
    )  # fmt: skip
    one.add_argument("prompt", help="what the clip shows")
    one.add_argument("--frames", type=int, default=8, help="new frames (default 8)")
    going_over(one)
    made(one, "loop.mp4", overlap=5)

    one = task(
        "edit", run_edit, "Change a clip under a new text (SDEdit); what is kept stays, bit for bit with --lossless.",
        'clip.mp4 "a blue circle moves left on a sky background" --strength 0.7',
    )  # fmt: skip
    one.add_argument("prompt", help="what the clip is to show")
    one.add_argument("--strength", type=float, default=0.7, help="0 keeps the clip, 1 forgets it (default 0.7)")
    one.add_argument("--curve", default="", help='strengths at frames instead, as in "0:0, 8:0.6, 16:1"')
    one.add_argument("--first", type=int, default=0, help="first frame that may change")
    one.add_argument("--last", type=int, default=-1, help="last frame that may change")
    one.add_argument("--mask", type=Path, help="an image or a clip: white may change, black and transparent stays")
    going_over(one)
    windowed(one)
    sampling(one)
    writing(one, Path("edited.mp4"), rate=READ_AT)

    one = command(
        commands, "long", run_long, "Make a clip of any length, with a text for every span.",
        '"a red circle bounces on a sky background" --seconds 60',
    )  # fmt: skip
    one.add_argument("prompt", nargs="?", default="", help="what it shows")
    one.add_argument("--prompts", type=Path, help="a file of texts instead, one a line with its time: 0:05 a star ...")
    one.add_argument("--seconds", type=float, default=10.0, help="length of what is made (default 10)")
    one.add_argument("--start", type=Path, help="a clip to go on from; it stands first, and times count from it on")
    one.add_argument("--window", type=int, help="frames made at once, 4*n + 1 (default: the model's own)")
    text = "frames that a window sees again, in latents of four (default 8)"
    one.add_argument("--overlap", type=int, default=8, help=text)
    one.add_argument("--correct", type=float, default=0.2, help="share of the drift that is taken back (default 0.2)")
    keeping(one)
    sampling(one, sized=True)
    writing(one, Path("long.mp4"), rate=f"of what is made (default: the model's own); with --start {READ_AT}")

    one = task(
        "report", run_report, "Measure a clip: seams, drift, motion, and frames that had to stay.",
        "extended.mkv --seams 17 --source clip.mkv --picture report.png", model=False,
    )  # fmt: skip
    one.description += (
        " Of a seam, ratio is the step across it over the clip's median step: about 1 where nothing shows, 0 where a "
        "frame stands twice; flow_jump the change of motion as a share of the shorter side, 0 where it goes on; "
        "colour_distance that of the mean colours, 0 to 1. Drift goes from the first 15% to the last: colour as a "
        "distance, the others as shares of the larger value, -1 to 1, 0 is none. A frozen clip has neither: its motion "
        "is near 0, and still, the share of steps in which nothing moves, near 1."
    )
    text = "frames before which a new part begins, as in 17,25"
    one.add_argument("--seams", default="", help=text)
    one.add_argument("--loop", action="store_true", help="the clip is played round and round")
    one.add_argument("--source", type=Path, help="a clip whose frames have to be in it, bit for bit")
    one.add_argument("--source-at", type=int, default=0, help="frame at which the source begins (default 0)")
    one.add_argument("--picture", type=Path, help="write a plot to this .png")
    one.add_argument("--overwrite", action="store_true", help="replace --picture instead of numbering the new file")
