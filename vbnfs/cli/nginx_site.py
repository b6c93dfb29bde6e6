"""The configuration of an nginx that keeps what passes from a dataset's bucket: a site cache (pure).

Directives: nginx documentation, "Module ngx_http_proxy_module" and "Module ngx_http_slice_module". As of 1.22, which
Debian 12 has, a name in `proxy_pass` that is a variable is looked up again, and its connections are not kept. So the
name stands in `upstream`, whose connections are kept, and a reload looks it up again.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from vbnfs.cli.site import CA_BUNDLE, CONFINED, DIRECTORY, QUERY, Site, check, check_words, folder_of_a_unit
from vbnfs.daemon.site_log import FORMAT, TAG

_KEYS_OF_A_MIB: Final = 8000  # of a zone: "One megabyte zone can store about 8 thousand keys"
_LEAST_ZONE_MIB: Final = 10


def nginx_configuration(site: Site) -> str:
    """The whole of nginx.conf, for an nginx that runs in the foreground. Raises as `check` does."""
    check(site, "nginx")
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
        query=QUERY,
        listen=site.listen,
        allowed=allowed,
        log=_NO_LOG if site.metrics is None else _LOG.format(server=site.metrics, tag=TAG, format=FORMAT),
        metrics=_CONNECTIONS if site.metrics is None else _METRICS.format(server=site.metrics),
        tls=_TLS.format(name=parts.hostname, bundle=site.ca_bundle or CA_BUNDLE) if is_tls else "",
    )


_TLS: Final = """
      proxy_ssl_server_name on;
      proxy_ssl_name {name};
      proxy_ssl_verify on;
      proxy_ssl_verify_depth 5;
      proxy_ssl_trusted_certificate {bundle};
"""

_NO_LOG: Final = "  access_log off;"
# `if`: without it the log has a variable as it was when another slice of the same request was logged.
_LOG: Final = """\
  log_format slices '{format}';
  log_subrequest on;
  access_log syslog:server={server},nohostname,tag={tag} slices if=$upstream_cache_status$upstream_bytes_received;"""
_CONNECTIONS: Final = """\
      stub_status;"""
_METRICS: Final = """\
      access_log off;
      proxy_pass http://{server}/metrics;
      proxy_pass_request_headers off;
      proxy_set_header Host localhost;"""

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
{log}
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
{metrics}
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
      if ($args !~ "{query}") {{
        return 403 "A versionId is wanted, not 'null', and nothing else: other objects may change.\\n";
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


def units(configuration: str, nginx: str, directory: str, metrics: str) -> Mapping[str, str]:
    """Units of systemd by name: the proxy, and what has it look up S3's addresses again, every ten minutes.

    `metrics` is a command line that counts what it does. Raises as `folder_of_a_unit` does.
    """
    service = folder_of_a_unit(directory) + _SERVICE.format(configuration=configuration, nginx=nginx)
    return {
        "vbnfs-site-cache-metrics.service": _COUNTING.format(metrics=metrics),
        "vbnfs-site-cache.service": service,
        "vbnfs-site-cache-reload.service": _RELOAD,
        "vbnfs-site-cache-reload.timer": _TIMER,
    }


_SERVICE: Final = (
    """\
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
"""
    + CONFINED
)
_COUNTING: Final = """\
[Unit]
Description=vbnfs: metrics of a site cache
PartOf=vbnfs-site-cache.service

[Service]
ExecStart={metrics}
Restart=on-failure
RestartSec=5
DynamicUser=yes
User=vbnfs-site-cache
CacheDirectory=vbnfs-site-cache
CacheDirectoryMode=0700
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=yes
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictNamespaces=yes
RestrictRealtime=yes
LockPersonality=yes
SystemCallArchitectures=native
RestrictAddressFamilies=AF_INET AF_INET6
IPAddressDeny=any
IPAddressAllow=localhost

[Install]
WantedBy=vbnfs-site-cache.service
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


def compose_file(configuration: str, directory: str) -> str:
    """A compose file of nginx's own image, which reads the configuration from beside it.

    It keeps blocks in a volume, or in another folder of the machine. Raises `UsageError`.
    """
    check_words([("--directory", directory)], "a compose file")
    is_own = directory == DIRECTORY
    kept = f"{'slices' if is_own else directory}:{directory}"
    return _COMPOSE.format(configuration=configuration, kept=kept) + (_VOLUME if is_own else "")


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
      - {kept}
    ulimits:
      nofile: 65536
"""
_VOLUME: Final = """\
volumes:
  slices:
"""
