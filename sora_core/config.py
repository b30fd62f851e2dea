"""Configurations of the three networks and the presets that name them.

One frozen dataclass per network, written into the checkpoint's metadata and read back from it. No model code here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

MOST_SIDE = 8192  # pixels of a side where a model has no bound of its own


class _Config:
    """Reading and writing shared by the three configs."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from parsed JSON. Raises ValueError that names an unknown key."""
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(values) - known):
            raise ValueError(f"{cls.__name__} has no setting {', '.join(unknown)}; it was written by another version")
        return cls(**{k: _frozen(v) for k, v in values.items()})


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True)
class VAEConfig(_Config):
    """Causal 3D VAE. Level 0 is nearest the pixels; between level i and i + 1 the video shrinks by 2 where
    `space_down[i]` (height and width) and `time_down[i]` (time) say so."""

    z_dim: int = 16
    pixel_patch: int = 4  # side of the square of pixels folded into channels before the first convolution
    widths: tuple[int, ...] = (64, 128, 128)  # channels of the encoder's levels
    decoder_widths: tuple[int, ...] = (64, 128, 128)  # same order as widths: nearest the pixels first
    space_down: tuple[bool, ...] = (True, False)
    time_down: tuple[bool, ...] = (True, True)
    encoder_blocks: int = 1
    decoder_blocks: int = 1
    shortcut: bool = True  # non-learned shortcuts around every level, as in the Wan 2.2 VAE
    middle_attention: bool = False
    latent_mean: tuple[float, ...] = (0.0,) * 16  # per channel; latents handed out are normalised with these
    latent_std: tuple[float, ...] = (1.0,) * 16
    latent_rgb: tuple[
        tuple[float, ...], ...
    ] = ()  # red, green, blue in -1..1 per channel, then their bias; for previews

    def __post_init__(self) -> None:
        transitions = len(self.widths) - 1
        _require(len(self.decoder_widths) == len(self.widths), "decoder_widths needs one entry per level, like widths")
        _require(len(self.space_down) == transitions, f"space_down needs {transitions} entries, one per transition")
        _require(len(self.time_down) == transitions, f"time_down needs {transitions} entries, one per transition")
        _require(len(self.latent_mean) == self.z_dim, f"latent_mean needs {self.z_dim} entries, one per channel")
        _require(len(self.latent_std) == self.z_dim, f"latent_std needs {self.z_dim} entries, one per channel")
        _require(len(self.latent_rgb) in (0, self.z_dim + 1), f"latent_rgb needs no rows or {self.z_dim + 1}")
        if self.shortcut:
            self._check_shortcuts()

    def _check_shortcuts(self) -> None:
        """The shortcuts fold and unfold channels, so the widths of neighbouring levels must divide."""
        factors = [2 ** (time + 2 * space) for space, time in zip(self.space_down, self.time_down, strict=True)]
        _require(self.widths[-2] % self.widths[-1] == 0, "widths: the last level cannot be wider than the one before")
        for i, factor in enumerate(factors):
            above, width = self.widths[max(i - 1, 0)], self.widths[i]
            _require(above * factor % width == 0, f"widths: {above} x {factor} does not divide into {width}")
            width, below = self.decoder_widths[i + 1], self.decoder_widths[min(i + 2, len(factors))]
            _require(width * factor % below == 0, f"decoder_widths: {width} x {factor} does not divide into {below}")

    @property
    def space_factor(self) -> int:
        """Pixels per latent along height and width."""
        return self.pixel_patch * 2 ** sum(self.space_down)

    @property
    def time_factor(self) -> int:
        """Frames per latent frame after the first (the first covers one)."""
        return 2 ** sum(self.time_down)


@dataclass(frozen=True)
class TextConfig(_Config):
    """Small transformer encoder over BPE tokens."""

    vocab_size: int = 768
    dim: int = 256
    layers: int = 2
    heads: int = 4
    max_tokens: int = 40

    def __post_init__(self) -> None:
        _require(self.dim % self.heads == 0, f"text dim {self.dim} does not divide into {self.heads} heads")


@dataclass(frozen=True)
class DiTConfig(_Config):
    """Wan-shaped diffusion transformer."""

    in_dim: int = 16  # latent channels in
    out_dim: int = 16  # latent channels out
    dim: int = 256
    ffn_dim: int = 1024
    heads: int = 4
    layers: int = 8
    patch: tuple[int, int, int] = (1, 2, 2)  # latent frames, rows, columns per token
    text_dim: int = 256
    text_len: int = 40  # text is zero-padded to this many tokens before its projection
    freq_dim: int = 256  # width of the timestep's sinusoid
    absolute: bool = False  # tokens also know where in the frame and in the clip they are, as fractions
    local: bool = False  # embedding and feed-forwards also see the patches around a token, one away on every side
    eps: float = 1e-6

    def __post_init__(self) -> None:
        _require(self.dim % self.heads == 0, f"dim {self.dim} does not divide into {self.heads} heads")
        _require(self.head_dim % 2 == 0, f"head width {self.head_dim} must be even for rotary positions")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


def nearest(value: int, step: int, least: int, most: int | None = None) -> int:
    """The number nearest to `value` that is `least` plus a multiple of `step`, and at most `most`."""
    value = max(value, least) if most is None else min(max(value, least), most)
    return least + (2 * (value - least) + step) // (2 * step) * step


