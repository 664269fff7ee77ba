"""v2l: watch a video once, keep a small file, ask it forever.

`from v2l.engine import Engine` is the library's door; `v2l --help` the command line's.
"""

__version__ = "0.4.0"
