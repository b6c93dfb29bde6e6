"""The configuration of an nginx that keeps what passes from a dataset's bucket: a site cache (pure).

Directives: nginx documentation, "Module ngx_http_proxy_module" and "Module ngx_http_slice_module". As of 1.22, which
Debian 12 has, a name in `proxy_pass` that is a variable is looked up again, and its connections are not kept. So the
name stands in `upstream`, whose connections are kept, and a reload looks it up again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from vbnfs.blocks import BLOCK_BYTES
from vbnfs.errors import UsageError

PRIVATE_NETWORKS: Final = ("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
_KEYS_OF_A_MIB: Final = 8000  # of a zone: "One megabyte zone can store about 8 thousand keys"
_LEAST_ZONE_MIB: Final = 10
_CA_BUNDLE: Final = "/etc/ssl/certs/ca-certificates.crt"  # of Debian
_UNPRINTABLE: Final = frozenset("\"'\\;{}$\n\r\t #")


@dataclass(frozen=True, slots=True)
class Site:
    """A site cache: what it stands before, where it listens, for whom, and what it keeps where. Sizes in bytes."""

    bucket: str
    base: str  # the bucket's address
    listen: str
    networks: Sequence[str]
    directory: str
    size_bytes: int
    free_bytes: int
    slice_bytes: int
    ca_bundle: str | None = None


def check(site: Site) -> None:
    """Raises `UsageError` for what nginx could not take, or vbnfs's blocks do not go into."""
    if site.slice_bytes <= 0 or site.slice_bytes % BLOCK_BYTES:
        raise UsageError(f"--slice {site.slice_bytes}: a multiple of 256K is wanted, which are vbnfs's blocks")
    if site.size_bytes < 64 * site.slice_bytes:
        raise UsageError(f"--size {site.size_bytes}: it keeps at least 64 slices of {site.slice_bytes} bytes")
    words = {"--listen": site.listen, "--directory": site.directory, "--ca-bundle": site.ca_bundle or ""}
    for option, word in [*words.items(), *(("--allow", network) for network in site.networks)]:
        if found := _UNPRINTABLE.intersection(word):
            raise UsageError(f"{option} {word!r}: nginx's configuration cannot have {min(found)!r} there")


def nginx_configuration(site: Site) -> str:
    """The whole of nginx.conf, for an nginx that runs in the foreground. Raises as `check` does."""
    check(site)
    parts = urlsplit(site.base)
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    zone_mib = _LEAST_ZONE_MIB + site.size_bytes // site.slice_bytes // _KEYS_OF_A_MIB
    allowed = "\n".join(f"    allow {network};" for network in site.networks)
    return _CONFIGURATION.format(
        bucket=site.bucket,
        directory=site.directory,
        zone_mib=zone_mib,
        size_mib=site.size_bytes >> 20,
        free_mib=site.free_bytes >> 20,
        slice_kib=site.slice_bytes >> 10,
        server=f"{parts.hostname}:{port}",
        host=parts.netloc,
        scheme=parts.scheme,
        path=parts.path,
        listen=site.listen,
        allowed=allowed,
        tls=_TLS.format(name=parts.hostname, bundle=site.ca_bundle or _CA_BUNDLE) if is_tls else "",
    )


_TLS: Final = """
      proxy_ssl_server_name on;
      proxy_ssl_name {name};
      proxy_ssl_verify on;
      proxy_ssl_verify_depth 5;
      proxy_ssl_trusted_certificate {bundle};
"""

