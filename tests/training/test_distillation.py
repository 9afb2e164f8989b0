"""The losses of distillation: spec 51. The golden numbers of it are compared in tests/parity.py."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sana_wm.training.distillation import (
    clean_guess,
    guided_guess,
    match_distributions,
    rollout,
    score_sigma,
    take_snapshots,
)

SIGMAS = [1.0, 0.75, 0.5, 0.0]
STARTS = [0, 3, 5]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- trajectories


def test_frames_of_the_clean_snapshot_do_not_count() -> None:
    trajectory = draw(2, 4, 3, 6, 2, 2)
    index = torch.tensor([[0, 0, 0, 3, 3, 1], [3, 3, 3, 3, 3, 3]])
    snapshots = take_snapshots(trajectory, torch.tensor(SIGMAS), index)
    velocity = draw(2, 3, 6, 2, 2, seed=1)
    loss = snapshots.loss(velocity)
    other = velocity.clone()
    other[:, :, [0, 3, 4]] += 7
    other[1] -= 3
    assert torch.equal(snapshots.loss(other), loss)
    errors = [
        (trajectory[0, k, :, f] - SIGMAS[k] * velocity[0, :, f] - trajectory[0, 3, :, f]).square().mean()
        for f, k in ((1, 0), (2, 0), (5, 1))
    ]
    torch.testing.assert_close(loss, torch.stack(errors).mean())


def test_a_batch_of_clean_frames_has_no_loss() -> None:
    snapshots = take_snapshots(draw(1, 4, 3, 2, 2, 2), torch.tensor(SIGMAS), torch.full((1, 2), 3))
    assert snapshots.loss(draw(1, 3, 2, 2, 2)) == 0


def test_frame_0_is_the_given_one() -> None:
    trajectory, first = draw(1, 4, 3, 6, 2, 2), draw(1, 3, 1, 2, 2, seed=2)
    snapshots = take_snapshots(trajectory, torch.tensor(SIGMAS), torch.zeros(1, 6, dtype=torch.long), first)
    assert torch.equal(snapshots.latents[:, :, :1], first)
    assert snapshots.sigma.tolist() == [[0, 1, 1, 1, 1, 1]]


# ---- rollouts


class Student(nn.Module):
    """v = a x + b sum of the past; counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor(0.2))
        self.past: Tensor = torch.zeros(())
        self.calls: list[tuple[Tensor, bool]] = []

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        self.calls.append((timesteps, torch.is_grad_enabled()))
        return self.a * latents + self.b * self.past

    def remember(self, latents: Tensor) -> None:
        assert not latents.requires_grad
        self.past = self.past + latents.mean()


def fresh(latents: Tensor) -> Tensor:
    return torch.ones_like(latents)


def test_only_the_exit_steps_record_gradients() -> None:
    student = Student()
    made = rollout(student, draw(2, 3, 8, 2, 2), SIGMAS, STARTS, 1, fresh)
    assert [grad for _, grad in student.calls] == 3 * [False, True]
    assert made.requires_grad
    (made.square().mean()).backward()
    assert student.a.grad is not None
    assert student.b.grad is not None


def test_a_chunk_that_does_not_learn_is_the_same_and_passes_nothing_on() -> None:
    noise, student = draw(2, 3, 8, 2, 2), Student()
    made = rollout(student, noise, SIGMAS, STARTS, 1, fresh, range(1, 2))
    assert [grad for _, grad in student.calls] == [False, False, False, True, False, False]
    assert torch.equal(made, rollout(Student(), noise, SIGMAS, STARTS, 1, fresh))
    for span, learns in ((slice(0, 3), False), (slice(3, 5), True), (slice(5, 8), False)):
        (gradient,) = torch.autograd.grad(made[:, :, span].sum(), student.a, retain_graph=True)
        assert bool(gradient) == learns


def test_a_gradient_is_that_of_the_exit_steps_alone() -> None:
    """Neither the steps before nor the past pass any on: with both held still the gradient is the same."""
    noise = draw(2, 3, 8, 2, 2)
    student = Student()
    made = rollout(student, noise, SIGMAS, STARTS, 1, fresh)
    (gradient,) = torch.autograd.grad(made[:, :, 5:].sum(), student.a)
    held = Student()
    with torch.no_grad():
        before = rollout(held, noise, SIGMAS, STARTS[:2], 1, fresh)[:, :, :0]
        assert before.numel() == 0
        x = 0.25 * (noise[:, :, 5:] - 1.0 * (0.3 * noise[:, :, 5:] + 0.2 * _past(noise))) + 0.75
    expected = (-0.75 * x).sum()
    torch.testing.assert_close(gradient, expected)


