"""What stands in the .md files is so: commands parse, links and figures resolve, sessions print what is shown."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, suppress
from functools import cache
from io import StringIO
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name
from typing import Any
from urllib.parse import unquote

import pytest
import typer
from support.cli import environment, run
from test_house import FLOORS

from v2l.bench.benchmarks.registry import PUBLIC_BENCHMARKS
from v2l.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(page.relative_to(ROOT)) for pattern in ("*.md", "v2l/**/*.md", "tests/**/*.md", "examples/*.md")
               for page in ROOT.glob(pattern))
TIMES = ("ttft_s", "total_s", "seconds")
GONE = "CHANGELOG.md"
"""Says what there was, too: the commands of its past versions need not parse."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, *kinds: str) -> list[str]:
    return [text for kind, text in re.findall(r"^```(\w*)\n(.*?)^```", text_of(page), re.M | re.S) if kind in kinds]


@cache
def prose(page: str) -> str:
    """A page without its blocks."""
    return re.sub(r"^```.*?^```", "", text_of(page), flags=re.M | re.S)


def steps(page: str) -> list[tuple[str, str]]:
    """(command, what it prints) of each line with a prompt."""
    return [step for block in blocks(page, "console")
            for step in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.M)]


# Commands.


OWN = re.compile("Error: There is no (model big|file mine)[;:]")
"""What is said of folders that a reader of the pages has, by their names there."""


def commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line of shell, without what goes in and out of it by files."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if not set(word) <= set("|&;"):
            words.append(word)
        elif words:
            yield words[:min(words.index(sign) if sign in words else len(words) for sign in "<>")]
            words = []


def after_python(words: list[str]) -> list[str]:
    """The words from what `python` runs on: `-m MODULE ...` or a file."""
    names = [Path(word).name for word in words]
    if names[0] == "torchrun":
        return words[words.index("-m"):]
    return words[1:] if re.fullmatch(r"python3?", names[0]) else []


def shown_in(page: str) -> list[tuple[list[str], bool]]:
    """Every command of a page, and whether it stands in a block (in a sentence, it may leave out what it needs)."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()]
    lines += [line for line, _ in steps(page)]
    spoken = [code.replace("\n", " ") for code in re.findall(r"`([^`]+)`", prose(page))]
    spoken = [code for code in spoken if re.match(r"(v2l|python|python3|torchrun|find|bash) ", code)]
    return [(words, lines is found) for found in (lines, spoken) for line in found for words in commands(line)]


@pytest.fixture
def parse(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], str]:
    """The command line with every command's work taken out: arguments -> what is wrong with them."""
    root = typer.main.get_command(app)

    def tree(command: Any) -> Iterator[Any]:
        yield command
        for child in getattr(command, "commands", {}).values():
            yield from tree(child)

    for command in tree(root):
        monkeypatch.setattr(command, "callback", lambda **_: None)

    def parsed(arguments: list[str]) -> str:
        with redirect_stderr(StringIO()) as told, suppress(SystemExit):
            root.main(arguments, prog_name="v2l")
        return told.getvalue()

    return parsed


@pytest.mark.parametrize("page", [page for page in PAGES if page != GONE])
def test_every_command_parses(page: str, parse: Callable[[list[str]], str]) -> None:
    for words, whole in shown_in(page):
        runs = after_python(words)
        if Path(words[0]).name == "v2l" or runs[:2] == ["-m", "v2l"]:
            wrong = parse(runs[2:] or words[1:])
            assert not wrong or OWN.match(wrong) or (not whole and " needs " in wrong), f"{shlex.join(words)}: {wrong}"
        elif runs[:1] == ["-m"] and runs[1].startswith("v2l."):
            check_options(Path(*runs[1].split(".")).with_suffix(".py"), runs[2:])
        elif runs and runs[0].endswith(".py"):
            check_options(Path(runs[0]), runs[1:])
        for word in words[1:]:
            if re.match(r"(tests|v2l|examples)/[\w/.-]+$", word) and not word.endswith(".v2lora"):
                assert (ROOT / word).exists(), f"{page}: {word}"


def check_options(file: Path, words: list[str]) -> None:
    """A program of ours is there, and it or its neighbours know the options it is given."""
    assert (ROOT / file).is_file(), file
    known = "".join(neighbour.read_text(encoding="utf-8") for neighbour in (ROOT / file).parent.glob("*.py"))
    for word in words:
        assert not word.startswith("--") or f'"{word}"' in known, f"{file} {word}"


# Links.


