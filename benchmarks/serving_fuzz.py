"""Hostile requests and messages for as long as one likes: python benchmarks/serving_fuzz.py --minutes 3

Needs the extras `serve`, `test` and `fuzz`, and the repository: it is tests/serving/test_fuzz.py with other seeds, one
after the other. Half of the time goes to the WebSocket, half to what the server's description (OpenAPI) offers. The
model is a tiny one. Ends with what was sent, or with the first thing that went wrong and its seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.serving.live import live_pipe, running
from tests.serving.test_fuzz import LOOSE, ask_all, attack, quiet_log

from sana_wm.serving.limits import Limits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    ends, seed, messages, requests = time.monotonic() + 60 * given.minutes, given.seed, 0, 0
    limits = Limits(**LOOSE | {"picture_side": 4096})
    pipe, token = live_pipe(), "secret-token"
    with running(pipe, limits) as place, running(pipe, limits, token) as guarded, quiet_log() as wrong:
        while time.monotonic() < ends and not wrong:
            print(f"seed {seed}", flush=True)
            messages += attack(place, random.Random(seed), guests=10)
            requests += ask_all(guarded, seed, examples=10, token=token)
            place.wait(lambda: place.house.connections == 0, 5)
            seed += 1
        healthy = place.get("health")[0] == 200
    for record in wrong:
        print(record.getMessage(), record.exc_info)
    print(f"{messages} messages and {requests} requests, seeds {given.seed} to {seed - 1}; server well: {healthy}")
    if wrong or not healthy:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
