"""homeport as something that is installed on a machine and forgotten: a container stack with a
database, metrics and dashboards; the same in the background without Docker; the chain that a container
boots.
"""
