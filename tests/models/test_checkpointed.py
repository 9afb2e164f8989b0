"""Activation checkpointing gives the gradients of training without it, bit by bit, through the custom operators too.

As a program it runs the model on the kernels in Triton's interpreter.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sana_wm.models.transformer import Block, RunBlock, SanaWMTransformer, checkpointed
from sana_wm.ops import depthwise_conv, features, gated_delta_fused
from tests.interpreted import needs_triton, run_interpreted
from tests.models.small import CONFIG, inputs, trained


def gradients(model: SanaWMTransformer, arguments: tuple[Tensor | None, ...], run_block: RunBlock) -> dict[str, Tensor]:
    model.zero_grad(set_to_none=True)
    model(*arguments, run_block=run_block).square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def apart(*size: int) -> list[str]:
    """Names of the weights whose gradients are not equal with and without it, for latents of a size (T,H,W)."""
    model, arguments = trained(replace(CONFIG, depth=2)), inputs(1, *size).all()
    expected = gradients(model, arguments, Block.__call__)
    found = gradients(model, arguments, checkpointed())
    assert found.keys() == expected.keys()
    return [name for name, gradient in expected.items() if not torch.equal(found[name], gradient)]


def test_gradients_are_those_of_training_without_it() -> None:
    assert apart(3, 3, 5) == []


def test_every_block_runs_once_more_in_the_backward_pass() -> None:
    model, given = trained(), inputs(1)
    seen: list[int] = []

    def noted(block: Block, *arguments: Any) -> Tensor:
        seen.append(list(model.blocks).index(block))
        return block(*arguments)

    gradients(model, given.all(), checkpointed(noted))
    order = list(range(CONFIG.depth))
    assert seen == order + order[::-1]


def test_less_is_kept_between_forward_and_backward() -> None:
    model, given = trained(), inputs(1)

    def kept(run_block: RunBlock) -> int:
        sizes: dict[int, int] = {}

        def pack(x: Tensor) -> Tensor:
            sizes[x.data_ptr()] = x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            model(*given.all(), run_block=run_block)
        return sum(sizes.values())

    assert kept(checkpointed()) < kept(Block.__call__) / 3


def _main() -> None:
    """What the subprocess does; the kernels of inference stay out, as gradients are on."""
    torch.set_num_threads(1)
    for module in (depthwise_conv, features, gated_delta_fused):
        module.kernels_take = lambda x: True  # type: ignore[attr-defined]
    print(json.dumps({"apart": apart(2, 1, 2)}))


@needs_triton
def test_interpreted_kernels_are_run_a_second_time() -> None:
    assert run_interpreted(__file__) == {"apart": []}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kernels_on_a_gpu_are_run_a_second_time() -> None:
    """Gradients that programs add up in any order are not the same bits, so this one looks for near ones."""
    model = trained().cuda()
    arguments = tuple(x if x is None else x.cuda() for x in inputs(1).all())
    expected = gradients(model, arguments, Block.__call__)
    found = gradients(model, arguments, checkpointed())
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-4 * float(gradient.abs().max()), msg=name)


if __name__ == "__main__":
    _main()
