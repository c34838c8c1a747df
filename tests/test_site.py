# SPDX-License-Identifier: Apache-2.0
"""The documentation builds, and what it builds opens from a disk without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = r"(?:https?:)?//"
HTML_LOADS = re.compile(rf"<(?:script|img|iframe|link|source|video)\b[^>]*\b(?:src|href)=[\"']?{ELSEWHERE}[^>]*>", re.I)
CSS_LOADS = re.compile(rf"(?:@import\s+(?:url\()?|url\()[\"']?{ELSEWHERE}[^;)]*", re.I)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    argv = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def loads(text: str, suffix: str) -> list[str]:
    """What a browser would fetch from elsewhere to show this file; links to be clicked are fine."""
    if suffix == ".html":
        found = [tag for tag in HTML_LOADS.findall(text) if 'rel="canonical"' not in tag]
        return found + CSS_LOADS.findall(text)
    return CSS_LOADS.findall(text) if suffix == ".css" else []


def test_every_page_opens_without_a_network(site: Path) -> None:
    pages = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    assert site / "index.html" in pages
    assert {
        str(path.relative_to(site)): found for path in pages if (found := loads(path.read_text(), path.suffix))
    } == {}


def test_every_document_is_on_the_site(site: Path) -> None:
    documents = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    names = [str(path.with_suffix(".html")).replace("README", "index") for path in documents]
    assert [name for name in names if not (site / name).exists()] == []


@pytest.mark.parametrize(
    ("text", "suffix"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ".html"),
        ("<link rel='stylesheet' href='//cdn.example/x.css'>", ".html"),
        ('<style>@import url("https://fonts.example/css");</style>', ".html"),
        ("@font-face { src: url(https://fonts.example/f.woff2); }", ".css"),
        ('@import "//fonts.example/css";', ".css"),
    ],
)
def test_something_fetched_from_elsewhere_is_found(text: str, suffix: str) -> None:
    assert len(loads(text, suffix)) == 1


def test_a_link_to_click_is_fine() -> None:
    assert loads('<a href="https://example.org">x</a><script src="js/base.js"></script>', ".html") == []
