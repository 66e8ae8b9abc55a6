"""What must hold between the stages of a file, when each of them is good by itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from pipeline.config.addresses import Endpoint, http_endpoint, link_endpoint, may_reach, same_port
from pipeline.config.build import Built
from pipeline.config.document import Document, Place, shown
from pipeline.config.model import ChannelSpec
from pipeline.stage import Source, Stage

__all__ = ["DraftNode", "DraftStage", "check"]

BEHIND = ("encode", "receive", "replay")
"""Behind these a channel must not lose frames: what is coded is owed to the other side."""


@dataclass(frozen=True)
class DraftStage:
    """A stage of a chain whose file may still be faulty."""

    built: Built
    channel: ChannelSpec | None
    place: Place

    @property
    def use(self) -> str:
        """The short name."""
        return self.built.use


@dataclass(frozen=True)
class DraftNode:
    """A node whose file may still be faulty."""

    name: str
    http: str | None
    insecure: bool
    stages: list[DraftStage] = field(default_factory=list)
    dashboard: bool = False


def check(document: Document, nodes: list[DraftNode]) -> None:
    """Add to the document what is wrong between stages, channels and nodes."""
    for node in nodes:
        _check_chain(document, node)
        _check_channels(document, node)
        _check_http(document, node)
        for draft in node.stages:
            _check_address(document, draft)
    _check_ports(document, nodes)
    _check_links(document, nodes)
    for node in nodes:
        _check_pairing(document, node, nodes)
        _check_references(document, node)


def _check_chain(document: Document, node: DraftNode) -> None:
    last = len(node.stages) - 1
    for i, draft in enumerate(node.stages):
        use = (*draft.place, "use")
        is_source = draft.built.cls is not None and issubclass(draft.built.cls, Source)
        if i == 0 and draft.built.cls and not is_source:
            document.fault(use, f"'{draft.use}' cannot be the first stage, a chain starts with a source or `receive`")
        if i > 0 and is_source:
            document.fault(use, f"'{draft.use}' is a source, which stands first in a chain or nested in another stage")
        if draft.use == "send" and i != last:
            document.fault(use, f"`send` must be the last stage of its chain, but '{node.stages[i + 1].use}' follows")


def _check_channels(document: Document, node: DraftNode) -> None:
    behind = ""
    for i, draft in enumerate(node.stages):
        place = (*draft.place, "channel")
        if draft.channel and i == 0:
            document.fault(place, "there is no channel before the first stage of a chain; remove it")
        elif draft.channel and draft.channel.policy == "latest" and behind:
            document.fault(
                (*place, "policy"),
                f"latest is not allowed behind `{behind}`, where every frame counts; expected block, "
                "or latest before `encode`",
            )
        if draft.use in BEHIND:
            behind = draft.use


def _check_http(document: Document, node: DraftNode) -> None:
    place: Place = ("nodes", node.name, "http")
    if node.dashboard and node.http is None and not document.faulty(place):
        what = "true is not allowed without `http: HOST:PORT`, where the page would be"
        document.fault(("nodes", node.name, "dashboard"), what)
    if node.http is None or document.faulty(place):
        return
    end = http_endpoint(node.http)
    if end is None:
        document.fault(place, f"{shown(node.http)} is not allowed, expected HOST:PORT such as 127.0.0.1:9101")
    elif not end.loopback and not node.insecure:
        document.fault(place, _exposed(node.http, "the node", "127.0.0.1"))


def _check_address(document: Document, draft: DraftStage) -> None:
    for name, text in _addresses(draft.built.stage):
        place = (*draft.place, name)
        end = link_endpoint(text)
        if end is None:
            document.fault(place, f"{shown(text)} is not allowed, expected an address such as tcp://127.0.0.1:5555")
        elif not end.loopback and not getattr(draft.built.stage, "insecure", False):
            document.fault(place, _exposed(text, f"`{draft.use}`", "tcp://127.0.0.1"))


def _exposed(address: str, what: str, local: str) -> str:
    return (
        f"{shown(address)} is reached from other machines, without encryption; "
        f"use {local}:PORT, or give {what} `insecure: true` to allow it"
    )


def _addresses(stage: Stage | None) -> Iterator[tuple[str, str]]:
    for name in ("connect", "bind"):
        text = getattr(stage, name, None)
        if isinstance(text, str):
            yield name, text


def _check_ports(document: Document, nodes: list[DraftNode]) -> None:
    for one, other in combinations([node for node in nodes if node.http], 2):
        ends = http_endpoint(one.http or ""), http_endpoint(other.http or "")
        if ends[0] and ends[1] and same_port(ends[0], ends[1]):
            what = f"{shown(other.http)} is the port of node '{one.name}' already; give each node its own"
            document.fault(("nodes", other.name, "http"), what)


def _ends(nodes: list[DraftNode], name: str) -> list[tuple[DraftStage, DraftNode, Endpoint]]:
    """Every stage with an address of that name, with its node."""
    found = []
    for node in nodes:
        for draft in node.stages:
            end = link_endpoint(str(getattr(draft.built.stage, name, "")))
            if end:
                found.append((draft, node, end))
    return found


def _check_links(document: Document, nodes: list[DraftNode]) -> None:
    binds = _ends(nodes, "bind")
    for draft, _, end in _ends(nodes, "connect"):
        if binds and not any(may_reach(end, bind) for _, _, bind in binds):
            address = getattr(draft.built.stage, "connect", None)
            bound = ", ".join(str(getattr(other.built.stage, "bind", "")) for other, _, _ in binds)
            document.fault((*draft.place, "connect"), f"{shown(address)} leads nowhere, `receive` listens on {bound}")


def _check_pairing(document: Document, node: DraftNode, nodes: list[DraftNode]) -> None:
    head = _head(node, nodes)
    for draft in node.stages:
        stage: Any = draft.built.stage
        side = getattr(stage, "side", None)
        if draft.use != "pair" or getattr(stage, "policy", None) != "exact" or not isinstance(side, Source):
            continue
        if isinstance(head, Source) and head.clock == side.clock == "wall":
            what = "exact is not allowed between two live sources, whose frame numbers are unrelated; "
            what += "use nearest or latest"
            document.fault((*draft.place, "policy"), what)


def _check_references(document: Document, node: DraftNode) -> None:
    for draft in node.stages:
        reference = getattr(draft.built.stage, "reference", None)
        if isinstance(reference, Source) and reference.clock == "wall":
            what = "a live source cannot be matched by frame_id; leave it out, and let `encode` send an original now "
            what += "and then: reference_every_s"
            document.fault((*draft.place, "reference"), what)


def _head(node: DraftNode, nodes: list[DraftNode]) -> Stage | None:
    """The source that a node's primary frames come from, also over a link within the file."""
    first = node.stages[0].built.stage if node.stages else None
    bind = link_endpoint(str(getattr(first, "bind", "")))
    if bind is None:
        return first
    senders = [other for _, other, end in _ends(nodes, "connect") if may_reach(end, bind) and other is not node]
    return senders[0].stages[0].built.stage if len(senders) == 1 else None
