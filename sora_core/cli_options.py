"""What the commands share: options, their values, and paths that can be written."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from .checkpoint import BUNDLED
from .files import free_name, part_of
from .pipeline import Pipeline
from .samplers import SAMPLERS
from .video import METADATA_SUFFIXES

Commands = Any  # argparse's subparsers, whose class has no public name


def size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write WIDTHxHEIGHT in pixels, as in 192x128")
    return int(width), int(height)


def levels(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    try:
        interval = float(low), float(high)
    except ValueError:
        interval = (1.0, 0.0)
    if not (dash and 0 <= interval[0] < interval[1] <= 1):
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval of levels; write LOW-HIGH, as in 0.1-0.9")
    return interval


def folder(text: str) -> Path:
    if Path(text).is_file():
        raise argparse.ArgumentTypeError(f"{text} is a file; give a folder, which need not exist")
    return Path(text)


def free(path: Path, overwrite: bool, suffix: str | None = None) -> Path:
    """A path that can be written: checked before heavy work starts, numbered where the name is taken. If it is taken
    while that work is done, writing numbers it once more."""
    if suffix is not None and path.suffix.lower() != suffix:
        raise ValueError(f"{path}: this file has to end in {suffix}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder: give the name of a file in it")
    part_of(path).unlink()  # or it would be found out after the work that nothing can be written there
    return path if overwrite else free_name(path)


def check_apart(**paths: Path | None) -> None:
    """Raises ValueError where two options name one file to write."""
    named: dict[Path, str] = {}
    for option, path in paths.items():
        if path is not None and (other := named.setdefault(path.resolve(), option)) != option:
            raise ValueError(f"--{option} {path}: --{other} is written there; give another name")


UNTOLD = ("run", "out", "overwrite", "lossless", "sheet", "picture", "keep", "expand", "prompts", "prompt", "model")


def notes_of(args: argparse.Namespace, pipeline: Pipeline, prompt: str, **more: str) -> dict[str, str] | None:
    """What a file says of how it was made: command, prompt, model, settings, and what else was asked for. None where
    the file of --out cannot say it."""
    if args.out.suffix.lower() not in METADATA_SUFFIXES:
        return None
    told = {"command": args.run.__name__.removeprefix("run_"), "prompt": prompt, "model": args.model.name}
    settings = {"seed": args.seed} | pipeline.settings(**settings_of(args))
    asked = {name: value for name, value in vars(args).items() if name not in (*UNTOLD, *settings)}
    written = {name: value.name if isinstance(value, Path) else value for name, value in asked.items()}
    written |= {name: f"{value[0]}x{value[1]}" for name, value in asked.items() if isinstance(value, tuple)}
    return told | {name: str(value) for name, value in (settings | written | more).items() if value not in (None, "")}


def warn_of(pipeline: Pipeline, *prompts: str, by_halves: bool = False) -> None:
    """Print where a model of the world will not follow a prompt. by_halves: as in `world.warning`."""
    if pipeline.model.defaults.apart:
        from .world import warning  # the world is not needed for the rest

        for note in dict.fromkeys(warning(prompt, by_halves) for prompt in prompts):
            if note:
                print(note)


def in_words(frames: int, height: int, width: int, fps: float | Fraction) -> str:
    """What is in a file that was written or read."""
    return f"{frames} frames of {width}x{height} at {float(fps):g} fps" if frames > 1 else f"image of {width}x{height}"


def given(value: Any, default: Any) -> Any:
    return default if value is None else value


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What was asked for of `Pipeline.settings`."""
    names = ("steps", "cfg", "cfg_interval", "solver", "negative")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def command(
    commands: Commands, name: str, run: Callable, help_text: str, example: str, *, model: bool = True
) -> argparse.ArgumentParser:
    """A command of its own that calls run(its arguments)."""
    epilog = f"example: python -m sora_core {name} {example}"
    one = commands.add_parser(name, help=help_text, description=help_text, epilog=epilog)
    one.set_defaults(run=run)
    if model:
        one.add_argument("--model", type=Path, default=BUNDLED, help="a checkpoint (default: bundled sora-mini)")
    return one


def sampling(one: argparse.ArgumentParser, *, sized: bool = False, frames: bool = False) -> None:
    """Options of `Pipeline.sample`, and the size of what is made."""
    if sized:
        one.add_argument("--size", type=size, metavar="WxH", help="pixels (default: the model's own)")
    if frames:
        one.add_argument("--frames", type=int, help="number of frames, 4*n + 1; 1 makes an image")
    one.add_argument("--seed", type=int, default=0, help="same seed, same machine: same video (default 0)")
    one.add_argument("--steps", type=int, help="steps of the solver")
    one.add_argument("--cfg", type=float, help="how strongly the prompt is followed; 1 switches guidance off")
    one.add_argument("--cfg-interval", type=levels, metavar="LOW-HIGH", help="levels of noise that are guided")
    one.add_argument("--solver", choices=list(SAMPLERS), help="how the steps are taken")
    one.add_argument("--negative", help="what is not to be shown")


def writing(
    one: argparse.ArgumentParser, default: Path | None, chosen: str | None = None,
    rate: str = "frames per second of the file",
) -> None:  # fmt: skip
    """Options of the video file that is written. chosen: what the command takes where there is no default."""
    text = f"file to write: .mp4, .mkv, .webp, .gif or .png (default: {chosen or default})"
    one.add_argument("--out", type=Path, default=default, help=text)
    one.add_argument("--fps", type=float, help=rate)
    one.add_argument("--lossless", action="store_true", help="keep every bit (does not play in browsers)")
    one.add_argument("--overwrite", action="store_true", help="replace --out instead of numbering the new file")


def keeping(one: argparse.ArgumentParser) -> None:
    """The folder of finished windows."""
    text = "keep finished windows here, and go on from them"
    one.add_argument("--keep", type=folder, metavar="FOLDER", help=text)
