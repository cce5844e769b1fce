"""Files of settings: complete, refused with lines and names, and what results were made with, made again."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
import typer.main
from typer.testing import CliRunner
from villages import village

import jaxp2p as jp
import jaxp2p.cli.running
import jaxp2p.cli.studying
import jaxp2p.cli.tuning
from jaxp2p.cli import app
from jaxp2p.cli.source import CASE_NAMES
from jaxp2p.data import PRICES, load_case, write_tables
from jaxp2p.data.cases import window_until
from jaxp2p.data.digests import changes, digests
from jaxp2p.report.results import load_results
from jaxp2p.settings.commands import COMMANDS, RUN, STUDY, TUNE, Configurable
from jaxp2p.settings.fields import UsageError, settings_of
from jaxp2p.settings.lines import lines_of
from jaxp2p.settings.reading import Made, read_configuration, settings_by
from jaxp2p.settings.schema_json import schema
from jaxp2p.settings.source import TARIFFS, Source
from jaxp2p.settings.span import agreed, days_of, merged
from jaxp2p.settings.toml import by_table, fresh_file, literal, resolved_file


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """The commands write into the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def asked(monkeypatch):
    """Instead of a run: the source and the options that it was asked for."""
    calls: list[Any] = []
    monkeypatch.setattr(jaxp2p.cli.running, "run", lambda *got: calls.append(got) or 0)
    return calls


def call(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def written(text: str, name: str = "my.toml") -> Path:
    Path(name).write_text(text, encoding="utf-8")
    return Path(name)


def faults(text: str, command: str | None = None) -> list[str]:
    """The lines of the refusal."""
    with pytest.raises(UsageError) as error:
        read_configuration(written(text), command=command)
    return str(error.value).splitlines()[1:]


def told(text: str) -> dict[str, Any]:
    """The file with every commented setting given."""
    return tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))


EVERY = pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)


# --- complete -------------------------------------------------------------------------------------


@EVERY
def test_every_setting_of_the_dataclasses_is_in_the_file_the_schema_and_the_help(command: Configurable):
    wanted = set(settings_of(Source)) | set(settings_of(command.options)) - set(command.without)
    wanted -= set(command.without)
    options = {option.name: option for option in command.settings()}
    assert set(options) == wanted
    keys = {(option.table, option.key) for option in options.values()}
    assert len(keys) == len({key for _, key in keys}) == len(options)  # a key stands in one table only
    in_file = {
        (table, key)
        for table, rows in told(fresh_file(command)).items()
        if table != "command"
        for key in rows
    }
    assert in_file == keys
    properties = schema(command)["properties"]
    in_schema = {
        (table, key)
        for table, about in properties.items()
        if table not in ("command", "made")
        for key in about["properties"]
    }
    assert in_schema == keys
    typed = typer.main.get_command(app).commands[command.name].params
    assert {parameter.name for parameter in typed} - {"help"} == wanted


@EVERY
def test_a_fresh_file_changes_nothing_and_with_every_line_given_is_right(command: Configurable):
    text = fresh_file(command)
    assert tomllib.loads(text) == {"command": command.name} | {table: {} for table in by_table(command)}
    nothing = read_configuration(written(text))
    defaults = {option.name: option.default for option in command.settings()}
    assert nothing.command is command and settings_by(nothing, {}) == defaults
    everything = read_configuration(written(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)))
    assert set(everything.values) == set(defaults)
    for name, default in defaults.items():
        if default is not None:
            assert everything.values[name] == default or name == "out", name


def test_the_file_says_help_unit_choices_limits_and_default():
    text = " ".join(line.removeprefix("# ") for line in fresh_file(RUN).splitlines())
    assert "Fee of a trade, half to each side. (EUR/KWH; at least 0; default: 0.01) fee = 0.01" in text
    assert 'one of bilateral, pool, none; default: "bilateral"' in text
    assert not re.search(r"--[a-z]", text), "options are called keys in a file"
    assert "above" not in fresh_file(STUDY)


