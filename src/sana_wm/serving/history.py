"""Everywhere a live world has been: a tree of chunks, of which the latest states and videos are kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from sana_wm.engine.growing_mp4 import Fragment
from sana_wm.engine.world import World
from sana_wm.serving.limits import Limits
from sana_wm.serving.messages import ProtocolError
from sana_wm.serving.walk import Step


@dataclass
class Node:
    """The world after a chunk. `world` is None once it is let go of; `fragment`, the video of the chunk, comes a moment
    after it, and is let go of much later."""

    number: int
    parent: int | None
    chunk: int
    step: Step | None
    world: World | None
    fragment: Fragment | None = None


class PathTree:
    """Nodes by number; 0 is the picture. `current` is where the world is now."""

    def __init__(self, world: World, limits: Limits) -> None:
        self._limits = limits
        self._nodes = {0: Node(0, None, 0, None, world)}
        self.current = self._nodes[0]
        self._filmed: deque[Node] = deque()
        self._video_bytes = 0

    def __len__(self) -> int:
        """Chunks made on all branches."""
        return len(self._nodes) - 1

    def add(self, world: World, step: Step) -> Node:
        """The world after another chunk, which becomes the current one; too old states are let go of."""
        number = len(self._nodes)
        self.current = self._nodes[number] = Node(number, self.current.number, world.chunk, step, world)
        kept = [node for node in self._nodes.values() if node.world is not None and node.number not in (0, number)]
        size = world.state.nbytes
        most = min(self._limits.kept_chunks, max(0, self._limits.kept_bytes // max(1, size) - 2))
        for node in kept[: max(0, len(kept) - most)]:
            node.world = None  # not closed: a step may be running from it
        return self.current

    def film(self, node: Node, fragment: Fragment) -> None:
        """Keep the video of a chunk; the oldest ones are let go of."""
        node.fragment = fragment
        self._filmed.append(node)
        self._video_bytes += len(fragment.content)
        while self._video_bytes > self._limits.video_bytes and len(self._filmed) > 1:
            old = self._filmed.popleft()
            self._video_bytes -= 0 if old.fragment is None else len(old.fragment.content)
            old.fragment = None

    def go(self, number: int) -> Node:
        """Make another node the current one.

        Raises:
            ProtocolError: there is no such node, or its state is gone.
        """
        node = self.node(number)
        if node.world is None:
            kept = ", ".join(map(str, self.kept()))
            raise ProtocolError("gone", f"the state after node {number} is no longer kept; these are: {kept}.")
        self.current = node
        return node

    def node(self, number: int) -> Node:
        """A node by its number.

        Raises:
            ProtocolError: there is none.
        """
        if number not in self._nodes:
            raise ProtocolError("no_such_node", f"node is {number}; there are nodes 0 to {len(self._nodes) - 1}.")
        return self._nodes[number]

    def kept(self) -> list[int]:
        """Nodes one can go back to."""
        return [node.number for node in self._nodes.values() if node.world is not None]

    def path(self, number: int) -> list[Node]:
        """The nodes that lead to one, without the picture."""
        return list(self._up(self.node(number)))[::-1]

    def _up(self, node: Node) -> Iterator[Node]:
        while node.parent is not None:
            yield node
            node = self._nodes[node.parent]

    def clear(self) -> None:
        """Let go of everything."""
        for node in self._nodes.values():
            node.world = node.fragment = None
