"""Which device to compute on, and in which numbers."""

from __future__ import annotations

import torch

from sana_wm.checkpoints.load import default_dtype
from sana_wm.errors import InputError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The numbers called `name`; "auto" is bfloat16 on CUDA and float32 on a CPU.

    Raises:
        InputError: the name is unknown.
    """
    if name == "auto":
        return default_dtype(device)
    if name not in DTYPES:
        raise InputError(f"dtype is {name!r}; it must be one of auto, {', '.join(DTYPES)}.")
    return DTYPES[name]


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """The device called `name`: "auto" (CUDA if there is one, else the CPU), "cpu", "cuda" or "cuda:N".

    Raises:
        InputError: the name is unknown or this machine has no such device.
    """
    text = str(name)
    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(text)
    except RuntimeError as error:
        raise InputError(f"device is {text!r}; it must be 'auto', 'cpu', 'cuda' or 'cuda:N'.") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device is {text!r}; it must be 'auto', 'cpu', 'cuda' or 'cuda:N'.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device is {text!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices; use 'cpu'.")
    return device
