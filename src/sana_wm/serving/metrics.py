"""What a server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 8, 13, 20, 40)


class Metrics:
    """The counters of one server; every server has its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.connections = Gauge("sana_wm_connections", "Open sockets.", registry=own)
        self.sessions = Gauge("sana_wm_sessions", "Worlds that somebody walks in.", registry=own)
        self.waiting = Gauge("sana_wm_waiting", "Guests in the line.", registry=own)
        self.ended = Counter("sana_wm_sessions_ended", "Sessions that have ended.", ["reason"], registry=own)
        self.refused = Counter("sana_wm_refused", "Messages that were refused.", ["code"], registry=own)
        self.chunks = Counter("sana_wm_chunks", "Chunks made.", registry=own)
        self.cancelled = Counter("sana_wm_chunks_cancelled", "Chunks given up on the way.", registry=own)
        self.frames = Counter("sana_wm_frames", "Frames made.", registry=own)
        self.seconds = Histogram("sana_wm_chunk_seconds", "Time of a chunk.", ["stage"], buckets=_SECONDS, registry=own)

    def text(self) -> bytes:
        """In the format that Prometheus reads."""
        return generate_latest(self.registry)
