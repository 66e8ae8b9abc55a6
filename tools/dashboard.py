"""`sidecast dashboard FILE`: recordings in a browser, side by side."""

from __future__ import annotations

import argparse
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from pipeline.dashboard import Composite, Dashboard
from pipeline.dashboard.recorded import RecordedStream
from pipeline.errors import StageError, WireError
from pipeline.http import HttpServer
from pipeline.interrupt import interruptible
from pipeline.log import set_up
from pipeline.recording.index import Entry, Reader
from pipeline.stage import Context
from pipeline.types import Decoded, Frame, StereoPair

__all__ = ["add_arguments", "main"]

DEFAULT = "default"
KEPT = 16
"""Pictures that are kept, so that going back and forth is quick."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="recordings, one column each")
    parser.add_argument("--http", default="127.0.0.1:9110", metavar="HOST:PORT", help="where (default: %(default)s)")
    parser.add_argument("--insecure", action="store_true", help="allow an address that other machines can reach")
    parser.add_argument("--weights", default=DEFAULT, help="name or path of the weights that decode the pictures")


def main(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C.

    Raises SourceError for what is no recording, StageError for weights that were asked for and are none, LinkError
    where the address is taken.
    """
    set_up(verbose=args.verbose)
    context = Context("recordings", Path())
    decoder = _Decoder(args.weights, context)
    if args.weights != DEFAULT:  # a mistake is told now, not on the page
        decoder.open()
    streams = [RecordedStream([path], title, _Drawn(decoder)) for path, title in _titles(args.files).items()]
    dashboard = Dashboard(context, streams, "recording")
    server = HttpServer(args.http, context, lambda: True, insecure=args.insecure, dashboard=dashboard)
    with interruptible(context.stop.set), server:
        print(f"{server.url} (Ctrl-C ends)", flush=True)
        context.stop.wait()
    return 0


def _titles(files: Sequence[Path]) -> dict[Path, str]:
    """The names of the files, with their folders where names repeat."""
    names = [path.name for path in files]
    return {path: path.name if names.count(path.name) == 1 else str(path) for path in files}


class _Decoder:
    """Decodes single packets, one at a time; the codec is loaded for the first one."""

    def __init__(self, weights: str, context: Context) -> None:
        from stages.decode import Decode

        self._context, self._stage = context, Decode(weights=weights, without_side_every=1)
        self._opened = False
        self.lock = threading.Lock()

    def open(self) -> None:
        """Load the codec, unless it is. Raises StageError where there are no such weights."""
        if not self._opened:
            self._stage.open(self._context)
            self._opened = True

    def decoded(self, pair: StereoPair) -> Decoded:
        """The frame. Raises StageError for other weights and for damaged packets."""
        self.open()
        for item in self._stage.process(pair):
            if isinstance(item, Decoded):
                return item
        raise StageError("dashboard", pair.primary.frame_id, "the packet cannot be decoded")


class _Drawn:
    """Pictures of one recording."""

    def __init__(self, decoder: _Decoder) -> None:
        self._decoder = decoder
        self._reader = Reader()
        self._made: OrderedDict[int, Composite] = OrderedDict()

    def __call__(self, entry: Entry) -> Composite:
        """The picture of a packet; called from any thread."""
        from stages.composite import compose

        with self._decoder.lock:
            made = self._made.get(id(entry))
            if made is None:
                made = self._made[id(entry)] = compose(self._decoder.decoded(self._pair(entry)))
                while len(self._made) > KEPT:
                    self._made.popitem(last=False)
            return made

    def _pair(self, entry: Entry) -> StereoPair:
        try:
            return StereoPair(self._reader.packet(entry.place), self._side(entry))
        except WireError as error:
            raise StageError("dashboard", entry.packet.frame_id, f"the recording is damaged here: {error}") from error

    def _side(self, entry: Entry) -> Frame | None:
        from stages.lossless import unpack

        if entry.side is None:
            return None
        side = self._reader.packet(entry.side)
        pixels = unpack(side.payload, side.width, side.height)
        return Frame(pixels, side.view, side.frame_id, side.pts_ns, side.taken_ns, "side")
