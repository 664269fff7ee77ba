"""What any program needs of its machine: files, locks, threads, signals. Knows nothing of video or models."""
