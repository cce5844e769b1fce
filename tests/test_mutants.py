"""The mutants of `benchmarks/mutants.py` fit the code as it stands; nothing is run here."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def mutants():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import mutants
    finally:
        sys.path.pop(0)
    return mutants


def test_the_text_of_every_mutant_stands_in_the_code_exactly_once(mutants):
    assert mutants.check_all() == []


def test_every_mutant_has_a_name_of_its_own_and_tests_that_there_are(mutants):
    names = [mutant.name for mutant in mutants.MUTANTS]
    assert len(names) >= 40 and len(set(names)) == len(names)
    for mutant in mutants.MUTANTS:
        for test in mutant.tests:
            file, _, name = test.partition("::")
            text = (ROOT / file).read_text(encoding="utf-8")
            assert f"def {name.partition('[')[0]}(" in text if name else text, test


def test_a_mutant_that_does_not_fit_is_refused_in_a_sentence(mutants):
    one = mutants.MUTANTS[0]
    assert mutants.mutated(one, f"before {one.old} after") == f"before {one.new} after"
    for source, count in (("", 0), (2 * one.old, 2)):
        with pytest.raises(mutants.NotApplicable, match=f"stands {count} times in {one.file}, not once"):
            mutants.mutated(one, source)
    with pytest.raises(SystemExit, match="no such mutant: nonsense"):
        mutants.main(["--only", "nonsense"])


def test_lines_come_in_the_order_of_the_list(mutants, tmp_path):
    file = tmp_path / "lines.jsonl"
    one, two = (mutant.name for mutant in mutants.MUTANTS[:2])
    mutants.write(file, {name: {"mutant": name} for name in (two, "gone", one)})
    assert list(mutants.read(file)) == [one, two]
    assert not list(tmp_path.glob("*.part"))
