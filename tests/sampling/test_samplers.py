"""Both samplers: clean frames stay, the solution is right, and trouble stops them at the step where it happens."""

import pytest
import torch
from torch import Tensor

from sana_wm.errors import InputError
from sana_wm.sampling import (
    SamplingError,
    chunk_flow_euler,
    dpm_times,
    euler_sigmas,
    flow_dpm_solver,
    flow_euler_ltx,
)

SAMPLERS = pytest.mark.parametrize(
    ("sampler", "schedule"),
    [(flow_euler_ltx, euler_sigmas), (flow_dpm_solver, dpm_times), (flow_dpm_solver, euler_sigmas)],
)
NONE_CLEAN = torch.zeros(5, dtype=torch.bool)
FIRST_CLEAN = torch.tensor([True, False, False, False, False])


def noise(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 5, 2, 2, generator=torch.Generator().manual_seed(0))


def towards_first_frame(latents: Tensor, timesteps: Tensor) -> Tensor:
    """The exact flow to a world in which every frame is the first one."""
    sigma = (timesteps / 1000.0)[..., None, None]
    return torch.where(sigma > 0, (latents - latents[:, :, :1]) / sigma.clamp(min=1e-9), torch.full_like(latents, 1e3))


@SAMPLERS
def test_clean_frames_come_back_bit_for_bit_and_condition_the_others(sampler, schedule) -> None:
    start, seen = noise(), []

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        seen.append((latents[:, :, 0].clone(), timesteps))
        return towards_first_frame(latents, timesteps)

    result = sampler(velocity, start, schedule(12, 9.8), clean_frames=FIRST_CLEAN)
    assert torch.equal(result[:, :, 0], start[:, :, 0])
    torch.testing.assert_close(result, start[:, :, :1].expand_as(start))
    assert len(seen) == 12
    for frame, timesteps in seen:
        assert torch.equal(frame, start[:, :, 0])
        assert timesteps.shape == (2, 1, 5)
        assert (timesteps[:, :, 0] == 0).all()
        assert (timesteps[:, :, 1:] == timesteps[0, 0, 1]).all()
        assert timesteps[0, 0, 1] > 0


def gaussian_error(sampler, schedule, steps: int) -> float:
    """Largest error against the exact flow from noise to data of mean 2 and deviation 0.5."""
    mean, variance = 2.0, 0.25

    def velocity(x: Tensor, timesteps: Tensor) -> Tensor:
        s = (timesteps / 1000.0)[..., None, None]
        gain = (1 - s) * variance / ((1 - s) ** 2 * variance + s**2)
        return (x - mean - gain * (x - (1 - s) * mean)) / s

    start = noise()
    sigmas = schedule(steps, 3.0)
    first = sigmas[0].item()
    spread = ((1 - first) ** 2 * variance + first**2) ** 0.5
    exact = mean + variance**0.5 * (start - (1 - first) * mean) / spread
    return (sampler(velocity, start, sigmas, clean_frames=NONE_CLEAN) - exact).abs().max().item()


@SAMPLERS
def test_samplers_follow_the_exact_flow(sampler, schedule) -> None:
    assert gaussian_error(sampler, schedule, 200) < 0.03


def test_dpm_solver_is_of_second_order() -> None:
    assert gaussian_error(flow_dpm_solver, dpm_times, 20) < gaussian_error(flow_euler_ltx, dpm_times, 20) / 4
    assert gaussian_error(flow_dpm_solver, dpm_times, 40) < gaussian_error(flow_dpm_solver, dpm_times, 20) / 3


@SAMPLERS
def test_latents_are_float32_between_the_steps_whatever_comes_in(sampler, schedule) -> None:
    dtypes = []

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        dtypes.extend([latents.dtype, timesteps.dtype])
        return latents.bfloat16()

    result = sampler(velocity, noise().bfloat16(), schedule(3, 2.0), clean_frames=NONE_CLEAN)
    assert {*dtypes, result.dtype} == {torch.float32}


@SAMPLERS
def test_the_callers_noise_is_not_written_to(sampler, schedule) -> None:
    start = noise()
    sampler(towards_first_frame, start, schedule(3, 2.0), clean_frames=FIRST_CLEAN)
    assert torch.equal(start, noise())


