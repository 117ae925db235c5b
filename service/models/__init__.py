"""A service's models: the folder of checkpoints, and the bucket copied into it."""
