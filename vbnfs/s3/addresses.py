"""URLs of a bucket, its objects and its listings (pure).

Addresses are virtual-hosted at AWS (`https://<bucket>.s3.<region>.amazonaws.com/<key>`) and path style at an endpoint
(`<endpoint>/<bucket>/<key>`); Amazon S3 User Guide, "Virtual hosting of general purpose buckets".
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote

from vbnfs.objects import ObjectVersion

_AWS_ENDPOINT: Final = re.compile(
    r"https://s3(-fips)?(\.dualstack)?(\.(?!us-gov-)[a-z]{2}(-[a-z]+)+-[0-9])?\.amazonaws\.com(:443)?/?",
    re.IGNORECASE,
)


def aws_base(bucket: str, region: str) -> str:
    """The address of a bucket at AWS: virtual-hosted, if AWS's certificate (*.s3...) covers the bucket's name."""
    if "." in bucket:
        return f"https://s3.{region}.amazonaws.com/{bucket}"
    return f"https://{bucket}.s3.{region}.amazonaws.com"


def is_at_aws(endpoint_url: str) -> bool:
    """Whether an endpoint is Amazon S3 itself, asked for by https: its certificate shows that.

    Hosts: AWS General Reference, "Amazon Simple Storage Service endpoints"; those with IPv6: Amazon S3 User Guide,
    "Using dual-stack endpoints". A bucket's name is one bucket's within a partition: GovCloud's and China's have
    buckets of their own ("Namespaces for general purpose buckets").
    """
    return _AWS_ENDPOINT.fullmatch(endpoint_url) is not None


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
