"""What Envoy reads once: its bootstrap and the listeners with the order of their filters.

A changed listener cuts the streams that run through it, so nothing here depends on consumers, models or providers.
"""

from typing import Any

from appservice.gateway import layout
from appservice.gateway.layout import EnvoyFixed

Json = dict[str, Any]

TYPE = "type.googleapis.com/envoy."
FILTERS = TYPE + "extensions.filters.http."
LARGEST_BODY = 16 << 20  # of a model call; object storage streams
ROUTES_NAME = "gateway-routes"
HEADERS_OF_OURS = ("x-ops-", "x-envoy-")  # a client's are dropped before anything looks at them

_WORLD_WRITABLE = 0o666  # agents run as other users; who they are is in their token
_OWNER_ONLY = 0o600

_LOGGED = {
    "type": "%ACCESS_LOG_TYPE%",
    "ts": "%START_TIME(%s.%6f)%",
    "id": "%UNIQUE_ID%",
    "consumer": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:consumer:sub)%",
    "jti": "%DYNAMIC_METADATA(envoy.filters.http.jwt_authn:consumer:jti)%",
    "route": "%ROUTE_NAME%",
    "model": "%DYNAMIC_METADATA(ops.req:model)%",
    "usage": "%DYNAMIC_METADATA(ops.usage)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "ms": "%DURATION%",
}


def watched(path: str) -> Json:
    """A source of configuration that Envoy reads again when the file is renamed over."""
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def bootstrap(fixed: EnvoyFixed) -> Json:
    limit = TYPE + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"
    monitor = {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {"@type": limit, "max_active_downstream_connections": 20000},
    }
    return {
        "node": {"id": "gateway", "cluster": "gateway"},
        "admin": {"address": {"pipe": {"path": str(fixed.admin_socket), "mode": _OWNER_ONLY}}},
        "dynamic_resources": {"lds_config": watched(layout.LISTENERS), "cds_config": watched(layout.CLUSTERS)},
        "overload_manager": {"resource_monitors": [monitor]},
    }


def listeners(fixed: EnvoyFixed) -> list[Json]:
    """The agents' socket and, when asked for, the same on a port of this machine."""
    pipe = {"pipe": {"path": str(fixed.socket), "mode": _WORLD_WRITABLE}}
    found = [_listener("gateway", pipe)]
    if fixed.debug_port:
        port = {"socket_address": {"address": "127.0.0.1", "port_value": fixed.debug_port}}
        found.append(_listener("gateway-debug", port))
    return found


def _listener(name: str, address: Json) -> Json:
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": _connection_manager()}
    return {
        "@type": TYPE + "config.listener.v3.Listener",
        "name": name,
        "address": address,
        "per_connection_buffer_limit_bytes": LARGEST_BODY,
        "filter_chains": [{"filters": [manager]}],
    }


def _connection_manager() -> Json:
    return {
        "@type": TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "gateway",
        "delayed_close_timeout": "0.2s",
        "codec_type": "AUTO",
        "server_header_transformation": "PASS_THROUGH",
        # Agents sign the path of an object: it must arrive as it was sent. The script refuses what climbs.
        "normalize_path": False,
        "merge_slashes": False,
        "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
        "stream_idle_timeout": "300s",
        "request_headers_timeout": "10s",
        "common_http_protocol_options": {
            "idle_timeout": "600s",
            "headers_with_underscores_action": "REJECT_REQUEST",
        },
        "rds": {"route_config_name": ROUTES_NAME, "config_source": watched(layout.ROUTES)},
        "early_header_mutation_extensions": [_drop_forged_headers()],
        "http_filters": _filters(),
        "local_reply_config": {"mappers": _refusals()},
        "access_log": [_access_log()],
    }


def _drop_forged_headers() -> Json:
    prefixes = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in HEADERS_OF_OURS]
    exact = [{"remove": name} for name in (layout.CONSUMER_HEADER, "x-forwarded-for")]
    mutation = TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {"@type": mutation, "mutations": [*prefixes, *exact]},
    }


def _filters() -> list[Json]:
    """In this order: who is it, is the token revoked, what is asked, the key of that, is the key granted."""
    return [
        _discovered("ops-jwt", layout.JWT, FILTERS + "jwt_authn.v3.JwtAuthentication"),
        _discovered("ops-deny", layout.DENY, FILTERS + "rbac.v3.RBAC"),
        {"name": "envoy.filters.http.json_to_metadata", "typed_config": _read_body()},
        {
            "name": "envoy.filters.http.lua",
            "typed_config": {"@type": FILTERS + "lua.v3.Lua", "default_source_code": {"filename": layout.SCRIPT}},
        },
        _discovered("ops-grants", layout.GRANTS, FILTERS + "rbac.v3.RBAC"),
        {"name": "envoy.filters.http.router", "typed_config": {"@type": FILTERS + "router.v3.Router"}},
    ]


def _discovered(name: str, path: str, kind: str) -> Json:
    return {"name": name, "config_discovery": {"config_source": watched(path), "type_urls": [kind]}}


def _read_body() -> Json:
    def rule(*keys: str, **kind: str) -> Json:
        target = {"metadata_namespace": "ops.req", "key": keys[-1], **kind}
        return {"selectors": [{"key": key} for key in keys], "on_present": target}

    rules = [rule("model", type="STRING"), rule("stream"), rule("stream_options", "include_usage")]
    json_only = {"regex": r"(?i)application/json(\s*;.*)?"}
    return {
        "@type": FILTERS + "json_to_metadata.v3.JsonToMetadata",
        "request_rules": {"allow_content_types_regex": json_only, "rules": rules},
    }


def _refusals() -> list[Json]:
    """RBAC always answers 403. Each refusal gets its own status and a body that OpenAI's clients can read."""
    details = "response.code_details"
    return [
        _refusal(
            f"{details} == 'rbac_access_denied_matched_policy[revoked]'",
            "this token was revoked",
            "authentication_error",
            status=401,
        ),
        _refusal(f"{details}.startsWith('rbac_access_denied')", "not allowed for this consumer", "permission_error"),
        _refusal(
            f"{details}.startsWith('jwt_authn_access_denied')",
            "%LOCAL_REPLY_BODY%",
            "authentication_error",
            status=401,
        ),
    ]


def _refusal(expression: str, message: str, kind: str, *, status: int | None = None) -> Json:
    cel = {"@type": TYPE + "extensions.access_loggers.filters.cel.v3.ExpressionFilter", "expression": expression}
    reply: Json = {
        "filter": {"extension_filter": {"name": "cel", "typed_config": cel}},
        "body_format_override": {"json_format": {"error": {"message": message, "type": kind}}},
    }
    return reply if status is None else {**reply, "status_code": status}


def _access_log() -> Json:
    return {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": TYPE + "extensions.access_loggers.file.v3.FileAccessLog",
            "path": layout.USAGE_LOG,
            "log_format": {"omit_empty_values": True, "json_format": _LOGGED},
        },
    }
