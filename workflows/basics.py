"""From a text to a clip or an image, through the VAE, and patches in the artist's hand."""

from __future__ import annotations

from graph import Workflow
from parts import BUNDLED, FPS, PROMPT, SIDE, in_columns, loader, material, sample, save_video, texts


def text_to_video() -> Workflow:
    w = Workflow(
        "text_to_video",
        "# Text to video\n\nA text and noise go in, a clip comes out.\n\n"
        "1. **Prompt**: a shape, a colour, a motion and a place, as in *a yellow circle grows on a night background*. "
        "Two things, joined by *and*, are made in a half of the frame each.\n"
        "2. **Canvas**: width and height in multiples of 16 pixels, 4n + 1 frames.\n"
        "3. **Queue**. Another seed gives another clip.\n\n"
        "sora-mini plays at 12 frames a second.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=PROMPT)
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas", width=SIDE, height=SIDE, frames=17, batch_size=1)
    sampler = sample(w, model, positive, negative, empty["LATENT"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    save_video(w, frames["IMAGE"], "sora/text_to_video", (model,), (positive, negative, empty), (sampler,), (frames,))
    return w


def regions() -> Workflow:
    w = Workflow(
        "regions",
        "# A text for every part of the frame\n\nThree *Sora Region* in a row give a wide canvas three things, each "
        "from a text of its own: of one text for all, a small model mixes up their colours and shapes.\n\nEvery box is "
        "made as a clip of its own; where boxes overlap they are mixed in every step, so that no edge shows. Where "
        "they leave a rest, the text at the beginning of the row stands; here they leave none.\n\n*Sora Text Encode* "
        "does the same by itself where a text names two things: it gives each a half of the frame.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    encoded, placed, text = [], [], negative
    for title, left, shown in (
        ("Left", 0.0, "a red square grows"), ("Middle", 0.3, "a yellow circle stays still"),
        ("Right", 0.6, "a blue ring moves up"),
    ):  # fmt: skip
        encoded.append(w.add("SoraTextEncode", title, clip=model["CLIP"], text=f"{shown} on a night background"))
        text = w.add(
            "SoraRegion", f"{title} box", rest=text["CONDITIONING"], region=encoded[-1]["CONDITIONING"],
            left=left, top=0.0, width=0.4, height=1.0,
        )  # fmt: skip
        placed.append(text)
    empty = w.add("SoraEmptyVideo", "Wide canvas", width=256, height=128, frames=17, batch_size=1)
    sampler = sample(w, model, text, negative, empty["LATENT"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix="sora/regions", format="auto", codec="auto")
    for title, *column in (
        ("Model", model, negative), ("Texts", *encoded), ("Places", *placed), ("Sample", empty, sampler),
        ("Decode", frames, video), ("Save", save),
    ):  # fmt: skip
        w.column(title, *column)
    return w


def draft_continue() -> Workflow:
    w = Workflow(
        "draft_continue",
        "# Stop on the way, go on another day\n\nThe first sampler stops after 6 of 10 steps, and *Sora Save Draft* "
        "keeps what it has with all that belongs to it, in `output/drafts`. The second one, with the same seed, steps "
        "and solver, goes on: the clip is the one of a single run, bit for bit.\n\nTo go on another day put *Sora Load "
        "Draft* in the first sampler's place. To try many seeds first, mute the groups on the right (Ctrl + M).",
    )
    model, vae = loader(w)
    positive, negative = texts(w, model, "a purple ring grows on a mint background")
    empty = w.add("SoraEmptyVideo", "Canvas", width=SIDE, height=SIDE, frames=17, batch_size=1)
    draft = sample(w, model, positive, negative, empty["LATENT"], title="The first 6 steps", stop_after=6)
    keep = w.add("SoraSaveDraft", latent=draft["LATENT"], name="draft")
    look = w.add("SoraVAEDecode", vae=vae, latent=draft["LATENT"])
    seen = w.add("SaveImage", "The draft, still noisy", images=look["IMAGE"], filename_prefix="sora/draft")
    sampler = sample(w, model, positive, negative, draft["LATENT"], title="The other 4")
    frames = w.add("SoraVAEDecode", vae=vae, latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=FPS)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix="sora/draft_continue", format="auto", codec="auto")
    for title, *column in (
        ("Model", model), ("Text and canvas", positive, negative, empty), ("Draft", draft, keep), ("Look", look, seen),
        ("Go on", sampler), ("Decode", frames, video), ("Save", save),
    ):  # fmt: skip
        w.column(title, *column)
    return w


def expand_prompt() -> Workflow:
    w = Workflow(
        "expand_prompt",
        "# A prompt in your own words\n\n*Sora Expand Prompt* says a free text in the words that sora-mini knows "
        "best, and draws what it leaves open from its seed. What it made of the text stands under it.\n\nTry *spin*, "
        "*something red on the beach*, *huge golden star at night*.",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    words = w.add("SoraExpandPrompt", "Your words", text="a little crimson ball drifting leftwards", seed=0)
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=words["text"])
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    empty = w.add("SoraEmptyVideo", "Canvas", width=SIDE, height=SIDE, frames=17, batch_size=1)
    sampler = sample(w, model, positive, negative, empty["LATENT"])
    frames = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    columns = (model, words), (positive, negative, empty), (sampler,), (frames,)
    save_video(w, frames["IMAGE"], "sora/expand_prompt", *columns)
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
    empty = w.add("SoraEmptyVideo", "Canvas of one frame", width=SIDE, height=SIDE, frames=1, batch_size=1)
    sampler = sample(w, model, positive, negative, empty["LATENT"])
    image = w.add("SoraVAEDecode", vae=model["VAE"], latent=sampler["LATENT"])
    save = w.add("SaveImage", images=image["IMAGE"], filename_prefix="sora/text_to_image")
    in_columns(w, (model,), (positive, negative, empty), (sampler,), (image,), (save,))
    return w


def vae_roundtrip() -> Workflow:
    w = Workflow(
        "vae_roundtrip",
        f"# Through the VAE and back\n\nThe causal 3D VAE alone: 17 frames of {SIDE} x {SIDE} become 5 x "
        f"{SIDE // 8} x {SIDE // 8} latents of 16 channels, 1/41 of the numbers, and come back.\n\nBoth clips are "
        "saved: compare them. Put your own clip in with *Load Video* and *Get Video Components* (4n + 1 frames, sides "
        "in multiples of 16).",
    )
    model = w.add("SoraLoadModel", checkpoint=BUNDLED)
    clip = material(w, "yellow", "star", "spins", "night")
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
    clip = material(w, "red", "circle", "moves left", "sky")
    latent = w.add("SoraVAEEncode", vae=model["VAE"], images=clip["IMAGE"])
    cut = w.add("SoraPatchify", "Cut; keep everything", latent=latent["LATENT"], strength=0.0)
    chosen = w.add("SoraPatchStrength", "Make frames 9 to the end", patches=cut["patches"], strength=1.0,
                   first_frame=9, last_frame=-1, left=0.0, top=0.0, right=1.0, bottom=1.0)  # fmt: skip
    whole = w.add("SoraUnpatchify", patches=chosen["patches"])
    view = w.add("SoraViewPatches", patches=chosen["patches"])
    picture = w.add("SaveImage", "The patches", images=view["IMAGE"], filename_prefix="sora/patches_view")
    positive = w.add("SoraTextEncode", "Prompt", clip=model["CLIP"], text=PROMPT)
    negative = w.add("SoraTextEncode", "Negative (empty)", clip=model["CLIP"], text="")
    sampler = sample(w, model, positive, negative, whole["LATENT"])
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
    empty = w.add("SoraEmptyVideo", "Canvas", width=SIDE, height=SIDE, frames=17, batch_size=1)
    sampler = w.add(
        "KSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent_image=empty["LATENT"], seed=0, steps=30, cfg=4.0, sampler_name="euler", scheduler="simple", denoise=1.0,
    )  # fmt: skip
    frames = w.add("VAEDecode", samples=sampler["LATENT"], vae=model["VAE"])
    save_video(w, frames["IMAGE"], "sora/stock_sampler", (model,), (positive, negative, empty), (sampler,), (frames,))
    return w
