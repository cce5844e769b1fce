"""Settings: declared once, and what the command line makes of them."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import jaxp2p
from jaxp2p.cli import (
    billing,
    configuring,
    explaining,
    fairness,
    hosting,
    importing,
    inspecting,
    running,
    sharing,
    studying,
    tuning,
)
from jaxp2p.cli.options import command, options_of
from jaxp2p.settings.fields import REQUIRED, argument, one_of, pick, setting, settings_of
from jaxp2p.settings.model import Trading
from jaxp2p.settings.outputs import Format
from jaxp2p.settings.source import Source, Window

PACKAGE = Path(jaxp2p.__file__).parent
GROUPS = [Source, running.Options, studying.Options, tuning.Options, Format]
GROUPS += [inspecting.VerifyOptions, inspecting.ExportOptions, inspecting.CheckOptions, importing.Options]
GROUPS += [billing.Options, explaining.Options, hosting.Options, sharing.Options, fairness.Options]
GROUPS += [configuring.InitOptions]


@dataclass(frozen=True, kw_only=True)
class Place:
    """What two commands share."""

    where: str = argument(REQUIRED, "A place.", "PLACE")
    days: float | None = setting(7, "Days.", least=0, most=9)
    colour: str | None = setting(None, "Of the wall.", choices=("red", "green"), otherwise="white")


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one of them adds."""

    tools: str = setting("", "Repeat for more.", repeated=True)
    light: bool = setting(True, "Keep it on.")
    loud: bool = setting(False, "With noise.", spelling=("--loud/--soft",))
    days: float = setting(3, "Days of work.", least=1)
    fixed: str = "no option"


def called(*arguments: str, **how):
    """What a command of both dataclasses gets, and what is printed."""
    app, got = typer.Typer(rich_markup_mode=None), []

    def work(place: Place, chosen: Work) -> int:
        got.extend([place, chosen])
        return 5

    command(app, exits=(0, 5), **how)(work)
    return CliRunner().invoke(app, list(arguments)), got


def test_values_reach_every_dataclass_that_has_the_setting():
    done, (place, work) = called(*"shed --tools saw --tools axe --no-light --loud --days 2".split())  # noqa: SIM905
    assert done.exit_code == 5
    assert place == Place(where="shed", days=2.0)
    assert work == Work(tools="saw,axe", light=False, loud=True, days=2.0)


def test_defaults_are_those_of_the_dataclass_that_comes_last():
    _, (place, work) = called("shed")
    assert place == Place(where="shed", days=3) and work == Work()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--days", "0.5"], "'--days'"),
        (["--days", "many"], "'--days'"),
        (["--colour", "gren"], "error: --colour: unknown value 'gren'; did you mean \"green\"?"),
        (["--fixed", "x"], "No such option: --fixed"),
        (["--no-loud"], "No such option: --no-loud"),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_option(given, said):
    done, got = called("shed", *given)
    assert done.exit_code == 2 and not got
    assert said in done.stderr


def test_a_command_without_a_setting_leaves_its_default():
    done, (place, work) = called("shed", without=("days",))
    assert done.exit_code == 5 and (place.days, work.days) == (7, 3)
    assert called("shed", "--days", "2", without=("days",))[0].exit_code == 2


def test_the_layout_is_the_order_of_the_help():
    names = lambda **how: [option.name for option in options_of([Place, Work], **how)]
    assert names() == ["where", "days", "colour", "tools", "light", "loud"]
    assert names(layout=["loud", ..., "days"]) == ["loud", "where", "colour", "tools", "light", "days"]
    assert names(layout=["light", Place]) == ["light", "where", "days", "colour", "tools", "loud"]
    for wrong in ({"layout": ["lihgt"]}, {"without": ["colours"]}):
        with pytest.raises(ValueError, match="no setting of this command is called"):
            names(**wrong)


def test_the_help_says_default_range_and_what_stands_for_a_value():
    text = " ".join(called("--help")[0].output.split())
    assert "Of the wall. [default: white]" in text
    assert "PLACE" in text and "x>=1" in text and "--loud" in text and "--soft" in text


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: f"{group.__module__}.{group.__name__}")
def test_every_setting_fits_its_own_limits(group):
    for name, (default, about) in settings_of(group).items():
        assert about.help.endswith(".") or about.help.endswith('"home".'), name
        if default in (None, REQUIRED):
            continue
        assert about.least is None or default >= about.least, name
        assert about.most is None or default <= about.most, name
        assert not about.choices or one_of(default, about.choices, option=name) == default


def test_pick_takes_what_is_there():
    assert pick(Window, running.Options()) == {}
    assert set(pick(Trading, running.Options())) == {field.name for field in fields(Trading)}


def test_no_option_is_declared_outside_the_dataclasses():
    """Only `options.py` makes options, but for --version; and no help text is written twice."""
    makers, texts = Counter(), Counter()
    for path in [*(PACKAGE / "cli").glob("*.py"), *(PACKAGE / "settings").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                makers[path.name] += name in ("typer.Option", "typer.Argument")
                if name in ("setting", "argument"):
                    texts[ast.unparse(node.args[1])] += 1
    assert +makers == {"options.py": 2, "app.py": 1}
    assert len(texts) > 50 and set(texts.values()) == {1}
