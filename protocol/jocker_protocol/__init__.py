"""What client and engine share: types, the method catalogue, errors, framing. No I/O.

Empty on purpose: the command line client imports `errors` and `wire` alone (standard library
only) and must not pay for msgspec, which `types` and `methods` need.
"""
