"""Who walks in worlds: people, over HTTP and a WebSocket (docs/serving.md), and agents, through Gymnasium
(docs/gymnasium.md), to which importing this makes the environment known."""

from sana_wm.serving.env_registration import register_envs

register_envs()
