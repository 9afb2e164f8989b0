"""Schedules: the numbers of the published scheduler, and integers that reach the network as they are."""

import pytest
import torch

from sana_wm.errors import InputError
from sana_wm.sampling import dpm_times, euler_sigmas, flow_euler_ltx, list_sigmas, model_timesteps


@pytest.mark.parametrize(
    ("shift", "last"),
    [
        (9.8, [0.307176, 0.210584, 0.0877046, 0]),
        (9.95, [0.311153, 0.214060, 0.0901660, 0]),
        (8.0, [0.257617, 0.168814, 0.0602070, 0]),
    ],
)
def test_euler_schedules_end_where_the_published_scheduler_ends(shift: float, last: list[float]) -> None:
    assert euler_sigmas(60, shift)[-4:].tolist() == pytest.approx(last, abs=1e-6)


@pytest.mark.parametrize("grid", [euler_sigmas, dpm_times])
@pytest.mark.parametrize("steps", [1, 2, 5, 60])
@pytest.mark.parametrize("shift", [0.5, 1.0, 9.8])
def test_every_schedule_falls_strictly_to_exactly_zero(grid, steps: int, shift: float) -> None:
    sigmas = grid(steps, shift)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float32
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0
    assert 0.99 < sigmas[0] <= 1


def test_the_dpm_grid_starts_below_one() -> None:
    assert dpm_times(60, 9.8)[0].item() == pytest.approx(0.999898, abs=1e-6)


def test_the_network_embeds_timesteps_cut_to_integers() -> None:
    assert model_timesteps(euler_sigmas(4, 8.0)).tolist() == [1000, 941, 803, 60]
    assert model_timesteps(euler_sigmas(60, 9.8))[1] == 998  # 998.26


def test_every_integer_of_a_list_reaches_the_network_as_itself() -> None:
    seen = []

    def velocity(latents, timesteps):
        seen.append(timesteps[0, 0, 0].item())
        return torch.zeros_like(latents)

    integers = list(range(1000, -1, -1))  # 251, 502 and others would come out one less of float32 sigmas
    sigmas = list_sigmas(integers)
    flow_euler_ltx(velocity, torch.zeros(1, 1, 1, 1, 1), sigmas, clean_frames=torch.zeros(1, dtype=torch.bool))
    assert model_timesteps(sigmas).tolist() == integers[:-1]
    assert seen == integers[:-1]


@pytest.mark.parametrize(
    ("timesteps", "message"),
    [
        ([1000, 500], "the last is 0"),
        ([0], "at least two"),
        ([1200, 500, 0], "starts at 1200"),
        ([1000, 500, 500, 0], "500 after 500"),
        ([1000, float("nan"), 0], "nan after 1000"),
    ],
)
def test_lists_that_do_not_fall_from_1000_to_0_are_refused(timesteps: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list_sigmas(timesteps)


def test_impossible_steps_and_shifts_are_refused() -> None:
    with pytest.raises(InputError, match="num_inference_steps is 0"):
        euler_sigmas(0, 9.8)
    for shift in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(InputError, match="flow_shift is"):
            dpm_times(4, shift)
