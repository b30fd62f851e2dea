"""Training from the command line, one step a command; each goes on where it was killed.

python -m sora_core.train vae     --run runs/vae --steps 3000
python -m sora_core.train latents --vae runs/vae/vae.safetensors --cache runs/latents --bucket 17x64x64 --clips 8000
python -m sora_core.train latents --vae runs/vae/vae.safetensors --cache runs/latents --bucket 17x64x64 --clips 250 \\
    --split held_out
python -m sora_core.train latents --vae runs/vae/vae.safetensors --cache runs/latents --bucket 17x64x64 --videos clips
python -m sora_core.train text    --run runs/text
python -m sora_core.train dit     --vae runs/vae/vae.safetensors --text runs/text --cache runs/latents --run runs/dit
python -m sora_core.train pack    --vae runs/vae/vae.safetensors --run runs/dit --out sora-mini.safetensors
python -m sora_core.train pack    --vae runs/near/vae.safetensors --run sora-mini.safetensors --out better.safetensors
python -m sora_core.train novelty --model sora-mini.safetensors --cache runs/latents --bucket 17x64x64 --out nearest.png
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import distributed, nn

from ..checkpoint import BUNDLED, FORMAT, Model, load_checkpoint, save_checkpoint
from ..config import PRESETS, DiTConfig, SamplingDefaults, TextConfig, VAEConfig
from ..files import replacing
from ..pipeline import Pipeline
from ..sheet import contact_sheet
from ..tensors import describe, open_safetensors
from ..text import train_tokenizer
from ..vae import VAE
from ..video import write_video
from ..world import canonical
from ..world.captions import corpus
from ..world.scene import SPLITS
from . import fast
from .batches import DiTTraining
from .dit import Trainee, deepened, train_dit
from .latents import Bucket, cache_of, fill_bucket, read_bucket
from .novelty import novelty as measure_novelty
from .run import Training
from .text import train_text
from .vae import FOLLOWS, VAETraining, latents_apart, train_vae
from .videos import fill_from_videos


def save_vae(path: Path, vae: VAE) -> None:
    with replacing(path) as partial:
        save_file(vae.state_dict(), partial, {"config": json.dumps(vae.config.to_dict())})


def load_vae(path: Path) -> VAE:
    """A VAE that was trained here, or that of a whole checkpoint. Raises ValueError that says what else the file is."""
    with open_safetensors(path) as file:
        metadata, keys = file.metadata() or {}, list(file.keys())
        if metadata.get("format") == FORMAT:
            return load_checkpoint(path).vae
        if "config" not in metadata:
            raise ValueError(f"{path} is no VAE that was trained here: {describe(metadata, keys)}")
        vae = VAE(VAEConfig.from_dict(json.loads(metadata["config"])))
        vae.load_state_dict({key: file.get_tensor(key) for key in keys})
    return vae.eval()


def tokenizer_of(folder: Path, vocab_size: int) -> Tokenizer:
    """The run's tokenizer, trained on captions of the world when the run begins."""
    path = folder / "tokenizer.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            train_tokenizer(corpus(40_000, seed=0), vocab_size).save(str(partial))
    return Tokenizer.from_file(str(path))


def vae(args: argparse.Namespace) -> None:
    """train the VAE on scenes of the world"""
    settings = _given(
        args, "steps", "crop", "learning_rate", "decay", "squared", "textures", "nearness", "latent_noise", "seed"
    )
    for option, other in (("nearness", "near"), ("latent_noise", "decoder_of")):
        if option in settings and getattr(args, other) is None:
            raise ValueError(f"--{option} does nothing without --{other}".replace("_", "-"))
    if args.blocks is not None and args.near is None:
        raise ValueError("--blocks does nothing without --near")
    begun = {name: load_vae(path) for name, path in _given(args, "decoder_of", "near").items()}
    if begun and args.preset is not None:
        raise ValueError("--near and --decoder-of bring their own sizes: leave --preset out")
    if args.styles:
        settings["styles"] = _weights("styles", args.styles)
    training = replace(VAETraining(), **settings)
    trained = train_vae(args.run, PRESETS[args.preset or "mini"].vae, training, blocks=args.blocks or 0, **begun)
    save_vae(args.run / "vae.safetensors", trained)


def latents(args: argparse.Namespace) -> None:
    """fill a cache with latents of scenes or of videos"""
    bucket = Bucket.parse(args.bucket)
    if args.videos is not None:
        if unused := _given(args, "split", "seed"):
            raise ValueError(f"--{next(iter(unused))} draws scenes of the world: leave it out with --videos")
        fill_from_videos(load_vae(args.vae), args.cache, bucket, args.videos, args.clips)
    elif args.clips is None:
        raise ValueError("give --clips, how many of the world to make, or --videos, a folder of your own")
    else:
        fill_bucket(load_vae(args.vae), args.cache, bucket, args.clips, args.seed or 0, args.split or "train")


