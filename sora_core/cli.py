"""The command line, `python -m sora_core COMMAND`: parses, calls one function of the core, prints."""

from __future__ import annotations

import argparse
import json
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from .checkpoint import read_metadata as read_checkpoint
from .cli_options import (
    check_apart,
    command,
    free,
    given,
    in_words,
    notes_of,
    sampling,
    settings_of,
    size,
    warn_of,
    writing,
)
from .cli_tasks import add_tasks
from .convert import convert
from .files import replacing
from .layouts import LAYOUTS
from .pipeline import Pipeline, check_seeds
from .sheet import contact_sheet
from .video import check_target, frame_rate, read_metadata, read_video, write_video

LATENTS = "sora_core/latents/1"  # format tag of files with latents


def generate(args: argparse.Namespace) -> None:
    args.out = args.out or Path("image.png" if args.frames == 1 else "clip.mp4")
    check_apart(out=args.out, sheet=args.sheet)
    out = free(args.out, args.overwrite)
    sheet = free(args.sheet, args.overwrite, ".png") if args.sheet is not None else None
    pipeline = Pipeline.load(args.model)
    defaults = pipeline.model.defaults
    width, height = args.size or (defaults.width, defaults.height)
    length, fps = given(args.frames, defaults.frames), given(args.fps, defaults.fps)
    check_target(out, (length, height, width), fps, lossless=args.lossless)
    settings = {"seed": args.seed} | pipeline.settings(**settings_of(args))
    prompt = args.prompt
    if args.expand:
        from .world import expand  # the world is not needed for the rest

        prompt = expand(prompt, args.seed)
        print(prompt)
    defaults.check(width, height, length, pipeline.model.vae.config.time_factor)
    regions = pipeline.parts(prompt, width, height)
    if not regions:
        warn_of(pipeline, prompt, by_halves=True)
    for text, box in regions:
        print(f"{'right' if box.left else 'below' if box.top else 'left' if box.height == 1 else 'above'}: {text}")
    frames = pipeline.generate(
        prompt, width=width, height=height, frames=length, regions=regions, quiet=False, **settings
    )
    metadata = notes_of(args, pipeline, prompt, parts="; ".join(text for text, _ in regions))
    out = write_video(
        out, frames, fps, lossless=args.lossless, overwrite=args.overwrite, numbered=True, metadata=metadata
    )
    if sheet is not None:
        picture = contact_sheet([frames], labels=[prompt])
        print(f"{write_video(sheet, picture, 1, overwrite=args.overwrite, numbered=True)}: contact sheet")
    print(f"{out}: {in_words(*frames.shape[:3], fps)}, seed {args.seed}")


def encode(args: argparse.Namespace) -> None:
    out = free(args.out or args.video.with_suffix(".safetensors"), args.overwrite, ".safetensors")
    pipeline = Pipeline.load(args.model)
    vae = pipeline.model.vae
    if args.size is not None:
        vae.latent_shape(1, args.size[1], args.size[0])
    if args.frames is not None and args.frames < 1:
        raise ValueError(f"--frames {args.frames}: give 1 or more, or leave it out for all")
    video = read_video(args.video, fps=args.fps, max_frames=args.frames)
    frames = video.frames
    if args.size is not None:
        width, height = args.size
        frames = _resize(frames, height, width)
    length, height, width = frames.shape[:3]
    try:
        vae.latent_shape(length, height, width)
    except ValueError as error:
        raise ValueError(f"{args.video}: {error} (--frames cuts the clip, --size WxH resizes it)") from None
    latents = pipeline.encode(frames)
    with (file := replacing(out, args.overwrite, numbered=True)) as partial:
        metadata = {"format": LATENTS, "fps": str(video.fps), "vae": vae.fingerprint()}
        save_file({"latents": latents}, partial, metadata)
    print(f"{file.path}: latents {tuple(latents.shape)} of {in_words(length, height, width, video.fps)}")


def _resize(frames: Tensor, height: int, width: int) -> Tensor:
    moved = F.interpolate(frames.movedim(-1, 1), size=(height, width), mode="bicubic", antialias=True)
    return moved.clamp(0, 1).movedim(1, -1)


