"""The workflows that need public weights; see `build`."""

from __future__ import annotations

from graph import Node, Workflow

WAN = "https://huggingface.co/Comfy-Org/Wan_{}/resolve/main/split_files"
WAN_21, WAN_22 = WAN.format("2.1_ComfyUI_repackaged"), WAN.format("2.2_ComfyUI_Repackaged")
DIT_21, VAE_21 = "wan2.1_t2v_1.3B_fp16.safetensors", "wan_2.1_vae.safetensors"
DIT_22, VAE_22 = "wan2.2_ti2v_5B_fp16.safetensors", "wan2.2_vae.safetensors"
UMT5 = "umt5_xxl_fp8_e4m3fn_scaled.safetensors"
FILES = (
    "This workflow needs public weights; the editor offers to download what is missing:\n\n"
    "- `models/diffusion_models/{}`\n- `models/text_encoders/{}`\n- `models/vae/{}`\n\n"
)


def _file(source: str, folder: str, name: str) -> list[dict[str, str]]:
    return [{"name": name, "url": f"{source}/{folder}/{name}", "directory": folder}]


def _wan_texts(w: Workflow, prompt: str) -> tuple[Node, Node, Node]:
    clip = w.add("CLIPLoader", models=_file(WAN_21, "text_encoders", UMT5), clip_name=UMT5, type="wan",
                 device="default")  # fmt: skip
    positive = w.add("CLIPTextEncode", "Prompt", clip=clip["CLIP"], text=prompt)
    negative = w.add("CLIPTextEncode", "Negative", clip=clip["CLIP"], text="blurry, low quality, still picture")
    return clip, positive, negative


def wan_text_to_video() -> Workflow:
    w = Workflow(
        "wan_text_to_video",
        "# Wan 2.1 through this pack's transformer and VAE\n\n" + FILES.format(DIT_21, UMT5, VAE_21)
        + "Everything else is ComfyUI's own. Put Sora Sampler in the place of KSampler and Sora VAE Decode in that of "
        "VAE Decode, and all tasks work.",
    )  # fmt: skip
    model = w.add("SoraLoadDiT", models=_file(WAN_21, "diffusion_models", DIT_21), weights=DIT_21, per_token=False)
    return _text_to_video(w, model, steps=30, cfg=6.0, solver="uni_pc")


def wan_experts() -> Workflow:
    high, low = (f"wan2.2_t2v_{noise}_noise_14B_fp8_scaled.safetensors" for noise in ("high", "low"))
    both = f"{high}`\n- `models/diffusion_models/{low}"
    w = Workflow(
        "wan_experts",
        "# Two experts as one: Wan 2.2 14B\n\n" + FILES.format(both, UMT5, VAE_21)
        + "One transformer for the high noise levels, where a clip finds its shape, one for the low ones, where it "
        "finds its detail. Sora Join Experts makes one MODEL of them, for any sampler; tasks end in Sora VAE "
        "Decode. LoRAs go before it.\n\nSora Load DiT unpacks scaled eight bits to bfloat16, 28.6 GB for each "
        "expert. To keep eight bits, load both with ComfyUI's own *Load Diffusion Model*: Sora Join "
        "Experts takes any MODEL.",
    )  # fmt: skip
    experts = [
        w.add("SoraLoadDiT", title, models=_file(WAN_22, "diffusion_models", name), weights=name, per_token=False)
        for title, name in (("High noise", high), ("Low noise", low))
    ]
    first, second = experts
    model = w.add("SoraJoinExperts", high=first["MODEL"], low=second["MODEL"], boundary=0.875)
    return _text_to_video(w, model, ("Experts", *experts), steps=20, cfg=3.5, solver="euler")


def _text_to_video(w: Workflow, model: Node, *before: tuple, steps: int, cfg: float, solver: str) -> Workflow:
    vae = w.add("SoraLoadVAE", models=_file(WAN_21, "vae", VAE_21), weights=VAE_21)
    clip, positive, negative = _wan_texts(w, "a cat walks along a beach, waves roll in behind it, evening light")
    empty = w.add("SoraEmptyVideo", "Canvas", vae=vae["VAE"], width=832, height=480, frames=33, batch_size=1)
    sampler = w.add(
        "KSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent_image=empty["LATENT"], seed=0, steps=steps, cfg=cfg, sampler_name=solver, scheduler="simple",
        denoise=1.0,
    )  # fmt: skip
    frames = w.add("VAEDecode", samples=sampler["LATENT"], vae=vae["VAE"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=16.0)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix=f"sora/{w.name}", format="auto",
                 codec="auto")  # fmt: skip
    for title, *column in (
        *before, ("Weights", model, clip, vae), ("Text and canvas", positive, negative, empty), ("Sample", sampler),
        ("Decode", frames, video), ("Save", save),
    ):  # fmt: skip
        w.column(title, *column)
    return w


