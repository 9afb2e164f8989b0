"""What lets others walk in a world: the Gymnasium environment, which this import makes known to Gymnasium."""

from sana_wm.serving.env_registration import register_envs

register_envs()
