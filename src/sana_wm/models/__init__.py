"""Everything with weights: the transformer, its parts, the video codecs and the text encoders."""
