"""The report: one HTML file of runs and studies that opens without a network."""

LIMIT_MB = 1.0  # of a file, where merging series over slots can do it; 10^6 bytes
