"""A language model's words: what it is asked, over real HTTP, and that no answer of any server does harm."""

from __future__ import annotations

import base64
import csv
import json
import socket
import time
from contextlib import closing
from dataclasses import replace

import cv2
import numpy as np
import pytest
from chat_server import ChatServer, completion
from command_line import run_here
from fakes import make_verdict
from patience import MAX_S, wait_until

from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead_language.chat import MAX_BYTES, Address, Chat, ChatAnswer, ChatError, read_address
from edgead_language.command import _describe, _open_chat
from edgead_language.opinions import LONGEST_SIDE_PX, DescribePlan, description_messages, image_part, write_rows

KEY = "sk-secret-0123456789"
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("EDGEAD_CHAT_KEY", raising=False)


def chat_with(server, **settings):
    return Chat(read_address(server.url), **{"timeout_s": 5.0, **settings})


def ask(server, **settings):
    return chat_with(server, **settings).ask(HELLO, most_tokens=10)


def decoded(part):
    head, _, data = part["image_url"]["url"].partition(",")
    assert head == "data:image/jpeg;base64"
    return cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)


# What is sent


def test_a_question_is_as_the_api_has_it(monkeypatch):
    monkeypatch.setenv("EDGEAD_CHAT_KEY", KEY)
    with closing(ChatServer()) as server:
        answer = ask(server, model="some-vl")
        ((method, path, headers, body),) = server.requests
    assert (answer.text, answer.model) == ("A scratch.", "stub-vl")
    assert (method, path) == ("POST", "/v1/chat/completions")
    assert headers["Authorization"] == f"Bearer {KEY}" and headers["Content-Type"] == "application/json"
    assert body.pop("messages") == HELLO
    assert body == {"model": "some-vl", "max_tokens": 10, "temperature": 0, "seed": 8, "stream": False}


def test_without_a_key_and_a_name_none_is_sent():
    with closing(ChatServer()) as server:
        ask(server)
        ((_, _, headers, body),) = server.requests
    assert "Authorization" not in headers and "model" not in body


def test_the_image_its_heat_map_and_the_facts_are_sent_and_no_name():
    image = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), np.uint8)
    verdict = make_verdict(0.9)
    verdict = replace(verdict, boxes=(replace(verdict.boxes[0], place="top left"),), pipeline="secret line")
    settings = {"question": "Is it so?", "part": "a cap", "language": "de"}
    system, user = description_messages(image, verdict, **settings, heat_map=True)
    plain, mapped, text = user["content"]
    assert "Answer in German" in system["content"]
    assert decoded(plain).shape == decoded(mapped).shape == (576, LONGEST_SIDE_PX, 3)
    difference = np.abs(decoded(plain).astype(int) - decoded(mapped)).max(axis=2)
    assert difference.max() > 100 and np.median(difference) < 30
    assert text["text"].startswith("This is a photo of a cap for anomaly detection, which should be without any damage")
    assert "1200 x 900: Reject: 40 x 20 px, top left; score 0.9 (limit 0.5)" in text["text"]
    assert "Regions: 40 x 20 from x 80, y 40 (top left)." in text["text"] and text["text"].endswith("\nIs it so?")
    assert "secret" not in json.dumps([system, user])
    assert max(len(part["image_url"]["url"]) for part in (plain, mapped)) < 1.5e6  # noise: the worst that there is
    (alone, words) = description_messages(image, verdict, **settings, heat_map=False)[1]["content"]
    assert alone == plain and "heat map" not in words["text"]


def test_a_small_image_is_sent_as_large_as_it_is():
    assert decoded(image_part(np.zeros((1, 5, 3), np.uint8))).shape == (1, 5, 3)


# Where it is sent


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1:8080", "ftp://host/v1", "http://", "http://host:0/v1", "http://host:x/v1", "file:///etc/passwd"],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(SettingsError, match="--endpoint: no http or https address"):
        read_address(url)


@pytest.mark.parametrize("url", [f"http://anna:{KEY}@host/v1", f"http://host/v1?key={KEY}", f"http://host/v1#{KEY}"])
def test_a_secret_in_the_address_is_refused_and_not_quoted(url):
    with pytest.raises(SettingsError, match="a key in EDGEAD_CHAT_KEY") as refused:
        read_address(url)
    assert KEY not in str(refused.value)


