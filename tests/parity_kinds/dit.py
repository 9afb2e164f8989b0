"""Golden files of the transformer (kinds `dit_*`): units, whole model, gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sana_wm.geometry.rays import ray_from_world
from sana_wm.models.config import TransformerConfig
from sana_wm.models.context import BlockContext
from sana_wm.models.feed_forward import FeedForward
from sana_wm.models.frame_gdn import FrameGatedDeltaNet
from sana_wm.models.softmax_attention import SoftmaxAttention
from sana_wm.models.transformer import SanaWMTransformer
from sana_wm.ops.gated_delta import DENOMINATOR_EPS, bidirectional_scan, write_terms
from sana_wm.ops.norm import rms_norm
from sana_wm.ops.rotary import axis_angles, axis_pairs, rotary_table, rotate_pairs
from sana_wm.ops.temporal_conv import symmetric_short_conv
from sana_wm.ops.ucpe import RayFrames
from tests.parity_kinds.base import Check, Fixture, Kind, load_fixture
from tests.parity_kinds.camera import release_absmap

IGNORED = ("recall_gate", "raymap_embedder.", "pos_embed")
SOFTMAX_IGNORED = ("A_log", "dt_bias", "beta_proj.", "gate_proj.")


def padded_scale(head_dim: int) -> float:
    """Camera logit scale of the release: the width it pads a head to before attention (spec 10, section 9)."""
    if head_dim in (32, 64, 128, 256):
        return head_dim**-0.5
    return (128 if head_dim < 128 else 256) ** -0.5


def load(module: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Load strictly, leaving out what the release holds but never reads."""
    own = module.state_dict().keys()
    kept = {}
    for name, tensor in weights.items():
        unread = any(part in name for part in IGNORED) or any(part in name for part in SOFTMAX_IGNORED)
        if name in own or not unread:
            kept[name] = tensor
    module.load_state_dict(kept, strict=True)


