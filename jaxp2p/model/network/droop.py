"""Volt-VAR: reactive power of inverters that answers to the voltage at their bus.

    q = Q f(|v|),   f falling from 1 at |v| <= v1 to 0 at v2, and from 0 at v3 to -1 at |v| >= v4:

capacitive where the voltage is low, inductive where it is high, with a dead band between (q(U) of
VDE-AR-N 4105, Volt-VAR of IEEE 1547-2018). A power flow with it is one flow: q and the voltages are found
together (`z_bus.py`).
"""

from typing import NamedTuple

from jaxp2p.model.devices.arrays import Values, namespace

Curve = tuple[float, float, float, float]
VDE_4105 = (0.93, 0.97, 1.03, 1.07)  # p.u.; IEEE 1547-2018, category B: (0.92, 0.98, 1.02, 1.08)


class Droop(NamedTuple):
    """What the inverters at every bus do in a flow."""

    most: Values  # (..., B) kvar, Q; 0 without an inverter
    curve: Curve  # p.u., v1 to v4

    def share(self, voltage: Values) -> Values:
        """f of voltages in p.u."""
        xp, (v1, v2, v3, v4) = namespace(voltage), self.curve
        return xp.clip((v2 - voltage) / (v2 - v1), 0, 1) - xp.clip((voltage - v3) / (v4 - v3), 0, 1)

    @property
    def steepest(self) -> Values:
        """(..., B) kvar per p.u., the most that q falls with the voltage."""
        v1, v2, v3, v4 = self.curve
        return self.most / namespace(self.most, v1).minimum(v2 - v1, v4 - v3)


def faults_of_curve(curve: tuple[float, ...]) -> list[str]:
    """What is wrong with the four voltages, in words."""
    if len(curve) != 4 or not all(0.5 < v < 1.5 for v in curve):
        return [f"a Volt-VAR curve has four voltages in p.u., such as {VDE_4105}: not {tuple(curve)}"]
    v1, v2, v3, v4 = curve
    if not v1 < v2 <= v3 < v4:
        return [f"the voltages of a Volt-VAR curve rise, v1 < v2 <= v3 < v4: not {tuple(curve)}"]
    return []
