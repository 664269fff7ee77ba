"""Measuring: an adapter against the video in the prompt."""
