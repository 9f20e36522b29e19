"""What Envoy must run, computed whole from the state: {relative path: content}. Pure.

Each file carries a hash of its content as its version, so that the running Envoy can be asked which content it has.
JSON only: it loads faster than YAML and a key that is given twice cannot slip in.
"""

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any
from urllib.parse import SplitResult, urlsplit

from appservice.errors import Invalid, Problem
from appservice.gateway import layout, listener
from appservice.gateway.layout import EnvoyFixed
from appservice.gateway.listener import FILTERS, TYPE, Json
from appservice.gateway.protocol import GatewayState, Provider

FORMAT = "opsroom-1"  # files of another format are not kept
CONTROL = "control"
STORAGE = "storage"
AUDIENCE = "gateway"
ISSUER = "opsroom"

_MODEL_CALLS = "/v1/(chat/completions|completions|responses|embeddings|messages)"
_UNSAFE = re.compile(r"[\x00-\x1f\x7f|]")
_LONGEST_NAME = 200
# Between us and the agent; nobody behind the gateway may see them, and a compressed answer would hide its token counts.
_OF_THE_CLIENT = ["authorization", "x-api-key", "api-key", "cookie", "proxy-authorization", "accept-encoding"]
_OF_THE_GATEWAY = ["x-ops-sub", "x-ops-jti", "x-ops-grant", "x-ops-model", layout.TOKEN_HEADER]
_VERIFIED_CONSUMER = "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:consumer:sub)%"


def files(state: GatewayState, jwks: Json, secrets: Mapping[str, str], fixed: EnvoyFixed) -> dict[str, Json]:
    """Every file that may change while Envoy runs. `secrets`: provider -> path of the file that holds its key."""
    check(state)
    found = {
        layout.DENY: _file(_extension("ops-deny", deny(state.revoked))),
        layout.GRANTS: _file(_extension("ops-grants", grants(state))),
        layout.JWT: _file(_extension("ops-jwt", jwt(jwks))),
        layout.ROUTES: _file(routes(state, fixed)),
        layout.CLUSTERS: _file(*clusters(state, fixed)),
    }
    for provider in state.providers:
        if provider.key:
            found[layout.key_file(provider.name)] = _file(key(provider, secrets[provider.name]))
    return found


def static_files(fixed: EnvoyFixed) -> dict[str, Json]:
    """Files that are fixed for the life of Envoy's process."""
    return {layout.BOOTSTRAP: listener.bootstrap(fixed), layout.LISTENERS: _file(*listener.listeners(fixed))}


def _file(*resources: Json) -> Json:
    text = json.dumps(resources, sort_keys=True)
    version = sha256(text.encode()).hexdigest()[:32]
    return {"version_info": version, "control_plane": {"identifier": FORMAT}, "resources": list(resources)}


def with_resources(file: Json, more: Iterable[Json]) -> Json:
    """The same file with further resources."""
    return _file(*file["resources"], *more)


def _extension(name: str, config: Json) -> Json:
    return {"@type": TYPE + "config.core.v3.TypedExtensionConfig", "name": name, "typed_config": config}


# Who may do what


def jwt(jwks: Json) -> Json:
    """Check the consumer's token. It goes no further; its claims do, as headers of ours."""
    consumer = {
        "issuer": ISSUER,
        "audiences": [AUDIENCE],
        "require_expiration": True,
        "clock_skew_seconds": 1,  # a revoked token is forgotten when it expires, so it must be dead then
        "local_jwks": {"inline_string": json.dumps(jwks, sort_keys=True)},
        "from_headers": [
            {"name": "authorization", "value_prefix": "Bearer "},
            {"name": "x-api-key"},
            {"name": layout.TOKEN_HEADER},
        ],
        "forward": False,
        "payload_in_metadata": "consumer",
        "claim_to_headers": [
            {"header_name": "x-ops-sub", "claim_name": "sub"},
            {"header_name": "x-ops-jti", "claim_name": "jti"},
        ],
        "jwt_cache_config": {"jwt_cache_size": 20000},
    }
    rule = {"match": {"prefix": "/"}, "requires": {"provider_name": "consumer"}}
    return {
        "@type": FILTERS + "jwt_authn.v3.JwtAuthentication",
        "providers": {"consumer": consumer},
        "rules": [rule],
    }