@EVERY
def test_the_schema_takes_what_init_writes_and_refuses_what_is_misspelt(command: Configurable):
    rules = schema(command)
    jsonschema.Draft7Validator.check_schema(rules)
    judge = jsonschema.Draft7Validator(rules)
    content = told(fresh_file(command))
    assert not list(judge.iter_errors(content))
    assert not list(judge.iter_errors(tomllib.loads(fresh_file(command))))
    for table in by_table(command):
        for wrong in ({table: {**content[table], "misspelt": 1}}, {f"{table}s": content[table]}):
            assert list(judge.iter_errors(wrong)), wrong
    assert list(judge.iter_errors({"command": "rum"}))


@EVERY
def test_the_schema_and_the_reader_refuse_the_same_values(command: Configurable):
    judge = jsonschema.Draft7Validator(schema(command))
    for option in command.settings():
        about, wrong = option.about, [{"a": 1}, [1]]
        wrong += [about.least - 1] if about.least is not None else []
        wrong += [about.most + 1] if about.most is not None else []
        wrong += ["no such choice"] if about.choices else []
        wrong += [1] if option.kind is bool else ["1"] if option.kind in (int, float) else []
        for value in wrong:
            content = {option.table: {option.key: value}}
            assert list(judge.iter_errors(content)), content
            row = "{a = 1}" if isinstance(value, dict) else literal(value)
            text = f"[{option.table}]\n\n{option.key} = {row}\n"
            (fault,) = faults(text, command.name)
            assert fault.startswith(f"  line 3: {option.key} is "), fault


def test_lists_that_the_settings_repeat_are_those_of_the_library():
    assert tuple(PRICES) == TARIFFS


# --- refused --------------------------------------------------------------------------------------


def test_every_fault_is_named_with_its_line_and_the_nearest_name():
    assert faults("""# mine
[source]
name = "rurl3"
strat = "2016-07-04"
days = "many"
battery_share = 0.5

[marked]
market = "pool"

[market]
market = "pol"
partners = 2.5
fee = -1
grpah = "nearest"

[grid]
network = 1
dtyp = "float32"
""") == [
        "  line 3: name is 'rurl3': there is no folder rurl3, and the cases are rural3, rural1, ieee33; "
        'did you mean "rural3"?',
        '  line 4: unknown key strat in [source]; did you mean "start"?',
        "  line 5: days is 'many': it must be a number",
        "  line 6: unknown key battery_share in [source]; it belongs into [changes]",
        '  line 8: unknown table marked; did you mean "market"?',
        "  line 12: market is 'pol': choose from bilateral, pool, none; did you mean \"pool\"?",
        "  line 13: partners is 2.5: it must be a whole number",
        "  line 14: fee is -1: it must be at least 0",
        '  line 15: unknown key grpah in [market]; did you mean "graph"?',
        "  line 18: network is 1: it must be true or false",
        '  line 19: unknown key dtyp in [grid]; did you mean "dtype"? It belongs into [solver]',
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("days = 2\n", "line 1: unknown key days; it belongs into [source]"),
        ("market = 'pool'\n", "line 1: market is a table: [market], with its keys in the lines below"),
        ("[[source]]\nname = 'rural1'\n", "line 1: source is a table"),
        (
            "\ncommand = 'rum'\n",
            "line 2: command is 'rum': choose from run, study, tune, hosting, modes;",
        ),
        ("command = ['run']\n", "line 1: command is ['run']: choose from"),
        ("[market]\nfee = 1" + 400 * "0", "line 2: fee is 1000"),
        ("[market]\nfee = nan\n", "line 2: fee is nan: it must be finite"),
        ("[market]\npartners = true\n", "line 2: partners is true: it must be a whole number"),
        ("[source]\nduration = '36'\n", "line 2: duration: '36' is not a duration"),
        (
            "[source]\naccept = [\n 'load_high',\n 3]\n",
            "line 2: accept is ['load_high', 3]: it must be a list",
        ),
        ("[policies]\npolicies = 3\n", "line 2: policies is 3: it must be a list of texts"),
        ("[made]\nversoin = '1'\n", 'line 2: unknown key versoin; did you mean "version"?'),
        ("[made]\nversion = 1\n", "line 2: made.version is as jaxp2p writes it"),
        ("made = 3\n", "line 1: made is a table"),
        ("[source]\nname = 'nowhere/village'\n", "line 2: name is 'nowhere/village': there is no folder"),
    ],
)
def test_what_is_wrong_is_said(text, said):
    (fault,) = faults(text, "run")
    assert fault.strip().startswith(said)


