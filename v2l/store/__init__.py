"""Names -> files: the Hub, pins, released pickles in and out."""