def wan_image_to_video() -> Workflow:
    w = Workflow(
        "wan_image_to_video",
        "# An image moves: Wan 2.2 5B\n\n" + FILES.format(DIT_22, UMT5, VAE_22)
        + "This model was trained with a noise level per frame, so an image at frame 0 is a strength map like any "
        "other: Sora Keyframes pins it, at the beginning or elsewhere.",
    )  # fmt: skip
    model = w.add("SoraLoadDiT", models=_file(WAN_22, "diffusion_models", DIT_22), weights=DIT_22, per_token=True)
    vae = w.add("SoraLoadVAE", models=_file(WAN_22, "vae", VAE_22), weights=VAE_22)
    clip, positive, negative = _wan_texts(w, "the camera moves slowly forward, leaves stir in the wind")
    image = w.add("LoadImage", image="example.png")
    scaled = w.add("ImageScale", "To the canvas", image=image["IMAGE"], upscale_method="lanczos", width=1280,
                   height=704, crop="center")  # fmt: skip
    empty = w.add("SoraEmptyVideo", "Canvas", vae=vae["VAE"], width=1280, height=704, frames=49, batch_size=1)
    first = w.add("SoraKeyframes", "At the beginning", vae=vae["VAE"], latent=empty["LATENT"], image=scaled["IMAGE"],
                  frame=0)  # fmt: skip
    sampler = w.add(
        "SoraSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent=first["LATENT"], seed=0, steps=20, cfg=5.0, solver="dpmpp_2m", stop_after=0, resample=0,
    )  # fmt: skip
    frames = w.add("SoraVAEDecode", vae=vae["VAE"], latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=24.0)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix="sora/wan_image_to_video", format="auto",
                 codec="auto")  # fmt: skip
    for title, *column in (
        ("Weights", model, clip, vae), ("Text and image", positive, negative, image), ("Canvas", scaled, empty),
        ("Pin", first), ("Sample", sampler), ("Decode", frames, video), ("Save", save),
    ):  # fmt: skip
        w.column(title, *column)
    return w


def wan_extend() -> Workflow:
    w = Workflow(
        "wan_extend",
        "# A task on a model of ComfyUI's own loader\n\n" + FILES.format(DIT_21, UMT5, VAE_21)
        + "Sora's tasks take any video MODEL and VAE. Wan 2.1 is told one noise level for the whole clip, so what is "
        "kept is put into its latents at every step; **resample** takes each step again, so that what is made "
        "settles with it.",
    )  # fmt: skip
    model = w.add("UNETLoader", models=_file(WAN_21, "diffusion_models", DIT_21), unet_name=DIT_21,
                  weight_dtype="default")  # fmt: skip
    vae = w.add("VAELoader", models=_file(WAN_21, "vae", VAE_21), vae_name=VAE_21)
    clip, positive, negative = _wan_texts(w, "a red ball rolls to the left across a pale blue floor")
    source = w.add(
        "SoraWorldClip", "Material; put your own clip here", shape="circle", colour="red", motion="moves left",
        background="sky", size="medium", style="plain", width=832, height=480, frames=17, seed=0,
    )  # fmt: skip
    task = w.add("SoraExtend", vae=vae["VAE"], images=source["IMAGE"], before=0, after=16, overlap=9, carry=1.0)
    sampler = w.add(
        "SoraSampler", model=model["MODEL"], positive=positive["CONDITIONING"], negative=negative["CONDITIONING"],
        latent=task["LATENT"], seed=0, steps=20, cfg=6.0, solver="dpmpp_2m", stop_after=0, resample=1,
    )  # fmt: skip
    frames = w.add("SoraVAEDecode", vae=vae["VAE"], latent=sampler["LATENT"])
    video = w.add("CreateVideo", images=frames["IMAGE"], fps=16.0)
    save = w.add("SaveVideo", video=video["VIDEO"], filename_prefix="sora/wan_extend", format="auto", codec="auto")
    for title, *column in (
        ("Weights", model, clip, vae), ("Text and clip", positive, negative, source), ("Task", task),
        ("Sample", sampler), ("Decode", frames, video), ("Save", save),
    ):  # fmt: skip
        w.column(title, *column)
    return w
