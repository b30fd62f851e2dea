"""Minutes of video from prompts with times."""

from __future__ import annotations

import json
import shutil
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..sora_core.config import MOST_SIDE, SamplingDefaults, check_size
from ..sora_core.cues import parse_cues, seen_from
from ..sora_core.engine import Task
from ..sora_core.long import check_shared, count_windows, make_long
from ..sora_core.samplers import SAMPLERS
from ..sora_core.world import warning
from . import host
from .host import io
from .timeline import listed, odd, shared, task_of

DEFAULTS = SamplingDefaults()
MOST_WINDOW = 1021  # frames made at once
KEPT = 8  # finished clips whose windows are kept


class HostEngine:
    """MODEL, CLIP and VAE as what long videos are made with. Raises ValueError where MODEL and VAE do not fit."""

    def __init__(
        self,
        model: object,
        clip: object,
        vae: object,
        negative: str,
        **settings: Any,
    ) -> None:
        self.model, self.clip, self.vae, self.negative, self.settings = model, clip, vae, negative, settings
        self.windows = 1  # how many there will be, for the progress bar
        self.channels, self.time_factor, self.space = host.latent_layout(vae)
        self.multiple = 2 * self.space
        if (channels := host.latent_channels(model)) != self.channels:
            raise ValueError(f"vae: it makes {self.channels} channels of latents, this model {channels}: use its own")
        self.decode = host.decoder(vae)
        self.text = cache(partial(host.encode_text, clip))  # most windows share their text

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        sides = (self.multiple, MOST_SIDE)
        check_size(width, height, frames, self.multiple, self.time_factor, sides=sides, most_frames=MOST_WINDOW)
        return (frames - 1) // self.time_factor + 1, height // self.space, width // self.space

    def sample(self, window: Task) -> Tensor:
        samples = torch.zeros(1, self.channels, *window.shape) if window.known is None else window.known
        positive = self.text(window.texts[0][0])
        if len(window.texts) > 1:
            positive = [c for text, share in window.texts for c in shared([], self.text(text), share, samples)]
        latent = {"samples": samples} | ({} if window.strength is None else {"noise_mask": window.strength})
        negative = self.text(self.negative)
        return host.sample(
            self.model, positive, negative, latent, seed=window.seed, part=(window.number, self.windows),
            **self.settings,
        )["samples"].cpu()  # fmt: skip

    def encode(self, frames: Tensor) -> Tensor:
        return host.encode(self.vae, frames, bar=False).cpu()  # the bar counts steps

    @cached_property
    def described(self) -> dict[str, Any]:
        settings = {key: value for key, value in self.settings.items() if key != "node_id"}
        return host.identity(self.model, self.clip, self.vae) | settings | {"negative": self.negative}


class SoraLongVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        side = {"default": DEFAULTS.width, "min": 16, "max": MOST_SIDE, "step": 16}
        return io.Schema(
            node_id="SoraLongVideo",
            display_name="Sora Long Video",
            category="Sora/tasks",
            description="Makes a clip of any length in windows that slide, with a text for every span. What is "
            "finished survives a cancel or a crash: queue it again with the same seed and it goes on.",
            inputs=[
                io.Model.Input("model", tooltip="A rectified-flow video model."),
                io.Clip.Input("clip", tooltip="Its text encoder."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.String.Input(
                    "prompts", multiline=True, dynamic_prompts=True,
                    default="0:00 a red circle bounces on a sky background",
                    tooltip="One text a line, each with the time at which it begins: 0:05 or 5s. The first is 0:00.",
                ),
                io.String.Input("negative", default="", tooltip="What the clip is steered away from."),
                io.Int.Input("frames", default=120, min=1, max=100000, tooltip="Length of the clip, in frames."),
                io.Float.Input(
                    "fps", default=12.0, min=1.0, max=240.0, step=0.001, tooltip="Frames a second, for the times."
                ),
                io.Int.Input("width", **side, tooltip="Pixels, a multiple of 16."),
                io.Int.Input("height", **side, tooltip="Pixels, a multiple of 16."),
                io.Int.Input(
                    "window", default=17, min=9, max=MOST_WINDOW, step=4, tooltip="Frames made at once, 4n + 1."
                ),
                io.Int.Input(
                    "overlap", display_name="overlap_latents", default=2, min=1, max=64,
                    tooltip="Latent frames, of four frames each, that are seen of the last window.",
                ),
                io.Float.Input(
                    "correct", display_name="drift_correction", default=0.2, min=0.0, max=1.0, step=0.05,
                    tooltip="Share of the colour drift that is taken back.",
                ),
                io.Int.Input(
                    "seed", default=0, min=0, max=2**63 - 1, control_after_generate=True, tooltip="Draws the noise."
                ),
                io.Int.Input(
                    "steps", default=DEFAULTS.steps, min=1, max=1000,
                    tooltip="Steps of the solver: 10 do for sora-mini, Wan takes 20 to 50.",
                ),
                io.Float.Input("cfg", default=DEFAULTS.cfg, min=0.0, max=100.0, step=0.1, tooltip="Guidance; 1: none."),
                io.Combo.Input("solver", options=list(SAMPLERS), default=DEFAULTS.solver, tooltip="See Sora Sampler."),
                io.Int.Input("resample", default=0, min=0, max=20, optional=True, tooltip="See Sora Sampler."),
                io.Latent.Input(
                    "latent", optional=True,
                    tooltip="A clip to be changed, or to go on from: of Sora SDEdit or Sora Extend. It brings its own "
                    "length and size.",
                ),
            ],
            outputs=[
                io.Image.Output(tooltip="The frames of the clip."),
                io.String.Output(display_name="report", tooltip="JSON: every window's drift, before and after."),
                io.String.Output(display_name="seams", tooltip="Frames at which windows begin, for Sora Clip Report."),
                io.Float.Output(display_name="fps", tooltip="For Create Video."),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def validate_inputs(
        cls, prompts: str | None = None, overlap: int | None = None, window: int | None = None
    ) -> bool | str:
        if window is not None and window > MOST_WINDOW:  # the host leaves what is looked at here unchecked
            return f"window {window}: at most {MOST_WINDOW}"
        fits = host.accepts(parse_cues, prompts)
        return host.accepts(check_shared, overlap, window) if fits is True else fits

    @classmethod
    def execute(
        cls,
        model: object,
        clip: object,
        vae: object,
        prompts: str,
        negative: str,
        frames: int,
        fps: float,
        width: int,
        height: int,
        window: int,
        overlap: int,
        correct: float,
        seed: int,
        steps: int,
        cfg: float,
        solver: str,
        resample: int = 0,
        latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        cues = parse_cues(prompts)
        line, encoded, begin = None, None, 0
        if latent is not None:
            line, encoded = task_of(latent)
            frames, (height, width) = len(line.canvas), line.canvas.shape[1:3]
            before, after = (0 if part is None else len(part) for part in (line.before, line.after))
            begin = before - line.show[0]  # of the canvas, in the finished clip
            cues = seen_from(cues, begin, begin + frames, before + line.show[1] - line.show[0] + after, fps)
        engine = HostEngine(
            model, clip, vae, negative, steps=steps, cfg=cfg, solver=solver, passes=resample,
            node_id=cls.hidden.unique_id,
        )  # fmt: skip
        folder = Path()

        def keeping(clip: str) -> Path:
            nonlocal folder
            folder = host.keeping_folder(clip)
            return folder

        windows = make_long(
            engine, cues, frames, fps=fps, width=width, height=height, window=window, overlap=overlap, correct=correct,
            seed=seed, line=line, encoded=encoded, folder=keeping,
        )  # fmt: skip
        (folder / "finished").unlink(missing_ok=True)  # of a shorter one: this is not, until it is
        engine.windows = count_windows(frames, window, overlap, engine.time_factor)
        sides = (-(-side // engine.multiple) * engine.multiple for side in (height, width))
        size = engine.latent_shape(window if line is None else min(window, frames), *sides)
        notes = [f"{frames} frames in {engine.windows} windows.", host.beyond(model, size)]
        notes += [host.strange({host.ORIGIN: host.origin(vae)}, model)]
        notes += [] if line is None else [host.strange(latent, vae), odd(line)]
        notes += dict.fromkeys(warning(cue.text, by_halves=False) for cue in cues) if host.takes_apart(clip) else []
        host.tell(cls.hidden.unique_id, *notes)  # before hours of work rather than after them
        out = torch.empty(frames, height, width, 3)
        done, drift = 0, []
        for part in windows:
            host.interrupted()
            out[done : done + len(part.frames)] = part.frames
            drift.append({"frame": max(0, begin + done), "drift": part.drift, "corrected": part.corrected})
            done += len(part.frames)
        (folder / "finished").touch()  # it is kept for a while: a later node may fail, or the clip may be made longer
        for finished in sorted(folder.parent.glob("*/finished"), key=lambda path: path.stat().st_mtime)[:-KEPT]:
            shutil.rmtree(finished.parent, ignore_errors=True)
        if line is not None:
            out = line.restore(out)
        seams = {entry["frame"] for entry in drift} | set([] if line is None else line.seams)
        if line is not None:  # what a window sees again of given frames is no seam
            made = [value is not None for count, value in line.spans(encoded[1]) for _ in range(count)]
            seams = {frame for frame in seams if any(made[max(0, frame - 1) : frame + 1])}
        seams = listed(sorted(frame for frame in seams if 0 < frame < len(out)))
        return io.NodeOutput(out, json.dumps(drift), seams, fps, ui=host.noted(*notes))
