"""Configurations: what a good file becomes, and the line that each mistake gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from pipeline.config import expand, find, load, shipped
from pipeline.config.addresses import http_endpoint, link_endpoint, may_reach
from pipeline.config.document import parse
from pipeline.errors import ConfigError, SourceError
from pipeline.stage import Source, Stage
from pipeline.types import Item

if TYPE_CHECKING:
    import torch


@dataclass(kw_only=True)
class Camera(Source):
    """Frames of a camera."""

    clock = "wall"
    drive: str = "here"

    def read(self) -> Iterator[Item]:
        yield from ()


@dataclass(kw_only=True)
class Tape(Source):
    """Frames of a recording."""

    drive: Annotated[str, Field(description="the folder", min_length=1)]
    frames: str | None = None
    size: tuple[int, int] | None = None

    def read(self) -> Iterator[Item]:
        yield from ()


@dataclass(kw_only=True)
class Inlet(Source):
    """The receiving end."""

    bind: str
    insecure: bool = False

    def read(self) -> Iterator[Item]:
        yield from ()


@dataclass(kw_only=True)
class Step(Stage):
    """Any stage in the middle."""

    quality: Annotated[float, Field(ge=0, le=100, description="rate point")] = 24
    device: Literal["auto", "cpu", "cuda"] = "auto"
    every: Annotated[int | None, Field(ge=1)] = None
    _state: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    _later: torch.Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.device == "cuda" and self.quality == 13:
            raise ValueError("quality 13 needs the CPU")

    def process(self, item: Item) -> Iterator[Item]:
        yield item


@dataclass(kw_only=True)
class Joint(Stage):
    """Joins views."""

    policy: Literal["exact", "nearest", "latest"] = "exact"
    side: Source | None = None

    def process(self, item: Item) -> Iterator[Item]:
        yield item


@dataclass(kw_only=True)
class Outlet(Step):
    """The sending end."""

    connect: str = "tcp://127.0.0.1:5555"
    insecure: bool = False


TABLE = {
    name: f"{__name__}:{cls.__name__}"
    for name, cls in {
        "camera": Camera,
        "kitti": Tape,
        "receive": Inlet,
        "encode": Step,
        "show": Step,
        "pair": Joint,
        "send": Outlet,
    }.items()
}
GOOD = """
vars: {drive: null, quality: 24, link: "tcp://127.0.0.1:5555"}
nodes:
  encoder:
    http: 127.0.0.1:9101
    stages:
      - {use: kitti, drive: "${drive}"}
      - {use: encode, quality: "${quality}", channel: {policy: latest, capacity: 3}}
      - {use: send, connect: "${link}"}
  decoder:
    stages:
      - {use: receive, bind: "${link}"}
      - {use: pair, side: {use: kitti, drive: "${drive}/right", frames: 10:20, size: [640, 192]}}
      - {use: show}
      - {use: show, quality: 1e1}
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def _faults(tmp_path: Path, text: str, **overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load(_write(tmp_path, text), TABLE, overrides)
    return str(error.value).replace(f"{tmp_path}/", "").splitlines()


def _chain(*stages: str, http: str = "127.0.0.1:9101") -> str:
    lines = "\n".join(f"      - {stage}" for stage in stages)
    return f"nodes:\n  one:\n    http: {http}\n    stages:\n{lines}\n"


def test_load_builds_stages_with_variables(tmp_path):
    config = load(_write(tmp_path, GOOD), TABLE, {"drive": "a/b", "quality": "30"})
    encoder, decoder = config.nodes.values()
    assert config.vars == {"drive": "a/b", "quality": 30, "link": "tcp://127.0.0.1:5555"}
    assert (encoder.name, encoder.http, encoder.insecure, decoder.http) == ("encoder", "127.0.0.1:9101", False, None)
    assert [entry.label for entry in decoder.stages] == ["receive", "pair", "show", "show_2"]
    encode, pair = encoder.stages[1], decoder.stages[1].stage
    assert isinstance(encode.stage, Step)
    assert encode.stage.quality == 30
    assert encode.channel is not None
    assert (encode.channel.policy, encode.channel.capacity, encode.line) == ("latest", 3, 8)
    assert encoder.stages[2].channel is None
    assert isinstance(pair, Joint)
    assert isinstance(pair.side, Tape)
    assert (pair.side.drive, pair.side.frames, pair.side.size) == ("a/b/right", "10:20", (640, 192))


def test_load_with_five_mistakes_gives_five_lines(tmp_path):
    text = """\
vars: {quality: 24}
nodes:
  encoder:
    http: 127.0.0.1:9101
    stages:
      - {use: kiti, drive: a}
      - {use: encode, qualty: 24}
      - {use: encode, quality: 101, device: cpuu}
      - {use: send, connect: "${lnk}"}
"""
    assert _faults(tmp_path, text) == [
        "run.yaml:6: nodes.encoder.stages[0].use: there is no stage 'kiti'; did you mean 'kitti'? "
        "(there are camera, kitti, receive, encode, show, pair, send)",
        "run.yaml:7: nodes.encoder.stages[1].qualty: unknown key (value 24); encode has quality, device, every; "
        "did you mean 'quality'?",
        "run.yaml:8: nodes.encoder.stages[2].quality: 101 is not allowed, expected a number from 0 to 100",
        'run.yaml:8: nodes.encoder.stages[2].device: "cpuu" is not allowed, expected one of auto, cpu, cuda; '
        "did you mean 'cpu'?",
        "run.yaml:9: nodes.encoder.stages[3].connect: \"${lnk}\": there is no variable 'lnk'; vars has quality",
    ]


@pytest.mark.parametrize(
    ("stage", "fault"),
    [
        ("{use: encode, quality: high}", '.quality: "high" is not allowed, expected a number from 0 to 100'),
        ("{use: encode, quality: }", ".quality: null is not allowed, expected a number from 0 to 100"),
        ("{use: encode, quality: .nan}", ".quality: .nan is not allowed, expected a finite number"),
        ("{use: encode, every: 0}", ".every: 0 is not allowed, expected a whole number of at least 1 or null"),
        ("{use: encode, every: 1.5}", ".every: 1.5 is not allowed, expected a whole number of at least 1 or null"),
        ("{use: encode, quality: 13, device: cuda}", ": quality 13 needs the CPU"),
        ("{use: encode, _state: {}}", "._state: unknown key (value {}); encode has quality, device, every"),
        ("{use: encode, quality: 1, quality: 2}", ".quality: this key is here twice, first in line 6; keep one"),
        ("{quality: 1}", ': {"quality": 1} is not allowed, expected a stage such as {use: kitti, ...}'),
        ("encode", ': "encode" is not allowed, expected a stage such as {use: kitti, ...}'),
        (
            "{use: pair, side: {use: kitti, drive: a, size: [1, b]}}",
            '.side.size: "b" (item 1) is not allowed, expected [whole number, whole number] or null',
        ),
        (
            "{use: pair, side: {use: encode}}",
            ".side.use: 'encode' is not allowed here, expected a source with its own `use` or null",
        ),
        ("{use: pair, side: here}", '.side: "here" is not allowed, expected a source with its own `use` or null'),
        ("{use: pair, side: {use: kitti}}", ".side.drive: missing, expected text that is not empty (the folder)"),
        (
            "{use: show, channel: latest}",
            '.channel: "latest" is not allowed, expected {policy: block or latest, capacity: N}',
        ),
        (
            "{use: show, channel: {policy: last}}",
            ".channel.policy: \"last\" is not allowed, expected one of block, latest or null; did you mean 'latest'?",
        ),
        (
            "{use: show, channel: {capacity: 0}}",
            ".channel.capacity: 0 is not allowed, expected a whole number from 1 to 1024 or null",
        ),
        ("{use: camera}", ".use: 'camera' is a source, which stands first in a chain or nested in another stage"),
    ],
)
def test_load_says_what_is_wrong_with_a_stage(tmp_path, stage, fault):
    assert _faults(tmp_path, _chain("{use: kitti, drive: a}", stage)) == [f"run.yaml:6: nodes.one.stages[1]{fault}"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "run.yaml:1: a configuration is a mapping with `nodes` and, if it likes, `vars`"),
        ("nodes: {}", "run.yaml:1: nodes: {} is not allowed, expected at least one node with its stages"),
        ("vars: {a: 1}", "run.yaml:1: nodes: null is not allowed, expected at least one node with its stages"),
        ("nodes: {one: {}}", "run.yaml:1: nodes.one.stages: missing, expected a list, each item anything"),
        ("nodes: {one: {stages: []}}", "run.yaml:1: nodes.one.stages: a node needs at least one stage"),
        (
            "nodes: {one: 5}",
            "run.yaml:1: nodes.one: 5 is not allowed, expected the node's `stages` and, if it likes, `http`",
        ),
        (
            "nodes: {1a: {stages: [{use: camera}]}}",
            "run.yaml:1: nodes.1a: a node's name is made of letters, digits, _ and -, and starts with a letter",
        ),
        (
            "node: {}\nnodes: {a: {stages: [{use: camera}]}}",
            "run.yaml:1: node: unknown key; a configuration has vars and nodes; did you mean 'nodes'?",
        ),
        (
            "nodes: {a: {htp: 1, stages: [{use: camera}]}}",
            "run.yaml:1: nodes.a.htp: unknown key (value 1); a node has http, insecure, dashboard, stages; "
            "did you mean 'http'?",
        ),
        (
            "nodes: [}",
            "run.yaml:1: not a configuration that can be read: did not find expected node content",
        ),
        ("a: &x [1]\nb: *x", "run.yaml:2: not a configuration that can be read: aliases (*) are not allowed"),
        (
            "a: !!python/object:os.system x",
            "run.yaml:1: not a configuration that can be read: tags (tag:yaml.org,2002:python/object:os.system) are "
            "not allowed",
        ),
        ("[" * 100_000, "run.yaml:1: not a configuration that can be read: this is nested too deeply"),
        ("a: \x00", "run.yaml: not a configuration that can be read: special characters are not allowed"),
    ],
)
def test_load_says_what_is_wrong_with_a_file(tmp_path, text, fault):
    found = _faults(tmp_path, text)
    assert len(found) == 1
    if "expected node content" not in fault:
        assert found == [fault]


