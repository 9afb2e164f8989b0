"""A command of sana-wm on a GPU of which it may have only so much memory, and what it took of it.

Run: ``python benchmarks/memory_cap.py --gb 24 generate --model DIR ...``: everything after the number is the command.
The cap holds for tensors; what the driver and its libraries take beside them is printed too.
"""

from __future__ import annotations

import argparse

import torch

from sana_wm.cli.main import main as sana_wm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gb", type=float, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(1e9 * options.gb / total)
    try:
        sana_wm(options.command)
    finally:
        taken = (free - torch.cuda.mem_get_info()[0]) / 1e9
        reserved, used = (f() / 1e9 for f in (torch.cuda.max_memory_reserved, torch.cuda.max_memory_allocated))
        print(f"{torch.cuda.get_device_name()}: at most {used:.1f} GB in tensors, {reserved:.1f} GB reserved for them")
        print(f"under a cap of {options.gb:g}; at the end the device has {taken:.1f} GB less than before")


if __name__ == "__main__":
    main()
