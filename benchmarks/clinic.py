"""Count the false alarms of the clinic on random right models, and what it says of planted bugs.

    python -m benchmarks.clinic --right 1000 --seed 20000
    python -m benchmarks.clinic --bugs 3 --pairs 40 --seed 20000

A right model has one of more than thirty legitimate styles; sizes, weights and everything else are
random. An alarm is a finding with severity "bug". The upper bound of the rate is exact: with no
alarm in n models the rate is below 1 − 0.05^(1/n) with a confidence of 95 %. A bug is named first
if the first finding that is not right has its name, named if any has, detected if there is one. A
file given with --resume keeps the results; what it has is not run again. Needs pytest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # the models are tiny

import numpy as np
from scipy.stats import beta as beta_distribution

from benchmarks.clinic_models import STYLES, planted, planted_pairs, right_model
from benchmarks.options import whole
from numpyvae.clinic import Subject, examine

Result = dict[str, Any]


def upper_bound(alarms: int, n: int, confidence: float = 0.95) -> float:
    """The exact upper bound (Clopper and Pearson) of a rate."""
    return 1.0 if alarms >= n else float(beta_distribution.ppf(confidence, alarms + 1, n - alarms))


def judged(subject: Subject, seed: int) -> Result:
    """Examine a subject; return what was found."""
    start = time.perf_counter()
    report = examine(subject, seed)
    return {
        "bugs": [(f.examination, f.name, f.found) for f in report.findings if f.is_bug],
        "names": list(report.names),
        "undecided": [f.examination for f in report.findings if f.verdict == "undecided"],
        "counts": report.counts,
        "seconds": round(time.perf_counter() - start, 3),
    }


def right_results(n: int, seed: int) -> Iterator[tuple[str, Callable[[], Result]]]:
    """Yield a key and the work of each right model."""
    for i in range(n):

        def work(i: int = i) -> Result:
            style, subject, options = right_model(seed, i)
            return {"style": style, "options": options, **judged(subject, seed + i)}

        yield f"right {seed} {i}", work


def bug_results(n: int, pairs: int, seed: int) -> Iterator[tuple[str, Callable[[], Result]]]:
    """Yield a key and the work of each model with a bug, and of each with two."""
    cases = [("bug", case) for case in planted(n, seed)]
    cases += [("pair", case) for case in planted_pairs(pairs, seed)]
    for kind, (key, names, make) in cases:

        def work(names: tuple[str, ...] = names, make: Callable[[], Subject] = make) -> Result:
            return {"expected": names, **judged(make(), seed)}

        yield f"{kind} {seed} {key}", work


def run(cases: Iterator[tuple[str, Callable[[], Result]]], path: Path | None) -> dict[str, Result]:
    """Run the cases that the file does not have, and add each to it."""
    known: dict[str, Result] = {}
    if path is not None and path.exists():
        with open(path) as lines:
            known = dict(json.loads(line) for line in lines)
    results = {}
    for key, work in cases:
        if key not in known:
            known[key] = work()
            if path is not None:
                with open(path, "a") as lines:
                    lines.write(json.dumps([key, known[key]]) + "\n")
        results[key] = known[key]
    return results


def table_of_right(results: list[Result]) -> list[str]:
    """The lines of the table of right models: alarms by style and by examination."""
    lines = [f"{'style':32} {'models':>6} {'alarms':>6} {'undecided':>9} {'seconds':>7}"]
    groups = defaultdict(list)
    for r in results:
        groups[r["style"]].append(r)
    for style in STYLES:
        group = groups[style]
        if group:
            lines.append(
                f"{style:32} {len(group):6d} {sum(bool(r['bugs']) for r in group):6d} "
                f"{sum(bool(r['undecided']) for r in group):9d} "
                f"{np.mean([r['seconds'] for r in group]):7.2f}"
            )
    alarms, n = sum(bool(r["bugs"]) for r in results), len(results)
    seconds = [r["seconds"] for r in results]
    lines.append(
        f"{n} right models, {alarms} with an alarm: a rate below {upper_bound(alarms, n):.2%} "
        f"(95 %); {np.mean(seconds):.2f} s for one, at most {max(seconds):.2f} s"
    )
    for kind in ("bugs", "undecided"):
        named = Counter(b[0] if kind == "bugs" else b for r in results for b in r[kind])
        lines += [f"  {kind}: {count:4d} {name}" for name, count in named.most_common()]
    return lines


def grade(result: Result) -> str:
    """Whether one bug is named first, named, detected or missed."""
    (name,), names = result["expected"], result["names"]
    if names[:1] == [name]:
        return "first"
    return "named" if name in names else "detected" if names else "missed"


def table_of_bugs(results: list[Result]) -> list[str]:
    """The lines of the table of bugs."""
    grades = ("first", "named", "detected", "missed")
    lines = [f"{'bug':56} " + " ".join(f"{g:>8}" for g in grades)]
    groups = defaultdict(Counter)
    for r in results:
        groups[r["expected"][0]][grade(r)] += 1
    total: Counter = sum(groups.values(), Counter())
    for name, counts in [*groups.items(), ("all", total)]:
        lines.append(f"{name:56} " + " ".join(f"{counts[g]:8d}" for g in grades))
    return lines


def table_of_pairs(results: list[Result]) -> list[str]:
    """The lines that say how often both bugs of two are named."""
    both = sum(set(r["expected"]) <= set(r["names"]) for r in results)
    one = sum(bool(set(r["expected"]) & set(r["names"])) for r in results)
    seen = sum(bool(r["names"]) for r in results)
    n = len(results)
    lines = [f"{n} pairs: both named {both}, one or both {one}, detected {seen}"]
    rest = [r for r in results if not set(r["expected"]) <= set(r["names"])]
    return lines + [f"  {' + '.join(r['expected'])}: {', '.join(r['names'])}" for r in rest]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clinic", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--right", type=whole, default=0, metavar="N", help="random right models")
    parser.add_argument("--bugs", type=whole, default=0, metavar="N", help="models for each bug")
    parser.add_argument("--pairs", type=whole, default=0, metavar="N", help="pairs of bugs")
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--resume", type=Path, metavar="FILE", help="keep the results here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results here")
    args = parser.parse_args(arguments)
    if not (args.right or args.bugs or args.pairs):
        parser.error("expected --right, --bugs or --pairs")
    right = run(right_results(args.right, args.seed), args.resume)
    bugs = run(bug_results(args.bugs, args.pairs, args.seed), args.resume)
    if right:
        print("\n".join(table_of_right(list(right.values()))))
    for kind, table in {"bug": table_of_bugs, "pair": table_of_pairs}.items():
        chosen = [r for key, r in bugs.items() if key.startswith(kind)]
        if chosen:
            print("\n".join(table(chosen)))
    if args.json:
        args.json.write_text(json.dumps(right | bugs, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
