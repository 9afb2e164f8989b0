"""Data parallelism over the GPUs of one host: what the processes of one run agree on.

`torchrun` starts one process a GPU. All hold the same weights and take the same steps, each on its own part of every
batch; only gradients travel between them. What a process draws (scenes, noise, which clips) follows from the run's
seed, the step and its rank, and rank 0 draws what a run of one process draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from sana_wm.errors import InputError

PATIENCE = timedelta(hours=12)
"""How long processes wait for one that records clips or saves."""

RANK_STRIDE = 2_654_435_761
"""Distance between the seeds of two ranks: 2^32 over the golden ratio, so no two ranks come near each other's steps,
not even in the 32 bits that generators on the CPU look at."""


@dataclass(frozen=True)
class Peers:
    """The processes of a run, as one of them sees them; the default is a run of one process.

    Attributes:
        rank: this process, from 0.
        size: how many there are.
        control: group for flags, numbers of the log and waiting, on the CPU: asking it does not wait for the GPU.
    """

    rank: int = 0
    size: int = 1
    control: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this process is the one that records, logs and saves."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """A seed of this process's own for what every process draws for itself."""
        return seed + self.rank * RANK_STRIDE

    def average_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace the gradients by their mean over the processes, in one message.

        The same parameters must have one everywhere: whether a step uses the cameras, say, is not drawn by rank.
        """
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        parts = flat.div_(self.size).split([g.numel() for g in gradients])
        torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])

    @torch.no_grad()
    def adopt(self, *tensors: Tensor) -> None:
        """Overwrite `tensors` by those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all get the same answer."""
        if self.size == 1:
            return flag
        flags = torch.tensor(int(flag))
        dist.all_reduce(flags, dist.ReduceOp.MAX, group=self.control)
        return bool(flags)

    def mean(self, scalars: Mapping[str, Tensor]) -> dict[str, float]:
        """Numbers of a step as means over the processes."""
        if self.size == 1:
            return {name: float(value) for name, value in scalars.items()}
        values = torch.tensor([float(value) for value in scalars.values()], dtype=torch.float64)
        dist.all_reduce(values, group=self.control)
        return dict(zip(scalars, (values / self.size).tolist(), strict=True))

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier(group=self.control)


ALONE = Peers()


def is_launched() -> bool:
    """Whether `torchrun` started this process."""
    return dist.is_available() and dist.is_torchelastic_launched()


def local_device(device: torch.device) -> torch.device:
    """The device of this process: of "cuda" its own GPU, if `torchrun` started several processes.

    Raises:
        InputError: a GPU is named that all processes would share, or there are fewer GPUs than processes.
    """
    if device.type != "cuda" or not is_launched():
        return device
    index, count = dist.get_node_local_rank(), torch.cuda.device_count()
    if device.index is not None:
        raise InputError(f"device is '{device}', but torchrun gives each process a GPU of its own; use 'cuda'")
    if index >= count:
        raise InputError(f"torchrun started process {index + 1} of this host, which has {count} GPUs; start {count}")
    return torch.device("cuda", index)


@contextmanager
def joined(device: torch.device) -> Iterator[Peers]:
    """The peers that `torchrun` started this process with, for as long as the block runs; without it, none."""
    if not is_launched():
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        dist.init_process_group("nccl", device_id=device)
    else:
        dist.init_process_group("gloo", timeout=PATIENCE)
    yield Peers(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo", timeout=PATIENCE))
    dist.destroy_process_group()  # not after an error: others may still wait for this process, and torchrun ends them
