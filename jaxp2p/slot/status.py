"""How a slot ended."""

from enum import IntEnum


class Status(IntEnum):
    """Outcome of a slot. Every status comes with a dispatch that keeps all device limits and balances."""

    SOLVED = 0
    MAX_ITER = 1
    NUMERICAL_ERROR = 2
    NETWORK_VIOLATED = 3
    PENALTY_TOO_SMALL = 4
    NETWORK_INFEASIBLE = 5
    UNSERVED = 6
    NOT_SECURE = 7

    @property
    def message(self) -> str:
        """What it means and what to do."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.SOLVED: "solved to the tolerance, inside all limits",
    Status.MAX_ITER: "iteration limit reached; the dispatch is balanced but may cost more than the optimum",
    Status.NUMERICAL_ERROR: "the residuals are not finite; look for extreme units in the data",
    Status.NETWORK_VIOLATED: "solved, but a network limit is violated: `diagnose` tells if it can be met",
    Status.PENALTY_TOO_SMALL: "a network limit is violated that a larger row penalty would keep",
    Status.NETWORK_INFEASIBLE: "no dispatch of the flexible homes keeps this network limit",
    Status.UNSERVED: "a connection limit leaves load unserved or generation spilled",
    Status.NOT_SECURE: "solved in the linear network, but a limit is violated in the AC power flow",
}
