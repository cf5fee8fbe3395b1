"""`elicense demo`: the main job, end to end, in real processes on one machine."""
