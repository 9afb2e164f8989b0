"""Live worlds for people: an HTTP and WebSocket server and its page (docs/serving.md)."""
