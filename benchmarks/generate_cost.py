"""Wall time and peak memory of `sana-wm generate` on this machine.

`python benchmarks/generate_cost.py [flags of generate]`. Each run is a process of its own, so loading is part of it.
Peak memory is the largest resident set of any run.
"""

from __future__ import annotations

import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3


def main() -> None:
    command = Path(sys.executable).with_name("sana-wm")
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            begin = time.perf_counter()
            subprocess.run(
                [command, "generate", "--output_dir", folder, *sys.argv[1:]], check=True, stdout=subprocess.DEVNULL
            )
            seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {RUNS} runs")
    spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
    print(f"median {statistics.median(seconds):.1f} s ({spread}), peak {peak:.0f} MB")


if __name__ == "__main__":
    main()
