"""One chunk after another: steps against a past that only finished chunks change."""

from __future__ import annotations

import torch
from torch import Tensor

from sana_wm.sampling import flow_euler_ltx, flow_renoise, list_sigmas, next_chunk

SIGMAS = list_sigmas([1000, 750, 500, 0])
CLEAN = torch.tensor([True, False, False])


def noise(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 3, 2, 2, generator=torch.Generator().manual_seed(seed))


class Recorder:
    """A model whose velocity is that towards one video, and that writes down what it is asked."""

    def __init__(self, video: Tensor) -> None:
        self.video = video
        self.calls: list[tuple[Tensor, Tensor]] = []
        self.remembered: list[Tensor] = []

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        assert not self.remembered
        self.calls.append((latents, timesteps))
        return (latents - self.video) / timesteps.clamp_min(1e-6)[..., None, None] * 1000

    def remember(self, latents: Tensor) -> None:
        self.remembered.append(latents)


def test_a_chunk_is_remembered_once_it_is_finished() -> None:
    model = Recorder(noise(1))
    made = next_chunk(model, noise(), SIGMAS, clean_frames=CLEAN)
    assert len(model.calls) == 3
    assert len(model.remembered) == 1
    assert torch.equal(model.remembered[0], made)
    assert torch.equal(made, flow_euler_ltx(Recorder(noise(1)).velocity, noise(), SIGMAS, clean_frames=CLEAN))
    assert torch.equal(made[:, :, 0], noise()[:, :, 0])
    assert torch.allclose(made[:, :, 1:], noise(1)[:, :, 1:], atol=1e-5)


def test_with_renoising_every_step_starts_from_the_guess_under_fresh_noise() -> None:
    model = Recorder(noise(1))
    made = next_chunk(model, noise(), SIGMAS, clean_frames=CLEAN, renoise=torch.Generator().manual_seed(5))
    assert torch.allclose(made[:, :, 1:], noise(1)[:, :, 1:], atol=1e-5)
    fresh = torch.Generator().manual_seed(5)
    for (latents, timesteps), sigma in zip(model.calls[1:], (0.75, 0.5), strict=True):
        expected = (1 - sigma) * noise(1) + sigma * torch.randn(noise().shape, generator=fresh)
        assert torch.allclose(latents[:, :, 1:], expected[:, :, 1:], atol=1e-5)
        assert torch.equal(latents[:, :, 0], noise()[:, :, 0])
        assert timesteps[0, 0].tolist() == [0.0, 1000 * sigma, 1000 * sigma]


def test_renoising_is_as_random_as_its_generator() -> None:
    def made(seed: int) -> Tensor:
        def velocity(latents: Tensor, timesteps: Tensor) -> Tensor:
            return 0.5 * latents + timesteps[..., None, None] / 1000

        return flow_renoise(
            velocity, noise(), SIGMAS, clean_frames=CLEAN, generator=torch.Generator().manual_seed(seed)
        )

    assert torch.equal(made(1), made(1))
    assert not torch.equal(made(1), made(2))
