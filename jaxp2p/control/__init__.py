"""What a home or its operator wants in a slot: policies and the Lyapunov controller behind them."""
