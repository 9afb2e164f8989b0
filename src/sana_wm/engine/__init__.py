"""From a request to a video: conditions, the pipeline, and the sinks that put its frames on disk."""
