"""What homes own, a file per kind of device; the law of each is stated here and nowhere else.

A device is a frozen record with leaves (N,), a home without one having zeros. Its methods take and give NumPy
arrays (hindsight, figures: float64 on the host) as well as JAX arrays (the kernel, traced), in the dtype of
what comes in.
"""

from jaxp2p.model.devices.battery import Battery, PowerLimits
from jaxp2p.model.devices.equipment import Equipment
from jaxp2p.model.devices.inverter import Inverters
from jaxp2p.model.devices.load import Load
from jaxp2p.model.devices.offer import ROWS, Device, Ramp
from jaxp2p.model.devices.pv import PV
from jaxp2p.model.devices.storage import Storage
from jaxp2p.model.devices.vehicle import Fleet, Plugged, Plugs, Vehicles, begun, gained

__all__ = [
    "PV",
    "ROWS",
    "Battery",
    "Device",
    "Equipment",
    "Fleet",
    "Inverters",
    "Load",
    "Plugged",
    "Plugs",
    "PowerLimits",
    "Ramp",
    "Storage",
    "Vehicles",
    "begun",
    "gained",
]
