"""URLs of a bucket, its objects and its listings (pure).

Addresses are virtual-hosted at AWS (`https://<bucket>.s3.<region>.<domain>/<key>`) and path style at an endpoint
(`<endpoint>/<bucket>/<key>`); Amazon S3 User Guide, "Virtual hosting of general purpose buckets".
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from vbnfs.objects import ObjectVersion
from vbnfs.partitions import DOMAINS, Partition, partition_of

# Hosts: AWS General Reference, "Amazon Simple Storage Service endpoints"; those with IPv6: Amazon S3 User Guide,
# "Using dual-stack endpoints".
_AWS_ENDPOINT: Final = re.compile(
    r"https://s3(?:-fips)?(?:\.dualstack)?(?:\.(?P<region>[a-z]{2,4}(?:-[a-z]+)+-[0-9]))?"
    rf"\.(?P<domain>{'|'.join(map(re.escape, DOMAINS))})(?::443)?/?",
    re.IGNORECASE,
)


def aws_base(bucket: str, region: str) -> str:
    """The address of a bucket at AWS: virtual-hosted, if AWS's certificate (*.s3...) covers the bucket's name."""
    host = f"s3.{region}.{partition_of(region).domain}"
    return f"https://{host}/{bucket}" if "." in bucket else f"https://{bucket}.{host}"


def partition_at(endpoint_url: str) -> Partition | None:
    """The partition whose Amazon S3 an endpoint is, asked for by https: its certificate shows that.

    None for any other server, and for a host that names no region, or one of another partition, in its domain.
    """
    match = _AWS_ENDPOINT.fullmatch(endpoint_url)
    if match is None:
        return None
    partition = partition_of(match["region"] or "")
    return partition if partition.domain == match["domain"].lower() else None


def bucket_base(bucket: str, region: str, endpoint_url: str | None) -> str:
    """The address of a bucket: at an endpoint, or at AWS where there is none."""
    return f"{endpoint_url}/{bucket}" if endpoint_url else aws_base(bucket, region)


def object_url(base: str, version: ObjectVersion) -> str:
    """The address of an object version in the bucket at `base`."""
    url = f"{base}/{_quoted_key(version.key)}"
    return url if version.version_id is None else f"{url}?versionId={_quoted(version.version_id)}"


def listing_url(base: str, query: Mapping[str, str]) -> str:
    """The address of a page of a listing."""
    return f"{base}?" + "&".join(f"{name}={_quoted(value)}" for name, value in query.items())


def _quoted(text: str, safe: str = "") -> str:
    return quote(text, safe=safe, errors="surrogatepass")  # JSON can hold surrogates; S3 has no such key


def _quoted_key(key: str) -> str:
    """A key as a path. An HTTP client takes parts that are dots for steps in a tree, and would leave the bucket."""
    parts = _quoted(key, safe="/~").split("/")
    return "/".join(part.replace(".", "%2E") if part in {".", ".."} else part for part in parts)
