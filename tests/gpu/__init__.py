"""What only a GPU can show: tests marked `gpu`, and `first_run`, which measures everything in one call. See docs/develop/gpu.md."""