def test_load_of_large_or_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="larger than 256 KiB"):
        load(_write(tmp_path, "#" * 300_000), TABLE, {})
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml", TABLE, {})


def test_variables_not_given_or_unknown_are_named(tmp_path):
    assert _faults(tmp_path, GOOD, qualty="3") == [
        "--set qualty=3: there is no variable 'qualty'; this file has drive, quality, link; did you mean 'quality'?",
        "run.yaml:2: vars.drive: has no value; give it with --set drive=VALUE",
    ]


def test_variables_that_refer_or_nest_are_refused(tmp_path):
    chain = _chain('{use: camera, drive: "${a}"}', '{use: encode, quality: "${"}')
    assert _faults(tmp_path, 'vars: {a: "${b}", b: {c: 1}, c-d: 1}\n' + chain) == [
        'run.yaml:1: vars.a: "${b}" is not allowed, a variable cannot refer to another one',
        'run.yaml:1: vars.b: {"c": 1} is not allowed, expected text, a number, true, false or a list of those',
        "run.yaml:1: vars.c-d: a variable's name is made of letters, digits and _, and starts with no digit",
        'run.yaml:7: nodes.one.stages[1].quality: "${": `${` without `}`',
    ]


@pytest.mark.parametrize(
    ("default", "text", "value"),
    [
        ("24", "30.5", 30.5),
        ("x", "007", "007"),
        ("[1, 2]", "[3, 4]", [3, 4]),
        ("true", "false", False),
        ("1", "x", "x"),
    ],
)
def test_override_takes_the_type_of_the_default(tmp_path, default, text, value):
    path = _write(tmp_path, f"vars: {{a: {default}}}\n" + _chain("{use: camera}"))
    assert load(path, TABLE, {"a": text}).vars == {"a": value}


