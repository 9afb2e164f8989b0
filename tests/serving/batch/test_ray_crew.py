"""Replicas through Ray make what one process makes, and a job outlives the replica that it was given to."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sana_wm.checkpoints.save import save_pretrained
from sana_wm.engine.failure import GenerationError
from sana_wm.engine.order import VideoOrder
from sana_wm.engine.source import ModelSource
from sana_wm.errors import InputError
from sana_wm.serving.batch import ray_crew
from sana_wm.serving.batch.jobs_file import VideoJob, read_jobs
from sana_wm.serving.batch.record import FILE
from sana_wm.serving.batch.run import Summary, run_jobs
from sana_wm.serving.batch.work import Studio
from tests.engine.tiny import picture, tiny_components

pytest.importorskip("ray", reason="needs the extra 'ray'")

STEPS = 60
"""So many that a replica is busy for a while."""


@pytest.fixture
def jobs(tmp_path: Path) -> list[VideoJob]:
    picture().save(tmp_path / "street.png")
    path = tmp_path / "jobs.jsonl"
    path.write_text("".join(f'{{"name": "{name}", "seed": {seed}}}\n' for seed, name in enumerate("abc")))
    defaults = VideoOrder(image=str(tmp_path / "street.png"), prompt="a street", action="w-8", fov=70.0, step=STEPS)
    return read_jobs(path, defaults)


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_pretrained(tmp_path / "tiny", tiny_components())
    return str(tmp_path / "tiny")


def studio(model: str, out: Path) -> Studio:
    return Studio(ModelSource(model, torch.device("cpu")), out)


def hashes(out: Path) -> dict[str, Any]:
    entries = map(json.loads, (out / FILE).read_text(encoding="utf-8").splitlines())
    return {entry["name"]: entry["frames_sha256"] for entry in entries}


def replicas_at(doing: str) -> list[int]:
    """Processes of Ray below this one that are at the method `doing`; a Ray of somebody else is left alone."""
    parents, found = {}, []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit():
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                if (folder / "cmdline").read_bytes().startswith(f"ray::_Replica{doing}".encode()):
                    found.append(int(folder.name))
        except (OSError, IndexError):  # it has just ended
            continue

    def ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parents.get(pid, 0)
        return pid == os.getpid()

    return [pid for pid in found if ours(pid)]


class Killer(threading.Thread):
    """Kills the first `count` replicas that are seen at the method `doing`."""

    def __init__(self, doing: str, count: int) -> None:
        super().__init__(daemon=True)
        self.doing, self.count, self.killed = doing, count, set[int]()
        self.over = threading.Event()

    def run(self) -> None:
        while len(self.killed) < self.count and not self.over.wait(0.05):
            for pid in set(replicas_at(self.doing)) - self.killed:
                os.kill(pid, signal.SIGKILL)
                self.killed.add(pid)
                break

    def __enter__(self) -> Killer:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    ends = time.monotonic() + 10
    while replicas_at(""):
        assert time.monotonic() < ends, "a replica is still there"
        time.sleep(0.1)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the process to kill in /proc")
def test_a_job_whose_replica_is_killed_is_done_by_another_and_frames_are_those_of_one_process(
    jobs: list[VideoJob], model: str, tmp_path: Path
) -> None:
    assert run_jobs(jobs, studio(model, tmp_path / "one")) == Summary(3, 0, 0)
    with Killer(".do", 1) as killer:
        assert run_jobs(jobs, studio(model, tmp_path / "two"), 2) == Summary(3, 0, 0)
    assert len(killer.killed) == 1
    assert hashes(tmp_path / "two") == hashes(tmp_path / "one")
    assert len(set(hashes(tmp_path / "one").values())) == 3
    assert not [path for path in (tmp_path / "two").iterdir() if path.name.startswith(".")]
    assert run_jobs(jobs, studio(model, tmp_path / "two"), 2) == Summary(0, 3, 0)  # without Ray: nothing is left to do


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the process to kill in /proc")
def test_a_job_that_kills_its_replicas_fails_and_the_others_go_on(
    jobs: list[VideoJob], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_crew, "TRIES", 1)
    with Killer(".do", 1) as killer:
        assert run_jobs(jobs[:2], studio(model, tmp_path / "out"), 2) == Summary(1, 0, 1)
    assert len(killer.killed) == 1
    assert sorted(path.suffix for path in (tmp_path / "out").glob("*.mp4")) == [".mp4"]


def test_replicas_that_never_load_end_the_run(
    jobs: list[VideoJob], model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_crew, "TRIES", 1)
    with Killer(".load", 1), pytest.raises(GenerationError, match="while they loaded"):
        run_jobs(jobs, studio(model, tmp_path / "out"), 2)


def test_one_gpu_is_not_shared_by_replicas(jobs: list[VideoJob], model: str, tmp_path: Path) -> None:
    too_many = max(2, torch.cuda.device_count() + 1)
    with pytest.raises(InputError, match="one for each"):
        run_jobs(jobs, Studio(ModelSource(model, torch.device("cuda")), tmp_path / "out"), too_many)
    with pytest.raises(InputError, match="say cuda"):
        run_jobs(jobs, Studio(ModelSource(model, torch.device("cuda:0")), tmp_path / "out"), 2)
