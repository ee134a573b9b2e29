"""How answers are shown: a table for each question, the target beside it, and the file that keeps them."""

import os
import platform
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import peers
from measure import BEST, Answer, Bound

HEADING = "# Results of the benches"
INTRODUCTION = """\
Written by `python benches/run.py --write` (`make bench`). Within a round every case runs in turn, each in a process
of its own; a number is the median over the rounds, with the lowest and the highest; a ratio is the median of
the ratios within each round. The machines are shared: trust ratios, not seconds. `seed` is the scheduler of
Beazley's article in plain Python, which is no library, and no peer when the best is looked for. Ray and Dask
take seconds to start, and run in the first two rounds only."""


def number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def table(answer: Answer) -> str:
    """The answer as a Markdown table, the best case first."""
    question = answer.question
    first, others = question.units[0], question.units[1:]
    lines = [
        f"| case | {first}, median [min-max] | vs {question.baseline} |" + "".join(f" {u} |" for u in others),
        "|---|---|---|" + "---|" * len(others),
    ]
    for case in answer.measured():
        values = answer.values(case, first)
        spread = f"{number(answer.median(case))} [{number(min(values))}-{number(max(values))}]"
        ratio = answer.ratio(case, question.baseline)
        cells = [case, spread, "-" if ratio is None else f"{ratio:.2f}x"]
        cells += [number(answer.median(case, unit)) if answer.values(case, unit) else "-" for unit in others]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdicts(answer: Answer) -> Iterable[str]:
    """For each bound and each of our cases a sentence: what was reached, and whether it will do."""
    for bound in answer.question.bounds:
        for case in answer.measured():
            if peers.peer_of(case) == peers.OURS and (not bound.cases or case in bound.cases):
                yield verdict(answer, case, bound)


def verdict(answer: Answer, case: str, bound: Bound) -> str:
    unit = bound.unit or answer.question.units[0]
    # Only what is not the first unit has to be named beside a rival.
    name = f"{case}, {bound.unit}" if bound.unit and bound.rival else case
    if bound.rival is None:
        reached, what = answer.median(case, unit), unit
    else:
        rival = answer.best(bound.outside) if bound.rival == BEST else bound.rival
        ratio = None if rival is None else answer.ratio(case, rival, unit)
        if ratio is None:
            return f"{name}: nothing to compare with"
        reached, what = ratio, f"of {rival}"
    if bound.at_least is not None:
        word = "met" if reached >= bound.at_least else "MISSED"
        return f"{name}: {number(reached)} {what}, to be at least {number(bound.at_least)}: {word}"
    word = "met" if reached <= bound.at_most else "MISSED"
    return f"{name}: {number(reached)} {what}, to be at most {number(bound.at_most)}: {word}"


def section(answer: Answer, command: str, rounds: int, quick: bool) -> str:
    question = answer.question
    versions = {peers.peer_of(case): None for case in answer.samples}
    named = [f"{peer} {peers.version(peer)}" for peer in versions if peer in peers.PACKAGES]
    setting = ", ".join([f"{rounds} round{'' if rounds == 1 else 's'}", str(date.today()), machine(), *named])
    lines = [f"## {question.title}", ""]
    if question.target:
        lines += [f"Target: {question.target}.", ""]
    lines += [table(answer), ""]
    if quick:
        lines.append("- tiny sizes, to see whether everything works: the numbers mean nothing")
    else:
        lines += [f"- {sentence}" for sentence in verdicts(answer)]
    lines += [f"- {case}: skipped, not installed" for case in answer.skipped]
    lines += [f"- {case}: FAILED in a round: {reason}" for case, reason in answer.failures.items()]
    if question.note:
        lines.append(f"- {question.note}")
    lines.append(f"- `{command}`: {setting}")
    return "\n".join(lines) + "\n"


def machine() -> str:
    """The machine in a line: what has to be the same for seconds to be comparable."""
    model = platform.processor() or platform.machine()
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = found[1] if found else model
    except OSError:
        pass  # no Linux: what the platform module knows has to do
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{cores} CPUs ({model}), {platform.system()} {platform.release()}, {python}"


def write(path: Path, sections: Sequence[str], order: Sequence[str]) -> None:
    """Puts the sections in the file. Sections that it has, and that were not measured again, stay."""
    kept: dict[str, str] = {}
    if path.exists():
        for part in re.split(r"^(?=## )", path.read_text(), flags=re.MULTILINE)[1:]:
            kept[title_of(part)] = part.rstrip() + "\n"
    kept.update((title_of(part), part) for part in sections)
    parts = [kept[title] for title in order if title in kept]
    path.write_text("\n".join([HEADING, "", INTRODUCTION, "", *parts]))


def title_of(part: str) -> str:
    return part.splitlines()[0].removeprefix("## ")