@pytest.mark.parametrize(
    ("stages", "fault"),
    [
        (["{use: encode}"], "[0].use: 'encode' cannot be the first stage, a chain starts with a source or `receive`"),
        (
            ["{use: camera}", "{use: send}", "{use: show}"],
            "[1].use: `send` must be the last stage of its chain, but 'show' follows",
        ),
        (
            ["{use: camera}", "{use: encode}", "{use: show, channel: {policy: latest}}"],
            "[2].channel.policy: latest is not allowed behind `encode`, where every frame counts; expected block, "
            "or latest before `encode`",
        ),
        (
            ["{use: camera, channel: {capacity: 2}}"],
            "[0].channel: there is no channel before the first stage of a chain; remove it",
        ),
        (
            ["{use: camera}", "{use: pair, side: {use: camera}}"],
            "[1].policy: exact is not allowed between two live sources, whose frame numbers are unrelated; "
            "use nearest or latest",
        ),
        (
            ["{use: camera}", '{use: send, connect: "127.0.0.1:5555"}'],
            '[1].connect: "127.0.0.1:5555" is not allowed, expected an address such as tcp://127.0.0.1:5555',
        ),
        (
            ["{use: camera}", '{use: send, connect: "tcp://gpu:5555"}'],
            '[1].connect: "tcp://gpu:5555" is reached from other machines, without encryption; '
            "use tcp://127.0.0.1:PORT, or give `send` `insecure: true` to allow it",
        ),
    ],
)
def test_checks_between_stages(tmp_path, stages, fault):
    text = _chain(*stages)
    found = _faults(tmp_path, text)
    assert [line.partition("stages")[2] for line in found] == [fault]