def deny(revoked: Iterable[str]) -> Json:
    return _rbac("deny_", "x-ops-jti", revoked, _action("revoked", "DENY"), otherwise=_action("pass", "ALLOW"))


def grants(state: GatewayState) -> Json:
    """What is not listed is refused, because a matcher without a match denies."""
    keys = {f"llm|{consumer.name}|{model}" for consumer in state.consumers for model in consumer.models}
    keys |= {f"{kind}|{consumer.name}" for consumer in state.consumers for kind in ("ctl", "s3")}
    return _rbac("grants_", "x-ops-grant", keys, _action("ok", "ALLOW"))


def _rbac(prefix: str, header: str, keys: Iterable[str], action: Json, *, otherwise: Json | None = None) -> Json:
    look_up = {"@type": TYPE + "type.matcher.v3.HttpRequestHeaderMatchInput", "header_name": header}
    listed = dict.fromkeys(("-", *sorted(keys)), action)  # Envoy refuses an empty map
    matcher: Json = {
        "matcher_tree": {"input": {"name": header, "typed_config": look_up}, "exact_match_map": {"map": listed}}
    }
    if otherwise is not None:
        matcher["on_no_match"] = otherwise
    return {"@type": FILTERS + "rbac.v3.RBAC", "rules_stat_prefix": prefix, "matcher": matcher}


def _action(name: str, verdict: str) -> Json:
    config = {"@type": TYPE + "config.rbac.v3.Action", "name": name, "action": verdict}
    return {"action": {"name": name, "typed_config": config}}


# Where it goes


def routes(state: GatewayState, fixed: EnvoyFixed) -> Json:
    """The model's header is set by the gateway's script, after which the route is chosen again."""
    by_name = {provider.name: provider for provider in state.providers}
    found = [_model_route(model, by_name[name]) for model, name in sorted(state.routes)]
    found += [_unknown_model(), _models_list(), _control_route()]
    if fixed.storage:
        found += _storage_routes(fixed.bucket)
    return {
        "@type": TYPE + "config.route.v3.RouteConfiguration",
        "name": listener.ROUTES_NAME,
        "request_headers_to_remove": _OF_THE_GATEWAY,
        "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": found}],
    }


def _methods(*names: str) -> Json:
    return {"name": ":method", "string_match": {"safe_regex": {"regex": "|".join(names)}}}


def _settings(kind: str, *, read_body: bool) -> Json:
    script = {"@type": FILTERS + "lua.v3.LuaPerRoute", "filter_context": {"kind": kind}}
    off = {"@type": TYPE + "config.route.v3.FilterConfig", "disabled": True}
    settings = {"envoy.filters.http.lua": script}
    return settings if read_body else {**settings, "envoy.filters.http.json_to_metadata": off}


def _model_route(model: str, provider: Provider) -> Json:
    path = urlsplit(provider.base_url).path.rstrip("/")
    action: Json = {
        "cluster": _cluster_name(provider),
        "timeout": "0s",
        "idle_timeout": "120s",
        "max_stream_duration": {"max_stream_duration": "900s"},
        "host_rewrite_literal": urlsplit(provider.base_url).netloc,
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,retriable-status-codes",
            "retriable_status_codes": [429, 500, 502, 503],
            "num_retries": 2,
            "per_try_idle_timeout": "60s",
        },
    }
    if path != "/v1":
        action["regex_rewrite"] = {"pattern": {"regex": "^/v1/"}, "substitution": path.replace("\\", "\\\\") + "/"}
    chosen = {"name": "x-ops-model", "string_match": {"exact": model}}
    return {
        "name": f"llm/{provider.name}",
        "match": {"safe_regex": {"regex": _MODEL_CALLS}, "headers": [_methods("POST"), chosen]},
        "route": action,
        "request_headers_to_remove": _OF_THE_CLIENT,
        "typed_per_filter_config": _settings("llm", read_body=True),
    }


def _unknown_model() -> Json:
    """The first pass, before the body is read, ends here. A call that still ends here has no provider."""
    error = {"error": {"message": "no provider serves this model", "type": "invalid_request_error"}}
    return {
        "name": "llm",
        "match": {"safe_regex": {"regex": _MODEL_CALLS}, "headers": [_methods("POST")]},
        "direct_response": {"status": 404, "body": {"inline_string": json.dumps(error)}},
        "typed_per_filter_config": _settings("llm", read_body=True),
    }


