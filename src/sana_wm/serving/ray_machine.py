"""Ray on this machine: what a replica of a model gets of it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch

from sana_wm.errors import InputError, first_line


class RayMachine:
    """Starts Ray here for `replicas` models, and stops it with the `with` block. No cluster is joined, no dashboard.

    Attributes:
        ray: the package.
        device: of each replica, as it sees it.
        needs: what Ray sets aside for each. threads: of PyTorch for each, together as many as this process has.

    Raises :class:`InputError` where Ray is missing, there are fewer GPUs than replicas, or it does not start.
    """

    def __init__(self, device: torch.device, replicas: int) -> None:
        try:
            self.ray: Any = import_module("ray")
        except ImportError as error:
            raise InputError(
                f"replicas is {replicas}, which needs the package ray; it does not load ({first_line(error)}). Install "
                "it with: pip install 'sana-wm[ray]'"
            ) from error
        cuda = device.type == "cuda"
        if cuda and device.index is not None:
            raise InputError(f"device is '{device}', one GPU; for {replicas} replicas, one each, say cuda.")
        if cuda and torch.cuda.device_count() < replicas:
            raise InputError(f"replicas is {replicas}; there are {torch.cuda.device_count()} GPUs, one for each.")
        self.replicas, self.device = replicas, device
        self.needs: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1 if cuda else 0}
        self.threads = max(1, torch.get_num_threads() // replicas)

    def __enter__(self) -> RayMachine:
        gpus = self.replicas if self.device.type == "cuda" else 0
        try:
            self.ray.init(
                address="local", num_cpus=self.replicas, num_gpus=gpus, include_dashboard=False, log_to_driver=False,
                logging_level="error", _node_ip_address="127.0.0.1",
            )  # fmt: skip
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise InputError(f"Ray does not start ({first_line(error)}).") from error
        return self

    def __exit__(self, *error: object) -> None:
        self.ray.shutdown()
