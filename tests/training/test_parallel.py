"""Two processes that train together: one model, the gradient of the whole batch, one to write, all to stop."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sana_wm.errors import InputError
from sana_wm.training import parallel
from sana_wm.training.parallel import ALONE, Peers, joined, local_device
from sana_wm.training.progress import Stop, checkpoints
from sana_wm.training.train import train
from tests.training import tiny
from tests.training.tiny import assert_same, log
from tests.training.two_processes import EVEN, NO_NOISE

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes that torchrun started have written."""
    directory = tmp_path_factory.mktemp("pair")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.training.two_processes", str(directory)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    return directory


def both(pair: Path, name: str) -> list[dict[str, Tensor]]:
    return [load_file(pair / f"{name}_{rank}.safetensors") for rank in (0, 1)]


@pytest.mark.parametrize("name", ["first_autoencoder", "first_world", "finished_0", "finished_1"])
def test_all_processes_hold_the_same_weights(name: str, pair: Path) -> None:
    """Moments, average and the statistics of the latents too."""
    first, second = both(pair, name)
    assert_same(second, first)


def moments(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """After one step the first moments are the clipped gradients times 1 - beta."""
    return {name: value for name, value in state.items() if name.startswith("adamw.exp_avg.")}


def test_the_mean_gradient_is_that_of_the_whole_batch(pair: Path) -> None:
    alone = tiny.autoencoder(tiny.recipe(*NO_NOISE))
    said = alone.step(0)
    found, expected = both(pair, "first_autoencoder")[0], moments(alone.state_tensors())
    assert expected
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)
    for name in ("loss", "psnr"):
        torch.testing.assert_close(found[f"said.{name}"], said[name], rtol=1e-4, atol=0)


def test_processes_draw_clips_and_noise_of_their_own(pair: Path) -> None:
    """The step of a pair is along the mean gradient of two losses that differ in everything that is drawn."""
    gradients, losses, latents = [], [], []
    for rank in (0, 1):
        stage = tiny.world(tiny.recipe(*EVEN), Peers(rank, 2))
        length = stage.banks.length(0)
        stage.banks.fill(stage.banks[length.bank], 0)
        generator = torch.Generator().manual_seed(stage.peers.seed(stage.seed * 1_000_003))
        batch = stage.banks[length.bank].draw(length.batch, length.frames, generator)
        loss = stage._loss(batch, 0)
        loss.backward()
        losses.append(loss.detach())
        latents.append(batch.latents)
        gradients.append({name: p.grad for name, p in stage.model.named_parameters() if p.grad is not None})
    assert not torch.equal(*latents)
    found = both(pair, "first_world")[0]
    torch.testing.assert_close(found["said.loss"], torch.stack(losses).mean())
    mean = {name: (value + gradients[1][name]) / 2 for name, value in gradients[0].items()}
    norm = torch.stack([value.norm() for value in mean.values()]).norm()
    torch.testing.assert_close(found["said.grad"], norm)
    expected = {f"adamw.exp_avg.{name}": 0.1 * value / norm.clamp_min(1) for name, value in mean.items()}
    assert moments(found).keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)


def test_the_same_latents_under_the_noise_of_two_ranks_have_two_losses() -> None:
    stages = [tiny.world(tiny.recipe(*EVEN), Peers(rank, 2)) for rank in (0, 1)]
    length = stages[0].banks.length(0)
    stages[0].banks.fill(stages[0].banks[length.bank], 0)
    batch = stages[0].banks[length.bank].draw(2, length.frames, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert float(stages[0]._loss(batch, 0)) != float(stages[1]._loss(batch, 0))


def test_one_process_writes_a_run_like_any_other(pair: Path) -> None:
    assert [line["step"] for line in log(pair / "whole" / "autoencoder")] == [1, 2, 3, 4, 5]
    assert [line["step"] for line in log(pair / "whole" / "world")] == [1, 2, 3, 4, 5, 6]
    assert [path.name for path in checkpoints(pair / "whole" / "world")] == ["step_00000004", "step_00000006"]
    saved = load_file(pair / "whole" / "model" / "vae" / "model.safetensors")
    codec = {name[6:]: x for name, x in both(pair, "finished_0")[1].items() if name.startswith("codec.")}
    assert_same(saved, codec)


def test_all_stop_when_one_is_asked_to_and_go_on_exactly(pair: Path) -> None:
    """Had they stopped after different steps, one would have waited for the other forever."""
    assert_same(both(pair, "finished_1")[0], both(pair, "finished_0")[0])
    assert log(pair / "stopped" / "world") == log(pair / "whole" / "world")


def test_one_process_may_go_on_where_two_stopped(pair: Path) -> None:
    longer = tiny.recipe(*EVEN, "world.optimizer.steps=7")
    assert train(longer, pair / "whole", device=tiny.CPU, stop=Stop(), workers=0) is not None
    assert log(pair / "whole" / "world")[-1]["step"] == 7


def test_a_recipe_that_cannot_be_shared_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"autoencoder.batch is 1; 2 processes need a multiple of 2"):
        train(tiny.recipe(), tmp_path / "run", device=tiny.CPU, stop=Stop(), workers=0, peers=Peers(0, 2))
    assert not (tmp_path / "run").exists()


def test_one_process_says_nothing_to_others() -> None:
    """None of this needs a process group."""
    model = nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    before = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    ALONE.average_gradients(model.parameters())
    assert all(torch.equal(p.grad, kept) for p, kept in zip(model.parameters(), before, strict=True))  # type: ignore
    ALONE.adopt(torch.ones(2))
    ALONE.wait()
    assert (ALONE.any(True), ALONE.any(False), ALONE.leads, ALONE.seed(7)) == (True, False, True, 7)
    assert ALONE.mean({"loss": torch.tensor(0.5)}) == {"loss": 0.5}
    with joined(tiny.CPU) as peers:
        assert peers is ALONE


def test_no_two_ranks_share_the_seeds_of_their_steps() -> None:
    """Not even in the 32 bits that a generator on the CPU looks at."""
    starts = sorted(Peers(rank, 8).seed(20261122 * 1_000_003) % 2**32 for rank in range(8))
    assert min(b - a for a, b in pairwise(starts)) > 10**8


def test_each_process_of_a_host_has_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert local_device(torch.device("cuda")) == torch.device("cuda")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a run")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(parallel.torch.cuda, "device_count", lambda: 2)
    assert local_device(torch.device("cuda")) == torch.device("cuda:1")
    assert local_device(tiny.CPU) == tiny.CPU
    with pytest.raises(InputError, match="device is 'cuda:0', but torchrun gives each process a GPU of its own"):
        local_device(torch.device("cuda:0"))
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="started process 3 of this host, which has 2 GPUs"):
        local_device(torch.device("cuda"))
