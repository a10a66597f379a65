"""The shim and its zygote: the processes that own container processes. Standard library only.

Nothing here imports trio, msgspec or the rest of the engine; of ours only `jocker_protocol.wire`
(itself standard library). What the engine must know to talk to a shim is in `launch.py`.
"""