def test_a_key_goes_to_no_other_machine_in_clear_text(monkeypatch):
    monkeypatch.setenv("EDGEAD_CHAT_KEY", KEY)
    with pytest.raises(
        SettingsError, match="EDGEAD_CHAT_KEY would go to http://192.168.0.4:80 in clear text"
    ) as refused:
        read_address("http://192.168.0.4:80/v1")
    assert KEY not in str(refused.value)
    for url in ("https://192.168.0.4/v1", "http://localhost:1/v1", "http://[::1]:1/v1"):
        assert read_address(url).key == KEY and KEY not in repr(read_address(url))


@pytest.mark.parametrize("key", ["two words", "ligne\nsuivante", "schlüssel"])
def test_a_key_that_would_break_a_header_is_refused_and_not_quoted(monkeypatch, key):
    monkeypatch.setenv("EDGEAD_CHAT_KEY", key)
    with pytest.raises(SettingsError, match="EDGEAD_CHAT_KEY: a key has no spaces") as refused:
        read_address("http://127.0.0.1:1/v1")
    assert key not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.9.9.9/v1", True),
        ("http://[::ffff:127.0.0.1]/v1", True),
        ("http://LOCALHOST:8080", True),
        ("http://localhost.example.com/v1", False),
        ("http://127.0.0.1.example.com/v1", False),
        ("http://0.0.0.0/v1", False),
        ("http://10.0.0.1/v1", False),
    ],
)
def test_which_addresses_are_this_machine(url, is_here):
    assert read_address(url).is_here is is_here


def test_a_name_of_this_machine_that_leads_elsewhere_gets_nothing(monkeypatch):
    with closing(ChatServer()) as server:
        address = read_address(server.url.replace("127.0.0.1", "localhost"))
        monkeypatch.setattr("edgead_language.chat.is_loopback", lambda peer: False)
        with pytest.raises(ChatError, match="localhost leads to .*, which is not this machine: nothing was sent"):
            Chat(address, timeout_s=5.0).ask(HELLO, most_tokens=10)
        assert server.requests == []


def test_no_proxy_of_the_environment_sees_anything(monkeypatch):
    with closing(ChatServer()) as proxy, closing(ChatServer()) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert ask(server).text == "A scratch."
        assert proxy.requests == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status):
    with closing(ChatServer()) as other:
        bid = lambda handler, server: handler.answer(status, b"", Location=f"{other.url}/chat/completions")  # noqa: E731
        with closing(ChatServer(misbehave=bid)) as server:
            with pytest.raises(ChatError, match=f"answered {status}, a redirect, which is not followed"):
                ask(server)
            assert len(server.requests) == 1
        assert other.requests == []


# What comes back


def wait(handler, server):
    server.released.wait(2 * MAX_S)


def drip_headers(handler, server):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while not server.released.wait(0.05):
        handler.wfile.write(b"z")


def drip_content(handler, server):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not server.released.wait(0.05):
        handler.wfile.write(b" ")


@pytest.mark.parametrize("misbehave", [wait, drip_headers, drip_content])
def test_an_answer_takes_no_longer_than_it_may_however_it_comes(misbehave):
    with closing(ChatServer(misbehave=misbehave)) as server:
        begin = time.monotonic()
        with pytest.raises(ChatError, match=r"no answer of http://127.0.0.1:\d+ within 0.4 s: .*--timeout-s"):
            ask(server, timeout_s=0.4)
        assert 0.3 < time.monotonic() - begin < MAX_S
        wait_until(lambda: server.requests)
        assert len(server.requests) == 1  # and is not asked for again


def endless(handler, server):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not server.released.is_set():
        handler.wfile.write(b"10000\r\n" + b"a" * 0x10000 + b"\r\n")


def huge(handler, server):
    handler.answer(200, json.dumps(completion("a" * 2 * MAX_BYTES)).encode())


@pytest.mark.parametrize("misbehave", [endless, huge])
def test_an_answer_is_no_larger_than_it_may_be(misbehave):
    with closing(ChatServer(misbehave=misbehave)) as server:
        with pytest.raises(ChatError, match="more than 1024 KiB: is it a chat server?"):
            ask(server)


