"""Live sources: what goes on as it is watched."""
