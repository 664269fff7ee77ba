"""Adapters and bases in the formats of other engines: PEFT, vLLM, llama.cpp, Ollama, and what reads plain weights."""
