"""The hybrid diffusion transformer (spec 10): one module for every size.

Parameter names are the published checkpoint's keys. Published keys that no computation reads (`pos_embed`,
`recall_gate`, `raymap_embedder`, the gates of softmax blocks) are not parameters here; `checkpoints.layout` knows them.

Tokens travel as (B, T, S, width), ordered (t, y, x).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sana_wm.errors import InputError
from sana_wm.geometry.rays import ray_from_world
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext, PluckerTokens
from sana_wm.models.embeddings import CaptionEmbedder, PatchEmbed, RMSNorm, TimestepEmbedder
from sana_wm.models.feed_forward import FeedForward
from sana_wm.models.frame_gdn import FrameGatedDeltaNet
from sana_wm.models.history import BlockState, GdnMemory, History, SoftmaxMemory
from sana_wm.models.softmax_attention import CrossAttention, SoftmaxAttention
from sana_wm.models.visibility import WHOLE, Visibility
from sana_wm.ops.pointwise import gated_residual, modulate, residual_modulate
from sana_wm.ops.rotary import rotary_table
from sana_wm.ops.ucpe import RayFrames

CAPTION_NORM_EPS = 1e-5
MASKED_LOGIT = -10_000.0


class Block(nn.Module):
    """Modulated self-attention, Plücker injection, cross-attention, modulated feed-forward (spec 10, section 4)."""

    def __init__(self, config: TransformerConfig, *, softmax: bool) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(6, config.width))
        self.attn = SoftmaxAttention(config) if softmax else FrameGatedDeltaNet(config)
        self.plucker_proj = nn.Linear(config.width, config.width)
        self.cross_attn = CrossAttention(config)
        self.mlp = FeedForward(config)

    def forward(self, x: Tensor, modulation: Tensor, context: BlockContext) -> Tensor:
        """x (B, T, S, width); modulation (B, T or 1, 6, width)."""
        return self.advance(x, modulation, context, None)[0]

    def advance(
        self, x: Tensor, modulation: Tensor, context: BlockContext, past: BlockState | None
    ) -> tuple[Tensor, BlockState | None]:
        """The same after a past, and the state after what `context.visibility` saves, None if that is nothing."""
        table = (self.scale_shift_table + modulation)[:, :, None]  # one row a frame, shared by its tokens
        shift1, scale1, gate1, shift2, scale2, gate2 = table.unbind(-2)
        # In two halves, so that nothing of the first is kept while the second, which needs most memory, runs.
        x, memory = self._mix(x, shift1, scale1, gate1, context, None if past is None else past.attention)
        x, u = residual_modulate(x, self.cross_attn(x, context), shift2, scale2)
        fed, tail = self.mlp.advance(u, context, None if past is None else past.feed_forward_tail)
        state = None if memory is None or tail is None else BlockState(memory, tail)
        return gated_residual(x, gate2, fed), state

    def _mix(
        self,
        x: Tensor,
        shift: Tensor,
        scale: Tensor,
        gate: Tensor,
        context: BlockContext,
        past: GdnMemory | SoftmaxMemory | None,
    ) -> tuple[Tensor, GdnMemory | SoftmaxMemory | None]:
        """Tokens after self-attention and Plücker maps, and the memory of the former."""
        mixed, memory = self.attn(modulate(x, shift, scale), context, past)
        plucker = None if context.plucker is None else context.plucker.through(self.plucker_proj)
        return gated_residual(x, gate, mixed, plucker), memory


RunBlock = Callable[[Block, Tensor, Tensor, BlockContext], Tensor]


def checkpointed(run_block: RunBlock = Block.__call__) -> RunBlock:
    """Blocks that keep only their input and are run a second time by the backward pass: memory for a third more work.

    `run_block` is what runs both times.
    """

    def run(block: Block, x: Tensor, modulation: Tensor, context: BlockContext) -> Tensor:
        # Nothing in a block draws random numbers.
        return checkpoint(run_block, block, x, modulation, context, use_reentrant=False, preserve_rng_state=False)

    return run


class FinalLayer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(2, config.width))
        self.linear = nn.Linear(config.width, config.in_channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        shift, scale = (self.scale_shift_table + time[:, :, None])[:, :, None].unbind(-2)
        return self.linear(modulate(x, shift, scale))


class SanaWMTransformer(nn.Module):
    """Velocity of noisy video latents under a caption and a camera path."""

    blocks: Sequence[Block]

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.x_embedder = PatchEmbed(config.in_channels, width)
        self.t_embedder = TimestepEmbedder(width, truncate=config.truncate_timesteps)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbedder(config.caption_channels, config.caption_tokens, width)
        self.attention_y_norm = RMSNorm(width, CAPTION_NORM_EPS)
        self.plucker_embedder = PatchEmbed(config.plucker_channels, width)
        blocks = nn.ModuleList(Block(config, softmax=config.is_softmax(i)) for i in range(config.depth))
        self.blocks = blocks  # type: ignore[assignment]  # a ModuleList does not say what it holds
        self.final_layer = FinalLayer(config)

    @property
    def dtype(self) -> torch.dtype:
        return self.x_embedder.proj.weight.dtype

    def condition(
        self,
        size: tuple[int, int, int],
        y: Tensor,
        mask: Tensor | None = None,
        camera_conditions: Tensor | None = None,
        chunk_plucker: Tensor | None = None,
        visibility: Visibility = WHOLE,
    ) -> BlockContext:
        """Everything blocks need that no noise level changes; arguments as in :meth:`forward`, size = (T, H, W)."""
        frames, height, width = size
        device = y.device
        positions = torch.arange(visibility.first_frame, visibility.first_frame + frames, device=device)
        cos, sin = rotary_table(positions, height, width, self.config.head_dim)
        rays = plucker = None
        if camera_conditions is not None and "ucpe" in self.config.camera_paths:
            camera_dtype = getattr(torch, self.config.camera_math_dtype)
            matrices = ray_from_world(camera_conditions, height, width, camera_dtype)
            rays = RayFrames(*matrices, *rotary_table(positions, height, width, self.config.head_dim, camera=True))
        if mask is not None and not torch.is_grad_enabled() and _alike(mask):
            y, mask = y[:, :, mask[0].bool()], None  # padding has no weight; without it there is nothing to mask
        caption = self.attention_y_norm(self.y_embedder(y.flatten(0, 1))).to(self.dtype)
        bias = None if mask is None else ((1 - mask.float()) * MASKED_LOGIT)[:, None, None]
        if chunk_plucker is not None and "plucker" in self.config.camera_paths:
            plucker = PluckerTokens.of(chunk_plucker, self.plucker_embedder)
        chunk = visibility.chunk_of_frames(frames, device)
        return BlockContext(size, cos, sin, rays, caption, bias, plucker, visibility, chunk)

    def embed_timestep(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) or (B, 1, T) -> time features (B, T or 1, width) and block modulation (B, T or 1, 6, width)."""
        time = self.t_embedder(timestep.reshape(timestep.shape[0], -1))
        return time, self.t_block(time).unflatten(-1, (6, -1))

    def denoise(
        self, x: Tensor, timestep: Tensor, context: BlockContext, run_block: RunBlock = Block.__call__
    ) -> Tensor:
        """Velocity of x (B, C, T, H, W) under conditioning prepared by :meth:`condition`.

        `run_block` stands for calling a block, for callers that checkpoint blocks.
        """
        tokens = self.x_embedder(x)
        time, modulation = self.embed_timestep(timestep)
        for block in self.blocks:
            tokens = run_block(block, tokens, modulation, context)
        return self._velocity(tokens, time, context)

    def advance(
        self, x: Tensor, timestep: Tensor, context: BlockContext, history: History | None
    ) -> tuple[Tensor, History | None]:
        """Velocity of the next frames x (B, C, n, H, W) of a video whose past is `history`, None at its beginning.

        Also the past with those chunks in it that `context.visibility` saves; without any it is `history` as it was.

        Raises:
            InputError: the frames of the context do not follow those of the history.
        """
        visibility = context.visibility
        frames, chunks = (0, 0) if history is None else (history.frames, history.chunks)
        if (visibility.first_frame, visibility.first_chunk) != (frames, chunks):
            raise InputError(
                f"the call begins at chunk {visibility.first_chunk}, frame {visibility.first_frame}; the history ends "
                f"before chunk {chunks}, frame {frames}."
            )
        tokens = self.x_embedder(x)
        time, modulation = self.embed_timestep(timestep)
        states = []
        for number, block in enumerate(self.blocks):
            past = None if history is None else history.blocks[number]
            tokens, state = block.advance(tokens, modulation, context, past)
            if state is not None:
                states.append(state)
        velocity = self._velocity(tokens, time, context)
        if not visibility.saved:
            return velocity, history
        frames += visibility.saved_frames(x.shape[2])
        return velocity, History(tuple(states), frames, chunks + visibility.saved)

    def _velocity(self, tokens: Tensor, time: Tensor, context: BlockContext) -> Tensor:
        velocity = self.final_layer(tokens, time)
        return velocity.permute(0, 3, 1, 2).unflatten(-1, context.size[1:])

    def forward(
        self,
        x: Tensor,
        timestep: Tensor,
        y: Tensor,
        mask: Tensor | None = None,
        camera_conditions: Tensor | None = None,
        chunk_plucker: Tensor | None = None,
        run_block: RunBlock = Block.__call__,
        visibility: Visibility = WHOLE,
    ) -> Tensor:
        """Velocity dx/dsigma = noise - data.

        Args:
            x: (B, C, T, H, W) latents; frame 0 holds the clean image latent when its timestep is 0.
            timestep: (B,) or (B, 1, T), 0 ... 1000 = 1000 * sigma.
            y: (B, 1, L, caption_channels) caption features; mask: (B, L), 1 where a token counts.
            camera_conditions: (B, T, 20) camera-to-world rows and intrinsics in latent pixels, or None.
            chunk_plucker: (B, 6 * temporal_stride, T, H, W), or None.
            run_block: as of :meth:`denoise`; :func:`checkpointed` is one.
            visibility: with the starts of chunks, the model is chunk-causal.

        Returns:
            (B, C, T, H, W).
        """
        size = (x.shape[2], x.shape[3], x.shape[4])
        context = self.condition(size, y, mask, camera_conditions, chunk_plucker, visibility)
        return self.denoise(x, timestep, context, run_block)


def _alike(mask: Tensor) -> bool:
    """Whether all rows (B, L) name the same tokens, and any."""
    valid = mask.bool()
    return bool((valid == valid[:1]).all()) and bool(valid[0].any())