def raw(data):
    return lambda handler, server: handler.wfile.write(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(500)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
def test_a_broken_answer_is_reported_in_a_sentence(data):
    with closing(ChatServer(misbehave=raw(data))) as server:
        with pytest.raises(ChatError, match="broke off its answer, or speaks no HTTP"):
            ask(server)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<html>hello</html>", "no JSON object"),
        (b'{"choices": [{"message": {"con', "no JSON object"),
        (b"[" * 100_000, "no JSON object"),
        (b"[]", "no JSON object"),
        (b"\xff\xfe", "no JSON object"),
        (b"{}", "JSON that holds no answer of a chat"),
        (b'{"choices": []}', "holds no answer of a chat"),
        (b'{"choices": [7]}', "holds no answer of a chat"),
        (b'{"choices": [{"message": "hello"}]}', "holds no answer of a chat"),
        (b'{"choices": [{"message": {"content": null}}]}', "gave an empty answer"),
        (b'{"choices": [{"message": {"content": {"a": 1}}}]}', "gave an empty answer"),
        (b'{"choices": [{"message": {"content": " \\n\\u0000 "}}]}', "gave an empty answer"),
        (b'{"error": {"message": "no vision"}}', "reports an error: .*no vision"),
    ],
)
def test_an_answer_of_another_form_is_reported_in_a_sentence(content, words):
    with closing(ChatServer(misbehave=lambda handler, _: handler.answer(200, content))) as server:
        with pytest.raises(ChatError, match=words):
            ask(server)


def test_a_server_that_streams_all_the_same_is_read():
    pieces = [{"role": "assistant"}, {"content": "A "}, {"content": None}, {"content": "scratch."}, {}]
    events = [{"model": "stub-vl", "choices": [{"index": 0, "delta": piece}]} for piece in pieces]
    events.append({"model": "stub-vl", "choices": [], "usage": {"total_tokens": 4}})
    stream = "".join(f"data: {json.dumps(event)}\r\n\r\n" for event in events) + ": still here\n\ndata: [DONE]\n\n"

    def answer(handler, server):
        handler.answer(200, stream.encode(), "text/event-stream; charset=utf-8")

    with closing(ChatServer(misbehave=answer)) as server:
        assert ask(server).text == "A scratch."


def test_words_come_on_one_line_of_bounded_length_without_what_moves_a_terminal():
    said = "\x1b[2J\x1b]0;owned\x07One\n\ntwo \u202ethree\ud800 " + "z" * 5_000
    with closing(ChatServer(lambda body: said)) as server:
        text = ask(server).text
    assert text.startswith("[2J ]0;owned One two three zzz") and len(text) == 2_000 and text.endswith("…")
    assert text.isprintable()


def test_parts_of_text_are_words_too():
    parts = [{"type": "text", "text": "A "}, {"type": "image_url"}, "odd", {"type": "text", "text": "dent."}]
    with closing(ChatServer(lambda body: parts)) as server:
        assert ask(server).text == "A dent."


def test_a_refusal_is_quoted_but_the_key_that_it_quotes_is_not(monkeypatch):
    monkeypatch.setenv("EDGEAD_CHAT_KEY", KEY)
    content = json.dumps({"error": f"wrong key {KEY}"}).encode()
    with closing(ChatServer(misbehave=lambda handler, _: handler.answer(401, content))) as server:
        with pytest.raises(ChatError, match=r"answered 401; is EDGEAD_CHAT_KEY right\?: .*wrong key \*\*\*") as refused:
            ask(server)
    assert KEY not in str(refused.value) and refused.value.status == 401


def test_a_server_that_is_not_there_is_reported_in_a_sentence():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = Address("http", "127.0.0.1", taken.getsockname()[1], "/v1", None)
        with pytest.raises(ChatError, match="refuses the connection: is the server running?"):
            Chat(address, timeout_s=MAX_S).ask(HELLO, most_tokens=1)


def test_a_server_without_tls_is_reported_in_a_sentence():
    with closing(ChatServer()) as server:
        address = replace(read_address(server.url), scheme="https")
        with pytest.raises(ChatError, match="no connection to https://127.0.0.1"):
            Chat(address, timeout_s=MAX_S).ask(HELLO, most_tokens=1)


# Which model


@pytest.mark.parametrize(("models", "name"), [(["one"], "one"), ([], None), (None, None)])
def test_the_only_model_of_a_server_is_taken(models, name):
    with closing(ChatServer(models=models)) as server:
        assert chat_with(server).with_model().model == name
        assert server.requests[0][:2] == ("GET", "/v1/models")


def test_one_of_several_models_must_be_named():
    with closing(ChatServer(models=["llava", "qwen-vl"])) as server:
        with pytest.raises(ChatError, match="offers several models: name one with --model: llava, qwen-vl"):
            chat_with(server).with_model()


# The verb


