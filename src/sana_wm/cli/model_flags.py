"""The flags that say which model a command works with."""

from __future__ import annotations

from typing import Annotated

import typer

ModelFlag = Annotated[str, typer.Option("--model", help="nano, a directory, or a hub id owner/repo.")]
DeviceFlag = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DtypeFlag = Annotated[
    str, typer.Option("--dtype", help="Numbers of the transformer: auto (bfloat16 on CUDA), float32 or bfloat16.")
]
Fp8Flag = Annotated[
    bool, typer.Option("--fp8", help="Multiply in eight-bit floats: faster, less accurate (Ada, Hopper).")
]
