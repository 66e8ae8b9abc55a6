"""The page that a node shows of its streams; needs no Internet, and nothing but a browser.

ledger, metrics --> LiveStream (history, now, light) --> Events --one EventSource per page--> page.js
items           --> Pictures --------------------------> JPEG, fetched when an event tells of it
"""

from pipeline.dashboard.dashboard import Dashboard
from pipeline.dashboard.live import LiveStream
from pipeline.dashboard.pictures import Composite, Pictures, Tile

__all__ = ["Composite", "Dashboard", "LiveStream", "Pictures", "Tile"]
