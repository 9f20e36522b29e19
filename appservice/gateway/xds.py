"""What Envoy must run, computed whole from the state: {relative path: content}. Pure.

Each file carries a hash of its content as its version, so that the running Envoy can be asked which content it has.
JSON only: it loads faster than YAML and a key that is given twice cannot slip in.
"""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from urllib.parse import urlsplit

from appservice.gateway import layout, listener, upstreams
from appservice.gateway.layout import EnvoyFixed
from appservice.gateway.listener import FILTERS, TYPE, Json
from appservice.gateway.names import check
from appservice.gateway.protocol import GatewayState, Provider
from appservice.gateway.upstreams import CONTROL, STORAGE, cluster_name

FORMAT = "opsroom-1"  # files of another format are not kept
AUDIENCE = "gateway"
ISSUER = "opsroom"

_MODEL_CALLS = "/v1/(chat/completions|completions|responses|embeddings|messages)"
# Between us and the agent; nobody behind the gateway may see them, and a compressed answer would hide its token counts.
_OF_THE_CLIENT = ["authorization", "x-api-key", "api-key", "cookie", "proxy-authorization", "accept-encoding"]
_OF_THE_GATEWAY = ["x-ops-sub", "x-ops-jti", "x-ops-grant", "x-ops-model", layout.TOKEN_HEADER]
_VERIFIED_CONSUMER = "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:consumer:sub)%"


def files(state: GatewayState, jwks: Json, secrets: Mapping[str, str], fixed: EnvoyFixed) -> dict[str, Json]:
    """Every file that may change while Envoy runs. `secrets`: provider -> path of the file that holds its key."""
    check(state)
    found = {
        layout.DENY: deny_file(state.revoked),
        layout.GRANTS: _file(_extension("ops-grants", grants(state))),
        layout.JWT: _file(_extension("ops-jwt", jwt(jwks))),
        layout.ROUTES: _file(routes(state, fixed)),
        layout.CLUSTERS: _file(*upstreams.clusters(state, fixed)),
    }
    for provider in state.providers:
        if provider.key:
            found[layout.key_file(provider.name)] = _file(upstreams.key(provider, secrets[provider.name]))
    return found


def deny_file(revoked: Iterable[str]) -> Json:
    """The deny list alone: it is written before anything else is computed."""
    return _file(_extension("ops-deny", deny(revoked)))


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
        "cluster": cluster_name(provider),
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
