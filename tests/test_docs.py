"""Every block of Python and every command of the pages runs, and prints what the page says.

Blocks say themselves when they are not run, or take minutes (`-m long`); see `doc_blocks`.
"""

import re
import tomllib

import pytest
from doc_blocks import PAGES, ROOT, Block, blocks, commands, misses, run, same

ALL = {page: blocks(page) for page in PAGES}
ELSEWHERE = {"README.md", "CONTRIBUTING.md"}  # by test_readme.py and .ci/run
OURS = [page for page in PAGES if page.name not in ELSEWHERE]
QUICK = [page for page in OURS if any(not block.mark for block in ALL[page])]
LONG = [page for page in OURS if any(block.mark == "long" for block in ALL[page])]


def name(page) -> str:
    return str(page.relative_to(ROOT))


def check(page, marks: tuple[str, ...]) -> None:
    """Run the blocks of a page in their order, in the working folder; all that is wrong is named."""
    names: dict = {}
    wrong = []
    for block in ALL[page]:
        if block.mark in marks:
            printed = run(block, names)
            missing = misses(block.output or "", printed)
            if missing:
                wrong.append(f"{block.where} does not print\n" + "\n".join(missing) + f"\nbut\n{printed}")
    assert not wrong, "\n\n".join(wrong)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.mark.slow
@pytest.mark.parametrize("page", QUICK, ids=name)
def test_every_block_runs(page, elsewhere):
    check(page, ("",))


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("page", LONG, ids=name)
def test_every_long_block_runs(page, elsewhere):
    check(page, ("", "long"))


def test_every_option_is_one_of_its_command_and_every_script_is_there():
    from test_options import OPTION, OPTIONS

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for block in (block for found in ALL.values() for block in found if block.language == "sh"):
        for command in (part for line in commands(block) for part in re.split(r" && ", line)):
            words = command.split()
            if words[0] == "jaxp2p":
                missing = set(OPTION.findall(command)) - OPTIONS[words[1]]
                assert not missing, f"{block.where}: {command}: {missing}"
            scripts = [word for word in words if word.endswith(".py")]
            assert all((ROOT / script).exists() for script in scripts), f"{block.where}: {command}"
            named = re.findall(r"\[(\w[\w,-]*)\]", command) if words[:2] == ["pip", "install"] else []
            assert {extra for some in named for extra in some.split(",")} <= extras.keys(), block.where


def test_every_option_in_the_text_is_one_of_its_command():
    """What stands between backticks in a line, such as `jaxp2p tune --rolling`."""
    from test_options import OPTION, OPTIONS

    named = 0
    for page in PAGES:
        for command, rest in re.findall(r"`jaxp2p ([a-z]+)([^`\n]*)`", page.read_text(encoding="utf-8")):
            missing = set(OPTION.findall(rest)) - OPTIONS[command]
            assert not missing, f"{name(page)}: jaxp2p {command}{rest}: {missing}"
            named += 1
    assert named > 10


def test_a_word_or_number_that_differs_is_seen():
    assert same("cost  -6.16 EUR ...", "cost -6.2 EUR and more")
    assert not same("cost -6.16 EUR", "cost -6.36 EUR")
    assert not same("cost 1 EUR", "costs 1 EUR")
    assert misses("a\n...\nc 2.0\n", "a\nb\n\nc 2.01\n") == []
    assert misses("a\nc 2.0\n", "a\nb\nc 2.0\n") == ["c 2.0"]
    assert misses("c\na\n", "a\nc\n") == ["c"]
    assert misses("...\nc\na\n", "a\nc\n") == ["a"]
    assert Block(ROOT / "x.md", 1, "sh", "# not run: too long\nls\n", None).mark == "not run"
