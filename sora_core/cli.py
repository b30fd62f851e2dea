"""The command line, `python -m sora_core COMMAND`: parses, calls one function of the core, prints."""

from __future__ import annotations

import argparse
import json
import sys
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .checkpoint import BUNDLED, read_metadata
from .pipeline import Pipeline
from .samplers import SAMPLERS
from .video import contact_sheet, frame_rate, read_video, write_video

LATENTS = "sora_core/latents/1"  # format tag of files with latents
VIDEO_SUFFIXES = (".mp4", ".mkv", ".webp", ".gif", ".png")


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write WIDTHxHEIGHT in pixels, as in 192x128")
    return int(width), int(height)


def _share(text: str) -> tuple[float, float]:
    low, dash, high = text.partition("-")
    try:
        return float(low), float(high if dash else "1")
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an interval; write LOW-HIGH, as in 0.1-0.9") from None


def _free(path: Path, overwrite: bool, suffixes: tuple[str, ...]) -> Path:
    """A path that can be written: checked before heavy work starts, numbered where the name is taken."""
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"--out {path}: the ending says the kind of file; use one of {', '.join(suffixes)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"--out {path}: the folder {path.parent} does not exist; make it first")
    if overwrite or not path.exists():
        return path
    number = 2
    while (numbered := path.with_stem(f"{path.stem}-{number}")).exists():
        number += 1
    return numbered


def generate(args: argparse.Namespace) -> None:
    out = _free(args.out, args.overwrite, VIDEO_SUFFIXES)
    pipeline = Pipeline.load(args.model)
    clip = pipeline.model.clip
    width, height = args.size or (clip.width, clip.height)
    length = args.frames if args.frames is not None else clip.frames
    if out.suffix == ".png" and length != 1:
        raise ValueError(f"--out {out}: a .png holds one frame, not {length}; add --frames 1 or write an .mp4")
    settings = {
        "seed": args.seed,
        "steps": args.steps or clip.steps,
        "cfg": args.cfg if args.cfg is not None else clip.cfg,
        "solver": args.solver or clip.solver,
        "negative": args.negative,
    }
    frames = pipeline.generate(args.prompt, width=width, height=height, frames=length, quiet=False, **settings)
    notes = {"prompt": args.prompt, "model": Path(args.model).name} | {
        k: str(v) for k, v in settings.items() if v != ""
    }
    fps = args.fps or clip.fps
    write_video(
        out, frames, fps, lossless=args.lossless, overwrite=args.overwrite,
        metadata=notes if out.suffix in {".mp4", ".mkv", ".png"} else None,
    )  # fmt: skip
    if args.sheet is not None:
        contact_sheet([frames], args.sheet, [args.prompt], overwrite=True)
    print(f"{out}: {len(frames)} frames of {width}x{height} at {fps} fps, seed {args.seed}")


def encode(args: argparse.Namespace) -> None:
    out = _free(args.out or args.video.with_suffix(".safetensors"), args.overwrite, (".safetensors",))
    pipeline = Pipeline.load(args.model)
    video = read_video(args.video, fps=args.fps, max_frames=args.frames)
    frames = video.frames
    if args.size is not None:
        width, height = args.size
        frames = _resize(frames, height, width)
    length, height, width = frames.shape[:3]
    try:
        pipeline.model.vae.latent_shape(length, height, width)
    except ValueError as error:
        raise ValueError(f"{args.video}: {error} (--frames cuts the clip, --size WxH resizes it)") from None
    latents = pipeline.encode(frames)
    save_file({"latents": latents}, out, {"format": LATENTS, "fps": str(video.fps)})
    print(f"{out}: latents {tuple(latents.shape)} of {length} frames of {width}x{height} at {float(video.fps):g} fps")


def _resize(frames: Tensor, height: int, width: int) -> Tensor:
    moved = F.interpolate(frames.movedim(-1, 1), size=(height, width), mode="bicubic", antialias=True)
    return moved.clamp(0, 1).movedim(1, -1)


def _read_latents(path: Path) -> tuple[Tensor, Fraction]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `encode` makes such a file from a video")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != LATENTS:
                raise ValueError(f"{path} holds no latents; `encode` makes such a file from a video")
            return file.get_tensor("latents"), Fraction(metadata["fps"])
    except OSError as error:
        raise ValueError(f"{path} cannot be read as safetensors ({error})") from None


def decode(args: argparse.Namespace) -> None:
    out = _free(args.out or args.latents.with_suffix(".mp4"), args.overwrite, VIDEO_SUFFIXES)
    latents, fps = _read_latents(args.latents)
    frames = Pipeline.load(args.model).decode(latents)
    write_video(out, frames, args.fps or fps, lossless=args.lossless, overwrite=args.overwrite)
    print(f"{out}: {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]} at {float(args.fps or fps):g} fps")


def info(args: argparse.Namespace) -> None:
    found = read_metadata(args.model)
    if args.json:
        print(json.dumps({k: v for k, v in found.items() if k != "tokenizer"}, indent=2))
        return
    print(f"{Path(args.model).name}  ({Path(args.model).stat().st_size / 1e6:.1f} MB)")
    for name, count in found["parameters"].items():
        print(f"\n{name}: {count / 1e6:.2f} million parameters")
        print("  " + "  ".join(f"{k} {_short(v)}" for k, v in found["config"][name].items()))
    print("\nclip\n  " + "  ".join(f"{k} {v}" for k, v in found["config"]["clip"].items()))
    for title in ("provenance", "scores"):
        print(f"\n{title}")
        print("\n".join(f"  {k}: {_short(v)}" for k, v in found[title].items()) or "  none recorded")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


