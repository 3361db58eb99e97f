"""OPC UA server in its own thread, with objects, their variables and their events (asyncua)."""

from __future__ import annotations

import asyncio
import hmac
import logging
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, model_validator

from edgead.components.options import Host, Section, is_loopback
from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import plugin_command

_START_S = 60.0
_PUBLISH_S = 5.0
_LEAVE_S = 3.0
NAMESPACE = "urn:edgead:machine-vision"

# asyncua logs clients' faults with a traceback, and logs the errors that this module reports itself.
logging.getLogger("asyncua").setLevel(logging.CRITICAL)

Values = Mapping[str, tuple[str, Any]]
"""Variables by name: the type of OPC UA (`String`, `Double`, `UInt32`, ...) and the value."""


class OpcUaOptions(Section):
    """Options of an OPC UA server: where it listens, and who may connect."""

    host: Annotated[
        Host, Field(description="Address to listen on; any but this computer alone demands a user and a password.")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="Port; 0 takes a free port.")] = 4840
    user: Annotated[str | None, Field(min_length=1, description="Who may connect; by default everybody here.")] = None
    password: Annotated[SecretStr | None, Field(description="At least 12 characters; best from the environment.")] = (
        None
    )
    certificate_file: Annotated[
        Path | None, Field(description="The server's certificate: clients must sign and encrypt (Basic256Sha256).")
    ] = None
    key_file: Annotated[Path | None, Field(description="The server's private key.")] = None

    @model_validator(mode="after")
    def _guarded(self) -> OpcUaOptions:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password belong together: give both or none")
        if not is_loopback(self.host) and self.user is None:
            raise ValueError(f"host {self.host} can be reached from elsewhere: give user and password, or 127.0.0.1")
        if self.password is not None and len(self.password.get_secret_value()) < 12:
            raise ValueError("the password is shorter than 12 characters")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file belong together: give both or none")
        return self


