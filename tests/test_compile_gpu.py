"""What is read of a program for a graphics card, against a count by hand of a short one, `data/loops.hlo`."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TEXT = (Path(__file__).parent / "data" / "loops.hlo").read_text(encoding="utf-8")
# the host's sequence of that program: the step goes round there, the loop in it as well
SEQUENCE = """\
000: kCopy      [source       | next=001 (1)] kCopy
001: kWhile     [prev=000 (1) | sink        ]
condition:
    002: kCustomKernel [source | sink] loop_less_fusion grid: [1, 1, 1] threads: [1, 1, 1]
  body:
    003: kCustomKernel [source | next=004 (1)] loop_take_fusion grid: [1, 1, 1] threads: [100, 1, 1]
    004: kCustomKernel [source | next=005 (1)] own_kernel grid: [1, 1, 1] threads: [100, 1, 1]
    000: kSequential [source | sink]         005: kGemm [source | sink] kGemm
        006: kMemzero [source | sink] kMemzero
    007: kWhile [prev=005 (1) | next=000 (1)]
condition:
        008: kCustomKernel [source | sink] loop_large_fusion grid: [1, 1, 1] threads: [1, 1, 1]
      body:
        009: kCustomKernel [source | sink] loop_halve_fusion grid: [1, 1, 1] threads: [100, 1, 1]
    000: kCommandBuffer [prev=007 (1) | sink]
        010: kCustomKernel [source | sink] input_put_fusion grid: [1, 1, 1] threads: [100, 1, 1]
        011: kCopy [source | sink] kCopy
        012: kCustomKernel [source | sink] loop_next_fusion grid: [1, 1, 1] threads: [1, 1, 1]
"""
# the same in one command buffer
IN_GRAPH = "000: kCommandBuffer [source | sink]\n" + "".join(
    line if line.startswith("condition") else f"    {line}" for line in SEQUENCE.splitlines(keepends=True)
)


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


@pytest.fixture
def program():
    from gpu_program import read_program

    return read_program(TEXT)


def test_bytes_of_every_kernel(program):
    """In words of 4 bytes, but for flags of one.

    take: a row (100) of eight, the counter (1), 25 places, 25 gathered of 100; the sum (100).
    put: nothing of the table, 100 and the counter; a row (100) and the double (100), not the table.
    """
    (outer,) = program.inner
    (inner,) = outer.inner
    moved = {kernel.name: (kernel.kind, kernel.read, kernel.written) for kernel in outer.kernels}
    assert moved == {
        "loop_less_fusion": ("fusion", 4, 1),
        "loop_take_fusion": ("fusion", 4 * (100 + 1 + 25 + 25), 400),
        "own_kernel": ("pallas", 800, 400),
        "product": ("library", 800, 400),  # without the room that the library works in
        "input_put_fusion": ("fusion", 4 * (100 + 1), 800),
        "copy.1": ("copy", 400, 400),
        "loop_next_fusion": ("fusion", 4, 4),
    }
    assert {kernel.name: (kernel.read, kernel.written) for kernel in inner.kernels} == {
        "loop_large_fusion": (4, 1),  # the first of 100
        "loop_halve_fusion": (400, 400),
    }
    assert [(kernel.name, kernel.moved) for kernel in program.kernels] == [("copy.2", 6400)]


def test_a_turn_counts_the_loops_in_it(program):
    (outer,) = program.inner
    assert outer.turns == 5 and [loop.turns for loop in outer.inner] == [None]
    assert outer.total("kernels", 3) == 7 + 3 * 2
    own = 5 + 1004 + 1200 + 1200 + 1204 + 800 + 8
    assert outer.total("moved", 3) == own + 3 * 805
    assert program.total("kernels", 3) == 1 + 5 * 13
    assert [loop.name for loop in program.every()] == ["program", "while.2", "while.1"]


@pytest.mark.parametrize(
    ("sequence", "launches", "waits"),
    [
        (SEQUENCE, [1, 6, 2], [0, 0, 1]),
        (IN_GRAPH, [1, 0, 0], [0, 0, 0]),
        (SEQUENCE.split("001")[0], [None, None, None], [None, None, None]),  # of another program
    ],
    ids=["host", "one command buffer", "another program"],
)
def test_what_the_host_launches_and_where_it_waits(program, sequence, launches, waits):
    from gpu_program import read_launches

    loops = read_launches(program, sequence).every()
    assert [loop.launches for loop in loops] == launches
    assert [loop.waits for loop in loops] == waits


def test_of_a_branch_the_dearer_side(program):
    from gpu_program import read_program

    branch = "conditional(%k, %x.1, %x.1), branch_computations={%cheap, %dear}"
    sides = "".join(
        f"%{name} (p: f32[100]) -> f32[100] {{\n  %p.{name} = f32[100]{{0}} parameter(0)\n{body}}}\n\n"
        for name, body in (
            ("cheap", "  ROOT %c = f32[100]{0} copy(%p.cheap)\n"),
            ("dear", "  %d = f32[100]{0} copy(%p.dear)\n  ROOT %e = f32[100]{0} copy(%d)\n"),
        )
    )
    entry = "ENTRY %main (x.1: f32[100], k: s32[]) -> f32[100] {\n  %x.1 = f32[100]{0} parameter(0)\n"
    entry += f"  %k = s32[] parameter(1)\n  ROOT %r = f32[100]{{0}} {branch}\n}}\n"
    assert [kernel.name for kernel in read_program(sides + entry).kernels] == ["d", "e"]


def test_another_text_is_refused():
    from gpu_program import read_program

    with pytest.raises(ValueError, match="ENTRY"):
        read_program("no program at all")


def test_the_prediction_is_the_larger_of_two_limits_and_the_waits():
    from compile_gpu import prediction

    small = prediction(kernels=100, moved=3e6, waits=3)  # 1 us of bytes, 250 us of launches
    assert (small["limited_by"], small["us_per_step"]) == ("launches", 250 + 30)
    large = prediction(kernels=100, moved=3e9, waits=0)
    assert (large["limited_by"], large["us_per_step"]) == ("bytes", 1000)
    assert prediction(kernels=1, moved=0, waits=2)["limited_by"] == "waits"


def test_the_source_of_a_kernel_is_the_functions_of_the_package_around_it():
    from gpu_program import read_program

    head = """
