"""A storm of deaths over real processes and a real database, and what must hold behind it.

`python -m tests.storm --faults 1000 --database postgresql --seed 1` runs one by hand.
"""
