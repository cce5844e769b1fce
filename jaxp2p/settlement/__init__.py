"""What members pay: accounts of what was exchanged, rules of prices among peers, and bills to the cent.

account = account_of(...)                 kWh and EUR of every member and slot (`account.py`)
other = RULES["mid_market"].apply(account)    the same energy under another rule (`rules.py`)
bills = Bills.of(account)                 by member, day and line, in whole cents (`bills.py`, `lines.py`)
Billing.preview(bills) ... .corrected(...) ... .final()    the steps of a billing run (`billing.py`)
"""
