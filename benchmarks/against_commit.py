"""A denoising step of the bundled nano model on the CPU, now and as of an earlier commit, and how far both are apart.

`python benchmarks/against_commit.py COMMIT`, in a checkout with its history. Both versions get the same weights and
inputs and each runs in a process of its own; they take turns, so that what else the machine does meets both alike. Wall
time is told, and the time that the cores worked, which other programs hardly change.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
NANO = REPOSITORY / "src" / "sana_wm" / "checkpoints" / "nano"
GRID = (12, 20)
INPUTS = ("x", "timestep", "y", "mask", "camera_conditions", "chunk_plucker")
WARM_UPS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", help="of this repository, or a folder with the sources of another version")
    parser.add_argument("--latent_frames", type=int, default=11)
    parser.add_argument("--runs", type=int, default=15, help="timed passes of each version, after two that warm up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=("transformer", "decoder"), default="transformer")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)  # for the processes that this program starts
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        work(arguments.worker, arguments.out, arguments.threads, arguments.part)
    else:
        compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    import torch
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = folder / "given.safetensors"
        write_inputs(given, arguments.latent_frames)
        versions = {"before": check_out(arguments.commit, folder / "tree") / "src", "now": REPOSITORY / "src"}
        running = {which: start(path, given, folder / which, arguments) for which, path in versions.items()}
        times: dict[str, list[dict[str, float]]] = {which: [] for which in running}
        for number in range(WARM_UPS + arguments.runs):
            for which, process in running.items():
                found = one_pass(process)
                if number >= WARM_UPS:
                    times[which].append(found)
        outputs = {}
        for which, process in running.items():
            process.communicate("\n")
            outputs[which] = load_file(folder / which)["out"].double()
    before, now = outputs["before"], outputs["now"]
    print(f"{cpu()}, {arguments.threads} threads, torch {torch.__version__}, Python {platform.python_version()}")
    print(f"{arguments.part}, {arguments.latent_frames} latent frames, {arguments.runs} passes each in turn")
    for clock in ("wall", "cores"):
        old, new = ([found[clock] for found in times[which]] for which in ("before", "now"))
        ratios = sorted(a / b for a, b in zip(old, new, strict=True))
        print(
            f"{clock:5}  before {summary(old)}  now {summary(new)}  "
            f"ratio: of medians {statistics.median(old) / statistics.median(new):.2f}, of minima "
            f"{min(old) / min(new):.2f}, pair by pair {ratios[0]:.2f} to {ratios[-1]:.2f}"
        )
    print(f"apart: relative RMS {float((now - before).norm() / before.norm()):.1e}, "
          f"largest {float((now - before).abs().max() / before.abs().max()):.1e} of the largest")  # fmt: skip


def write_inputs(path: Path, latent_frames: int) -> None:
    """What a pass is given: noisy latents, timesteps, a caption, a camera that walks and turns."""
    import torch
    from safetensors.torch import save_file

    from sana_wm.checkpoints.load import load_components
    from sana_wm.evaluation.speed import Shape, forward_inputs

    given = forward_inputs(load_components(NANO).transformer, Shape(latent_frames, GRID, 1), torch.device("cpu"))
    save_file({name: x.contiguous() for name, x in given._asdict().items()}, path)


def check_out(commit: str, folder: Path) -> Path:
    """The sources of a commit of this repository, unpacked into `folder`; a folder that exists is taken as it is."""
    if Path(commit).is_dir():
        return Path(commit)
    made = subprocess.run(["git", "-C", REPOSITORY, "archive", commit, "src"], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def start(path: Path, given: Path, out: Path, arguments: argparse.Namespace) -> subprocess.Popen[str]:
    """A process that imports `sana_wm` from `path`: a pass for every line it reads, its result to `out` at the end."""
    command = [
        sys.executable, __file__, arguments.commit, "--worker", given, "--out", out,
        "--threads", str(arguments.threads), "--part", arguments.part,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(path)}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def one_pass(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("pass\n")
    process.stdin.flush()
    found: dict[str, float] = json.loads(process.stdout.readline())
    return found


def work(given: Path, out: Path, threads: int, part: str) -> None:
    """What a process does that :func:`start` started."""
    import torch
    from safetensors.torch import load_file, save_file

    from sana_wm.checkpoints.load import load_components

    torch.set_num_threads(threads)
    components = load_components(NANO)  # weights as they are now, whatever the code
    inputs = load_file(given)
    with torch.inference_mode():
        x, timestep, *conditions = (inputs[name] for name in INPUTS)
        context = components.transformer.condition(tuple(x.shape[2:]), *conditions)
        for line in sys.stdin:
            if not line.strip():
                break
            begin = time.perf_counter(), time.process_time()
            if part == "transformer":
                made = components.transformer.denoise(x, timestep, context)
            else:
                made = components.codec.decode(x)
            found = {"wall": time.perf_counter() - begin[0], "cores": time.process_time() - begin[1]}
            print(json.dumps(found), flush=True)
    save_file({"out": made.contiguous()}, out)


def summary(seconds: list[float]) -> str:
    return f"{1000 * statistics.median(seconds):.0f} ms ({1000 * min(seconds):.0f} to {1000 * max(seconds):.0f})"


def cpu() -> str:
    """The name of the processor."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]} ({len(named)} cores)" if named else platform.machine()


if __name__ == "__main__":
    main()
