"""The command `sana-wm`: one small file a verb."""