class OpcUaServer:
    """OPC UA server of read-only variables; each `publish` sets the variables of one object and emits its event.

    `folder`: name of the object that contains all others.
    `event_type`: name of the events' type.
    `event_fields`: OPC UA type of each property of an event, by the property's name.
    `failed`: exception raised when the server cannot listen or publish.
    Raises SettingsError: the package `asyncua` is missing, or certificate and key cannot be used.
    """

    def __init__(
        self,
        options: OpcUaOptions,
        folder: str,
        event_type: str,
        event_fields: Mapping[str, str],
        failed: type[EdgeadError],
    ):
        try:
            from asyncua import ua

            from edgead_plant.opcua_guard import GuardedServer
        except ModuleNotFoundError:
            raise SettingsError(f"OPC UA needs `{plugin_command('edgead-plant[opcua]')}`") from None
        self.uri = f"opc.tcp://{options.host}:{options.port}"
        self.port = options.port
        self._ua, self._options, self._failed = ua, options, failed
        self._names = (folder, event_type, event_fields)
        users: Any = _Users(options)
        self._server: Any = GuardedServer(user_manager=users)
        self._objects: dict[str, Any] = {}
        self._variables: dict[tuple[str, str], Any] = {}
        self._error: Exception | None = None
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="opc ua", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_S):
            raise failed(f"{self.uri}: did not start within {_START_S:g} s")
        if self._error is not None:
            self._thread.join(_LEAVE_S)
            raise self._explained(self._error)

    def publish(self, name: str, values: Values, event: Values, message: str) -> None:
        """Set the variables of an object, created at its first use, and emit an event of it.

        Raises EdgeadError: `failed`: the server does not accept the values.
        """
        self._wait_for(self._publish(name, values, event, message))

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_LEAVE_S)

    def _wait_for(self, work: Coroutine[Any, Any, None]) -> None:
        if not self._thread.is_alive():
            work.close()
            raise self._failed(f"{self.uri}: the server has ended")
        try:
            asyncio.run_coroutine_threadsafe(work, self._loop).result(_PUBLISH_S)
        except TimeoutError:
            raise self._failed(f"{self.uri}: the server has taken nothing for {_PUBLISH_S:g} s") from None
        except self._ua.UaError as error:
            raise self._failed(f"{self.uri}: {error}") from None

    # Everything below runs in the server's thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001  the edge of a thread: who waits for it hears of it
            self._error = error
        finally:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()
            self._ready.set()

    async def _serve(self) -> None:
        server = self._server
        await server.init()
        server.set_endpoint(self.uri)
        server.set_server_name("edgead")
        await self._secure()
        folder, event_type, fields = self._names
        self._index = await server.register_namespace(NAMESPACE)
        self._folder = await server.nodes.objects.add_object(self._index, folder)
        types = [(name, getattr(self._ua.VariantType, kind)) for name, kind in fields.items()]
        self._event_type = await server.create_custom_event_type(self._index, event_type, properties=types)
        async with server:
            self.port = server.bserver._server.sockets[0].getsockname()[1]
            self._ready.set()
            await self._stop.wait()

    async def _secure(self) -> None:
        from asyncua.crypto.permission_rules import SimpleRoleRuleset

        options, policies = self._options, self._ua.SecurityPolicyType
        if options.certificate_file is None or options.key_file is None:
            self._server.set_security_policy([policies.NoSecurity], SimpleRoleRuleset())
        else:
            self._server.set_security_policy([policies.Basic256Sha256_SignAndEncrypt], SimpleRoleRuleset())
            for file, load in (
                (options.certificate_file, self._server.load_certificate),
                (options.key_file, self._server.load_private_key),
            ):
                content = file.read_bytes()
                await load(content, format="pem" if b"-----BEGIN" in content else "der")
        anonymous, named = self._ua.AnonymousIdentityToken, self._ua.UserNameIdentityToken
        self._server.set_identity_tokens([anonymous if options.user is None else named])

    async def _publish(self, name: str, values: Values, event: Values, message: str) -> None:
        for path, (kind, value) in values.items():
            variant = self._ua.Variant(value, getattr(self._ua.VariantType, kind))
            known = self._variables.get((name, path))
            if known is None:
                parent, _, leaf = f"{name}/{path}".rpartition("/")
                self._variables[name, path] = await (await self._object(parent)).add_variable(
                    self._index, leaf, variant
                )
            else:
                await known.write_value(variant)
        generator = await self._server.get_event_generator(self._event_type, await self._object(name))
        for field, (_, value) in event.items():
            setattr(generator.event, field, value)
        await generator.trigger(message=message)

    async def _object(self, path: str) -> Any:
        if path not in self._objects:
            parent, _, leaf = path.rpartition("/")
            above = await self._object(parent) if parent else self._folder
            self._objects[path] = await above.add_object(self._index, leaf)
        return self._objects[path]

    def _explained(self, error: Exception) -> Exception:
        if isinstance(error, OSError) and error.filename is None:
            return self._failed(f"{self.uri}: cannot listen: {error.strerror or error}; choose another port")
        if isinstance(error, OSError | ValueError) and self._options.certificate_file is not None:
            return SettingsError(f"{self.uri}: certificate_file or key_file cannot be used: {error}")
        return error


class _Users:
    """Users who may connect: the user in the options, or everybody; nobody may change a value."""

    def __init__(self, options: OpcUaOptions):
        self._options = options

    def get_user(self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None) -> Any:
        from asyncua.crypto.permission_rules import User, UserRole

        options = self._options
        if options.user is not None and options.password is not None:
            wanted = (options.user, options.password.get_secret_value())
            given = (str(username or ""), str(password or ""))
            same = [hmac.compare_digest(a.encode(), b.encode()) for a, b in zip(wanted, given, strict=True)]
            if not all(same):
                return None
        return User(role=UserRole.User, name=username)
