"""Addresses in texts that others may read."""

from __future__ import annotations

import pytest

from pipeline.config.addresses import without_passwords


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://eve:s3cr:et@10.0.0.7:554/x", "rtsp://eve:***@10.0.0.7:554/x"),
        ("rtsp://eve:@h", "rtsp://eve:***@h"),
        ("rtsp://10.0.0.7:554/x", "rtsp://10.0.0.7:554/x"),
        ("rtsp://eve@h/x", "rtsp://eve@h/x"),
        ('left: "http://a:b@h/v"  # and udp://c:d@h', 'left: "http://a:***@h/v"  # and udp://c:***@h'),
        ("tcp://127.0.0.1:5555", "tcp://127.0.0.1:5555"),
        ("http://h:80/at@sign", "http://h:80/at@sign"),
        ("link: tcp://h:5555\nmail: me@x", "link: tcp://h:5555\nmail: me@x"),
    ],
)
def test_passwords_are_not_shown(text, shown):
    assert without_passwords(text) == shown
