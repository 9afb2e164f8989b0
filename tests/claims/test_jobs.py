"""The work behind the claims: planned whole, done once, gone on with after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sana_wm.claims.jobs import CLAIMS, Lab, plan, work
from sana_wm.claims.key_scale import run_until_bad
from sana_wm.claims.page import read_results, write_page
from sana_wm.claims.share import Share
from sana_wm.errors import InputError
from sana_wm.training.progress import Stop
from tests.training import tiny

TINY = (
    "data.height=32",
    "data.width=48",
    "world.model.depth=2",
    "world.model.width=64",
    "world.model.num_heads=1",
    "world.text={channels: 192, layers: 1, heads: 2, stride: 64, max_tokens: 64}",
    "world.lengths=[{frames: 17, bank: 17, batch: 1, share: 1.0}]",
    "world.bank_clips={17: 2}",
    "world.bank_refresh=2",
    "world.optimizer.steps=2",
    "log_every=1",
    "save_every=1",
    "pipeline.height=32",
    "pipeline.width=48",
    "pipeline.num_frames=17",
    "pipeline.num_inference_steps=1",
)


def lab(directory: Path) -> Lab:
    return Lab(directory, torch.device("cpu"), scenes=2, long_scenes=1, long_frames=33, batch=2, overrides=TINY)


def names(claims: tuple[str, ...], seeds: int = 2, share: Share | None = None) -> list[str]:
    return [job.name for job in plan(claims, seeds, share or Share())]


def test_all_shares_together_do_every_job_once() -> None:
    whole = names(CLAIMS)
    assert len(set(whole)) == len(whole)
    parts = [names(CLAIMS, share=Share(i, 2)) for i in range(2)]
    assert sorted(parts[0] + parts[1]) == sorted(whole)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_goes_on_from_a_variant_comes_after_it_in_its_share(count: int) -> None:
    for i in range(count):
        part = names(CLAIMS, share=Share(i, count))
        if "long_1" in part:
            assert part.index("hybrid_1") < min(part.index("short_1"), part.index("long_1"))
            return
    raise AssertionError("no share has it")


def test_a_claim_asks_for_its_own_variants_only() -> None:
    assert names(("camera",), seeds=1) == ["hybrid_1", "none_1", "plucker_1", "ucpe_1"]
    assert names(("schedule",), seeds=1) == ["hybrid_1", "gdn_1", "softmax_1", "forward_cost", "forward_cost_cpu"]
    assert names(("minute",), seeds=1) == ["hybrid_1", "short_1", "long_1"]
    assert names(("key_scale",)) == ["key_frame", "key_head", "key_none"]


def test_an_unknown_claim_is_refused() -> None:
    with pytest.raises(InputError, match="only names \\['speed'\\]; claims are key_scale, schedule"):
        plan(("speed",), 1, Share())


def test_the_costs_are_measured_and_judged(tmp_path: Path) -> None:
    assert work(lab(tmp_path), plan(("state",), 1, Share()))
    cost = read_results(tmp_path)["chunk_cost"]["cost"]
    assert [entry["before"] for entry in cost] == [0, 10, 20, 40]
    assert len({entry["gdn"]["mb"] for entry in cost}) == 1
    assert cost[-1]["softmax"]["mb"] == pytest.approx(41 * cost[0]["softmax"]["mb"])
    write_page(tmp_path / "claims.md", read_results(tmp_path))
    assert "| The state is constant in length |" in (tmp_path / "claims.md").read_text()


def test_a_run_whose_keys_are_too_large_is_seen_to_break() -> None:
    broken = tiny.world(tiny.recipe())
    with torch.no_grad():
        broken.model.transformer.blocks[0].get_parameter("attn.k_norm.weight").mul_(1e30)
    run = run_until_bad(broken, 3)
    assert run.first_bad_step == 0
    assert run.loss == []
    assert run.to_dict()["eigenvalue"] == [None]  # infinite, which JSON cannot say
    sound = run_until_bad(tiny.world(tiny.recipe()), 3)
    assert sound.first_bad_step is None
    assert len(sound.loss) == len(sound.looked) == 3
    assert max(sound.growth) < 1


def test_variants_are_trained_and_measured_once_and_go_on_after_a_stop(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="recovers poses; pip install sana-wm[evaluation]")
    jobs = plan(("minute",), 1, Share())
    bench = lab(tmp_path)
    stopped = Stop()
    stopped.signalled = True
    assert not work(replace(bench, stop=stopped), jobs)
    assert not (tmp_path / "results").exists()
    assert work(bench, jobs)
    found = {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()}
    assert set(found) == {"hybrid_1", "short_1", "long_1"}
    assert work(bench, jobs)
    assert {path.stem: path.stat().st_mtime_ns for path in (tmp_path / "results").iterdir()} == found
    base, later = (json.loads((tmp_path / "results" / f"{name}_1.json").read_text()) for name in ("hybrid", "long"))
    assert "long" not in base
    assert len(base["follow"]) == 2
    assert base["steps"] == 2
    assert later["settings"]["after"] == "hybrid_1"
    assert len(later["long"][0]["psnr"]) == 1
    recorded = json.loads((tmp_path / "runs" / "long_1" / "recipe.json").read_text())
    assert recorded["init"]["model"].endswith("hybrid_1/model")
