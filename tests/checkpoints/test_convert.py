"""The published streaming checkpoint, a pickle, becomes a model directory, or is refused without running anything."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sana_wm.checkpoints import pickled, replacing
from sana_wm.checkpoints.convert import convert_pickled
from sana_wm.checkpoints.layout import POS_EMBED
from sana_wm.checkpoints.load import load_components
from sana_wm.checkpoints.published_config import PublishedConfig, write_published_config
from sana_wm.checkpoints.save import published_state
from sana_wm.errors import InputError
from sana_wm.models.config import ChunkSettings, StreamSettings
from sana_wm.models.ltx2_vae import Ltx2Codec
from tests.checkpoints.test_load_published import WIDE
from tests.checkpoints.tiny import forward, tiny_transformer
from tests.models.test_ltx2_vae import tiny_vae
from tests.models.tiny_gemma import PREFIX, tiny_gemma, tiny_tokenizer

State = dict[str, Tensor]
RELEASED = StreamSettings(ChunkSettings(3, "first_chunk_plus_one", 2, True), (1000.0, 960.0, 889.0, 727.0, 0.0))


def state() -> State:
    return published_state(tiny_transformer(WIDE))


def prefixed(weights: State) -> State:
    return {f"model.{key}": tensor for key, tensor in weights.items()}


def saved(content: object, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)
    return path


def config_file(path: Path) -> Path:
    published = PublishedConfig.streaming(WIDE.depth, model_max_length=WIDE.caption_tokens, caption_channels=32)
    published = replace(published, height=64, width=64, chi_prompt=tuple(PREFIX.split("\n")))
    write_published_config(path, published, WIDE)
    return path


def complete(folder: Path) -> Path:
    """With the parts that a person puts beside."""
    Ltx2Codec(tiny_vae()).vae.save_pretrained(folder / "vae", safe_serialization=True)
    tiny_gemma("Gemma2ForCausalLM").save_pretrained(folder / "text_encoder")
    tiny_tokenizer().save_pretrained(folder / "text_encoder")
    return folder


PACKINGS: dict[str, Callable[[State], Any]] = {
    "of a distillation": lambda weights: {"generator": prefixed(weights), "critic": {}, "step": 700},
    "of training": lambda weights: {"state_dict": weights, "optimizer": {"state": {}}, "epoch": 3},
    "bare": lambda weights: weights,
    "ordered": lambda weights: collections.OrderedDict(weights),
    "parameters": lambda weights: {key: nn.Parameter(tensor) for key, tensor in weights.items()},
    "with what is dropped": lambda weights: weights | {POS_EMBED: torch.zeros(1, 5, 7)},
    "without what nothing reads": lambda weights: {k: v for k, v in weights.items() if "raymap" not in k},
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_published_packing_becomes_the_same_model(packing: str, tmp_path: Path) -> None:
    source = saved(PACKINGS[packing](state()), tmp_path / "sana_dit" / "model.pt")
    convert_pickled(source, tmp_path / "model", config=config_file(tmp_path / "config.yaml"))
    components = load_components(complete(tmp_path / "model"))
    assert components.transformer.config == WIDE
    assert torch.equal(forward(components.transformer), forward(tiny_transformer(WIDE)))
    assert components.text_encoder.prefix == PREFIX  # type: ignore[union-attr]
    assert components.settings.stream == RELEASED


def test_without_a_config_settings_are_the_releases_and_sizes_the_weights(tmp_path: Path) -> None:
    source = saved({"generator": state()}, tmp_path / "model.pt")
    published = convert_pickled(source, tmp_path / "model")
    settings = load_components(complete(tmp_path / "model")).settings
    assert (settings.stream, settings.flow_shift, settings.height) == (RELEASED, 8.0, 704)
    assert (published.vae_pretrained, published.vae_folder) == (
        "Efficient-Large-Model/SANA-WM_streaming",
        "ltx2_causal_vae",
    )


@pytest.mark.parametrize("steps", [[1000, 967, 908, 764, 0], torch.tensor([1000, 967, 908, 764, 0])])
def test_steps_that_stand_beside_the_weights_are_taken(steps: object, tmp_path: Path) -> None:
    source = saved({"generator": state(), "denoising_step_list": steps}, tmp_path / "model.pt")
    convert_pickled(source, tmp_path / "model", config=config_file(tmp_path / "config.yaml"))
    stream = load_components(complete(tmp_path / "model")).settings.stream
    assert stream is not None
    assert stream.timesteps == (1000, 967, 908, 764, 0)


def test_numbers_stay_as_they_are_unless_asked_and_decay_rates_always(tmp_path: Path) -> None:
    half = {key: tensor.bfloat16() for key, tensor in state().items()}
    source = saved(half, tmp_path / "model.pt")
    convert_pickled(source, tmp_path / "same")
    convert_pickled(source, tmp_path / "full", dtype="float32", shard_gb=0.00005)
    same, full = (pickled_free(tmp_path / name / "dit") for name in ("same", "full"))
    assert same.keys() == full.keys() == half.keys()
    assert {key for key, tensor in same.items() if tensor.dtype != torch.bfloat16} == {
        key for key in half if key.endswith(("A_log", "dt_bias"))
    }
    assert all(tensor.dtype == torch.float32 for tensor in full.values())
    assert all(torch.equal(full[key], half[key].float()) for key in half)
    assert len(list((tmp_path / "full" / "dit").glob("*.safetensors"))) > 1


def pickled_free(folder: Path) -> State:
    from safetensors.torch import load_file

    return {key: tensor for path in sorted(folder.glob("*.safetensors")) for key, tensor in load_file(path).items()}


def test_tensors_that_share_their_numbers_are_written_apart(tmp_path: Path) -> None:
    weights = state()
    zeros = torch.zeros(10**5)
    for key in ("blocks.0.attn.q_norm.weight", "blocks.1.attn.q_norm.weight"):
        weights[key] = zeros[: WIDE.width]
    convert_pickled(saved(weights, tmp_path / "model.pt"), tmp_path / "model")
    assert not pickled_free(tmp_path / "model" / "dit")["blocks.1.attn.q_norm.weight"].any()


KEY = "blocks.0.attn.qkv.weight"
WRONG: dict[str, tuple[Callable[[State], Any], str]] = {
    "missing": (lambda w: {k: v for k, v in w.items() if k != KEY}, f"missing: 1 .{KEY}"),
    "unknown": (lambda w: w | {"blocks.0.extra": torch.zeros(1)}, r"does not have: 1 .blocks\.0\.extra"),
    "misshapen": (lambda w: w | {KEY: w[KEY][:-1]}, f"another shape: 1 .{KEY}"),
    "stretched": (lambda w: w | {KEY: torch.zeros(1, 1).expand(10**6, 10**6)}, f"another shape: 1 .{KEY}"),
    "not a number": (lambda w: w | {KEY: w[KEY].clone().fill_(torch.nan)}, f"{KEY} holds NaN or infinity"),
    "infinite": (lambda w: w | {KEY: w[KEY] / 0}, f"{KEY} holds NaN or infinity"),
    "whole numbers": (lambda w: w | {KEY: w[KEY].int()}, f"{KEY} holds torch.int32"),
    "sparse": (lambda w: w | {KEY: w[KEY].to_sparse()}, f"{KEY} is no dense tensor"),
    "without numbers": (lambda w: w | {KEY: w[KEY].to("meta")}, f"{KEY} is no dense tensor"),
    "no tensor": (lambda w: w | {KEY: [1.0]}, f"{KEY} is no dense tensor but list"),
    "twice": (lambda w: w | {f"model.{KEY}": w[KEY]}, f"{KEY} is stored twice"),
    "nameless": (lambda w: {7: torch.zeros(1)}, "7 is the name of a tensor"),
    "a list": (lambda w: list(w.values()), "holds list; tensors by name"),
    "a tensor": (lambda w: torch.zeros(3), "holds Tensor; tensors by name"),
    "nothing": (lambda w: {"generator": {}}, "holds no weights"),
    "rankless": (lambda w: w | {"x_embedder.proj.weight": torch.tensor(1.0)}, r"x_embedder\.proj\.weight is \(\)"),
    "another depth": (lambda w: {k: v for k, v in w.items() if "blocks.3." not in k}, "says depth 4"),
    "wrong steps": (lambda w: {"generator": w, "denoising_step_list": [1000, 500]}, "timesteps is"),
    "no steps": (lambda w: {"generator": w, "denoising_step_list": {"a": 1}}, "denoising_step_list is"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_weights_are_named_and_nothing_is_written(wrong: str, tmp_path: Path) -> None:
    change, message = WRONG[wrong]
    source = saved(change(state()), tmp_path / "model.pt")
    config = config_file(tmp_path / "config.yaml")
    with pytest.raises(InputError, match=message) as caught:
        convert_pickled(source, tmp_path / "deep" / "model", config=config)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "model.pt"]


class Runs:
    """A pickle that calls something when it is opened."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.what = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.what


