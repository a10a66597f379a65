"""Networks: which there are (manager), what each holds (network), addresses (ipam), host ports (ports), names (names).

Containers use them through access.py. What is true is in the database: a lease is written before the platform is
changed and dropped after, so that a new engine knows what may be there.
"""