def unit_config(c: dict[str, Any], weights: dict[str, Tensor]) -> TransformerConfig:
    conv = weights.get("conv_k.weight")
    return TransformerConfig(
        depth=1,
        width=c["d"],
        num_heads=c["heads"],
        conv_kernel=4 if conv is None else conv.shape[-1],
        softmax_scale_main=c.get("main_scale"),
        softmax_scale_cam=c.get("cam_scale", padded_scale(c["d"] // c["heads"])),
    )


def unit_context(c: dict[str, Any], camera: Tensor | None, head_dim: int) -> BlockContext:
    size = (c["T"], c["H"], c["W"])
    frames = torch.arange(c["T"])
    cos, sin = rotary_table(frames, c["H"], c["W"], head_dim)
    rays = None
    if camera is not None:
        table = rotary_table(frames, c["H"], c["W"], head_dim, camera=True)
        rays = RayFrames(*ray_from_world(camera, c["H"], c["W"]), *table)
    return BlockContext(size, cos, sin, rays, torch.empty(0), None, None)


def frames_of(x: Tensor, c: dict[str, Any]) -> Tensor:
    return x.unflatten(1, (c["T"], c["H"] * c["W"]))


def gdn(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    weights = fixture.group("weights.")
    attn = FrameGatedDeltaNet(unit_config(c, weights))
    load(attn, weights)
    head_dim = c["d"] // c["heads"]
    camera = unit_context(c, t["in.camera_conditions"], head_dim)
    plain = unit_context(c, None, head_dim)
    assert camera.rays is not None
    u = frames_of(t["in.x"], c)
    beta, decay = attn.gates(u)
    features = attn.camera_features(u, camera, camera.rays)
    camera_read = attn.branches(u, camera).camera
    assert camera_read is not None
    cam_beta = attn.discounted_beta(beta, features.inflation)
    by_frame = [x.unflatten(1, (c["T"], -1)).permute(0, 3, 1, 2, 4) for x in features[:3]]
    states = bidirectional_scan(*write_terms(by_frame[1], by_frame[2], cam_beta), decay)
    scan = (by_frame[0] @ states.both()).flatten(2, 3)
    actual = {
        "beta": beta,
        "decay": decay,
        "k_after_conv": symmetric_short_conv(attn.qkv(u).chunk(3, -1)[1], attn.conv_k.weight).flatten(1, 2),
        "main_raw": attn.branches(u, plain).main.flatten(1, 2),
        "main_only": attn(u, plain)[0].flatten(1, 2),
        "cam_q": features.q.permute(0, 2, 3, 1),
        "cam_k": features.k.permute(0, 2, 3, 1),
        "cam_v": features.v.permute(0, 2, 3, 1),
        "cam_inflation_sq": features.inflation.transpose(1, 2),
        "cam_beta": cam_beta,
        "cam_scan": scan.transpose(-1, -2),
        "cam_raw": camera_read.flatten(1, 2),
        "full": attn(u, camera)[0].flatten(1, 2),
    }
    for name, value in actual.items():
        camera_part = name.startswith("cam_") or name == "full"
        yield Check(f"out.{name}", value, t[f"out.{name}"], 3e-5 if camera_part else 1e-5)


def gdn_core(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    heads, head_dim, frames, tokens = c["heads"], c["head_dim"], c["T"], c["H"] * c["W"]
    q, k, v = t["in.qkv"].flatten(3).unbind(2)
    scale = (head_dim * tokens) ** -0.5
    q = F.relu(rms_norm(q, t["in.q_norm_weight"], c["norm_eps"])).unflatten(-1, (heads, head_dim))
    k = (F.relu(rms_norm(k, t["in.k_norm_weight"], c["norm_eps"])) * scale).unflatten(-1, (heads, head_dim))
    v = v.unflatten(-1, (heads, head_dim))
    cos, sin = (x[:, None] for x in rotary_table(torch.arange(frames), c["H"], c["W"], head_dim))

    def split(x: Tensor) -> Tensor:
        return x.unflatten(1, (frames, tokens)).permute(0, 3, 1, 2, 4)

    q_rot, k_rot, q, k, v = (split(x) for x in (rotate_pairs(q, cos, sin), rotate_pairs(k, cos, sin), q, k, v))
    beta, decay = t["in.beta"], t["in.decay"]
    kv = bidirectional_scan(*write_terms(k_rot, v, beta), decay)
    z = bidirectional_scan(*write_terms(k, torch.ones_like(k[..., :1]), beta), decay)
    num = [(q_rot @ s).permute(0, 2, 3, 1, 4).flatten(1, 2) for s in kv]
    den = [(q @ s).flatten(2) for s in z]
    total = (den[0] + den[1] + DENOMINATOR_EPS).transpose(1, 2)[..., None]
    actual = {
        "num_fwd": num[0],
        "num_bwd": num[1],
        "den_fwd": den[0],
        "den_bwd": den[1],
        "out": (num[0] + num[1]) / total,
        "final_state_kv": kv.forward[:, :, -1],
        "final_state_z": z.forward[:, :, -1, :, 0],
    }
    for name, value in actual.items():
        yield Check(f"out.{name}", value, t[f"out.{name}"], 3e-6 if name == "out" else 1e-5)


def softmax(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    weights = fixture.group("weights.")
    attn = SoftmaxAttention(unit_config(c, weights))
    load(attn, weights)
    context = unit_context(c, t["in.camera_conditions"], c["d"] // c["heads"])
    u = frames_of(t["in.x"], c)
    read = attn.branches(u, context)
    main, camera = read.main, read.camera
    assert camera is not None
    actual = {
        "main_raw": main,
        "cam_raw": camera,
        "full": attn(u, context)[0],
    }
    # The bf16 outputs are the release's rounding of q, k, v; we attend in float32, within their looser tolerance.
    for name, value in actual.items():
        yield Check(f"out.{name}_fp32", value.flatten(1, 2), t[f"out.{name}_fp32"], 1e-5)
        yield Check(f"out.{name}_bf16", value.flatten(1, 2), t[f"out.{name}_bf16"], 1e-2)


def ffn(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    mlp = FeedForward(TransformerConfig(depth=1, width=c["d"], num_heads=c["d"] // 8, mlp_ratio=c["mlp_ratio"]))
    load(mlp, fixture.group("weights."))
    x = frames_of(t["in.x"], c)
    images = mlp.spatial(x, c["H"], c["W"]).flatten(0, 1).transpose(1, 2).unflatten(-1, (c["H"], c["W"]))
    yield Check("out.spatial", images, t["out.spatial"], 3e-6)
    yield Check("out.y", mlp(x, c["H"], c["W"]).flatten(1, 2), t["out.y"], 3e-6)


def rope(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    frames = torch.arange(c["T"])
    for name, camera in (("table", False), ("table_cam", True)):
        pair = rotary_table(frames, c["H"], c["W"], c["head_dim"], camera=camera)
        yield Check(f"out.{name}", torch.stack(pair, -1), t[f"out.{name}"], 1e-6)
    angles = torch.cat([axis_angles(t["in.probe_positions"], n) for n in axis_pairs(c["head_dim"])], dim=-1)
    yield Check("out.probe_rows", torch.stack([angles.cos(), angles.sin()], -1), t["out.probe_rows"], 1e-6)


def ucpe(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, fixture.tensors
    context = unit_context(c, t["in.camera_conditions"], c["head_dim"])
    rays = context.rays
    assert rays is not None
    feats = t["in.feats"].transpose(1, 2)
    actual = {
        "P": rays.ray_from_world,
        "P_inv": rays.world_from_ray,
        "q": rays.query.of(feats).transpose(1, 2),
        "kv": rays.key_value.of(feats).transpose(1, 2),
        "o": rays.output.of(feats).transpose(1, 2),
    }
    for name, value in actual.items():
        yield Check(f"out.{name}", value, t[f"out.{name}"], 2e-6, relative=True)
    if "out.absmap" in t:
        yield Check("out.absmap", release_absmap(t["in.camera_conditions"], c["H"], c["W"]), t["out.absmap"], 1e-5)


def model_of(fixture: Fixture) -> SanaWMTransformer:
    c = fixture.config
    weights = fixture.group("weights.")
    config = TransformerConfig(
        depth=c["depth"],
        width=c["hidden_size"],
        num_heads=c["num_heads"],
        in_channels=c["in_channels"],
        caption_channels=c["caption_channels"],
        caption_tokens=c["model_max_length"],
        softmax_every_n=c["softmax_every_n"],
        mlp_ratio=c["mlp_ratio"],
        temporal_stride=c["chunk_plucker_channels"] // 6,
        softmax_scale_main=c.get("main_scale"),
        softmax_scale_cam=c.get("cam_scale", padded_scale(c["hidden_size"] // c["num_heads"])),
    )
    model = SanaWMTransformer(config)
    load(model, weights)
    return model



def model(fixture: Fixture) -> Iterator[Check]:
    t = fixture.tensors
    net = model_of(fixture)
    text = {"y": t["in.y"], "mask": t["in.mask"]}
    cameras = {"camera_conditions": t["in.camera_conditions"], "chunk_plucker": t["in.chunk_plucker"]}
    for name in ("scalar", "frame"):
        out = net(t["in.x"], t[f"in.timestep_{name}"], **text, **cameras)
        yield Check(f"out.{name}_t_fp32", out, t[f"out.{name}_t_fp32"], 1e-5)
        yield Check(f"out.{name}_t_bf16", out, t[f"out.{name}_t_bf16"], 5e-3)
    context = net.condition(tuple(t["in.x"].shape[2:]), **text, **cameras)
    tokens = net.x_embedder(t["in.x"])
    _, modulation = net.embed_timestep(t["in.timestep_frame"])
    for i, block in enumerate(net.blocks):
        tokens = block(tokens, modulation, context)
        if f"out.block{i}_frame_t_fp32" in t:
            yield Check(f"out.block{i}_frame_t_fp32", tokens.flatten(1, 2), t[f"out.block{i}_frame_t_fp32"], 1e-5)
    out = net(t["in.x"], t["in.timestep_frame"], **text)
    yield Check("out.frame_t_nocam_fp32", out, t["out.frame_t_nocam_fp32"], 1e-5)


def gradients(fixture: Fixture) -> Iterator[Check]:
    t = fixture.tensors
    base = load_fixture(fixture.directory / fixture.config["base"])
    net = model_of(base)
    b = base.tensors
    x = b["in.x"].clone().requires_grad_()
    with torch.enable_grad():
        out = net(x, b["in.timestep_frame"], b["in.y"], b["in.mask"], b["in.camera_conditions"], b["in.chunk_plucker"])
        loss = 100 * (out * t["in.loss_weight"]).mean()
        loss.backward()
    yield Check("out.loss", loss.detach().reshape(t["out.loss"].shape), t["out.loss"], 1e-4, relative=True)
    assert x.grad is not None
    yield Check("out.grad_x", x.grad, t["out.grad_x"], 5e-4, relative=True)
    for name, parameter in net.named_parameters():
        expected = t.get(f"out.grad.{name}")
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        if expected is None:  # a gradient the release reports as zero must be zero here
            yield Check(f"grad.{name}", grad, torch.zeros_like(grad), 0.0)
        else:
            yield Check(f"out.grad.{name}", grad, expected, 5e-4, relative=True)


KINDS = [
    Kind("dit_gdn", lambda f: f.has("in.x", "out.cam_scan", "out.main_raw"), gdn),
    Kind("dit_gdn_core", lambda f: f.has("in.qkv", "in.q_norm_weight", "out.num_fwd"), gdn_core),
    Kind("dit_softmax", lambda f: f.has("in.x", "out.main_raw_fp32"), softmax),
    Kind("dit_ffn", lambda f: f.has("in.x", "out.spatial"), ffn),
    Kind("dit_rope", lambda f: f.has("in.probe_positions", "out.table"), rope),
    Kind("dit_ucpe", lambda f: f.has("in.feats", "out.P"), ucpe),
    Kind("dit_model", lambda f: f.has("in.chunk_plucker", "out.frame_t_fp32"), model),
    Kind("dit_model_grad", lambda f: f.has("in.loss_weight", "out.grad_x"), gradients),
]
