"""What two processes of one run do, each writing what the tests compare:
`torchrun --nproc_per_node 2 -m tests.training.two_processes DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sana_wm.training.parallel import Peers, joined
from sana_wm.training.progress import Stop
from sana_wm.training.train import train
from sana_wm.training.world import WorldStage
from tests.training import tiny

EVEN = (
    "autoencoder.batch=2",
    "world.lengths=[{frames: 9, bank: 17, batch: 4, share: 1.0}, {frames: 25, bank: 25, batch: 2, share: 1.0}]",
    "world.bank_refresh=4",
)
"""Changes to the tiny recipe that let two processes share it."""

NO_NOISE = (*EVEN, "autoencoder.latent_noise=0.0")


def main(directory: Path) -> None:
    torch.set_num_threads(1)
    with joined(tiny.CPU) as peers:
        first_steps(directory, peers)
        kept_states(directory, peers)
        assert run(directory / "whole", Stop(), peers) is not None
        stop = Stop()
        stopping(stop, peers)
        assert run(directory / "stopped", stop, peers) is None
        stop.signalled = False
        assert run(directory / "stopped", stop, peers) is not None


def run(directory: Path, stop: Stop, peers: Peers) -> Path | None:
    return train(tiny.recipe(*EVEN), directory, device=tiny.CPU, stop=stop, workers=0, peers=peers)


def first_steps(directory: Path, peers: Peers) -> None:
    """One step of each stage from its start: the state after it, and what the log would say."""
    for stage in (tiny.autoencoder(tiny.recipe(*NO_NOISE), peers), tiny.world(tiny.recipe(*EVEN), peers)):
        said = peers.mean(stage.step(0))
        state = stage.state_tensors() | {f"said.{name}": torch.tensor(value) for name, value in said.items()}
        save_file(state, directory / f"first_{stage.name}_{peers.rank}.safetensors")


def kept_states(directory: Path, peers: Peers) -> None:
    """Have every process write the world stage's state when it is finished, under the number of finished runs."""
    finished, runs = WorldStage.finished, iter(range(10))

    def keep(stage: WorldStage) -> object:
        codec = {f"codec.{name}": value for name, value in stage.codec.state_dict().items()}
        save_file(stage.state_tensors() | codec, directory / f"finished_{next(runs)}_{peers.rank}.safetensors")
        return finished(stage)

    WorldStage.finished = keep  # type: ignore[method-assign, assignment]


def stopping(stop: Stop, peers: Peers) -> None:
    """Have the second process, and only that, be asked to stop while it takes the third step."""
    step = WorldStage.step

    def interrupted(stage: WorldStage, number: int) -> dict[str, Tensor]:
        if number == 2:
            stop.signalled = peers.rank == 1
            WorldStage.step = step  # type: ignore[method-assign]
        return step(stage, number)

    WorldStage.step = interrupted  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
