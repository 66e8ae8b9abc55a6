"""One node at work: its stages in a row, a thread or more for each, a channel between neighbours.

    open in order -> head.read() -> channel -> process() -> channel -> ... -> flush() down the chain -> close in reverse

The first error wins: it ends all threads, is in `context.error` before the stages are closed, and is raised by `run`.
`context.stop` drains: the source ends, what is on its way is finished.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata

from pipeline.channel import Aborted, Channel, Policy
from pipeline.config.model import Node, StageEntry
from pipeline.errors import ConfigError, LinkError, SidecastError, SourceError, StageError
from pipeline.interrupt import CLOSING
from pipeline.latency import Cause, Holdups
from pipeline.meter import Meter
from pipeline.metrics import free_bytes
from pipeline.stage import Context, Source
from pipeline.turns import Turns
from pipeline.types import Item, frame_id_of

__all__ = ["Runner", "originates", "settles"]

RELAYS = ("receive",)
"""Heads whose frames were entered by another node."""
ABORT_GRACE_S = 5.0
"""How long a stage may take to notice that the run is over."""


def originates(node: Node) -> bool:
    """Whether primary frames enter here, and do not come from another node."""
    return bool(node.stages) and node.stages[0].use not in RELAYS


def settles(node: Node) -> bool:
    """Whether frames are through when they leave this node: it has the sinks, and writes the report."""
    return bool(node.stages) and node.stages[-1].stage.settles


class _AtWork(threading.local):
    """What a thread of a stage is working on."""

    frame_id: int | None = None


class _Link:
    """A stage in its place: what it takes from, what it hands on to, and its threads."""

    def __init__(self, entry: StageEntry, source: Channel[Item] | None, cause: Cause) -> None:
        self.entry, self.source = entry, source
        self.target: Channel[Item] | None = None
        self.next: _Link | None = None
        self.holdups = Holdups(cause)
        self.at_work = _AtWork()
        self.turns = Turns()
        self.threads: list[threading.Thread] = []
        self.working = 0
        """Threads that have not come to the end of what there is."""

    @property
    def label(self) -> str:
        return self.entry.label


class Runner:
    """Runs the chain of one node once."""

    def __init__(self, node: Node, context: Context, *, abort_grace_s: float = ABORT_GRACE_S) -> None:
        self._node, self._context, self._abort_grace_s = node, context, abort_grace_s
        if not node.stages or not isinstance(node.stages[0].stage, Source):
            raise ConfigError(f"node '{node.name}' must start with a source or `receive`")
        context.ledger.spool_to(context.out, context.log)
        self.meter = Meter(context, relay=not originates(node))
        self.ready = threading.Event()
        """Set while all stages are open and at work."""
        self._links = self._join(node.stages)
        self._opened: list[_Link] = []
        self._lock = threading.Lock()
        self._working = 0
        self._over = threading.Event()

    def run(self) -> None:
        """Return when every frame is through and everything is closed; raises the first error as a SidecastError.

        KeyboardInterrupt, raised into this thread, ends the run at once: what is on its way is lost.
        """
        hook, threading.excepthook = threading.excepthook, self._fail_in_thread
        try:
            self._open()
            self._start()
            self._over.wait()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - one of the two places that catch everything
            self._fail(error, None)
        try:
            self._finish()
        finally:
            threading.excepthook = hook
        if self._context.error:
            raise self._context.error
        self._complain_unreadable()

    def _join(self, entries: list[StageEntry]) -> list[_Link]:
        head = entries[0].stage
        live = isinstance(head, Source) and head.clock == "wall"
        links: list[_Link] = []
        for i, entry in enumerate(entries):
            channel = self._channel(entry, live=live and entry.use == "encode") if i else None
            link = _Link(entry, channel, entry.stage.cause or (links[-1].holdups.cause if links else "capture"))
            if links:
                links[-1].target, links[-1].next = channel, link
            links.append(link)
        return links

    def _channel(self, entry: StageEntry, *, live: bool) -> Channel[Item]:
        policy: Policy = (entry.channel and entry.channel.policy) or ("latest" if live else "block")
        capacity = (entry.channel and entry.channel.capacity) or (1 if policy == "latest" else 2)
        channel = Channel[Item](capacity, policy, self.meter.dropped_latest, frame_id_of)
        self._context.metrics.channel_depth.labels(entry.label).set_function(lambda: channel.depth)
        return channel

    def _open(self) -> None:
        for link in self._links:
            self._context.log.info("opening %s", link.label)
            try:
                link.entry.stage.open(self._context)
            except Exception as error:
                raise self._named(error, link) from error
            self._opened.append(link)
            if link is self._links[0] and originates(self._node):
                self._declare(link)
        self._show()

    def _show(self) -> None:
        """What is known for the whole run."""
        metrics, facts, out = self._context.metrics, self._context.facts, self._context.out
        metrics.build_info.labels(metadata.version("sidecast")).set(1)
        metrics.out_free_bytes.set_function(lambda: free_bytes(out))
        if facts.get("model"):
            device = facts.get("device") or facts.get("encode_device") or ""
            metrics.model_info.labels(facts["model"], facts.get("model_id") or "", device).set(1)

    def _declare(self, head: _Link) -> None:
        """Say what the source is, before `send` tells the other node."""
        source = head.entry.stage
        if isinstance(source, Source):
            self._context.facts.update(clock=source.clock, expected_frames=source.expected_frames())

    def _start(self) -> None:
        for link in self._links:
            items = self._items(link)
            link.working = 1 if items is None else link.entry.stage.at_once
            link.threads = [
                threading.Thread(target=self._work, args=(link, items), name=link.label, daemon=True)
                for _ in range(link.working)
            ]
        threads = [thread for link in self._links for thread in link.threads]
        self._working = len(threads)
        for thread in threads:
            thread.start()
        self.ready.set()

    def _items(self, link: _Link) -> Iterator[Item] | None:
        """What a stage works on; None for the head."""
        if link.source is None:
            return None
        return self._fresh(link, link.source) if link.source.policy == "latest" else iter(link.source)

    def _work(self, link: _Link, items: Iterator[Item] | None) -> None:
        """A thread of a stage; the last one that comes to the end flushes."""
        try:
            self._read(link) if items is None else self._process(link, items)
            with self._lock:
                link.working -= 1
                last = not link.working
            if last:
                self._hand_on(link, link.entry.stage.flush())
                if link.target:
                    link.target.close()
        except Aborted:
            pass
        except Exception as error:  # noqa: BLE001 - whatever a stage raises ends the run, not only its thread
            self._fail(error, link)
        finally:
            self._done()

    def _done(self) -> None:
        with self._lock:
            self._working -= 1
            if not self._working:
                self._over.set()

    def _read(self, link: _Link) -> None:
        stage = link.entry.stage
        if isinstance(stage, Source):
            self._hand_on(link, stage.read())
        stopped = self._context.stop.is_set()
        if originates(self._node) and not stopped and not self._context.ledger.counts():
            raise SourceError(f"{link.label} gave no frame at all, expected at least one of the primary view")

    def _process(self, link: _Link, items: Iterator[Item]) -> None:
        turns, at_work = link.turns, link.at_work
        while True:
            with turns.taking:
                if (item := next(items, None)) is None:
                    return
                number, at_work.frame_id = turns.next_number(), frame_id_of(item)
                self.meter.journeys.waited(item, link.holdups)
                results = link.entry.stage.process(item)
            spent_ns = self._hand_on(link, results, number)
            turns.wait(number)
            self.meter.worked(link.label, item, spent_ns)
            turns.end()
            at_work.frame_id = None

    def _fresh(self, link: _Link, source: Channel[Item]) -> Iterator[Item]:
        """Take no item before the next stage wants what will come of it: until then fresher ones can replace it."""
        items = iter(source)
        while True:
            if link.target:
                self._hold_up(link, link.target.wait_until_wanted)
            if (item := next(items, None)) is None:
                return
            yield item

    def _hand_on(self, link: _Link, items: Iterator[Item], number: int | None = None) -> int:
        """Draw what a stage yields and put it into the next channel, when it is the turn of the item it follows from.

        Returns the stage's own time, ns: only the drawing counts, the waiting does not. A source is measured in
        processor time, because it also waits: for its pace, for the other node.
        """
        clock = self._context.clock.monotonic_ns if link.source else time.thread_time_ns
        items, spent_ns = iter(items), 0
        while True:
            begin_ns = clock()
            item = next(items, None)
            spent_ns += clock() - begin_ns
            if item is None:
                return spent_ns
            if link.source is None:
                self._enter(link, item, spent_ns)
                spent_ns = 0
            else:
                self.meter.journeys.yielded(item, link.holdups)
                if number is not None and link.turns.wait(number):
                    self.meter.journeys.waited(item, link.holdups)
            self._pass(link, item)

    def _enter(self, link: _Link, item: Item, spent_ns: int) -> None:
        self.meter.entered(item)
        self.meter.journeys.entered(item, link.holdups)
        self.meter.worked(link.label, item, spent_ns)

    def _pass(self, link: _Link, item: Item) -> None:
        if link.target and link.next:
            if not link.next.entry.stage.settles:
                self.meter.journeys.parted(item)
            self._hold_up(link, partial(link.target.put, item))
        elif link.entry.stage.settles:
            self.meter.left(item)

    def _hold_up(self, link: _Link, wait: Callable[[], None]) -> None:
        """Note for how long `wait` has kept a stage from its work because of the next one."""
        begin_ns = self._context.clock.monotonic_ns()
        wait()
        if link.next:
            link.holdups.held_up(begin_ns, self._context.clock.monotonic_ns(), link.next.holdups)

    def _fail(self, error: BaseException, link: _Link | None) -> None:
        """Keep the first error, end everything."""
        self._context.log.debug("%s", "".join(traceback.format_exception(error)))
        named = error if isinstance(error, KeyboardInterrupt) else self._named(error, link)
        with self._lock:
            self._context.error = self._context.error or named
        self._context.stop.set()
        for other in self._links:
            other.turns.abort()
            if other.target:
                other.target.abort()
        self._over.set()

    def _fail_in_thread(self, args: threading.ExceptHookArgs) -> None:
        """A thread that a stage has started for itself has died."""
        if args.exc_value is not None:
            name = args.thread.name if args.thread else "a thread"
            self._context.log.debug("%s", "".join(traceback.format_exception(args.exc_value)))
            self._fail(StageError(name, None, _told(args.exc_value)), None)

    def _named(self, error: BaseException, link: _Link | None) -> SidecastError:
        """The error as a sentence that says which stage and which frame, unless it says enough already."""
        if link is None:
            return error if isinstance(error, SidecastError) else SidecastError(_told(error))
        if isinstance(error, SidecastError) and (
            link.at_work.frame_id is None or isinstance(error, StageError | LinkError | ConfigError)
        ):
            return error
        cause = str(error) if isinstance(error, SidecastError) else _told(error)
        return StageError(link.label, link.at_work.frame_id, cause)

    def _finish(self) -> None:
        """Wait for the threads, settle what is left, close all in reverse order."""
        self.ready.clear()
        aborted = self._context.error is not None
        stuck = self._wait(self._abort_grace_s if aborted else None)
        if settles(self._node):
            self._context.ledger.drop_pending()
        for link in reversed(self._opened):
            if link in stuck:
                self._context.log.warning("%s does not end, left as it is", link.label)
            elif aborted:
                self._close_in_time(link)
            else:
                self._close(link)

    def _wait(self, grace_s: float | None) -> list[_Link]:
        """The links whose threads have not ended within so many seconds; None waits for as long as it takes."""
        deadline = None if grace_s is None else time.monotonic() + grace_s
        for thread in (thread for link in self._links for thread in link.threads):
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return [link for link in self._links if any(thread.is_alive() for thread in link.threads)]

    def _close(self, link: _Link) -> None:
        try:
            link.entry.stage.close()
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the others must be closed all the same
            if self._context.error:
                self._context.log.warning("%s could not be closed: %s", link.label, _told(error))
            else:
                self._fail(error, link)

    def _close_in_time(self, link: _Link) -> None:
        """After an error a stage may be unable to close; that must not keep the others, or the node, from ending."""
        thread = threading.Thread(target=self._close, args=(link,), name=f"{CLOSING}{link.label}", daemon=True)
        thread.start()
        thread.join(self._abort_grace_s)
        if thread.is_alive():
            self._context.log.warning("%s does not close, left as it is", link.label)

    def _complain_unreadable(self) -> None:
        unreadable = self._context.ledger.counts()["unreadable"]
        if not unreadable or not originates(self._node):
            return
        frames = "1 frame" if unreadable == 1 else f"{unreadable} frames"
        first = self._context.ledger.examples("unreadable")
        some = ", ".join(map(str, first)) + (", ..." if unreadable > len(first) else "")
        raise SourceError(f"{self._links[0].label} could not read {frames} ({some}), the rest was processed")


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
