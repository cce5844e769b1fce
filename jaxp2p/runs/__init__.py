"""Policies side by side over one horizon, and the check by an independent solver."""
