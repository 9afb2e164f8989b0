"""The report of a benchmark run: one HTML page that holds everything it shows."""