FileNames
1 "/a/jaxp2p/studies/lockstep.py"
2 "/b/jax/numpy.py"
3 "/a/jaxp2p/scenarios/noise.py"

FunctionNames
1 "lockstep.<locals>.one"
2 "add"
3 "Noise.draw"

FileLocations
1 {file_name_id=1 function_name_id=1 line=4 end_line=4 column=4 end_column=10}
2 {file_name_id=3 function_name_id=3 line=7 end_line=7 column=4 end_column=10}
3 {file_name_id=2 function_name_id=2 line=9 end_line=9 column=4 end_column=10}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=3}

"""
    entry = "ENTRY %main (x.1: f32[100]) -> f32[100] {\n  %x.1 = f32[100]{0} parameter(0)\n"
    entry += '  ROOT %c = f32[100]{0} copy(%x.1), metadata={op_name="add" stack_frame_id=3}\n}\n'
    (kernel,) = read_program(head + entry).kernels
    assert kernel.source == ("scenarios/noise.py:Noise.draw", "studies/lockstep.py:lockstep.one")


def _study():
    """A group of 96 slots: one draw and five iterations' blocks in each, and all flows after them."""
    from gpu_program import Kernel, Loop

    engine = "studies/lockstep.py:lockstep"
    kernel = lambda moved, *source: Kernel("k", "fusion", moved, 0, source)
    block = kernel(500, "slot/admm/solver.py:step", f"{engine}.cleared")
    solver = Loop("blocks", None, (block,), waits=1, source=(f"{engine}.cleared", f"{engine}.one"))
    slot = (kernel(70, "scenarios/noise.py:Noise.draw", "studies/lane.py:opened"), kernel(30))
    slots = Loop("slots", 96, slot, (solver,), waits=0, source=(f"{engine}.group",))
    flows = kernel(
        9600, "model/network/z_bus.py:search", "simulation/flows.py:power_flow_of", f"{engine}.group"
    )
    group = Loop("groups", 2, (flows,), (slots,), waits=0, source=(engine,))
    return Loop("program", 1, (kernel(1),), (group,), waits=0)


