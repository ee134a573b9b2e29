"""Puts the tables of `benches/RESULTS.md` into the documentation, so that they cannot go stale: a hook of `mkdocs.yml`.

In a page `<!-- measured: in short -->` becomes a row for each question, and `<!-- measured: in full -->` all tables.
`tests/test_documentation.py` looks at both without building the site.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).resolve().parent.parent / "benches" / "RESULTS.md"
MARK = re.compile(r"^<!-- measured: (.+) -->$", re.MULTILINE)
OURS, NO_PEER = "thistledown", "seed"  # what is named before the slash of a case


class Question(NamedTuple):
    """A section of the results: its title, all of its words, and its cases, the best first."""

    title: str
    text: str
    unit: str
    cases: list[tuple[str, str, float]]  # name, median as it is printed, and as a number

    def best(self, *, ours: bool) -> int | None:
        """The place of the best case that is ours, or of the best that is a peer's."""
        for place, (name, _, _) in enumerate(self.cases):
            who = name.partition(" / ")[0]
            if who != NO_PEER and (who == OURS) == ours:
                return place
        return None


def questions(results: str) -> Iterator[Question]:
    """Reads the sections of the results."""
    for section in re.split(r"^## ", results, flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        head = re.search(r"^\| case \| (.+?), median ", text, re.MULTILINE)
        if head is None:
            raise ValueError(f"{RESULTS.name}: no table of cases below {title!r}")
        rows = re.findall(r"^\| ([^|]+?) \| ([\d.,]+) \[", text, re.MULTILINE)
        cases = [(name, median, float(median.replace(",", ""))) for name, median in rows]
        yield Question(title, text.strip(), head[1], cases)


def in_short(results: str) -> str:
    """A row for each question: our best case beside the best of the others, and how far they are apart."""
    rows = ["| question | unit | ours | the best of the others | ours is |", "|---|---|---|---|---|"]
    for question in questions(results):
        ours, other = question.best(ours=True), question.best(ours=False)
        if ours is None or other is None:
            continue
        mine, theirs = question.cases[ours], question.cases[other]
        rows.append(
            f"| {question.title} | {question.unit} | {mine[1]} | {theirs[1]}, {theirs[0]} "
            f"| {difference(mine[2], theirs[2], is_better=ours < other)} |"
        )
    return "\n".join(rows)


def difference(mine: float, theirs: float, *, is_better: bool) -> str:
    """How far two medians are apart, in words."""
    low, high = sorted((mine, theirs))
    if high <= 1.05 * low:
        return "as good"
    words = "better" if is_better else "worse"
    if low > 0:
        ratio = high / low
        words = f"{ratio:.{ratio < 10:d}f} times {words}"
    return words if is_better else f"**{words}**"


def in_full(results: str) -> str:
    """All sections, a level deeper."""
    return "\n\n".join(f"### {question.title}\n\n{question.text}" for question in questions(results))


FORMS = {"in short": in_short, "in full": in_full}


def filled(page: str, results: str) -> str:
    """The page with its marks replaced. Raises ValueError for a mark that means nothing."""

    def form(mark: re.Match[str]) -> str:
        if mark[1] not in FORMS:
            raise ValueError(f"{mark[0]}: there are {', '.join(FORMS)}")
        return FORMS[mark[1]](results)

    return MARK.sub(form, page)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    return filled(markdown, RESULTS.read_text()) if MARK.search(markdown) else markdown