def test_rejects_are_described_beside_their_decisions(trained_model, line_data, tmp_path):
    images = line_data / "test"
    judged = json.loads(run_here("predict", trained_model, images, "--json").stdout)["images"]
    with closing(ChatServer(lambda body: "=All is well: decision ok.")) as server:
        options = ["--endpoint", server.url, "--part", "a cap", "-o", tmp_path / "words.csv", "--json"]
        result = run_here("describe", trained_model, images, *options)
        assert result.returncode == 0, result.stderr
        asked = server.asked
    rows = json.loads(result.stdout)["images"]
    assert [(row["image"], row["decision"], row["image_score"]) for row in rows] == [
        (row["image"], row["decision"], row["image_score"]) for row in judged
    ]
    flagged = [row for row in rows if row["decision"] != "ok"]
    assert 0 < len(flagged) == len(asked) < len(rows)
    for row in rows:
        assert ("model_words" in row) == (row["decision"] != "ok") == bool(row["facts"])
    assert {row["model_words"] for row in flagged} == {"=All is well: decision ok."}
    assert {(row["language_model"], row["endpoint"]) for row in flagged} == {
        ("stub-vl", server.url.removesuffix("/v1"))
    }
    assert all("a photo of a cap for" in body["messages"][1]["content"][2]["text"] for body in asked)
    assert not any(row["image"] in json.dumps(asked) for row in rows)
    with open(tmp_path / "words.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["image"] for row in table] == [row["image"] for row in rows]
    assert {row["model_words"] for row in table} == {"", "'=All is well: decision ok."}


def test_words_are_shown_as_those_of_a_model(trained_model, line_data):
    with closing(ChatServer(lambda body: "Ein Kratzer.")) as server:
        options = ["--endpoint", server.url, "--language", "de", "--no-heat-map", "--question", "Was ist das?"]
        result = run_here("describe", trained_model, line_data / "test" / "dent", *options)
        (content,) = {len(body["messages"][1]["content"]) for body in server.asked}
    assert content == 2 and server.asked[0]["messages"][1]["content"][1]["text"].endswith("Was ist das?")
    assert "stub-vl says: Ein Kratzer." in result.stdout and "Ausschuss: " in result.stdout
    assert "What a language model says may be wrong; no decision rests on it." in result.stdout
    assert "warning" not in result.stderr


def test_after_three_failures_in_a_row_nothing_more_is_asked(trained_model, line_data, tmp_path):
    failing = lambda handler, _: handler.answer(500, b"out of memory")  # noqa: E731
    with closing(ChatServer(misbehave=failing)) as server:
        options = ["--endpoint", server.url, "--all", "-o", tmp_path / "words.jsonl"]
        result = run_here("describe", trained_model, line_data / "test" / "good", *options)
        assert result.returncode == 2 and len(server.asked) == 3
    rows = [json.loads(line) for line in (tmp_path / "words.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and all(row["decision"] for row in rows)
    assert [row["problem"].partition(":")[0] == "not asked" for row in rows] == [False] * 3 + [True] * 5
    assert "answered 500: out of memory" in rows[0]["problem"] and "Traceback" not in result.stderr


def test_images_that_leave_the_machine_are_announced_before(monkeypatch, capsys):
    monkeypatch.setattr(Chat, "_request", lambda *_: pytest.fail("asked"))
    _open_chat("http://127.0.0.1:1/v1", "any", 1.0)
    assert capsys.readouterr().err == ""
    _open_chat("https://10.0.0.1/v1", "any", 1.0)
    assert capsys.readouterr().err == "warning: images leave this machine: they are sent to https://10.0.0.1:443\n"


def test_a_file_that_cannot_be_written_leaves_what_was_there(tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OSError):
        write_rows([{"image": "a"}], tmp_path / "folder.jsonl")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.jsonl"]


def test_a_missing_server_ends_the_verb_with_a_sentence(trained_model, line_data):
    result = run_here("describe", trained_model, line_data / "test" / "dent", "--endpoint", "http://127.0.0.1:9/v1")
    assert result.returncode == 2 and "error: http://127.0.0.1:9 refuses the connection" in result.stderr


def test_answers_that_came_before_an_interruption_are_kept(trained_model, line_data, tmp_path, monkeypatch):
    asked = []

    def ask(chat, messages, *, most_tokens):
        asked.append(messages)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return ChatAnswer("A cap.", "stub-vl")

    monkeypatch.setattr(Chat, "ask", ask)
    chat = Chat(read_address("http://127.0.0.1:1/v1"))
    paths = sorted((line_data / "test" / "good").iterdir())
    with Detector.load(trained_model) as detector, pytest.raises(KeyboardInterrupt):
        _describe(detector, chat, paths, DescribePlan(everything=True), tmp_path / "words.jsonl", as_json=True)
    rows = [json.loads(line) for line in (tmp_path / "words.jsonl").read_text().splitlines()]
    assert [row["model_words"] for row in rows] == ["A cap."] * 2
