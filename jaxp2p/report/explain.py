"""Why a member's devices did what they did in a slot: stored value against local price, limits, money.

Everything is read from the tables of a run (`report.frames`), so that a run on disk can be explained too. A
battery charges while the nodal price is below what a stored kWh is worth after losses and wear, and
discharges while it is above; between the two it rests.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxp2p.report.canvas import LIMIT, canvas, label, outside_legend, plain, time_axis
from jaxp2p.report.results import Results
from jaxp2p.settings.fields import one_of

WIDTH = 100
QUIET_KW, SAME = 5e-3, 2e-3  # kW that are nothing; EUR/kWh that two prices may differ and be called the same
PARTS = (
    ("loss_price_eur_per_kwh", "losses that an injection makes"),
    ("voltage_price_eur_per_kwh", "voltage limits"),
    ("branch_price_eur_per_kwh", "ratings of lines and transformers"),
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Explained:
    """One member in one slot, with the day around it."""

    member: str
    policy: str
    at: pd.Timestamp  # start of the slot
    hours: float
    row: pd.Series  # of the table of homes
    slot: pd.Series  # of the table of slots
    limits: pd.DataFrame  # of the slot
    day: pd.DataFrame  # of the table of homes, the member's own day
    bus: str
    battery_kwh: float
    case: str

    @property
    def battery_kw(self) -> float:
        """What the battery gives; below 0 it charges."""
        return float(self.row["discharge_kw"] - self.row["charge_kw"])


def explain_results(results: Results, *, member: str, at: str, policy: str) -> Explained:
    """Of a run that was saved with its homes.

    Raises ValueError for a member or time that is not in it, and where tables are missing.
    """
    name = f"homes_{policy}"
    if name not in results.tables:
        raise ValueError(
            "the results hold nothing of single members: `jaxp2p run --per-home` saves it "
            "(homes=True of Result.save)"
        )
    homes, slots = results.tables[name], results.tables[f"slots_{policy}"]
    one_of(member, dict.fromkeys(homes["member"].astype(str)), option="--member")
    own = homes[homes["member"].astype(str) == member].reset_index(drop=True)
    time = pd.DatetimeIndex(slots["time"])
    hours = float(results.summary["slot_minutes"]) / 60
    number = _slot_at(time, hours, at)
    limits = results.tables.get(f"limits_{policy}")
    here = pd.DataFrame() if limits is None else limits[pd.DatetimeIndex(limits["time"]) == time[number]]
    members = results.tables["members"].set_index("member")
    day = time.normalize() == time[number].normalize()
    return Explained(
        member=member,
        policy=policy,
        at=time[number],
        hours=hours,
        row=own.iloc[number],
        slot=slots.iloc[number],
        limits=here.reset_index(drop=True),
        day=own[day].reset_index(drop=True),
        bus=str(members.loc[member, "bus"]),
        battery_kwh=float(members.loc[member, "battery_kwh"]),
        case=str(results.summary.get("case", "")),
    )


def _slot_at(time: pd.DatetimeIndex, hours: float, at: str) -> int:
    try:
        moment = pd.Timestamp(at)
    except ValueError as error:
        raise ValueError(f'--at: {at!r} is no time; write it as "{time[0]:%Y-%m-%d %H:%M}"') from error
    if moment.tzinfo is not None:
        moment = moment.tz_convert("UTC").tz_localize(None)
    end = time[-1] + pd.Timedelta(hours=hours)
    if not time[0] <= moment < end:
        raise ValueError(
            f"--at: {moment:%Y-%m-%d %H:%M} is not in the run: {time[0]:%Y-%m-%d %H:%M} to "
            f"{end:%Y-%m-%d %H:%M}"
        )
    return int(time.searchsorted(moment, side="right")) - 1


def sentences(found: Explained) -> list[str]:
    """What was done and why, a paragraph each."""
    return [
        part for part in (_done(found), _battery(found), _price(found), _limits(found), _money(found)) if part
    ]


def _done(found: Explained) -> str:
    row = found.row
    told = [f"the load took {row['load_kw']:.2f} kW"]
    if row["pv_used_kw"] > QUIET_KW:
        sun = f"the sun gave {row['pv_used_kw']:.2f} kW"
        if (lost := row["pv_available_kw"] - row["pv_used_kw"]) > QUIET_KW:
            sun += f" ({lost:.2f} kW more were not used, for a kWh was worth nothing more here)"
        told.insert(0, sun)
    if found.battery_kwh > 0:
        doing = (
            "rested"
            if abs(found.battery_kw) <= QUIET_KW
            else (
                f"gave {found.battery_kw:.2f} kW"
                if found.battery_kw > 0
                else f"took {-found.battery_kw:.2f} kW"
            )
        )
        told.append(
            f"the battery {doing} and ended with {row['energy_kwh']:.2f} of {found.battery_kwh:.1f} kWh"
        )
    if (car := row.get("ev_charge_kw", 0.0)) > QUIET_KW:
        told.append(f"vehicles took {car:.2f} kW")
    flows = [
        f"{row[name]:.2f} kW {words}"
        for name, words in (("buy_kw", "bought from the utility"), ("sell_kw", "sold to the utility"))
        if row[name] > QUIET_KW
    ]
    if abs(row["trade_kw"]) > QUIET_KW:
        flows.append(
            f"{abs(row['trade_kw']):.2f} kW {'sold to' if row['trade_kw'] > 0 else 'bought from'} peers"
        )
    return f"{_sentence(', '.join(told))} {_sentence(', '.join(flows) or 'nothing was exchanged')}"


def _battery(found: Explained) -> str:
    row = found.row
    if found.battery_kwh <= 0:
        return ""
    if "charge_below_eur_per_kwh" not in row:
        return f"What the battery did was planned by {label(found.policy)} over the whole time."
    low, high, price = (
        float(row[name])
        for name in ("charge_below_eur_per_kwh", "discharge_above_eur_per_kwh", "nodal_price_eur_per_kwh")
    )
    worth = (
        f"With what was stored, charging was worth it below {low:.4f} EUR/kWh and discharging above "
        f"{high:.4f}; the price at its bus was {price:.4f}."
    )
    power = found.battery_kw
    if power < -QUIET_KW and price <= low + SAME:
        why = "It charged because a stored kWh was worth more than one sold."
    elif power > QUIET_KW and price >= high - SAME:
        why = "It discharged because a kWh was worth more now than stored."
    elif abs(power) <= QUIET_KW and low - SAME <= price <= high + SAME:
        why = "It rested: the price was between the two, and cycling would have lost more than it earned."
    elif abs(power) <= QUIET_KW:
        why = f"It rested because it was {'full' if price < low else 'empty'}, or its power is 0."
    else:
        return f"The battery followed the rule of {label(found.policy)}, not a price."
    if abs(power) > QUIET_KW and abs(price - (low if power < 0 else high)) <= SAME:
        why += " It went only so far: with every kWh moved, a stored one is worth less, until both are equal."
    return f"{worth} {why}"


def _price(found: Explained) -> str:
    row = found.row
    market, nodal = float(row["market_price_eur_per_kwh"]), float(row["nodal_price_eur_per_kwh"])
    between = (
        f"between the utility's {found.slot['price_sell_eur_per_kwh']:.4f} (sells to it) and "
        f"{found.slot['price_buy_eur_per_kwh']:.4f} EUR/kWh (buys from it)"
    )
    parts = [(words, float(row[name])) for name, words in PARTS if name in row and abs(row[name]) > 1e-6]
    text = f"The market price was {market:.4f}, {between}."
    if parts:
        off = ", ".join(f"{value:+.4f} for {words}" for words, value in parts)
        text += f" Taken off at bus {found.bus}: {off}. What the devices saw was {nodal:.4f}."
    return f"{text} One kW more injected here for an hour would have been worth {nodal:.4f} EUR."


def _limits(found: Explained) -> str:
    if found.limits.empty:
        return "No limit of the grid was in use."
    most = found.limits.sort_values("relief_eur_per_h", ascending=False).head(3)
    told = [
        f"{row.limit} ({row.side} limit, {row.price_eur_per_kwh:.4f} EUR/kWh): {row.relief} more would have "
        f"saved {row.relief_eur_per_h:.4f} EUR/h"
        for row in most.itertuples()
    ]
    rest = f"; {len(found.limits) - len(most)} more" if len(found.limits) > len(most) else ""
    return f"Limits in use: {'; '.join(told)}{rest}."


def _money(found: Explained) -> str:
    row = found.row
    cost = float(row["cost_eur"] - row["payment_eur"])
    text = f"The slot cost this member {cost:.4f} EUR"
    details = [
        f"{amount:.4f} {words}"
        for amount, words in (
            (max(float(row["payment_eur"]), 0.0), "received from peers"),
            (max(-float(row["payment_eur"]), 0.0), "paid to peers"),
            (float(row.get("fee_eur", 0.0)), "of fees"),
            (float(row.get("losses_eur", 0.0)), "of losses on top"),
        )
        if abs(amount) >= 5e-5
    ]
    status = found.slot["status"]
    certain = f"The slot ended as {status}, at most {found.slot['gap_eur']:.2g} EUR from its optimum."
    return f"{text}{' (' + ', '.join(details) + ')' if details else ''}. {certain}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def explain_text(found: Explained) -> str:
    """What `jaxp2p explain` prints."""
    end = found.at + pd.Timedelta(hours=found.hours)
    head = (
        f"{found.member} at bus {found.bus}, {found.at:%Y-%m-%d %H:%M} to {end:%H:%M}, {label(found.policy)}"
    )
    return "\n\n".join([head, *(textwrap.fill(part, width=WIDTH) for part in sentences(found))])


def explain_picture(found: Explained) -> Figure:
    """The member's day: local price against the prices of its storage, and what its devices did."""
    day, time = found.day, pd.DatetimeIndex(found.day["time"]).to_numpy()
    figure, [[top], [bottom]] = canvas(2, 1, size=(11, 7), share_x=True)
    top.step(time, day["nodal_price_eur_per_kwh"], where="post", color="#0072B2", label="price at its bus")
    if found.battery_kwh > 0 and "charge_below_eur_per_kwh" in day:
        low, high = day["charge_below_eur_per_kwh"], day["discharge_above_eur_per_kwh"]
        top.fill_between(time, low, high, step="post", color="#999999", alpha=0.25, label="battery rests")
        top.step(time, low, where="post", color="#009E73", linewidth=1, label="charges below")
        top.step(time, high, where="post", color="#D55E00", linewidth=1, label="discharges above")
    top.set_ylabel("EUR/kWh")
    title = f"{plain(found.member)}, {found.at:%Y-%m-%d %H:%M}: {label(found.policy)}, {plain(found.case)}"
    top.set_title(title, fontsize=11)
    bottom.step(time, day["load_kw"], where="post", color="#D55E00", label="load")
    bottom.step(time, day["pv_used_kw"], where="post", color="#E69F00", label="PV")
    battery = (day["discharge_kw"] - day["charge_kw"]).to_numpy(float)
    if np.abs(battery).max(initial=0) > QUIET_KW:
        bottom.fill_between(
            time, battery, step="post", color="#009E73", alpha=0.4, label="battery, discharge > 0"
        )
    bottom.set_ylabel("kW")
    for axis in (top, bottom):
        axis.axvspan(
            found.at, found.at + pd.Timedelta(hours=found.hours), color=LIMIT, alpha=0.2, linewidth=0
        )
        outside_legend(axis)
    time_axis(bottom, time)
    return figure


def explain_report(found: Explained) -> dict[str, object]:
    """As JSON: the numbers and the sentences."""
    plain_row = {name: value for name, value in found.row.items() if name not in ("time", "member")}
    return {
        "case": found.case,
        "policy": found.policy,
        "member": found.member,
        "bus": found.bus,
        "time": str(found.at),
        "figures": plain_row,
        "limits": found.limits.drop(columns="time", errors="ignore").to_dict("records"),
        "sentences": sentences(found),
    }
