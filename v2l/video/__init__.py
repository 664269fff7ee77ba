"""A video file -> frames and their times, cuts, scenes. Knows nothing of models."""
