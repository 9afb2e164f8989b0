"""One training step of the transformer alone: what stage 2 does with it, whatever its inputs and its size."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.models.transformer import Block, RunBlock, SanaWMTransformer
from sana_wm.training.objective import add_noise, velocity_loss
from sana_wm.training.optim import Optimizer
from sana_wm.training.recipe import OptimizerRecipe


class TransformerStep:
    """Forward, velocity loss, backward, clipping, optimiser, moving average (spec 50, section 3).

    On a GPU weights in float32 work under bfloat16 autocast, as those of :class:`~sana_wm.training.world.WorldStage`;
    weights in bfloat16 work as they are, and their gradients and the optimiser's moments are bfloat16 as well. The
    average is float32 in both cases.

    Args:
        run_block: what runs a block; :func:`~sana_wm.models.transformer.checkpointed` keeps less memory.
    """

    def __init__(self, model: SanaWMTransformer, recipe: OptimizerRecipe, run_block: RunBlock = Block.__call__) -> None:
        self.model, self.run_block = model, run_block
        self.optimizer = Optimizer(model, recipe)
        self.taken = 0
        self.loss = torch.zeros(())

    def __call__(self, clean: Tensor, noise: Tensor, sigma: Tensor, *conditions: Tensor | None) -> Tensor:
        """The norm of the gradients before clipping, still on the device; `loss` is the loss.

        Args:
            clean, noise: (B, C, T, H, W). sigma: (B, T) noise levels; frames at 0 are clean and not supervised.
            conditions: y, mask, camera_conditions and chunk_plucker of the model.
        """
        noised = add_noise(clean.float(), sigma, noise.float())
        autocast = clean.is_cuda and self.model.dtype == torch.float32
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=autocast):
            velocity = self.model(
                noised.latents.to(self.model.dtype), noised.timesteps, *conditions, run_block=self.run_block
            )
        loss = velocity_loss(velocity, noised.target, (sigma > 0).float())
        self.loss = loss.detach()
        norm = self.optimizer.step(loss, self.taken)
        self.taken += 1
        return norm

    def release(self) -> None:
        """Let go of gradients that a step that broke off has left."""
        self.model.zero_grad(set_to_none=True)

    def resident_bytes(self) -> int:
        """Of what stays between steps: weights, the optimiser's state, the average."""
        kept = [*self.model.state_dict().values(), *self.optimizer.state_tensors().values()]
        return sum(x.numel() * x.element_size() for x in kept)
