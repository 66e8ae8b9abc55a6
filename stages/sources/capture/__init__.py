"""Live pictures: devices of this machine and of the network, their capture times, and what happens when they fail.

Device (local, network) --grab--> Feed (thread, reopens by Watchdog, stamps by Stamps) --take--> stage `camera`
"""
