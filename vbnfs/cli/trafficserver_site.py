"""The configuration of an Apache Traffic Server that keeps what passes from a dataset's bucket: a site cache (pure).

Traffic Server 9.2 manual: "records.config", "remap.config", "Slice Plugin", "Cache Range Requests Plugin", "Header
Rewrite Plugin", "Reducing Origin Server Requests". A request is cut into slices by one plugin, which asks the server
itself for each; another one keeps each under its URL and range. Of requests for one slice the first one asks S3; the
others read the cache again until its bytes are there (`open_write_fail_action` 5), and then read with it.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from vbnfs.cli.site import CA_BUNDLE, CONFINED, QUERY, Site, check, check_words, folder_of_a_unit, unseen_by_units
from vbnfs.errors import UsageError

_PROGRAM: Final = "/usr/bin/traffic_server"  # of Debian
_LEAST_BYTES: Final = 256 << 20
_MOST_SLICE_BYTES: Final = 128 << 20
_RETRY_MS: Final = 20
_WAIT_SECONDS: Final = 60
_PLUGINS: Final = "/usr/lib/trafficserver/modules"  # Debian's


def trafficserver_files(site: Site, place: str) -> Mapping[str, str]:
    """Its files by name, which are to be in the folder `place`; no unit where it could not see the site's folder.

    Raises as `check` does.
    """
    check(site, "Traffic Server")
    check_words([("FOLDER", place)], "Traffic Server")
    if site.slice_bytes > _MOST_SLICE_BYTES:
        raise UsageError(f"--slice {site.slice_bytes}: Traffic Server's slices have 128M at the most")
    base = urlsplit(site.base)
    files = {
        "runroot.yaml": _RUNROOT.format(place=place, directory=site.directory, plugins=_PLUGINS),
        "records.config": _records(site),
        "storage.config": f"{site.directory} {max(site.size_bytes, _LEAST_BYTES)}\n",
        "remap.config": _remap(site),
        "object-versions.config": _VERSIONS,
        "ip_allow.yaml": _ALLOW.format(networks="\n".join(f"      - {network}" for network in site.networks)),
        "plugin.config": "stats_over_http.so .metrics\n",
        "cache.config": f"dest_host={base.hostname} ttl-in-cache=3650d\n",
        "logging.yaml": "logging: {}\n",
    }
    if unseen_by_units(site.directory) is None:
        service = folder_of_a_unit(site.directory) + _SERVICE.format(program=_PROGRAM, place=place)
        files["vbnfs-site-cache.service"] = service
    return files


def _remap(site: Site) -> str:
    return (
        f"# A site cache of the bucket {site.bucket}, made by 'vbnfs site-cache trafficserver'.\n"
        f"map /{site.bucket}/ {site.base}/"
        " @action=allow @method=GET @method=HEAD"
        " @plugin=header_rewrite.so @pparam=object-versions.config"
        f" @plugin=slice.so @pparam=--blockbytes={site.slice_bytes} @pparam=--ref-relative"
        " @plugin=cache_range_requests.so\n"
    )


def _records(site: Site) -> str:
    address, _, port = site.listen.rpartition(":")
    folder, _, bundle = (site.ca_bundle or CA_BUNDLE).rpartition("/")
    values: dict[str, int | float | str] = {
        "http.server_ports": f"{port}:ip-in={address}" if address else port,
        "ssl.client.CA.cert.path": folder or "/",
        "ssl.client.CA.cert.filename": bundle,
        "cache.min_average_object_size": site.slice_bytes // 2,
        **_RECORDS,
    }
    lines = [f"CONFIG proxy.config.{name} {_KINDS[type(value)]} {value}\n" for name, value in values.items()]
    return "# Made by 'vbnfs site-cache trafficserver'.\n" + "".join(lines)


_KINDS: Final = {int: "INT", float: "FLOAT", str: "STRING"}
_RECORDS: Final[Mapping[str, int | float | str]] = {
    "reverse_proxy.enabled": 1,
    "url_remap.remap_required": 1,
    "url_remap.pristine_host_hdr": 0,
    "admin.user_id": "#-1",
    "crash_log_helper": "NULL",
    "ssl.client.verify.server.policy": "ENFORCED",
    "ssl.client.verify.server.properties": "ALL",
    "hostdb.host_file.path": "/etc/hosts",
    "hostdb.host_file.interval": 60,
    # An object version does not change, whatever is said of it.
    "http.cache.http": 1,
    "http.cache.required_headers": 0,
    "http.cache.ignore_client_no_cache": 1,
    "http.cache.ignore_client_cc_max_age": 1,
    "http.cache.ignore_server_no_cache": 1,
    "http.cache.ignore_authentication": 1,
    "http.negative_caching_enabled": 0,
    "http.wait_for_cache": 1,
    # One request asks S3, the others read with it.
    "cache.enable_read_while_writer": 1,
    "cache.read_while_writer.max_retries": _WAIT_SECONDS * 1000 // _RETRY_MS,
    "cache.read_while_writer_retry.delay": _RETRY_MS,
    "http.background_fill_active_timeout": 0,
    "http.background_fill_completed_threshold": 0.0,
    "http.cache.open_write_fail_action": 5,
    "http.cache.max_open_read_retries": _WAIT_SECONDS * 1000 // _RETRY_MS,
    "http.cache.open_read_retry_time": _RETRY_MS,
    "cache.max_doc_size": 0,
    "cache.enable_checksum": 1,
    "cache.dir.sync_frequency": 10,
    "cache.ram_cache.size": 64 << 20,
    "http.connect_attempts_timeout": 5,
    "http.connect_attempts_max_retries": 2,
    "http.connect_attempts_rr_retries": 1,
    "http.transaction_no_activity_timeout_out": 20,
    "http.keep_alive_no_activity_timeout_in": 120,
    "http.keep_alive_no_activity_timeout_out": 60,
    "http.insert_response_via_str": 0,
    "http.insert_request_via_str": 0,
    "http.insert_age_in_response": 0,
    "http.insert_client_ip": 0,
    "http.insert_squid_x_forwarded_for": 0,
    "http.response_server_enabled": 0,
    # To standard error, which is the journal.
    "log.logging_enabled": 0,
    **{f"diags.output.{level}": "E" for level in ("diag", "note", "warning", "error", "fatal", "alert", "emergency")},
}

_RUNROOT: Final = """\
prefix: {place}
exec_prefix: {place}
bindir: /usr/bin
sbindir: /usr/sbin
sysconfdir: {place}
datadir: {directory}
includedir: /usr/include
libdir: /usr/lib/trafficserver
libexecdir: {plugins}
localstatedir: {directory}
runtimedir: {directory}
logdir: {directory}
mandir: /usr/share/man
infodir: /usr/share/info
cachedir: {directory}
"""


_VERSIONS: Final = (
    f"cond %{{REMAP_PSEUDO_HOOK}}\ncond %{{CLIENT-URL:QUERY}} /{QUERY}/ [NOT]\n"
    + """\