def _models_list() -> Json:
    match = {"path": "/v1/models", "headers": [_methods("GET")]}
    return _to_control("models", match, {"prefix_rewrite": "/opsroom/v1/models"})


def _control_route() -> Json:
    return _to_control(CONTROL, {"prefix": "/opsroom/v1/"}, {})


def _to_control(name: str, match: Json, rewrite: Json) -> Json:
    consumer = {"key": layout.CONSUMER_HEADER, "value": _VERIFIED_CONSUMER}
    return {
        "name": name,
        "match": match,
        "route": {"cluster": CONTROL, "timeout": "0s", "idle_timeout": "300s", **rewrite},
        "request_headers_to_add": [{"header": consumer, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}],
        "request_headers_to_remove": _OF_THE_CLIENT,
        "typed_per_filter_config": _settings("ctl", read_body=False),
    }


def _storage_routes(bucket: str) -> list[Json]:
    """Objects of one bucket. Host and Authorization stay as the agent signed them. Writing to the bucket itself (its
    policy, its life cycle) and `POST /` (users and keys) are not offered."""
    name = re.escape(bucket)
    reading = {"safe_regex": {"regex": f"/{name}(/.*)?"}, "headers": [_methods("GET", "HEAD")]}
    writing = {"safe_regex": {"regex": f"/{name}/[^/].*"}, "headers": [_methods("PUT", "POST", "DELETE")]}
    return [
        {
            "name": STORAGE,
            "match": match,
            "route": {"cluster": STORAGE, "timeout": "0s", "idle_timeout": "120s"},
            "typed_per_filter_config": _settings("s3", read_body=False),
        }
        for match in (reading, writing)
    ]


def clusters(state: GatewayState, fixed: EnvoyFixed) -> list[Json]:
    found = [_cluster(CONTROL, _pipe(str(fixed.control_socket)))]
    if fixed.storage:
        found.append(_remote(STORAGE, urlsplit(fixed.storage), fixed))
    return found + [_provider_cluster(provider, fixed) for provider in sorted(state.providers, key=lambda p: p.name)]


def _cluster_name(provider: Provider) -> str:
    return f"provider-{provider.name}"


def _provider_cluster(provider: Provider, fixed: EnvoyFixed) -> Json:
    name = _cluster_name(provider)
    if provider.socket:
        cluster = _cluster(name, _pipe(provider.socket))
    else:
        cluster = _remote(name, urlsplit(provider.base_url), fixed)
    if provider.key:
        options = cluster["typed_extension_protocol_options"]["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
        options["http_filters"] = _put_key_in(provider)
    return cluster


def _pipe(path: str) -> Json:
    return {"pipe": {"path": path}}


def _remote(name: str, url: SplitResult, fixed: EnvoyFixed) -> Json:
    host = url.hostname or ""
    port = url.port or (443 if url.scheme == "https" else 80)
    cluster = _cluster(name, {"socket_address": {"address": host, "port_value": port}})
    if not _is_address(host):
        # Logical: an answer of DNS that changed never drains running streams.
        cluster |= {"type": "LOGICAL_DNS", "dns_lookup_family": "V4_PREFERRED", **_PATIENCE_WITH_DNS}
    if url.scheme == "https":
        cluster["transport_socket"] = _tls(host, fixed.ca_file)
    return cluster


def _cluster(name: str, address: Json) -> Json:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    limits = {"max_requests": 2000, "max_pending_requests": 1000, "max_connections": 2000, "max_retries": 50}
    return {
        "@type": TYPE + "config.cluster.v3.Cluster",
        "name": name,
        "type": "STATIC",
        "connect_timeout": "3s",
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                # Shorter than servers keep theirs: a connection they close under us would fail a call.
                "common_http_protocol_options": {"idle_timeout": "10s"},
            }
        },
    }


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# A name server that is silent must not hold up the start, or a change, for minutes.
_PATIENCE_WITH_DNS: Json = {
    "wait_for_warm_on_init": False,
    "typed_dns_resolver_config": {
        "name": "envoy.network.dns_resolver.cares",
        "typed_config": {
            "@type": TYPE + "extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
            "query_timeout_seconds": 2,
            "query_tries": 2,
        },
    },
}