def hostile(tmp_path: Path) -> dict[str, Any]:
    mark = str(tmp_path / "it-ran")
    return {
        "os.mkdir": Runs(os.mkdir, mark),
        "os.system": Runs(os.system, f"mkdir {mark}"),
        "builtins.eval": Runs(eval, f"__import__('os').mkdir({mark!r})"),
        "builtins.getattr": Runs(getattr, {}, "clear"),
        "torch.load": Runs(torch.load, mark),
        "open": Runs(open, mark, "w"),
    }


@pytest.mark.parametrize("call", ["os.mkdir", "os.system", "builtins.eval", "builtins.getattr", "torch.load", "open"])
@pytest.mark.parametrize("place", ["beside", "inside", "instead"])
def test_a_pickle_that_runs_code_is_refused_and_runs_nothing(call: str, place: str, tmp_path: Path) -> None:
    thing = hostile(tmp_path)[call]
    content = {"beside": {"generator": state(), "x": thing}, "inside": state() | {KEY: thing}, "instead": thing}[place]
    source = saved(content, tmp_path / "model.pt")
    with pytest.raises(InputError, match="nothing of it was run") as caught:
        convert_pickled(source, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_the_hostile_pickles_above_would_run_code(tmp_path: Path) -> None:
    """So the test above can fail."""
    pickle.loads(pickle.dumps(hostile(tmp_path)["os.mkdir"]))
    assert (tmp_path / "it-ran").is_dir()


def repacked(path: Path, compression: int = zipfile.ZIP_STORED, data: bytes | None = None, extra: str = "") -> Path:
    """The same archive written anew, with another pickle or one more entry."""
    with zipfile.ZipFile(path) as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in entries.items():
            new.writestr(name, data if data is not None and name.endswith("/data.pkl") else content)
        if extra:
            new.writestr(extra, b"")
    return path


def broken(kind: str, path: Path) -> Path:
    saved(state(), path)
    content = path.read_bytes()
    if kind == "old format":
        torch.save(state(), path, _use_new_zipfile_serialization=False)
    elif kind == "plain pickle":
        path.write_bytes(pickle.dumps({"a": 1}))
    elif kind == "other zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme", "hello")
    elif kind == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "compressed":
        repacked(path, zipfile.ZIP_DEFLATED)
    elif kind == "script":
        repacked(path, extra=f"{path.stem}/constants.pkl")
    elif kind == "two pickles":
        repacked(path, extra="other/data.pkl")
    elif kind == "no pickle":
        repacked(path, data=b"hello")
    elif kind == "endless pickle":
        repacked(path, data=b"\x80\x02" + b"]" * 1000)
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("old format", "not a zip file"),
        ("plain pickle", "not a zip file"),
        ("other zip", "none with weights that torch.save wrote"),
        ("cut short", "not a zip file"),
        ("empty", "not a zip file"),
        ("compressed", "is compressed"),
        ("script", "none with weights that torch.save wrote"),
        ("two pickles", "none with weights that torch.save wrote"),
        ("no pickle", "is damaged, or not made of weights alone"),
        ("endless pickle", "is damaged, or not made of weights alone"),
    ],
)
def test_other_files_are_refused(kind: str, message: str, tmp_path: Path) -> None:
    source = broken(kind, tmp_path / "model.pt")
    with pytest.raises(InputError, match=message) as caught:
        convert_pickled(source, tmp_path / "model")
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_any_flipped_byte_ends_in_a_sentence_or_in_weights(tmp_path: Path) -> None:
    """Of the pickle itself: every way of being broken that one byte can make is an InputError."""
    source = saved({"a": torch.zeros(2), "b": [1.5, "x"]}, tmp_path / "model.pt")
    content = source.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        data = archive.read("model/data.pkl")
    start = content.index(data)
    for place in range(len(data)):
        changed = bytearray(content)
        changed[start + place] ^= 0x55
        source.write_bytes(changed)
        with pytest.raises(InputError):
            convert_pickled(source, tmp_path / "model")


