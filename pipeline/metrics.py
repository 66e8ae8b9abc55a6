"""Every metric of a node in one table, as Prometheus likes it: prefix `sidecast_`, base units, counters `_total`.

A node exports what it counts itself; two nodes of one stream never export the same bytes. A value that is not known
here is not exported, and labels take values from short fixed lists or from the configuration. Counters with such a
list are there from the start, at 0: one that appears with its first value has no rate for it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
)

from pipeline.ledger import DROP_REASONS
from pipeline.types import Role

__all__ = ["DECODE_ERRORS", "Metrics", "free_bytes"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
ROLES: tuple[Role, ...] = get_args(Role)
DECODE_ERRORS = ("bitstream", "size", "picture")
"""bitstream: the coded bits are damaged. size: they claim another or a forbidden size. picture: a JPEG or PNG, of a
side view or an original, can't be read."""


class Sampled(Gauge):
    """A gauge that is exported from its first value on; before, nothing is known."""

    _known = False

    def set(self, value: float) -> None:
        super().set(value)
        self._known = True

    def collect(self) -> Iterable[Metric]:
        return super().collect() if self._known else ()


class Metrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(self) -> None:
        # They are a second series for each counter, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._count_frames(self.registry)
        self._count_bytes(self.registry)
        self._time(self.registry)
        self._watch_link(self.registry)
        self._watch_cameras(self.registry)
        self._judge(self.registry)
        self._watch_disk(self.registry)
        self.build_info = Gauge("sidecast_build_info", "1, with the version", ["version"], registry=self.registry)
        self.model_info = Gauge(
            "sidecast_model_info",
            "1, with the weights that this node codes with",
            ["model", "model_id", "device"],
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)

    def _count_frames(self, r: CollectorRegistry) -> None:
        self.frames_in = Counter("sidecast_frames_in_total", "Primary frames that entered this node", registry=r)
        self.frames_out = Counter("sidecast_frames_out_total", "Primary frames that left the last stage", registry=r)
        self.drops = Counter("sidecast_frames_dropped_total", "Primary frames dropped", ["reason"], registry=r)
        self.unpaired = Counter("sidecast_frames_unpaired_total", "Primary frames without a side view", registry=r)
        self.decode_errors = Counter(
            "sidecast_decode_errors_total", "Payloads refused by the decoder", ["kind"], registry=r
        )
        for reason in DROP_REASONS:
            self.drops.labels(reason)
        for kind in DECODE_ERRORS:
            self.decode_errors.labels(kind)

    def _count_bytes(self, r: CollectorRegistry) -> None:
        self.payload_bytes = Counter(
            "sidecast_payload_bytes_total", "Bytes coded by this node, headers not counted", ["role"], registry=r
        )
        self.wire_bytes = Counter(
            "sidecast_wire_bytes_total",
            "Bytes of FRAME messages as handed to ZeroMQ, headers and resends included",
            ["role"],
            registry=r,
        )
        self.received_bytes = Counter(
            "sidecast_received_bytes_total", "Bytes of FRAME messages that came over the link", ["role"], registry=r
        )
        for counter in (self.payload_bytes, self.wire_bytes, self.received_bytes):
            for role in ROLES:
                counter.labels(role)
        self.pixels = Counter("sidecast_pixels_total", "Pixels of the primary view coded or decoded", registry=r)
        self.raw_bytes = Counter("sidecast_raw_bytes_total", "Bytes of the primary view before coding", registry=r)
        self.budget_bytes_per_second = Sampled(
            "sidecast_budget_bytes_per_second", "What the stream should cost on the wire at most", registry=r
        )

    def _time(self, r: CollectorRegistry) -> None:
        self.captured_seconds = Counter(
            "sidecast_captured_seconds_total",
            "Capture time that passed between the primary frames that entered, by their own stamps",
            registry=r,
        )
        self.last_frame_seconds = Sampled(
            "sidecast_last_frame_timestamp_seconds", "When the last primary frame entered, Unix time", registry=r
        )
        self.stage_seconds = Histogram(
            "sidecast_stage_duration_seconds",
            "Time a stage worked on an item",
            ["stage"],
            buckets=SECONDS,
            registry=r,
        )
        self.end_to_end_seconds = Histogram(
            "sidecast_end_to_end_latency_seconds", "From capture to the last stage", buckets=SECONDS, registry=r
        )
        self.latency_seconds = Histogram(
            "sidecast_latency_seconds",
            "The same by cause, of frames whose causes are all known here",
            ["cause"],
            buckets=SECONDS,
            registry=r,
        )
        self.packet_age_seconds = Histogram(
            "sidecast_packet_age_seconds",
            "Time since capture when a primary packet was handed to ZeroMQ",
            buckets=SECONDS,
            registry=r,
        )
        self.side_age_seconds = Histogram(
            "sidecast_side_age_seconds",
            "Time since capture when a side view was paired, where its source is live",
            buckets=SECONDS,
            registry=r,
        )
        self.channel_depth = Gauge(
            "sidecast_channel_depth_items", "Items waiting before a stage", ["stage"], registry=r
        )
        self.pair_offset_seconds = Sampled(
            "sidecast_pair_offset_seconds", "pts of the side view minus pts of the primary view", registry=r
        )

    def _watch_link(self, r: CollectorRegistry) -> None:
        self.credits = Sampled("sidecast_link_credits", "Packets that may still be sent", registry=r)
        self.link_up = Sampled("sidecast_link_up", "1 while the other node answers", registry=r)
        self.resent = Counter("sidecast_packets_resent_total", "Packets sent again after a reconnect", registry=r)
        self.reconnects = Counter("sidecast_link_reconnects_total", "Times the link was set up again", registry=r)
        self.wire_errors = Counter("sidecast_wire_errors_total", "Messages refused as damaged or foreign", registry=r)
        self.clock_offset_seconds = Sampled(
            "sidecast_clock_offset_seconds", "The decoder's wall clock minus the encoder's", registry=r
        )

    def _watch_cameras(self, r: CollectorRegistry) -> None:
        self.camera_up = Gauge("sidecast_camera_up", "1 while the camera delivers frames", ["view"], registry=r)
        self.camera_reopened = Counter(
            "sidecast_camera_reopened_total", "Outages of a camera that have ended", ["view"], registry=r
        )
        self.camera_late_seconds = Gauge(
            "sidecast_camera_late_seconds",
            "How much later than the fastest one the last frame came",
            ["view"],
            registry=r,
        )
        self.camera_drift_seconds = Gauge(
            "sidecast_camera_drift_seconds", "What the camera's clock has lost on this machine's", ["view"], registry=r
        )

    def _judge(self, r: CollectorRegistry) -> None:
        self.psnr_db = Sampled("sidecast_psnr_db", "PSNR of the last measured frame, dB", registry=r)
        self.psnr_without_side_db = Sampled(
            "sidecast_psnr_without_side_db",
            "PSNR of the last frame that was decoded without the side view too, decoded without, dB",
            registry=r,
        )
        self.side_gain_db = Sampled(
            "sidecast_side_gain_db", "PSNR of that same frame with the side view minus without, dB", registry=r
        )
        # Prometheus takes `_ms` for milliseconds, hence no second underscore.
        self.ms_ssim = Sampled("sidecast_msssim", "MS-SSIM of the last measured frame, 0 to 1", registry=r)

    def _watch_disk(self, r: CollectorRegistry) -> None:
        self.recorded_packets = Counter("sidecast_recorder_packets_total", "Packets put into recordings", registry=r)
        self.recorded_bytes = Counter("sidecast_recorder_bytes_total", "Bytes put into recordings", registry=r)
        self.unrecorded = Counter(
            "sidecast_recorder_dropped_total",
            "Packets not put into recordings, the disk was too slow or full",
            registry=r,
        )
        self.recorder_waiting_bytes = Sampled(
            "sidecast_recorder_waiting_bytes", "Bytes in memory that wait for the disk", registry=r
        )
        self.recorder_up = Sampled(
            "sidecast_recorder_up", "1 while the recorder writes, 0 when it had to give up", registry=r
        )
        self.out_free_bytes = Gauge("sidecast_out_free_bytes", "Free bytes on the disk that outputs go to", registry=r)


def free_bytes(folder: Path) -> float:
    """Free bytes where `folder` is, or where it would be made; NaN where that cannot be told."""
    try:
        return float(shutil.disk_usage(next(p for p in (folder, *folder.absolute().parents) if p.exists())).free)
    except OSError:
        return float("nan")
