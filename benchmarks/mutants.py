"""Are the tests able to fail? Faults put into a copy of the package on purpose, and what notices them.

    python benchmarks/mutants.py                        all of them, a minute or two for ten
    python benchmarks/mutants.py --missing              those that have no line in the file yet
    python benchmarks/mutants.py --only overload_hours se_of_the_mean
    python benchmarks/mutants.py --list                 what there is, nothing is run

The mutants stand in `mutant_list.py`: a file of the package, a text in it, what it becomes, and the tests
that are meant to notice. Package and tests are copied to a temporary folder, where the tests must pass before
anything is changed. Then one mutant at a time is put in, its tests are run until one fails, and it is taken
out again. A line per mutant goes to the file named by --out (results/mutants.jsonl): killed, and by which
test; survived; or equivalent, with the reason why no test can tell. The exit code is 1 where one survived.
No part of CI: it takes ten minutes.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mutant_list import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results" / "mutants.jsonl"
COPIED = ("jaxp2p", "tests", "benchmarks", "docs", "pyproject.toml", "README.md", "CONTRIBUTING.md")
SECONDS = 240  # for the tests of one mutant; who hangs is noticed too
FAILED, NOTHING_RUN = 1, (4, 5)  # exit codes of pytest: 4 no such test, 5 none collected


class NotApplicable(ValueError):
    """The text of a mutant does not stand in its file exactly once."""


def arguments(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mutants")
    parser.add_argument("--room", nargs="+", help="those of these rooms of the package")
    parser.add_argument("--missing", action="store_true", help="those without a line in the file")
    parser.add_argument("--survivors", action="store_true", help="those that survived last time")
    parser.add_argument("--list", action="store_true", help="print them and stop")
    parser.add_argument("--out", type=Path, default=OUT, help="file of results, a line each")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="limit for the tests of one mutant")
    return parser.parse_args(argv)


def mutated(mutant: Mutant, source: str) -> str:
    """The source with the fault in it. Raises NotApplicable unless the text stands there exactly once."""
    count = source.count(mutant.old)
    if count != 1:
        raise NotApplicable(
            f"{mutant.name}: the text {mutant.old!r} stands {count} times in {mutant.file}, not once; "
            "the code has changed: put the mutant right in mutant_list.py"
        )
    if mutant.old == mutant.new:
        raise NotApplicable(f"{mutant.name}: nothing is changed")
    return source.replace(mutant.old, mutant.new)


def check_all() -> list[str]:
    """What is wrong with the list, a line each."""
    faults = []
    for mutant in MUTANTS:
        try:
            mutated(mutant, (ROOT / mutant.file).read_text(encoding="utf-8"))
        except NotApplicable as error:
            faults.append(str(error))
    return faults


def chosen(options, known: dict[str, dict]) -> list[Mutant]:
    """The mutants that were asked for. Exits with a word where a name is unknown."""
    if options.only and (unknown := set(options.only) - {mutant.name for mutant in MUTANTS}):
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}; --list names them")
    found = [m for m in MUTANTS if not options.only or m.name in options.only]
    found = [m for m in found if not options.room or m.room in options.room]
    if options.missing:
        found = [m for m in found if m.name not in known]
    if options.survivors:
        found = [m for m in found if known.get(m.name, {}).get("outcome") == "survived"]
    return found


def run_tests(folder: Path, tests: tuple[str, ...], seconds: float) -> tuple[bool, str]:
    """Whether all passed in the copy, and the first that did not."""
    # no bytecode: a mutant and what it is made from may have one size and one time stamp
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MPLBACKEND": "Agg",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return False, f"no end within {seconds:g} s"
    if done.returncode == 0:
        return True, ""
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode in NOTHING_RUN or (done.returncode != FAILED and not failed):
        sys.exit(f"pytest could not run {' '.join(tests)}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return False, failed[1] if failed else "a test"


def judge(folder: Path, mutant: Mutant, seconds: float) -> dict:
    """The line of one mutant."""
    file = folder / mutant.file
    source = file.read_text(encoding="utf-8")
    begin = time.perf_counter()
    file.write_text(mutated(mutant, source), encoding="utf-8")
    try:
        passed, by = run_tests(folder, mutant.tests, seconds)
    finally:
        file.write_text(source, encoding="utf-8")
    outcome = "killed" if not passed else "equivalent" if mutant.equivalent else "survived"
    return {
        "mutant": mutant.name,
        "room": mutant.room,
        "file": mutant.file,
        "outcome": outcome,
        "by": by,
        "why": mutant.why,
        "equivalent": mutant.equivalent,
        "seconds": round(time.perf_counter() - begin, 1),
    }


def read(path: Path) -> dict[str, dict]:
    """Lines by mutant."""
    if not path.exists():
        return {}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["mutant"]: line for line in lines}


def write(path: Path, lines: dict[str, dict]) -> None:
    """In the order of the list, without mutants that are no more; whole or not at all."""
    kept = [json.dumps(lines[m.name], ensure_ascii=False) for m in MUTANTS if m.name in lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(part, path)


def main(argv=None) -> int:
    options = arguments(argv)
    lines = read(options.out)
    asked = chosen(options, lines)
    if options.list:
        for mutant in asked:
            print(f"{mutant.name:<34} {mutant.room:<10} {mutant.why}")
        print(f"{len(asked)} mutants")
        return 0
    if faults := check_all():
        sys.exit("\n".join(faults))
    with tempfile.TemporaryDirectory(prefix="mutants-") as place:
        folder = Path(place)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(ROOT / name, folder / name)
        named = tuple(dict.fromkeys(test for mutant in asked for test in mutant.tests))
        passed, by = run_tests(folder, named, 10 * options.seconds) if asked else (True, "")
        if not passed:
            sys.exit(f"{by} fails without any mutant, so it can tell nothing")
        for mutant in asked:
            line = lines[mutant.name] = judge(folder, mutant, options.seconds)
            write(options.out, lines)
            by = line["by"] or mutant.equivalent
            print(f"{line['outcome']:<10} {mutant.name:<34} {line['seconds']:6.1f} s  {by}", flush=True)
    judged = [lines[m.name] for m in MUTANTS if m.name in lines]
    count = {kind: sum(line["outcome"] == kind for line in judged) for kind in ("killed", "equivalent")}
    survivors = [line["mutant"] for line in judged if line["outcome"] == "survived"]
    print(f"killed {count['killed']} of {len(judged)}, {count['equivalent']} are equivalent", end="")
    print(f"; survived: {', '.join(survivors)}" if survivors else "; none survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
