"""What is remembered of requests: counts, times and names, in a database."""
