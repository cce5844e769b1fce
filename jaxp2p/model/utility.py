"""What dealing with the utility costs: the tariffs, and what lies beyond the limits of a connection."""

from jaxp2p.model.devices.arrays import Values


def exchange_cost(price_buy: Values, price_sell: Values, buy: Values, sell: Values) -> Values:
    """EUR/h: b buy - s sell."""
    return price_buy * buy - price_sell * sell


def beyond_cost(
    price_buy: Values, price_sell: Values, unserved_price: Values, short: Values, spilled: Values
) -> Values:
    """EUR/h: (b + u) short + (u - s) spilled, u the price of unserved energy on top of the tariffs."""
    return (price_buy + unserved_price) * short + (unserved_price - price_sell) * spilled
