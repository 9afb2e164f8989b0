"""Blocks that a compiler took apart learn the same as blocks that it did not see."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm.models.transformer import Block, RunBlock, SanaWMTransformer
from sana_wm.training.recipe import load_recipe
from tests.models.small import cameras, trained

# As in the run where one pass in sixteen had garbage in the gradient of the latents' embedding.
CONFIG = load_recipe("claims", []).world.model
BATCH, FRAMES, HEIGHT, WIDTH = 16, 11, 12, 20
PASSES = 30


def gradients(model: SanaWMTransformer, run_block: RunBlock) -> dict[str, Tensor]:
    """As a training step on a GPU takes them: under autocast, of clips with cameras."""
    generator = torch.Generator().manual_seed(1)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator).cuda()

    model.zero_grad(set_to_none=True)
    given = (x.cuda() for x in cameras(BATCH, FRAMES, HEIGHT, WIDTH))
    tokens = CONFIG.caption_tokens
    y, mask = draw(BATCH, 1, tokens, CONFIG.caption_channels), torch.ones(BATCH, tokens, device="cuda")
    x = draw(BATCH, CONFIG.in_channels, FRAMES, HEIGHT, WIDTH)
    level = torch.full((BATCH, 1, FRAMES), 500.0, device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        context = model.condition((FRAMES, HEIGHT, WIDTH), y, mask, *given)
        loss = model.denoise(x, level, context, run_block).float().square().mean()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.gpu
@pytest.mark.parametrize("again", range(3))  # a compiler that times its choices may choose otherwise next time
def test_compiled_blocks_have_the_gradients_of_blocks_as_they_are(again: int) -> None:
    torch._dynamo.reset()
    model = trained(CONFIG).cuda()
    compiled = torch.compile(Block.forward, dynamic=False)
    expected = gradients(model, Block.__call__)
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    for number in range(PASSES):
        for name, grad in gradients(model, compiled).items():
            wanted = expected[name]
            # Against the gradient itself, or against a thousandth of the whole where that is next to nothing.
            assert (grad - wanted).norm() <= 0.05 * torch.maximum(wanted.norm(), 1e-3 * whole), (number, name)
