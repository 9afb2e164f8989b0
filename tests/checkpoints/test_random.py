"""A model with random weights: what a download would be, the same every time, and working in all its parts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open

from sana_wm.checkpoints import replacing
from sana_wm.checkpoints.layout import published_keys
from sana_wm.checkpoints.load import load_components
from sana_wm.checkpoints.random import random_transformer, save_random
from sana_wm.checkpoints.random_presets import RANDOM_PRESETS
from sana_wm.errors import InputError
from sana_wm.models.config import PIPELINES
from sana_wm.models.ltx2_vae import build_ltx2_vae
from tests.checkpoints.tiny import CONFIG, forward

TINY = RANDOM_PRESETS["tiny"]
SHARD_GB = 0.00025
WEIGHTS = ("dit", "vae", "text_encoder")


def made(folder: Path, **options: object) -> Path:
    save_random(folder, "tiny", **options)  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("random") / "deep" / "model", shard_gb=SHARD_GB)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), "pt") as file:
            found |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return found


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_all_parts_load_as_if_downloaded_and_work_together(folder: Path) -> None:
    assert not (folder / "dit" / "config.json").exists()  # a file of ours that the release does not have
    parts = load_components(folder)
    published = {key: spec.shape for key, spec in published_keys(TINY.transformer).items() if key != "pos_embed"}
    assert {key: tuple(tensor.shape) for key, tensor in tensors(folder / "dit").items()} == published
    assert (parts.settings.height, parts.settings.width) == (TINY.height, TINY.width)
    assert parts.text_encoder.prefix.endswith("User Prompt: ")  # type: ignore[union-attr]
    features, mask = parts.text_encoder.encode(["ein Füchslein 狐"])
    latents = parts.codec.encode(torch.rand(1, 3, 9, 64, 96, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    velocity = parts.transformer(latents, torch.tensor([[[0.0, 500.0]]]), features, mask).detach()
    video = parts.codec.decode(velocity)
    for name, values in (("features", features), ("latents", latents), ("velocity", velocity), ("video", video)):
        assert 0.1 < float(values.std()) < 10, name


def test_the_text_decides_the_features_and_they_stay_apart(folder: Path) -> None:
    encoder = load_components(folder).text_encoder
    one, other = (encoder.encode([text])[0] for text in ("a red fox", "a red box"))
    assert float((one - other).norm() / one.norm()) > 0.02


def test_every_file_keeps_the_size_and_an_index_names_it(folder: Path) -> None:
    for name in WEIGHTS:
        files = sorted((folder / name).glob("*.safetensors"))
        if len(files) == 1:
            assert not list((folder / name).glob("*.index.json"))
        else:
            (index,) = (folder / name).glob("*.index.json")
            content = json.loads(index.read_text())
            assert sorted(set(content["weight_map"].values())) == [path.name for path in files]
            assert content["weight_map"].keys() == tensors(folder / name).keys()
        for path in files:
            with safe_open(str(path), "pt") as file:
                assert sum(file.get_tensor(key).nbytes for key in file.keys()) <= SHARD_GB * 1e9  # noqa: SIM118
    assert len(list((folder / "vae").glob("*.safetensors"))) > 2


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(folder: Path, tmp_path: Path) -> None:
    assert digests(made(tmp_path / "again", shard_gb=SHARD_GB)) == digests(folder)
    other = made(tmp_path / "other", seed=1)
    for name in WEIGHTS:
        assert tensors(other / name).keys() == tensors(folder / name).keys()
        pairs = [(tensor, tensors(other / name)[key]) for key, tensor in tensors(folder / name).items()]
        assert any(not torch.equal(*pair) for pair in pairs)


def test_the_size_of_the_files_decides_no_weight(folder: Path, tmp_path: Path) -> None:
    whole = made(tmp_path / "whole")
    for name in WEIGHTS:
        assert len(list((whole / name).glob("*.safetensors"))) == 1
        one, other = tensors(whole / name), tensors(folder / name)
        assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_files_have_the_dtype_that_was_asked_for(dtype: str, tmp_path: Path) -> None:
    made(tmp_path / "model", dtype=dtype)
    for name in WEIGHTS:
        for key, tensor in tensors(tmp_path / "model" / name).items():
            kept = name == "dit" and key.endswith((".A_log", ".dt_bias"))
            assert tensor.dtype == (torch.float32 if kept else getattr(torch, dtype)), key


def test_no_matrix_of_the_transformer_is_zero_and_every_input_counts() -> None:
    model = random_transformer(CONFIG, torch.float32, torch.Generator().manual_seed(0))
    assert [name for name, weight in model.named_parameters() if weight.ndim > 1 and not weight.any()] == []
    before = forward(model)
    for silenced in ("plucker_embedder.proj", "blocks.0.attn.out_proj_cam", "blocks.0.mlp.t_conv"):
        weight = model.get_parameter(f"{silenced}.weight")
        kept = weight.detach().clone()
        weight.data.zero_()
        assert float((forward(model) - before).norm() / before.norm()) > 1e-4, silenced
        weight.data.copy_(kept)


def test_the_largest_preset_has_the_published_sizes() -> None:
    full = RANDOM_PRESETS["2.6b"]
    assert full.published().settings() == PIPELINES["2.6b"]
    with torch.device("meta"):
        vae = build_ltx2_vae(full.vae)
    assert sum(parameter.numel() for parameter in vae.parameters()) == 1_222_479_601
    assert len(vae.state_dict()) == 184
    assert full.text["hidden_size"] == full.transformer.caption_channels


@pytest.mark.parametrize("name", sorted(RANDOM_PRESETS))
def test_the_parts_of_a_preset_fit_each_other(name: str) -> None:
    preset = RANDOM_PRESETS[name]
    assert preset.published().depth == preset.transformer.depth
    assert preset.vae["latent_channels"] == preset.transformer.in_channels
    assert preset.text["hidden_size"] == preset.transformer.caption_channels
    assert preset.height % 32 == preset.width % 32 == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "9b"}, "preset is '9b'; it must be one of 2.6b, nano, tiny"),
        ({"dtype": "int8"}, "dtype is 'int8'; it must be one of bfloat16"),
        ({"seed": -1}, "seed is -1"),
        ({"shard_gb": 0.0}, "shard_gb is 0.0; it must be a positive number"),
        ({"shard_gb": float("nan")}, "shard_gb is nan"),
        ({"shard_gb": 1e-6}, r"shard_gb is 1e-06; it must be at least .*, the size of vae: "),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_made(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        save_random(tmp_path / "deep" / "model", **{"preset": "tiny"} | options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_something_in_it_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "note").touch()
    for folder in (tmp_path, tmp_path / "note"):
        with pytest.raises(InputError, match="exists and is not empty"):
            made(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    made(tmp_path / "model")
    assert (tmp_path / "model" / "config.yaml").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_full_disk_is_seen_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacing.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(InputError, match=r"needs 0\.0 GB; 0\.0 are free"):
        made(tmp_path / "deep" / "model")
    assert list(tmp_path.iterdir()) == []


def test_what_is_stopped_half_way_leaves_nothing(tmp_path: Path) -> None:
    def stop(part: str, done: int, total: int) -> None:
        if part == "text_encoder":
            (work,) = (tmp_path / "deep").iterdir()
            assert list((work / "new" / "vae").glob("*.safetensors"))  # so something was there to leave
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "deep" / "model", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        made(tmp_path / "file" / "model")


def test_every_file_is_told_when_it_is_written(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    made(tmp_path / "model", shard_gb=SHARD_GB, progress=lambda *news: told.append(news))
    assert list(dict.fromkeys(part for part, _, _ in told)) == list(WEIGHTS)
    for name in WEIGHTS:
        count = len(list((tmp_path / "model" / name).glob("*.safetensors")))
        assert [news for news in told if news[0] == name] == [(name, done, count) for done in range(count + 1)]
