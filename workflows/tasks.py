"""One workflow for each task: given frames, what is made beside them, and the report."""

from __future__ import annotations

from graph import Workflow
from parts import FPS, PROMPT, SIDE, finish, loader, material, output, sample, texts


def extend() -> Workflow:
    w = Workflow(
        "extend",
        "# Extend a clip\n\nSora Extend keeps the clip (strength 0) and adds places to be made (strength 1), **after** "
        "it, **before** it, or both. Sora VAE Decode puts the clip's own frames back, bit for bit.\n\nThe report "
        "compares the step at the seam with the steps elsewhere: 1 is no seam.",
    )
    clip = material(w, "red", "circle", "moves left", "sky")
    model, vae = loader(w)
    half = w.add("ImageFromBatch", "The clip: its first half", image=clip["IMAGE"], batch_index=0, length=9)
    task = w.add("SoraExtend", vae=vae, images=half["IMAGE"], before=0, after=8, overlap=9, carry=0.9)
    finish(w, model, task, PROMPT, "extend", clip, half, source=half)
    return w


def describe() -> Workflow:
    w = Workflow(
        "describe",
        "# A clip is its own prompt\n\n*Sora Describe Clip* reads from the pixels what a clip shows, and the clip "
        "goes on as that: there is no text to write. It knows one plain thing on a plain background.",
    )
    clip = material(w, "purple", "triangle", "moves up", "mint")
    model, vae = loader(w)
    half = w.add("ImageFromBatch", "The clip: its first half", image=clip["IMAGE"], batch_index=0, length=9)
    words = w.add("SoraDescribeClip", images=half["IMAGE"])
    task = w.add("SoraExtend", vae=vae, images=half["IMAGE"], before=0, after=8, overlap=9, carry=0.9)
    finish(w, model, task, words["text"], "describe", clip, half, words, source=half)
    return w


def extend_backward() -> Workflow:
    w = Workflow(
        "extend_backward",
        "# What came before\n\nThe same node with frames **before** the clip: several openings of one clip are made "
        "by changing the seed.",
    )
    clip = material(w, "blue", "square", "moves right", "sand")
    model, vae = loader(w)
    half = w.add("ImageFromBatch", "The clip: its second half", image=clip["IMAGE"], batch_index=8, length=9)
    task = w.add("SoraExtend", vae=vae, images=half["IMAGE"], before=8, after=0, overlap=9, carry=0.9)
    prompt = "a blue square moves right on a sand background"
    finish(w, model, task, prompt, "extend_backward", clip, half, source=half, source_at=8)
    return w


def transition() -> Workflow:
    w = Workflow(
        "transition",
        "# From one clip to another\n\nSora Interpolate keeps both clips and makes the frames between them; Sora "
        "Prompt Ramp leads the text from the first to the second over these frames.",
    )
    a = material(w, "red", "circle", "moves left", "sky")
    b = material(w, "yellow", "star", "stays still", "night")
    model, vae = loader(w)
    task = w.add("SoraInterpolate", vae=vae, images_a=a["IMAGE"], images_b=b["IMAGE"], frames=8, overlap=5, soften=0)
    first = w.add("SoraTextEncode", "Text of the first", clip=model["CLIP"], text=PROMPT)
    second = w.add("SoraTextEncode", "Text of the second", clip=model["CLIP"],
                   text="a yellow star stays still on a night background")  # fmt: skip
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    ramp = w.add("SoraPromptRamp", first=first["CONDITIONING"], second=second["CONDITIONING"], latent=task["LATENT"])
    sampler = sample(w, model, ramp, negative, task["LATENT"])
    tail = output(w, model, sampler, "transition", seams=task["seams"])
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
    clip = material(w, "green", "triangle", "grows", "pink")
    model, vae = loader(w)
    task = w.add("SoraLoop", vae=vae, images=clip["IMAGE"], frames=8, overlap=5)
    prompt = "a green triangle grows on a pink background"
    finish(w, model, task, prompt, "loop", clip, loop=True, source=clip)
    return w


