"""`sana-wm convert` writes a model that `sana-wm generate` takes, or says in one line why not."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch

from sana_wm.checkpoints.load import load_transformer
from sana_wm.checkpoints.save import published_state
from tests.checkpoints.tiny import CONFIG, tiny_transformer
from tests.cli.conftest import Run


def test_a_random_model_makes_a_video_that_plays(run: Run, image: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "tiny"
    made = run("convert", "--random", "--preset", "tiny", "--output_dir", folder, "--shard_gb", 0.0005, "--seed", 3)
    assert made.code == 0, made.err
    assert "vae: 1 of 2 files written" in made.out
    assert f"sana-wm generate --model {folder}" in made.out

    request = ["--image", image, "--prompt", "a street", "--fov", 70, "--action", "w-8", "--step", 2]
    result = run("generate", "--model", folder, "--device", "cpu", *request, "--output_dir", tmp_path / "out")
    assert result.code == 0, result.err
    assert "WARNING" not in result.err
    with av.open(str(tmp_path / "out" / "street.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(64, 96, 3)] * 9
    assert all(frame.std() > 5 for frame in frames)


def test_a_pickled_checkpoint_becomes_safetensors(run: Run, tmp_path: Path) -> None:
    model = tiny_transformer()
    torch.save({"generator": published_state(model)}, tmp_path / "model.pt")
    result = run("convert", "--pickle", tmp_path / "model.pt", "--output_dir", tmp_path / "model")
    assert result.code == 0, result.err
    assert f"sana-wm generate --stream --model {tmp_path / 'model'}" in result.out
    assert "Efficient-Large-Model/SANA-WM_streaming (ltx2_causal_vae)" in result.out
    assert "Nothing stands before prompts" in result.out
    read = load_transformer(tmp_path / "model" / "dit", CONFIG, device=torch.device("cpu"), dtype=torch.float32)
    for key, tensor in model.state_dict().items():
        assert torch.equal(read.state_dict()[key], tensor), key


def test_a_pickle_that_would_run_code_is_one_line_and_2_and_leaves_nothing(run: Run, tmp_path: Path) -> None:
    torch.save({"generator": _Prints()}, tmp_path / "model.pt")
    result = run("convert", "--pickle", tmp_path / "model.pt", "--output_dir", tmp_path / "deep" / "model")
    assert result.code == 2
    assert "asks for print, which no weights need; nothing of it was run" in result.err
    assert len(result.err.splitlines()) == 1
    assert result.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


class _Prints:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((), "convert makes one of two things"),
        (("--random", "--pickle", "model.pt"), "convert makes one of two things"),
        (("--random", "--config", "config.yaml"), "--config says what a pickled checkpoint is"),
        (("--random",), "--output_dir is missing"),
        (("--pickle", "model.pt"), "--output_dir is missing"),
        (("--pickle", "nowhere.pt"), "there is no file nowhere.pt"),
        (("--pickle", "nowhere.pt", "--dtype", "int4"), "dtype is 'int4'"),
        (("--random", "--preset", "9b"), "preset is '9b'; it must be one of 2.6b, nano, tiny"),
        (("--random", "--shard_gb", "0"), "shard_gb is 0.0"),
        (("--random", "--shard_gb", "much"), "--shard_gb"),
        (("--random", "--dtype", "int4"), "dtype is 'int4'"),
    ],
)
def test_wrong_input_is_one_line_and_2_and_leaves_nothing(
    flags: tuple[str, ...], named: str, run: Run, tmp_path: Path
) -> None:
    place = () if named.startswith("--output_dir") else ("--output_dir", tmp_path / "deep" / "model")
    result = run("convert", *flags, *place)
    assert result.code == 2
    assert named in result.err
    assert len(result.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_something_in_it_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "note").touch()
    result = run("convert", "--random", "--preset", "tiny", "--output_dir", tmp_path)
    assert result.code == 2
    assert f"{tmp_path} exists and is not empty" in result.err
    assert [path.name for path in tmp_path.iterdir()] == ["note"]
