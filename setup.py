"""The long description: README.md as it can be read where none of the files beside it are, on a package's page."""

import re
from pathlib import Path


def long_description() -> str:
    """The README with what its pictures show in words, and the names of files where it links to them."""
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[([^]]*)\]\((?!https?:)[^)]*\)", r"*Picture, in the source: \1.*", text)
    return re.sub(r"\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


if __name__ == "__main__":
    from setuptools import setup

    setup(long_description=long_description(), long_description_content_type="text/markdown")
