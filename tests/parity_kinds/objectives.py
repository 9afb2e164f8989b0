"""Golden numbers of what is trained towards: flow matching, noise levels of chunks, distillation (spec 50 and 51)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from sana_wm.geometry.chunks import chunk_bounds, chunk_starts
from sana_wm.training.distillation import (
    clean_guess,
    guided_guess,
    match_distributions,
    rollout,
    score_sigma,
    take_snapshots,
)
from sana_wm.training.noise_levels import (
    NUM_LEVELS,
    ChunkNoise,
    chunk_levels,
    draw_levels,
    level_sigmas,
    log_ways,
    of_frames,
)
from sana_wm.training.objective import add_noise, sample_losses, shift_sigma
from tests.parity_kinds.base import Check, Fixture, Kind

EXACT, LOSS = 1e-12, 1e-5
STRATEGIES = ("uniform", "first_frame", "first_chunk_plus_one")


# ---- flow matching


def flow_checks(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    table = level_sigmas(c["flow_shift"])
    yield Check("out.sigma_table", table, t["out.sigma_table"], EXACT)
    yield Check("out.timestep_table", (1000 * table).long(), t["out.timestep_table"], 0.0)
    index = t["in.timestep_index"][:, 0]
    noised = add_noise(t["in.x0"], table[index].float(), t["in.noise"])
    yield Check("out.x_t", noised.latents, t["out.x_t"], 5e-7)
    yield Check("out.target", noised.target, t["out.target"], 5e-7)
    yield Check("out.timestep_model", (1000 * table[index]).long()[:, None], t["out.timestep_model"], 0.0)
    given = t["in.model_output"], noised.target
    mask = t["in.loss_mask"][:, 0, :, 0, 0]
    for name, weight in (("masked", mask), ("unmasked", torch.ones_like(mask))):
        yield Check(
            f"out.loss_{name}", sample_losses(*given, weight), t[f"out.loss_{name}"], LOSS, relative=True
        )
    # No recipe weighs noise levels; the loss can, but for the sum that it divides by.
    sigma = table[t["in.timestep_index_nonzero"][:, 0]].float()
    weight = mask * (1 + sigma.square()).sqrt() / sigma
    weighted = sample_losses(*given, weight) * weight.sum(1) / mask.sum(1)
    name = "out.loss_timestep_weighted"
    yield Check(name, weighted, t[name], LOSS, relative=True)


# ---- noise levels


def level_checks(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    ways = log_ways(c["T_small"], c["F_small"])
    yield Check("out.log_count_left", ways, t["out.log_count_left"], EXACT, relative=True)
    yield Check("out.log_count_right", ways.flip(0, 1), t["out.log_count_right"], EXACT, relative=True)
    yield from _quantile_checks(c["flow_shift"], t)
    yield from _chunk_tables(t)
    starts = chunk_starts(c["latent_T"], c["chunk_size"], c["strategy"])
    for number, mode in enumerate(c["mixture"]):
        weights = {name: float(name == mode) for name in c["mixture"]}
        generator = torch.Generator().manual_seed(number)
        drawn = chunk_levels(c["samples_per_mode"], len(starts), ChunkNoise(**weights), generator).double()
        yield from _statistics(f"out.{mode}.chunk_", drawn, t)
    levels = chunk_levels(64, len(starts), ChunkNoise(**c["mixture"]), torch.Generator().manual_seed(9))
    frames = of_frames(levels, starts, c["latent_T"])
    frames[:, 0] = 0
    name = "out.example_timesteps_i2v"  # a draw, so what is the same is what holds of every draw
    yield Check(name, _broken(frames, starts), _broken(t[name][:, 0], starts), 0.0)


def _quantile_checks(shift: float, t: dict[str, Tensor]) -> Iterator[Check]:
    at = t["out.quantile_levels"]
    exact = torch.sigmoid(torch.special.ndtri(at))
    yield Check("out.quantile_levels", at, t["out.quantile_levels"], 0.0)
    yield Check("out.u_quantiles_exact", exact, t["out.u_quantiles_exact"], EXACT)
    yield Check("out.sigma_quantiles_exact", shift_sigma(exact, shift), t["out.sigma_quantiles_exact"], EXACT)
    drawn = draw_levels(200_000, torch.Generator().manual_seed(0))
    yield Check(
        "out.index_quantiles_empirical", drawn.double().quantile(at), t["out.index_quantiles_empirical"], 4.0
    )
    sigma = level_sigmas(shift)[drawn].quantile(at)
    yield Check("out.sigma_quantiles_empirical", sigma, t["out.sigma_quantiles_empirical"], 0.006)


def _chunk_tables(t: dict[str, Tensor]) -> Iterator[Check]:
    rows = []
    for row in t["out.chunk_index_table"].tolist():
        frames, strategy, size = row[:3]
        rows.append(_padded([*row[:3]], chunk_starts(frames, size, STRATEGIES[strategy]), len(row)))
    yield Check("out.chunk_index_table", torch.tensor(rows), t["out.chunk_index_table"], 0.0)
    rows = []
    for row in t["out.cp_local_chunk_index_table"].tolist():
        frames, shards, rank = row[:3]
        part = frames // shards
        inside = [s - rank * part for s in chunk_starts(frames, 3, "first_chunk_plus_one")]
        local = chunk_bounds([s for s in inside if s >= 0], part)[:-1]
        rows.append(_padded(row[:3], local, len(row)))
    yield Check("out.cp_local_chunk_index_table", torch.tensor(rows), t["out.cp_local_chunk_index_table"], 0.0)


def _padded(head: list[int], starts: list[int], length: int) -> list[int]:
    row = [*head, len(starts), *starts]
    return row + [-1] * (length - len(row))


def _statistics(prefix: str, drawn: Tensor, t: dict[str, Tensor]) -> Iterator[Check]:
    """Two draws of n numbers: in units of 5 std / sqrt(n), about that for the other statistics too."""
    unit = 5 * t[f"{prefix}std"].clamp_min(1e-9) / len(drawn) ** 0.5
    share = 5 * 0.5 / len(drawn) ** 0.5
    found = {
        "mean": (drawn.mean(0), unit),
        "std": (drawn.std(0), 2 * unit + 1e-6),  # their tails are longer than a normal's
        "frac_zero": ((drawn == 0).double().mean(0), torch.full_like(unit, share)),
    }
    for name, (actual, tolerance) in found.items():
        expected = t[f"{prefix}{name}"]
        yield Check(f"{prefix}{name}", actual / tolerance, expected / tolerance, 1.0)
    # Where half of the draws are 0, medians of two draws are anywhere: what must hold is how many lie below.
    median = t[f"{prefix}median"]
    below, up_to = ((drawn < median).double().mean(0), (drawn <= median).double().mean(0))
    missed = (below - 0.5).clamp_min(0) + (0.5 - up_to).clamp_min(0)
    yield Check(f"{prefix}median", missed, torch.zeros_like(missed), share)


def _broken(levels: Tensor, starts: list[int]) -> Tensor:
    """How often (B,T) levels are not clean in frame 0, differ inside a chunk, fall with time, or leave the table."""
    inside = torch.ones(levels.shape[1] - 1, dtype=torch.bool)
    inside[[s - 1 for s in starts if s]] = False
    inside[0] = False  # frame 0 is clean in a chunk that is not
    change = levels.diff(dim=1)
    out_of_range = (levels < 0) | (levels >= NUM_LEVELS)
    counts = [(levels[:, 0] != 0).sum(), (change[:, inside] != 0).sum(), (change < 0).sum(), out_of_range.sum()]
    return torch.stack(counts)


# ---- distillation


def distill_checks(fixture: Fixture) -> Iterator[Check]:
    yield from _ode_checks(fixture)
    yield from _matching_checks(fixture)
    yield from _rollout_checks(fixture)


def _ode_checks(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    sigmas = torch.tensor(c["denoising_step_list"], dtype=torch.float64) / 1000
    snapshots = take_snapshots(t["in.ode.trajectory"].transpose(2, 3), sigmas, t["in.ode.snapshot_index"])
    yield Check("out.ode.noisy", snapshots.latents, t["out.ode.noisy"], 2e-6)
    yield Check("out.ode.timestep", 1000 * snapshots.sigma, t["out.ode.timestep"], 1e-4)  # of numbers up to 1000
    yield Check("out.ode.x0_pred", snapshots.guess(t["in.ode.flow"]), t["out.ode.x0_pred"], 2e-6)
    yield Check("out.ode.loss", snapshots.loss(t["in.ode.flow"])[None], t["out.ode.loss"], LOSS, relative=True)


def _matching_checks(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.group("in.dmd.")
    out = fixture.group("out.dmd.")
    low, high = c["min_score_timestep"] / 1000, c["max_score_timestep"] / 1000
    sigma = score_sigma(t["t_uniform"][:, 0], c["T"], c["timestep_shift"], low, high)
    generated = t["generated"].clone().requires_grad_()
    noised = add_noise(generated.detach(), sigma, t["noise"])
    yield Check("out.dmd.timestep", noised.timesteps[:, 0], out["timestep"], 1e-4)
    yield Check("out.dmd.noisy", noised.latents, out["noisy"], 2e-6)
    fake, conditional, unconditional = (
        clean_guess(noised.latents, sigma, t[name]) for name in ("fake_flow", "real_flow_cond", "real_flow_uncond")
    )
    real = guided_guess(conditional, unconditional, c["real_guidance_scale"])
    yield Check("out.dmd.pred_fake", fake, out["pred_fake"], 2e-6)
    yield Check("out.dmd.pred_real", real, out["pred_real"], 2e-6)
    with torch.enable_grad():
        matching = match_distributions(generated, fake, real)
        (gradient,) = torch.autograd.grad(matching.loss, generated)
    yield Check("out.dmd.normalizer", matching.normalizer, out["normalizer"], 2e-6)
    yield Check("out.dmd.gradient", matching.gradient, out["gradient"], 2e-6, relative=True)
    yield Check("out.dmd.generator_loss", matching.loss[None], out["generator_loss"], LOSS, relative=True)
    yield Check("out.dmd.dgenerated", gradient, out["dgenerated"], LOSS, relative=True)
    supervised = (sigma > 0).float()
    loss = sample_losses(t["critic_flow"], noised.target, supervised).mean()
    yield Check("out.dmd.critic_loss", loss[None], out["critic_loss"], LOSS, relative=True)


class ToyStudent:
    """v = 0.3 x + 0.2 sigma + 0.1 of the mean over time of the chunk before."""

    def __init__(self) -> None:
        self.past: Tensor | float = 0.0

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        return 0.3 * latents + 0.2 * timesteps[..., None, None] / 1000 + 0.1 * self.past

    def remember(self, latents: Tensor) -> None:
        self.past = latents.mean(2, keepdim=True)


def _rollout_checks(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.group("in.rollout.")
    noise = t["initial_noise"].clone()
    noise[:, :, :1] = t["first_frame"]
    drawn = (part for chunk in t["step_noise"] for part in chunk[: c["exit_step"]])

    def fresh(latents: Tensor) -> Tensor:
        return next(drawn)[:, :, : latents.shape[2]]

    sigmas = [step / 1000 for step in c["denoising_step_list"]]
    starts = chunk_starts(c["T"], c["chunk_size"], c["strategy"])
    made = rollout(ToyStudent(), noise, sigmas, starts, c["exit_step"], fresh)
    yield Check("out.rollout.generated", made, fixture.tensors["out.rollout.generated"], 2e-6)


KINDS = [
    Kind("training_flow", lambda f: f.has("in.x0", "in.timestep_index", "out.sigma_table"), flow_checks),
    Kind("training_timesteps", lambda f: f.has("out.log_count_left", "out.chunk_index_table"), level_checks),
    Kind("training_distill", lambda f: f.has("in.ode.trajectory", "in.dmd.generated"), distill_checks),
]
