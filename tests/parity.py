"""Compares our code with golden files: `python tests/parity.py FILE... [--strict]`.

A file is recognised by its metadata and the names of its tensors, never by its own name. Our code runs in float32 on
the CPU and one line is printed per output tensor: the largest absolute error, the tolerance of the file's README, and
the verdict. Where the README gives entries of one tensor different tolerances, the error is in units of them.

Exit status: 0 if every output tensor was checked and is within its tolerance; 1 if any is over it or was not checked;
2 if a file cannot be read. Kinds of file that have no code yet are listed, and are failures only with `--strict`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError

if __name__ == "__main__":  # started as a script, from anywhere: make `tests` importable
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.parity_kinds import camera, dit, evaluation, ltx2_vae, objectives, streaming, streaming_model, training
from tests.parity_kinds.base import Check, Fixture, Kind, load_fixture

KINDS: list[Kind] = [
    *camera.KINDS, *dit.KINDS, *evaluation.KINDS, *ltx2_vae.KINDS, *objectives.KINDS, *streaming.KINDS,
    *streaming_model.KINDS, *training.KINDS,
]  # fmt: skip


@dataclass
class Report:
    """What came of one file: how many outputs passed, and the names of those that did not."""

    passed: int = 0
    failed: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    not_implemented: list[str] = field(default_factory=list)

    def ok(self, strict: bool = False) -> bool:
        return not (self.failed or self.unchecked or (strict and self.not_implemented))


def compare(fixture: Fixture, say: Callable[[str], None] = print) -> Report:
    """Runs every kind that knows the file and tells `say` one line per output tensor."""
    report = Report()
    kinds = [kind for kind in KINDS if kind.matches(fixture)]
    outputs = set(fixture.outputs())
    if not kinds:
        report.not_implemented = sorted(outputs) or ["(no output tensors)"]
        say(f"kind not implemented yet: {len(outputs)} output tensors not checked")
        return report
    say(f"kind {' and '.join(kind.name for kind in kinds)}")
    checked: set[str] = set()
    for kind in kinds:
        for check in without_gradients(kind.checks(fixture)):
            error, limit = check.error(), check.limit()
            ok = error <= limit
            say(f"  {check.name:<58} error {error:8.2e}  tolerance {limit:8.2e}  {'ok' if ok else 'FAILED'}")
            checked.add(check.name)
            if ok:
                report.passed += 1
            else:
                report.failed.append(check.name)
    for name in sorted(outputs - checked):
        report.unchecked.append(name)
        say(f"  {name:<58} NOT CHECKED")
    return report


def without_gradients(checks: Iterator[Check]) -> Iterator[Check]:
    """Runs a kind's code without gradients between its yields; one that needs them enables them for itself."""
    while True:
        with torch.no_grad():
            check = next(checks, None)
        if check is None:
            return
        yield replace(check, actual=check.actual.detach(), expected=check.expected.detach())


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="parity.py", description="Compare our code with golden files.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a safetensors file of golden numbers")
    parser.add_argument("--strict", action="store_true", help="outputs that have no code yet are failures too")
    options = parser.parse_args(arguments)
    status = 0
    for path in options.files:
        print(path)
        try:
            fixture = load_fixture(path)
        except (OSError, SafetensorError, ValueError) as error:
            print(f"{path} cannot be read as a file of golden numbers: {error}", file=sys.stderr)
            status = 2
            continue
        try:
            report = compare(fixture)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            print(f"  STOPPED by {type(error).__name__}: {error}")
            status = max(status, 1)
            continue
        print(
            f"  {report.passed} ok, {len(report.failed)} over tolerance, {len(report.unchecked)} not checked, "
            f"{len(report.not_implemented)} not implemented yet"
        )
        if not report.ok(options.strict):
            status = max(status, 1)
    return status


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    sys.exit(main())
