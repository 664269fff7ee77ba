"""The server: adapters below a folder, asked over HTTP as OpenAI's clients ask ([README.md](README.md))."""
