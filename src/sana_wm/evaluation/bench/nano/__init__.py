"""How the scenes of our own benchmark are made: templates of paths, and places in the worlds to run them in."""