def check_size(
    width: int,
    height: int,
    frames: int,
    side_multiple: int,
    time_factor: int,
    *,
    sides: tuple[int, int],
    most_frames: int,
) -> None:
    """Raises ValueError that names the nearest valid value where a clip cannot have this size.

    Sides are multiples of `side_multiple` within `sides`, both in pixels; frames are `time_factor` * n + 1.
    """
    for name, side in (("width", width), ("height", height)):
        fit = nearest(side, side_multiple, *sides)
        _require(
            side == fit,
            f"{name} {side}: sides are multiples of {side_multiple} from {sides[0]} to {sides[1]} pixels; the nearest "
            f"is {fit}",
        )
    fit = nearest(frames, time_factor, 1, most_frames)
    _require(
        frames == fit,
        f"{frames} frames: a clip has {time_factor}n + 1 frames, from 1 to {most_frames}; the nearest is {fit}",
    )  # fmt: skip


@dataclass(frozen=True)
class SamplingDefaults(_Config):
    """What a checkpoint was trained to make, and how it is best sampled."""

    width: int = 192  # pixels
    height: int = 192
    frames: int = 17
    fps: int = 12
    steps: int = 10
    cfg: float = 4.0
    cfg_before: float = 1.0  # where it is less: in the latent frame right before a given one
    cfg_interval: tuple[float, float] = (0.0, 1.0)  # levels that are guided
    solver: str = "dpmpp_2m"
    shift: float = 3.0  # at 80 tokens; grows with the square root of the number of tokens
    side_multiple: int = 16  # pixels per token along height and width
    min_side: int = 64
    max_side: int = 256
    max_aspect: float = 2.0  # of the longer side to the shorter
    max_frames: int = 33
    apart: bool = False  # two things of one text come out better each in a half of the frame; see `regions`

    def check(self, width: int, height: int, frames: int, time_factor: int) -> None:
        """Raises ValueError that names the nearest valid value where a clip of this size cannot be made."""
        check_size(
            width, height, frames, self.side_multiple, time_factor,
            sides=(self.min_side, self.max_side), most_frames=self.max_frames,
        )  # fmt: skip
        longest = int(min(width, height) * self.max_aspect) // self.side_multiple * self.side_multiple
        _require(
            max(width, height) <= longest,
            f"{width}x{height}: this model makes aspects from 1:{self.max_aspect:g} to {self.max_aspect:g}:1; beside "
            f"{min(width, height)} the longer side can be at most {longest}",
        )

    def beyond(self, width: int, height: int, frames: int, time_factor: int) -> str | None:
        """A note where a clip is not of a size that the checkpoint was trained to make: it can be made all the same."""
        try:
            self.check(width, height, frames, time_factor)
        except ValueError as error:
            return f"Not what this model was made for: {error}. Expect less of it."
        return None


@dataclass(frozen=True)
class Preset:
    """The networks of one model. `text` is None where a public text encoder (UMT5) is used instead of ours."""

    dit: DiTConfig
    vae: VAEConfig
    text: TextConfig | None


# The public VAEs hand out latents as they are; a host's latent format brings them to unit variance.
_WAN21_VAE = VAEConfig(
    pixel_patch=1, widths=(96, 192, 384, 384), decoder_widths=(96, 192, 384, 384), space_down=(True, True, True),
    time_down=(False, True, True), encoder_blocks=2, decoder_blocks=3, shortcut=False, middle_attention=True,
)  # fmt: skip
_WAN22_VAE = VAEConfig(
    z_dim=48, pixel_patch=2, widths=(160, 320, 640, 640), decoder_widths=(256, 512, 1024, 1024),
    space_down=(True, True, True), time_down=(False, True, True), encoder_blocks=2, decoder_blocks=3,
    middle_attention=True, latent_mean=(0.0,) * 48, latent_std=(1.0,) * 48,
)  # fmt: skip

PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        DiTConfig(in_dim=4, out_dim=4, dim=48, ffn_dim=96, heads=2, layers=2, text_dim=32, text_len=24, freq_dim=32,
                  absolute=True, local=True),
        VAEConfig(z_dim=4, widths=(16, 32, 32), decoder_widths=(16, 32, 32),
                  latent_mean=(0.0,) * 4, latent_std=(1.0,) * 4),
        TextConfig(vocab_size=384, dim=32, layers=1, heads=2, max_tokens=24),
    ),
    "mini": Preset(
        DiTConfig(dim=192, ffn_dim=768, layers=12, text_dim=192, absolute=True, local=True), VAEConfig(),
        TextConfig(dim=192),
    ),
    "wan2.1-1.3b": Preset(
        DiTConfig(dim=1536, ffn_dim=8960, heads=12, layers=30, text_dim=4096, text_len=512), _WAN21_VAE, None
    ),
    "wan2.1-14b": Preset(
        DiTConfig(dim=5120, ffn_dim=13824, heads=40, layers=40, text_dim=4096, text_len=512), _WAN21_VAE, None
    ),
    "wan2.2-5b": Preset(
        DiTConfig(in_dim=48, out_dim=48, dim=3072, ffn_dim=14336, heads=24, layers=30, text_dim=4096, text_len=512),
        _WAN22_VAE, None,
    ),
}  # fmt: skip