def _past(noise: Tensor) -> Tensor:
    """What the student remembers before its last chunk."""
    student = Student()
    with torch.no_grad():
        made = rollout(student, noise, SIGMAS, STARTS, 1, fresh)
    return student.past - made[:, :, 5:].mean()


def test_without_gradients_there_are_none() -> None:
    student = Student()
    with torch.no_grad():
        made = rollout(student, draw(2, 3, 8, 2, 2), SIGMAS, STARTS, 2, fresh)
    assert not made.requires_grad
    assert not any(grad for _, grad in student.calls)


def test_leaving_after_the_first_step_is_one_step_from_noise() -> None:
    noise = draw(1, 3, 5, 2, 2)
    student = Student()
    made = rollout(student, noise, SIGMAS, [0], 0, fresh)
    expected = noise - (0.3 * noise)
    torch.testing.assert_close(made[:, :, 1:], expected[:, :, 1:])
    assert torch.equal(made[:, :, 0], noise[:, :, 0])


def test_frame_0_stays_and_has_no_noise() -> None:
    noise = draw(1, 3, 8, 2, 2)
    student = Student()
    made = rollout(student, noise, SIGMAS, STARTS, 2, fresh)
    assert torch.equal(made[:, :, 0], noise[:, :, 0])
    assert [timesteps[0, 0].tolist() for timesteps, _ in student.calls[:4]] == [
        [0, 1000, 1000], [0, 750, 750], [0, 500, 500], [1000, 1000]
    ]  # fmt: skip


# ---- distributions


def test_equal_scores_leave_the_generator_alone() -> None:
    x = draw(2, 3, 4, 2, 2).requires_grad_()
    guess = draw(2, 3, 4, 2, 2, seed=1)
    matching = match_distributions(x, guess, guess)
    assert matching.loss == 0
    assert not torch.autograd.grad(matching.loss, x)[0].any()


def test_a_step_leads_from_the_critics_guess_to_the_teachers() -> None:
    x, real = draw(1, 3, 4, 2, 2).requires_grad_(), draw(1, 3, 4, 2, 2, seed=1)
    fake = real + 0.5
    (gradient,) = torch.autograd.grad(match_distributions(x, fake, real).loss, x)
    assert not gradient[:, :, 0].any()
    moved = (gradient[:, :, 1:] > 0).all()  # descent lowers x, as the teacher lies below the critic
    assert bool(moved)
    size = 0.5 / (x.detach() - real).abs().mean() / (3 * 3 * 4)
    torch.testing.assert_close(gradient[:, :, 1:], size.expand(1, 3, 3, 2, 2))


def test_no_guidance_is_the_conditional_guess() -> None:
    c, u = draw(1, 3, 2, 2, 2), draw(1, 3, 2, 2, 2, seed=1)
    assert torch.equal(guided_guess(c, u, 0.0), c)
    assert torch.equal(guided_guess(c, None, 3.0), c)
    torch.testing.assert_close(guided_guess(c, u, 3.0), u + 4 * (c - u))


def test_levels_of_the_scores_stay_in_their_range() -> None:
    sigma = score_sigma(torch.arange(1000.0), 5, 10.0, 0.02, 0.98)
    assert not sigma[:, 0].any()
    assert (sigma[:, 1:].min(), sigma[:, 1:].max()) == (torch.tensor(0.02), torch.tensor(0.98))
    assert torch.equal(sigma[:, 1:], sigma[:, 1:2].expand(-1, 4))


def test_the_clean_guess_undoes_the_noise() -> None:
    clean, noise, sigma = draw(2, 3, 4, 2, 2), draw(2, 3, 4, 2, 2, seed=1), torch.rand(2, 4)
    level = sigma[:, None, :, None, None]
    noisy = (1 - level) * clean + level * noise
    torch.testing.assert_close(clean_guess(noisy, sigma, noise - clean), clean)
