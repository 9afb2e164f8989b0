"""Which model a command works with, where, and in which numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sana_wm.engine.devices import choose_device, choose_dtype
from sana_wm.engine.pipeline import SanaWMPipeline
from sana_wm.models.fp8 import check_fp8


@dataclass(frozen=True)
class ModelSource:
    """What to load, so that another process can load the same; see :meth:`SanaWMPipeline.from_pretrained`.

    Attributes:
        dtype: of the transformer; None is bfloat16 on CUDA and float32 on a CPU.
        fp8: whether its large products are done in eight-bit floats.
    """

    model: str
    device: torch.device
    dtype: torch.dtype | None = None
    fp8: bool = False

    @classmethod
    def of(cls, model: str, device: str = "auto", dtype: str = "auto", *, fp8: bool = False) -> ModelSource:
        """What a command line names; nothing is loaded.

        Raises:
            InputError: there is no such device or number format, or the device does not multiply eight bits.
        """
        chosen = choose_device(device)
        if fp8:
            check_fp8(chosen)
        return cls(model, chosen, choose_dtype(dtype, chosen), fp8)

    def load(self) -> SanaWMPipeline:
        """The model, on its device.

        Raises:
            InputError: there is no such model, or its files do not fit together.
        """
        return SanaWMPipeline.from_pretrained(self.model, device=self.device, dtype=self.dtype, fp8=self.fp8)
