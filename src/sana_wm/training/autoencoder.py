"""Stage 1 of the nano recipe: the video autoencoder."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from sana_wm.engine.pixels import to_video
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.training.optim import Optimizer
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.recipe import AutoencoderRecipe
from sana_wm.training.sources import ClipSource

STATISTICS_BATCHES = 12
"""Batches over which mean and deviation of the latents are taken."""


def reconstruction_loss(video: Tensor, truth: Tensor, gradient_weight: float, square_weight: float) -> Tensor:
    """L1 plus L1 of the image gradients plus squared error; (B, 3, F, H, W) float32."""
    error = video - truth
    across = error[..., 1:] - error[..., :-1]
    down = error[..., 1:, :] - error[..., :-1, :]
    return (
        error.abs().mean()
        + gradient_weight * (across.abs().mean() + down.abs().mean())
        + square_weight * error.square().mean()
    )


class AutoencoderStage:
    """Encode, add noise, decode, compare. Noise and a pull towards unit scale keep the latents smooth and bounded.

    Its last step also measures the latents of the averaged weights; the statistics are part of the state.

    Args:
        recipe: this peer's part of it; see :meth:`~sana_wm.training.recipe.Recipe.shared_by`.
        start: a codec of the recipe's sizes to begin with; None begins from nothing.
    """

    name = "autoencoder"

    def __init__(
        self,
        recipe: AutoencoderRecipe,
        source: ClipSource,
        *,
        seed: int,
        device: torch.device,
        start: NanoAutoencoder | None = None,
        peers: Peers = ALONE,
    ) -> None:
        self.recipe = recipe
        self.peers = peers
        self.steps = recipe.optimizer.steps
        self.device = device
        self.seed = seed
        torch.manual_seed(seed)  # PyTorch's layer defaults draw from the global generator
        self.model = NanoAutoencoder(recipe.model).to(device)
        if start is not None:
            self.model.load_state_dict(start.state_dict())
        self.optimizer = Optimizer(self.model, recipe.optimizer, peers)
        self.source = source
        self._next = -1
        self._taken = 0
        self._measured = -1  # after which step the statistics were taken
        self._encode: Callable[[Tensor], Tensor] = self.model.encode_raw
        self._decode: Callable[[Tensor], Tensor] = self.model.decode_raw
        if device.type == "cuda":
            self._encode, self._decode = (torch.compile(f, dynamic=False) for f in (self._encode, self._decode))

    def step(self, step: int) -> dict[str, Tensor]:
        if self._next != step:  # the first step here, or after a resume
            self._batches = self.source.batches(self.name, step, self.recipe.batch, self.recipe.frames)
        self._next = step + 1
        truth = to_video(next(self._batches).frames)
        generator = torch.Generator(self.device).manual_seed(self.peers.seed(self.seed * 1_000_003 + step))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            latents = self._encode(truth)
            noise = torch.randn(latents.shape, generator=generator, device=self.device)
            video = self._decode(latents + self.recipe.latent_noise * noise)
        r = self.recipe
        loss = reconstruction_loss(video.float(), truth, r.gradient_weight, r.square_weight)
        loss = loss + r.latent_penalty * latents.float().square().mean()
        norm = self.optimizer.step(loss, step)
        self._taken = step + 1
        if self._taken == self.steps:
            self._measure()
        with torch.no_grad():
            error = (video.float() - truth).square().mean(dim=(1, 3, 4))
            psnr = (10 * torch.log10(4 / error.clamp_min(1e-10))).mean()
            latent_rms = latents.float().square().mean().sqrt()
        return {"loss": loss.detach(), "psnr": psnr, "latent_rms": latent_rms, "grad": norm}

    def state_tensors(self) -> dict[str, Tensor]:
        weights = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        return {**weights, **self.optimizer.state_tensors(), "statistics_step": torch.tensor(self._measured)}

    def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None:
        self.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
        self.optimizer.load_state_tensors(state)
        self._taken = step
        self._measured = int(state.get("statistics_step", torch.tensor(-1)))

    def finished(self) -> NanoAutoencoder:
        """The averaged weights with the statistics of their latents, in evaluation mode."""
        if self._measured != self._taken:  # the recipe called another step the last one when this one was taken
            self._measure()
        self.optimizer.ema.copy_to(self.model)
        return self.model.eval()

    @torch.no_grad()
    def _measure(self) -> None:
        """Mean and deviation of the latents of the averaged weights; all peers take those of the first."""
        averaged = copy.deepcopy(self.model)
        self.optimizer.ema.copy_to(averaged)
        stream = self.source.batches("statistics", 0, self.recipe.batch, self.recipe.frames)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            videos = (to_video(next(stream).frames) for _ in range(STATISTICS_BATCHES))
            latents = [averaged.encode_raw(video).float() for video in videos]
        flat = torch.cat(latents).transpose(1, 2).flatten(2).transpose(0, 1).flatten(1)  # (C, everything)
        self.model.latents_mean.copy_(flat.mean(1))
        self.model.latents_std.copy_(flat.std(1).clamp_min(1e-3))
        self.peers.adopt(self.model.latents_mean, self.model.latents_std)
        self._measured = self._taken
