"""The quick import of the SDK, and that the whole of it works afterwards."""

import asyncio
import json
import ssl
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from kimi_cli.model import sdk
from tests.support.replies import text
from tests.support.server import ScriptedServer

ROOT = Path(__file__).parents[2]


def python(program: str, *arguments: str) -> str:
    """What a fresh interpreter prints; it must end well."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_little_is_loaded() -> None:
    counted = python(
        """
        import json, sys
        from kimi_cli.model import sdk
        assert "openai" not in sys.modules
        client = sdk.load()
        ours = [name for name in sys.modules if name.split(".")[0] == "openai"]
        import openai
        assert openai.AsyncOpenAI is client
        import openai.types
        dir(openai.types)
        whole = [name for name in sys.modules if name.split(".")[0] == "openai"]
        print(json.dumps([len(ours), len(whole)]))
        """
    )
    ours, whole = json.loads(counted)
    assert ours < 60
    assert whole > 5 * ours


def test_building_a_provider_loads_nothing_of_it() -> None:
    python(
        """
        import sys
        from kimi_cli.model.build import ModelConfig, build_provider
        client = build_provider(ModelConfig("https://api.moonshot.ai/v1", "kimi-k2.5", "sk-x"))
        client.encoder()
        heavy = {"openai", "httpx2", "anyio", "ssl"} & set(sys.modules)
        assert heavy <= {"ssl"}, heavy
        """
    )


def test_the_whole_sdk_works_afterwards() -> None:
    with ScriptedServer(
        [text("one"), text("two", fragments=2), text("three")], strict=False
    ) as server:
        python(
            """
            import asyncio, sys
            from kimi_cli.model import sdk

            client = sdk.load()(api_key="sk-x", base_url=sys.argv[1])

            async def main():
                asked = dict(model="m", messages=[{"role": "user", "content": "hi"}])
                whole = await client.chat.completions.create(**asked)
                from openai.types.chat import ChatCompletion, ChatCompletionChunk
                import openai
                assert type(whole) is ChatCompletion
                assert ChatCompletion is openai.types.chat.ChatCompletion
                assert isinstance(whole.usage, openai.types.CompletionUsage)
                assert whole.choices[0].message.content == "one"

                words = ""
                async for chunk in await client.chat.completions.create(**asked, stream=True):
                    assert type(chunk) is ChatCompletionChunk
                    words += (chunk.choices[0].delta.content or "") if chunk.choices else ""
                assert words == "two"

                async with client.chat.completions.stream(**asked) as stream:
                    async for event in stream:
                        pass
                    final = await stream.get_final_completion()
                assert final.choices[0].message.content == "three"

                missing = client.with_options(max_retries=0).models.retrieve("nothing")
                try:
                    await missing
                except openai.NotFoundError as error:
                    assert type(error) is openai.NotFoundError
                    assert isinstance(error, openai.APIStatusError)
                else:
                    raise AssertionError("found")
                await client.close()

            asyncio.run(main())
            """,
            server.base_url,
        )


def test_the_whole_sdk_is_the_same_as_ever() -> None:
    """Every name of every collecting package means what it means after a plain import."""
    survey = """
        import importlib, json, sys
        if sys.argv[1] == "ours":
            from kimi_cli.model import sdk
            sdk.load()
        import openai, openai.lib, openai.types
        packages = [importlib.import_module(name) for name in
                    ("openai", "openai.types", "openai.types.chat", "openai.types.shared")]
        listed = [(package, dir(package)) for package in packages]
        seen = {}
        for package, names in listed:
            for name in names:
                value = getattr(package, name)
                # Only classes: a look at the SDK's lazy resources would load them all.
                if issubclass(type(value), type):
                    seen[f"{package.__name__}.{name}"] = [value.__module__, value.__qualname__]
        assert type(openai) is type(json)
        from openai.types.responses import Response
        from openai.lib.streaming.chat import AsyncChatCompletionStream
        from openai.types import *
        from openai import *
        import pickle
        from openai.types import CompletionUsage
        usage = CompletionUsage(completion_tokens=1, prompt_tokens=2, total_tokens=3)
        assert pickle.loads(pickle.dumps(usage)) == usage
        print(json.dumps(seen))
    """
    ours, plain = json.loads(python(survey, "ours")), json.loads(python(survey, "plain"))
    differing = {key for key in plain if ours.get(key) != plain[key]}
    assert differing == set()


@pytest.mark.parametrize(
    "trouble",
    [
        "sdk._TESTED = ((0, 0), (0, 1))",
        "sdk.lazy_packages = None",
        "import openai",
        "sdk._collects_names = lambda name: 1 / 0",
        "sdk.Path = None",
    ],
)
def test_trouble_ends_in_the_plain_import(trouble: str) -> None:
    python(
        """
        import sys
        from kimi_cli.model import sdk
        exec(sys.argv[1])
        client = sdk.load()
        import openai
        assert openai.AsyncOpenAI is client
        assert "openai.types.chat.chat_completion" in sys.modules
        assert not [finder for finder in sys.meta_path if type(finder).__name__ == "_Finder"]
        """,
        trouble,
    )


def test_threads_that_load_it_at_once_all_get_it() -> None:
    python(
        """
        import sys, threading
        from kimi_cli.model import sdk
        sys.setswitchinterval(1e-5)
        together, seen = threading.Barrier(8), []
        def load():
            together.wait()
            seen.append(sdk.load())
        threads = [threading.Thread(target=load) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(seen) == 8 and len(set(seen)) == 1
        """
    )


def test_threads_that_need_the_rest_at_once_get_all_of_it() -> None:
    python(
        """
        import threading
        from kimi_cli.model import sdk
        sdk.load()
        import openai
        together, seen = threading.Barrier(8), []
        def use():
            together.wait()
            seen.append((openai.types.chat.ChatCompletion, openai.OpenAI, openai.NotFoundError))
        threads = [threading.Thread(target=use) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert len(seen) == 8 and len(set(seen)) == 1
        """
    )


def test_an_early_end_of_the_program_is_silent() -> None:
    """The client is still being prepared when the request is cancelled and the loop closed."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                """
                import asyncio, threading
                from kimi_cli.model.sdk import Connection
                connection = Connection("http://127.0.0.1:1/v1", "sk-x", {}, 1)

                async def main():
                    waiting = asyncio.create_task(connection.client())
                    await asyncio.sleep(0)
                    waiting.cancel()

                asyncio.run(main())
                [one.join() for one in threading.enumerate() if one.name == "kimi-sdk"]
                """
            ),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""


def test_a_name_that_is_not_there_is_missed_as_ever() -> None:
    python(
        """
        from kimi_cli.model import sdk
        sdk.load()
        import openai
        for package in (openai.types, openai):
            try:
                package.Nonsense
            except AttributeError as error:
                assert "Nonsense" in str(error)
            else:
                raise AssertionError("there")
        """
    )


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of our own for 127.0.0.1, with its key in the same file."""
    path = tmp_path / "own.pem"
    certificate = str(tmp_path / "cert.pem")
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=own", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *options.split(), *names, "-keyout", str(path), "-out", certificate],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + (tmp_path / "cert.pem").read_text())
    return path


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", None])
def test_a_certificate_authority_of_ones_own(
    certificate: Path, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(other, raising=False)
    if name is not None:
        monkeypatch.setenv(name, str(certificate))

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + b'{"data": []}')
        await writer.drain()
        writer.close()

    async def main() -> str:
        from kimi_cli.model.build import ModelConfig, build_endpoint
        from kimi_cli.model.wire import RequestFailed

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        endpoint = build_endpoint(ModelConfig(f"https://127.0.0.1:{port}/v1", "m", "sk-x"))
        async with server:
            try:
                return str(await endpoint.get_models())
            except RequestFailed as failure:
                return str(failure)
            finally:
                await endpoint.connection.close()

    said = asyncio.run(asyncio.wait_for(main(), 30))
    if name is None:
        assert "its TLS certificate is not trusted" in said
    else:
        assert said == "[]"


def test_plain_http_needs_no_certificates() -> None:
    context = sdk.tls_context("http://127.0.0.1:8000/v1", {})
    assert context.get_ca_certs() == []
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_second_client_loads_no_more() -> None:
    count = "len([n for n in sys.modules if n.startswith('openai')])"
    code = (
        "import sys; from kimi_cli.model.sdk import load; "
        f"first = load(); n = {count}; assert load() is first; assert {count} == n, {count}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
