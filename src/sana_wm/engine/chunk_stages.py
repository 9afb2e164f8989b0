"""What every chunk goes through, from one state of a world to the next: denoise, decode, and at last remember.

All are functions of their arguments alone, so the stages of neighbouring chunks can run at the same time, and a file,
a growing video and a live session get the same frames. Frames do not wait for their chunk to be remembered: it is done
at the latest when the next one is denoised.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm.checkpoints.assign import all_finite
from sana_wm.checkpoints.components import Codec
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.named_stage import named_stage
from sana_wm.engine.pixels import to_frames
from sana_wm.engine.recorded import Record, RecordedAdvance
from sana_wm.engine.replay import replayed_if_short
from sana_wm.engine.rollout import Rollout, remembered
from sana_wm.engine.world_state import Finished, WorldState
from sana_wm.geometry.actions import CameraMotion
from sana_wm.geometry.conditions import camera_conditions, chunk_plucker, next_conditions
from sana_wm.models.config import StreamSettings
from sana_wm.models.history import History
from sana_wm.models.leash import as_read, brought_along, followed
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.sampling import OnStep, list_sigmas, next_chunk


@dataclass(frozen=True)
class Move:
    """Where the camera goes during one chunk.

    Attributes:
        c2w: (n,4,4) poses of the new frames, relative to the first frame of the video.
        intrinsics: (n,4) in pixels of the video.
        motion: the camera after it.
    """

    c2w: Tensor
    intrinsics: Tensor
    motion: CameraMotion


class ChunkStages:
    """The stages of one model under one plan; worlds can share them.

    On a GPU that would wait for its launches, steps and what remembers are recorded once the past has its final size,
    and replayed; `record` is what records them.
    """

    def __init__(
        self,
        transformer: SanaWMTransformer,
        codec: Codec,
        picture_hw: tuple[int, int],
        plan: StreamSettings,
        record: Record = replayed_if_short,
    ) -> None:
        self.transformer, self.codec, self.plan = transformer, codec, plan
        self.picture_hw = picture_hw
        self.frames_a_chunk = plan.chunks.size * codec.temporal_stride
        self._sigmas = list_sigmas(plan.timesteps)
        self._advance = RecordedAdvance(transformer, record, early=False)

    @property
    def device(self) -> torch.device:
        return self.transformer.x_embedder.proj.weight.device

    @torch.inference_mode()
    def denoise(self, state: WorldState, move: Move, on_step: OnStep | None = None) -> tuple[Tensor, WorldState]:
        """Latents (1,C,n,h,w) float32 of the next chunk, and the state after it but for what the decoder remembers.

        The transformer does not remember it yet.

        Raises:
            GenerationError: they are not finite, or do not fit into the device.
        """
        plan, state = self.plan, self.remember(state)
        generator = chunk_generator(state.seed, state.chunk)
        height, width = (side // self.codec.spatial_stride for side in self.picture_hw)
        frames = plan.chunks.size + (state.first is not None)
        with named_stage("denoise", state.chunk):
            shape = (1, self.codec.latent_channels, frames, height, width)
            noise = torch.randn(shape, generator=generator).to(self.device)
            clean = torch.zeros(frames, dtype=torch.bool)
            if state.first is not None:
                noise[:, :, :1], clean[0] = state.first, True
            cameras = self._cameras(state, move, (height, width))
            prompt = state.features, state.mask
            rollout = Rollout(self.transformer, self._read(state), *prompt, *cameras, plan, self._advance)
            renoise = generator if plan.sampler == "renoise" else None
            latents = next_chunk(rollout, noise, self._sigmas, clean_frames=clean, renoise=renoise, on_step=on_step)
        after = replace(
            state,
            chunk=state.chunk + 1,
            motion=move.motion,
            intrinsics=move.intrinsics[-1],
            first=None,
            finished=None if rollout.finished is None else Finished(*map(_owned, vars(rollout.finished).values())),
        )
        return latents, after

    @torch.inference_mode()
    def remember(self, state: WorldState) -> WorldState:
        """The state with its last chunk in what the transformer remembers; the same one if it is already."""
        if state.finished is None:
            return state
        with named_stage("remember", state.chunk - 1):
            past = self._read(state), state.features, state.mask
            history = remembered(self.transformer, *past, state.finished, self.plan, self._advance)
            if self.plan.leash is not None:
                was = torch.tensor([state.origin], dtype=torch.float64)
                origin = followed(was, state.motion.c2w[None, :3, 3], self.plan.leash)
                history = brought_along(history, state.history, (origin - was).float(), self.plan.chunks)
                state = replace(state, origin=tuple(origin[0].tolist()))
        return replace(state, history=history.map(_owned), finished=None)

    @torch.inference_mode()
    def decode(
        self, latents: Tensor, state: WorldState, tails: tuple[Tensor, ...]
    ) -> tuple[npt.NDArray[np.uint8], WorldState]:
        """Frames (n,H,W,3) of the latents that led to `state`, and the state with what the decoder now remembers.

        tails: what it remembered of the chunk before.

        Raises:
            GenerationError: pixels are not finite, or the first chunk is all one colour.
        """
        chunk = state.chunk - 1
        with named_stage("decode", chunk):
            video, tails = self.codec.decode_next(latents, tails)
            finite = all_finite(video)
            frames = to_frames(video[0])
        if not finite:
            raise GenerationError(f"stage decode, chunk {chunk}: pixels are not finite; is the codec damaged?")
        if chunk == 0 and not state.flat and (frames == frames[0, 0, 0]).all():
            raise GenerationError(
                f"stage decode, chunk 0: all frames are of one colour {tuple(frames[0, 0, 0].tolist())}; the weights "
                "may be damaged, or the number format too narrow for this model."
            )
        return frames, replace(state, tails=tails)

    def _read(self, state: WorldState) -> History | None:
        """The past as the next chunk reads it."""
        return as_read(state.history, self.plan.leash, self.plan.chunks)

    def _cameras(self, state: WorldState, move: Move, latent_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Both camera inputs (1,n,20) and (1,6*stride,n,h,w) of the chunk, from the frame before it on."""
        c2w = torch.cat([state.motion.c2w[None], move.c2w])
        c2w[:, :3, 3] -= torch.tensor(state.origin)
        c2w = c2w.to(self.device)
        intrinsics = torch.cat([state.intrinsics[None], move.intrinsics]).to(self.device)
        sizes = self.picture_hw, latent_hw, self.codec.temporal_stride
        if state.first is None:
            rows, maps = next_conditions(c2w, intrinsics, *sizes)
        else:
            rows, maps = camera_conditions(c2w, intrinsics, *sizes), chunk_plucker(c2w, intrinsics, *sizes)
        return rows[None], maps[None]


def _owned(x: Tensor) -> Tensor:
    """Not a view that keeps something larger alive, and laid out as a saved tensor comes back: layouts decide how
    products are rounded."""
    owned = x.is_contiguous() and x.untyped_storage().nbytes() == x.nbytes
    return x if owned else x.clone(memory_format=torch.contiguous_format)


def chunk_generator(seed: int, chunk: int) -> torch.Generator:
    """What draws the noise of one chunk: on the CPU, whatever the device, and of nothing but the two numbers."""
    digest = hashlib.sha256(f"{seed} {chunk}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