@pytest.mark.parametrize(
    "stages",
    [
        ["{use: camera}", "{use: encode, channel: {policy: latest}}", "{use: show, channel: {policy: block}}"],
        ["{use: camera}", "{use: pair, policy: nearest, side: {use: camera}}"],
        ["{use: camera}", "{use: pair, side: {use: kitti, drive: a}}"],
        ["{use: camera}", '{use: send, insecure: true, connect: "tcp://gpu:5555"}'],
        ["{use: camera}", '{use: send, connect: "ipc:///tmp/link"}'],
    ],
)
def test_checks_let_good_chains_pass(tmp_path, stages):
    assert len(load(_write(tmp_path, _chain(*stages)), TABLE, {}).nodes["one"].stages) == len(stages)


def _two(http: str, connect: str, bind: str, policy: str = "nearest") -> str:
    return f"""
nodes:
  a: {{http: "127.0.0.1:9101", stages: [{{use: camera}}, {{use: send, connect: "{connect}", insecure: true}}]}}
  b:
    http: {http}
    stages:
      - {{use: receive, bind: "{bind}", insecure: true}}
      - {{use: pair, policy: {policy}, side: {{use: camera}}}}
"""


@pytest.mark.parametrize(
    ("http", "connect", "bind", "policy", "fault"),
    [
        ("127.0.0.1:9101", "tcp://127.0.0.1:1", "tcp://*:1", "latest", "is the port of node 'a' already"),
        ("127.0.0.1:x", "tcp://127.0.0.1:1", "tcp://*:1", "latest", "expected HOST:PORT such as"),
        ("0.0.0.0:9102", "tcp://127.0.0.1:1", "tcp://*:1", "latest", "or give the node `insecure: true`"),
        ("127.0.0.1:9102", "tcp://127.0.0.1:2", "tcp://*:1", "latest", "leads nowhere, `receive` listens on tcp://*:1"),
        ("127.0.0.1:9102", "ipc://a", "ipc://b", "latest", "leads nowhere"),
        ("127.0.0.1:9102", "tcp://127.0.0.1:1", "tcp://*:1", "exact", "two live sources"),
        ("127.0.0.1:9102", "tcp://gateway:2", "tcp://*:1", "nearest", None),
        ("127.0.0.1:9102", "tcp://127.0.0.1:2", "tcp://*:*", "nearest", None),
    ],
)
def test_checks_between_nodes(tmp_path, http, connect, bind, policy, fault):
    text = _two(http, connect, bind, policy)
    if fault is None:
        load(_write(tmp_path, text), TABLE, {})
    else:
        found = _faults(tmp_path, text)
        assert len(found) == 1
        assert fault in found[0]


