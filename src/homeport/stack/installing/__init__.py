"""The stack's files in the user's folder: written, brought up to date, carried over, taken away."""
