"""Causal 3D VAE: video to latents and back, for the bundled model and, by config, the public Wan VAEs.

Shapes: B batch, C channels, T frames, H W rows and columns. Pixels are in -1..1, (B, 3, T, H, W) with T = k*n + 1 for
a time factor k. Latents are (B, z, n + 1, H/s, W/s) and normalised per channel: the first latent frame covers one
frame of video, each later one covers k.

Clips are fed in pieces, in time and, where frames are large, in tiles: working memory does not grow with the length.
The networks stand in `vae_layers`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import VAEConfig, nearest
from .fingerprint import fingerprint
from .tiling import blend_tiles
from .vae_layers import Decoder, Encoder, Stream

OnFrames = Callable[[int, int], None]  # frames done, and all of them


class VAE(nn.Module):
    """Causal 3D VAE. `encode` and `decode` stream over time; `tile` bounds the working memory of large frames too."""

    def __init__(self, cfg: VAEConfig) -> None:
        super().__init__()
        self.config = cfg
        self.encoder = Encoder(cfg)
        self.quant = nn.Conv3d(2 * cfg.z_dim, 2 * cfg.z_dim, 1)
        self.post_quant = nn.Conv3d(cfg.z_dim, cfg.z_dim, 1)
        self.decoder = Decoder(cfg)

    # ---- one piece of a clip

    def moments(self, video: Tensor, stream: Stream | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, not normalised, of a clip (B, 3, T, H, W) in -1..1, or of its next piece."""
        mean, logvar = self.quant(self.encoder(self._fold(video), stream)).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def reconstruct(self, z: Tensor, stream: Stream | None = None) -> Tensor:
        """Pixels, not clamped, of latents that are not normalised, or of their next piece."""
        return self._unfold(self.decoder(self.post_quant(z), stream))

    def _fold(self, video: Tensor) -> Tensor:
        p = self.config.pixel_patch
        return rearrange(video, "b c t (h q) (w r) -> b (c r q) t h w", q=p, r=p)

    def _unfold(self, x: Tensor) -> Tensor:
        p = self.config.pixel_patch
        return rearrange(x, "b (c r q) t h w -> b c t (h q) (w r)", q=p, r=p)

    # ---- whole clips

    def fingerprint(self) -> str:
        """Tells one trained VAE's latents from another's, whatever the decoder's weights: 16 hexadecimal digits. A
        network in float32 and its file in bfloat16 have the same."""
        config = {key: value for key, value in self.config.to_dict().items() if key != "latent_rgb"}
        encoding = nn.ModuleDict({"encoder": self.encoder, "quant": self.quant})
        weights = fingerprint((name, weight.bfloat16()) for name, weight in encoding.named_parameters())
        return sha256((json.dumps(config) + weights).encode()).hexdigest()[:16]

    def normalise(self, z: Tensor) -> Tensor:
        """Latents (B, z, T, H, W) to zero mean and unit variance per channel."""
        return (z - self._statistic(self.config.latent_mean, z)) / self._statistic(self.config.latent_std, z)

    def denormalise(self, z: Tensor) -> Tensor:
        return z * self._statistic(self.config.latent_std, z) + self._statistic(self.config.latent_mean, z)

    def _near(self, x: Tensor) -> Tensor:
        """On the device and in the precision of the weights."""
        return x.to(self.quant.weight)

    def _piece(self, video: Tensor, from_zero: bool) -> Tensor:
        """A piece of a clip as the encoder takes it."""
        return self._near(video) * 2 - 1 if from_zero else self._near(video)

    @staticmethod
    def _statistic(values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1, 1)

    def latent_shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int]:
        """(T, H, W) of the latents of a clip. Raises ValueError that names the nearest size that fits."""
        k, s = self.config.time_factor, self.config.space_factor
        if num_frames < 1 or (num_frames - 1) % k:
            below = max(0, num_frames - 1) // k * k + 1
            raise ValueError(f"{num_frames} frames: the VAE takes {k}n + 1; use {below} or {below + k}")
        for name, side in (("height", height), ("width", width)):
            if side < s or side % s:
                raise ValueError(f"{name} {side}: the VAE takes multiples of {s}; use {nearest(side, s, s)}")
        return (num_frames - 1) // k + 1, height // s, width // s

    @torch.no_grad()
    def encode(
        self,
        video: Tensor,
        *,
        chunk: int = 4,
        tile: int | None = None,
        on_frames: OnFrames | None = None,
        from_zero: bool = False,
    ) -> Tensor:
        """Clip (B, 3, T, H, W) in -1..1 to normalised latents (B, z, T', H', W').

        from_zero: the clip lies in 0..1, as frames of files do, and is brought to -1..1 piece by piece. The clip stays
        on its device; pieces of it go to where the weights are. chunk: latent frames encoded at a time. tile: side, in
        pixels, of the square tiles a larger frame is cut into, for all but the innermost layers, which see whole
        frames. on_frames(done, total): called after each piece, of every tile anew.
        """
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"video of shape {tuple(video.shape)}: the VAE encodes (B, 3, T, H, W)")
        shape = self.latent_shape(*video.shape[2:])
        if tile is not None and max(video.shape[3:]) > tile:
            return self._encode_tiles(video, shape, tile, chunk, on_frames, from_zero)
        out = video.new_empty(video.shape[0], self.config.z_dim, *shape)
        stream: Stream = {}
        for begin, end in _pieces(shape[0], chunk):
            frames = self._frames(begin, end)
            out[:, :, begin:end] = self.moments(self._piece(video[:, :, frames], from_zero), stream)[0]
            if on_frames is not None:
                on_frames(frames.stop, video.shape[2])
        return self.normalise(out)

    def _frames(self, begin: int, end: int) -> slice:
        """Frames of a clip that latents begin..end cover."""
        k = self.config.time_factor
        return slice(max(0, begin * k - k + 1), end * k - k + 1)

    def _encode_tiles(
        self,
        video: Tensor,
        shape: tuple[int, int, int],
        tile: int,
        chunk: int,
        on_frames: OnFrames | None,
        from_zero: bool,
    ) -> Tensor:
        width, factor = self.config.widths[-1], self.config.space_factor

        def down(part: Tensor) -> Tensor:
            out = part.new_empty(part.shape[0], width, shape[0], *(side // factor for side in part.shape[3:]))
            stream: Stream = {}
            for begin, end in _pieces(shape[0], chunk):
                frames = self._frames(begin, end)
                piece = self._piece(part[:, :, frames], from_zero)
                out[:, :, begin:end] = self.encoder.down(self._fold(piece), stream)
                if on_frames is not None:
                    on_frames(frames.stop, video.shape[2])
            return out

        small = blend_tiles(down, video, (width, *shape), tile, 1 / factor, factor)
        out = video.new_empty(video.shape[0], self.config.z_dim, *shape)
        stream: Stream = {}
        for begin, end in _pieces(shape[0], chunk):
            moments = self.quant(self.encoder.finish(self._near(small[:, :, begin:end]), stream))
            out[:, :, begin:end] = moments[:, : self.config.z_dim]
        return self.normalise(out)

    @torch.no_grad()
    def decode(
        self,
        latents: Tensor,
        *,
        chunk: int = 2,
        tile: int | None = None,
        on_frames: OnFrames | None = None,
        out: Tensor | None = None,
        stream: Stream | None = None,
    ) -> Tensor:
        """Normalised latents (B, z, T', H', W') to a clip (B, 3, T, H, W) clamped to -1..1.

        The clip lies in `out`, or else on the latents' device; pieces of it go to where the weights are. chunk: latent
        frames decoded at a time. tile: side, in pixels, of the tiles a larger frame is cut into, for all but the
        innermost layers, which see whole frames. on_frames(done, total): called after each piece, of every tile anew.
        stream: an empty one for the beginning of a clip that comes in parts, and the same for each part that follows,
        which has T'*k frames; not with tiles.
        """
        if latents.ndim != 5 or latents.shape[1] != self.config.z_dim:
            raise ValueError(
                f"latents of shape {tuple(latents.shape)}: this VAE decodes (B, {self.config.z_dim}, T, H, W)"
            )
        k, s = self.config.time_factor, self.config.space_factor
        batch, _, length, height, width = latents.shape
        if tile is not None and stream is not None:
            raise ValueError("tile and stream: a stream remembers whole frames; decode in tiles without one")
        stream = {} if stream is None else stream
        missing = 0 if stream else k - 1  # frames that the first latent of a clip lacks
        shape = (3, length * k - missing, height * s, width * s)
        out = latents.new_empty(batch, *shape) if out is None else out
        z = self.denormalise(latents)
        if tile is not None and max(shape[2:]) > tile:
            return self._decode_tiles(z, out, tile, chunk, on_frames)
        for begin, end in _pieces(length, chunk):
            frames = slice(max(0, begin * k - missing), end * k - missing)
            out[:, :, frames] = self.reconstruct(self._near(z[:, :, begin:end]), stream)
            if on_frames is not None:
                on_frames(frames.stop, shape[1])
        return out.clamp_(-1, 1)

    def _decode_tiles(self, z: Tensor, out: Tensor, tile: int, chunk: int, on_frames: OnFrames | None) -> Tensor:
        length, factor = z.shape[2], self.config.space_factor
        small = z.new_empty(z.shape[0], self.config.decoder_widths[-1], *z.shape[2:])
        stream: Stream = {}
        for begin, end in _pieces(length, chunk):
            small[:, :, begin:end] = self.decoder.begin(self.post_quant(self._near(z[:, :, begin:end])), stream)

        def up(part: Tensor) -> Tensor:
            pixels = part.new_empty(part.shape[0], 3, out.shape[2], *(side * factor for side in part.shape[3:]))
            stream: Stream = {}
            for begin, end in _pieces(length, chunk):
                frames = self._frames(begin, end)
                x = self.decoder.up(self._near(part[:, :, begin:end]), stream, first=begin == 0)
                pixels[:, :, frames] = self._unfold(x)
                if on_frames is not None:
                    on_frames(frames.stop, out.shape[2])
            return pixels

        return out.copy_(blend_tiles(up, small, tuple(out.shape[1:]), max(tile // factor, 1), factor, 1)).clamp_(-1, 1)


def _pieces(length: int, chunk: int) -> list[tuple[int, int]]:
    return [(begin, min(begin + chunk, length)) for begin in range(0, length, chunk)]