@pytest.mark.parametrize("text", ["days = \n", "[source]\nname = 'a'\nname = 'b'\n", "[source\n"])
def test_what_is_no_toml_is_refused_with_the_line_that_its_reader_names(text):
    with pytest.raises(UsageError, match=r"my.toml is no TOML file: .*line \d"):
        read_configuration(written(text))


def test_bytes_that_are_no_text_are_refused():
    Path("my.toml").write_bytes(b"[source]\nname = '\xff'\n")
    with pytest.raises(UsageError, match=r"my.toml is no TOML file"):
        read_configuration(Path("my.toml"))


def test_lines_are_found_across_all_that_toml_can_be():
    text = '''# [source]
top = 1

[a]   # b = 2
text = """
[b]
c = 3
"""
many = [
  1,  # [c]
  2,
]
"quoted key" = { x = 1, y = 2 }
d.e.f = 4

[b."c.d"]
g = """ends here"""
'''
    assert lines_of(text) == {
        ("top",): 2,
        ("a",): 4,
        ("a", "text"): 5,
        ("a", "many"): 9,
        ("a", "quoted key"): 13,
        ("a", "d"): 14,
        ("a", "d", "e"): 14,
        ("a", "d", "e", "f"): 14,
        ("b",): 16,
        ("b", "c.d"): 16,
        ("b", "c.d", "g"): 17,
    }
    assert lines_of(text.replace("\n", "\r\n")) == lines_of(text)


# --- what wins ------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_file_and_the_file_over_the_defaults(asked):
    written("""
[source]
name = "rural1"
days = 3
start = 2016-07-05

[market]
market = "pool"
partners = 4

[grid]
network = false

[policies]
policies = ["greedy", "lyapunov"]

[results]
per_home = true
""")
    done = call("run", "my.toml", "--market", "none", "--days", 7, "--network", "--seed", 0)
    assert done.exit_code == 0, done.output
    ((source, options),) = asked
    assert (source.name, source.start, source.days, source.seed) == ("rural1", "2016-07-05", 7, 0)
    assert (options.market, options.partners, options.network) == ("none", 4, True)
    assert (options.policies, options.homes_tables, options.graph) == ("greedy,lyapunov", True, None)
    assert options.tolerance == RUN.options.tolerance


def test_paths_are_relative_to_the_file(asked):
    write_tables(village(), "data/village")
    written(
        '[source]\nname = "village"\n[policies]\ncontroller = "c.json"\n'
        '[results]\nout = "../there"\njson = "-"\n',
        "data/my.toml",
    )
    assert call("run", "data/my.toml", "--json", "here.json").exit_code == 0
    assert call("run", "data/my.toml").exit_code == 0
    (source, options), (_, second) = asked
    assert Path(source.name) == Path("data/village")
    assert (options.controller, options.out) == (Path("data/c.json"), Path("data/../there"))
    assert (options.json, second.json) == ("here.json", "-")


def test_a_file_that_is_not_there_and_one_of_another_command_are_refused(asked):
    done = call("run", "absent.toml")
    assert done.exit_code == 2 and "there is no file absent.toml; `jaxp2p init absent.toml`" in done.stderr
    written(fresh_file(TUNE))
    done = call("run", "my.toml")
    assert done.exit_code == 2 and "my.toml has settings of `jaxp2p tune`" in done.stderr
    assert not asked


# --- init -----------------------------------------------------------------------------------------


@EVERY
def test_init_writes_a_file_and_its_schema(command: Configurable):
    done = call("init", "my.toml", "--for", command.name)
    assert done.exit_code == 0 and f"jaxp2p {command.name} my.toml" in done.output
    text = Path("my.toml").read_text()
    assert text.startswith("#:schema ./my.schema.json\n")
    assert json.loads(Path("my.schema.json").read_text()) == schema(command)
    assert read_configuration(Path("my.toml"), command=command.name).values == {}


