"""Where in the package the parts of a compiled program come from."""

import re

PACKAGE = "jaxp2p/"


def sources(text: str) -> dict[int, tuple[str, ...]]:
    """For every stack frame of a program's text the functions of the package that it stands in.

    "slot/newton/solver.py:advance" and so on, the innermost first; functions of other packages are left out.
    """
    tables = {
        name: _table(text, name) for name in ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
    }
    quoted = lambda name: {number: line.strip('"') for number, line in tables[name].items()}
    files, functions = quoted("FileNames"), quoted("FunctionNames")
    numbers = lambda line: {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}

    def place(location: int) -> str | None:
        found = numbers(tables["FileLocations"][location])
        path = files[found["file_name_id"]]
        if PACKAGE not in path:
            return None
        function = functions[found["function_name_id"]].replace("<locals>.", "")
        return f"{path.rsplit(PACKAGE, 1)[1]}:{function}"

    known: dict[int, tuple[str, ...]] = {0: ()}
    for frame, line in sorted(tables["StackFrames"].items()):
        found = numbers(line)
        here = place(found["file_location_id"])
        above = known[found["parent_frame_id"] - 1]  # counted from 1, which is none
        known[frame] = above if here is None else (here, *above)
    return known


def _table(text: str, name: str) -> dict[int, str]:
    """The numbered lines under a heading before the program."""
    found = re.search(rf"^{name}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
    lines = found.group(1).splitlines() if found else []
    return {int(number): rest for number, rest in (line.split(" ", 1) for line in lines)}