def evaluate(args: argparse.Namespace) -> None:
    from . import evaluate as scoring  # the world is needed by this command alone

    pipeline = Pipeline.load(args.model)
    width, height = args.size or (None, None)
    shown: list[Tensor] = []
    labels: list[str] = []

    def keep(prompt: str, frames: Tensor, verdict: dict[str, bool]) -> None:
        if len(shown) < 24:
            shown.append(frames)
            labels.append(f"{prompt}  [{', '.join(k for k, right in verdict.items() if right) or 'nothing right'}]")

    sheet = _free(args.sheet, False, (".png",)) if args.sheet is not None else None
    scores = scoring.evaluate(
        pipeline, clips=args.clips, kinds=tuple(args.kinds.split(",")), width=width, height=height, frames=args.frames,
        seed=args.seed, batch=args.batch, steps=args.steps, cfg=args.cfg, cfg_interval=args.cfg_interval,
        solver=args.solver, on_clip=keep,
    )  # fmt: skip
    print(scoring.table(scores))
    scores["vae psnr"] = round(scoring.vae_psnr(pipeline, 24, 17, 128, 128), 2)
    print(f"VAE on held-out procedural clips of 17x128x128: {scores['vae psnr']} dB")
    if sheet is not None:
        contact_sheet(shown, sheet, labels)
    if args.out is not None:
        args.out.write_text(json.dumps(scores, indent=2) + "\n")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m sora_core",
        description="Video from text with a causal VAE and a diffusion transformer over spacetime patches.",
        epilog='Try: python -m sora_core generate "a red circle moves left on a sky background"',
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: object, help_text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=help_text, description=help_text)
        one.set_defaults(run=run)
        one.add_argument("--model", type=Path, default=BUNDLED, help="a checkpoint (default: the bundled sora-mini)")
        return one

    def sampling(one: argparse.ArgumentParser) -> None:
        one.add_argument("--size", type=_size, metavar="WxH", help="pixels (default: the model's own)")
        one.add_argument("--frames", type=int, help="number of frames, 4*n + 1; 1 makes an image")
        one.add_argument("--seed", type=int, default=0, help="same seed, same machine: same video (default 0)")
        one.add_argument("--steps", type=int, help="steps of the solver")
        one.add_argument("--cfg", type=float, help="how strongly the prompt is followed; 1 switches guidance off")
        one.add_argument("--solver", choices=list(SAMPLERS), help="how the steps are taken")

    def writing(one: argparse.ArgumentParser, default: Path | None) -> None:
        one.add_argument("--out", type=Path, default=default, help=f"file to write: {', '.join(VIDEO_SUFFIXES)}")
        one.add_argument("--fps", type=float, help="frames per second of the file")
        one.add_argument("--lossless", action="store_true", help="keep every bit (does not play in browsers)")
        one.add_argument("--overwrite", action="store_true", help="replace --out instead of numbering the new file")

    one = command("generate", generate, "Make a video, or with --frames 1 an image, from a text.")
    one.add_argument("prompt", help="what the video should show")
    sampling(one)
    one.add_argument("--negative", default="", help="what it should not show")
    one.add_argument("--sheet", type=Path, help="also write eight of its frames side by side to this .png")
    writing(one, Path("clip.mp4"))

    one = command("encode", encode, "Turn a video into latents, in a .safetensors file.")
    one.add_argument("video", type=Path)
    one.add_argument("--out", type=Path, help="default: beside the video")
    one.add_argument("--size", type=_size, metavar="WxH", help="resize to this before encoding")
    one.add_argument("--frames", type=int, help="take the first so many frames")
    one.add_argument("--fps", type=float, help="resample to this rate first")
    one.add_argument("--overwrite", action="store_true", help="replace --out instead of numbering the new file")

    one = command("decode", decode, "Turn latents made by `encode` back into a video.")
    one.add_argument("latents", type=Path)
    writing(one, None)

    one = command("info", info, "Show a checkpoint's config, parameters, provenance and scores.")
    one.add_argument("--json", action="store_true", help="as JSON")

    one = command("evaluate", evaluate, "Score a model on the procedural world it was trained in.")
    sampling(one)
    one.add_argument("--clips", type=int, default=240, help="of each kind (default 240)")
    one.add_argument("--kinds", default="single", help="of single,paraphrase,two,wall (default single)")
    one.add_argument(
        "--cfg-interval", type=_share, default=(0.0, 1.0), metavar="LOW-HIGH", help="levels that are guided"
    )
    one.add_argument("--batch", type=int, default=4, help="clips sampled at a time")
    one.add_argument("--sheet", type=Path, help="write the first 24 clips to this .png")
    one.add_argument("--out", type=Path, help="write the scores to this .json")
    return top


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 an error that is explained in one line, 2 wrong words, 130 interrupted."""
    args = parser().parse_args(argv)
    try:
        if getattr(args, "fps", None) is not None:
            frame_rate(args.fps)
        with torch.no_grad():
            args.run(args)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