def test_init_leaves_what_is_there():
    assert call("init").exit_code == 0
    assert {path.name for path in Path().iterdir()} == {"jaxp2p.toml", "jaxp2p.schema.json"}
    done = call("init")
    assert done.exit_code == 2 and "jaxp2p.toml is there already" in done.stderr
    Path("other.json").write_text('{"title": "mine"}')
    done = call("init", "new.toml", "--schema", "other.json")
    assert done.exit_code == 2 and "no schema of jaxp2p" in done.stderr and not Path("new.toml").exists()
    assert call("init", "--schema", "jaxp2p.schema.json", "--for", "study").exit_code == 0  # a new one
    assert json.loads(Path("jaxp2p.schema.json").read_text()) == schema(STUDY)
    assert call("init", "my.txt").exit_code == 2
    assert call("init", "absent/my.toml").exit_code == 2


def test_the_schema_is_named_from_the_file_on():
    Path("deep").mkdir()
    assert call("init", "deep/my.toml", "--schema", "all.json").exit_code == 0
    assert Path("deep/my.toml").read_text().startswith("#:schema ./../all.json\n")


# --- lengths --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("36h", 1.5),
        ("2d", 2),
        ("1d 12h", 1.5),
        ("1 week", 7),
        ("90 min", 0.0625),
        ("1.5 days", 1.5),
        ("2W", 14),
    ],
)
def test_durations(text, days):
    assert days_of(text) == days


@pytest.mark.parametrize("text", ["", "36", "h", "1d 12", "-2d", "0h", "2 fortnights", "1e3h", "P1D"])
def test_what_is_no_duration(text):
    with pytest.raises(UsageError, match="is not a duration such as 36h"):
        days_of(text)


@pytest.mark.parametrize(
    ("given", "span"),
    [
        (("--start", "2016-07-04", "--until", "2016-07-06"), ("2016-07-04 00:00", "2016-07-06 00:00")),
        (("--until", "2016-07-06", "--duration", "36h"), ("2016-07-04 12:00", "2016-07-06 00:00")),
        (("--until", "2016-07-06T12:00", "--days", 2), ("2016-07-04 12:00", "2016-07-06 12:00")),
        (("--duration", "1d"), ("2016-07-04 00:00", "2016-07-05 00:00")),
        (
            ("--start", "2016-07-05", "--until", "2016-07-07", "--days", 2, "--duration", "48h"),
            ("2016-07-05 00:00", "2016-07-07 00:00"),
        ),
    ],
)
def test_a_span_by_any_two_of_start_length_and_end(given, span, asked):
    assert call("run", "rural1", *given).exit_code == 0
    from jaxp2p.data.loading import choose_days, span_text

    tables = choose_days(load_case("rural1"), asked[0][0])
    assert span_text(tables) == " to ".join(span)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--until", "2016-07-06"), "until needs a start, a number of days or a duration"),
        (("--start", "2016-07-06", "--until", "2016-07-06"), "is not after the start"),
        (("--start", "2016-07-04", "--until", "2016-07-06", "--days", 7), "are 2 days, not 7"),
        (("--days", 7, "--duration", "2d"), "days = 7 and duration = '2d' contradict each other"),
        (("--duration", "2 fortnights"), "--duration: '2 fortnights' is not a duration"),
        (("--start", "2016-07-04", "--until", "someday"), "until = 'someday' is not a date"),
    ],
)
def test_a_contradiction_is_refused(given, said):
    done = call("run", "rural1", *given)
    assert done.exit_code == 2 and said in done.stderr


@pytest.mark.parametrize(
    ("given", "span"),
    [
        ({"until": "2016-07-06", "duration": "36h"}, ("2016-07-04 12:00", 144)),
        ({"start": "2016-07-04", "until": "2016-07-05"}, ("2016-07-04 00:00", 96)),
        ({"duration": "6h"}, ("2016-07-04 00:00", 24)),
        ({"days": 2, "duration": "48h", "start": "2016-07-09"}, ("2016-07-09 00:00", 192)),
    ],
)
def test_a_case_has_the_same_law(given, span):
    case = jp.build("rural1", market="pool", **given)
    assert (f"{case.time.iloc[0]:%Y-%m-%d %H:%M}", case.slots) == span