def text(args: argparse.Namespace) -> None:
    """train the text encoder on captions"""
    config = _text_of(args.preset)
    training = replace(
        Training(steps=1000, learning_rate=1e-3, muon=False, average=0.99), **_given(args, "steps", "seed")
    )
    encoder = train_text(args.run, config, tokenizer_of(args.run, config.vocab_size), training)
    with replacing(args.run / "text.safetensors") as partial:
        save_file(encoder.state_dict(), partial)


def _text_of(preset: str | None) -> TextConfig:
    config = PRESETS[preset or "mini"].text
    if config is None:
        raise ValueError(f"preset {preset} has no text encoder of its own to train")
    return config


def dit(args: argparse.Namespace) -> None:
    """train the transformer, and the text encoder with it, on cached latents"""
    settings = _given(
        args, "steps", "tokens", "learning_rate", "decay", "seed", "shift", "conditioned", "independent", "edited",
        "focus", "windows", "masks",
    ) | {"bf16": args.bf16}  # fmt: skip
    if args.mix:
        settings["mix"] = _weights("mix", args.mix)
    training = replace(DiTTraining(), **settings)
    if training.conditioned + training.independent > 1:
        raise ValueError("--conditioned and --independent are shares of the same samples: together at most 1")
    operations, masks = fast if training.bf16 else nn, bool(args.masks)
    vae = load_vae(args.vae)
    if args.start is not None:
        if args.text is not None or args.preset is not None:
            raise ValueError("--start brings its own text encoder and sizes: leave --text and --preset out")
        begun = load_checkpoint(args.start)
        network = begun.dit if args.deepen is None else deepened(begun.dit, args.deepen)
        trainee = Trainee(network.config, begun.text.config, begun.tokenizer, args.seed or 0, operations, masks)
        trainee.dit.load_state_dict(network.state_dict())
        trainee.text.load_state_dict(begun.text.state_dict())
    elif args.deepen is not None:
        raise ValueError("--deepen does nothing without --start")
    elif args.text is not None:
        preset, config = PRESETS[args.preset or "mini"], _text_of(args.preset)
        weights = load_file(args.text / "text.safetensors")
        tokenizer = Tokenizer.from_file(str(args.text / "tokenizer.json"))
        trainee = Trainee(preset.dit, config, tokenizer, args.seed or 0, operations, masks)
        try:
            trainee.text.load_state_dict(weights)
        except RuntimeError:
            raise ValueError(
                f"--text {args.text}: an encoder of another size than --preset {args.preset or 'mini'} has; give the "
                "preset that it was trained with, or train one"
            ) from None
    else:
        raise ValueError("give --text, the run of a text encoder, or --start, a checkpoint to go on from")
    train_dit(args.run, args.cache, trainee.to(args.device), training, vae)


@contextmanager
def workers(args: argparse.Namespace) -> Iterator[None]:
    """Join the other processes where torchrun has started this one; on GPUs each has one of its own."""
    if "LOCAL_RANK" not in os.environ:
        yield
        return
    on_gpu = args.device.type == "cuda"
    if on_gpu:
        args.device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(args.device)
    distributed.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
        distributed.barrier()  # else one leaves while threads of another still talk to it, which ends that one
    finally:
        distributed.destroy_process_group()


def pack(args: argparse.Namespace) -> None:
    """write a run, or a checkpoint with another VAE, as one file"""
    vae = load_vae(args.vae)
    _check_free(args.out, ".safetensors")
    model = (_with_another_vae if args.run.is_file() else _of_run)(args.run, vae)
    model.defaults = SamplingDefaults.from_dict(model.defaults.to_dict() | _json("defaults", args.defaults))
    if args.provenance:
        model.provenance = _json("provenance", args.provenance.read_text(encoding="utf-8"))
    if args.scores:
        model.scores = _json("scores", args.scores.read_text(encoding="utf-8"))
    save_checkpoint(args.out, model)


