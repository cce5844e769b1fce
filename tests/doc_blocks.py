"""Code blocks of the pages: found, run in the order of their page, and their output compared.

A `text` block right after a block of Python or of commands is what that prints. A line `...` there stands for
any lines, a word `...` for the rest of a line; numbers may differ by two units of their last digit or by 2 %.
A block that is not run says so in its first line, `# not run: why`; one of minutes has `# long: how long`.
`python tests/doc_blocks.py PAGE [--long]` prints what the blocks of a page print now, and how long they take.
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES = [page for page in PAGES if "generated" not in page.parts]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.S | re.M)
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
SHARE = 0.02  # by which a number may differ on another machine or version


class Block(NamedTuple):
    """A block of a page with what is said of its output, if anything."""

    page: Path
    line: int
    language: str
    text: str
    output: str | None

    @property
    def mark(self) -> str:
        """`not run`, `long` or nothing."""
        found = re.match(r"# (not run|long): \S", self.text)
        return found[1] if found else ""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Of Python and of commands, in order."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    kept = []
    for one, after in zip(found, [*found[1:], None]):
        if one[2] not in ("python", "sh"):
            continue
        follows = after is not None and after[2] == "text" and not text[one.end() : after.start()].strip()
        output = after[3] if follows and after is not None else None
        kept.append(Block(page, text.count("\n", 0, one.start()) + 1, one[2], one[3], output))
    return kept


def commands(block: Block) -> list[str]:
    """The commands of a block, continued lines joined, comments left out."""
    lines = block.text.replace("\\\n", " ").splitlines()
    stripped = (" ".join(shlex.split(line, comments=True, posix=False)) for line in lines)
    return [line for line in stripped if line]


def run(block: Block, names: dict[str, Any]) -> str:
    """What a block prints; names are what the Python blocks of its page share."""
    if block.language == "sh":
        return "".join(run_command(command) for command in commands(block))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile("\n" * block.line + block.text, str(block.page), "exec"), names)
    return said.getvalue()


def run_command(command: str) -> str:
    """Commands of the package in this process, which has its programs already; others by the shell."""
    words = shlex.split(command)
    if words[:2] == ["pip", "install"]:
        return ""
    if words[0] != "jaxp2p":
        return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
    from typer.testing import CliRunner

    from jaxp2p.cli import app

    done = CliRunner().invoke(app, words[1:])
    if done.exit_code:
        raise AssertionError(f"{command}: exit code {done.exit_code}\n{done.output}") from done.exception
    return done.stdout


def misses(output: str, printed: str) -> list[str]:
    """The lines of `output` that what was printed does not have, in this order."""
    rest, missing, anywhere = printed.splitlines(), [], False
    for line in filter(str.strip, output.splitlines()):
        if line.strip() == "...":
            anywhere = True
            continue
        rest = [other for number, other in enumerate(rest) if other.strip() or not number]
        while rest and not rest[0].strip():
            rest = rest[1:]
        fits = [number for number, other in enumerate(rest) if same(line, other)]
        if not fits or (fits[0] > 0 and not anywhere):
            missing.append(line)
            continue
        rest, anywhere = rest[fits[0] + 1 :], False
    return missing


def same(line: str, printed: str) -> bool:
    """Whether two lines say the same, word by word."""
    left, right = line.split(), printed.split()
    if "..." in left:
        end = left.index("...")
        left, right = left[:end], right[:end]
    return len(left) == len(right) and all(map(_same_word, left, right))


def _same_word(word: str, printed: str) -> bool:
    if set(word) == set(printed) == {"-"}:
        return True  # rules of tables
    if NUMBER.sub("", word) != NUMBER.sub("", printed):
        return False
    return all(map(_near, NUMBER.findall(word), NUMBER.findall(printed)))


def _near(number: str, printed: str) -> bool:
    value, other = (float(text.replace(",", "")) for text in (number, printed))
    last = 10.0 ** -len(number.partition(".")[2]) if "e" not in number else abs(value)
    return abs(value - other) <= max(2 * last, SHARE * abs(value))


if __name__ == "__main__":
    marks = {"", "long"} if "--long" in sys.argv else {""}
    shared: dict[str, Any] = {}
    for one in blocks(Path(sys.argv[1]).resolve()):
        if one.mark in marks:
            begin = time.perf_counter()
            printed = run(one, shared)
            print(f"== {one.where}, {time.perf_counter() - begin:.1f} s\n{printed}", flush=True)
            for line in misses(one.output or "", printed):
                print(f"MISSING: {line}", flush=True)