def test_a_case_refuses_a_contradiction():
    with pytest.raises(ValueError, match="contradict"):
        jp.build("rural1", days=2, duration="36h")


def test_a_study_and_a_tuning_know_their_days_by_the_end(monkeypatch):
    calls: list[Any] = []
    for module, name in ((jaxp2p.cli.studying, "study"), (jaxp2p.cli.tuning, "tune")):
        monkeypatch.setattr(module, name, lambda *got: calls.append(got) or 0)
    end = ("--start", "2016-07-04", "--until", "2016-07-08")
    assert call("study", "rural1", *end, "--duration", "6h").exit_code == 0
    assert call("study", "rural1", "--from-days", 9).exit_code == 0
    assert call("tune", "rural1", *end).exit_code == 0
    assert call("tune", "rural1", "--train-days", 3).exit_code == 0
    (study, scenarios), (usual, _), (tuned, options), (by_number, _) = calls
    assert (study.days, study.until, scenarios.days) == (None, "2016-07-08", 0.25)
    assert (tuned.days, tuned.until, options.until) == (None, "2016-07-08", "2016-07-08")
    assert (usual.days, by_number.days) == (9, 3 + 28)


def test_a_tuning_needs_whole_days_to_test_on():
    given = ("--start", "2016-07-04", "--train-days", 2)
    for end, said in (("2016-07-06", "--until: 0 days are left"), ("2016-07-07T06", "--until: 1.25 days")):
        done = call("tune", "rural1", *given, "--until", end)
        assert done.exit_code == 2 and said in done.stderr


def test_a_day_that_the_clock_shortens_has_23_hours():
    tables = village(start="2016-03-26T23:00", slots=3 * 96)  # in UTC: midnight in Berlin
    tables = tables.replace(meta={**tables.meta, "time_zone": "Europe/Berlin"})
    assert len(window_until(tables, start="2016-03-27", until="2016-03-28").profiles) == 4 * 23


def test_the_length_of_the_command_line_takes_the_place_of_that_of_the_file():
    defaults = {"start": None, "days": 7, "until": None, "duration": None}
    assert merged(defaults, {}) == defaults
    assert merged(defaults, {"until": "x"}) == defaults | {"days": None, "until": "x"}
    assert merged(defaults, {"until": "x", "days": 7}) == defaults | {"until": "x"}
    assert merged(defaults, {"days": 3}, {"duration": "6h"}) == defaults | {"days": None, "duration": "6h"}
    assert merged(defaults, {"start": "a", "until": "x"}, {"days": 2}) == defaults | {"start": "a", "days": 2}
    study = {"days": 7, "duration": None, "from_days": 28, "until": None}
    assert merged(study, {"until": "x"}, lengths=STUDY.lengths) == study | {"from_days": None, "until": "x"}
    assert agreed(None, "6h") == agreed(0.25, "6h") == 0.25


# --- results are made again -----------------------------------------------------------------------

TIMED = re.compile(r"ms_per_slot|seconds|realtime_factor")  # what a clock measured


def tables_of(folder: str) -> dict[str, pd.DataFrame]:
    found = load_results(folder).tables
    return {name: frame[[c for c in frame if not TIMED.search(c)]] for name, frame in found.items()}


def test_a_run_is_made_again_bit_for_bit_and_in_python():
    write_tables(village(), "village")
    given = ("--market", "pool", "--days", 1, "--pv-scale", 1.3, "--tolerance", 0.7, "--seed", 3)
    chosen = ("--policies", "no_storage_no_trade,no_storage,lyapunov", "--per-home", "--no-pictures")
    done = call("run", "village", *given, *chosen, "--out", "first")
    assert done.exit_code == 0, done.output
    again = call("run", "first/config.toml", "--out", "second")
    assert again.exit_code == 0 and "remark" not in again.stderr
    first, second = tables_of("first"), tables_of("second")
    assert set(first) == set(second) and "homes_lyapunov" in first
    for name, frame in first.items():
        pd.testing.assert_frame_equal(frame, second[name], check_exact=True)
    texts = [Path(folder, "config.toml").read_text() for folder in ("first", "second")]
    assert texts[0] == texts[1]
    # older results of ours may be replaced with this file in them
    assert call("run", "first/config.toml", "--out", "second").exit_code == 0

    config = jp.read_config("first/config.toml")
    assert (config.command, config.source.pv_scale, config.options.tolerance) == ("run", 1.3, 0.7)
    assert not config.remarks
    result = config.run()
    result.save("third", homes=True)
    assert Path("third/config.toml").read_text() == texts[0]
    for policy in result.policies:
        frame = result.slots(policy)
        kept = frame[first[f"slots_{policy}"].columns]
        pd.testing.assert_frame_equal(kept, first[f"slots_{policy}"], check_exact=True)


