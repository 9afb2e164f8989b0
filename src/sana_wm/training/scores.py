"""Models that see whole clips, while a student is distilled: the teacher, and the critic that follows the student."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sana_wm.models.context import BlockContext
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import PAD, NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.sampling import euler_sigmas, flow_euler_ltx, guided
from sana_wm.training.bank import LatentBank, LatentBatch
from sana_wm.training.distill_recipe import OdeRecipe
from sana_wm.training.objective import Noised
from sana_wm.training.sources import ClipSource


class Score:
    """A transformer that sees whole clips, with the frozen text encoder that belongs to it.

    Args:
        size: height and width of the pictures.
    """

    def __init__(self, transformer: SanaWMTransformer, text: NanoTextEncoder, size: tuple[int, int]) -> None:
        self.transformer, self.text, self.size = transformer, text, size

    def velocity(self, noised: Noised, batch: LatentBatch, *, empty_prompt: bool = False) -> Tensor:
        """(B, C, T, H, W) float32 of noised latents of the clips of `batch`; with gradients where they are enabled."""
        with mixed(noised.latents.device):
            context = self._context(batch, *features(self.text, batch.captions, empty_prompt=empty_prompt))
            return self.transformer.denoise(noised.latents, noised.timesteps, context).float()

    @torch.no_grad()
    def trajectory(
        self, batch: LatentBatch, noise: Tensor, sigmas: Tensor, kept: Sequence[float], guidance_scale: float
    ) -> Tensor:
        """(B, K, C, T, H, W): where the way from `noise`, with the first frame in place, is at the sigmas `kept`.

        The last one is 0, the end of the way; all are among `sigmas`.
        """
        with mixed(noise.device):
            y, mask = features(self.text, batch.captions)
            if guidance_scale > 1:
                empty, empty_mask = features(self.text, batch.captions, empty_prompt=True)
                y, mask = torch.cat([empty, y]), torch.cat([empty_mask, mask])
            context = self._context(batch, y, mask)

            def model_fn(latents: Tensor, timesteps: Tensor) -> Tensor:
                return self.transformer.denoise(latents, timesteps, context)

            seen = [noise.float()]
            clean = torch.zeros(noise.shape[2], dtype=torch.bool)
            clean[0] = True
            flow_euler_ltx(
                guided(model_fn, guidance_scale), noise, sigmas, clean_frames=clean,
                on_step=lambda step, steps, latents: seen.append(latents),
            )  # fmt: skip
        times = sigmas.double().tolist()
        return torch.stack([seen[times.index(sigma)] for sigma in kept], 1)

    def _context(self, batch: LatentBatch, y: Tensor, mask: Tensor) -> BlockContext:
        frames, height, width = batch.latents.shape[2:]
        poses, rays = batch.cameras(self.size)
        if len(y) > len(poses):  # with guidance, both halves see the cameras
            poses, rays = torch.cat([poses, poses]), torch.cat([rays, rays])
        return self.transformer.condition((frames, height, width), y, mask, poses, rays)


class TrajectoryBank(LatentBank):
    """A bank that keeps, of every clip, the way of a teacher from noise to a clip with its first frame and cameras.

    Its latents are (B, K * C, T, H, W): snapshots at the noise levels of a student, noisiest first.
    """

    def __init__(
        self,
        source: ClipSource,
        codec: NanoAutoencoder,
        text: NanoTextEncoder,
        plan: OdeRecipe,
        teacher: Score,
        kept: Sequence[float],
        seed: int,
    ) -> None:
        super().__init__(
            source, "world", codec, text, num_frames=plan.frames, capacity=plan.trajectories, group=plan.refresh
        )
        self.teacher, self.kept, self.seed, self.guidance_scale = teacher, kept, seed, plan.guidance_scale
        self.sigmas = trajectory_sigmas(euler_sigmas(plan.teacher_steps, plan.flow_shift), kept)

    def _kept(self, batch: LatentBatch, first: int) -> LatentBatch:
        generator = torch.Generator(batch.latents.device).manual_seed(self.seed + first)
        noise = torch.randn(batch.latents.shape, generator=generator, device=batch.latents.device)
        noise[:, :, :1] = batch.latents[:, :, :1]
        ways = self.teacher.trajectory(batch, noise, self.sigmas, self.kept, self.guidance_scale)
        return LatentBatch(ways.flatten(1, 2), batch.c2w, batch.intrinsics, batch.captions)


def trajectory_sigmas(sigmas: Tensor, kept: Sequence[float]) -> Tensor:
    """Float64 noise levels of a teacher's steps together with those that a student has, falling.

    A step of the teacher so near to one of the student that nothing would happen between them is left out.
    """
    theirs = [sigma for sigma in sigmas.double().tolist() if all(abs(sigma - x) > 1e-3 for x in kept)]
    together = sorted({*theirs, *kept}, reverse=True)
    return torch.tensor(together, dtype=torch.float64)


@torch.no_grad()
def features(text: NanoTextEncoder, ids: Tensor, *, empty_prompt: bool = False) -> tuple[Tensor, Tensor]:
    """Features and mask of captions (B, bytes), or of as many empty ones; no gradient reaches the encoder."""
    if empty_prompt:
        ids = torch.where(torch.arange(ids.shape[1], device=ids.device) > 0, PAD, ids)
    y, mask = text(ids)
    return y, mask


def mixed(device: torch.device) -> torch.autocast:
    """bfloat16 autocast on a GPU, a new one for every call, as :class:`~sana_wm.models.chunked.ChunkedModel` says."""
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda")