@SAMPLERS
def test_every_step_is_reported_and_an_interrupt_ends_the_sampling(sampler, schedule) -> None:
    reported = []

    def on_step(step: int, num_steps: int, latents: Tensor) -> None:
        reported.append((step, num_steps, tuple(latents.shape)))
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sampler(towards_first_frame, noise(), schedule(5, 2.0), clean_frames=FIRST_CLEAN, on_step=on_step)
    assert reported == [(i, 5, (2, 3, 5, 2, 2)) for i in (1, 2, 3)]


@SAMPLERS
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_stop_the_sampling_with_the_step_named(sampler, schedule, bad: float) -> None:
    calls = []

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        calls.append(1)
        result = latents.clone()
        if len(calls) == 2:
            result[0, 0, 3, 0, 0] = bad
        return result

    with pytest.raises(SamplingError, match="not finite after step 2 of 5"):
        sampler(velocity, noise(), schedule(5, 2.0), clean_frames=FIRST_CLEAN)
    assert len(calls) == 2


@SAMPLERS
def test_wrong_arguments_are_refused_before_any_call(sampler, schedule) -> None:
    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        raise AssertionError("called")

    sigmas = schedule(3, 2.0)
    with pytest.raises(InputError, match=r"must be \(B, C, T, H, W\)"):
        sampler(velocity, noise()[0], sigmas, clean_frames=NONE_CLEAN)
    with pytest.raises(InputError, match=r"bool of the shape \(5,\)"):
        sampler(velocity, noise(), sigmas, clean_frames=NONE_CLEAN[:4])
    with pytest.raises(InputError, match="bool"):
        sampler(velocity, noise(), sigmas, clean_frames=NONE_CLEAN.long())
    for bad in (sigmas[:-1], sigmas.flip(0), sigmas[-1:], 2 * sigmas):
        with pytest.raises(InputError, match="must fall strictly"):
            sampler(velocity, noise(), bad, clean_frames=NONE_CLEAN)


def test_a_staircase_of_one_chunk_is_the_plain_euler_sampler() -> None:
    sigmas = euler_sigmas(6, 8.0)
    plain = flow_euler_ltx(towards_first_frame, noise(), sigmas, clean_frames=FIRST_CLEAN)
    staircase = chunk_flow_euler(towards_first_frame, noise(), sigmas, chunk_starts=[0], clean_frames=FIRST_CLEAN)
    torch.testing.assert_close(staircase, plain)


def test_a_sequential_staircase_finishes_each_chunk_before_the_next() -> None:
    seen = []

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        seen.append(timesteps[0, 0].tolist())
        return towards_first_frame(latents, timesteps).clamp(-1e2, 1e2)

    sigmas = euler_sigmas(2, 1.0)  # 1, 0.001, 0
    result = chunk_flow_euler(velocity, noise(), sigmas, chunk_starts=[0, 3], clean_frames=FIRST_CLEAN, interval=1.0)
    low = pytest.approx([0, 1, 1], abs=1e-3)
    assert seen[0] == [0, 1000, 1000]
    assert seen[1] == low
    assert seen[2] == [0, 0, 0, 1000, 1000]
    assert seen[3][:3] == [0, 0, 0]
    assert len(seen) == 4
    torch.testing.assert_close(result, noise()[:, :, :1].expand_as(result))


def test_the_minute_staircase_takes_118_calls() -> None:
    prefixes = []

    def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
        prefixes.append(latents.shape[2])
        return torch.zeros_like(latents)

    clean = torch.zeros(121, dtype=torch.bool)
    starts = [0, *range(4, 121, 3)]
    chunk_flow_euler(
        velocity, torch.zeros(1, 1, 121, 1, 1), euler_sigmas(60, 9.8), chunk_starts=starts, clean_frames=clean
    )
    assert len(prefixes) == 118
    assert prefixes == sorted(prefixes)
    assert (prefixes[0], prefixes[-1]) == (4, 121)


@pytest.mark.parametrize("starts", [[], [1, 3], [0, 3, 3], [0, 5]])
def test_chunk_starts_that_do_not_cut_the_clip_are_refused(starts: list[int]) -> None:
    with pytest.raises(InputError, match="chunk_starts is"):
        chunk_flow_euler(
            towards_first_frame, noise(), euler_sigmas(2, 1.0), chunk_starts=starts, clean_frames=FIRST_CLEAN
        )
