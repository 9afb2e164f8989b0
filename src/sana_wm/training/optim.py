"""The optimisers, their learning-rate schedule, and the moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sana_wm.training.muon import Muon, hidden_matrices
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.recipe import OptimizerRecipe


def learning_rate(recipe: OptimizerRecipe, step: int) -> float:
    """Warm-up, constant, linear decay to zero at `recipe.steps`."""
    warm = min(1.0, (step + 1) / max(1, recipe.warmup_steps))
    left = min(1.0, (recipe.steps - step) / max(1, recipe.decay_steps))
    return recipe.lr * warm * max(0.0, left)


class Ema:
    """Moving average of parameters, kept in float32. Early on it averages over the steps so far, not its full
    horizon."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.average = {name: p.detach().clone().float() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        averages, weights = list(self.average.values()), [p.detach() for p in module.parameters()]
        if all(p.dtype == torch.float32 for p in weights):
            torch._foreach_lerp_(averages, weights, 1 - decay)
            return
        for average, p in zip(averages, weights, strict=True):  # one by one, for copies of all would be one more model
            average.lerp_(p.float(), 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(self.average[name])


class Optimizer:
    """AdamW over one module, or Muon for its hidden matrices and AdamW for the rest, with clipping and an EMA.

    Its state is a flat dictionary of tensors.

    All `peers` take the same step, along the mean of their gradients.
    """

    def __init__(self, module: nn.Module, recipe: OptimizerRecipe, peers: Peers = ALONE) -> None:
        self.module = module
        self.recipe = recipe
        self.peers = peers
        fused = next(module.parameters()).is_cuda
        matrices = hidden_matrices(module) if recipe.hidden == "muon" else {}
        self.muon = Muon(matrices, recipe.weight_decay)
        rest = [p for name, p in module.named_parameters() if name not in matrices]
        self.adamw = torch.optim.AdamW(_decay_groups(rest, recipe), lr=recipe.lr, betas=recipe.betas, fused=fused)
        self.ema = Ema(module, recipe.ema)

    def step(self, loss: Tensor, step: int) -> Tensor:
        """Backward, clip, update. Returns the gradient norm before clipping, still on the device."""
        loss.backward()
        self.peers.average_gradients(self.module.parameters())
        norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.recipe.grad_clip)
        rate = learning_rate(self.recipe, step)
        for group in self.adamw.param_groups:
            group["lr"] = rate
        self.adamw.step()
        self.muon.step(rate)
        self.module.zero_grad(set_to_none=True)
        self.ema.update(self.module, step)
        return norm

    def state_tensors(self) -> dict[str, Tensor]:
        state = {f"ema.{name}": value for name, value in self.ema.average.items()}
        for name, parameter in self.module.named_parameters():
            for key, value in self.adamw.state.get(parameter, {}).items():
                state[f"adamw.{key}.{name}"] = value
        return state | {f"muon.momentum.{name}": value for name, value in self.muon.momentum.items()}

    def load_state_tensors(self, state: dict[str, Tensor]) -> None:
        device = next(self.module.parameters()).device
        for name, parameter in self.module.named_parameters():
            self.ema.average[name].copy_(state[f"ema.{name}"])
            moments = {key: state.get(f"adamw.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            found = {key: value.clone().to(device) for key, value in moments.items() if value is not None}
            if found:
                self.adamw.state[parameter] = found
        for name, momentum in self.muon.momentum.items():
            momentum.copy_(state[f"muon.momentum.{name}"])


def _decay_groups(parameters: Iterable[nn.Parameter], recipe: OptimizerRecipe) -> Iterable[dict[str, object]]:
    """Matrices decay, everything else does not."""
    parameters = list(parameters)
    matrices = [p for p in parameters if p.ndim > 1]
    others = [p for p in parameters if p.ndim <= 1]
    return [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
