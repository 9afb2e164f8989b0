"""Where training video with exact camera poses comes from."""
