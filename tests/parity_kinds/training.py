"""Golden numbers of training: the gated delta rule with its gradients (spec 50, section 6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from sana_wm.ops.features import norm_features, rotate_heads
from sana_wm.ops.gated_delta import States, bidirectional_scan, gated_delta_plain, write_terms
from tests.parity_kinds.base import Check, Fixture, Kind

VALUE, GRADIENT = 1e-5, 5e-5
NAMES = {"q": "q", "k": "k", "q_rot": "q_rotated", "k_rot": "k_rotated", "v": "v", "beta": "beta", "decay": "decay"}
"""Names of the golden file, and of our arguments."""


def kept_frames(mode: str, chunk_index: list[int], batch: int, frames: int) -> Tensor:
    """(B,T): what a mode lets an earlier frame see."""
    keep = torch.ones(batch, frames)
    if mode == "causal":
        keep.zero_()
    if mode == "chunk_causal":
        keep[:, [start for start in chunk_index if start > 0]] = 0
    return keep


def scan_checks(fixture: Fixture) -> Iterator[Check]:
    c, t = fixture.config, {name: x.float() for name, x in fixture.tensors.items()}
    for mode in ("causal", "bidirectional", "chunk_causal"):
        keep = kept_frames(mode, c["chunk_index"], c["B"], c["T"])
        leaves = _leaves(t, NAMES)
        with torch.enable_grad():
            out, _ = gated_delta_plain(**leaves, keep=keep)  # type: ignore[arg-type]
            grads = _grads([out], [t["in.dout"]], leaves)
        kv, z = _states(leaves, keep)
        read = {
            "num": leaves["q_rotated"] @ kv.both(),
            "den": (leaves["q"] @ z.both()).squeeze(-1),
            "out": out,
        }
        yield from _compare(f"out.{mode}.", read, grads, t)
        if mode == "bidirectional":
            yield Check("out.state_fwd_kv", kv.forward.mT, t["out.state_fwd_kv"], VALUE, relative=True)
            yield Check("out.state_rev_kv", kv.backward.mT, t["out.state_rev_kv"], VALUE, relative=True)
            yield Check("out.state_fwd_z", z.forward.squeeze(-1), t["out.state_fwd_z"], VALUE, relative=True)
            yield Check("out.state_rev_z", z.backward.squeeze(-1), t["out.state_rev_z"], VALUE, relative=True)
    yield from _camera(t)
    yield from _stateful(t, c["B"], c["T"])


def _camera(t: Mapping[str, Tensor]) -> Iterator[Check]:
    names = {name: ours for name, ours in NAMES.items() if name not in ("q", "k")}
    leaves = _leaves(t, names)
    with torch.enable_grad():
        out, _ = gated_delta_plain(**leaves)  # type: ignore[arg-type]
        grads = _grads([out], [t["in.dout"]], leaves)
    states = bidirectional_scan(*write_terms(leaves["k_rotated"], leaves["v"], leaves["beta"]), leaves["decay"])
    read = {"num_fwd": leaves["q_rotated"] @ states.forward, "num_rev": leaves["q_rotated"] @ states.backward}
    yield from _compare("out.camera.", read, grads, t)


def _stateful(t: Mapping[str, Tensor], batch: int, frames: int) -> Iterator[Check]:
    leaves = _leaves(t, NAMES)
    state = t["in.stateful.S_init"].mT.clone().requires_grad_()
    z_start = t["in.stateful.z_init"][..., None].clone().requires_grad_()
    with torch.enable_grad():
        kv, z = _states(leaves, torch.zeros(batch, frames), state, z_start)
        num, den = leaves["q_rotated"] @ kv.forward, (leaves["q"] @ z.forward).squeeze(-1)
        ends = kv.forward[:, :, -1].mT, z.forward[:, :, -1].squeeze(-1)
        upstream = [t[f"in.stateful.{name}"] for name in ("dnum", "dden", "dS_final", "dz_final")]
        starts = {"S_init": state, "z_init": z_start}
        grads = _grads([num, den, *ends], upstream, leaves | starts)
    grads["dS_init"], grads["dz_init"] = grads["dS_init"].mT, grads["dz_init"].squeeze(-1)
    read = {"num": num, "den": den, "S_final": ends[0], "z_final": ends[1]}
    yield from _compare("out.stateful.", read, grads, t)


def _leaves(t: Mapping[str, Tensor], names: Mapping[str, str]) -> dict[str, Tensor]:
    return {ours: t[f"in.{name}"].clone().requires_grad_() for name, ours in names.items()}


def _states(
    leaves: Mapping[str, Tensor], keep: Tensor, state: Tensor | None = None, z: Tensor | None = None
) -> tuple[States, States]:
    k, beta, decay = leaves["k"], leaves["beta"], leaves["decay"]
    kv = bidirectional_scan(*write_terms(leaves["k_rotated"], leaves["v"], beta), decay, keep, state)
    return kv, bidirectional_scan(*write_terms(k, torch.ones_like(k[..., :1]), beta), decay, keep, z)


def _grads(results: list[Tensor], upstream: list[Tensor], leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradients by the golden file's names."""
    theirs = {ours: name for name, ours in NAMES.items()}
    found = torch.autograd.grad(results, list(leaves.values()), upstream, allow_unused=True)
    return {f"d{theirs.get(name, name)}": g for name, g in zip(leaves, found, strict=True) if g is not None}


