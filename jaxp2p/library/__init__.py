"""What a user holds: a `Case`, the `Result` of a run, a study; each built in one call from public names."""
