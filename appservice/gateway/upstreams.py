"""Clusters: the servers behind the gateway, how they are reached and checked, how a provider's key is put in. Pure."""

import ipaddress
from urllib.parse import SplitResult, urlsplit

from appservice.gateway import layout, listener
from appservice.gateway.layout import EnvoyFixed
from appservice.gateway.listener import FILTERS, TYPE, Json
from appservice.gateway.protocol import GatewayState, Provider

CONTROL = "control"
STORAGE = "storage"


def clusters(state: GatewayState, fixed: EnvoyFixed) -> list[Json]:
    found = [_cluster(CONTROL, _pipe(str(fixed.control_socket)))]
    if fixed.storage:
        found.append(_remote(STORAGE, urlsplit(fixed.storage), fixed))
    return found + [_provider_cluster(provider, fixed) for provider in sorted(state.providers, key=lambda p: p.name)]


def cluster_name(provider: Provider) -> str:
    return f"provider-{provider.name}"


def _provider_cluster(provider: Provider, fixed: EnvoyFixed) -> Json:
    name = cluster_name(provider)
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
