"""Recordings: MCAP files with the very bytes of the wire.

layout     what a recording is (the specification)    writer   chunks to a file, a clean end on a full disk
scan       every sound message of a file, and every    index   a file's packets, each with the side view that it was
           damaged place; never stops at the first             paired with; what `info`, `repair` and `replay` read
foxglove   the preview as Foxglove wants it
"""
