"""Golden files of chunking, schedules and samplers (streaming_tables, streaming_sigmas, streaming_samplers)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sana_wm import sampling
from sana_wm.geometry import chunks
from sana_wm.geometry.poses import snap_num_frames
from sana_wm.sampling.schedules import sigma_timesteps
from tests.parity_kinds.base import Check, Fixture, Kind

SCHEDULE_TOLERANCE = 1e-6
EULER_TOLERANCE = 2e-6
DPM_TOLERANCE = 1e-4  # the formula of the release loses digits in the first steps

TABLE_NAME = re.compile(r"out\.(starts|ar_bounds|visible|snap|chunk_start_steps)\.")
SIGMA_NAME = re.compile(
    r"out\.(?:(?P<grid>euler|dpm)\.shift(?P<shift>[\d.]+)\.n(?P<steps>\d+)|list\.(?P<list>[\d_.]+?))"
    r"\.(?P<what>sigmas|timesteps|model_timesteps|times)"
)
SAMPLER_NAME = re.compile(
    r"out\.(?P<sampler>flow_euler|flow_euler_ltx|flow_dpm-solver|chunk_flow_euler)\.(?P<guidance>cfg|nocfg)"
    r"(?:\.shift(?P<shift>[\d.]+?))?\.n(?P<steps>\d+)(?:\.k(?P<interval>[\d.]+?))?"
    r"\.(?P<what>final|latents_in|timesteps_in)"
)
SELF_FORCING = "out.self_forcing."
STAIRCASE_SHIFT = 9.8
GUIDANCE_SCALE = {"cfg": 5.0, "nocfg": 1.0}


# ---- tables


def table(name: str, expected: Tensor) -> Tensor:
    """Our numbers for one table; its arguments are in its name (and, for `snap`, in the first column)."""
    kind, *parts = name.removeprefix("out.").split(".")
    if kind == "starts":
        strategy, chunk_size, frames = parts
        return integers(chunks.chunk_starts(number("T", frames), number("c", chunk_size), strategy))
    if kind == "ar_bounds":
        block, frames = parts
        return integers(chunks.ar_bounds(number("T", frames), number("b", block)))
    if kind == "chunk_start_steps":
        count, steps = parts
        return integers(chunks.staircase_start_steps(number("n", count), number("steps", steps)))
    if kind == "snap":
        stride = number("stride", parts[0])
        rows = [
            [n, snap_num_frames(n, 10 * n + 10 * stride, stride), snap_num_frames(n, n, stride)]
            for n in expected[:, 0].tolist()
        ]
        return integers(rows)
    window, sink = number("window", parts[0]), bool(number("sink", parts[1]))
    visible = torch.zeros_like(expected)
    for chunk in range(len(expected)):
        visible[chunk, [*chunks.visible_chunks(chunk, window, sink), chunk]] = 1
    return visible


def number(prefix: str, text: str) -> int:
    return int(text.removeprefix(prefix))


def integers(values: object) -> Tensor:
    return torch.as_tensor(values, dtype=torch.int64)


def table_checks(fixture: Fixture) -> Iterator[Check]:
    for name in fixture.outputs():
        if TABLE_NAME.match(name):
            expected = fixture.tensors[name]
            yield Check(name, table(name, expected), expected, 0.0)


# ---- schedules


def sigma_checks(fixture: Fixture) -> Iterator[Check]:
    for name in fixture.outputs():
        match = SIGMA_NAME.fullmatch(name)
        if match is None:
            continue
        expected = fixture.tensors[name]
        if match["list"]:
            sigmas = sampling.list_sigmas([float(t) for t in match["list"].split("_")])
        else:
            grid = sampling.euler_sigmas if match["grid"] == "euler" else sampling.dpm_times
            sigmas = grid(int(match["steps"]), float(match["shift"]))
        if match["what"] == "model_timesteps":
            yield Check(name, sampling.model_timesteps(sigmas), expected, 0.0)
            continue
        actual = sigma_timesteps(sigmas[:-1]) if match["what"] == "timesteps" else sigmas.float()
        yield Check(name, actual, expected, SCHEDULE_TOLERANCE, relative=True)


# ---- samplers, on the toy model of `config.toy`


class Trace(NamedTuple):
    """What a sampler returned, and what the model received in each call (first item of the batch)."""

    final: Tensor
    latents_in: list[Tensor]
    timesteps_in: list[Tensor]


def toy_velocity(conditions: Tensor, latents_in: list[Tensor], timesteps_in: list[Tensor]) -> sampling.VelocityFn:
    """v = (0.9 + 0.1 e) x + 0.5 tau + 0.2 e + 0.1 mean(x) over the frames, rows and columns handed in."""
    e = conditions.flatten().view(-1, 1, 1, 1, 1)

    def velocity(x: Tensor, timesteps: Tensor) -> Tensor:
        latents_in.append(x[0])
        timesteps_in.append(timesteps[0, 0])
        tau = timesteps[..., None, None] / 1000.0
        return (0.9 + 0.1 * e) * x + 0.5 * tau + 0.2 * e + 0.1 * x.mean(dim=(2, 3, 4), keepdim=True)

    return velocity


def run_sampler(fixture: Fixture, match: re.Match[str]) -> Trace:
    z, cond, uncond = (fixture.tensors[f"in.{name}"] for name in ("z", "cond", "uncond"))
    trace = Trace(z, [], [])
    scale = GUIDANCE_SCALE[match["guidance"]]
    conditions = torch.cat([uncond, cond]) if sampling.needs_uncond(scale) else cond
    velocity = sampling.guided(toy_velocity(conditions, trace.latents_in, trace.timesteps_in), scale)

    sampler, steps = match["sampler"], int(match["steps"])
    shift = float(match["shift"]) if match["shift"] else STAIRCASE_SHIFT
    clean = torch.zeros(z.shape[2], dtype=torch.bool)
    clean[0] = sampler in ("flow_euler_ltx", "chunk_flow_euler")
    if sampler == "flow_dpm-solver":
        final = sampling.flow_dpm_solver(velocity, z, sampling.dpm_times(steps, shift), clean_frames=clean)
    elif sampler == "chunk_flow_euler":
        interval = float(Fraction(match["interval"]).limit_denominator(64))  # 0.3333 stands for 1/3
        final = sampling.chunk_flow_euler(
            velocity,
            z,
            sampling.euler_sigmas(steps, shift),
            chunk_starts=fixture.config["chunk_starts"],
            clean_frames=clean,
            interval=interval,
        )
    else:
        final = sampling.flow_euler_ltx(velocity, z, sampling.euler_sigmas(steps, shift), clean_frames=clean)
    return trace._replace(final=final)


def sampler_checks(fixture: Fixture) -> Iterator[Check]:
    traces: dict[str, Trace] = {}
    for name in fixture.outputs():
        match = SAMPLER_NAME.fullmatch(name)
        if match is None:
            continue
        case = name.rpartition(".")[0]
        if case not in traces:
            traces[case] = run_sampler(fixture, match)
        trace, expected = traces[case], fixture.tensors[name]
        if match["what"] == "final":
            actual = trace.final
        elif match["what"] == "latents_in":
            actual = torch.stack(trace.latents_in)
        else:  # -1 for the frames that are not in the call
            frames = trace.final.shape[2]
            padded = [torch.nn.functional.pad(t, (0, frames - len(t)), value=-1.0) for t in trace.timesteps_in]
            actual = torch.stack(padded)
            if expected.ndim == 1:  # one number a call, the same for every frame
                expected = expected[:, None].expand(-1, frames)
        tolerance = DPM_TOLERANCE if match["sampler"] == "flow_dpm-solver" else EULER_TOLERANCE
        yield Check(name, actual, expected, tolerance, relative=True)


# ---- the chunk sampler, on the toy model of `config.toy_stream`


class ToyStream:
    """v = 0.9 x + 0.5 tau + 0.3 mean(cached tokens) + 0.2 S + 0.005 frame + 0.1 camera; S <- 0.7 S + mean(x)."""

    def __init__(self, camera: Tensor, bounds: list[int], window: int, sink: bool, channels: int) -> None:
        self.camera, self.bounds, self.window, self.sink = camera, bounds, window, sink
        self.tokens: list[Tensor] = []
        self.state = torch.zeros(1, channels)
        self.cached_tokens: list[int] = []

    def velocity(self, latents: Tensor, timesteps: Tensor) -> Tensor:
        first, end = self.bounds[len(self.tokens)], self.bounds[len(self.tokens) + 1]
        seen = [self.tokens[i] for i in chunks.visible_chunks(len(self.tokens), self.window, self.sink)]
        self.cached_tokens.append(sum(x.shape[1] for x in seen))
        past = torch.cat(seen, 1).mean(1) if seen else torch.zeros_like(self.state)
        mean = (0.3 * past + 0.2 * self.state)[:, :, None, None, None]
        frame = torch.arange(first, end, dtype=torch.float32) * 0.005
        each = (frame + 0.1 * self.camera[:, first:end, 0])[:, None, :, None, None]
        return 0.9 * latents + 0.5 * timesteps[..., None, None] / 1000.0 + mean + each

    def remember(self, latents: Tensor) -> None:
        self.velocity(latents, torch.zeros(1, 1, latents.shape[2]))  # the call that the release writes its caches with
        self.tokens.append(latents.flatten(2).transpose(1, 2))
        self.state = 0.7 * self.state + self.tokens[-1].mean(1)


def self_forcing_checks(fixture: Fixture) -> Iterator[Check]:
    for name in fixture.outputs():
        if not name.startswith(SELF_FORCING) or not name.endswith(".final"):
            continue
        case = name.rpartition(".")[0]
        frames, window, sink, schedule = re.split(r"\.", case.removeprefix(SELF_FORCING), maxsplit=3)
        z, camera = (fixture.tensors[f"in.stream.{frames}.{part}"] for part in ("z", "camera"))
        if schedule == "list4":
            sigmas = sampling.list_sigmas(fixture.config["denoising_step_list"])
        else:
            shift, steps = schedule.removeprefix("shift").split(".n")
            sigmas = sampling.euler_sigmas(int(steps), float(shift))
        bounds = chunks.ar_bounds(z.shape[2], 3)
        toy = ToyStream(camera, bounds, number("window", window), bool(number("sink", sink)), z.shape[1])
        made = []
        for first, end in pairwise(bounds):
            clean = torch.arange(first, end) == 0
            made.append(sampling.next_chunk(toy, z[:, :, first:end], sigmas, clean_frames=clean))
        yield Check(name, torch.cat(made, 2), fixture.tensors[name], EULER_TOLERANCE, relative=True)
        counted = f"{case}.cached_tokens_per_call"
        yield Check(counted, integers(toy.cached_tokens), fixture.tensors[counted], 0.0)


def any_output(matches: Callable[[str], object]) -> Callable[[Fixture], bool]:
    return lambda fixture: any(matches(name) for name in fixture.outputs())


KINDS = [
    Kind("streaming_tables", any_output(TABLE_NAME.match), table_checks),
    Kind("streaming_sigmas", any_output(SIGMA_NAME.match), sigma_checks),
    Kind("streaming_samplers", any_output(SAMPLER_NAME.match), sampler_checks),
    Kind("streaming_self_forcing", any_output(lambda name: name.startswith(SELF_FORCING)), self_forcing_checks),
]
