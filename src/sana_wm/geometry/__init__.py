"""Camera mathematics without weights: keys, poses, intrinsics, rays (spec 30). Everything here is float32 or better."""
