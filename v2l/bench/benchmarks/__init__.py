"""The paper's nine benchmarks, from the user's own copies: their public annotation files and a folder of videos.

One file a benchmark: its names, prompts, published figures and reader, how its files look, where that was learned, and
what could not be verified. `load.load_benchmark("vdc", "/data/vdc")` gives the manifest's items, and
`write_manifest(path, items)` of `v2l.manifest` makes a file of them. Nothing is downloaded and no video is opened.

Prompts are the paper's, word for word (Frames2LoRA, arXiv 2606.04351, appendix B). After a question that is "Answer
only the question, in one sentence.", as in the examples of the project's page, joined by a space. (The appendix sets it
on a line of its own, and two of its pictured NExT-QA questions end in "Answer with a short phrase." and "Answer in a
single sentence." instead.) The paper samples 500 entries a benchmark, VDC and CaReBench 500 of each style, and of
VidCapBench 100 videos with all their questions (section 4.2); which ones it does not say.
"""