def _read_latents(path: Path, fingerprint: str) -> tuple[Tensor, Fraction]:
    """Latents (1, z, T, H, W) and frame rate of a file that `encode` made with the VAE of this fingerprint."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; `encode` makes such a file from a video")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != LATENTS:
                raise ValueError(f"{path} holds no latents; `encode` makes such a file from a video")
            if metadata["vae"] != fingerprint:
                raise ValueError(f"{path} holds latents of another VAE; give its checkpoint with --model")
            latents, fps = file.get_tensor("latents").float(), Fraction(metadata["fps"])
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is no file of latents, or a damaged one; encode the video again ({error})") from None
    if latents.ndim != 5 or latents.shape[0] != 1 or not latents.isfinite().all():
        raise ValueError(f"{path}: expected finite latents (1, z, T, H, W), got {tuple(latents.shape)}")
    return latents, fps


def decode(args: argparse.Namespace) -> None:
    out = free(args.out or args.latents.with_suffix(".mp4"), args.overwrite)
    pipeline = Pipeline.load(args.model)
    vae = pipeline.model.vae
    latents, fps = _read_latents(args.latents, vae.fingerprint())
    fps = given(args.fps, fps)
    length, height, width = ((latents.shape[2] - 1) * vae.config.time_factor + 1, *latents.shape[3:])
    check_target(
        out, (length, height * vae.config.space_factor, width * vae.config.space_factor), fps, lossless=args.lossless
    )
    with tqdm(total=length, desc="decode", unit="frame") as bar:
        frames = pipeline.decode(latents, on_frames=lambda done, _: bar.update(done - bar.n))
    out = write_video(out, frames, fps, lossless=args.lossless, overwrite=args.overwrite, numbered=True)
    print(f"{out}: {in_words(*frames.shape[:3], fps)}")


def describe_clip(args: argparse.Namespace) -> None:
    from .world import describe  # the world is not needed for the rest

    frames = read_video(args.video).frames
    try:
        print(describe(frames))
    except ValueError as error:
        raise ValueError(f"{args.video}: {str(error).removeprefix('images: ')}") from None


def info(args: argparse.Namespace) -> None:
    if args.clip is not None and Path(args.clip).suffix.lower() in (".safetensors", ".pth"):
        raise ValueError(f"{args.clip} is no clip: `info --model {args.clip}` tells of a checkpoint")
    if args.clip is not None:
        found = read_metadata(args.clip)
        told = "\n".join(f"{key}: {value}" for key, value in found.items())
        print(json.dumps(found, indent=2) if args.json else told or f"{args.clip} does not say how it was made")
        return
    found = read_checkpoint(args.model)
    if args.json:
        print(json.dumps({k: v for k, v in found.items() if k != "tokenizer"}, indent=2))
        return
    print(f"{Path(args.model).name}  ({Path(args.model).stat().st_size / 1e6:.1f} MB)")
    for name, count in found["parameters"].items():
        print(f"\n{name}: {count / 1e6:.2f} million parameters")
        print("  " + "  ".join(f"{k} {_short(v)}" for k, v in found["config"][name].items()))
    print("\ndefaults\n  " + "  ".join(f"{k} {v}" for k, v in found["config"]["defaults"].items()))
    for title in ("provenance", "scores"):
        print(f"\n{title}")
        print("\n".join(f"  {k}: {_short(v)}" for k, v in found[title].items()) or "  none recorded")


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else f"{text[:157]}..."


_IGNORED = {  # what `evaluate` has no use for
    "--tasks": ("frames", "kinds", "batch"),
    "--vae": (
        "frames", "kinds", "batch", "tasks", "steps", "cfg", "cfg_interval", "solver", "negative", "sheet", "failures",
    ),
}  # fmt: skip


def evaluate(args: argparse.Namespace) -> None:
    from . import evaluate as scoring  # the world is needed by this command alone
    from . import evaluate_tasks as scoring_tasks

    check_apart(out=args.out, sheet=args.sheet, failures=args.failures)
    pipeline = Pipeline.load(args.model)
    width, height = args.size or (None, None)
    sheets: list[tuple[Path, list[Tensor], list[str], bool]] = [
        (free(path, args.overwrite, ".png"), [], [], wrong)
        for path, wrong in ((args.sheet, False), (args.failures, True))
        if path is not None
    ]

    def keep(prompt: str, frames: Tensor, verdict: dict[str, bool]) -> None:
        label = f"{prompt}  [{', '.join(k for k, right in verdict.items() if right) or 'nothing right'}]"
        for _, shown, labels, wrong in sheets:
            if len(shown) < 24 and not (wrong and all(verdict.values())):
                shown.append(frames)
                labels.append(label)

    def keep_task(task: str, prompt: str, frames: Tensor, values: dict[str, bool | float]) -> None:
        verdict = {k: v for k, v in values.items() if isinstance(v, bool)}
        keep(f"{task}: {prompt}", frames, verdict)

    mode = "--vae" if args.vae is not None else "--tasks" if args.tasks is not None else ""
    for option in _IGNORED.get(mode, ()):
        if getattr(args, option) is not None:
            raise ValueError(f"--{option.replace('_', '-')} does nothing with {mode}: leave it out")
    out = free(args.out, args.overwrite, ".json") if args.out is not None else None
    settings = {"steps": args.steps, "cfg": args.cfg, "cfg_interval": args.cfg_interval, "solver": args.solver,
             "negative": given(args.negative, ""), "width": width, "height": height, "seed": args.seed}  # fmt: skip
    result: dict[str, Any]
    if args.vae is not None:
        clips, defaults = given(args.clips, 96), pipeline.model.defaults
        if clips < 1:
            raise ValueError(f"clips is {clips}: it has to be at least 1")
        sides = args.size or (defaults.width, defaults.height)
        defaults.check(*sides, defaults.frames, pipeline.model.vae.config.time_factor)  # before minutes of work
        result = {"vae_psnr_db": scoring.vae_psnr(pipeline, args.vae, seed=args.seed)}
        print("\n".join(f"{name:24}{value:6.2f} dB" for name, value in result["vae_psnr_db"].items()))
        result |= scoring.through_vae(pipeline, clips=clips, width=width, height=height, seed=args.seed)
        print(scoring.table({"true clips": result["through the VAE"]}))
    elif args.tasks is not None:
        names = tuple(args.tasks.split(","))
        clips = given(args.clips, 40)
        result = {
            "tasks": scoring_tasks.evaluate_tasks(pipeline, clips=clips, tasks=names, on_clip=keep_task, **settings)
        }
        print(scoring_tasks.table(result["tasks"]))
    else:
        scores = scoring.evaluate(
            pipeline, clips=given(args.clips, 240), kinds=tuple(given(args.kinds, "single").split(",")),
            frames=args.frames, batch=given(args.batch, 4), on_clip=keep, **settings,
        )  # fmt: skip
        print(scoring.table(scores))
        result = {"prompts": scores}
    for path, shown, labels, _ in sheets:
        if shown:
            picture = contact_sheet(shown, labels=labels)
            print(f"{write_video(path, picture, 1, overwrite=args.overwrite, numbered=True)}: {len(shown)} clips")
    if out is not None:
        with (file := replacing(out, args.overwrite, numbered=True)) as partial:
            partial.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(f"{file.path}: the scores")


PRECISIONS = {
    "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn
}  # fmt: skip


def convert_weights(args: argparse.Namespace) -> None:
    out = free(args.out, args.overwrite, ".safetensors")
    dtype = args.dtype and PRECISIONS[args.dtype]
    out, kind = convert(args.weights, out, args.layout, dtype, overwrite=args.overwrite, numbered=True)
    print(f"{out}: {kind}, {out.stat().st_size / 1e6:.0f} MB")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m sora_core",
        description="Video from text with a causal VAE and a diffusion transformer over spacetime patches.",
        epilog='Try: python -m sora_core generate "a red circle moves left on a sky background"',
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = command(
        commands,
        "generate",
        generate,
        "Make a video, or with --frames 1 an image, from a text.",
        '"a yellow circle grows on a night background" --size 192x128 --seed 3 --out circle.mp4',
    )
    one.add_argument(
        "prompt", help="what the video should show; of two things sora-mini makes each in a half of the frame"
    )
    text = "say it in the words that sora-mini knows best; what it leaves open is drawn from the seed"
    one.add_argument("--expand", action="store_true", help=text)
    sampling(one, sized=True, frames=True)
    one.add_argument("--sheet", type=Path, help="also write eight of its frames side by side to this .png")
    writing(one, None, "clip.mp4, or image.png with --frames 1")

    one = command(
        commands,
        "encode",
        encode,
        "Turn a video into latents, in a .safetensors file.",
        "holiday.mp4 --frames 49 --size 192x128",
    )
    one.add_argument("video", type=Path)
    one.add_argument("--out", type=Path, help="default: beside the video")
    one.add_argument("--size", type=size, metavar="WxH", help="resize to this before encoding")
    one.add_argument("--frames", type=int, help="take the first so many frames")
    one.add_argument("--fps", type=float, help="resample to this rate first")
    one.add_argument("--overwrite", action="store_true", help="replace --out instead of numbering the new file")

    one = command(
        commands,
        "decode",
        decode,
        "Turn latents made by `encode` back into a video.",
        "holiday.safetensors --out again.mp4",
    )
    one.add_argument("latents", type=Path)
    writing(one, None, "the name of the latents, as .mp4")

    one = command(
        commands,
        "describe",
        describe_clip,
        "Say what a clip of sora-mini's world shows, as its prompt.",
        "clip.mp4",
        model=False,
    )
    one.add_argument("video", type=Path, help="a clip, or an image, of one plain thing on a plain background")

    one = command(
        commands,
        "info", info, "Show a checkpoint's config, parameters, provenance and scores, or how a clip was generated.",
        "--model mine.safetensors",
    )  # fmt: skip
    one.add_argument("clip", type=Path, nargs="?", help="a .mp4, .mkv or .png that `generate` wrote, instead")
    one.add_argument("--json", action="store_true", help="as JSON")

    one = command(
        commands,
        "evaluate",
        evaluate,
        "Score a model on the procedural world it was trained in.",
        "--clips 48 --kinds single,two --sheet clips.png --out scores.json",
    )
    sampling(one, sized=True, frames=True)
    one.add_argument(
        "--clips",
        type=int,
        help="of each kind (default 240), of each task (default 40), or, with --vae, true ones (default 96)",
    )
    one.add_argument("--kinds", help="prompts: of single,paraphrase,two,wall (default single)")
    one.add_argument("--tasks", help="score tasks instead of prompts: of forward,backward,backward-naive,loop,"
                     "transition,recolour,restyle,cued,long,reroll")  # fmt: skip
    one.add_argument("--vae", nargs="*", type=Path, metavar="VIDEO", help="score the VAE alone: PSNR on clips of every "
                     "style, and on the first 17 frames of these videos; and whether true clips are "
                     "still right behind it")  # fmt: skip
    one.add_argument("--batch", type=int, help="clips sampled at a time (default 4)")
    one.add_argument("--sheet", type=Path, help="write the first 24 clips to this .png")
    one.add_argument("--failures", type=Path, help="write the first 24 clips that show something else to this .png")
    one.add_argument("--out", type=Path, help="write the scores to this .json")
    one.add_argument("--overwrite", action="store_true", help="replace these files instead of numbering them")

    one = command(
        commands,
        "convert",
        convert_weights,
        "Write public Wan weights (transformer, VAE, LoRA) in another layout or precision, one tensor at a time.",
        "wan2.1_t2v_1.3B_fp16.safetensors --dtype fp8 --out small.safetensors",
        model=False,
    )
    one.add_argument("weights", type=Path, help="a .safetensors or .pth file, a folder of shards, or their index")
    one.add_argument("--layout", choices=LAYOUTS, default="wan", help="names of the weights (default wan)")
    one.add_argument("--dtype", choices=list(PRECISIONS), help="of the weights (default bf16; of a LoRA its own)")
    one.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    one.add_argument("--overwrite", action="store_true", help="replace --out instead of numbering the new file")
    add_tasks(commands)
    return top


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 done, 1 an error that is explained in one line, 2 wrong words, 130 interrupted, 141
    nobody reads what is printed."""
    args = parser().parse_args(argv)
    try:
        if getattr(args, "fps", None) is not None:
            frame_rate(args.fps)
        if getattr(args, "seed", None) is not None:
            check_seeds(args.seed)
        with torch.no_grad():
            args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of what is printed, `head` for one, has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "DefaultCPUAllocator" not in str(error):  # torch has no error of its own
            raise
        print("error: the memory does not suffice: choose a smaller size, or fewer frames at once", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    return 0