def _of_run(run: Path, vae: VAE) -> Model:
    if not (run / "state.pt").exists():
        raise ValueError(f"{run} holds no state yet; train first")
    networks = json.loads((run / "settings.json").read_text(encoding="utf-8"))["networks"]
    tokenizer = run / "tokenizer.json"
    if "dit" not in networks or not tokenizer.exists():
        raise ValueError(f"{run} is no run of `dit`: that has a transformer and a tokenizer.json")
    dit, text = DiTConfig.from_dict(networks["dit"]), TextConfig.from_dict(networks["text"])
    if networks.get("vae", "") not in ("", vae.fingerprint()):
        raise ValueError(f"{run} was trained on latents of another VAE than --vae; give that one")
    trainee = Trainee(dit, text, Tokenizer.from_file(str(tokenizer)), masks="masks" in networks)
    trainee.load_state_dict(torch.load(run / "state.pt", map_location="cpu", weights_only=True)["average"])
    return Model(trainee.dit, vae, trainee.text, trainee.tokenizer)


def _with_another_vae(path: Path, vae: VAE) -> Model:
    """A checkpoint whose VAE went on near its latents. Its scores were another's, so they are left out."""
    model = load_checkpoint(path)
    if (apart := latents_apart(model.vae, vae)) > FOLLOWS:
        raise ValueError(
            f"latents of --vae lie {apart:.2f} deviations from those that the transformer of {path} knows, more than "
            f"{FOLLOWS}: train the VAE with --near, or the transformer on its latents with dit --start"
        )
    return replace(model, vae=vae, scores={})


def novelty(args: argparse.Namespace) -> None:
    """measure how near new clips are to those of the training; the sheet shows each above its nearest"""
    _check_free(args.out, ".png")
    pipeline, bucket = Pipeline.load(args.model), Bucket.parse(args.bucket)
    training, scenes = read_bucket(args.cache, bucket, args.split or "train")
    if cache_of(args.cache) not in ("", pipeline.model.vae.fingerprint()):
        raise ValueError(f"{args.cache} holds latents of another VAE than the model's; give the cache that it has")
    found, asked = measure_novelty(pipeline, training, scenes, bucket)
    clips, labels = [], []
    for seed, (prompt, clip, index) in enumerate(asked):
        clips += [clip, pipeline.decode(training[index : index + 1].float())]
        labels += [f"{prompt}, seed {seed}", f"nearest training clip: {canonical(scenes[index])}"]
    print(json.dumps(found, indent=2))
    write_video(args.out, contact_sheet(clips, labels), 1)


def _check_free(path: Path, suffix: str) -> None:
    if path.suffix.lower() != suffix:
        raise ValueError(f"--out {path}: its name has to end with {suffix}")
    if path.exists():
        raise ValueError(f"--out {path} exists; choose another name")
    if not path.parent.is_dir():
        raise ValueError(f"--out {path}: the folder {path.parent} does not exist; make it first")


def _json(option: str, text: str) -> dict[str, object]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f'--{option}: this is no JSON ({error}); write it as in {{"width": 128}}') from None
    if not isinstance(found, dict):
        raise ValueError(f'--{option}: this is JSON but no object; write it as in {{"width": 128}}')
    return found


def _given(args: argparse.Namespace, *names: str) -> dict[str, object]:
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _weights(option: str, parts: list[str]) -> tuple[tuple[str, float], ...]:
    """Names and how often each is drawn, from NAME=WEIGHT. Raises ValueError where a part is something else."""
    found = []
    for part in parts:
        name, _, weight = part.partition("=")
        try:
            found.append((name, float(weight)))
        except ValueError:
            raise ValueError(f"--{option} {part}: write NAME=WEIGHT, as in {name or 'name'}=0.5") from None
        if not 0 < found[-1][1] < math.inf:
            raise ValueError(f"--{option} {part}: a weight is a number above 0; leave out what is never drawn")
    return tuple(found)


COMMANDS = {
    vae: "run steps crop learning_rate decoder_of near blocks decay squared textures styles nearness latent_noise "
    "preset seed",
    text: "run steps preset seed",
    latents: "vae cache bucket clips split videos seed",
    dit: "vae text start cache run steps tokens learning_rate decay mix shift conditioned independent edited focus "
    "windows masks deepen bf16 device preset seed",
    pack: "vae run out defaults provenance scores",
    novelty: "model cache bucket split out",
}