def anchors(page: str) -> list[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", prose(page), re.M)
    return [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings]


def links(text: str) -> list[str]:
    return [unquote(link) for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_resolves(page: str) -> None:
    for link in links(prose(page)):
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path if path else ROOT / page).resolve()
        assert target.exists(), link
        assert not anchor or anchor in anchors(str(target.relative_to(ROOT))), link


@pytest.mark.parametrize("page", [page for page in PAGES if page != GONE])
def test_every_file_that_is_named_is_there(page: str) -> None:
    for path in re.findall(r"`([\w.-]+/[\w./-]+\.(?:py|sh|md|json))`", prose(page)):
        assert (ROOT / path).is_file() or (ROOT / page).parent.joinpath(path).is_file(), path


def test_every_section_that_the_code_cites_is_there() -> None:
    page = ROOT / "v2l" / "README.md"
    sections = set(re.findall(r"^## (\d+)\.", page.read_text(encoding="utf-8"), re.M))
    assert len(sections) >= 10
    for file in (*ROOT.glob("v2l/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("tests/**/*.md")):
        for cited in re.findall(r"v2l/README\.md[,:]?\s+sections? (\d+)", file.read_text(encoding="utf-8")):
            assert cited in sections, f"{file} cites section {cited}"


def test_the_floors_shown_are_those_of_the_house() -> None:
    rows = re.findall(r"^\| \d+ \| (.*?) \|", text_of("v2l/README.md"), re.M)
    assert tuple(tuple(re.findall(r"`(\w+)`", row)) for row in rows) == FLOORS


def test_the_published_figures_shown_are_those_that_reports_print() -> None:
    rows = dict(re.findall(r"^\| ([^|]+) \| (\.\d.*) \|$", text_of("v2l/README.md"), re.M))
    assert rows.keys() == {benchmark.title for benchmark in PUBLIC_BENCHMARKS.values()}
    columns = [(preset, metric) for metric in ("judge", "token_f1") for preset in ("500m", "2.2b")]
    for benchmark in PUBLIC_BENCHMARKS.values():
        printed = [benchmark.published[column] for column in columns]
        assert re.findall(r"\.\d+", rows[benchmark.title]) == [f"{score:.3f}"[1:] for figures in printed
                                                               for score in (figures.base, figures.adapter)]


# The README.


def test_the_readme_is_a_page_for_a_newcomer() -> None:
    assert len(text_of("README.md").splitlines()) <= 130


def test_the_readme_quotes_its_figures() -> None:
    """Each fact of "How good, and how fast" links to a page that has its figures together: in a row or a paragraph."""
    section = text_of("README.md").split("## How good")[1].split("\n## ")[0]
    facts = re.findall(r"^- .*", section, re.M)
    assert len(facts) == 5
    for fact in facts:
        [link] = links(fact)
        figures = re.findall(r"\d+\.\d+|1e-\d", re.sub(r"\]\([^)]*\)", "", fact))
        places = re.split(r"\n\n|\n(?=\|)", text_of(link.partition("#")[0]))
        assert figures and any(all(figure in place for figure in figures) for place in places), fact


def test_the_long_description_needs_no_file_beside_it() -> None:
    """Where a package's page shows the README, relative pictures and links lead nowhere."""
    text = runpy.run_path(str(ROOT / "setup.py"))["long_description"]()
    assert links(text) == [] and "![" not in text
    for line in text_of("README.md").splitlines():
        if line.startswith("!["):
            assert line[2:line.index("]")] in text, "what the picture shows is told"
    assert "](https://arxiv.org" in text and "```sh\n" in text


# Sessions.


def comparable(line: str) -> object:
    """A printed line without what differs from run to run."""
    if line.startswith("{"):
        return {key: value for key, value in json.loads(line).items() if key not in TIMES}
    return re.sub(r"[0-9.]+ s$", "", line)


def printed(line: str) -> str:
    """What a line of shell prints: v2l in this process, which spares its start, all else in a shell."""
    text = None
    for stage in re.split(r" \| ", line):
        words = shlex.split(stage, comments=True)
        if words[0] == "v2l":
            paths = (sorted(Path().glob(word)) if "*" in word else [word] for word in words[1:])
            result = run(*chain.from_iterable(paths), stdin=text)
            text = result.output if line.endswith(stage) else result.stdout
        else:
            text = subprocess.run(["bash", "-c", stage], input=text, capture_output=True, text=True, check=True).stdout
    return text or ""


@pytest.mark.parametrize(("page", "count"), [("README.md", 8), ("examples/README.md", 23)])
def test_the_session_is_real(page: str, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.v2lora"))
    monkeypatch.chdir(tmp_path)
    assert len(steps(page)) == count
    for line, shown in steps(page):
        assert [*map(comparable, printed(line).splitlines())] == [*map(comparable, shown.splitlines())], line


def test_the_python_is_real(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("*.v2lora"))
    [code] = blocks("README.md", "python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), text=True,
                          capture_output=True, timeout=120)
    assert (done.stdout, done.returncode) == ("the yellow star\n", 0), done.stderr


# The changelog.


def test_what_moved_is_where_the_changelog_says() -> None:
    rows = re.findall(r"^\| `v2l.* \| (.*) \|$", text_of("CHANGELOG.md").split("\n## [")[1], re.M)
    names = [name for row in rows for name in re.findall(r"`(v2l[\w.]+)`", row)]
    assert len(names) >= len(rows) > 10
    for name in names:
        resolve_name(name)
