"""Writes the shipped workflows, UI format here and API format under `api/`, from one description each.

python workflows/build.py        write all (tests check that what is in the folder is what this writes)
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from graph import Node, Workflow  # noqa: E402
from wan import wan_experts, wan_extend, wan_image_to_video, wan_text_to_video  # noqa: E402

FPS = 12.0
BUNDLED = "sora-mini (bundled)"
PROMPT = "a red circle moves left on a sky background"


def text_to_video() -> Workflow:
    w = Workflow(
        "text_to_video",
        "# Text to video\n\nA text and noise go in, a clip comes out.\n\n"
        "1. **Prompt**: a shape, a colour, a motion and a place, as in *a yellow circle grows on a night background*.\n"
        "2. **Canvas**: width and height in multiples of 16 pixels, 4n + 1 frames.\n"
        "3. **Queue**. Another seed gives another clip.\n\n"
        "sora-mini plays at 12 frames a second.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=PROMPT)
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas", width=128, height=128, frames=17, batch_size=1)
    sampler = _sampler(w, model, positive, negative, empty["LATENT"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    _save_video(w, frames["IMAGE"], "sora/text_to_video", (model,), (positive, negative, empty), (sampler,), (frames,))
    return w


def text_to_image() -> Workflow:
    w = Workflow(
        "text_to_image",
        "# Text to image\n\nAn image is a clip of one frame: the same model, the same nodes, frames = 1.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    positive = w.add(
        "SoraTextEncode", "Prompt", clip=model["CLIP"], text="a green triangle stays still on a sand background"
    )
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas of one frame", width=128, height=128, frames=1, batch_size=1)
    sampler = _sampler(w, model, positive, negative, empty["LATENT"])
    image = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    save = w.add("SaveImage", images=image["IMAGE"], filename_prefix="sora/text_to_image")
    _columns(w, (model,), (positive, negative, empty), (sampler,), (image,), (save,))
    return w


def vae_roundtrip() -> Workflow:
    w = Workflow(
        "vae_roundtrip",
        "# Through the VAE and back\n\nThe causal 3D VAE alone: 17 frames of 128 x 128 become 5 x 16 x 16 latents of "
        "16 channels, 1/41 of the numbers, and come back.\n\nBoth clips are saved: compare them. Put your own clip in "
        "with *Load Video* and *Get Video Components* (4n + 1 frames, sides in multiples of 16).",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    clip = _material(w, "yellow", "star", "spins", "night")
    latent = w.add("SoraVAEEncode", vae=model["VAE"], images=clip["IMAGE"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=latent["LATENT"])
    after = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save_after = w.add("SaveVideo", "Through the VAE", video=after["VIDEO"], filename_prefix="sora/vae_roundtrip",
                       format="auto", codec="auto")  # fmt: skip
    before = w.add("CreateVideo", images=clip["IMAGE"], fps=FPS)
    save_before = w.add("SaveVideo", "The source", video=before["VIDEO"], filename_prefix="sora/vae_source",
                        format="auto", codec="auto")  # fmt: skip
    for title, *column in (("Model and material", model, clip), ("Encode", latent), ("Decode", frames),
                           ("Video", after, before), ("Save", save_after, save_before)):  # fmt: skip
        w.column(title, *column)
    before.position = (before.position[0], save_before.position[1])
    return w


def patches() -> Workflow:
    w = Workflow(
        "patches",
        "# Patches and their strength\n\nThe idea of this pack: a clip is a sequence of spacetime patches, and one "
        "number per patch, its **strength**, says what the sampler may do. **0** keeps it, **1** makes it from noise, "
        "between: edits it.\n\nHere all patches are kept but those from frame 9 on: the clip's second half is made "
        "anew from its first half and the text. Look at the picture of the patches, then change the frames, the box, "
        "or give a MASK.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    clip = _material(w, "red", "circle", "moves left", "sky")
    latent = w.add("SoraVAEEncode", vae=model["VAE"], images=clip["IMAGE"])
    cut = w.add("SoraPatchify", "Cut; keep everything", latent=latent["LATENT"], strength=0.0)
    chosen = w.add("SoraPatchStrength", "Make frames 9 to the end", patches=cut["patches"], strength=1.0,
                   first_frame=9, last_frame=-1, left=0.0, top=0.0, right=1.0, bottom=1.0)  # fmt: skip
    whole = w.add("SoraUnpatchify", patches=chosen["patches"])
    view = w.add("SoraViewPatches", patches=chosen["patches"])
    picture = w.add("SaveImage", "The patches", images=view["IMAGE"], filename_prefix="sora/patches_view")
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=PROMPT)
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    sampler = _sampler(w, model, positive, negative, whole["LATENT"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix="sora/patches", format="auto", codec="auto")
    for title, *column in (
        ("Model and material", model, clip), ("Text, latents", positive, negative, latent), ("Patches", cut, chosen),
        ("Together; a look", whole, view), ("Sample", sampler, picture), ("Decode", frames, video), ("Save", save),
    ):  # fmt: skip
        w.column(title, *column)
    return w


def stock_sampler() -> Workflow:
    w = Workflow(
        "stock_sampler",
        "# ComfyUI's own nodes\n\nThe model is a native MODEL, the text encoder a native CLIP, the VAE a native VAE: "
        "CLIP Text Encode, KSampler, VAE Decode, LoRA loaders and the rest work with them.\n\nUse the *simple* "
        "scheduler: it is the schedule the model was trained for.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    positive = w.add("CLIPTextEncode", "Prompt", clip=model["CLIP"], text="a blue square moves up on a sand background")
    negative = w.add("CLIPTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas", width=128, height=128, frames=17, batch_size=1)
    sampler = w.add(
        "KSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent_image=empty["LATENT"], seed=0, steps=30, cfg=4.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    )  # fmt: skip
    frames = w.add("VAEDecode", samples=sampler["LATENT"], vae=model["VAE"])
    _save_video(w, frames["IMAGE"], "sora/stock_sampler", (model,), (positive, negative, empty), (sampler,), (frames,))
    return w


def extend() -> Workflow:
    w = Workflow(
        "extend",
        "# Extend a clip\n\nSora Extend keeps the clip (strength 0) and adds places to be made (strength 1), **after** "
        "it, **before** it, or both. Sora VAE Decode puts the clip's own frames back, bit for bit.\n\nThe report "
        "compares the step at the seam with the steps elsewhere: 1 is no seam.",
    )
    clip = _material(w, "red", "circle", "moves left", "sky")
    model, vae = _loader(w)
    task = w.add("SoraExtend", vae=vae, images=clip["IMAGE"], before=0, after=8, overlap=9)
    _finish(w, model, task, PROMPT, "extend", clip, source=clip)
    return w


def extend_backward() -> Workflow:
    w = Workflow(
        "extend_backward",
        "# What came before\n\nThe same node with frames **before** the clip: several openings of one clip are made "
        "by changing the seed.",
    )
    clip = _material(w, "blue", "square", "moves right", "sand")
    model, vae = _loader(w)
    task = w.add("SoraExtend", vae=vae, images=clip["IMAGE"], before=8, after=0, overlap=9)
    prompt = "a blue square moves right on a sand background"
    _finish(w, model, task, prompt, "extend_backward", clip, source=clip, source_at=8)
    return w


def transition() -> Workflow:
    w = Workflow(
        "transition",
        "# From one clip to another\n\nSora Interpolate keeps both clips and makes the frames between them; Sora "
        "Prompt Ramp leads the text from the first to the second over these frames.",
    )
    a = _material(w, "red", "circle", "moves left", "sky")
    b = _material(w, "yellow", "star", "stays still", "night")
    model, vae = _loader(w)
    task = w.add("SoraInterpolate", vae=vae, images_a=a["IMAGE"], images_b=b["IMAGE"], frames=8, overlap=5, soften=0)
    first = w.add("SoraTextEncode", "Text of the first", clip=model["CLIP"], text=PROMPT)
    second = w.add("SoraTextEncode", "Text of the second", clip=model["CLIP"],
                   text="a yellow star stays still on a night background")  # fmt: skip
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    ramp = w.add("SoraPromptRamp", first=first["CONDITIONING"], second=second["CONDITIONING"], latent=task["LATENT"])
    sampler = _sampler(w, model, ramp, negative, task["LATENT"])
    tail = _output(w, model, sampler, "transition", seams=task["seams"])
    for title, *column in (
        ("Two clips", a, b), ("Model, task", model, task), ("Texts", first, second, negative), ("Ramp", ramp),
        ("Sample", sampler), *tail,
    ):  # fmt: skip
        w.column(title, *column)
    return w


def loop() -> Workflow:
    w = Workflow(
        "loop",
        "# Round and round\n\nSora Loop keeps the clip and makes the frames that lead from its end back to its "
        "beginning. The report measures the step from the last frame to the first as well.",
    )
    clip = _material(w, "green", "ring", "circles around", "pink")
    model, vae = _loader(w)
    task = w.add("SoraLoop", vae=vae, images=clip["IMAGE"], frames=8, overlap=5)
    prompt = "a green ring circles around on a pink background"
    _finish(w, model, task, prompt, "loop", clip, loop=True, source=clip)
    return w


def keyframes() -> Workflow:
    w = Workflow(
        "keyframes",
        "# Images at chosen frames\n\nSora Keyframes pins an image to a frame of a clip that is to be made: here the "
        "first and the last. One image at frame 0 is image to video. Chain as many as you like.",
    )
    clip = _material(w, "orange", "square", "moves right", "gray")
    model, vae = _loader(w)
    one = w.add("ImageFromBatch", "First image", image=clip["IMAGE"], batch_index=0, length=1)
    other = w.add("ImageFromBatch", "Last image", image=clip["IMAGE"], batch_index=16, length=1)
    empty = w.add("SoraEmptyVideo", "Canvas", width=128, height=128, frames=17, batch_size=1)
    first = w.add("SoraKeyframes", "At the beginning", vae=vae, latent=empty["LATENT"], image=one["IMAGE"], frame=0)
    last = w.add("SoraKeyframes", "At the end", vae=vae, latent=first["LATENT"], image=other["IMAGE"], frame=-1)
    positive, negative = _texts(w, model, "an orange square moves right on a gray background")
    sampler = _sampler(w, model, positive, negative, last["LATENT"])
    tail = _output(w, model, sampler, "keyframes")
    for title, *column in (
        ("Material", clip), ("Model, canvas", model, empty), ("Images", one, other), ("First", first, positive),
        ("Last", last, negative), ("Sample", sampler), *tail,
    ):  # fmt: skip
        w.column(title, *column)
    return w


def sdedit() -> Workflow:
    w = Workflow(
        "sdedit",
        "# Change a clip with words\n\nSora SDEdit begins from the clip itself, noised to a **strength**: low keeps "
        "more of it, high follows the text more. The track stays, the colour changes.\n\nA mask, a span of frames or "
        "a curve of strengths says where; what has strength 0 stays bit for bit.",
    )
    clip = _material(w, "red", "circle", "moves left", "sky")
    model, vae = _loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=clip["IMAGE"], strength=0.85, first_frame=0, last_frame=-1, curve="")
    _finish(w, model, task, "a blue circle moves left on a sky background", "sdedit", clip)
    return w


def reroll() -> Workflow:
    w = Workflow(
        "reroll",
        "# One span again\n\nSora SDEdit with strength 1 from frame 5 to frame 12: these frames are made anew, all "
        "others stay bit for bit. Another seed gives another middle.",
    )
    clip = _material(w, "red", "circle", "moves left", "sky")
    model, vae = _loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=clip["IMAGE"], strength=1.0, first_frame=5, last_frame=12, curve="")
    _finish(w, model, task, PROMPT, "reroll", clip)
    return w


def inpaint() -> Workflow:
    w = Workflow(
        "inpaint",
        "# Change a part of the frame\n\nWhere the mask is white the clip is made anew under the text, where it is "
        "black every pixel stays bit for bit. Here the upper part, in which the circle moves, shows another scene."
        "\n\nAny MASK does: one for all frames, or one a frame, from *Load Image (as Mask)* or the mask editor.",
    )
    clip = _material(w, "red", "circle", "moves left", "sky")
    black = w.add("SolidMask", "Stays", value=0.0, width=128, height=128)
    white = w.add("SolidMask", "Is made", value=1.0, width=128, height=96)
    mask = w.add("MaskComposite", destination=black["MASK"], source=white["MASK"], x=0, y=0, operation="add")
    model, vae = _loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=clip["IMAGE"], mask=mask["MASK"], strength=1.0, first_frame=0,
                 last_frame=-1, curve="")  # fmt: skip
    positive, negative = _texts(w, model, "a yellow star moves left on a sky background")
    sampler = _sampler(w, model, positive, negative, task["LATENT"])
    tail = _output(w, model, sampler, "inpaint")
    for title, *column in (
        ("Material", clip, black, white), ("Mask", mask), ("Model, task", model, task), ("Text", positive, negative),
        ("Sample", sampler), *tail,
    ):  # fmt: skip
        w.column(title, *column)
    return w


def outpaint() -> Workflow:
    w = Workflow(
        "outpaint",
        "# A wider frame\n\n*Pad Image for Outpainting* adds room around a clip and a mask that is white there; Sora "
        "SDEdit makes what is white. The clip itself stays bit for bit.\n\nPad by multiples of 16 pixels, without "
        "feathering.",
    )
    clip = _material(w, "red", "circle", "moves up", "sky")
    model, vae = _loader(w)
    wide = w.add("ImagePadForOutpaint", image=clip["IMAGE"], left=32, top=0, right=32, bottom=0, feathering=0)
    task = w.add("SoraSDEdit", vae=vae, images=wide["IMAGE"], mask=wide["MASK"], strength=1.0, first_frame=0,
                 last_frame=-1, curve="")  # fmt: skip
    positive, negative = _texts(w, model, "a red circle moves up on a sky background")
    sampler = _sampler(w, model, positive, negative, task["LATENT"])
    tail = _output(w, model, sampler, "outpaint")
    for title, *column in (
        ("Material", clip), ("Room", wide, model), ("Task", task), ("Text", positive, negative), ("Sample", sampler),
        *tail,
    ):  # fmt: skip
        w.column(title, *column)
    return w


def draft_refine() -> Workflow:
    w = Workflow(
        "draft_refine",
        "# Draft, then refine\n\nA small clip in a few steps shows what a seed will do. Like it? The second half makes "
        "it large: the draft is scaled up, noised to 0.7 (Sora SDEdit) and denoised at full size.\n\nTo try many "
        "seeds, mute the groups on the right (Ctrl + M). Sora Save Draft and Sora Load Draft keep latents for another "
        "day.",
    )
    model, vae = _loader(w)
    positive, negative = _texts(w, model, PROMPT)
    empty = w.add("SoraEmptyVideo", "A small canvas", width=64, height=64, frames=17, batch_size=1)
    draft = _sampler(w, model, positive, negative, empty["LATENT"], steps=8)
    small = w.add("SoraVAEDecode", "The draft", vae=vae, latent=draft["LATENT"])
    look = w.add("CreateVideo", images=small["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", "The draft", video=look["VIDEO"], filename_prefix="sora/draft", format="auto",
                 codec="auto")  # fmt: skip
    large = w.add("ImageScale", "To full size", image=small["IMAGE"], upscale_method="bicubic", width=128, height=128,
                  crop="disabled")  # fmt: skip
    task = w.add("SoraSDEdit", vae=vae, images=large["IMAGE"], strength=0.7, first_frame=0, last_frame=-1, curve="")
    sampler = _sampler(w, model, positive, negative, task["LATENT"])
    tail = _output(w, model, sampler, "draft_refine")
    for title, *column in (
        ("Model", model), ("Text and canvas", positive, negative, empty), ("Draft", draft), ("Look", small, look, save),
        ("Full size", large, task), ("Refine", sampler), *tail,
    ):  # fmt: skip
        w.column(title, *column)
    return w


def long_video() -> Workflow:
    w = Workflow(
        "long_video",
        "# As long as you like\n\nSora Long Video makes a clip in windows that slide; every line of the prompts begins "
        "with its time. What is finished survives a cancel: queue again and it goes on.\n\n720 frames are a minute.",
    )
    model, vae = _loader(w)
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
    source = _material(w, "red", "circle", "circles around", "sky", frames=33)
    model, vae = _loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=source["IMAGE"], strength=0.85, first_frame=1, last_frame=-1, curve="")
    prompt = "a blue circle circles around on a sky background"
    clip = _long(w, model, vae, prompt, 33, latent=task["LATENT"])
    return _long_output(w, clip, ("Material", source), ("Model, task", model, task))


def _long(
    w: Workflow, model: Node, vae: tuple[Node, int], prompts: str, frames: int, **given: tuple[Node, int]
) -> Node:
    return w.add(
        "SoraLongVideo", model=model["MODEL"], clip=model["CLIP"], vae=vae, **given, prompts=prompts, negative="",
        frames=frames, fps=FPS, width=128, height=128, window=17, overlap=2, correct=0.2, seed=0, steps=20, cfg=4.0,
        solver="dpmpp_2m", resample=0,
    )  # fmt: skip


def _long_output(w: Workflow, clip: Node, *columns: tuple) -> Workflow:
    video = w.add("CreateVideo", images=clip["IMAGE"], fps=clip["fps"])
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=f"sora/{w.name}", format="auto", codec="auto")
    for title, *column in (*columns, ("Make", clip), ("Video", video), ("Save", save)):
        w.column(title, *column)
    return w


WORKFLOWS: tuple[Callable[[], Workflow], ...] = (
    text_to_video, text_to_image, vae_roundtrip, patches, stock_sampler,
    extend, extend_backward, transition, loop, keyframes, sdedit, reroll, inpaint, outpaint, draft_refine,
    long_video, long_edit, wan_text_to_video, wan_experts, wan_image_to_video, wan_extend,
)  # fmt: skip


def _loader(w: Workflow) -> tuple[Node, tuple[Node, int]]:
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    return model, model["VAE"]


def _texts(w: Workflow, model: Node, prompt: str) -> tuple[Node, Node]:
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=prompt)
    return positive, w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")


def _finish(
    w: Workflow, model: Node, task: Node, prompt: str, name: str, clip: Node, *, loop: bool = False,
    source: Node | None = None, source_at: int = 0,
) -> None:  # fmt: skip
    """The part that all tasks share: texts, sampler, decoder, report, video."""
    positive, negative = _texts(w, model, prompt)
    sampler = _sampler(w, model, positive, negative, task["LATENT"])
    tail = _output(w, model, sampler, name, seams=task["seams"], loop=loop, source=source, source_at=source_at)
    for title, *column in (
        ("Material", clip), ("Model, task", model, task), ("Text", positive, negative), ("Sample", sampler), *tail,
    ):  # fmt: skip
        w.column(title, *column)


def _output(
    w: Workflow, model: Node, sampler: Node, name: str, *, seams: str | tuple[Node, int] = "", loop: bool = False,
    source: Node | None = None, source_at: int = 0,
) -> list[tuple]:  # fmt: skip
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=f"sora/{name}", format="auto", codec="auto")
    given = {} if source is None else {"source": source["IMAGE"]}
    figures = w.add("SoraClipReport", images=frames["IMAGE"], **given, seams=seams, loop=loop, source_at=source_at)
    plot = w.add("SaveImage", "The report", images=figures["plot"], filename_prefix=f"sora/{name}_report")
    return [("Decode", frames, video, figures), ("Save", save, plot)]


def _sampler(
    w: Workflow, model: Node, positive: Node, negative: Node, latent: tuple[Node, int], steps: int = 20
) -> Node:
    return w.add(
        "SoraSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent=latent, seed=0, steps=steps, cfg=4.0, solver="dpmpp_2m", stop_after=0, resample=0,
    )  # fmt: skip


def _material(w: Workflow, colour: str, shape: str, motion: str, background: str, frames: int = 17) -> Node:
    return w.add(
        "SoraWorldClip", "Material", shape=shape, colour=colour, motion=motion, background=background, size="medium",
        style="plain", width=128, height=128, frames=frames, seed=0,
    )  # fmt: skip


def _save_video(w: Workflow, images: tuple[Node, int], prefix: str, *columns: tuple[Node, ...]) -> None:
    video = w.add("CreateVideo", images=images, fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=prefix, format="auto", codec="auto")
    _columns(w, *columns[:-1], (*columns[-1], video), (save,))


def _columns(w: Workflow, *columns: tuple[Node, ...]) -> None:
    for title, column in zip(("Model", "Text and canvas", "Sample", "Decode", "Save"), columns, strict=True):
        w.column(title, *column)


def write(folder: Path = HERE) -> list[Path]:
    """Write every workflow in both formats; returns the files."""
    files = []
    (folder / "api").mkdir(parents=True, exist_ok=True)
    for make in WORKFLOWS:
        workflow = make()
        for path, content in (
            (folder / f"{workflow.name}.json", workflow.ui()),
            (folder / "api" / f"{workflow.name}.json", workflow.api()),
        ):
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            files.append(path)
    return files


if __name__ == "__main__":
    for path in write():
        print(path)
