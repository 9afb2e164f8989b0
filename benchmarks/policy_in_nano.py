"""Does what a policy learns inside a world model hold outside of it?

The task: a pink column stands somewhere in view; turn until it is in the middle. A small policy (PPO, two layers, of
stable-baselines3) learns it inside the model alone: it sees frames that the model makes and is rewarded by what these
frames show. Then it acts on held-out scenes, in the model and in the true renderer of the same scenes, beside itself
before training, random actions, and a policy trained as long in the true renderer.

Episodes are short and pictures small so that it runs on a CPU within minutes, and because the weights shipped today
were not taught to stream: `--model`, `--size`, `--steps`, `--latents` and `--chunks` are there for better ones.

Run: ``python benchmarks/policy_in_nano.py --out out/policy`` (needs the extra ``rl``)
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO
from tqdm import tqdm

from sana_wm import SanaWMPipeline
from sana_wm.models.config import StreamSettings
from sana_wm.serving.env import ModelWorlds, Seen, WorldEnv, Worlds
from sana_wm.serving.env_starts import ProceduralStarts, Start
from sana_wm.serving.env_truth import TrueWorlds
from sana_wm.worlds.procedural import SceneAndPath, draw
from sana_wm.worlds.procedural.materials import MATERIALS
from sana_wm.worlds.procedural.scene import COLUMNS, Col
from sana_wm.worlds.splits import split_seed

LANDMARK = COLUMNS.start
COLOUR = (0.95, 0.08, 0.75)
DISTANCE, RADIUS, HALF_HEIGHT = 6.0, 0.6, 2.2  # metres
LENS = 70.0  # degrees across
BEARING = 26.0  # degrees to either side, at most
LEAST = 0.01  # share of the picture that the column must take, to be there at all
KEYS = ("a", "none", "d")
VIEW = (6, 20)  # rows and columns of what the policy sees
TRIES = 50
SCENES = 256  # of each split

Act = Callable[[npt.NDArray[np.float32]], int]


def with_landmark(drawn: SceneAndPath, bearing: float) -> SceneAndPath:
    """The scene with a pink column at so many degrees to the right of where its first camera looks."""
    surfaces, c2w = drawn.surfaces.copy(), drawn.c2w[:1]
    heading = math.atan2(c2w[0, 0, 2], c2w[0, 2, 2]) + math.radians(bearing)
    x, z = c2w[0, 0, 3] + DISTANCE * math.sin(heading), c2w[0, 2, 3] + DISTANCE * math.cos(heading)
    row = surfaces[LANDMARK]
    row[: Col.KZ + 1] = (x, -HALF_HEIGHT, z, 1, 0, RADIUS, HALF_HEIGHT, RADIUS, 0, 0)
    MATERIALS["plaster"].write(row, COLOUR)
    caption = f"{drawn.caption} A tall pink column stands in view."
    return replace(drawn, surfaces=surfaces, c2w=c2w, lens=LENS, caption=caption)


def bearing_of(scene: SceneAndPath, c2w: npt.NDArray[np.float32]) -> float:
    """Degrees by which the column stands to the right of where a camera looks, at `c2w` (4,4) from the first one."""
    row = scene.surfaces[LANDMARK]
    point = np.linalg.inv(scene.c2w[0] @ c2w) @ (row[Col.X], row[Col.Y], row[Col.Z], 1.0)
    return math.degrees(math.atan2(point[0], point[2]))


def offset_of(frame: npt.NDArray[np.uint8]) -> float | None:
    """Where across the frame (H,W,3) pink is, from -1 (left) to 1; None if there is hardly any."""
    red, green, blue = frame.astype(np.float32).transpose(2, 0, 1) / 255
    pink = np.clip(np.minimum(red, blue) - green - 0.15, 0, 0.3) / 0.3
    if float(pink.mean()) < LEAST:
        return None
    return float((pink.sum(0) @ np.linspace(-1, 1, frame.shape[1])) / pink.sum())


def centred(seen: Seen) -> float:
    """The reward: 0 with the column in the middle of the last frame, -1 with it at the border or out of sight."""
    offset = offset_of(seen.frames[-1])
    return -1.0 if offset is None else -abs(offset)


@cache
def landmark_start(size: tuple[int, int], split: str, number: int) -> Start:
    """A scene of a split in whose first view pink is where the column is: not hidden, and nothing else as pink."""
    sides = np.random.default_rng(number)
    for attempt in range(TRIES):
        scene = draw(split_seed(split, TRIES * number + attempt), 25)
        scene = with_landmark(scene, sides.uniform(-BEARING, BEARING))
        start = ProceduralStarts(size, split, samples=2).picture_of(scene)
        offset = offset_of(np.asarray(start.image))
        wanted = math.tan(math.radians(bearing_of(scene, np.eye(4, dtype=np.float32))))
        if offset is not None and abs(offset - wanted / math.tan(math.radians(LENS / 2))) < 0.12:
            return start
    raise RuntimeError(f"scene {number} of split {split!r}: the column is hidden in {TRIES} scenes in a row")


class SmallView(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Frames as a few numbers from -1 to 1: means over the fields of a coarse grid."""

    def __init__(self, env: WorldEnv) -> None:
        super().__init__(env)
        self.world_env = env
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (3 * VIEW[0] * VIEW[1],), np.float32)

    @property
    def scene(self) -> SceneAndPath:
        """The scene of the episode."""
        start = self.world_env.start
        assert start is not None
        assert start.scene is not None
        return start.scene

    def observation(self, observation: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        frame = torch.from_numpy(observation).permute(2, 0, 1).float() / 127.5 - 1
        return F.adaptive_avg_pool2d(frame, VIEW).flatten().numpy()


def task(worlds: Worlds, split: str, args: argparse.Namespace) -> SmallView:
    """The task in one kind of world, on the scenes of one split."""
    env = WorldEnv(
        worlds,
        actions=KEYS,
        max_chunks=args.chunks,
        starts=lambda seed: landmark_start(worlds.size, split, seed % SCENES),
        reward=centred,
        rotation_speed_deg=args.turn,
    )
    return SmallView(env)


@dataclass(frozen=True)
class Score:
    """Of one episode: the reward of its last step, and degrees between the camera and the column at its end."""

    reward: float
    off_deg: float


def play(env: SmallView, act: Act, seeds: Sequence[int]) -> list[Score]:
    """Episodes on the scenes of `seeds`."""
    scores = []
    for seed in seeds:
        observation, _ = env.reset(seed=seed)
        over = False
        while not over:
            observation, reward, _, over, info = env.step(act(observation))
        scores.append(Score(float(reward), abs(bearing_of(env.scene, info["c2w"]))))
    return scores


def learner(env: SmallView, seed: int) -> PPO:
    """PPO that has not learned anything; steps depend little on each other, so it looks ahead a little only."""
    return PPO(
        "MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=10, learning_rate=1e-3, gamma=0.5, ent_coef=0.01,
        seed=seed, device="cpu",
    )  # fmt: skip


def trained(env: SmallView, args: argparse.Namespace, file: Path) -> PPO:
    """A policy that has learned; it is written to `file` on the way, and goes on from there another time (with a fresh
    optimiser)."""
    ppo = learner(env, args.seed)
    if file.exists():
        with safe_open(file, "pt") as opened:
            ppo.num_timesteps = int(opened.metadata()["chunks"])
        ppo.policy.load_state_dict(load_file(file))
    begin, before = time.perf_counter(), ppo.num_timesteps
    while ppo.num_timesteps < args.train_steps:
        ppo.learn(ppo.n_steps, reset_num_timesteps=False)
        save_file(ppo.policy.state_dict(), file, {"chunks": str(ppo.num_timesteps)})
    new, seconds = ppo.num_timesteps - before, time.perf_counter() - begin
    print(f"{file.stem}: {ppo.num_timesteps} chunks, {new} of them now, in {seconds:.0f} s", flush=True)
    return ppo


def greedy(ppo: PPO) -> Act:
    """The most likely action."""
    return lambda observation: int(ppo.predict(observation, deterministic=True)[0])


def mean_std(values: Sequence[float]) -> str:
    return f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}"


