"""One policy through consecutive slots, forwards and backwards, and what it came to."""