def test_a_changed_input_and_another_version_are_said(asked):
    write_tables(village(), "village")
    made = Made(version="0.0.1", inputs=digests({"tables": Path("village")}))
    values = vars(Source(name=str(Path("village").absolute())))
    written(resolved_file(RUN, values, made))
    assert set(made.inputs) == {f"{name}.csv" for name in village().frames()} | {"case.json"}
    done = call("run", "my.toml")
    assert done.exit_code == 0 and "was made by jaxp2p 0.0.1" in done.stderr and "input" not in done.stderr
    prices = Path("village/prices.csv")
    prices.write_text(prices.read_text().replace("0.4", "0.5"))
    Path("village/case.json").unlink()
    done = call("run", "my.toml")
    assert "from another input: prices.csv has changed" in done.stderr
    assert "from another input: case.json is gone" in done.stderr
    assert len(jp.read_config("my.toml").remarks) == 3
    assert not call("run", "my.toml", "--quiet").stderr


def test_changes_of_files():
    assert changes({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "0", "d": "4"}) == [
        "b has changed",
        "c is gone",
        "d is new",
    ]


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_what_is_written_beside_results_is_read_as_it_was(command: Configurable):
    """Texts with every sign, numbers to the last bit, and what is left to defaults."""
    strange = {"time_zone": 'a "b" \\ \x7f \t é \u2028', "start": "2016-07-04", "battery_share": 0.1 + 0.2}
    strange |= {"pv_scale": 1e-7, "load_scale": 1e22, "accept": "load_high,pv_low", "homes": 12}
    values = vars(command.options()) | vars(Source(**strange))
    found = read_configuration(
        written(resolved_file(command, values, Made(version="1", inputs={"a.csv": "f"})))
    )
    assert found.made == Made(version="1", inputs={"a.csv": "f"})
    for option in command.settings():
        if values[option.name] is not None:
            assert found.values[option.name] == values[option.name] or option.name == "out"
        else:
            assert option.name not in found.values


# --- in Python ------------------------------------------------------------------------------------


def test_python_has_the_dataclasses_and_changes_win():
    written('[source]\nname = "rural1"\ndays = 3\n[market]\nmarket = "pool"\n')
    config = jp.read_config("my.toml", days=0.25, dtype="float64")
    assert config.source == Source(name="rural1", days=0.25)
    assert config.options == RUN.options(market="pool", dtype="float64")
    case = config.build()
    same = jp.build(load_case("rural1"), days=0.25, market="pool", dtype="float64")
    assert (case.size, case.slots, case.community.market.kind) == (same.size, same.slots, "pool")
    with pytest.raises(ValueError, match="unknown value 'rnu'; did you mean \"run\""):
        jp.read_config("my.toml", command="rnu")
    with pytest.raises(ValueError, match="no setting of `jaxp2p run` is called dyas"):
        jp.read_config("my.toml", dyas=1)


@EVERY
def test_every_command_has_a_case_in_python(command: Configurable):
    written(f'command = "{command.name}"\n[source]\nname = "rural1"\n')
    config = jp.read_config("my.toml")
    assert config.command == command.name and type(config.options) is command.options
    if "days" not in command.without:
        case = jp.read_config("my.toml", days=0.25).build()
        assert case.slots == 24
    if command is not RUN:
        with pytest.raises(ValueError, match="not of `jaxp2p run`"):
            config.run()


def test_cases_that_a_file_can_name_are_those_there_are():
    assert {field.name for field in fields(Source)} >= {"name", "start", "until", "duration"}
    for name in CASE_NAMES:
        assert read_configuration(written(f'[source]\nname = "{name}"\n')).values["name"] == name
