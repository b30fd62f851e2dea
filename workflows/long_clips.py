"""Clips of any length, made in windows."""

from __future__ import annotations

from graph import Node, Workflow
from parts import FPS, SIDE, loader, material


def long_video() -> Workflow:
    w = Workflow(
        "long_video",
        "# As long as you like\n\nSora Long Video makes a clip in windows that slide; every line of the prompts begins "
        "with its time. What is finished survives a cancel: queue again and it goes on.\n\n720 frames are a minute.",
    )
    model, vae = loader(w)
    clip = _long(
        w, model, vae,
        "0:00 a red circle circles around on a sky background\n0:03 a blue square bounces on a sky background", 72,
    )  # fmt: skip
    return _long_output(w, clip, ("Model", model))


def long_edit() -> Workflow:
    w = Workflow(
        "long_edit",
        "# Change a clip of any length\n\nSora SDEdit prepares the whole clip, Sora Long Video goes over it in windows "
        "that slide, each of which sees the end of the last. What has strength 0 stays bit for bit, here the first "
        "frame.\n\nSora Extend, with new frames after a clip, goes in the same place.",
    )
    source = material(w, "red", "circle", "circles around", "sky", frames=33)
    model, vae = loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=source["IMAGE"], strength=0.95, first_frame=1, last_frame=-1, curve="")
    prompt = "a blue circle circles around on a sky background"
    clip = _long(w, model, vae, prompt, 33, latent=task["LATENT"])
    return _long_output(w, clip, ("Material", source), ("Model, task", model, task))


def your_video() -> Workflow:
    w = Workflow(
        "your_video",
        "# A video of your own\n\nChoose a file in *Load Video*. *Get Video Components* gives its frames to Sora "
        "SDEdit, its frame rate and its sound to what saves the result; Sora Long Video goes over it, whatever its "
        "length.\n\n*To sora-mini's size* crops and scales it: sora-mini was made for sides from 64 to 256 pixels, "
        "and takes hours for 1280 x 720. For another aspect set other multiples of 16.\n\nsora-mini knows simple "
        "shapes on plain backgrounds, as in the other workflows. For footage connect Wan's MODEL, CLIP and VAE, "
        "set the size to 832 x 480 or bypass its node (Ctrl + B), and in Sora Long Video set **window 81**, "
        "**steps 30** and **cfg 6**: Wan 2.1 was trained on 81 frames, at 16 a second.\n\nFor new frames after the "
        "clip put Sora Extend in the place of Sora SDEdit. Sora Loop and the other tasks take the frames there, "
        "too, and go on through Sora Sampler and Sora VAE Decode instead of Sora Long Video.",
    )
    file = w.add("LoadVideo", file="clip.mp4")
    parts = w.add("GetVideoComponents", video=file["VIDEO"])
    model, vae = loader(w)
    scaled = w.add("ImageScale", "To sora-mini's size", image=parts["images"], upscale_method="lanczos", width=256,
                   height=144, crop="center")  # fmt: skip
    task = w.add("SoraSDEdit", vae=vae, images=scaled["IMAGE"], strength=0.95, first_frame=0, last_frame=-1, curve="")
    prompt = "a blue circle moves left on a sky background"
    clip = _long(w, model, vae, prompt, 33, latent=task["LATENT"], fps=parts["fps"])
    return _long_output(
        w, clip, ("File", file), ("Its parts", parts, scaled), ("Model, task", model, task), audio=parts["audio"]
    )


def _long(
    w: Workflow, model: Node, vae: tuple[Node, int], prompts: str, frames: int,
    fps: float | tuple[Node, int] = FPS, **given: tuple[Node, int],
) -> Node:  # fmt: skip
    return w.add(
        "SoraLongVideo", model=model["MODEL"], clip=model["CLIP"], vae=vae, **given, prompts=prompts, negative="",
        frames=frames, fps=fps, width=SIDE, height=SIDE, window=17, overlap=2, correct=0.2, seed=0, steps=10, cfg=4.0,
        solver="dpmpp_2m", resample=0,
    )  # fmt: skip


def _long_output(w: Workflow, clip: Node, *columns: tuple, **sound: tuple[Node, int]) -> Workflow:
    video = w.add("CreateVideo", images=clip["IMAGE"], **sound, fps=clip["fps"])
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=f"sora/{w.name}", format="auto", codec="auto")
    for title, *column in (*columns, ("Make", clip), ("Video", video), ("Save", save)):
        w.column(title, *column)
    return w
