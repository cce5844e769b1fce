"""What could have been reached at best: perfect foresight and the lower bound."""