def test_rooms_of_a_study_are_told_apart_per_slot():
    from compile_study import Work, rooms

    turns = 13.3
    work = Work(turns, proofs=1, turn_overs=1)
    found = {line["room"]: line for line in rooms(_study(), "bilateral", "lockstep", work)}
    assert found["solver"]["kernels"] == found["solver"]["waits"] == pytest.approx(turns, abs=0.05)
    assert found["solver"]["us"] == pytest.approx(turns * 12.5, rel=1e-3)
    assert (found["draw"]["kernels"], found["draw"]["us"]) == (1, 2.5)
    assert found["flow"]["kernels"] == round(1 / 96, 1) and found["flow"]["us"] == pytest.approx(
        2.5 / 96, rel=1e-3
    )
    assert found["batch"]["kernels"] == 1  # without a source of its own: that of its loop
    assert found["draw"]["of_solver"] == pytest.approx(1 / turns / 5, abs=6e-4)
    assert all(found[room]["kernels"] == 0 for room in ("statistics", "execute", "open", "prove"))
    assert found["all"]["kernels"] == pytest.approx(sum(x["kernels"] for x in found.values()) / 2, abs=0.1)


def test_a_loop_of_known_length_beside_the_solver_is_all_of_its_turns():
    """Lanes run free: 12 turns at each of 3 turn-overs, and 10 of the solver with 5 sweeps in each."""
    from compile_study import TURNS, Work, rooms
    from gpu_program import Kernel, Loop

    engine = "studies/free_running.py:_take_turns"
    kernel = lambda *source: Kernel("k", "fusion", 100, 0, source)
    # called by a leap, and counted as what it is
    called = ("model/markets/bilateral.py:_along_edges", "slot/admm/leap.py:look", f"{engine}.round_")
    sweeps = Loop("sweeps", None, (kernel(*called),), source=called)
    solver = Loop("turns", None, (), (sweeps,), waits=1, source=(f"{engine}.round_",))
    level = ("slot/admm/level.py:levelled", "studies/lane.py:opened", f"{engine}.turn_over")
    halves = Loop("halves", 12, (kernel(*level),), source=level)
    around = Loop("around", None, (), (solver, halves), waits=1, source=(engine,))
    work = Work(turns=10, proofs=1, turn_overs=3)
    program = Loop("program", 1, (), (around,), waits=0)
    found = {line["room"]: line for line in rooms(program, "bilateral", "free_running", work)}
    assert TURNS["model/markets/bilateral.py"] > 1
    assert found["solver"]["kernels"] == 10 * TURNS["model/markets/bilateral.py"]
    assert found["open"]["kernels"] == 3 * 12


def test_a_missing_compiler_is_one_sentence(monkeypatch):
    from gpu_compiler import h100
    from jax.experimental import topologies

    def none(*_, **__):
        raise NotImplementedError("topology not implemented for cuda\nmore lines")

    monkeypatch.setattr(topologies, "get_topology_desc", none)
    with pytest.raises(SystemExit, match=r"^this environment .* install `jax\[cuda12\]` .*cuda\)$"):
        h100()


def test_lines_and_table(monkeypatch, tmp_path, capsys):
    """The command with a compiler that always gives the program above."""
    import compile_gpu
    from gpu_compiler import Compiled

    compiled = Compiled(TEXT, SEQUENCE, temporary=2_000_000, arrays=3_000_000)
    monkeypatch.setattr(compile_gpu, "STEPS", 5)
    monkeypatch.setattr(compile_gpu, "h100", lambda: None)
    monkeypatch.setattr(compile_gpu, "compile_step", lambda *_: (compiled, 132))
    monkeypatch.setattr(compile_gpu.Tasks, "get", lambda *_: None)
    out = tmp_path / "lines.jsonl"
    wanted = ["--step", "pool/admm", "--homes", "100", "--scenarios", "1", "200000", "--dtype", "float32"]
    (line,) = compile_gpu.main([*wanted, "--turns", "2", "--out", str(out)])
    assert json.loads(out.read_text()) == line
    assert (line["n"], line["scenarios"], line["pallas"], line["library"]) == (100, 1, 1, 1)
    assert (line["kernels"], line["launches"], line["waits"], line["open_loops"]) == (11, 10, 2, 1)
    assert line["bytes_per_update"] == pytest.approx((5421 + 2 * 805) / 100, rel=1e-3)
    assert line["updates_per_second"] == pytest.approx(100 / (11 * 2.5e-6 + 2 * 10e-6), rel=1e-3)
    assert line["temporary_mb"] == 2.0
    head, row = (text.split("  ") for text in capsys.readouterr().out.strip().splitlines())
    assert "updates/s" in "".join(head) and "pool/admm" in "".join(row)
