"""The pages lead somewhere: every relative link, every anchor, every command that the reader shall type, every test that is named."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

from carp_operator.cli.main import carp
from carp_sidecar.cli import build_parser

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(page for folder in ("docs", "examples", "charts") for page in (ROOT / folder).rglob("*.md"))])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^()\s]+)\)|!\[[^\]]*\]\(([^()\s]+)\)")
COMMANDS = {"carp-sidecar": set(build_parser()[1]), "kubectl carp": set(carp.list_commands(click.Context(carp)))}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub makes of the headings of a page."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", page.read_text()), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        again = sum(re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found)
        found.append(f"{slug}-{again}" if again else slug)
    return frozenset(found)


def links(page: Path) -> Iterator[str]:
    """Relative links and links within the page; code is no prose."""
    for match in LINK.finditer(re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))):
        target = match[1] or match[2]
        if "://" not in target and not target.startswith("mailto:"):
            yield target


def broken(page: Path) -> Iterator[str]:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target):
            yield f"{link}: no such heading; there are {', '.join(sorted(anchors(target)))}"


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_every_link_resolves(page: Path) -> None:
    assert not list(broken(page))


def test_every_page_is_reached_from_the_readme() -> None:
    reached, ahead = set(), {ROOT / "README.md"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        targets = ((page.parent / link.partition("#")[0]).resolve() for link in links(page))
        for target in targets:
            readme = target / "README.md" if target.is_dir() else target
            if readme.suffix == ".md" and readme.exists() and readme not in reached:
                ahead.add(readme)
    assert [short(page) for page in PAGES if page not in reached] == []


@pytest.mark.parametrize("program", COMMANDS)
def test_commands_that_pages_name_exist(program: str) -> None:
    named = {
        (short(page), word)
        for page in PAGES
        for code in re.findall(r"```.*?```|`[^`\n]+`", page.read_text(), re.DOTALL)
        for word in re.findall(rf"(?:^|[\s/(\"'`]){program} ([a-z][a-z-]+)(?=[\s`'\"]|$)", code)
    }
    assert len(named) > 10, "the pattern finds what pages name"
    assert {(page, word) for page, word in named if word not in COMMANDS[program]} == set()


def test_tests_that_pages_name_exist() -> None:
    named = {
        (short(page), path, test)
        for page in PAGES
        for path, test in re.findall(r"`(?:tests/)?([a-z_/]+/test_[a-z_0-9]+\.py)(?:::(test_[a-z_0-9]+))?`", page.read_text())
    }
    assert len(named) > 100, "the pattern finds what pages name"
    sources = {path: (ROOT / "tests" / path) for _, path, _ in named}
    texts = {path: file.read_text() if file.exists() else "" for path, file in sources.items()}
    missing = [one for one in sorted(named) if not (re.search(rf"def {one[2]}\(", texts[one[1]]) if one[2] else texts[one[1]])]
    assert missing == []
