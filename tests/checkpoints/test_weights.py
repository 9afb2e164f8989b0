"""Reading safetensors: what is accepted, what is refused, and how it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sana_wm.checkpoints.assign import assign_weights
from sana_wm.checkpoints.quantize import METADATA, quantize_state
from sana_wm.checkpoints.weights import WeightFiles, counted
from sana_wm.errors import InputError

CPU = torch.device("cpu")


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(96, 64)
        self.A_log = nn.Parameter(torch.zeros(4))
        self.frozen = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.register_buffer("table", torch.zeros(3))


def meta_two() -> Two:
    with torch.device("meta"):
        return Two()


def state() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(value.shape, generator=generator) for key, value in Two().state_dict().items()}


def load(path: Path, dtype: torch.dtype = torch.float32, ignored: tuple[str, ...] = ()) -> Two:
    module = meta_two()
    assign_weights(module, WeightFiles.from_path(path), device=CPU, dtype=dtype, ignored=ignored)
    return module


def test_every_tensor_arrives_and_keeps_its_kind(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.safetensors")
    module = load(tmp_path)
    assert all(torch.equal(module.state_dict()[key], value) for key, value in state().items())
    assert module.inner.weight.requires_grad
    assert not module.frozen.requires_grad
    assert dict(module.named_buffers()).keys() == {"table"}


def test_weights_of_the_right_dtype_are_views_of_the_mapped_file(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.safetensors")
    weights = WeightFiles.from_folder(tmp_path)
    module = meta_two()
    assign_weights(module, weights, device=CPU, dtype=torch.float32)
    assert module.inner.weight.data_ptr() == weights.get("inner.weight").data_ptr()


def test_changing_loaded_weights_does_not_change_the_file(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.safetensors")
    module = load(tmp_path)
    with torch.no_grad():
        module.inner.weight.add_(1)
    assert torch.equal(load(tmp_path).inner.weight, state()["inner.weight"])


@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_any_float_is_cast_but_decay_rates_stay_float32(tmp_path: Path, stored: torch.dtype) -> None:
    save_file({key: value.to(stored) for key, value in state().items()}, tmp_path / "a.safetensors")
    module = load(tmp_path, torch.bfloat16)
    assert module.inner.weight.dtype == torch.bfloat16
    assert module.A_log.dtype == torch.float32


def test_a_leading_model_prefix_is_taken_off(tmp_path: Path) -> None:
    save_file({f"model.{key}": value for key, value in state().items()}, tmp_path / "a.safetensors")
    assert torch.equal(load(tmp_path).inner.bias, state()["inner.bias"])


def test_several_shards_are_one_mapping_with_or_without_an_index(tmp_path: Path) -> None:
    keys = sorted(state())
    parts = {"x-1.safetensors": keys[:2], "x-2.safetensors": keys[2:]}
    for name, part in parts.items():
        save_file({key: state()[key] for key in part}, tmp_path / name)
    load(tmp_path)
    index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps(index))
    save_file({"unrelated": torch.zeros(1)}, tmp_path / "y.safetensors")
    load(tmp_path)
    (tmp_path / "x-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"1 \(x-2.safetensors\)"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "{}", "not json", '{"weight_map": {"a": "../b.safetensors"}}'])
def test_a_broken_index_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.safetensors.index.json").write_text(content)
    with pytest.raises(InputError, match="index"):
        WeightFiles.from_folder(tmp_path)


def test_an_index_of_pickles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.index.json").write_text('{"weight_map": {"a": "pytorch_model-1.bin"}}')
    with pytest.raises(InputError, match=r"pytorch_model-1\.bin is a pickle"):
        WeightFiles.from_folder(tmp_path)


def test_the_same_name_twice_is_refused(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "a.safetensors")
    save_file({"model.table": torch.zeros(3)}, tmp_path / "b.safetensors")
    with pytest.raises(InputError, match="table is stored twice"):
        load(tmp_path)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_a_pickle_is_refused_with_a_way_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"\x80\x04.")
    for place in (path, tmp_path):
        with pytest.raises(InputError, match="convert it to safetensors"):
            WeightFiles.from_path(place)


def test_a_damaged_or_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(InputError, match=r"a\.safetensors cannot be read as safetensors"):
        WeightFiles.from_folder(tmp_path)
    with pytest.raises(InputError, match=r"b\.safetensors cannot be read"):
        WeightFiles.from_path(tmp_path / "b.safetensors")
    (tmp_path / "a.safetensors").unlink()
    with pytest.raises(InputError, match="holds no weights"):
        WeightFiles.from_folder(tmp_path)


def test_missing_and_unknown_weights_are_named_and_counted(tmp_path: Path) -> None:
    partial = {key: value for key, value in state().items() if not key.startswith("inner")}
    save_file(partial, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"missing: 2 \(inner\.bias, inner\.weight\)"):
        load(tmp_path)
    extra = {f"blocks.{i}.w": torch.zeros(1) for i in range(7)}
    save_file(state() | extra, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"does not have: 7 \(blocks\.0\.w, .*blocks\.4\.w, \.\.\.\)"):
        load(tmp_path)
    load(tmp_path, ignored=tuple(extra))


def test_a_wrong_shape_is_named_with_both_shapes(tmp_path: Path) -> None:
    save_file(state() | {"table": torch.zeros(4)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"table is \(4,\) and must be \(3,\)"):
        load(tmp_path)


def test_integers_are_refused(tmp_path: Path) -> None:
    save_file(state() | {"inner.weight": torch.ones(64, 96, dtype=torch.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"not floating point: 1 \(inner\.weight\)"):
        load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    for position in (0, 777, -1):
        bad = state()
        bad["inner.weight"].view(-1)[position] = value
        save_file(bad, tmp_path / "a.safetensors")
        for dtype in (torch.float32, torch.bfloat16):
            with pytest.raises(InputError, match=r"inner\.weight holds NaN or infinity"):
                load(tmp_path, dtype)


def test_weights_that_overflow_the_wanted_dtype_are_refused(tmp_path: Path) -> None:
    save_file(state() | {"table": torch.full((3,), 1e6)}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=r"table holds NaN or infinity as torch\.float16"):
        load(tmp_path, torch.float16)


def test_eight_bit_files_are_known_by_their_metadata(tmp_path: Path) -> None:
    stored = quantize_state(state())
    assert stored["inner.weight"].dtype == torch.int8
    save_file(stored, tmp_path / "a.safetensors", metadata=METADATA)
    module = load(tmp_path)
    scale = stored["inner.weight.scale"].max()
    assert float((module.inner.weight.detach() - state()["inner.weight"]).abs().max()) <= float(scale) * 0.501
    save_file(stored, tmp_path / "a.safetensors")  # the same tensors, said to be something else
    with pytest.raises(InputError, match=r"does not have: 1 \(inner\.weight\.scale\)"):
        load(tmp_path)


def test_an_eight_bit_tensor_without_its_scale_is_refused(tmp_path: Path) -> None:
    stored = quantize_state(state())
    del stored["inner.weight.scale"]
    save_file(stored, tmp_path / "a.safetensors", metadata=METADATA)
    with pytest.raises(InputError, match=r"int8 tensor inner\.weight"):
        load(tmp_path)


def test_names_in_errors_are_counted_and_cut() -> None:
    assert counted(["b", "a"]) == "2 (a, b)"
    assert counted(map(str, range(6))) == "6 (0, 1, 2, 3, 4, ...)"