def _compare(
    prefix: str, values: Mapping[str, Tensor], grads: Mapping[str, Tensor], t: Mapping[str, Tensor]
) -> Iterator[Check]:
    for name, value in values.items():
        yield Check(prefix + name, value, t[prefix + name], VALUE, relative=True)
    for name, value in grads.items():
        yield Check(prefix + name, value, t[prefix + name], GRADIENT, relative=True)


def operator_checks(fixture: Fixture) -> Iterator[Check]:
    """From raw projections: norm, ReLU, scale, rotation, the rule."""
    c, t = fixture.config, fixture.tensors
    B, h, T, S, D = (c[name] for name in "BHTSD")
    cos, sin = t["in.rope_angle"].double().cos().float(), t["in.rope_angle"].double().sin().float()
    for mode in ("bidirectional", "chunk_causal"):
        names = ("qkv", "beta", "decay", "q_norm_weight", "k_norm_weight")
        leaves = {name: t[f"in.{name}"].float().clone().requires_grad_() for name in names}
        with torch.enable_grad():
            q, k, v = leaves["qkv"].flatten(3).unbind(2)
            q = norm_features(q.unflatten(1, (T, S)), leaves["q_norm_weight"], c["norm_eps"], relu=True)
            k = norm_features(
                k.unflatten(1, (T, S)), leaves["k_norm_weight"], c["norm_eps"], relu=True, scale=c["k_scale"]
            )
            q, k, v = (x.reshape(B, T * S, h, D) for x in (q, k, v))
            turned = (rotate_heads(x, cos, sin) for x in (q, k))
            given = (x.unflatten(1, (T, S)).permute(0, 3, 1, 2, 4) for x in (*turned, v, q, k))
            q_rotated, k_rotated, v, q, k = given
            keep = kept_frames(mode, c["chunk_index"], B, T)
            out, _ = gated_delta_plain(q_rotated, k_rotated, v, leaves["beta"], leaves["decay"], q=q, k=k, keep=keep)
            out = out.permute(0, 2, 3, 1, 4).flatten(1, 2)
            found = torch.autograd.grad(out, list(leaves.values()), t["in.dout"])
        yield Check(f"out.{mode}.out", out, t[f"out.{mode}.out"], VALUE, relative=True)
        for name, grad in zip(leaves, found, strict=True):
            yield Check(f"out.{mode}.d{name}", grad, t[f"out.{mode}.d{name}"], GRADIENT, relative=True)


KINDS = [
    Kind("training_gdn_scan", lambda f: f.has("in.q_rot", "in.k_rot", "in.dout", "out.causal.num"), scan_checks),
    Kind("training_gdn_op", lambda f: f.has("in.qkv", "in.rope_angle", "in.dout"), operator_checks),
]