@pytest.mark.parametrize("text", ["127.0.0.1", "127.0.0.1:99999", "tcp://a:1", ":80", "a b:1"])
def test_http_endpoint_refuses(text):
    assert http_endpoint(text) is None


def test_endpoints_know_loopback():
    hosts = {"127.3.0.1": True, "[::1]": True, "localhost": True, "*": False, "0.0.0.0": False, "gpu": False}
    for host, loopback in hosts.items():
        end = link_endpoint(f"tcp://{host}:5")
        assert end is not None
        assert end.loopback is loopback
        assert may_reach(end, end)


def _drives(tmp_path: Path, *names: str) -> str:
    for name in names:
        (tmp_path / "drives" / name).mkdir(parents=True)
    (tmp_path / "drives" / "seq.txt").touch()
    return str(tmp_path / "drives")


def test_expand_gives_one_run_per_match(tmp_path):
    folder = _drives(tmp_path, "seq02", "seq01", "other")
    runs = expand(_write(tmp_path, GOOD), TABLE, {"drive": f"{folder}/seq*"})
    assert [name for name, _ in runs] == ["seq01", "seq02"]
    for name, config in runs:
        head, pair = config.nodes["encoder"].stages[0].stage, config.nodes["decoder"].stages[1].stage
        assert config.vars["drive"] == f"{folder}/{name}"
        assert isinstance(head, Tape)
        assert isinstance(pair, Joint)
        assert isinstance(pair.side, Tape)
        assert (head.drive, pair.side.drive) == (f"{folder}/{name}", f"{folder}/{name}/right")


def test_expand_of_a_glob_in_a_stage(tmp_path):
    folder = _drives(tmp_path, "seq1", "seq2")
    drive = f'drive: "{folder}/seq?"'
    path = _write(tmp_path, _chain(f"{{use: kitti, {drive}}}", f"{{use: pair, side: {{use: kitti, {drive}}}}}"))
    runs = expand(path, TABLE, {})
    assert [name for name, _ in runs] == ["seq1", "seq2"]
    side = runs[1][1].nodes["one"].stages[1].stage
    assert isinstance(side, Joint)
    assert isinstance(side.side, Tape)
    assert side.side.drive == f"{folder}/seq2"


def test_expand_of_equal_names_tells_them_apart(tmp_path):
    folder = _drives(tmp_path, "a/sync", "b/sync")
    names = [name for name, _ in expand(_write(tmp_path, GOOD), TABLE, {"drive": f"{folder}/*/sync"})]
    assert len(set(names)) == 2
    assert all("/" not in name for name in names)


def test_expand_without_a_glob_is_one_run(tmp_path):
    folder = _drives(tmp_path, "seq[1]/right", "only")
    for drive, expected in [("a", "a"), (f"{folder}/seq[1]", f"{folder}/seq[1]"), (f"{folder}/o*", f"{folder}/only")]:
        runs = expand(_write(tmp_path, GOOD), TABLE, {"drive": drive})
        assert [(name, config.vars["drive"]) for name, config in runs] == [("", expected)]


def test_expand_without_a_match_says_so(tmp_path):
    with pytest.raises(SourceError, match=r"no drive matches .*/none\*"):
        expand(_write(tmp_path, GOOD), TABLE, {"drive": f"{tmp_path}/none*"})


def test_find_takes_files_and_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    assert find("demo") == shipped()["demo"]
    path = _write(tmp_path, GOOD)
    assert find(str(path)) == path
    with pytest.raises(ConfigError, match=r"neither a file nor one of .*demo.*did you mean 'demo'"):
        find("demoo")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="ab:{}[]&*!-#|>'\"\n ,?%@`~<=0.1", max_size=40))
def test_parse_of_any_text_is_data_or_a_config_error(text):
    with suppress(ConfigError):
        parse(text, "x.yaml").check()
