"""How a question is put: every case in turn within a round, each in a process of its own.

The machines that this runs on are shared, and slow down and recover while it does. So a number means little
alone: cases that stand in one table ran within seconds of each other, ratios are taken within a round, and
what is reported is the median over the rounds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

import peers
import processes

#: What one run of a case measured: unit -> value.
Sample = Mapping[str, float]
#: Measures once. The argument is the size: how many switches, tasks, items, or milliseconds of load.
Case = Callable[[int], Sample]

#: Stands for the peer library that did best in the table.
BEST = "the best peer library"


@dataclass(frozen=True)
class Bound:
    """Ours is to be at most `at_most` of what `rival` takes; without a rival: at most that many units."""

    at_most: float = float("inf")
    rival: str | None = None
    #: Cases that do not count when the best is looked for.
    outside: frozenset[str] = frozenset()
    #: What it is about; none is the question's first unit.
    unit: str | None = None
    #: Where more is better: ours is to be at least that much.
    at_least: float | None = None
    #: The cases of ours that it is for; none is all of them.
    cases: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Question:
    """One question, and who answers it how."""

    name: str
    title: str
    script: str
    cases: Mapping[str, Case]
    #: The first unit is the one that is compared; less is better, unless `more_is_better`.
    units: tuple[str, ...]
    size: int
    quick_size: int
    target: str = ""
    bounds: tuple[Bound, ...] = ()
    baseline: str = "asyncio"
    note: str = ""
    timeout: float = 120.0
    needs_load_generator: bool = False
    more_is_better: bool = False
    #: The size for a case, or for a peer, with which the question's own would take too long.
    sizes: Mapping[str, int] = field(default_factory=dict)

    def size_of(self, case: str, quick: bool) -> int:
        size = self.sizes.get(case) or self.sizes.get(peers.peer_of(case)) or self.size
        return min(size, self.quick_size) if quick else size


@dataclass
class Answer:
    """What was measured. A sample is None where that run failed."""

    question: Question
    samples: dict[str, list[Sample | None]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def values(self, case: str, unit: str) -> list[float]:
        return [sample[unit] for sample in self.samples[case] if sample and unit in sample]

    def median(self, case: str, unit: str | None = None) -> float:
        return median(self.values(case, unit or self.question.units[0]))

    def measured(self) -> list[str]:
        """The cases that have a number, the best first."""
        unit = self.question.units[0]
        cases = (case for case in self.samples if self.values(case, unit))
        return sorted(cases, key=self.median, reverse=self.question.more_is_better)

    def ratio(self, case: str, rival: str, unit: str | None = None) -> float | None:
        """What `case` takes of what `rival` takes: the median of the ratios within each round."""
        unit = unit or self.question.units[0]
        rounds = zip(self.samples.get(case, ()), self.samples.get(rival, ()), strict=False)
        ratios = [ours[unit] / theirs[unit] for ours, theirs in rounds if ours and theirs and theirs[unit]]
        return median(ratios) if ratios else None

    def best(self, outside: frozenset[str]) -> str | None:
        for case in self.measured():
            if peers.peer_of(case) not in (peers.OURS, peers.SEED) and case not in outside:
                return case
        return None


def ask(question: Question, rounds: int, quick: bool, say: Callable[[str], None]) -> Answer:
    """Measures every case of the question `rounds` times."""
    answer = Answer(question)
    cases: list[str] = []
    for case in question.cases:
        (cases if peers.is_installed(peers.peer_of(case)) else answer.skipped).append(case)
    answer.samples = {case: [] for case in cases}
    for number in range(rounds):
        for case in cases:
            if number >= peers.MOST_ROUNDS.get(peers.peer_of(case), rounds):
                continue
            say(f"{question.name}: round {number + 1} of {rounds}, {case}")
            sample, failure = measure(question, case, question.size_of(case, quick))
            answer.samples[case].append(sample)
            if failure:
                answer.failures[case] = failure
    return answer


def measure(question: Question, case: str, size: int) -> tuple[Sample | None, str]:
    """Runs one case once, in a fresh interpreter; gives the sample, or the reason why there is none."""
    flags = peers.INTERPRETER_FLAGS.get(peers.peer_of(case), ())
    words: Sequence[str] = ("--question", question.name, "--case", case, "--size", str(size))
    command = [sys.executable, *flags, question.script, *words]
    # Files and not pipes: a process that a case leaves behind would hold a pipe open.
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=complaints, start_new_session=True
        )
        try:
            code = process.wait(question.timeout)
        except subprocess.TimeoutExpired:
            return None, f"no answer within {question.timeout:g} s"
        finally:
            processes.end_session(process.pid)
            process.wait()
        output.seek(0)
        complaints.seek(0)
        if code != 0:
            lines = complaints.read().strip().splitlines() or [f"exit code {code}"]
            return None, lines[-1]
        # A peer may say something of its own while it ends.
        samples = [line for line in output.read().splitlines() if line.startswith("{")]
        return json.loads(samples[-1]), ""


def main(questions: Sequence[Question]) -> None:
    """The command line of a script with questions: measures one case once, and prints the sample as JSON."""
    parser = argparse.ArgumentParser(
        description="Measures one case once. `python benches/run.py` compares all of them."
    )
    parser.add_argument("--question", required=True, choices=[question.name for question in questions])
    parser.add_argument("--case", required=True)
    parser.add_argument("--size", type=int)
    words = parser.parse_args()
    question = next(question for question in questions if question.name == words.question)
    if words.case not in question.cases:
        parser.error(f"--case is one of: {', '.join(question.cases)}")
    # Interpreters that are started from here find compiled modules, as those of an installed package are.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    tell(question.cases[words.case](words.size or question.size))


def tell(sample: Sample) -> None:
    """Prints the sample as the last line, where `measure` looks for it."""
    print(json.dumps(sample), flush=True)