def _tls(host: str, ca_file: str) -> Json:
    """Without the validation context Envoy would take any certificate."""
    kind = "IP_ADDRESS" if _is_address(host) else "DNS"
    names = [{"san_type": kind, "matcher": {"exact": host}}]
    validation = {"trusted_ca": {"filename": ca_file}, "match_typed_subject_alt_names": names}
    config: Json = {
        "@type": TYPE + "extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"validation_context": validation},
    }
    if kind == "DNS":
        config["sni"] = host
    return {"name": "envoy.transport_sockets.tls", "typed_config": config}


# Provider keys


def _put_key_in(provider: Provider) -> list[Json]:
    generic: Json = {
        "@type": TYPE + "extensions.http.injected_credentials.generic.v3.Generic",
        "header": provider.header.lower(),
        "header_value_prefix": provider.prefix,
        "credential": {
            "name": provider.name,
            "sds_config": listener.watched(layout.key_file(provider.name)),
        },
    }
    injector = {
        "@type": FILTERS + "credential_injector.v3.CredentialInjector",
        "overwrite": True,
        "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": generic},
    }
    codec = {"@type": FILTERS + "upstream_codec.v3.UpstreamCodec"}
    return [
        {"name": "envoy.filters.http.credential_injector", "typed_config": injector},
        {"name": "envoy.filters.http.upstream_codec", "typed_config": codec},
    ]


def key(provider: Provider, secret_file: str) -> Json:
    """The key's file, never the key: Envoy prints a file that it refuses."""
    return {
        "@type": TYPE + "extensions.transport_sockets.tls.v3.Secret",
        "name": provider.name,
        "generic_secret": {"secret": {"filename": secret_file}},
    }


# Names


def check(state: GatewayState) -> None:
    """Raise Invalid with every name that could not mean what it says inside Envoy."""
    problems = [*_bad_providers(state.providers), *_bad_routes(state), *_bad_consumers(state)]
    if problems:
        raise Invalid("the gateway cannot run this state", problems=problems)


def _bad_providers(providers: Iterable[Provider]) -> Iterable[Problem]:
    seen: set[str] = set()
    for provider in providers:
        where = f"provider {provider.name!r}"
        if not layout.is_plain(provider.name):
            yield Problem(what="Its name is not plain.", where=where, fix="Use letters, digits, '-' and '_' only.")
        if provider.name in seen:
            yield Problem(what="There are two of this name.", where=where, fix="Rename one.")
        seen.add(provider.name)
        if not _is_url(provider.base_url):
            fix = "Write it like https://api.example.com/v1, without user, query or fragment."
            yield Problem(what="Its base_url is not an address of a model API.", where=where, fix=fix)
        if not provider.key.isprintable():
            yield Problem(what="Its key contains control characters.", where=where, fix="Copy it again.")


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        _ = url.port
    except ValueError:
        return False
    return (
        url.scheme in {"http", "https"} and bool(url.hostname) and not (url.query or url.fragment or "@" in url.netloc)
    )


def _bad_routes(state: GatewayState) -> Iterable[Problem]:
    known = {provider.name for provider in state.providers}
    seen: set[str] = set()
    for model, provider in state.routes:
        if not _is_clean(model):
            yield _unclean("model", model)
        if model in seen:
            yield Problem(what="It has two providers.", where=f"model {model!r}", fix="Keep one route.")
        seen.add(model)
        if provider not in known:
            fix = f"Configured: {', '.join(sorted(known)) or 'none'}."
            yield Problem(what=f"Its provider {provider!r} is not configured.", where=f"model {model!r}", fix=fix)


def _bad_consumers(state: GatewayState) -> Iterable[Problem]:
    for consumer in state.consumers:
        names = [("consumer", consumer.name), *(("model", model) for model in consumer.models)]
        yield from (_unclean(kind, name) for kind, name in names if not _is_clean(name))
    yield from (_unclean("token id", jti) for jti in state.revoked if not _is_clean(jti))


def _is_clean(name: str) -> bool:
    return 0 < len(name.encode()) <= _LONGEST_NAME and not _UNSAFE.search(name)


def _unclean(kind: str, name: Any) -> Problem:
    fix = f"Use at most {_LONGEST_NAME} characters, no '|' and no control characters."
    return Problem(what=f"A {kind}'s name cannot be used at the gateway.", where=f"{kind} {name!r:.80}", fix=fix)
