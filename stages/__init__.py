"""The stages: one file each. TABLE maps the names that YAML files use to the classes, loaded only when used."""

from __future__ import annotations

__all__ = ["TABLE"]

TABLE = {
    "kitti": "stages.sources.kitti:Kitti",
    "images": "stages.sources.images:Images",
    "video": "stages.sources.video:Video",
    "camera": "stages.sources.camera:Camera",
    "synthetic": "stages.sources.synthetic:Synthetic",
    "rectified": "stages.rectify:Rectified",
    "rectify": "stages.rectify:Rectify",
    "pair": "stages.pair:Pair",
    "encode": "stages.encode:Encode",
    "decode": "stages.decode:Decode",
    "encode_image": "stages.encode_image:EncodeImage",
    "decode_image": "stages.decode_image:DecodeImage",
    "send": "stages.send:Send",
    "receive": "stages.receive:Receive",
    "record": "stages.record:Record",
    "replay": "stages.replay:Replay",
    "quality": "stages.quality:Quality",
    "write_video": "stages.sinks.write_video:WriteVideo",
    "write_images": "stages.sinks.write_images:WriteImages",
    "display": "stages.sinks.display:Display",
    "write_panels": "stages.sinks.write_panels:WritePanels",
}
