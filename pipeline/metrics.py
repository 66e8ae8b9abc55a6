"""Every metric of a node in one table, as Prometheus likes it: prefix `sidecast_`, base units, counters `_total`."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

__all__ = ["Metrics"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.frames_in = Counter("sidecast_frames_in_total", "Primary frames that entered this node", registry=r)
        self.frames_out = Counter("sidecast_frames_out_total", "Primary frames that left the last stage", registry=r)
        self.drops = Counter("sidecast_frames_dropped_total", "Primary frames dropped", ["reason"], registry=r)
        self.unpaired = Counter("sidecast_frames_unpaired_total", "Primary frames without a side view", registry=r)
        self.payload_bytes = Counter(
            "sidecast_payload_bytes_total", "Coded bytes, headers not counted", ["role"], registry=r
        )
        self.wire_bytes = Counter(
            "sidecast_wire_bytes_total", "Bytes of FRAME messages as handed to ZeroMQ", ["role"], registry=r
        )
        self.pixels = Counter("sidecast_pixels_total", "Pixels of the primary view coded or decoded", registry=r)
        self.raw_bytes = Counter("sidecast_raw_bytes_total", "Bytes of the primary view before coding", registry=r)
        self.stage_seconds = Histogram(
            "sidecast_stage_duration_seconds",
            "Time a stage worked on an item",
            ["stage"],
            buckets=SECONDS,
            registry=r,
        )
        self.latency_seconds = Histogram(
            "sidecast_latency_seconds", "From capture to the last stage", buckets=SECONDS, registry=r
        )
        self.channel_depth = Gauge(
            "sidecast_channel_depth_items", "Items waiting before a stage", ["stage"], registry=r
        )
        self.credits = Gauge("sidecast_link_credits", "Packets that may still be sent", registry=r)
        self.link_up = Gauge("sidecast_link_up", "1 while the other node answers", registry=r)
        self.resent = Counter("sidecast_packets_resent_total", "Packets sent again after a reconnect", registry=r)
        self.reconnects = Counter("sidecast_link_reconnects_total", "Times the link was set up again", registry=r)
        self.wire_errors = Counter("sidecast_wire_errors_total", "Messages refused as damaged or foreign", registry=r)
        self.decode_errors = Counter("sidecast_decode_errors_total", "Payloads refused by the decoder", registry=r)
        self.pair_offset_seconds = Gauge(
            "sidecast_pair_offset_seconds", "pts of the side view minus pts of the primary view", registry=r
        )
        self.clock_offset_seconds = Gauge(
            "sidecast_clock_offset_seconds", "The decoder's wall clock minus the encoder's", registry=r
        )
        self.psnr_db = Gauge("sidecast_psnr_db", "PSNR of the last measured frame, dB", registry=r)
        # Prometheus takes `_ms` for milliseconds, hence no second underscore.
        self.ms_ssim = Gauge("sidecast_msssim", "MS-SSIM of the last measured frame, 0 to 1", registry=r)
        self.build_info = Gauge("sidecast_build_info", "1, with version and model", ["version", "model"], registry=r)
