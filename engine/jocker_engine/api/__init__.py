"""JSON-RPC 2.0 over Unix sockets: connections, dispatch from the catalogue, streams.

Knows the protocol package and is given handlers; knows nothing of containers, images or volumes.
"""
