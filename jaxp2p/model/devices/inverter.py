"""Inverters of PV plants: the reactive power q that they give beside the active power g that is used.

    unity       q = 0
    cos_phi     q = -g tan(phi), phi the plant's least power factor
    cos_phi_p   q = -g tan(phi(g / P)), cos(phi(x)) falling from 1 at x = 0.5 to the least at x = 1
    volt_var    q = Q f(|v|), a curve (`model.network.droop`)
    market      q in [-Q, Q], the least that keeps the voltages (`model.network.least_reactive`)

in kvar, positive = capacitive: it raises the voltage. Q = S sin(phi), and always |q| <= sqrt(S^2 - g^2):
active power comes first. P is the plant's rated power. The first four are rules of VDE-AR-N 4105; Q is there
at night as well.
"""

import numpy as np
from jax import Array

from jaxp2p._pytree import record, static
from jaxp2p.model.devices.arrays import Values, namespace
from jaxp2p.settings.model import REACTIVE

UNITY, COS_PHI, COS_PHI_P, VOLT_VAR, MARKET = REACTIVE
BEGINS = 0.5  # of the rated power: up to here cos_phi_p is at unity


@record
class Inverters:
    """N inverters; a home without PV has zeros, and a cos(phi) of 1."""

    rating: Array  # (N,) kVA, S
    power: Array  # (N,) kW, P
    cos_phi: Array  # (N,) least power factor, above 0
    rule: str = static()  # one of `REACTIVE`, but for unity: that is no Inverters at all
    curve: tuple[float, float, float, float] = static()  # p.u., of volt_var

    @property
    def answers(self) -> bool:
        """Whether they answer to the voltage, known from the structure."""
        return self.rule == VOLT_VAR

    @property
    def most(self) -> Values:
        """(N,) kvar, Q."""
        return self.rating * namespace(self.cos_phi).sqrt(1 - self.cos_phi**2)

    def beside(self, pv_used: Values) -> Values:
        """(..., N) kvar that the rating leaves beside (..., N) kW."""
        xp = namespace(pv_used, self.rating)
        return xp.sqrt(xp.maximum(_wide(self.rating, pv_used) ** 2 - pv_used**2, 0))

    def able(self, pv_used: Values) -> Values:
        """(..., N) kvar that can be given or taken beside (..., N) kW: of volt_var and market."""
        return namespace(pv_used).minimum(_wide(self.most, pv_used), self.beside(pv_used))

    def following(self, pv_used: Values) -> Values:
        """(..., N) kvar of the rules that follow the active power (..., N) kW alone."""
        return -namespace(pv_used).minimum(pv_used * self._tangent(pv_used), self.beside(pv_used))

    def reach(self, available: Values) -> tuple[Values, Values]:
        """Bounds (..., N) in kvar of what is ever given while at most (..., N) kW are generated."""
        xp = namespace(available, self.rating)
        if self.rule in (VOLT_VAR, MARKET):
            most = xp.broadcast_to(_wide(self.most, available), available.shape)
            return -most, most
        # grows with g, but for the rating
        return -available * self._tangent(available), xp.zeros_like(available)

    def _tangent(self, pv_used: Values) -> Values:
        xp, least = namespace(pv_used, self.cos_phi), _wide(self.cos_phi, pv_used)
        if self.rule == COS_PHI_P:
            full = xp.maximum(_wide(self.power, pv_used), np.finfo(pv_used.dtype).tiny)
            share = xp.clip((pv_used / full - BEGINS) / (1 - BEGINS), 0, 1)
            least = 1 - (1 - least) * share
        return xp.sqrt(1 - least**2) / least


def _wide(values: Values, like: Values) -> Values:
    return values.reshape((1,) * (like.ndim - 1) + values.shape)
