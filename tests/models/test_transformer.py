"""What the transformer promises at any size: shapes, independence of samples, silence of what is absent."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sana_wm.checkpoints.layout import published_keys
from sana_wm.models.config import TRANSFORMERS, TransformerConfig
from sana_wm.models.context import PluckerTokens
from sana_wm.models.embeddings import PatchEmbed
from sana_wm.models.frame_gdn import FrameGatedDeltaNet
from sana_wm.models.transformer import Block, SanaWMTransformer
from tests.models.small import CONFIG, Inputs, cameras, fresh, inputs, trained


@torch.no_grad()
def run(model: SanaWMTransformer, given: Inputs) -> Tensor:
    return model(*given.all())


def test_the_full_size_has_the_published_number_of_parameters() -> None:
    """Together with those that the release holds and nothing reads."""
    config = TRANSFORMERS["2.6b"]
    with torch.device("meta"):
        model = SanaWMTransformer(config)
    keys = published_keys(config)
    ignored = sum(spec.numel for spec in keys.values() if spec.kind == "parameter" and not spec.used)
    assert sum(p.numel() for p in model.parameters()) + ignored == 2_661_800_448
    assert model.state_dict().keys() == {key for key, spec in keys.items() if spec.used}


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 2, 2), (1, 3, 5), (2, 1, 1), (4, 5, 3)])
@pytest.mark.parametrize("with_cameras", [True, False])
def test_any_length_and_any_size_works(frames: int, height: int, width: int, with_cameras: bool) -> None:
    given = inputs(2, frames, height, width)
    if not with_cameras:
        given = given.with_(camera_conditions=None, chunk_plucker=None)
    velocity = run(trained(), given)
    assert velocity.shape == given.x.shape
    assert velocity.dtype == torch.float32
    assert velocity.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sample_alone_gives_what_it_gives_in_a_batch(dtype: torch.dtype) -> None:
    model, given = trained().to(dtype), inputs(3).to(dtype)
    together = run(model, given).float()
    tolerance = 1e-5 if dtype == torch.float32 else 0.03
    for i in range(3):
        alone = run(model, given.item(i))[0].float()
        torch.testing.assert_close(alone, together[i], rtol=0, atol=tolerance * float(together.abs().max()))


def test_samples_do_not_see_each_other() -> None:
    """Not even when one of them is not a number."""
    model, given = trained(), inputs(2)
    expected = run(model, given)
    for name in ("x", "timestep", "y", "camera_conditions", "chunk_plucker"):
        spoiled = getattr(given, name).clone()
        spoiled[0] = torch.nan
        out = run(model, given.with_(**{name: spoiled}))
        assert out[0].isnan().any(), name
        assert torch.equal(out[1], expected[1]), name


def test_one_timestep_a_sample_is_that_timestep_in_every_frame() -> None:
    model, given = trained(), inputs(2)
    a_sample = torch.tensor([250.0, 900.5])
    a_frame = a_sample[:, None, None].expand(2, 1, 3)
    expected = run(model, given.with_(timestep=a_frame))
    torch.testing.assert_close(run(model, given.with_(timestep=a_sample)), expected, rtol=1e-5, atol=1e-5)


def test_every_frame_has_its_own_timestep() -> None:
    model, given = trained(), inputs(1)
    other = given.timestep.clone()
    other[..., 2] += 100
    assert not torch.allclose(run(model, given.with_(timestep=other)), run(model, given), atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_caption_tokens_have_no_influence(dtype: torch.dtype) -> None:
    model, given = trained().to(dtype), inputs(2).to(dtype)
    assert given.mask is not None
    other = torch.where(given.mask[:, None, :, None] == 1, given.y, given.y * 50 + 7)
    assert not torch.equal(other, given.y)
    assert torch.equal(run(model, given.with_(y=other)), run(model, given))


def test_leaving_masked_tokens_out_is_the_same_as_masking_them() -> None:
    model, given = trained(), inputs(1)
    assert given.mask is not None
    kept = int(given.mask.sum())
    short = given.with_(y=given.y[:, :, :kept], mask=None)
    torch.testing.assert_close(run(model, short), run(model, given), rtol=1e-5, atol=1e-5)


def test_a_caption_token_that_counts_has_influence() -> None:
    model, given = trained(), inputs(1)
    other = given.y.clone()
    other[:, :, 0] += 1
    assert not torch.allclose(run(model, given.with_(y=other)), run(model, given), atol=1e-3)


def test_without_cameras_the_camera_paths_are_silent() -> None:
    """Leaving cameras away is the same as having camera paths whose last layers are zero."""
    model, given = trained(), inputs(2)
    without = run(model, given.with_(camera_conditions=None, chunk_plucker=None))
    assert not torch.allclose(run(model, given), without, atol=1e-3)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.out_proj_cam.weight.zero_()
            block.attn.out_proj_cam.bias.zero_()
            block.plucker_proj.weight.zero_()
            block.plucker_proj.bias.zero_()
    assert torch.equal(run(model, given), without)


@pytest.mark.parametrize("name", ["camera_conditions", "chunk_plucker"])
def test_another_camera_gives_another_video(name: str) -> None:
    model, given = trained(), inputs(2)
    other = dict(zip(("camera_conditions", "chunk_plucker"), cameras(2, 3, 3, 5, seed=9), strict=True))
    assert not torch.allclose(run(model, given.with_(**{name: other[name]})), run(model, given), atol=1e-3)


def test_a_fresh_model_ignores_cameras() -> None:
    model, given = fresh(), inputs(2)
    without = run(model, given.with_(camera_conditions=None, chunk_plucker=None))
    assert torch.equal(run(model, given), without)


def test_a_fresh_model_learns_to_use_cameras() -> None:
    """The silent start blocks no gradient for longer than one step."""
    model, given = fresh(), inputs(2)
    for _ in range(2):
        model.zero_grad(set_to_none=True)
        model(*given.all()).square().mean().backward()
        with torch.no_grad():
            for parameter in model.parameters():
                assert parameter.grad is not None
                parameter -= 0.1 * parameter.grad
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []
    without = run(model, given.with_(camera_conditions=None, chunk_plucker=None))
    assert not torch.equal(run(model, given), without)


def test_no_camera_arguments_leave_no_gradient_in_the_camera_paths() -> None:
    model = fresh()
    model(*inputs(1).with_(camera_conditions=None, chunk_plucker=None).all()).square().mean().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None}
    camera = {name for name, _ in model.named_parameters() if "_cam" in name or "plucker" in name}
    assert without == camera


@pytest.mark.parametrize("truncate", [True, False])
def test_fractions_of_a_timestep_count_unless_they_are_truncated(truncate: bool) -> None:
    given = inputs(1)
    model = trained(replace(CONFIG, truncate_timesteps=truncate))
    whole = run(model, given.with_(timestep=torch.tensor([417.0])))
    assert torch.equal(run(model, given.with_(timestep=torch.tensor([417.75]))), whole) is truncate


def test_the_logit_scales_of_the_configuration_are_used() -> None:
    given, plain = inputs(1), trained()
    default = CONFIG.head_dim**-0.5
    same = trained(replace(CONFIG, softmax_scale_main=default, softmax_scale_cam=default))
    assert torch.equal(run(same, given), run(plain, given))
    for name in ("softmax_scale_main", "softmax_scale_cam"):
        other = trained(replace(CONFIG, **{name: 0.5 * default}))  # type: ignore[arg-type]
        assert not torch.allclose(run(other, given), run(plain, given), atol=1e-4), name


def test_rounding_cameras_like_the_release_is_a_choice() -> None:
    given = inputs(1)
    rounded = trained(replace(CONFIG, camera_math_dtype="bfloat16"))
    assert given.camera_conditions is not None
    before = given.with_(camera_conditions=given.camera_conditions.bfloat16().float())
    assert torch.equal(run(rounded, given), run(trained(), before))
    assert not torch.equal(run(rounded, given), run(trained(), given))


def test_bfloat16_stays_near_float32() -> None:
    model, given = trained(), inputs(2)
    expected = run(model, given)
    found = run(copy.deepcopy(model).bfloat16(), given.to(torch.bfloat16))
    assert found.dtype == torch.bfloat16
    error = (found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(error) < 0.03


def test_autocast_stays_near_float32() -> None:
    model, given = trained(), inputs(2)
    expected = run(model, given)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(model, given)
    error = (found.float() - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert float(error) < 0.03


def test_the_same_inputs_give_the_same_bits() -> None:
    given = inputs(2)
    assert torch.equal(run(trained(), given), run(trained(), given))


def test_conditions_prepared_once_serve_every_noise_level() -> None:
    model, given = trained(), inputs(2)
    with torch.no_grad():
        context = model.condition((3, 3, 5), given.y, given.mask, given.camera_conditions, given.chunk_plucker)
        for level in (0.0, 400.0, 1000.0):
            timestep = torch.full((2, 1, 3), level)
            expected = run(model, given.with_(timestep=timestep))
            assert torch.equal(model.denoise(given.x, timestep, context), expected)


def test_callers_can_run_blocks_their_own_way() -> None:
    model, given = trained(), inputs(1)
    seen: list[Block] = []

    def noted(block: Block, *arguments: object) -> Tensor:
        seen.append(block)
        return block(*arguments)

    assert torch.equal(model(*given.all(), run_block=noted), model(*given.all()))
    assert seen == list(model.blocks)


def test_time_runs_both_ways() -> None:
    """The model is not causal: the first frame sees the last one, and the last the first."""
    model, given = trained(), inputs(1)
    expected = run(model, given)
    for changed, looked_at in ((2, 0), (0, 2)):
        other = given.x.clone()
        other[:, :, changed] += 1
        found = run(model, given.with_(x=other))
        assert not torch.allclose(found[:, :, looked_at], expected[:, :, looked_at], atol=1e-4)


@pytest.mark.parametrize("paths", [(), ("ucpe",), ("plucker",), ("ucpe", "plucker")])
def test_a_camera_acts_through_open_paths_only(paths: tuple[str, ...]) -> None:
    model, given = trained(replace(CONFIG, camera_paths=paths)), inputs(1)
    neither = run(model, given.with_(camera_conditions=None, chunk_plucker=None))
    alone = {
        "ucpe": run(model, given.with_(chunk_plucker=None)),
        "plucker": run(model, given.with_(camera_conditions=None)),
    }
    for path, velocity in alone.items():
        assert torch.equal(velocity, neither) == (path not in paths)


@pytest.mark.parametrize(("scale", "larger"), [("head", 6), ("none", 6 * 16)])
def test_other_key_scales_make_the_write_matrix_larger(scale: str, larger: int) -> None:
    """By the number of tokens and of channels a head, 6 and 16, that they leave out."""
    u = torch.randn(1, 2, 6, CONFIG.width, generator=torch.Generator().manual_seed(0))
    context = trained().condition((2, 2, 3), torch.zeros(1, 1, 6, 12))

    def keys(config: TransformerConfig) -> Tensor:
        attention = trained(config).blocks[0].get_submodule("attn")
        assert isinstance(attention, FrameGatedDeltaNet)
        return attention.main_features(u, context)[1]

    expected = keys(CONFIG) * larger**0.5
    torch.testing.assert_close(keys(replace(CONFIG, key_scale=scale)), expected)


def test_folded_camera_maps_are_those_embedded_and_then_projected() -> None:
    torch.manual_seed(0)
    embedder, projection = PatchEmbed(48, 32), nn.Linear(32, 32)
    maps = torch.randn(2, 48, 3, 4, 5)
    torch.testing.assert_close(PluckerTokens.of(maps, embedder).through(projection), projection(embedder(maps)))
