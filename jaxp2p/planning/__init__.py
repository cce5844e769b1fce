"""Plans made with forecasts, slot after slot."""
