"""Stage 2 of the nano recipe: the transformer and its text encoder under the flow-matching objective."""

from __future__ import annotations

import logging
import random

import torch
from torch import Tensor, nn

from sana_wm.models.init import init_transformer
from sana_wm.models.nano_autoencoder import NanoAutoencoder
from sana_wm.models.nano_text import PAD, NanoTextEncoder
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.models.visibility import WHOLE, Visibility
from sana_wm.training.bank import LatentBank, LatentBatch
from sana_wm.training.clip_banks import ClipBanks
from sana_wm.training.noise_levels import chunk_levels, level_sigmas, of_frames
from sana_wm.training.objective import add_noise, draw_sigma, velocity_loss
from sana_wm.training.optim import Optimizer
from sana_wm.training.parallel import ALONE, Peers
from sana_wm.training.recipe import WorldRecipe
from sana_wm.training.sources import ClipSource
from sana_wm.training.start import Start, open_cameras
from sana_wm.training.steady import Growth, quieten, watch_growth

logger = logging.getLogger(__name__)

STEADY_CLIPS, STEADY_LOOKS, STEADY_ROUNDS = 4, 4, 4
"""How many clips, at how many noise levels each, tell which heads grow, and how often what was changed is checked."""


class WorldModel(nn.Module):
    """What is trained together: one name space for the optimiser, the average and the checkpoint."""

    def __init__(self, recipe: WorldRecipe, generator: torch.Generator) -> None:
        super().__init__()
        self.text = NanoTextEncoder(recipe.text)
        self.transformer = SanaWMTransformer(recipe.model)
        init_transformer(self.transformer, generator)
        if recipe.camera_init == "open":
            open_cameras(self.transformer, generator)


