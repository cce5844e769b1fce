"""Which moment of which member is explained; `jaxp2p.library.explain` has its defaults here."""

from dataclasses import dataclass

from jaxp2p.settings.fields import REQUIRED, again, setting
from jaxp2p.settings.sharing import Sharing


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A member and a time."""

    member: str = setting(REQUIRED, "The member.", unit="ID")
    at: str = setting(
        REQUIRED, 'A time, such as "2016-07-05 13:15", by the clock of the tables.', unit="TIME"
    )
    policy: str | None = again(Sharing, "policy")