def test_what_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(state(), tmp_path / "model.pt")
    limits = [
        (pickled, "MAX_PICKLE_BYTES", 99, r"data\.pkl has \d+ bytes; at most 99"),
        (pickled, "MAX_FILE_BYTES", 99, r"model\.pt has \d+ bytes; at most 99"),
        (replacing.shutil, "disk_usage", lambda path: SimpleNamespace(free=99), r"0\.0 are free there"),
    ]
    for owner, name, value, message in limits:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            with pytest.raises(InputError, match=message):
                convert_pickled(source, tmp_path / "model")
    with pytest.raises(InputError, match=r"shard_gb is 1e-09; it must be at least"):
        convert_pickled(source, tmp_path / "model", shard_gb=1e-9)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_names_and_places_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    source = saved(state(), tmp_path / "model.pt")
    with pytest.raises(InputError, match=r"there is no file .*other\.pt"):
        convert_pickled(tmp_path / "other.pt", tmp_path / "model")
    with pytest.raises(InputError, match="there is no file"):
        convert_pickled(tmp_path, tmp_path / "model")
    with pytest.raises(InputError, match="not called like a pickled checkpoint"):
        convert_pickled(source.rename(tmp_path / "model.safetensors"), tmp_path / "model")
    with pytest.raises(InputError, match="exists and is not empty"):
        convert_pickled(tmp_path / "model.safetensors", tmp_path)


def test_a_config_of_a_model_that_does_not_stream_is_refused(tmp_path: Path) -> None:
    source = saved(state(), tmp_path / "model.pt")
    write_published_config(tmp_path / "config.yaml", PublishedConfig(), WIDE)
    with pytest.raises(InputError, match=r"sampled by 'flow_dpm-solver'; it does not stream"):
        convert_pickled(source, tmp_path / "model", config=tmp_path / "config.yaml")


def test_what_is_stopped_half_way_leaves_nothing(tmp_path: Path) -> None:
    source = saved(state(), tmp_path / "model.pt")

    def stop(done: int, total: int) -> None:
        assert 0 < done < total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_pickled(source, tmp_path / "deep" / "model", shard_gb=0.00005, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