def keyframes() -> Workflow:
    w = Workflow(
        "keyframes",
        "# Images at chosen frames\n\nSora Keyframes pins an image to a frame of a clip that is to be made: here the "
        "first and the last. One image at frame 0 is image to video. Chain as many as you like.",
    )
    clip = material(w, "orange", "square", "moves right", "gray")
    model, vae = loader(w)
    one = w.add("ImageFromBatch", "First image", image=clip["IMAGE"], batch_index=0, length=1)
    other = w.add("ImageFromBatch", "Last image", image=clip["IMAGE"], batch_index=16, length=1)
    empty = w.add("SoraEmptyVideo", "Canvas", width=SIDE, height=SIDE, frames=17, batch_size=1)
    first = w.add("SoraKeyframes", "At the beginning", vae=vae, latent=empty["LATENT"], image=one["IMAGE"], frame=0)
    last = w.add("SoraKeyframes", "At the end", vae=vae, latent=first["LATENT"], image=other["IMAGE"], frame=-1)
    positive, negative = texts(w, model, "an orange square moves right on a gray background")
    sampler = sample(w, model, positive, negative, last["LATENT"])
    tail = output(w, model, sampler, "keyframes")
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
    clip = material(w, "red", "circle", "moves left", "sky")
    model, vae = loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=clip["IMAGE"], strength=0.95, first_frame=0, last_frame=-1, curve="")
    finish(w, model, task, "a blue circle moves left on a sky background", "sdedit", clip)
    return w


def reroll() -> Workflow:
    w = Workflow(
        "reroll",
        "# One span again\n\nSora SDEdit with strength 1 from frame 5 to frame 12: these frames are made anew, all "
        "others stay bit for bit. Another seed gives another middle.",
    )
    clip = material(w, "red", "circle", "moves left", "sky")
    model, vae = loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=clip["IMAGE"], strength=1.0, first_frame=5, last_frame=12, curve="")
    finish(w, model, task, PROMPT, "reroll", clip)
    return w


def inpaint() -> Workflow:
    w = Workflow(
        "inpaint",
        "# Change a part of the frame\n\nWhere the mask is white the clip is made anew under the text, where it is "
        "black every pixel stays bit for bit. Here the upper part, in which the circle moves, shows another scene."
        "\n\nAny MASK does: one for all frames, or one a frame, from *Load Image (as Mask)* or the mask editor.",
    )
    clip = material(w, "red", "circle", "moves left", "sky")
    black = w.add("SolidMask", "Stays", value=0.0, width=SIDE, height=SIDE)
    white = w.add("SolidMask", "Is made", value=1.0, width=SIDE, height=SIDE * 3 // 4)
    mask = w.add("MaskComposite", destination=black["MASK"], source=white["MASK"], x=0, y=0, operation="add")
    model, vae = loader(w)
    task = w.add("SoraSDEdit", vae=vae, images=clip["IMAGE"], mask=mask["MASK"], strength=1.0, first_frame=0,
                 last_frame=-1, curve="")  # fmt: skip
    positive, negative = texts(w, model, "a yellow star moves left on a sky background")
    sampler = sample(w, model, positive, negative, task["LATENT"])
    tail = output(w, model, sampler, "inpaint")
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
    clip = material(w, "red", "circle", "moves up", "sky")
    model, vae = loader(w)
    wide = w.add("ImagePadForOutpaint", image=clip["IMAGE"], left=32, top=0, right=32, bottom=0, feathering=0)
    task = w.add("SoraSDEdit", vae=vae, images=wide["IMAGE"], mask=wide["MASK"], strength=1.0, first_frame=0,
                 last_frame=-1, curve="")  # fmt: skip
    positive, negative = texts(w, model, "a red circle moves up on a sky background")
    sampler = sample(w, model, positive, negative, task["LATENT"])
    tail = output(w, model, sampler, "outpaint")
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
    model, vae = loader(w)
    positive, negative = texts(w, model, PROMPT)
    empty = w.add("SoraEmptyVideo", "A small canvas", width=128, height=128, frames=17, batch_size=1)
    draft = sample(w, model, positive, negative, empty["LATENT"], steps=6)
    small = w.add("SoraVAEDecode", "The draft", vae=vae, latent=draft["LATENT"])
    look = w.add("CreateVideo", images=small["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", "The draft", video=look["VIDEO"], filename_prefix="sora/draft", format="auto",
                 codec="auto")  # fmt: skip
    large = w.add("ImageScale", "To full size", image=small["IMAGE"], upscale_method="bicubic", width=SIDE, height=SIDE,
                  crop="disabled")  # fmt: skip
    task = w.add("SoraSDEdit", vae=vae, images=large["IMAGE"], strength=0.7, first_frame=0, last_frame=-1, curve="")
    sampler = sample(w, model, positive, negative, task["LATENT"])
    tail = output(w, model, sampler, "draft_refine")
    for title, *column in (
        ("Model", model), ("Text and canvas", positive, negative, empty), ("Draft", draft), ("Look", small, look, save),
        ("Full size", large, task), ("Refine", sampler), *tail,
    ):  # fmt: skip
        w.column(title, *column)
    return w