set-status 403

cond %{REMAP_PSEUDO_HOOK}
rm-header Authorization
rm-header Cookie
rm-header Cache-Control
rm-header Pragma
rm-header If-Match
rm-header If-None-Match
rm-header If-Modified-Since
rm-header If-Unmodified-Since
rm-header If-Range
rm-header Accept-Encoding

cond %{SEND_REQUEST_HDR_HOOK}
rm-header X-Slicer-Info

cond %{SEND_RESPONSE_HDR_HOOK} [AND]
cond %{CACHE} /none/ [NOT]
set-header X-Cache-Status %{CACHE}
"""
)

_SERVICE: Final = (
    """\
[Unit]
Description=vbnfs: a site cache (Apache Traffic Server)
Wants=network-online.target
After=network-online.target nss-lookup.target

[Service]
ExecStart={program} --run-root={place}
Restart=on-failure
RestartSec=5
TimeoutStopSec=30
ProtectKernelLogs=yes
ProtectKernelModules=yes
"""
    + CONFINED
)

_ALLOW: Final = """\
ip_allow:
  - apply: in
    ip_addrs:
{networks}
    action: allow
    methods:
      - GET
      - HEAD
  - apply: in
    ip_addrs: [0/0, ::/0]
    action: deny
    methods: ALL
"""