def main() -> None:
    top = argparse.ArgumentParser(
        prog="python -m sora_core.train", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for run, options in COMMANDS.items():
        one = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
        one.set_defaults(call=run)
        for name in options.split():
            one.add_argument(f"--{name.replace('_', '-')}", **OPTIONS[name])
    args = top.parse_args()
    try:
        if args.call is dit:
            with workers(args):
                dit(args)
        elif int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise ValueError("torchrun is for `dit`, which shares its work between processes; run this without it")
        else:
            args.call(args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def _at_least(least: int) -> Callable[[str], int]:
    """A whole number that is no less, for argparse."""

    def number(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: give a whole number, at least {least}")
        return int(text)

    return number


def _between(least: float, most: float) -> Callable[[str], float]:
    """A number of a range, for argparse."""
    told = f"from {least:g} to {most:g}" if most < math.inf else f"of {least:g} or more"

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or math.isinf(value):
            raise argparse.ArgumentTypeError(f"{text}: give a number {told}")
        return value

    return number


SHARE, WEIGHT = _between(0, 1), _between(0, math.inf)


def _device(text: str) -> torch.device:
    try:
        device = torch.device(text)
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{text}: write cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError(f"{text}: torch finds no such GPU here; leave --device out")
    return device


OPTIONS: dict[str, dict] = {
    "preset": {"choices": list(PRESETS), "help": "sizes of the networks (default: mini)"},
    "seed": {"type": _at_least(0), "help": "draws everything that is random (default: 0)"},
    "run": {
        "type": Path,
        "required": True,
        "help": "folder of the run (pack: or a checkpoint, to give it another VAE)",
    },
    "cache": {"type": Path, "required": True, "help": "folder of the latent cache"},
    "vae": {"type": Path, "required": True, "help": "a trained VAE"},
    "text": {"type": Path, "help": "folder of a text encoder's run"},
    "start": {"type": Path, "help": "a checkpoint whose transformer and text encoder to go on from, instead"},
    "model": {"type": Path, "default": BUNDLED, "help": "a checkpoint (default: bundled sora-mini)"},
    "out": {"type": Path, "required": True, "help": "checkpoint to write, or sheet of clips (.png)"},
    "steps": {"type": _at_least(1), "help": "length of the run; may be moved when it goes on"},
    "crop": {"type": _at_least(1), "help": "side of the crops, pixels"},
    "decoder_of": {"type": Path, "help": "a trained VAE: train its decoder alone, its latents stay"},
    "near": {"type": Path, "help": "a trained VAE or a checkpoint: begin from it, its latents stay near"},
    "nearness": {"type": WEIGHT, "help": "with --near: weight of that"},
    "blocks": {"type": _at_least(1), "help": "with --near: so many more in each level, which add nothing at first"},
    "latent_noise": {"type": WEIGHT, "help": "with --decoder-of: most noise on the latents, in deviations"},
    "textures": {"type": SHARE, "help": "share of batches of moving textures, for footage"},
    "styles": {"nargs": "+", "metavar": "STYLE=WEIGHT", "help": "how often each is drawn, as in outline=0.5 plain=0.5"},
    "squared": {"type": WEIGHT, "help": "weight of the squared error beside the absolute one (default: 1)"},
    "tokens": {"type": _at_least(1), "help": "tokens in a batch"},
    "learning_rate": {"type": WEIGHT},
    "decay": {"type": SHARE, "help": "share of the run over which the rate falls to zero"},
    "shift": {"type": WEIGHT, "help": "of the levels, at 80 tokens"},
    "mix": {
        "nargs": "+",
        "metavar": "BUCKET=WEIGHT",
        "help": "buckets and how often each is drawn, as in 17x64x64=0.7 1x128x128:plain=0.3 17x64x64:videos=1",
    },
    "conditioned": {"type": SHARE, "help": "share of samples with kept patches"},
    "independent": {"type": SHARE, "help": "share of samples with a level per frame"},
    "edited": {"type": SHARE, "help": "share of styled and recoloured samples that begin from what they are edits of"},
    "focus": {"type": WEIGHT, "help": "how much more the loss counts near things of the world (default: 0)"},
    "windows": {"type": SHARE, "help": "share of batches cut to windows around their things (default: 0)"},
    "masks": {"type": WEIGHT, "help": "weight of telling what things cover (default: 0)"},
    "deepen": {
        "type": _at_least(1),
        "help": "with --start: a copy behind every so many blocks, which adds nothing at first",
    },
    "bf16": {"action": "store_true", "help": "multiply in bfloat16: faster on some CPUs, slower on others"},
    "bucket": {"required": True, "help": "frames x height x width, as in 17x64x64"},
    "clips": {
        "type": _at_least(1),
        "help": "how many at least; with --videos, at most of each that is new",
    },
    "split": {"choices": SPLITS[:-1], "help": "which scenes (default: train)"},
    "videos": {"type": Path, "help": "a folder of videos, each beside a .txt of its captions, instead of the world"},
    "device": {"type": _device, "default": torch.device("cpu"), "help": "cpu or cuda (default: cpu)"},
    "defaults": {"default": "{}", "help": "settings of SamplingDefaults, as JSON"},
    "provenance": {"type": Path, "help": "JSON file with how the model was made"},
    "scores": {"type": Path, "help": "JSON file written by `evaluate --out`"},
}

if __name__ == "__main__":
    torch.set_float32_matmul_precision("highest")
    main()