def main() -> None:
    """Parse the command line, train, test, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano", help="as --model of sana-wm generate")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 160), help="height and width that the model works at")
    parser.add_argument("--steps", type=float, nargs="+", default=(1000.0, 0.0), help="timesteps, the last one 0")
    parser.add_argument("--latents", type=int, default=1, help="latent frames of a chunk; each is 8 frames")
    parser.add_argument("--chunks", type=int, default=2, help="of an episode")
    parser.add_argument("--turn", type=float, default=1.2, help="degrees a frame")
    parser.add_argument("--train_steps", type=int, default=704, help="chunks to learn from")
    parser.add_argument("--scenes", type=int, default=24, help="held-out scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the policy")
    parser.add_argument(
        "--out", type=Path, required=True, help="directory for scores.json and the policies; those in it go on"
    )
    args = parser.parse_args()
    pipe = SanaWMPipeline.from_pretrained(args.model)
    pipe.settings = replace(pipe.settings, height=args.size[0], width=args.size[1])
    plan = pipe.settings.stream or StreamSettings()
    plan = replace(plan, timesteps=tuple(args.steps), chunks=replace(plan.chunks, size=args.latents))
    made = ModelWorlds(pipe, plan)
    true = TrueWorlds(made.size, made.frames_a_step, made.fps, samples=1, last_only=True)
    kinds: dict[str, Worlds] = {"model": made, "true renderer": true}

    rng = np.random.default_rng(args.seed)
    actors: dict[str, Act] = {
        "stands still": lambda observation: KEYS.index("none"),
        "random actions": lambda observation: int(rng.integers(len(KEYS))),
        "untrained": greedy(learner(task(true, "train", args), args.seed)),
    }
    args.out.mkdir(parents=True, exist_ok=True)
    for name, worlds in kinds.items():
        file = args.out / f"policy_{name.replace(' ', '_')}.safetensors"
        actors[f"trained in the {name}"] = greedy(trained(task(worlds, "train", args), args, file))

    scores: dict[str, dict[str, list[Score]]] = {}
    with tqdm(total=len(actors) * len(kinds), desc="tests") as bar:
        for actor, act in actors.items():
            scores[actor] = {}
            for kind, worlds in kinds.items():
                scores[actor][kind] = play(task(worlds, "test", args), act, range(args.scenes))
                bar.update()
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    numbers = {a: {k: [vars(score) for score in s] for k, s in kinds.items()} for a, kinds in scores.items()}
    content = {"settings": settings, "torch": torch.__version__, "scores": numbers}
    (args.out / "scores.json").write_text(json.dumps(content, indent=1), encoding="utf-8")

    print(f"\n{args.scenes} held-out scenes, mean ± std; torch {torch.__version__}\n")
    print("| policy | in the model: reward | degrees off | in the true renderer: reward | degrees off |")
    print("|---|---|---|---|---|")
    for actor, results in scores.items():
        cells = [
            mean_std([getattr(score, number) for score in results[kind]])
            for kind in kinds
            for number in ("reward", "off_deg")
        ]
        print(f"| {actor} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
