"""What the compiled program of a graphics card says about its loops.

`read_program` makes a tree of loops of its text, each with its kernels and the bytes that they read and
write. `read_launches` adds, from the sequence that the host works through, what it launches one by one and
where it waits for the device.

What a kernel moves is what it must move: every operand once, every result once. Of an operand that is only
sliced or gathered from, what is taken; of one that is updated in place, what is written; nothing of what
passes through. A constant of a loop is read in every turn, as it does not stay in registers. What a cache
spares is not taken off.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from gpu_source import sources

WIDTH = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "c64": 8, "c128": 16}
WIDTH |= {f"{kind}{bits}": bits // 8 for kind in "suf" for bits in (32, 64)}
# what launches nothing; a loop, a branch and a call are what is in them
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier"}
FREE |= {"add-dependency", "partition-id", "replica-id", "copy-done", "async-done", "async-update"}
SIDES = ("branch_computations", "true_computation", "false_computation", "to_apply", "calls")
NESTED = {"while", "conditional", "call", "async-start"}


@dataclass(frozen=True)
class Kernel:
    """One launch."""

    name: str
    kind: str  # fusion, pallas, library, copy, sort, or another operation of the program
    read: int  # bytes
    written: int  # bytes
    source: tuple[str, ...] = ()  # functions of the package that it comes from, the innermost first

    @property
    def moved(self) -> int:
        return self.read + self.written


@dataclass(frozen=True)
class Loop:
    """A loop of the program, or all of it: what one turn does, its condition included."""

    name: str
    turns: int | None  # None: an open loop, which ends when the data say so
    kernels: tuple[Kernel, ...]
    inner: tuple["Loop", ...] = ()
    launches: int | None = None  # of the host in one turn, a command buffer being one; inner loops aside
    waits: int | None = None  # in one turn, for a condition that the device works out; inner loops aside
    source: tuple[str, ...] = ()  # as of a kernel

    def total(self, what: str, turns: "float | Callable[[Loop], float]") -> float:
        """Of one turn: "kernels", "moved", "launches" or "waits"; open loops take `turns`.

        turns: so many, or a function of the loop.
        """
        own = {
            "kernels": len(self.kernels),
            "moved": sum(kernel.moved for kernel in self.kernels),
            "launches": self.launches or 0,
            "waits": self.waits or 0,
        }[what]
        open_turns = turns if callable(turns) else lambda _: turns
        of = lambda loop: open_turns(loop) if loop.turns is None else loop.turns
        return own + sum(of(loop) * loop.total(what, turns) for loop in self.inner)

    def every(self) -> list["Loop"]:
        """This loop and those in it, in the order of the program."""
        return [self, *(loop for inner in self.inner for loop in inner.every())]


@dataclass(frozen=True)
class _Line:
    """name = shape operation(operands), more"""

    name: str
    shape: str
    operation: str
    operands: tuple[str, ...]
    inside: str  # the parentheses, as written
    more: str
    root: bool

    def named(self, attribute: str) -> list[str]:
        """Computations that an attribute names, one or several in braces."""
        found = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%?[\w.\-]+)", self.more)
        return re.findall(r"[\w.\-]+", found.group(1)) if found else []


_Computation = dict[str, _Line]


def shape_bytes(shape: str) -> int:
    """Of an array or a tuple of arrays, as the program writes it."""
    total = 0
    for kind, sizes in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", shape):
        count = WIDTH.get(kind, 0)
        for size in filter(None, sizes.split(",")):
            count *= int(size)
        total += count
    return total


def _closing(text: str, start: int) -> int:
    """Where the parenthesis at `start` closes."""
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    raise ValueError(f"no end of the parenthesis: {text[start : start + 60]}")


def _line(text: str) -> _Line | None:
    found = re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", text)
    if not found:
        return None
    rest = text[found.end() :]
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    operation = re.match(r"\s*([\w\-]+)\(", rest[end:])
    if not operation:
        return None
    start = end + operation.end() - 1
    close = _closing(rest, start)
    inside = rest[start + 1 : close]
    named = (
        () if operation.group(1) in ("constant", "parameter") else tuple(re.findall(r"%([\w.\-]+)", inside))
    )
    return _Line(
        found.group(2), rest[:end], operation.group(1), named, inside, rest[close + 1 :], bool(found.group(1))
    )


def _computations(text: str) -> tuple[dict[str, _Computation], str]:
    """All by name, their lines by name in order; and the name of the one that is entered."""
    found: dict[str, _Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head and not line.startswith("HloModule"):
            current = found.setdefault(head.group(2), {})
            entry = head.group(2) if head.group(1) else entry
        elif line.startswith("}"):
            current = None
        elif current is not None and (made := _line(line)):
            current[made.name] = made
    return found, entry


def _root(computation: _Computation) -> _Line:
    return next(line for line in computation.values() if line.root)


def _seen_through(computation: _Computation, line: _Line) -> _Line:
    """What a bitcast is of."""
    while line.operation == "bitcast":
        line = computation[line.operands[0]]
    return line


def _results(computation: _Computation) -> list[_Line]:
    root = _root(computation)
    lines = [computation[name] for name in root.operands] if root.operation == "tuple" else [root]
    return [_seen_through(computation, line) for line in lines]


def _put(computation: _Computation, line: _Line) -> int | None:
    """Bytes that are put into an array which is otherwise left as it is; None: it is another operation."""
    if line.operation not in ("dynamic-update-slice", "scatter"):
        return None
    several = len(line.operands) // 2 if line.operation == "scatter" else 0  # operands, indices, updates
    updates = line.operands[several + 1 :] if several else line.operands[1:2]
    return sum(shape_bytes(computation[name].shape) for name in updates)


def _read_of(found: dict[str, _Computation], computation: _Computation, name: str) -> int:
    """Bytes that a fused computation reads of one of its values."""
    whole, total = shape_bytes(computation[name].shape), 0
    for user in computation.values():
        if name not in user.operands:
            continue
        first = user.operands[0] == name
        if user.operation == "bitcast":
            total += _read_of(found, computation, user.name)
        elif user.operation == "tuple":
            total += 0 if user.root else whole
        elif user.operation in ("slice", "dynamic-slice", "gather") and first:
            total += shape_bytes(user.shape)
        elif user.operation == "dynamic-update-slice" and first and user in _results(computation):
            total += 0
        elif user.operation == "scatter" and first and user in _results(computation):
            total += _put(computation, user) or 0
        elif user.operation == "fusion":
            total += _read_by_fusion(found, user, name)
        else:
            return whole
    return min(total, whole)


def _read_by_fusion(found: dict[str, _Computation], fusion: _Line, operand: str) -> int:
    """Bytes that a fusion reads of an operand, in whatever places it stands."""
    inner = found[fusion.named("calls")[0]]
    places = [str(place) for place, name in enumerate(fusion.operands) if name == operand]
    parameters = [line for line in inner.values() if line.operation == "parameter" and line.inside in places]
    return max((_read_of(found, inner, line.name) for line in parameters), default=0)


def _kernel(
    found: dict[str, _Computation], computation: _Computation, line: _Line, source: tuple[str, ...]
) -> Kernel:
    size = {name: shape_bytes(computation[name].shape) for name in line.operands}
    kind, written = line.operation, shape_bytes(line.shape)
    if kind == "fusion":
        inner = found[line.named("calls")[0]]
        read = sum(_read_by_fusion(found, line, name) for name in size)
        parts = []
        for result in _results(inner):
            put = _put(inner, result)
            whole = 0 if result.operation == "parameter" else shape_bytes(result.shape)
            parts.append(whole if put is None else put)
        written = sum(parts)
    elif kind in ("dynamic-slice", "slice", "gather"):
        read = written + sum(size[name] for name in line.operands[1:])
    elif (put := _put(computation, line)) is not None:
        read, written = sum(size[name] for name in line.operands[1:]), put
    else:
        read = sum(size.values())
    if kind == "custom-call":
        target = re.search(r'custom_call_target="([^"]*)"', line.more)
        named = target.group(1) if target else ""
        kind = "pallas" if "triton" in named or "mosaic" in named else "library"
        if named.startswith("__cu"):  # a library's result, then the room that it works in
            written = shape_bytes(re.sub(r"s8\[\d+\]", "", line.shape))
    return Kernel(line.name, "copy" if kind == "copy-start" else kind, read, written, source)


def read_program(text: str) -> Loop:
    """The tree of loops of a compiled program, from its text (HLO, scheduled).

    Of a branch the dearer side is taken. Raises ValueError where the text has no entry.
    """
    found, entry = _computations(text)
    if not entry:
        raise ValueError("not the text of a compiled program: nothing in it is marked ENTRY")
    frames = sources(text)

    def source(line: _Line) -> tuple[str, ...]:
        frame = re.search(r"stack_frame_id=(\d+)", line.more)
        return frames.get(int(frame.group(1)), ()) if frame else ()

    def loop(name: str, turns: int | None, bodies: list[str], at: tuple[str, ...]) -> Loop:
        kernels: list[Kernel] = []
        inner: list[Loop] = []
        lines = [(found[body], line) for body in bodies for line in found[body].values()]
        for computation, line in lines:
            if line.operation == "while":
                known = re.search(r'"known_trip_count":\{"n":"(\d+)"', line.more)
                parts = line.named("condition") + line.named("body")
                inner.append(loop(line.name, int(known.group(1)) if known else None, parts, source(line)))
            elif line.operation in NESTED:
                sides = [side for attribute in SIDES for side in line.named(attribute)]
                ways = [loop(line.name, 1, [side], source(line)) for side in sides]
                dearest = max(ways, key=lambda way: (way.total("moved", 1), way.total("kernels", 1)))
                kernels += dearest.kernels
                inner += dearest.inner
            elif line.operation not in FREE:
                kernels.append(_kernel(found, computation, line, source(line)))
        return Loop(name, turns, tuple(kernels), tuple(inner), source=at)

    return loop("program", 1, [entry], ())


def read_launches(program: Loop, sequence: str) -> Loop:
    """The program with `launches` and `waits` from the sequence of the host.

    The host launches a command buffer, which may hold a loop, at once. It waits where it asks the device for
    the condition of a loop whose turns it does not know, and of a branch, outside of command buffers. Where
    the two do not have as many loops, the program is returned as it is.
    """
    counted = _host_loops(sequence)
    loops = program.every()
    if len(counted) != len(loops):
        return program
    figures = iter(counted)

    def with_figures(loop: Loop) -> Loop:
        launches, waits, in_graph = next(figures)
        asks = loop.turns is None and not in_graph
        inner = tuple(with_figures(each) for each in loop.inner)
        return replace(loop, launches=launches, waits=waits + asks, inner=inner)

    return with_figures(program)


def _host_loops(sequence: str) -> list[tuple[int, int, bool]]:
    """(launches, waits in branches, whether it is in a command buffer) of the program and of every loop."""
    counts = [[0, 0, False]]
    above = [(-1, "program", 0, False)]  # indentation, kind, number of the loop, in a command buffer
    # the first step of several may stand in the line of what they belong to
    steps = (step for line in sequence.splitlines() for step in re.finditer(r"(?:^|\s)(\d+): (k\w+)", line))
    for found in steps:
        depth, kind = found.start(1), found.group(2)
        while above[-1][0] >= depth:
            above.pop()
        _, _, loop, in_graph = above[-1]
        if kind == "kWhile":
            counts.append([0, 0, in_graph])
            above.append((depth, kind, len(counts) - 1, in_graph))
        elif kind in ("kConditional", "kSequential", "kCommandBuffer"):
            counts[loop][0] += kind == "kCommandBuffer" and not in_graph
            counts[loop][1] += kind == "kConditional" and not in_graph
            above.append((depth, kind, loop, in_graph or kind == "kCommandBuffer"))
        else:
            counts[loop][0] += not in_graph
    return [(launches, waits, bool(in_graph)) for launches, waits, in_graph in counts]
