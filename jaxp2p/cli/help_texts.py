"""What the commands say of themselves, but for their options."""

from jaxp2p.cli.console import exit_codes
from jaxp2p.control.catalogue import ALWAYS, BY_NAME, WITH_A_VEHICLE, lines
from jaxp2p.control.ways import WAYS, way_lines
from jaxp2p.control.ways import modes as modes_of
from jaxp2p.scenarios.catalogue import EFFECTS_HELP
from jaxp2p.settings.modes import RULES
from jaxp2p.sharing.catalogue import lines as key_lines

HELP = f"""Real-time peer-to-peer energy trading with batteries on a radial feeder.

A community of homes with PV and batteries is cleared slot by slot, within the limits of its grid, by
Lyapunov control and consensus ADMM, and set beside simple policies and perfect foresight.

\b
  jaxp2p run                                 one summer week of a real village, all policies
  jaxp2p run rural1 --market pool --days 2   an overloaded transformer; one price for all
  jaxp2p run rural3 --pv-share 0.6 --battery-share 0.4 --price dynamic
  jaxp2p run rural1 --ev-share 0.4           electric vehicles at two homes in five
  jaxp2p init my.toml                        every setting in a file; then: jaxp2p run my.toml
  jaxp2p export rural3 my-village            the same as CSV files, to be edited
  jaxp2p import 1-LV-urban6--2-sw my-town    a SimBench grid as such files
  jaxp2p check my-village                    is it right? what is in it?
  jaxp2p run my-village --json result.json
  jaxp2p report my-results                   all of it in one HTML file
  jaxp2p hosting rural3                      how much PV the grid carries
  jaxp2p modes rural1 --pv-scale 2.5         what the limits of the grid do
  jaxp2p bill my-run                         what members pay, to the cent, and by other rules
  jaxp2p share meters.csv                    what sharing keys of the law allot, beside the market
  jaxp2p explain my-run --member ID --at TIME    why its battery did what it did
  jaxp2p fairness my-results                 who gets what of the benefit of a run
  jaxp2p study rural3 --scenarios 1000 --days 1 --policies lyapunov,no_storage,no_storage_no_trade

Powers are in kW, energies in kWh, voltages in p.u., money in EUR, prices in EUR/kWh.

{exit_codes()}
"""

RUN_HELP = f"""Clear the chosen days with every policy; print a table, save tables and pictures.

\b
Policies, all under the same market and the same grid:
{lines(ALWAYS, WITH_A_VEHICLE)}
Those that charge vehicles by a rule are there where somebody has one.
By name only (a plan of the next 24 h per slot: minutes per week):
{lines(BY_NAME)}
"""

STUDY_HELP = f"""Run many scenarios of some days under every policy: how cost, saving and violations spread.

Scenarios are drawn from the data by a model. Finished chunks are kept in the folder: after an interruption
the same command continues, and with more --scenarios adds to them.

\b
{EFFECTS_HELP}
"""

HOSTING_HELP = f"""Find the largest factor on all PV at which no slot violates the limits of the grid in AC.

A factor passes when, in the AC power flow of every slot, no voltage is more than 1e-4 p.u. and no loading
more than 0.1 % beyond its limit, and no more of the available PV energy is curtailed than --curtail allows.

\b
Ways of operating the community, each with a capacity of its own:
{way_lines(WAYS)}
"""

MODES_HELP = f"""Run one policy with limits of the grid left out of the market, kept linear, and kept in AC.

Every dispatch is judged by its AC power flow: a table, and the feeder side by side at the worst slot of all.

\b
Modes:
{way_lines(modes_of("lyapunov", RULES))}
Those named after a rule of reactive power are run where --reactive names it; the others have none.

\b
  jaxp2p modes rural1 --pv-scale 2.5 --market pool
  jaxp2p modes rural1 --pv-scale 2.5 --market pool --days 1 --reactive volt_var,market

\b
Policies:
{lines(ALWAYS, WITH_A_VEHICLE)}
"""

SHARE_HELP = f"""Allot what members feed in by sharing keys of the law, and set that beside the market.

SOURCE is the folder of a run that was saved with its homes (jaxp2p run --per-home), or meter data: a file
with the columns time, member, consumption_kwh and generation_kwh, a row per interval and member; or a folder
with such a file, meters.csv, or with consumption.csv and generation.csv: time, and a column of kWh for every
member. prices.csv (time, buy_eur_per_kwh, sell_eur_per_kwh) may stand beside them. Parquet files do as well.

\b
Keys:
{key_lines(presets=False)}

\b
Rules of countries; arithmetic only, no promise of conformity:
{key_lines(presets=True)}

\b
--shares FILE.csv has one of these tables:
  member, share              for fixed and static keys; shares sum to 1
  hour, member, share        for hourly keys: by the hour of the day, 0 to 23
  time, member, share        for hourly keys: by interval, or by the hour that begins then
  member, level              for priority, the lowest first; also as a column beside shares
  producer, member, share    for pairs, with time in front where they change; 1 at most for a producer

\b
  jaxp2p run rural3 --per-home --out my-run
  jaxp2p share my-run --fee 0.02
  jaxp2p share meters.csv --time-zone Europe/Vienna --buy 0.30 --sell 0.08 --key austria_dynamic
  jaxp2p share meters.csv --key austria_static --key fixed_then_pro_rata --shares shares.csv
"""

BILL_HELP = """Bill the members of a run: a preview, corrections of it, final bills, credit notes.

SOURCE is the folder of a run that was saved with its homes (jaxp2p run --per-home): then bills are previewed
in a folder of their own. Or it is such a folder: then its bills are corrected, made final or credited. Final
bills are never changed; corrections of them are notes that are added.

Every line has its kWh, its EUR and its formula (bill_lines.csv); what members pay is to the cent what utility
and market receive (statement.csv). Rules of what peers pay each other are compared.

\b
  jaxp2p run rural1 --per-home --out my-run
  jaxp2p bill my-run --out my-bills --excel
  jaxp2p bill my-bills --corrections corrections.csv
  jaxp2p bill my-bills --final
"""