class WorldStage:
    """Frame 0 stays clean and is not supervised; all other frames of a clip share one noise level, or those of a chunk
    do where the recipe has chunks.

    Each peer has banks of its own. Which clip length a step has, and whether it sees cameras, all peers draw alike:
    they have the same work, and the same weights get gradients.

    Args:
        recipe: this peer's part of it; see :meth:`~sana_wm.training.recipe.Recipe.shared_by`.
        start: a model of the recipe's sizes to begin with; None begins from nothing.
    """

    name = "world"

    def __init__(
        self,
        recipe: WorldRecipe,
        source: ClipSource,
        codec: NanoAutoencoder,
        *,
        size: tuple[int, int],
        seed: int,
        device: torch.device,
        start: Start | None = None,
        peers: Peers = ALONE,
    ) -> None:
        self.recipe, self.seed, self.device, self.size, self.codec = recipe, seed, device, size, codec
        self.peers = peers
        self.steps = recipe.optimizer.steps
        torch.manual_seed(seed)  # PyTorch's layer defaults draw from the global generator
        self.model = WorldModel(recipe, torch.Generator().manual_seed(seed)).to(device)
        if start is not None and not recipe.fresh:
            self.model.transformer.load_state_dict(start.transformer.state_dict())
            self.model.text.load_state_dict(start.text.state_dict())
        self.optimizer = Optimizer(self.model, recipe.optimizer, peers)
        self.banks = ClipBanks(recipe, source, codec, self.model.text, seed=seed, peers=peers)

    def step(self, step: int) -> dict[str, Tensor]:
        every = self.recipe.steady_every
        if every and step and step % every == 0:
            bank = self.banks.shortest
            self.banks.fill(bank, step)
            self._steady(bank, step, rounds=1)
            self.peers.adopt(*self.model.parameters())  # each saw other clips; all go on with what the first found
        batch = self.banks.draw(step)
        loss = self._loss(batch, step)
        norm = self.optimizer.step(loss, step)
        return {"loss": loss.detach(), "frames": torch.tensor(batch.c2w.shape[1]), "grad": norm}

    def _loss(self, batch: LatentBatch, step: int) -> Tensor:
        generator = torch.Generator(self.device).manual_seed(self.peers.seed(self.seed * 1_000_033 + step))
        clean = batch.latents
        b, _, frames, height, width = clean.shape
        chunks, visibility = self.recipe.chunks, WHOLE
        if chunks is None:
            sigma = draw_sigma(b, self.recipe.flow_shift, generator)[:, None].repeat(1, frames)
        else:
            starts = tuple(chunks.starts(frames))
            visibility = Visibility(starts, window=chunks.window, sink=chunks.sink)
            sigma = self._chunk_sigma(b, starts, frames, step)
        sigma[:, 0] = 0.0
        supervised = (sigma > 0).float()  # what is clean already says nothing of its noise
        noise = torch.randn(clean.shape, generator=generator, device=self.device)
        noised = add_noise(clean, sigma, noise)
        # A choice between two values, where indexing with a mask would make the CPU wait for the GPU.
        dropped = torch.rand(b, generator=generator, device=self.device) < self.recipe.caption_dropout
        after_begin = torch.arange(batch.captions.shape[1], device=self.device) > 0
        captions = torch.where(dropped[:, None] & after_begin, PAD, batch.captions)
        cameras: tuple[Tensor | None, Tensor | None] = (None, None)
        if random.Random(self.seed * 104_729 + step).random() >= self.recipe.camera_dropout:
            cameras = batch.cameras(self.size)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            y, mask = self.model.text(captions)
            context = self.model.transformer.condition((frames, height, width), y, mask, *cameras, visibility)
            velocity = self.model.transformer.denoise(noised.latents, noised.timesteps, context)
        return velocity_loss(velocity, noised.target, supervised)

    def _chunk_sigma(self, batch: int, starts: tuple[int, ...], frames: int, step: int) -> Tensor:
        """(B, T): every chunk its own noise level."""
        generator = torch.Generator().manual_seed(self.peers.seed(self.seed * 1_000_037 + step))
        levels = chunk_levels(batch, len(starts), self.recipe.chunk_noise, generator)
        sigma = level_sigmas(self.recipe.flow_shift).float()[of_frames(levels, starts, frames)]
        return sigma.to(self.device, non_blocking=True)

    def state_tensors(self) -> dict[str, Tensor]:
        return {**{f"model.{k}": v for k, v in self.model.state_dict().items()}, **self.optimizer.state_tensors()}

    def load_state_tensors(self, state: dict[str, Tensor], step: int) -> None:
        self.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")})
        self.optimizer.load_state_tensors(state)

    @torch.no_grad()
    def finished(self) -> WorldModel:
        """The averaged weights with steady heads, and the features of the empty prompt where the layout keeps them."""
        self.optimizer.ema.copy_to(self.model)
        if self.steps > 0:
            self._steady(self._statistics_bank(), self.steps, rounds=STEADY_ROUNDS)
        features, _ = self.model.text.encode([""])
        self.model.transformer.y_embedder.y_embedding.copy_(features[0, 0])
        return self.model.eval()

    def _statistics_bank(self) -> LatentBank:
        """Clips of the shortest length that nothing was trained on."""
        frames = min(self.recipe.bank_clips)
        bank = LatentBank(
            self.banks[frames].source, "statistics", self.codec, self.model.text,
            num_frames=frames, capacity=STEADY_CLIPS, group=STEADY_CLIPS,
        )  # fmt: skip
        bank.hold(STEADY_CLIPS)
        return bank

    def growth(self, step: int) -> Growth:
        """What a frame of training clips makes of the state of each head with the weights before `step`."""
        bank = self.banks.shortest
        self.banks.fill(bank, step)
        return self._growth(bank, step)

    @torch.no_grad()
    def _growth(self, bank: LatentBank, step: int) -> Growth:
        with watch_growth(self.model.transformer) as growth:
            for look in range(STEADY_LOOKS):
                generator = torch.Generator().manual_seed(step + look)
                self._loss(bank.draw(STEADY_CLIPS, bank.num_frames, generator), step + look)
        return growth

    @torch.no_grad()
    def _steady(self, bank: LatentBank, step: int, rounds: int) -> None:
        """Quieten heads whose state would grow without end over clips longer than most that are trained on."""
        for _ in range(rounds):
            growth = self._growth(bank, step)
            touched = quieten(self.model.transformer, growth)
            logger.info("steady heads at step %d: growth up to %.2f, %s", step, growth.largest, touched)
            if not touched:
                return