_CONFIGURATION: Final = """\
# A site cache of the bucket {bucket}, made by 'vbnfs site-cache nginx'.
daemon off;
worker_processes auto;
worker_rlimit_nofile 65536;
error_log stderr warn;
pid {directory}/nginx.pid;

events {{
  worker_connections 8192;
}}

http {{
  access_log off;
  server_tokens off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 120s;
  keepalive_requests 100000;
  client_body_temp_path {directory}/body;
  fastcgi_temp_path {directory}/other;
  scgi_temp_path {directory}/other;
  uwsgi_temp_path {directory}/other;
  proxy_temp_path {directory}/temporary;
  proxy_cache_path {directory}/slices levels=2:2 keys_zone=slices:{zone_mib}m
    max_size={size_mib}m min_free={free_mib}m inactive=3650d use_temp_path=off;

  upstream bucket {{
    server {server};
    keepalive 64;
    keepalive_requests 10000;
  }}

  server {{
    listen {listen};
{allowed}
    deny all;

    location = /.metrics {{
      stub_status;
    }}
    location / {{
      return 403 "Only objects of {bucket} are here, each with a versionId.\\n";
    }}
    location = /{bucket} {{
      return 403;
    }}
    location /{bucket}/ {{
      limit_except GET {{
        deny all;
      }}
      if ($args !~ "^versionId=[^&]+$") {{
        return 403 "A versionId is wanted, and nothing else: what has none may change.\\n";
      }}
      slice {slice_kib}k;
      proxy_cache slices;
      proxy_cache_key $uri?$args$slice_range;
      proxy_cache_valid 200 206 3650d;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 60s;
      proxy_cache_lock_age 60s;
      proxy_ignore_headers Cache-Control Expires Set-Cookie Vary X-Accel-Expires;
      proxy_hide_header Set-Cookie;
      add_header X-Cache-Status $upstream_cache_status always;

      proxy_pass {scheme}://bucket{path}/;
      proxy_pass_request_headers off;
      proxy_set_header Host {host};
      proxy_set_header Range $slice_range;
      proxy_set_header Connection "";
      proxy_http_version 1.1;
      proxy_connect_timeout 5s;
      proxy_read_timeout 20s;
      proxy_next_upstream error timeout;
      proxy_next_upstream_tries 3;
{tls}    }}
  }}
}}
"""


def units(configuration: str, nginx: str) -> Mapping[str, str]:
    """Units of systemd by name: the proxy, and what has it look up S3's addresses again, every ten minutes."""
    return {
        "vbnfs-site-cache.service": _SERVICE.format(configuration=configuration, nginx=nginx),
        "vbnfs-site-cache-reload.service": _RELOAD,
        "vbnfs-site-cache-reload.timer": _TIMER,
    }


_SERVICE: Final = """\
[Unit]
Description=vbnfs: a site cache (nginx)
Wants=network-online.target vbnfs-site-cache-reload.timer
After=network-online.target nss-lookup.target

[Service]
ExecStartPre={nginx} -t -c {configuration}
ExecStart={nginx} -c {configuration}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=5
KillSignal=SIGQUIT
TimeoutStopSec=30
DynamicUser=yes
CacheDirectory=vbnfs-site-cache
CacheDirectoryMode=0700
LimitNOFILE=65536
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""
_RELOAD: Final = """\
[Unit]
Description=vbnfs: the site cache looks up S3's addresses again

[Service]
Type=oneshot
ExecStart=/bin/systemctl try-reload-or-restart vbnfs-site-cache.service
"""
_TIMER: Final = """\
[Unit]
Description=vbnfs: the site cache looks up S3's addresses every ten minutes
PartOf=vbnfs-site-cache.service

[Timer]
OnActiveSec=10min
OnUnitActiveSec=10min
"""


def compose_file(configuration: str) -> str:
    """A compose file of nginx's own image, which reads the configuration from beside it."""
    return _COMPOSE.format(configuration=configuration)


_COMPOSE: Final = """\
# A site cache: 'docker compose up --detach', or podman-compose. {configuration} lies beside this file.
services:
  site-cache:
    image: docker.io/library/nginx:stable
    restart: unless-stopped
    network_mode: host
    command:
      - /bin/sh
      - -c
      - |
        while sleep 600; do kill -HUP 1; done &
        exec nginx -c /etc/vbnfs-site-cache.conf
    volumes:
      - ./{configuration}:/etc/vbnfs-site-cache.conf:ro
      - slices:/var/cache/vbnfs-site-cache
    ulimits:
      nofile: 65536
volumes:
  slices:
"""
