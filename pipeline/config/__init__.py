"""Configurations: YAML files that name stages, checked as a whole before anything starts.

document   YAML as data with line numbers        describe   the keys of a stage in plain words
variables  `vars`, `${name}`, --set              build      stages from mappings
checks     what must hold between stages         load       all of it, in order
find       shipped files by their name           model      the result
"""

from __future__ import annotations

from pipeline.config.build import Catalogue
from pipeline.config.find import find, shipped
from pipeline.config.load import expand, load
from pipeline.config.model import ChannelSpec, Config, Node, StageEntry

__all__ = ["Catalogue", "ChannelSpec", "Config", "Node", "StageEntry", "expand", "find", "load", "shipped"]
